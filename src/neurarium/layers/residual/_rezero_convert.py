"""`rezero_`: give a residual network that already exists its zero-initialised scalars, in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from neurarium.layers._conversion import Conversion, swap
from neurarium.layers.residual._rezero import ReZeroModule
from neurarium.layers.residual._rezero_transformer import ReZeroTransformerDecoderLayer, ReZeroTransformerEncoderLayer
from neurarium.training import replace_module

Blocks = Mapping[type[nn.Module] | str, str | Sequence[str]]
"""Block type or qualified name -> the submodule(s) whose output is added to the skip path."""

TRANSFORMER_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

# Class name -> (submodules that the block must have, the last module of its branch).
RESIDUAL_BLOCKS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "BasicBlock": (("conv1", "bn1", "conv2", "bn2"), "bn2"),
    "Bottleneck": (("conv1", "bn1", "conv2", "bn2", "conv3", "bn3"), "bn3"),
    "PreActBlock": (("bn1", "conv1", "bn2", "conv2"), "conv2"),
    "PreActBottleneck": (("bn1", "conv1", "bn2", "conv2", "bn3", "conv3"), "conv3"),
}


class ScaledBranch(ReZeroModule):
    """``alpha * branch(x)``: the end of a branch whose sum with the skip path is written elsewhere.

    Args:
        branch: the last module of a residual branch.
        alpha: a scalar to share; a new zero by default.
    """

    def __init__(self, branch: nn.Module, alpha: nn.Parameter | None = None) -> None:
        like = next(branch.parameters(), None)
        super().__init__(
            alpha, device=None if like is None else like.device, dtype=None if like is None else like.dtype
        )
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """The branch's output, scaled."""
        return self.alpha * self.branch(x)


@dataclass(frozen=True)
class ReZeroConversion(Conversion):
    """What `rezero_` did.

    Args:
        model: the network.
        changed: qualified name of a block that has a scalar now -> what was there.
        skipped: name of a block that has none -> why.
        removed: qualified names of the norms taken out.
    """

    removed: tuple[str, ...] = ()

    def summary(self) -> str:
        """As `Conversion.summary`, with the number of norms."""
        return f"{super().summary()}\n{len(self.removed)} norms removed"


def rezero_(model: nn.Module, blocks: Blocks | None = None, *, remove_norms: bool = False) -> ReZeroConversion:
    """Insert a scalar that starts at zero into every residual block of a model, in place.

    Finds torch's transformer encoder and decoder layers (one scalar per layer, shared by its branches), blocks of
    the names and submodules that ResNets use (`RESIDUAL_BLOCKS`), and whatever ``blocks`` names. Weights are kept. Make
    the optimizer after the conversion, and keep weight decay off the scalars (`parameter_groups`).

    Args:
        model: the network.
        blocks: further blocks: type or qualified name -> name of the submodule whose output is added to the skip path
            (several names share one scalar). ``{MyBlock: "fc2"}``.
        remove_norms: take the norms inside the converted blocks out. Needed for post-norm transformer layers, where
            the norm sits on the skip path. Convolutional blocks may keep theirs (section 4).

    Returns:
        What was changed and what was not, and why. A subclass of torch's layers with a ``forward`` of its own is left.

    Raises:
        ValueError: no block was changed; the message lists what was looked for. Or ``blocks`` names what is not
            there.
    """
    chosen = _chosen(dict(model.named_modules()), blocks or {})
    removed: list[str] = []

    def replacement(name: str, module: nn.Module) -> nn.Module | str | None:
        if isinstance(module, TRANSFORMER_LAYERS):
            if not name:
                return "a bare transformer layer cannot be replaced in place; put it in a container"
            if not module.norm_first and not remove_norms:
                return "its norms come after the sum (post-norm), on the skip path; pass remove_norms=True"
            if remove_norms:
                removed.extend(f"{name}.{part}" for part in _norm_names(module))
            return _transformer_layer(module, keep_norms=not remove_norms)
        if module not in chosen:
            return None
        ends = chosen[module]
        if any(isinstance(module.get_submodule(end), ReZeroModule) for end in ends):
            return "has its scalar already"
        if remove_norms:
            for part in _norm_names(module):
                replace_module(module, part, nn.Identity())
                removed.append(f"{name}.{part}" if name else part)
        _scale(module, ends)
        return module

    done = swap(
        model, (*TRANSFORMER_LAYERS, nn.Module), replacement, inplace=True,
        looked_for=f"torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer, {', '.join(RESIDUAL_BLOCKS)} "
        f"and {len(blocks or {})} named in blocks={{BlockType: 'last submodule of the branch'}}",
    )  # fmt: skip
    return ReZeroConversion(done.model, done.changed, done.skipped, tuple(removed))


def _chosen(named: Mapping[str, nn.Module], blocks: Blocks) -> dict[nn.Module, tuple[str, ...]]:
    """Blocks of the registry and of the caller, each with the ends of its branches."""
    chosen: dict[nn.Module, tuple[str, ...]] = {}
    for module in named.values():
        parts, end = RESIDUAL_BLOCKS.get(type(module).__name__, ((), ""))
        if parts and all(hasattr(module, part) for part in parts):
            chosen[module] = (end,)
    for key, value in blocks.items():
        ends = (value,) if isinstance(value, str) else tuple(value)
        if isinstance(key, str):
            matches = [named[key]] if key in named else []
        else:
            matches = [module for module in named.values() if isinstance(module, key)]
        if not matches:
            raise ValueError(f"blocks: the model has no {key if isinstance(key, str) else key.__name__!r}")
        for module in matches:
            children = dict(module.named_modules())
            for end in ends:
                if end not in children or not end:
                    raise ValueError(f"blocks: {type(module).__name__} has no submodule {end!r}")
            chosen[module] = ends
    return chosen


def _scale(block: nn.Module, ends: Sequence[str]) -> None:
    alpha: nn.Parameter | None = None
    for end in ends:
        scaled = ScaledBranch(block.get_submodule(end), alpha)
        if alpha is None:
            like = next(block.parameters(), None)  # the last module may be a dropout, without a device of its own
            scaled.alpha.data = scaled.alpha.data if like is None else scaled.alpha.data.to(like.device, like.dtype)
        alpha = scaled.alpha
        replace_module(block, end, scaled)


def _norm_names(block: nn.Module) -> Iterator[str]:
    return iter([name for name, module in block.named_modules() if isinstance(module, NORMS) and name])


def _transformer_layer(
    layer: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer, keep_norms: bool
) -> ReZeroTransformerEncoderLayer | ReZeroTransformerDecoderLayer:
    """The same layer in ReZero form, holding the original's submodules."""
    kind = (
        ReZeroTransformerEncoderLayer
        if isinstance(layer, nn.TransformerEncoderLayer)
        else ReZeroTransformerDecoderLayer
    )
    weight = layer.linear1.weight
    new = kind(layer.self_attn.embed_dim, layer.self_attn.num_heads, 1, device="meta", dtype=weight.dtype)
    for name, child in layer.named_children():
        if name.startswith("norm") and not keep_norms:
            continue
        setattr(new, name, child)
    new.activation = layer.activation
    new.alpha = nn.Parameter(weight.new_zeros(1))
    return new
