"""Tasks over words of a formal language, asked of a sequence model in one way (Delétang et al., 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from neurarium.data._errors import DataError
from neurarium.data.languages._curricula import Curriculum

Level = Literal["regular", "deterministic context-free", "context-sensitive"]
CHANCE_SAMPLES = 4096


class Asked(NamedTuple):
    """A batch of questions.

    Args:
        x: the words one-hot, then a blank (the last channel) for every symbol of the answer.
        y: the answers.
        mask: which of their symbols count: those after an end mark do not.
    """

    x: Float[Tensor, "batch steps channels"]
    y: Int[Tensor, "batch answer"]
    mask: Bool[Tensor, "batch answer"]


@dataclass(frozen=True)
class FormalTask:
    """Words of any length with one right answer each.

    A model reads the word, then blanks, and answers at the blanks, so that recurrent ones may think when they have read
    all. It maps [batch, steps, channels] to [batch, steps, answers]; what it says before the blanks is not looked at.

    Args:
        name: as in the paper.
        level: of the Chomsky hierarchy.
        symbols: the input alphabet, a character per symbol.
        answers: size of the output alphabet.
        draw: ``draw(count, length, generator)`` gives words; behind `words`.
        answer: ``answer(words)`` gives answers; behind `solve`.
        answer_length: symbols in the answer to a word of some length.
        shortest: the shortest word that there is.
        odd: words have odd lengths only; an even length stands for the next shorter one.
        end: symbol that ends an answer, what follows it is not counted; None where answers fill their length.
        level_answers: all answers are equally likely wherever they stand, so that chance is one of them.
    """

    name: str
    level: Level
    symbols: str
    answers: int
    draw: Callable[[int, int, torch.Generator], Tensor]
    answer: Callable[[Tensor], Tensor]
    answer_length: Callable[[int], int] = lambda length: 1
    shortest: int = 1
    odd: bool = False
    end: int | None = None
    level_answers: bool = True

    @property
    def channels(self) -> int:
        """Input channels: one per symbol and one for the blank."""
        return len(self.symbols) + 1

    def length(self, asked: int) -> int:
        """The length that words have when ``asked`` is asked for: one less where only odd ones exist.

        Raises:
            DataError: there is no word as short as that.
        """
        if asked < self.shortest:
            raise DataError(f"length of a word of {self.name} must be at least {self.shortest}, not {asked}")
        return asked - 1 if self.odd and asked % 2 == 0 else asked

    def words(self, count: int, length: int, generator: torch.Generator) -> Int[Tensor, "count length"]:
        """Random words as the numbers of their symbols.

        Args:
            count: how many.
            length: symbols in each (see `length`).
            generator: source of all draws, on the CPU.

        Raises:
            DataError: ``count`` is below 1 or the length too small.
        """
        if count < 1:
            raise DataError(f"count must be at least 1, not {count}")
        return self.draw(count, self.length(length), generator)

    def solve(
        self, words: Int[Tensor, "count length"]
    ) -> tuple[Int[Tensor, "count answer"], Bool[Tensor, "count answer"]]:
        """The right answers to words of the task's form, and which of their symbols count.

        Raises:
            DataError: a symbol is none of the alphabet's.
        """
        if words.dim() != 2 or words.shape[1] < 1:
            raise DataError(f"words must be [count, length] with length at least 1, not {tuple(words.shape)}")
        if int(words.min()) < 0 or int(words.max()) >= len(self.symbols):
            raise DataError(f"words of {self.name} hold symbols 0 to {len(self.symbols) - 1} ({self.symbols!r})")
        answers = self.answer(words)
        if self.end is None:
            return answers, torch.ones_like(answers, dtype=torch.bool)
        ended = (answers == self.end).cumsum(1) - (answers == self.end).long()
        return answers, ended == 0

    def ask(self, words: Int[Tensor, "count length"], *, pause: int = 0) -> Float[Tensor, "count steps channels"]:
        """Words as a model sees them.

        Args:
            words: as `words` gives them.
            pause: blanks before those of the answer, in lengths of the word: time to compute.
        """
        count, length = words.shape
        blanks = words.new_full((count, pause * length + self.answer_length(length)), len(self.symbols))
        return one_hot(torch.cat([words, blanks], 1), self.channels).float()

    def sample(self, count: int, length: int, generator: torch.Generator, *, pause: int = 0) -> Asked:
        """Random questions with their answers.

        Args:
            count: how many.
            length: symbols in each word (see `length`).
            generator: source of all draws, on the CPU.
            pause: as for `ask`.

        Raises:
            DataError: a number out of range.
        """
        words = self.words(count, length, generator)
        return Asked(self.ask(words, pause=pause), *self.solve(words))

    def chance(self, length: int) -> float:
        """Accuracy of the best answer that does not look at the word, place by place.

        Exact where answers are equally likely, else measured on 4,096 words of a fixed seed.
        """
        if self.level_answers:
            return 1 / self.answers
        y, mask = self.solve(self.words(CHANCE_SAMPLES, length, torch.Generator().manual_seed(0)))
        counts = (one_hot(y, self.answers) * mask[..., None]).sum(0)
        return float(counts.max(1).values.sum() / counts.sum())

    def encode(self, text: str) -> Int[Tensor, "1 length"]:
        """One word from its characters.

        Raises:
            DataError: a character is none of the alphabet's; names it and its place.
        """
        for place, character in enumerate(text):
            if character not in self.symbols:
                raise DataError(f"{character!r} at place {place} is no symbol of {self.name} ({self.symbols!r})")
        return torch.tensor([[self.symbols.index(character) for character in text]])

    def decode(self, word: Iterable[int]) -> str:
        """The characters of one word."""
        return "".join(self.symbols[int(symbol)] for symbol in word)


class FormalBatches:
    """A loader of fresh questions, all of one length within a batch; the length follows a curriculum.

    Gives ``(x, y)`` with `IGNORED` (-100) in ``y`` where an answer does not count, as `cross_entropy` knows it. Two
    loaders of equal seeds give equal batches; a further pass gives new ones.

    Args:
        task: what is asked.
        curriculum: gives the length at each step.
        batch_size: questions per batch.
        steps: batches per pass.
        seed: of all draws.
        device: where the batches are put.
        masked: leave out what is not counted; the paper trains on all of it and masks in testing alone.
    """

    def __init__(
        self,
        task: FormalTask,
        curriculum: Curriculum,
        batch_size: int,
        steps: int,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        masked: bool = False,
    ) -> None:
        if batch_size < 1 or steps < 1:
            raise DataError(f"batch_size and steps must be at least 1, not {batch_size} and {steps}")
        self.task = task
        self.curriculum = curriculum
        self.batch_size = batch_size
        self.steps = steps
        self.device = device
        self.masked = masked
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.steps):
            length = max(self.curriculum(self.step, self.generator), self.task.shortest)
            x, y, mask = self.task.sample(self.batch_size, length, self.generator)
            self.step += 1
            yield x.to(self.device), (y.masked_fill(~mask, -100) if self.masked else y).to(self.device)


def bits(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Uniform bits [count, length]."""
    return torch.randint(2, (count, length), generator=generator)


def lists(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of equal length as a tensor."""
    return torch.tensor(rows, dtype=torch.int64)
