"""Outputs of a model's inner layers, taken by hooks during a forward pass that somebody else makes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

COMPUTING = (
    nn.Linear, nn.modules.conv._ConvNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.LayerNorm, nn.RNNBase,
    nn.MultiheadAttention,
)  # fmt: skip
"""Kinds of modules that hold computation: what is tapped by default."""


class Taps:
    """Keeps the output of chosen modules at every forward pass, in the order in which they are used.

    Recurrent layers and attention give their output sequence, examples first, whatever their ``batch_first``. Where a
    module is used several times in one pass the last output is kept. The network goes on with a copy, so that an
    in-place operation that follows (``nn.ReLU(inplace=True)``) does not change what is kept.

    Args:
        model: any module.
        layers: names of modules (as `named_modules` gives them); by default all that hold computation: linear,
            convolutional, adaptive average pooling, layer norm, recurrent, attention.

    Raises:
        ValueError: a name is unknown or there twice, or nothing can be tapped.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str] | None = None) -> None:
        modules = dict(model.named_modules())
        if layers is None:
            layers = [name for name, module in modules.items() if isinstance(module, COMPUTING) and name]
            inside = [n for n, m in modules.items() if isinstance(m, nn.MultiheadAttention)]
            layers = [name for name in layers if not any(name.startswith(f"{outer}.") for outer in inside)]
        if not layers:
            raise ValueError("the model has no layer to tap; name some in layers")
        for name in layers:
            if name not in modules:
                near = difflib.get_close_matches(name, modules, n=1, cutoff=0.0)
                raise ValueError(f"the model has no layer {name!r}; did you mean {near[0]!r}?")
        if len(set(layers)) < len(layers):
            raise ValueError(f"layers names {next(n for n in layers if list(layers).count(n) > 1)!r} twice")
        self.outputs: dict[str, Tensor] = {}
        self._modules = {name: modules[name] for name in layers}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Taps:
        def keep(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
                self.outputs.pop(name, None)  # so that the order is that of the last pass
                self.outputs[name] = _examples_first(module, output)
                return _copied(output)

            return hook

        self._handles = [module.register_forward_hook(keep(name)) for name, module in self._modules.items()]
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.outputs = {}


def _copied(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.clone()
    if type(output) in (tuple, list):
        return type(output)(map(_copied, output))
    return output  # an object of the user's, whose parts nothing changes in place


def _examples_first(module: nn.Module, output: Any) -> Tensor:
    tensor = output if isinstance(output, Tensor) else output[0]
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"a tapped module must give a tensor first, but {type(module).__name__} gave {type(tensor).__name__}"
        )
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and not module.batch_first and tensor.dim() == 3:
        tensor = tensor.transpose(0, 1)
    return tensor
