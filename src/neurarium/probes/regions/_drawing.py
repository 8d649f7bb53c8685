"""Drawing trees: cells over a plane, a function with its breaks, and the tree itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from neurarium.probes.regions._network_tree import NetworkTree


def draw(tree: NetworkTree, ax: Any) -> Any:
    """The picture that fits the number of inputs."""
    if tree.domain.bounded and tree.domain.dimensions == 1:
        return _function(tree, ax)
    if tree.domain.bounded and tree.domain.dimensions == 2:
        return _cells(tree, ax)
    depths = tree.depths()
    ax.hist(depths.numpy(), bins=np.arange(int(depths.min()), int(depths.max()) + 2) - 0.5)
    ax.set(xlabel="comparisons to reach a leaf", ylabel="leaves")
    return ax


def _function(tree: NetworkTree, ax: Any) -> Any:
    (low,), (high,) = (side.tolist() for side in tree.domain.bounds)
    x = torch.linspace(low, high, 1001, dtype=torch.float64)[:, None]
    ax.plot(x[:, 0], tree.predict(x))
    for normal, shift in zip(tree.normals[:, 0].tolist(), tree.shifts.tolist()):
        ax.axvline(-shift / normal, color="grey", linewidth=0.8, linestyle=":")
    ax.set(xlabel="x", ylabel="class" if tree.classes else "output")
    return ax


def _cells(tree: NetworkTree, ax: Any) -> Any:
    from matplotlib.collections import PolyCollection

    corners = [leaf.polyhedron.polygon().numpy() for leaf in tree.leaves]
    if tree.classes:
        colour = np.array([float(leaf.decision or 0) for leaf in tree.leaves])
    else:
        colour = np.array([float((leaf.matrix @ leaf.inside + leaf.offset)[0]) for leaf in tree.leaves])
    cells = PolyCollection(corners, array=colour, cmap="viridis", edgecolor="white", linewidths=0.7)
    ax.add_collection(cells)
    ax.autoscale_view()
    if not tree.classes:
        ax.figure.colorbar(cells, ax=ax, label="output inside the cell")
    ax.set(xlabel="x0", ylabel="x1")
    return ax
