"""Few-shot classification on frozen features: random episodes, all solved at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neurarium.probes._result import ProbeResult
from neurarium.probes.collapse._features import feature_batches, precise

CHUNK = 2**25  # numbers of the largest tensor that is held at a time


@dataclass(frozen=True)
class FewShotReport(ProbeResult):
    """Accuracy over episodes.

    Args:
        accuracy: mean over episodes.
        half_width: of its 95 % interval.
        per_episode: accuracy of each.
        ways: classes of an episode.
        shots: labelled examples per class.
        head: what was fitted to them.
    """

    accuracy: float
    half_width: float
    per_episode: Float[Tensor, episodes]
    ways: int
    shots: int
    head: str

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean."""
        return self.accuracy - self.half_width, self.accuracy + self.half_width

    def summary(self) -> str:
        """Ways, shots, accuracy and interval."""
        found = f"{100 * self.accuracy:.2f} ± {100 * self.half_width:.2f} % over {len(self.per_episode)} episodes"
        return f"{self.ways}-way {self.shots}-shot, {self.head}: {found}"

    def plot(self, ax: Any) -> Any:
        """A histogram of the episodes."""
        ax.hist(self.per_episode.cpu().numpy(), bins=20)
        ax.axvline(self.accuracy, color="black")
        ax.set(xlabel=f"{self.ways}-way {self.shots}-shot accuracy", ylabel="episodes")
        return ax


def few_shot_accuracy(
    model_or_features: nn.Module | Tensor,
    data: Iterable[Any] | Tensor,
    layer: str | None = None,
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    episodes: int = 200,
    head: str = "ridge",
    strength: float = 1.0,
    generator: torch.Generator | None = None,
) -> FewShotReport:
    """How well new classes are told apart from a few examples of each, on features that do not learn.

    An episode draws classes, and of each class examples to learn from (shots) and others to be judged on (queries).

    Args:
        model_or_features: a network, in evaluation mode for this; or features [examples, features].
        data: the network's loader; or labels [examples].
        layer: what is a feature: by default what enters the linear layer that is used last; otherwise the output of
            the submodule of this name, ``""`` for the model's own.
        ways: classes of an episode.
        shots: labelled examples per class.
        queries: judged examples per class.
        episodes: how many to draw.
        head: ``"ridge"``: ridge regression on one-hot targets with an intercept; or ``"nearest-centre"``.
        strength: of the ridge.
        generator: of the draws, on the CPU.

    Raises:
        ValueError: an argument out of range, an unknown head, fewer classes than ways, or a class with fewer examples
            than shots and queries.
    """
    if ways < 2 or min(shots, queries, episodes) < 1:
        raise ValueError("few_shot_accuracy needs ways >= 2 and at least one shot, query and episode")
    if head not in HEADS:
        raise ValueError(f"head must be one of {', '.join(HEADS)}, not {head!r}")
    if strength <= 0:
        raise ValueError(f"strength must be positive, not {strength}")
    parts = list(feature_batches(model_or_features, data, layer))
    features = precise(torch.cat([part for part, _ in parts]))
    labels = torch.cat([label for _, label in parts])
    rows = draw_episodes(labels.cpu(), ways, shots + queries, episodes, generator).to(features.device)
    found = []
    for some in rows.split(max(1, CHUNK // (rows[0].numel() * features.shape[1]))):
        drawn = features[some]  # [episodes, ways, shots + queries, features]
        scores = HEADS[head](drawn[:, :, :shots], drawn[:, :, shots:].flatten(1, 2), strength)
        answers = torch.arange(ways, device=scores.device).repeat_interleave(queries)
        found.append((scores.argmax(2) == answers).double().mean(1))
    each = torch.cat(found)
    spread = float(each.std()) if episodes > 1 else torch.inf
    return FewShotReport(float(each.mean()), 1.96 * spread / episodes**0.5, each, ways, shots, head)


def draw_episodes(
    labels: Int[Tensor, examples], ways: int, size: int, episodes: int, generator: torch.Generator | None
) -> Int[Tensor, "episodes ways size"]:
    """Rows of the examples of each episode, all of one episode different."""
    classes, counts = labels.unique(return_counts=True)
    if len(classes) < ways:
        raise ValueError(f"{ways} ways need as many classes, but there are {len(classes)}")
    if int(counts.min()) < size:
        short = int(counts.argmin())
        raise ValueError(
            f"class {int(classes[short])} has {int(counts[short])} examples, but shots + queries is {size}"
        )
    order = labels.argsort(stable=True)
    start = counts.cumsum(0) - counts
    chosen = torch.rand(episodes, len(classes), generator=generator).argsort(1)[:, :ways]
    rows = []
    for some in chosen.split(max(1, CHUNK // (ways * int(counts.max())))):
        keys = torch.rand(*some.shape, int(counts.max()), generator=generator)
        keys = keys.masked_fill(torch.arange(keys.shape[2]) >= counts[some][..., None], 2.0)
        rows.append(order[start[some][..., None] + keys.topk(size, dim=2, largest=False).indices])
    return torch.cat(rows)


def ridge_scores(
    support: Float[Tensor, "episodes ways shots features"],
    queries: Float[Tensor, "episodes queries features"],
    strength: float,
) -> Float[Tensor, "episodes queries ways"]:
    """Ridge regression with an intercept on one-hot targets: whichever of both forms has the smaller system."""
    ways, shots = support.shape[1:3]
    x = support.flatten(1, 2)
    mean = x.mean(1, keepdim=True)
    x, queries = x - mean, queries - mean
    y = one_hot(torch.arange(ways, device=x.device).repeat_interleave(shots), ways).to(x) - 1 / ways
    if x.shape[1] <= x.shape[2]:
        gram = x @ x.mT
        gram.diagonal(dim1=1, dim2=2).add_(strength)
        return queries @ (x.mT @ torch.linalg.solve(gram, y.expand(len(x), -1, -1)))
    gram = x.mT @ x
    gram.diagonal(dim1=1, dim2=2).add_(strength)
    return queries @ torch.linalg.solve(gram, x.mT @ y)


def centre_scores(
    support: Float[Tensor, "episodes ways shots features"],
    queries: Float[Tensor, "episodes queries features"],
    strength: float,
) -> Float[Tensor, "episodes queries ways"]:
    """Minus the distance to the mean of each class's shots."""
    return -torch.cdist(queries, support.mean(2), compute_mode="donot_use_mm_for_euclid_dist")


HEADS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"ridge": ridge_scores, "nearest-centre": centre_scores}
