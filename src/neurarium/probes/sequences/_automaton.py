"""The automaton that a sequence model has become: words whose hidden states lie together are one state."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neurarium.data import Automaton, all_words
from neurarium.probes._result import ProbeResult
from neurarium.probes.sequences._hidden_states import read_states
from neurarium.training import call, evaluation

Rule = Literal["leader", "linkage"]


@dataclass(frozen=True)
class AutomatonReport(ProbeResult):
    """An automaton read off hidden states.

    Args:
        automaton: a state per group of words.
        minimal: it reduced.
        groups: the group of every word [words].
        conflicts: pairs of group and symbol from which members go to different groups; the majority was followed.
        merged_pairs: pairs of words in one group.
        wrong_merges: of these, pairs with different outputs.
        words: how many were looked at.
        threshold: distance below which words are together.
    """

    automaton: Automaton
    minimal: Automaton
    groups: Int[Tensor, " words"]
    conflicts: int
    merged_pairs: int
    wrong_merges: int
    words: int
    threshold: float

    @property
    def states(self) -> int:
        """Groups of words."""
        return self.automaton.states

    @property
    def complete(self) -> bool:
        """Whether it can read words of any length: the longest words must have merged with shorter ones."""
        return self.automaton.complete

    def summary(self) -> str:
        """How many states, whether complete, and the minimal automaton."""
        kind = "complete" if self.complete else "incomplete, so that it says nothing of longer words"
        return (
            f"{self.states} states from {self.words} words, {kind}; {self.conflicts} conflicts, {self.wrong_merges} of "
            f"{self.merged_pairs} merged pairs wrong; minimal:\n{self.minimal.to_text()}"
        )

    def plot(self, ax: Any) -> Any:
        """The minimal automaton: states on a circle, a number inside is the output."""
        draw_automaton(self.minimal, ax)
        return ax

    @torch.no_grad()
    def agreement(self, model: nn.Module, words: Int[Tensor, "count length"]) -> float:
        """Share of words, longer ones too, on which the minimal automaton says what the model says.

        Raises:
            ValueError: the automaton is incomplete.
        """
        like = next(model.parameters())
        with evaluation(model):
            x = one_hot(words, self.automaton.symbols).to(like.device, like.dtype)
            said = _last(call(model, x)).argmax(-1).cpu()
        return float((self.minimal.run_all(words.cpu()) == said).double().mean())


def extract_automaton(
    model: nn.Module,
    symbols: int,
    longest: int,
    tolerance: float = 0.01,
    rule: Rule = "leader",
    layer: str | None = None,
) -> AutomatonReport:
    """Show a sequence model all words up to a length and read an automaton off its states (van Rossem and Saxe, 2025).

    Args:
        model: maps one-hot words [batch, length, symbols] to scores, [batch, classes] or [batch, length, classes], of
            which the last count. One with a method ``empty_state`` gives the state of the empty word too; else that
            word is a state of its own.
        symbols: size of the alphabet.
        longest: length of the longest words.
        tolerance: words are together where their states are nearer than this share of the norm of the states' standard
            deviations. Show what several give: the verdict can depend on it.
        rule: "leader", a word joins the first group whose first member is near; "linkage", near words share a group.
        layer: as for `read_states`: what counts as the state; by default what the last linear map reads.

    Raises:
        ValueError: a number out of range, or states that are not finite.
    """
    if longest < 1 or symbols < 1:
        raise ValueError(f"longest and symbols must be at least 1, not {longest} and {symbols}")
    words: list[tuple[int, ...]] = []
    states, said = [], []
    like = next(model.parameters(), torch.zeros(()))
    empty: Any = getattr(model, "empty_state", None)
    if callable(empty):
        words.append(())
        states.append(empty().detach()[None])
    for length in range(1, longest + 1):
        some = all_words(symbols, length)
        words += map(tuple, some.tolist())
        for part in one_hot(some, symbols).split(4096):
            state, answer = read_states(model, part.to(like.device, like.dtype), layer)
            states.append(_last(state))
            said.append(_last(answer).argmax(-1))
    outputs: list[int | None] = ([None] if callable(empty) else []) + torch.cat(said).tolist()
    return automaton_from_states(words, torch.cat(states), outputs, symbols, tolerance, rule)


def automaton_from_states(
    words: Sequence[tuple[int, ...]],
    states: Float[Tensor, "words features"],
    outputs: Sequence[int | None],
    symbols: int,
    tolerance: float = 0.01,
    rule: Rule = "leader",
) -> AutomatonReport:
    """The same from states that were found in any way.

    Args:
        words: closed under taking away the last symbol; the empty word may be missing.
        states: a vector for each.
        outputs: what the model says after each; None where it was not asked.
        symbols: size of the alphabet.
        tolerance: as for `extract_automaton`.
        rule: as for `extract_automaton`.

    Raises:
        ValueError: words that are not prefix-closed, a symbol outside the alphabet, states that are not finite,
            ``tolerance`` not above 0, or an unknown rule.
    """
    if tolerance <= 0:
        raise ValueError(f"tolerance must be above 0, not {tolerance}")
    if rule not in ("leader", "linkage"):
        raise ValueError(f"rule must be 'leader' or 'linkage', not {rule!r}")
    if not bool(torch.isfinite(states).all()):
        raise ValueError("states must be finite")
    index = {word: place for place, word in enumerate(words)}
    for word in words:
        if word and not 0 <= word[-1] < symbols:
            raise ValueError(f"symbol {word[-1]} in {spelled(word)!r} is outside the alphabet of {symbols}")
        if len(word) > 1 and word[:-1] not in index:
            raise ValueError(f"{spelled(word)!r} is given but not {spelled(word[:-1])!r}")
    vectors = states.double()
    threshold = tolerance * float(vectors.std(0, correction=0).norm())
    groups = (leader_groups if rule == "leader" else linked_groups)(vectors, threshold)
    names = groups.tolist()
    count = max(names) + 1
    if () not in index:  # the empty word is a state that no known vector stands for
        names, count = [*names, count], count + 1
        index = {**index, (): len(names) - 1}
        outputs = [*outputs, None]
    votes: dict[tuple[int, int], dict[int, int]] = {}
    for word, place in index.items():
        for symbol in range(symbols):
            child = index.get((*word, symbol))
            if child is not None:
                tally = votes.setdefault((names[place], symbol), {})
                tally[names[child]] = tally.get(names[child], 0) + 1
    rows = tuple(
        tuple(_most(votes.get((group, symbol), {})) for symbol in range(symbols)) for group in range(count)
    )  # fmt: skip
    heard: list[dict[int, int]] = [{} for _ in range(count)]
    for name, output in zip(names, outputs, strict=True):
        if output is not None:
            heard[name][output] = heard[name].get(output, 0) + 1
    automaton = Automaton(rows, tuple(map(_most, heard)), names[index[()]])
    sizes = [sum(tally.values()) for tally in heard]
    pairs = sum(n * (n - 1) // 2 for n in sizes)
    right = sum(n * (n - 1) // 2 for tally in heard for n in tally.values())
    conflicts = sum(len(tally) > 1 for tally in votes.values())
    return AutomatonReport(
        automaton, automaton.minimal(), groups, conflicts, pairs, pairs - right, len(words), threshold
    )  # fmt: skip


def leader_groups(vectors: Float[Tensor, "words features"], threshold: float) -> Int[Tensor, " words"]:
    """Each vector joins the first group whose first member is nearer than the threshold, else it founds one.

    A leader takes all that are near and still free at once: those are the ones that would have joined it in turn.
    """
    groups = torch.full((len(vectors),), -1, device=vectors.device)
    free = torch.arange(len(vectors), device=vectors.device)
    for group in itertools.count():
        if not len(free):
            break
        near = (vectors[free] - vectors[free[0]]).square().sum(1).sqrt() < threshold
        near[0] = True
        groups[free[near]] = group
        free = free[~near]
    return groups


def linked_groups(vectors: Float[Tensor, "words features"], threshold: float) -> Int[Tensor, " words"]:
    """Connected components of the vectors that are nearer to each other than the threshold (single linkage)."""
    from scipy.sparse.csgraph import connected_components

    near = (torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist") < threshold).cpu().numpy()
    return torch.from_numpy(connected_components(near, directed=False)[1]).long().to(vectors.device)


def draw_automaton(automaton: Automaton, ax: Any) -> None:
    """States on a circle, the start marked by a heavier rim, arrows labelled by their symbols."""
    angles = torch.arange(automaton.states) * (2 * torch.pi / automaton.states) + torch.pi / 2
    places = torch.stack([angles.cos(), angles.sin()], 1).tolist()
    edges: dict[tuple[int, int], list[str]] = {}
    for state, row in enumerate(automaton.transitions):
        for symbol, to in enumerate(row):
            if to is not None:
                edges.setdefault((state, to), []).append(str(symbol))
    for (state, to), labels in edges.items():
        (x0, y0), (x1, y1) = places[state], places[to]
        if state == to:
            spot = (1.32 * x0, 1.32 * y0)
            ax.annotate(f"↻ {','.join(labels)}", spot, ha="center", va="center")
            continue
        bend = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=0.18", "shrinkA": 16, "shrinkB": 16}
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=bend)
        middle = ((x0 + x1) / 2 + 0.14 * (y1 - y0), (y0 + y1) / 2 - 0.14 * (x1 - x0))
        ax.text(*middle, ",".join(labels), ha="center", va="center")
    for state, (x, y) in enumerate(places):
        output = automaton.outputs[state]
        width = 2.5 if state == automaton.start else 1.0
        ax.scatter([x], [y], s=700, facecolor="white", edgecolor="black", linewidth=width, zorder=3)
        ax.text(x, y, "?" if output is None else str(output), ha="center", va="center", zorder=4)
    ax.set_xlim(-1.6, 1.6)
    ax.set_ylim(-1.6, 1.6)
    ax.set_aspect("equal")
    ax.axis("off")


def spelled(word: tuple[int, ...]) -> str:
    """A word as text."""
    return "".join(map(str, word))


def _last(x: Tensor) -> Tensor:
    return x[:, -1] if x.dim() == 3 else x


def _most(tally: dict[int, int]) -> int | None:
    """The most frequent, the least of several."""
    return min(tally, key=lambda key: (-tally[key], key)) if tally else None
