"""Catch with permuted pixels, and a deep Q-network that plays it: the small stand-in for the paper's Atari games."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from neurarium.continual import Strategy
from neurarium.layers import TaskGains

ROWS, COLUMNS, ACTIONS = 10, 5, 3


class Catch:
    """Many games at once: a ball falls from a random column, a paddle on the bottom row moves left, right or stays.

    A game lasts ``ROWS - 1`` steps; the last one pays +1 for a ball caught and -1 for a ball missed.

    Args:
        games: how many are played side by side.
        order: a permutation of the ``ROWS * COLUMNS`` pixels.
        generator: of the balls' columns.
    """

    def __init__(self, games: int, order: Tensor, generator: torch.Generator) -> None:
        self.games, self.order, self.generator = games, order, generator
        self.restart()

    def restart(self) -> None:
        """A new ball for every game, the paddle in the middle."""
        self.row = 0
        self.ball = torch.randint(COLUMNS, (self.games,), generator=self.generator)
        self.paddle = torch.full((self.games,), COLUMNS // 2)

    def pixels(self) -> Tensor:
        """What the player sees: [games, ROWS * COLUMNS], in the order of this task."""
        screen = torch.zeros(self.games, ROWS, COLUMNS)
        each = torch.arange(self.games)
        screen[each, self.row, self.ball] = 1
        screen[each, ROWS - 1, self.paddle] = 1
        return screen.flatten(1)[:, self.order]

    def step(self, action: Tensor) -> tuple[Tensor, bool]:
        """Move the paddles and let the balls fall: reward [games], and whether the games are over."""
        self.paddle = (self.paddle + action - 1).clamp(0, COLUMNS - 1)
        self.row += 1
        if self.row < ROWS - 1:
            return torch.zeros(self.games), False
        return torch.where(self.ball == self.paddle, 1.0, -1.0), True


def q_network(hidden: int, tasks: int) -> nn.Sequential:
    """Two shared hidden layers, with a gain and a bias per task on every unit."""
    return nn.Sequential(
        nn.Linear(ROWS * COLUMNS, hidden), TaskGains(hidden, tasks), nn.ReLU(),
        nn.Linear(hidden, hidden), TaskGains(hidden, tasks), nn.ReLU(),
        nn.Linear(hidden, ACTIONS), TaskGains(ACTIONS, tasks),
    )  # fmt: skip


@dataclass
class Memory:
    """The last ``size`` transitions of one task."""

    size: int

    def __post_init__(self) -> None:
        inputs = ROWS * COLUMNS
        self.x, self.following = torch.zeros(self.size, inputs), torch.zeros(self.size, inputs)
        self.action = torch.zeros(self.size, dtype=torch.long)
        self.reward, self.over = torch.zeros(self.size), torch.zeros(self.size)
        self.seen = 0

    def add(self, x: Tensor, action: Tensor, reward: Tensor, following: Tensor, over: bool) -> None:
        places = torch.arange(self.seen, self.seen + len(x)) % self.size
        self.x[places], self.action[places], self.reward[places] = x, action, reward
        self.following[places], self.over[places] = following, float(over)
        self.seen += len(x)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(min(self.seen, self.size), (count,), generator=generator)


def play(strategy: Strategy, task: int, order: Tensor, *, games: int, updates: int, lr: float, seed: int) -> None:
    """Learn one task by double Q-learning (van Hasselt et al., 2016), an update per step of all games.

    Actions are random with a probability that falls from 1 to 0.05 over the first half of the updates. At the end the
    strategy sees 100 states of the replay memory, as in the paper.
    """
    model, draws = strategy.model, torch.Generator().manual_seed(1000 * seed + task)
    environment, memory = Catch(games, order, draws), Memory(8_192)
    strategy.begin_task(task)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    strategy.attach(optimizer)
    target = copy.deepcopy(model)
    for update in range(updates):
        if update % 100 == 0:
            target.load_state_dict(model.state_dict())
        explore = max(0.05, 1 - 2 * update / updates)
        x = environment.pixels()
        with torch.no_grad():
            action = model(x).argmax(1)
        at_random = torch.rand(games, generator=draws) < explore
        action = torch.where(at_random, torch.randint(ACTIONS, (games,), generator=draws), action)
        reward, over = environment.step(action)
        memory.add(x, action, reward, environment.pixels(), over)
        if over:
            environment.restart()
        i = memory.draw(64, draws)
        with torch.no_grad():
            best = model(memory.following[i]).argmax(1, keepdim=True)
            ahead = target(memory.following[i]).gather(1, best).squeeze(1)
            wanted = memory.reward[i] + 0.95 * (1 - memory.over[i]) * ahead
        optimizer.zero_grad()
        chosen = model(memory.x[i]).gather(1, memory.action[i, None]).squeeze(1)
        (smooth_l1_loss(chosen, wanted) + strategy.penalty()).backward()
        optimizer.step()
    states = memory.x[memory.draw(100, draws)]
    with torch.no_grad():
        strategy.end_task([(states, model(states))])


@torch.no_grad()
def mean_return(strategy: Strategy, task: int, order: Tensor, *, games: int = 500) -> float:
    """Mean return of greedy play in [-1, 1]; a random player gets about -0.6."""
    environment, over = Catch(games, order, torch.Generator().manual_seed(task)), False
    with strategy.as_task(task):
        while not over:
            reward, over = environment.step(strategy.model(environment.pixels()).argmax(1))
    return float(reward.mean())
