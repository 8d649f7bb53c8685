"""The largest eigenvalue of a Hessian: Lanczos' method against power iteration as in PyHessian, side by side.

Both get fresh ReLU networks, 512 images and the same tolerance. Prints Hessian-vector products, time and the relative
error against a Lanczos run of far smaller tolerance. Run: python benchmarks/sharpness.py
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import load
from neurarium.models import plain_mlp
from neurarium.probes import sharpness

TOLERANCE, IMAGES = 1e-3, 512


def power_iteration(model: nn.Module, x: Tensor, y: Tensor, most: int = 100) -> tuple[float, int]:
    """The eigenvalue of largest magnitude and the products it took."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(cross_entropy(model(x), y), parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradients])
    v = torch.randn(len(flat))
    v /= v.norm()
    value = 0.0
    for count in range(1, most + 1):
        found = torch.autograd.grad(flat, parameters, v, retain_graph=True)
        w = torch.cat([h.flatten() for h in found])
        before, value = value, float(w @ v)
        v = w / w.norm()
        if count > 1 and abs(value - before) / (abs(before) + 1e-6) < TOLERANCE:
            break
    return value, count


def main() -> None:
    """Print both for three networks."""
    torch.set_num_threads(1)
    train = load("mnist-small").scaled().flat().train[:IMAGES]
    for depth, width in ((2, 64), (4, 128), (8, 256)):
        model = plain_mlp(784, 10, depth=depth, width=width, generator=torch.Generator().manual_seed(0))
        true = sharpness(model, cross_entropy, train.x, train.y, tolerance=1e-9).largest
        start = time.perf_counter()
        torch.manual_seed(1)
        theirs, products = power_iteration(model, train.x, train.y)
        middle = time.perf_counter()
        ours = sharpness(model, cross_entropy, train.x, train.y, tolerance=TOLERANCE)
        end = time.perf_counter()
        print(
            f"{depth} x {width}: power iteration {products} products, {middle - start:.2f} s, error "
            f"{abs(theirs / true - 1):.0e}; ours {ours.products}, {end - middle:.2f} s, error "
            f"{abs(ours.largest / true - 1):.0e}; products {products / ours.products:.1f} : 1"
        )


if __name__ == "__main__":
    main()
