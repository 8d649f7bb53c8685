"""The units of a network as columns of samples: which layers, which dimension, which positions.

A unit is a channel of a convolutional map, a feature of a dense layer, a hidden feature of a token. A sample is one
input at one position.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

INPUT = ":input"
"""Behind a layer's name: what enters the layer, not what leaves it."""

_CHANNELS_SECOND = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm)
_COMPUTING = (nn.Linear, nn.modules.conv._ConvNd)
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softplus, nn.Softsign,
    nn.Threshold, nn.Hardshrink,
)  # fmt: skip


def unit_layers(model: nn.Module) -> list[str]:
    """The layers to look at where none are named: activation modules, or else linear and convolutional layers.

    Raises:
        ValueError: the model has neither.
    """
    for kinds in (_ACTIVATIONS, _COMPUTING):
        found = [name for name, module in model.named_modules() if isinstance(module, kinds) and name]
        if found:
            return found
    raise ValueError("the model has no activation, linear or convolutional layer; name modules in layers")


def run(model: nn.Module, batch: Any) -> Any:
    """Call the model on a batch: a tensor, a tuple whose first member is the input, or a mapping of arguments.

    A mapping is handed over as keyword arguments without ``labels``; tensors go to the device of the model.
    """
    device = next((p.device for p in model.parameters()), None)

    def moved(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) and device is not None else value

    if isinstance(batch, Mapping):
        return model(**{name: moved(value) for name, value in batch.items() if name != "labels"})
    return model(moved(batch[0] if isinstance(batch, (tuple, list)) else batch))


class _Seen(Exception):
    """Every layer asked for has given its output: ends the forward pass."""


class Units:
    """Reads the units of some layers, pass by pass; what lies behind the last of them is not computed.

    Args:
        model: any module, which should be in evaluation mode.
        layers: names of modules; ``"name:input"`` takes what enters a module instead of what leaves it.
        whole: compute what lies behind, too, and keep the model's output in ``output``.

    Raises:
        ValueError: a name is unknown or there twice.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], whole: bool = False) -> None:
        modules = dict(model.named_modules())
        for name in layers:
            if name.removesuffix(INPUT) not in modules:
                near = difflib.get_close_matches(name, modules, n=1, cutoff=0.0)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"the model has no layer {name!r}{hint}")
        if not layers or len(set(layers)) < len(layers):
            twice = next((name for name, count in Counter(layers).items() if count > 1), None)
            raise ValueError(f"layers names {twice!r} twice" if twice else "layers is empty")
        self.model, self.layers = model, tuple(layers)
        self._modules = {name: modules[name.removesuffix(INPUT)] for name in layers}
        self.whole, self.output = whole, None
        self._calls = 0  # of all tapped modules in one whole pass

    def read(self, batch: Any) -> dict[str, Tensor]:
        """The layers' tensors of one pass, in the order of ``layers``; of the last use, where a module is used often.

        Raises:
            ValueError: a layer was not used, or gives something else than a floating-point tensor.
        """
        found: dict[str, Tensor] = {}
        calls = 0

        def keep(name: str, value: Any) -> None:
            nonlocal calls
            found[name] = _tensor(name, self._modules[name], value)
            calls += 1
            if calls == self._calls:
                raise _Seen

        handles = []
        for name, module in self._modules.items():
            if name.endswith(INPUT):
                handle = module.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: keep(name, args or tuple(kwargs.values())), with_kwargs=True
                )
            else:
                handle = module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
            handles.append(handle)
        try:
            self.output = run(self.model, batch)
            if not self.whole:
                self.output, self._calls = None, self._calls or calls  # the first pass runs to its end and counts
        except _Seen:
            pass
        finally:
            for handle in handles:
                handle.remove()
        unused = [name for name in self.layers if name not in found]
        if unused:
            raise ValueError(f"the layer {unused[0]!r} is not used in the model's forward pass")
        return {name: found[name] for name in self.layers}

    def samples(self, batch: Any) -> dict[str, Float[Tensor, "batch units *positions"]]:
        """Like `read`, with the units in the second dimension."""
        return {name: units_second(value, self._modules[name]) for name, value in self.read(batch).items()}


def _tensor(name: str, module: nn.Module, value: Any) -> Tensor:
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    if isinstance(value, Mapping):  # a ModelOutput
        value = next(iter(value.values()))
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 2:
        raise ValueError(f"the layer {name!r} gives {type(value).__name__}, not a tensor of units for each example")
    recurrent = isinstance(module, (nn.RNNBase, nn.MultiheadAttention))
    if recurrent and not name.endswith(INPUT) and not module.batch_first and value.dim() == 3:
        value = value.transpose(0, 1)
    return value


def units_second(value: Tensor, module: nn.Module) -> Float[Tensor, "batch units *positions"]:
    """[batch, units] and maps as they are, tokens [batch, positions, units] with the units moved forward."""
    if value.dim() == 3 and not isinstance(module, _CHANNELS_SECOND):
        return value.transpose(1, 2)
    return value


def rows(
    value: Float[Tensor, "batch units positions"], keep: Bool[Tensor, "batch positions"] | None = None
) -> Float[Tensor, "samples units"]:
    """One row per example and position; those that ``keep`` marks, where given."""
    flat = value.transpose(1, 2)
    return flat.flatten(0, 1) if keep is None else flat[keep.to(flat.device)]


def resized(
    a: Float[Tensor, "batch units_a *pa"], b: Float[Tensor, "batch units_b *pb"]
) -> tuple[Float[Tensor, "batch units_a *p"], Float[Tensor, "batch units_b *p"]]:
    """Both maps at the larger of the two sizes, bilinearly (linearly for sequences).

    Raises:
        ValueError: one has positions and the other has none, or a different number of dimensions.
    """
    if a.shape[2:] == b.shape[2:]:
        return a, b
    if a.dim() != b.dim():
        raise ValueError(
            f"layers of shapes {tuple(a.shape)} and {tuple(b.shape)} have no common positions; use reduce='mean'"
        )
    size = tuple(max(m, n) for m, n in zip(a.shape[2:], b.shape[2:]))
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[a.dim()]

    def enlarged(x: Tensor) -> Tensor:
        return x if x.shape[2:] == size else F.interpolate(x, size, mode=mode, align_corners=False)

    return enlarged(a), enlarged(b)


def kept_tokens(batch: Any, exclude: Sequence[int]) -> Bool[Tensor, "batch positions"] | None:
    """Which positions of a batch of tokens count: no padding (``attention_mask``), none of the excluded ids."""
    if isinstance(batch, Mapping):
        tokens, mask = batch.get("input_ids"), batch.get("attention_mask")
    else:
        tokens, mask = (batch[0] if isinstance(batch, (tuple, list)) else batch), None
    keep = None if mask is None else mask.bool()
    if exclude:
        if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.dim() != 2:
            raise ValueError("exclude names token ids, so the batches must be token ids [batch, positions]")
        unwanted = torch.isin(tokens, torch.as_tensor(list(exclude), device=tokens.device))
        keep = ~unwanted if keep is None else keep & ~unwanted
    return keep


def tokens_of(batch: Any) -> Int[Tensor, "batch positions"]:
    """The token ids of a batch: a tensor, the first of a tuple, or ``input_ids`` of a mapping."""
    if isinstance(batch, Mapping):
        return batch["input_ids"]
    return batch[0] if isinstance(batch, (tuple, list)) else batch
