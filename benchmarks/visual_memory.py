"""Visual memory at a million items: exact search against one matrix product, IVF against exact, adding to disk, faiss.

Run: python benchmarks/visual_memory.py [items]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import faiss
import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier

from neurarium.continual import ApproximateIndex, VectorStore, VisualMemory
from neurarium.probes.neighbours._neighbours import nearest, unit

FEATURES, QUERIES, K, REPETITIONS = 128, 256, 10, 5
EFFORTS = (2, 4, 8, 16)


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(**functions: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each, one after another in every repetition; the first repetition is thrown away."""
    runs = [{name: seconds(function) for name, function in functions.items()} for _ in range(REPETITIONS + 1)]
    return {name: median(run[name] for run in runs[1:]) for name in functions}


def embeddings(count: int, generator: torch.Generator) -> torch.Tensor:
    """Unit vectors in 2,000 clusters: embeddings of images are clustered too; unclustered noise has no neighbours."""
    centres = torch.randn(2000, FEATURES, generator=torch.Generator().manual_seed(1))
    chosen = torch.randint(2000, (count,), generator=generator)
    return unit(centres[chosen] + 0.7 * torch.randn(count, FEATURES, generator=generator))


def main() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    generator = torch.Generator().manual_seed(0)
    items, queries = embeddings(count, generator), embeddings(QUERIES, generator)
    labels = torch.randint(1000, (count,), generator=generator)

    for path in (None, tempfile.mkdtemp()):
        store = VectorStore(path=path)
        start = time.perf_counter()
        for i in range(0, count, 10_000):
            store.add(items[i : i + 10_000], labels[i : i + 10_000])
        spent = time.perf_counter() - start
        print(f"add, {'memory' if path is None else 'disk'}: {count / spent:,.0f} items/s")

    index = ApproximateIndex("ivf")
    print(f"ivf: laid out in {seconds(lambda: index.add(items)):.1f} s")
    flat = faiss.IndexFlatIP(FEATURES)
    flat.add(items.numpy())
    hidden = torch.zeros(count, dtype=torch.bool)
    shared = torch.empty(QUERIES, count)

    def approximately(effort: int) -> torch.Tensor:
        index.effort = effort
        return index.search(queries, K, hidden)[1]

    times = interleaved(
        product=lambda: torch.mm(queries, items.T, out=shared),
        exact=lambda: nearest(queries, items, K),
        flat=lambda: flat.search(queries.numpy(), K),
        **{f"ivf {effort}": partial(approximately, effort) for effort in EFFORTS},
    )
    for name, spent in times.items():
        print(f"{name:<8} {1e3 * spent:8.1f} ms for {QUERIES} queries   {spent / times['product']:.3f} x one product")
    true = nearest(queries, items, K)[1].tolist()
    for effort in EFFORTS:
        found = approximately(effort).tolist()
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, true, strict=True)])
        faster = times["exact"] / times[f"ivf {effort}"]
        print(f"ivf, {effort} lists a query: {faster:.1f} x faster than exact, recall@{K} {recall:.3f}")

    part = min(count, 50_000)
    memory = VisualMemory(k=K)
    memory.add(items[:part], labels[:part])
    peer = KNeighborsClassifier(K, metric="cosine", algorithm="brute", weights="distance")
    peer.fit(items[:part].numpy(), labels[:part].numpy())
    times = interleaved(ours=lambda: memory.classify(queries), peer=lambda: peer.predict(queries.numpy()))
    print(f"classify, {part:,} items: scikit-learn / ours {times['peer'] / times['ours']:.1f}")


if __name__ == "__main__":
    main()
