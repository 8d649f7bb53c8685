"""Differentiable ensembles: examples per second, beside a loop over experts with a Sinkhorn gate, and as a pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import normalize

from neurarium.continual import DifferentiableEnsemble, StreamClassifier

EXPERTS, FEATURES, CLASSES, BATCH, K = 128, 384, 10, 10, 16


def sinkhorn_gate(c: Tensor, k: int, eps: float = 5e-4, iterations: int = 400) -> Tensor:
    """Memberships by iterations in the log domain."""
    n = c.shape[1]
    cost = torch.stack([c**2, (c - 1) ** 2], 2)
    cost = cost / cost.amax((1, 2), keepdim=True)
    columns = torch.tensor([k / n, (n - k) / n]).log()
    g = torch.zeros(len(c), 1, 2)
    for _ in range(iterations):
        f = -torch.logsumexp(g - cost / eps, 2, keepdim=True) - torch.log(torch.tensor(float(n)))
        g = columns - torch.logsumexp(f - cost / eps, 1, keepdim=True)
    return n * torch.exp(f + g - cost / eps)[:, :, 0]


def looped_step(weights: list[Tensor], keys: Tensor, x: Tensor, y: Tensor) -> None:
    """One batch, expert by expert, by autograd."""
    cosine = normalize(x, dim=1) @ keys.T
    a = sinkhorn_gate(1 - cosine, K)
    votes = a * cosine * a / (cosine * a).sum(1, keepdim=True)
    for j, w in enumerate(weights):
        w.requires_grad_()
        score = 250 * torch.tanh(x @ w.T / 250)
        loss = -(votes[:, j] * score[range(len(y)), y]).mean()
        (gradient,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w -= 1e-4 * (gradient.sign() + 1e-4 * w) * (gradient != 0)


def pipeline(extractor: str, batches: list[tuple[list[str] | Tensor, list[int]]]) -> float:
    """Items per second of the processor with `StreamClassifier` and its default learner: the best of some passes."""
    stream = StreamClassifier(extractor).partial_fit(*batches[0])
    seconds = []
    for _ in range(8):
        start = time.process_time()
        for items, labels in batches:
            stream.partial_fit(items, labels)
        seconds.append(time.process_time() - start)
    return sum(len(labels) for _, labels in batches) / min(seconds)


def print_pipelines() -> None:
    """Print items per second from vectors and from texts of 90 words, class after class."""
    words = [f"word{i}" for i in range(3000)]
    per_class = 120
    for size in (10, 60):
        labels = [[c] * size for c in range(CLASSES) for _ in range(per_class // size)]
        vectors = [(torch.randn(size, FEATURES), names) for names in labels]
        drawn = torch.randint(len(words), (len(labels), size, 90)).tolist()
        texts = [([" ".join(words[i] for i in text) for text in batch], names) for batch, names in zip(drawn, labels)]
        speeds = {"vectors": pipeline("vector", vectors), "texts": pipeline("text-hash", texts)}
        found = ", ".join(f"{speed:,.0f} {name}/s" for name, speed in speeds.items())
        print(f"the pipeline in batches of {size}: {found}")


def main() -> None:
    """Print examples per second of both, and their ratio, and those of the pipeline."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    learner = DifferentiableEnsemble(num_experts=EXPERTS, k=K)
    x, y = torch.randn(BATCH, FEATURES), torch.full((BATCH,), 3)
    learner.observe(torch.randn(CLASSES, FEATURES), torch.arange(CLASSES))
    weights = [torch.randn(CLASSES, FEATURES) / FEATURES**0.5 for _ in range(EXPERTS)]
    keys = normalize(torch.randn(EXPERTS, FEATURES), dim=1)
    works: dict[str, tuple[Callable[[], object], int]] = {
        "ours": (lambda: learner.observe(x, y), 20), "loop": (lambda: looped_step(weights, keys, x, y), 1),
        "predict": (lambda: learner.predict(torch.randn(500, FEATURES)), 1),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(12):
        for name, (work, repeats) in works.items():
            start = time.perf_counter()
            for _ in range(repeats):
                work()
            if turn >= 2:
                times[name].append((time.perf_counter() - start) / repeats)
    seconds = {name: median(values) for name, values in times.items()}
    print(f"{EXPERTS} experts, {FEATURES} features, {CLASSES} classes, batches of {BATCH}, one thread")
    print(f"learning: {BATCH / seconds['ours']:,.0f} examples/s; loop over experts with a Sinkhorn gate:", end=" ")
    print(f"{BATCH / seconds['loop']:,.0f} ({seconds['loop'] / seconds['ours']:.0f} x)")
    print(f"predicting: {500 / seconds['predict']:,.0f} examples/s")
    print_pipelines()


if __name__ == "__main__":
    main()
