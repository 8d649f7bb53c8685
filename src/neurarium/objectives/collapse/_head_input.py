"""What enters a network's classifier: taken by hooks from forward passes that somebody else makes."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Loss = Callable[[Any, Tensor], Tensor]
FeaturePenalty = Callable[[Tensor, Tensor], Tensor]
"""``penalty(features [batch, features], target [batch]) -> scalar``."""


@dataclass(frozen=True)
class Call:
    """One use of a linear layer: its name, what entered and what came out."""

    name: str
    entered: Tensor
    left: Tensor


class HeadInput:
    """Keeps what entered the head at every forward pass while it is open as a context.

    Args:
        model: any module.
        layer: name of the submodule that is the head; by default whichever linear layer is used last.

    Raises:
        ValueError: an unknown layer, or a model without a linear layer where none is named.
    """

    def __init__(self, model: nn.Module, layer: str | None = None) -> None:
        modules = dict(model.named_modules())
        if layer is None:
            self._heads = {name: module for name, module in modules.items() if isinstance(module, nn.Linear)}
            if not self._heads:
                raise ValueError("the model has no linear layer; name its head in layer")
        elif layer not in modules:
            near = difflib.get_close_matches(layer, modules, n=1, cutoff=0.0)
            raise ValueError(f"the model has no layer {layer!r}; did you mean {near[0]!r}?")
        else:
            self._heads = {layer: modules[layer]}
        self.model = model
        self.calls: list[Call] = []
        """Uses of linear layers (or of the named one) in the last pass, in order."""
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> HeadInput:
        def begin(module: nn.Module, *_: Any) -> None:
            if module is self.model:  # not a copy, which carries the hook along
                self.calls = []

        def keep(name: str, module: nn.Module) -> Any:
            def hook(used: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
                entered = inputs[0] if inputs else next(iter(named.values()), None)
                if used is module and isinstance(entered, Tensor) and isinstance(output, Tensor):
                    self.calls.append(Call(name, entered, output))

            return hook

        self.calls = []
        self._handles = [self.model.register_forward_pre_hook(begin)] + [
            module.register_forward_hook(keep(name, module), with_kwargs=True) for name, module in self._heads.items()
        ]
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self.calls = [], []

    @property
    def features(self) -> Float[Tensor, "batch features"]:
        """What entered the head in the model's last forward pass, with its graph.

        Raises:
            RuntimeError: outside the context, or before the model was used.
            ValueError: the head takes something else than one vector per example.
        """
        if not self.calls:
            raise RuntimeError("features are there after a forward pass of the model inside the `with` block")
        call = self.calls[-1]
        if call.entered.dim() != 2:
            raise ValueError(
                f"layer {call.name!r} takes {list(call.entered.shape)}, not [batch, features]; name another in layer"
            )
        return call.entered


class FeatureLoss:
    """``loss(output, target) + penalty(features, target)``, where features are what entered the model's head.

    A learning rule takes it as its loss, so that one forward and one backward pass serve both terms:

    ```
    with FeatureLoss(model, cross_entropy, penalty) as loss:
        fit(Backprop(model, loss), loader, optimizer)
    ```

    The model must be the very one that makes the forward pass, and rules that cut the network between layers cannot
    carry a penalty on inner features.

    Args:
        model: the network whose features are penalised.
        loss: ``loss(output, target) -> scalar``.
        penalty: ``penalty(features, target) -> scalar``.
        layer: name of the head; by default whichever linear layer is used last.

    Raises:
        ValueError: as in `HeadInput`.
    """

    def __init__(self, model: nn.Module, loss: Loss, penalty: FeaturePenalty, layer: str | None = None) -> None:
        self.loss, self.penalty = loss, penalty
        self._head = HeadInput(model, layer)

    def __enter__(self) -> FeatureLoss:
        self._head.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._head.__exit__()

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        """The sum of both for the model's last forward pass."""
        return self.loss(output, target) + self.penalty(self._head.features, target)
