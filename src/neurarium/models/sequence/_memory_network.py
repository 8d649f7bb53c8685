"""An end-to-end memory network: a question is asked of a story's sentences, several times over."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class MemoryNetwork(nn.Module):
    """Answers a question about a story by attending to its sentences, hop after hop (Sukhbaatar et al., 2015).

    A sentence is the sum of its words' vectors, weighted by their positions, plus a vector for how long ago it came. A
    hop adds to the question what the sentences that match it say. Weights are tied as in the paper's "adjacent" form:
    what a hop reads out with is what the next one matches with, the first embeds the question and the last the answers.

    Args:
        vocabulary: number of words; word 0 is none.
        width: features of a vector.
        hops: rounds of attention.
        sentences: longest story.
        generator: source of the initial weights, of deviation 0.1.

    Raises:
        ValueError: a size below 1; in the forward pass, a story that is too long.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 20,
        hops: int = 2,
        sentences: int = 50,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if min(vocabulary, width, hops, sentences) < 1:
            raise ValueError("vocabulary, width, hops and sentences must be at least 1")
        self.sentences = sentences
        self.words = nn.ModuleList(nn.Embedding(vocabulary, width) for _ in range(hops + 1))
        self.ages = nn.ParameterList(torch.zeros(sentences, width) for _ in range(hops + 1))
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.1, generator=generator)

    def forward(self, x: Int[Tensor, "batch lines words"]) -> Float[Tensor, "batch vocabulary"]:
        """Logits of the answer; the last line is the question, lines without words are skipped."""
        story, question = x[:, :-1], x[:, -1:]
        if story.shape[1] > self.sentences:
            raise ValueError(f"a story has {story.shape[1]} sentences, more than sentences = {self.sentences}")
        state = self._lines(0, question)[:, 0]
        empty = (story == 0).all(2)
        for match, read in itertools.pairwise(range(len(self.words))):
            scores = ((self._lines(match, story) + self._age(match, story)) @ state[:, :, None])[..., 0]
            attention = scores.masked_fill(empty, torch.finfo(scores.dtype).min).softmax(1) * ~empty
            said = self._lines(read, story) + self._age(read, story)
            state = state + (attention[:, None] @ said)[:, 0]  # a story without sentences says nothing
        return state @ self.words[-1].get_parameter("weight").T

    def _lines(self, which: int, lines: Tensor) -> Tensor:
        """Sums of word vectors; word j of J counts (1 - j/J) - (k/d)(1 - 2j/J) in feature k of d (section 4.1)."""
        vectors = self.words[which](lines)
        count, width = vectors.shape[-2:]
        j = torch.arange(1, count + 1, device=lines.device, dtype=vectors.dtype)[:, None] / count
        k = torch.arange(1, width + 1, device=lines.device, dtype=vectors.dtype) / width
        return (vectors * ((1 - j) - k * (1 - 2 * j)) * (lines > 0)[..., None]).sum(-2)

    def _age(self, which: int, story: Tensor) -> Tensor:
        return self.ages[which][: story.shape[1]].flip(0)
