"""Vietoris-Rips persistence of points in dimensions 0 and 1, by persistent cohomology with implicit apparent pairs.

All edges are put in one order, by length and then by place, so that nothing is tied. An edge that is the longest of
some triangle pairs with such a triangle at once and never makes a bar (Bauer, 2021: apparent pairs); what is left are
the edges of the relative neighbourhood graph, and of these the minimum spanning tree makes the bars of dimension 0.
"""

from __future__ import annotations

import heapq

import numpy as np


def rips_bars(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bars of dimensions 0 and 1, [bars, 2] with birth below death.

    Args:
        distance: symmetric, [points, points].
    """
    count = len(distance)
    if count == 1:
        return np.array([[0.0, np.inf]]), np.zeros((0, 2))
    upper = np.triu_indices(count, 1)
    lengths = distance[upper]
    order = np.argsort(lengths, kind="stable")
    rank = np.full((count, count), -1, np.int64)
    rank[upper[0][order], upper[1][order]] = np.arange(len(order))
    rank = np.maximum(rank, rank.T)
    ends = np.stack([upper[0][order], upper[1][order]], 1)
    radius = distance.max(1).min()  # beyond it the complex is a cone
    last = int(np.searchsorted(lengths[order], radius, side="right"))
    tree = _spanning_tree(rank, ends, count)
    parts = np.stack([np.zeros(count), np.append(lengths[order][tree], np.inf)], 1)
    loops = _loops(rank, ends, tree, last)
    if not loops:
        return parts, np.zeros((0, 2))
    births, deaths = np.array(loops).T
    bars = np.stack([lengths[order][births], lengths[order][deaths]], 1)
    return parts, bars[bars[:, 1] > bars[:, 0]]


def _spanning_tree(rank: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray:
    """Ranks of the edges of the minimum spanning tree, in rising order (Prim's method, a row at a time)."""
    nearest = rank[0].copy()
    nearest[0] = np.iinfo(np.int64).max
    left = np.ones(count, bool)
    left[0] = False
    taken = np.empty(count - 1, np.int64)
    for step in range(count - 1):
        point = int(np.where(left, nearest, np.iinfo(np.int64).max).argmin())
        taken[step] = nearest[point]
        left[point] = False
        row = rank[point].copy()
        row[point] = np.iinfo(np.int64).max
        np.minimum(nearest, row, out=nearest)
    return np.sort(taken)


def _lune_is_empty(rank: np.ndarray, ends: np.ndarray, edges: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Of some edges, those that are the longest edge of no triangle."""
    i, j = ends[edges].T
    for k in near.T:  # the nearest neighbours of one end rule out most
        third = k[i]
        keep = (third == j) | (np.maximum(rank[i, third], rank[j, third]) > edges)
        edges, i, j = edges[keep], i[keep], j[keep]
    kept = []
    for part in np.array_split(np.arange(len(edges)), max(1, len(edges) // 256)):
        longest = np.maximum(rank[i[part]], rank[j[part]])
        longest[np.arange(len(part)), i[part]] = longest[np.arange(len(part)), j[part]] = len(ends)
        kept.append(edges[part][longest.min(1) > edges[part]])
    return np.concatenate(kept)


def _loops(rank: np.ndarray, ends: np.ndarray, tree: np.ndarray, last: int) -> list[tuple[int, int]]:
    """Birth and death of each loop, as ranks of edges."""
    count = len(rank)
    near = np.argsort(np.where(rank < 0, len(ends), rank), 1)[:, : min(8, count - 1)]
    edges = _lune_is_empty(rank, ends, np.arange(last), near)
    births = np.setdiff1d(edges, tree)[::-1]
    own: dict[int, np.ndarray] = {}
    limit = last * count
    found = []
    everyone = np.arange(count)

    def cofaces(edge: int) -> np.ndarray:
        """Triangles on an edge, each as the rank of its longest edge and the vertex that is not on it, in order."""
        i, j = ends[edge]
        a, b = rank[i], rank[j]
        longest = np.maximum(np.maximum(a, b), edge)
        apex = np.where(longest == edge, everyone, np.where(longest == a, j, i))
        keys = longest * count + apex
        keys[i] = keys[j] = limit
        return np.sort(keys[keys < limit])

    def apparent(triangle: int) -> int | None:
        """The longest edge of a triangle, if this is the first of those on it."""
        edge = triangle // count
        i, j = ends[edge]
        third = (np.maximum(rank[i], rank[j]) < edge) & (everyone != i) & (everyone != j)
        return edge if third.any() and int(third.argmax()) == triangle % count else None

    for birth in births.tolist():
        column = [cofaces(birth)]
        heads = [(int(c[0]), n, 0) for n, c in enumerate(column) if len(c)]
        added: list[int] = [birth]
        pivot = _pivot(column, heads)
        while pivot is not None:
            if pivot in own:
                more = own[pivot].tolist()
            elif (edge := apparent(pivot)) is not None:
                more = [edge]
            else:
                own[pivot] = _odd(added)
                found.append((birth, pivot // count))
                break
            # the pivot itself was taken off the heap: put it back so that it cancels
            heapq.heappush(heads, (pivot, -1, 0))
            for edge in more:
                keys = cofaces(edge)
                column.append(keys)
                if len(keys):
                    heapq.heappush(heads, (int(keys[0]), len(column) - 1, 0))
            added += more
            pivot = _pivot(column, heads)
    return found


def _odd(edges: list[int]) -> np.ndarray:
    values, times = np.unique(edges, return_counts=True)
    return values[times % 2 == 1]


def _pivot(column: list[np.ndarray], heads: list[tuple[int, int, int]]) -> int | None:
    """Take the smallest triangle that occurs an odd number of times off the lists that are merged."""
    while heads:
        key, times = heads[0][0], 0
        while heads and heads[0][0] == key:
            _, which, at = heads[0]
            times += 1
            if which >= 0 and at + 1 < len(column[which]):
                heapq.heapreplace(heads, (int(column[which][at + 1]), which, at + 1))
            else:
                heapq.heappop(heads)
        if times % 2:
            return key
    return None
