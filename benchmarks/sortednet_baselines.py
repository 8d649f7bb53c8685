"""Other ways to train a family of networks: heads of their own, batches of their own, a line of weights.

The study's network and family (a residual network, 16 widths x 3 depths) on 6,000 images of MNIST. The line is the
structured-pruning form of learnt compressible subspaces (Nunez et al., 2021): two sets of weights, a member's are a
point between them by its width, and the first units of that point are its truncation; it stores twice the weights. In
all arms two members are drawn per step, uniformly; seeds, first weights and batches are the same. ``own batches`` gets
the same batches of 64 and gives each member half of them; ``own batches of 64`` gets batches of 128, so that it takes
half as many steps. Printed are means over three seeds; about five minutes on one core.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.compression import BranchedNet, SortedNet, SubNetwork
from neurarium.data import Batches, load
from neurarium.models import sliced
from neurarium.studies.compression.sortednet import STUDY, ResidualMlp, Settings, train
from neurarium.training import evaluate


class LineNet(SortedNet):
    """A `SortedNet` whose members of width w live at the point w of the line from ``ends`` (0) to the model (1)."""

    def __init__(self, model: nn.Module, example: Any, widths: tuple[float, ...], **options: Any) -> None:
        super().__init__(model, example, widths, **options)
        self.ends = copy.deepcopy(model)
        for module in self.ends.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()  # the ends of a line start apart

    @contextmanager
    def at(self, width: float | SubNetwork = 1.0, depth: int | None = None) -> Iterator[nn.Module]:
        """The truncation of a point between the two sets of weights."""
        with self._trained(self.member(width, depth)):
            yield self.model

    @contextmanager
    def _trained(self, sub: SubNetwork) -> Iterator[None]:
        low = min(s.width for s in self.family)
        share = (sub.width - low) / (1 - low)
        others = dict(self.ends.named_parameters())
        kept = []
        for name, whole in list(self.model.named_parameters()):
            owner, _, key = name.rpartition(".")
            table = self.model.get_submodule(owner)._parameters
            kept.append((table, key, whole))
            table[key] = torch.lerp(others[name], whole, share)  # type: ignore[assignment]
        try:
            with sliced(self.model, self.architecture, self._units(sub), **self._rest(sub)):
                yield
        finally:
            for table, key, whole in kept:
                table[key] = whole


def family(name: str, settings: Settings, seed: int, example: Tensor) -> SortedNet:
    """The network of an arm."""
    torch.manual_seed(seed)
    widths = tuple((k + 1) / settings.widths for k in range(settings.widths))
    depths = tuple(range(1, settings.depth + 1))
    options = {"depths": depths, "blocks": "blocks", "generator": torch.Generator().manual_seed(seed)}
    model = ResidualMlp(settings.units, settings.depth)
    if name == "line":
        return LineNet(model, example, widths, **options)
    return BranchedNet(
        model, example, widths, heads="head" if name == "own heads" else "", same_batch="batches" not in name, **options
    )


def accuracies(net: SortedNet, loader: Batches) -> dict[SubNetwork, float]:
    """Of every member, as a truncation."""
    found = {}
    net.eval()
    for sub in net.family:
        with torch.no_grad(), net.at(sub):
            found[sub] = evaluate(net.model, loader)
    return found


def main() -> None:
    """Print a line per arm."""
    torch.set_num_threads(1)
    quick = "--quick" in sys.argv
    settings = STUDY.settings("sorted", "smoke" if quick else "small")
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(1 if quick else 3):
        split = load(settings.data).scaled()
        images = split.train.subset(settings.images, seed)
        test = Batches(split.test[: settings.test_images], 1000)
        for name in ("sorted", "own heads", "line", "own batches", "own batches of 64"):
            net = family(name, settings, seed, images.x[:1])
            size = settings.batch_size * (2 if name.endswith("64") else 1)
            start = time.perf_counter()
            train(settings, net, Batches(images, size, shuffle=True, seed=seed))
            seconds = time.perf_counter() - start
            at = accuracies(net, test)
            rows.setdefault(name, []).append({
                "family": mean(at.values()), "whole": at[net.full], "narrowest": mean(
                    accuracy for sub, accuracy in at.items() if sub.width == net.family[0].width
                ),
                "one block": mean(accuracy for sub, accuracy in at.items() if sub.depth == 1),
                "seconds": seconds, "parameters": sum(p.numel() for p in net.parameters()),
            })  # fmt: skip
    columns = ("family", "whole", "narrowest", "one block")
    print(f"{'':20}" + "".join(f"{column:>12}" for column in columns) + f"{'seconds':>10}{'parameters':>13}")
    for name, found in rows.items():
        told = "".join(f"{mean(row[column] for row in found):12.1%}" for column in columns)
        print(f"{name:20}{told}{mean(row['seconds'] for row in found):10.1f}{found[0]['parameters']:13,.0f}")
        if name != "sorted":
            paired = [a["family"] - b["family"] for a, b in zip(found, rows["sorted"], strict=True)]
            print(f"{'':20}family against sorted, by seed: " + ", ".join(f"{100 * d:+.1f}" for d in paired))


if __name__ == "__main__":
    main()
