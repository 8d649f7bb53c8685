"""The nearest-mean classifier beside scikit-learn's NearestCentroid, and its share of the time of an encoder.

    python benchmarks/nearest_mean.py

50,000 features of 384 values in 100 classes; medians of interleaved repetitions, one thread. scikit-learn has no
``partial_fit``: it is given all at once what ours is given in batches of 1,000.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from sklearn.neighbors import NearestCentroid

from neurarium.continual import NearestMeanClassifier
from neurarium.models import WideResNet


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(100, (50_000,), generator=generator)
    x = torch.randn(50_000, 384, generator=generator) + torch.randn(100, 384, generator=generator)[y]
    array, labels = x.numpy(), y.numpy()
    ours, peer = NearestMeanClassifier(), NearestCentroid()

    def learn() -> None:
        for rows in torch.arange(len(x)).split(1000):
            ours.observe(x[rows], y[rows])

    encoder, images = WideResNet(16, 2).eval(), torch.randn(200, 3, 32, 32)
    jobs: dict[str, Callable[[], object]] = {
        "learn": learn,
        "scikit-learn, learn": lambda: peer.fit(array, labels),
        "predict": lambda: ours.predict(x).argmax(1),
        "scikit-learn, predict": lambda: peer.predict(array),
        "encode 200 images": lambda: encoder(images),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    with torch.no_grad():
        for _ in range(5):
            for name, job in jobs.items():
                start = time.perf_counter()
                job()
                times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in median.items():
        print(f"{name:24s} {1000 * seconds:9.1f} ms")
    print(f"learn:   {median['learn'] / median['scikit-learn, learn']:.2f} of scikit-learn's time")
    print(f"predict: {median['predict'] / median['scikit-learn, predict']:.2f} of scikit-learn's time")
    update, encoding = median["learn"] / len(x), median["encode 200 images"] / len(images)
    print(f"an update takes {100 * update / encoding:.2f} % of encoding an image (wide residual network 16-2)")


if __name__ == "__main__":
    main()
