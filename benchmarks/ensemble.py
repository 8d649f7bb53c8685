"""Training many copies of a network stacked, against one after the other.

Run: python benchmarks/ensemble.py
"""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.models import NTKMLP
from neurarium.training import train_ensemble

STEPS = 30


def one_by_one(build, loader, loss, optimizer, members: int) -> None:  # type: ignore[no-untyped-def]
    """A loop over modules, as anyone would write it."""
    for member in range(members):
        torch.manual_seed(member)
        model = build()
        step = optimizer(model.parameters())
        for _ in range(STEPS):
            for x, y in loader:
                step.zero_grad()
                loss(model(x), y).backward()
                step.step()


def main() -> None:
    torch.set_num_threads(1)
    digits = (torch.randn(64, 64), torch.arange(64) % 10)
    cases = {
        "permutations, 8-64-8": (lambda: NTKMLP(8, 64, 8), (torch.eye(8), torch.eye(8)), nn.MSELoss(), 256),
        "permutations, 8-2048-8": (lambda: NTKMLP(8, 2048, 8), (torch.eye(8), torch.eye(8)), nn.MSELoss(), 64),
        "digits, 64-32-10": (
            lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), digits, cross_entropy, 64,
        ),
    }  # fmt: skip

    def sgd(parameters):  # type: ignore[no-untyped-def]
        return torch.optim.SGD(parameters, 0.1)

    print(f"{'network':26}{'one by one':>12}{'stacked':>10}{'ratio':>8}   ({STEPS} steps, ms per network)")
    for name, (build, batch, loss, members) in cases.items():
        times = []
        for stacked in (False, True, False, True):  # the first pair warms up
            start = time.process_time()
            if stacked:
                for _ in train_ensemble(build, [batch], loss, sgd, members=members, steps=STEPS, chunk=16):
                    pass
            else:
                one_by_one(build, [batch], loss, sgd, members)
            times.append(1000 * (time.process_time() - start) / members)
        print(f"{name:26}{times[2]:12.2f}{times[3]:10.2f}{times[2] / times[3]:8.1f}")


if __name__ == "__main__":
    main()
