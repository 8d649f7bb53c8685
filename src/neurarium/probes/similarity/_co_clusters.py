"""Groups of units of two networks that span the same directions: spectral co-clustering of their correlations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from torch import Tensor

from neurarium.probes._result import ProbeResult
from neurarium.probes.similarity._correlation_table import CorrelationTable


@dataclass(frozen=True)
class CoClusters(ProbeResult):
    """Clusters that hold units of both networks.

    Args:
        labels_a: cluster of each unit of a; -1 for dead ones.
        labels_b: the same for b.
        counts: units of a and of b in each cluster, [clusters, 2].
        mass: mean absolute correlation inside each cluster (NaN where it lacks one network's units).
        outside: mean absolute correlation between different clusters.
        canonical: first canonical correlation of the two groups of each cluster (NaN as above).
        best_single: largest correlation of two single units in each cluster (NaN as above).
        matrix: the correlations, for the picture.
    """

    labels_a: Int[Tensor, " a"]
    labels_b: Int[Tensor, " b"]
    counts: Int[Tensor, "clusters 2"]
    mass: Float[Tensor, " clusters"]
    outside: float
    canonical: Float[Tensor, " clusters"]
    best_single: Float[Tensor, " clusters"]
    matrix: Float[Tensor, "a b"]

    def summary(self) -> str:
        """Sizes, and how much better groups agree than single units."""
        sizes = ", ".join(f"{a}+{b}" for a, b in self.counts.tolist())
        return (
            f"{len(self.counts)} clusters (units of a + of b: {sizes}); mean |correlation| "
            f"{float(self.mass.nanmean()):.2f} inside, {self.outside:.2f} outside; "
            f"first canonical correlation {float(self.canonical.nanmean()):.2f}, "
            f"best two single units {float(self.best_single.nanmean()):.2f}"
        )

    def plot(self, ax: Any) -> Any:
        """Absolute correlations in the order of the clusters, with their borders."""
        orders, borders = [], []
        for labels in (self.labels_a, self.labels_b):
            order = labels.cpu().numpy().argsort(kind="stable")
            order = order[labels.cpu().numpy()[order] >= 0]
            orders.append(order)
            borders.append(np.flatnonzero(np.diff(labels.cpu().numpy()[order])) + 0.5)
        image = ax.imshow(self.matrix.abs().cpu().numpy()[orders[0]][:, orders[1]], vmin=0, vmax=1, cmap="magma")
        for row in borders[0]:
            ax.axhline(row, color="white", linewidth=0.7)
        for column in borders[1]:
            ax.axvline(column, color="white", linewidth=0.7)
        ax.figure.colorbar(image, ax=ax, label="|correlation|", shrink=0.8)
        ax.set(xlabel="units of b", ylabel="units of a")
        return ax


def co_cluster(
    table: CorrelationTable, clusters: int | None = None, *, restarts: int = 20, seed: int = 0
) -> CoClusters:
    """Many-to-many matching (Li et al., 2015, section 5).

    Units of both networks are the nodes of a graph whose edges are the absolute correlations between networks; rows of
    the first eigenvectors of its normalised Laplacian I - D^-1/2 S D^-1/2 are grouped by k-means. Dead units are left
    out.

    Args:
        table: correlations between the layers and within both.
        clusters: how many; by default where the eigenvalues have their largest gap (2 to a third of the units).
        restarts: of k-means.
        seed: of k-means.

    Raises:
        ValueError: ``clusters`` is not between 2 and the number of live units, or the table has no correlations within
            the layers.
    """
    lives = [
        torch.tensor(sorted(set(range(n)) - set(dead)), dtype=torch.long)
        for n, dead in zip(table.matrix.shape, (table.dead_a, table.dead_b))
    ]
    cross = table.matrix.cpu().double()[lives[0]][:, lives[1]]
    total = sum(cross.shape)
    most = min(cross.shape)
    if clusters is not None and not 2 <= clusters <= most:
        raise ValueError(f"clusters must be between 2 and {most}, not {clusters}")
    size = cross.abs()
    scaled = size / torch.outer(size.sum(1).clamp_min(1e-12), size.sum(0).clamp_min(1e-12)).sqrt()
    # the eigenvectors of the bipartite Laplacian are the singular vectors of the scaled block, eigenvalue 1 - s
    u, s, vt = torch.linalg.svd(scaled, full_matrices=False)
    if clusters is None:
        limit = max(3, min(most, total // 3))
        gaps = s[1 : limit - 1] - s[2:limit]
        clusters = int(gaps.argmax()) + 2 if len(gaps) else 2
    nodes = torch.cat([u[:, :clusters], vt[:clusters].T])
    nodes = nodes / nodes.norm(dim=1, keepdim=True).clamp_min(1e-12)
    found = torch.as_tensor(KMeans(clusters, n_init=restarts, random_state=seed).fit_predict(nodes.numpy())).long()
    labels = [torch.full((n,), -1) for n in table.matrix.shape]
    labels[0][lives[0]], labels[1][lives[1]] = found[: len(cross)], found[len(cross) :]
    counts = torch.stack([torch.stack([(part == k).sum() for part in labels]) for k in range(clusters)])
    mass, canonical, single = (torch.full((clusters,), torch.nan, dtype=torch.float64) for _ in range(3))
    matrix = table.matrix.cpu().double()
    for k in range(clusters):
        i, j = (torch.nonzero(part == k).flatten() for part in labels)
        if len(i) and len(j):
            mass[k], single[k] = matrix[i][:, j].abs().mean(), matrix[i][:, j].abs().max()
            canonical[k] = table.canonical(i, j)[0]
    apart = labels[0][lives[0]][:, None] != labels[1][lives[1]]
    outside = float(size[apart].mean()) if bool(apart.any()) else 0.0
    return CoClusters(labels[0], labels[1], counts, mass, outside, canonical, single, table.matrix)
