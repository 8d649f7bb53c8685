"""Words as vectors, a recurrent network over them, one vector for a sentence, classes."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.data import WordVectors
from neurarium.training import evaluation

PADDING = 0
POOLINGS = ("mean", "max", "last")


class SentenceClassifier(nn.Module):
    """Embeds words, encodes them, pools over the words that are there, and classifies.

    Args:
        vectors: `WordVectors`, or a matrix [words, width]; the number 0 is padding.
        encoder: ``encoder(x [batch, words, width], lengths) -> output [batch, words, features]``, or a tuple that
            begins with it: `DenseRecurrent`, for one.
        num_classes: number of classes.
        pooling: "mean" or "max" over the words, or the "last" word's.
        freeze: the vectors stay as they are.
        dropout: rate on the words' and on the pooled vector.

    Shape:
        ids: [batch, words]; output: logits [batch, num_classes].

    Raises:
        ValueError: an unknown pooling, fewer than two classes, or vectors that the encoder refuses.
    """

    def __init__(
        self,
        vectors: WordVectors | Float[Tensor, "words width"],
        encoder: nn.Module,
        num_classes: int,
        pooling: str = "mean",
        freeze: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS or num_classes < 2:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)} and num_classes at least 2")
        matrix = vectors if isinstance(vectors, Tensor) else vectors.vectors
        self.embedding = nn.Embedding.from_pretrained(matrix.clone(), freeze, padding_idx=PADDING)
        self.encoder, self.pooling = encoder, pooling
        self.dropout = nn.Dropout(dropout)
        like = next(encoder.parameters(), matrix)
        word = torch.zeros(1, 1, matrix.shape[1], device=like.device, dtype=like.dtype)
        try:
            with torch.no_grad(), evaluation(encoder):
                features = self._encode(word, torch.ones(1, dtype=torch.long)).shape[-1]
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"the encoder refuses vectors of width {matrix.shape[1]}: {error}") from error
        self.head = nn.Linear(features, num_classes, device=like.device, dtype=like.dtype)

    def forward(
        self, ids: Int[Tensor, "batch words"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits.

        Args:
            ids: words by number, filled up with 0.
            lengths: words of each sentence; those before the trailing zeros by default.

        Raises:
            ValueError: a sentence without words.
        """
        if lengths is None:
            places = torch.arange(1, ids.shape[1] + 1, device=ids.device)
            lengths = ((ids != PADDING) * places).amax(1)
        if int(lengths.min()) < 1:
            raise ValueError(f"sentence {int(lengths.argmin())} has no words")
        encoded = self._encode(self.dropout(self.embedding(ids)), lengths)
        logits: Tensor = self.head(self.dropout(self.pool(encoded, lengths)))
        return logits

    def pool(
        self, encoded: Float[Tensor, "batch words features"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch features"]:
        """One vector for each sentence, of the words that are there."""
        lengths = lengths.to(encoded.device)
        there = (torch.arange(encoded.shape[1], device=encoded.device) < lengths[:, None])[..., None]
        if self.pooling == "mean":
            return torch.where(there, encoded, 0).sum(1) / lengths[:, None].to(encoded.dtype)
        if self.pooling == "max":
            return encoded.masked_fill(~there, float("-inf")).amax(1)
        return encoded[torch.arange(len(encoded), device=encoded.device), lengths - 1]

    def _encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        output: Any = self.encoder(x, lengths)
        found: Tensor = output[0] if isinstance(output, tuple) else output
        return found
