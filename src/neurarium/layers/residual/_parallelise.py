"""A network's residual stacks turned into broad layers, and back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from neurarium.layers._conversion import Conversion
from neurarium.layers.residual._broad_residual import BroadResidual
from neurarium.layers.residual._parallel_residual import ParallelResidual
from neurarium.layers.residual._residual_runs import LOOKED_FOR, Children, block_of, exchange, find_runs, in_order, join
from neurarium.layers.residual._rezero import ReZero
from neurarium.layers.residual._truncated_residual import TruncatedResidual
from neurarium.training import copy_module
from neurarium.training._naming import Choice


@dataclass(frozen=True)
class Parallelisation(Conversion):
    """What `parallelise` or `sequentialise` did.

    Args:
        model: the network.
        changed: qualified name of a new module -> what was there.
        skipped: name of a residual block that was left -> why.
        runs: the names, before, of the modules that each change took in.
    """

    runs: tuple[tuple[str, ...], ...] = ()


def parallelise(
    model: nn.Module,
    blocks: Choice | None = None,
    *,
    order: int = 1,
    scale: float | None = None,
    fuse: bool = False,
    share: bool = False,
) -> Parallelisation:
    """Turn every run of residual blocks into one block in which all branches read the run's input.

    Finds blocks x + f(x) that follow one another in a `Sequential` or a `ModuleList`: `Residual`, `ReZero`, pre-norm
    transformer layers of torch's, pre-activated blocks of the usual names; whatever else ``blocks`` names joins in with
    block(x) - x for its branch (blocks with a norm or a ReLU behind the sum, ResNets' own). The new network has the
    same parameters and is another function: train it, or train it on.

    Args:
        model: any module.
        blocks: names, patterns or kinds of the blocks, for those that are not found by themselves. Each must keep the
            shape of its input.
        order: 1 for `ParallelResidual`; 2 adds the products of two (`TruncatedResidual`).
        scale: start of a learnable factor for each branch; none by default.
        fuse: one wide layer where the branches are alike (`BroadResidual`).
        share: the new network holds the old one's own layers, and both train them; a copy by default.

    Returns:
        The network, what was found and what was left.

    Raises:
        ValueError: no run of two blocks; branches that cannot be fused; or ``fuse`` with an order, a scale or sharing.
    """
    if fuse and (order != 1 or scale is not None or share):
        raise ValueError("fuse makes one wide layer with parameters of its own: it needs order 1, no scale, no sharing")
    model = model if share else copy_module(model)
    runs, skipped = find_runs(model, blocks)
    if not runs:
        reasons = "".join(f"; {name}: {why}" for name, why in skipped.items())
        raise ValueError(
            f"nothing to run in parallel in {type(model).__name__}: looked for two or more of {LOOKED_FOR} one behind "
            f"the other, or of what blocks names{reasons}"
        )
    made: dict[int, str] = {}

    def merged(name: str, module: nn.Module, children: Children) -> Children:
        for run in runs:
            if run.container == name:
                new = _together(run.branches, order, scale, fuse).train(run.blocks[0].training)
                made[id(new)] = f"{len(run.keys)} blocks: {', '.join(run.names)}"
                children = {k: new if k == run.keys[0] else c for k, c in children.items() if k not in run.keys[1:]}
        return children

    found = exchange(model, merged)
    changed = {name: made[id(module)] for name, module in found.named_modules() if id(module) in made}
    return Parallelisation(found, changed, skipped, tuple(run.names for run in runs))


def sequentialise(model: nn.Module, *, share: bool = False) -> Parallelisation:
    """The way back: every parallel, broad or truncated block as residual blocks one behind the other.

    Args:
        model: any module.
        share: the new network holds the old one's own layers; a copy by default.

    Raises:
        ValueError: there is none.
    """
    model = model if share else copy_module(model)
    changed: dict[str, str] = {}

    def apart(name: str, module: nn.Module, children: Children) -> Children:
        found: Children = {}
        for key, child in children.items():
            if not isinstance(child, (ParallelResidual, BroadResidual)):
                found[key] = child
                continue
            changed[join(name, key)] = type(child).__name__
            blocks = _blocks(child)
            if in_order(module):
                # Numbers that are taken for the moment; where all names are numbers they are counted anew.
                found |= {
                    f"{key}{index:04d}" if key.isdecimal() else f"{key}_{index}": b for index, b in enumerate(blocks)
                }
            else:
                found[key] = nn.Sequential(*blocks)
        return found

    whole = exchange(model, apart)
    if isinstance(whole, (ParallelResidual, BroadResidual)):
        changed[""] = type(whole).__name__
        whole = nn.Sequential(*_blocks(whole))
    if not changed:
        raise ValueError(f"nothing to take apart in {type(model).__name__}: no ParallelResidual or BroadResidual in it")
    return Parallelisation(whole, changed, {}, tuple((name,) for name in changed))


def _together(branches: list[nn.Module], order: int, scale: float | None, fuse: bool) -> nn.Module:
    if fuse:
        return BroadResidual.fuse(branches)
    if order == 1:
        return ParallelResidual(*branches, scale=scale)
    return TruncatedResidual(*branches, order=order, scale=scale)


def _blocks(module: ParallelResidual | BroadResidual) -> list[nn.Module]:
    """A residual block for each branch, with its factor if it has one."""
    parallel = module.unfuse() if isinstance(module, BroadResidual) else module
    if parallel.scale is None:
        return [block_of(branch).train(module.training) for branch in parallel.branches]
    factors = parallel.scale.detach().clone().unsqueeze(1)
    return [
        ReZero(branch, nn.Parameter(factor)).train(module.training)
        for branch, factor in zip(parallel.branches, factors, strict=True)
    ]
