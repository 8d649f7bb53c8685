"""What an autoencoder's code is worth: reconstruction, neighbours, a linear readout, its rank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import one_hot

from neurarium.objectives import reconstruction_loss
from neurarium.probes._result import ProbeResult
from neurarium.probes.neighbours._neighbours import nearest
from neurarium.training import evaluation, unpack

QUERIES = 1024
RIDGE = 1e-6


@dataclass(frozen=True)
class LatentQuality(ProbeResult):
    """An autoencoder on examples that it is judged on.

    Args:
        error: mean squared error of the reconstruction.
        noisy_error: the same from inputs with normal noise, against the clean ones.
        neighbour_accuracy: share of examples whose nearest codes vote for their class.
        linear_accuracy: share that a linear map of the code, fitted by least squares, classifies rightly.
        rank: effective rank of the codes, the exponential of the entropy of their normalised singular values.
        neighbours: how many vote.
        codes: the codes' first two principal components [examples, 2].
        labels: class of each example.
    """

    error: float
    noisy_error: float
    neighbour_accuracy: float
    linear_accuracy: float
    rank: float
    neighbours: int
    codes: Float[Tensor, "examples axes"]
    labels: Int[Tensor, " examples"]

    def summary(self) -> str:
        """All numbers."""
        return (
            f"reconstruction error {self.error:.4g} ({self.noisy_error:.4g} from noisy inputs); class from the code: "
            f"{self.neighbour_accuracy:.3f} by {self.neighbours} neighbours, {self.linear_accuracy:.3f} linearly; "
            f"effective rank {self.rank:.1f}"
        )

    def plot(self, ax: Any) -> Any:
        """The codes' first two principal components, coloured by class."""
        x, y = self.codes[:, 0].tolist(), self.codes[:, 1].tolist()
        ax.scatter(x, y, c=self.labels.tolist(), cmap="tab10", s=6)
        ax.set(xlabel="first component of the code", ylabel="second", title=f"error {self.error:.4g}")
        return ax


@torch.no_grad()
def latent_quality(
    model: nn.Module,
    loader: Iterable[Any],
    held_out: Iterable[Any] | None = None,
    *,
    neighbours: int = 5,
    noise: float = 0.2,
    generator: Generator | None = None,
) -> LatentQuality:
    """How well an autoencoder makes unseen examples again, and what can be read from its code.

    Args:
        model: an `Autoencoder`, or any module with ``encode`` and ``decode``.
        loader: examples with labels; their codes are the neighbours, and what the linear map is fitted on.
        held_out: the examples that everything is measured on; every other one of ``loader`` by default.
        neighbours: how many vote, by Euclidean distance; of equal counts the smallest label wins.
        noise: deviation of the noise for ``noisy_error``.
        generator: of that noise, on the CPU; torch's own by default.

    Raises:
        TypeError: the model cannot encode and decode.
        ValueError: fewer remembered examples than neighbours.
    """
    if not (hasattr(model, "encode") and hasattr(model, "decode")):
        raise TypeError(f"latent_quality reads an autoencoder with encode and decode, not a {type(model).__name__}")
    with evaluation(model):
        known, known_labels, *_ = _coded(model, loader, 0.0, generator)
        codes, labels, error, noisy = _coded(model, loader if held_out is None else held_out, noise, generator)
    if held_out is None:
        known, known_labels, codes, labels = known[::2], known_labels[::2], codes[1::2], labels[1::2]
    if not 1 <= neighbours <= len(known):
        raise ValueError(f"neighbours must be between 1 and the {len(known)} remembered examples, not {neighbours}")
    classes, answers = torch.unique(known_labels, return_inverse=True)
    by_neighbours = classes[_vote(known, answers, len(classes), codes, neighbours)]
    by_map = classes[_linear_scores(known, answers, len(classes), codes).argmax(1)]
    centred = codes - codes.mean(0)
    spectrum = torch.linalg.svdvals(centred)
    shares = spectrum / spectrum.sum().clamp_min(1e-30)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    plane = centred @ axes.t()
    if plane.shape[1] < 2:
        plane = torch.cat([plane, torch.zeros_like(plane)], 1)
    return LatentQuality(
        error, noisy,
        float((by_neighbours == labels).double().mean()), float((by_map == labels).double().mean()),
        float(torch.special.entr(shares).sum().exp()), neighbours, plane.cpu(), labels.cpu(),
    )  # fmt: skip


def _coded(
    model: Any, loader: Iterable[Any], noise: float, generator: Generator | None
) -> tuple[Tensor, Tensor, float, float]:
    """Codes and labels, and the mean squared errors from clean and from noisy inputs."""
    codes, labels, error, noisy, rows = [], [], 0.0, 0.0, 0
    for batch in loader:
        x, y = unpack(batch)
        code = model.encode(x)
        codes.append(code.flatten(1))
        labels.append(y)
        rows += len(x)
        error += len(x) * float(reconstruction_loss(model.decode(code), x))
        if noise:
            disturbed = x + noise * torch.randn(x.shape, generator=generator).to(x)
            noisy += len(x) * float(reconstruction_loss(model.decode(model.encode(disturbed)), x))
    if not rows:
        raise ValueError("the loader gave no batches")
    exact = torch.float32 if codes[0].device.type == "mps" else torch.float64
    return torch.cat(codes).to(exact), torch.cat(labels), error / rows, noisy / rows


def _vote(known: Tensor, answers: Tensor, classes: int, codes: Tensor, neighbours: int) -> Tensor:
    """The class that most of the nearest known codes have; of equals the smallest.

    ``2 q·k - |k|²`` is the larger the nearer ``k`` is to ``q``, so nearest codes are those of largest inner product.
    """
    lengths = known.square().sum(1, keepdim=True)
    items, queries = torch.cat([2 * known, -lengths], 1), torch.cat([codes, torch.ones_like(codes[:, :1])], 1)
    winners = []
    for some in queries.split(QUERIES):
        votes = one_hot(answers[nearest(some, items, neighbours)[1]], classes).sum(1)
        order = torch.arange(classes, 0, -1, device=votes.device)
        winners.append((votes * (classes + 1) + order).argmax(1))
    return torch.cat(winners)


def _linear_scores(known: Tensor, answers: Tensor, classes: int, codes: Tensor) -> Tensor:
    """Least squares on one-hot classes, with an intercept."""
    mean = known.mean(0)
    x, y = known - mean, one_hot(answers, classes).to(known)
    gram = x.t() @ x
    gram.diagonal().add_(RIDGE * gram.diagonal().mean().clamp_min(1e-30))
    return (codes - mean) @ torch.linalg.solve(gram, x.t() @ (y - y.mean(0))) + y.mean(0)
