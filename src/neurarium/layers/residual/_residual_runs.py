"""Runs of residual blocks in somebody's network, and exchanging them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from neurarium.layers.residual._parallel_residual import Increment
from neurarium.layers.residual._residual import PostNormResidual, Residual
from neurarium.layers.residual._rezero import ReZero
from neurarium.layers.residual._rezero_convert import RESIDUAL_BLOCKS, ScaledBranch
from neurarium.training import select_modules
from neurarium.training._naming import Choice

Children = dict[str, nn.Module | None]
LOOKED_FOR = "Residual, ReZero, pre-norm torch.nn.TransformerEncoderLayer, PreActBlock, PreActBottleneck"


@dataclass(frozen=True)
class ResidualRun:
    """Residual blocks that follow one another.

    Args:
        container: qualified name of the `Sequential` or `ModuleList` that they stand in.
        keys: their names in it.
        blocks: the blocks.
    """

    container: str
    keys: tuple[str, ...]
    blocks: tuple[nn.Module, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Their qualified names."""
        return tuple(join(self.container, key) for key in self.keys)

    @property
    def branches(self) -> list[nn.Module]:
        """What each adds to its input."""
        return [branch_of(block) for block in self.blocks]


def branch_of(block: nn.Module) -> nn.Module:
    """f of a block that computes x + f(x): its branch where that is a module of its own, else ``block(x) - x``."""
    if not (block._forward_hooks or block._forward_pre_hooks):  # which a branch alone would lose
        if type(block) is Residual and not block.relu:
            return block.branch  # type: ignore[return-value]
        if type(block) is ReZero:
            return ScaledBranch(block.branch, block.alpha)
    return Increment(block)


def block_of(branch: nn.Module) -> nn.Module:
    """The block that `branch_of` took a branch from."""
    if isinstance(branch, Increment):
        return branch.block
    if isinstance(branch, ScaledBranch):
        return ReZero(branch.branch, branch.alpha).train(branch.training)
    return Residual(branch).train(branch.training)


def find_runs(model: nn.Module, blocks: Choice | None = None) -> tuple[list[ResidualRun], dict[str, str]]:
    """Runs of two and more residual blocks, none inside another.

    Args:
        model: any module.
        blocks: names, patterns or kinds of the blocks; by default those that are known to compute x + f(x).

    Returns:
        The runs, and the name of every other block -> why it is in none.
    """
    chosen = None if blocks is None else {id(m) for m in select_modules(model, blocks, argument="blocks").values()}
    runs: list[ResidualRun] = []
    skipped: dict[str, str] = {}

    def is_block(name: str, module: nn.Module) -> bool:
        if chosen is not None:
            return id(module) in chosen
        why = _why_none(module)
        if why:
            skipped[name] = why
        return why == ""

    def visit(name: str, module: nn.Module) -> None:
        ordered = in_order(module)
        group: list[tuple[str, nn.Module]] = []

        def close() -> None:
            if len(group) > 1:
                runs.append(ResidualRun(name, tuple(k for k, _ in group), tuple(m for _, m in group)))
            for key, block in group if len(group) == 1 else ():
                at = join(name, key)
                skipped[at] = "stands alone, with no residual block before or behind it"
                visit(at, block)
            group.clear()

        for key, child in module._modules.items():
            if child is None:
                continue
            at = join(name, key)
            if not is_block(at, child):
                close()
                visit(at, child)
            elif not ordered:
                skipped[at] = f"stands in a {type(module).__name__}, which may call its parts in any order"
                visit(at, child)
            elif isinstance(child, nn.TransformerEncoderLayer) and _in_encoder(model, name):
                skipped[at] = "torch.nn.TransformerEncoder reads its layers' attention; put the layers in a Sequential"
            else:
                group.append((key, child))
        close()

    visit("", model)
    return runs, skipped


def exchange(model: nn.Module, new: Callable[[str, nn.Module, Children], Children]) -> nn.Module:
    """The model with other children in some modules; what is not on the way to one of these is the same object.

    Args:
        model: left as it is.
        new: ``new(name, module, children)``: what a module's children are from now on, given those of before with all
            exchanges inside them made. It gives back the same where there is nothing to do.
    """
    made: dict[int, nn.Module] = {}

    def rebuilt(name: str, module: nn.Module) -> nn.Module:
        if id(module) in made:
            return made[id(module)]
        inner = {key: child and rebuilt(join(name, key), child) for key, child in module._modules.items()}
        children = new(name, module, inner)
        same = list(children) == list(module._modules) and all(c is module._modules[k] for k, c in children.items())
        made[id(module)] = module if same else copy.copy(module)
        if not same:
            counted = all(key.isdecimal() for key in children)
            named = enumerate(children.values()) if counted else children.items()
            made[id(module)]._modules = {str(key): child for key, child in named}
        return made[id(module)]

    return rebuilt("", model)


def join(name: str, key: str) -> str:
    """The qualified name of a child."""
    return f"{name}.{key}" if name else key


def in_order(module: nn.Module) -> bool:
    """Whether a module's children are called one after the other, as far as one can tell."""
    return isinstance(module, nn.ModuleList) or type(module).forward is nn.Sequential.forward


def _in_encoder(model: nn.Module, name: str) -> bool:
    owner = name.rpartition(".")[0]
    return bool(name) and isinstance(model.get_submodule(owner), nn.TransformerEncoder)


def _why_none(module: nn.Module) -> str | None:
    """Empty for a block x + f(x) of a known kind; why a residual block is none; None for anything else."""
    if isinstance(module, PostNormResidual) or (isinstance(module, Residual) and module.relu):
        return "has a norm or a ReLU behind its sum; name it in blocks to take block(x) - x for its branch"
    if isinstance(module, nn.TransformerEncoderLayer):
        return "" if module.norm_first else "is post-norm; name it in blocks to take block(x) - x for its branch"
    parts, _ = RESIDUAL_BLOCKS.get(type(module).__name__, ((), ""))
    if parts and all(hasattr(module, part) for part in parts):
        if not type(module).__name__.startswith("PreAct"):
            return "has a ReLU behind its sum; name it in blocks to take block(x) - x for its branch"
        strides = {getattr(m, "stride", (1,)) for m in module.modules() if isinstance(m, nn.Conv2d)}
        around = any(getattr(module, name, None) for name in ("downsample", "shortcut"))
        return "changes the shape on its way around" if around or strides != {(1, 1)} else ""
    return "" if isinstance(module, (Residual, ReZero)) else None
