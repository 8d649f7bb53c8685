"""Every activation hands its output to several copies of the next stage (Daliparthi, 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from neurarium.models.branching._tree_of_stages import TreeOfStages
from neurarium.models.editing._editing import reset
from neurarium.training import copy_module

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU,
    nn.Softplus, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
)  # fmt: skip
LARGEST = 4096
"""Heads at most."""

Make = Callable[[], nn.Module]


class BranchingNetwork(TreeOfStages):
    """A network whose stages double, or more, behind each activation; every one of the ends has a head.

    Stage s stands N_1 N_2 ... N_s times with weights of its own, each copy behind an activation of its own. Train all
    heads by their mean loss (`neurarium.objectives.heads_loss`), then keep one `path`, as large and as fast as the
    network without branches, or let all heads vote (`neurarium.objectives.combine`). With ReLU the copies differ by
    their initial weights alone; with a PReLU for each, by their slopes too.

    Args:
        stages: what makes each stage, from the input on; called once for every copy.
        head: makes a head, from the last stage's output to the network's.
        branches: N behind every stage but the last, or for each of them; 1 does not branch there.
        activation: makes the activations between stages.

    Raises:
        ValueError: fewer than two stages, numbers of branches that do not fit, or more than 4,096 heads.
    """

    def __init__(
        self,
        stages: Sequence[Make],
        head: Make,
        branches: int | Sequence[int] = 2,
        activation: Make = nn.ReLU,
    ) -> None:
        counts = _counts(branches, len(stages) - 1)
        levels = [[stages[0]()]]
        for make, number in zip(stages[1:], counts, strict=True):
            levels.append([nn.Sequential(activation(), *_parts(make())) for _ in range(number * len(levels[-1]))])
        levels[-1] = [nn.Sequential(*_parts(stage), *_parts(head())) for stage in levels[-1]]
        super().__init__(levels)
        self.branches = counts


def branching(
    model: nn.Module, at: Sequence[str] | int, branches: int | Sequence[int] = 2, *, generator: torch.Generator
) -> TreeOfStages:
    """A user's network cut behind some activations, with copies of all that follows each.

    The first head's path keeps the weights as they are. The other copies draw theirs anew, by the ``reset_parameters``
    of their layers, so that they can differ: copies alike stay alike for ever.

    Args:
        model: layers in a row; rows in it are opened. Left as it is.
        at: names of activations, from first to last, or how many of the last ones at most; the activation itself is
            part of each copy.
        branches: copies behind each, or for each.
        generator: of the new weights.

    Raises:
        ValueError: no network in a row; an activation that is not there, comes twice or out of order, stands first, or
            has nothing behind it; a copy whose weights no layer knows how to draw.
    """
    if type(model).forward is not nn.Sequential.forward:
        raise ValueError(f"model must be layers in a row (torch.nn.Sequential), not a {type(model).__name__}")
    rows = dict(_rows(model))
    names = list(rows)
    if isinstance(at, int):
        inner = [name for name in names[1:-1] if isinstance(rows[name], ACTIVATIONS)]
        if at < 1 or not inner:
            raise ValueError(
                f"at must be 1 or more, and {len(inner)} activations were found between layers; it is {at}"
            )
        at = inner[-at:]
    unknown = next((name for name in at if name not in rows), None)
    if unknown is not None or not at:
        raise ValueError(f"at must name layers among {', '.join(names)}, not {unknown or 'none'}")
    cuts = [names.index(name) for name in at]
    if cuts != sorted(set(cuts)) or cuts[0] == 0 or cuts[-1] == len(names) - 1:
        raise ValueError(f"at must name layers in order, each once, neither the first nor the last, not {list(at)}")
    counts = _counts(branches, len(cuts))
    copied = [copy_module(layer) for layer in rows.values()]
    pieces = [copied[i:j] for i, j in zip([0, *cuts], [*cuts, len(copied)], strict=True)]
    levels = [[nn.Sequential(*pieces[0])]]
    # Layers draw their weights from torch's own generator, which is put back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for piece, number in zip(pieces[1:], counts, strict=True):
            first, total = nn.Sequential(*piece), number * len(levels[-1])
            levels.append([first, *[_drawn(copy_module(first)) for _ in range(total - 1)]])
    return TreeOfStages(levels).train(model.training)


def _drawn(stage: nn.Sequential) -> nn.Sequential:
    stuck = next(
        (type(m).__name__ for m in stage.modules() if m._parameters and not hasattr(m, "reset_parameters")), None
    )
    if stuck is not None:
        raise ValueError(f"{stuck} has weights and no reset_parameters(), so that a copy would stay like the first")
    # Drawn on the CPU in single precision: the same weights whatever the device and type of the network.
    drawn = reset(copy_module(stage).cpu().float()).state_dict()
    stage.load_state_dict(drawn)
    return stage


def _rows(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Layers of rows in rows, by their qualified names."""
    for key, child in model.named_children():
        at = f"{name}.{key}" if name else key
        if type(child) is nn.Sequential:
            yield from _rows(child, at)
        else:
            yield at, child


def _counts(branches: int | Sequence[int], levels: int) -> tuple[int, ...]:
    """N of each level."""
    if levels < 1:
        raise ValueError("stages must be two at least: branches stand between them")
    counts = (branches,) * levels if isinstance(branches, int) else tuple(branches)
    if len(counts) != levels:
        raise ValueError(f"branches must be one number, or {levels}, one behind each stage but the last: {counts}")
    if min(counts) < 1:
        raise ValueError(f"branches must be 1 at least, not {min(counts)}")
    if math.prod(counts) > LARGEST:
        raise ValueError(f"branches {counts} make {math.prod(counts):,} heads, more than {LARGEST:,}")
    return counts


def _parts(module: nn.Module) -> list[nn.Module]:
    """The members of a plain row, so that a path is one row."""
    return list(module) if type(module) is nn.Sequential else [module]
