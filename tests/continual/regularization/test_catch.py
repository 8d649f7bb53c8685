"""The game that stands in for Atari, against what can be counted by hand."""

import torch

from neurarium.continual import Finetune
from neurarium.studies.continual._catch import ACTIONS, COLUMNS, ROWS, Catch, mean_return, play, q_network

STRAIGHT = torch.arange(ROWS * COLUMNS)


def game(games=400, order=STRAIGHT, seed=0):
    return Catch(games, order, torch.Generator().manual_seed(seed))


def finish(environment, choose):
    over, steps = False, 0
    while not over:
        reward, over = environment.step(choose(environment.pixels().view(-1, ROWS, COLUMNS)))
        steps += 1
    return reward, steps


def follow_the_ball(screen):
    ball = screen[:, :-1].sum(1).argmax(1)
    return (ball - screen[:, -1].argmax(1)).sign() + 1


def test_who_follows_the_ball_catches_it_every_time():
    reward, steps = finish(game(), follow_the_ball)
    assert steps == ROWS - 1
    assert (reward == 1).all()


def test_who_stays_in_the_middle_catches_one_ball_in_five():
    environment = game()
    reward, _ = finish(environment, lambda screen: torch.ones(len(screen), dtype=torch.long))
    assert torch.equal(reward == 1, environment.ball == COLUMNS // 2)
    assert abs(float(reward.mean()) - (2 / COLUMNS - 1)) < 0.15


def test_the_order_only_permutes_pixels():
    order = torch.randperm(ROWS * COLUMNS, generator=torch.Generator().manual_seed(3))
    assert torch.equal(game(order=order).pixels(), game().pixels()[:, order])


def test_q_learning_learns_one_game():
    torch.manual_seed(0)
    strategy = Finetune(q_network(64, tasks=1))
    before = mean_return(strategy, 0, STRAIGHT)
    play(strategy, 0, STRAIGHT, games=64, updates=900, lr=1e-3, seed=0)
    assert before < 0 < 0.5 < mean_return(strategy, 0, STRAIGHT)
    assert strategy.model(torch.zeros(2, ROWS * COLUMNS)).shape == (2, ACTIONS)
