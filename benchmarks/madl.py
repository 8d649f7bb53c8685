"""Learning from a crowd beside what one would write, or take, instead.

- A step of `MaDL` (100 annotators, 10 classes, batches of 64 of which a fifth of the labels is there) beside the same
  model on all pairs of a batch and annotators, as the authors' code has it.
- `dawid_skene` on 200,000 labels beside crowd-kit's, the same number of iterations.

Interleaved, on one thread; medians and ratios.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, nll_loss

from neurarium.learning import dawid_skene
from neurarium.objectives import AnnotatorPerformance, MaDL

ANNOTATORS, CLASSES, BATCH, REPETITIONS = 100, 10, 64, 7


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(title: str, ours: Callable[[], object], theirs: Callable[[], object], repetitions: int) -> None:
    """Medians of both, in turn, and their ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions):
        for kept, call in zip(times, (ours, theirs)):
            kept.append(seconds(call))
    a, b = (statistics.median(kept) for kept in times)
    print(f"{title}: {1e3 * a:.1f} ms beside {1e3 * b:.1f} ms ({b / a:.1f} times)")


class Dense(nn.Module):
    """The annotators' network on the concatenated embeddings of all pairs."""

    def __init__(self, performance: AnnotatorPerformance) -> None:
        super().__init__()
        self.parts = performance

    def forward(self, logits: Tensor, features: Tensor, said: Tensor) -> Tensor:
        """Minus the mean log-likelihood, with the weights' kernel written out."""
        p = self.parts
        n, m = torch.cartesian_prod(torch.arange(len(features)), torch.arange(ANNOTATORS)).T
        every = torch.eye(ANNOTATORS)
        e, g = p.embed(every)[m], p.embed_example(features.detach())[n]
        s = e + g
        product = torch.einsum("kq,pqr,kr->kp", s, p.product, s)
        h = p.out_norm(p.out(p.norm(p.hidden(torch.cat([e, g, product], 1))).relu()))
        matrix = log_softmax(p.head((h + e).relu()).view(len(features), ANNOTATORS, CLASSES, CLASSES), 3)
        joint = torch.logsumexp(log_softmax(logits, 1)[:, None, :, None] + matrix, 2)
        loss = nll_loss(joint.transpose(1, 2), said, ignore_index=-1, reduction="none")
        embedded = p.embed(every).detach()
        density = torch.exp(-(embedded[:, None] - embedded).square().sum(2)).sum(1)
        weights = ANNOTATORS / density / (1 / density).sum()
        return (loss * weights).sum() / (said >= 0).sum()


def steps() -> None:
    """One forward and backward pass."""
    torch.manual_seed(0)
    x, said = torch.randn(BATCH, 64), torch.randint(0, CLASSES, (BATCH, ANNOTATORS))
    said[torch.rand(said.shape) < 0.8] = -1
    model = MaDL(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, CLASSES)), ANNOTATORS)
    dense = Dense(model.performance)

    def theirs() -> None:
        logits, features = model.perceive(x)
        dense(logits, features, said).backward()

    compare("a step of MaDL, 100 annotators", lambda: model.loss(x, said).backward(), theirs, REPETITIONS)


def tables() -> None:
    """Two hundred thousand labels."""
    g = torch.Generator().manual_seed(0)
    items, annotators = 50_000, 500
    truth = torch.randint(0, 4, (items,), generator=g)
    item = torch.arange(items).repeat_interleave(4)
    who = torch.randint(0, annotators, (len(item),), generator=g)
    skill = 0.3 + 0.65 * torch.rand(annotators, generator=g)
    wrong = (truth[item] + torch.randint(1, 4, (len(item),), generator=g)) % 4
    label = torch.where(torch.rand(len(item), generator=g) < skill[who], truth[item], wrong)
    if importlib.util.find_spec("crowdkit") is None:
        took = seconds(lambda: dawid_skene(item, who, label, items, annotators, 4, iterations=20, tolerance=-1))
        print(f"dawid_skene, 200,000 labels, 20 iterations: {took:.2f} s (crowd-kit is not installed)")
        return
    from crowdkit.aggregation import DawidSkene

    frame = pd.DataFrame({"task": item.numpy(), "worker": who.numpy(), "label": label.numpy()})
    found: dict[str, Tensor] = {}

    def ours() -> None:
        found["ours"] = dawid_skene(item, who, label, items, annotators, 4, iterations=20, tolerance=-1).labels

    def theirs() -> None:
        found["theirs"] = torch.from_numpy(DawidSkene(n_iter=20, tol=0).fit_predict(frame).sort_index().to_numpy())

    compare("dawid_skene, 200,000 labels, 20 iterations, beside crowd-kit", ours, theirs, 2)
    for name, labels in found.items():
        print(f"  {name}: {float((labels == truth).double().mean()):.4f} of the labels right")


if __name__ == "__main__":
    torch.set_num_threads(1)
    steps()
    tables()
