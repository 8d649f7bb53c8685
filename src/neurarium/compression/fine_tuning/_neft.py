"""Neuron-level fine-tuning: train only the neurons that a task really changes (Xu et al., 2024)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neurarium.compression.fine_tuning._neurons import NeuronSet, sensitive_neurons
from neurarium.compression.fine_tuning._row_linear import MaskedSlices, ReplacedSlices, RowLinear
from neurarium.layers._linear_maps import LinearMap, feed_forward, linear_maps, shared_with
from neurarium.training import copy_module

M = TypeVar("M", bound=nn.Module)
Train = Callable[[Any, list[nn.Parameter], int | None], object]
"""``train(model, parameters, steps)``: trains ``parameters`` in place; ``steps=None`` for as long as it takes."""


class NeuronFineTuning:
    """Makes chosen neurons of a model trainable and freezes everything else, in place.

    The model is called as before. With ``impl="rows"`` gradients and optimizer state exist for the chosen rows only,
    and no backward pass computes others; layers may be quantised. ``impl="mask"`` trains whole weights of which only
    the chosen neurons take effect: more memory, the same trajectory, a reference.

        tuned = NeuronFineTuning(model, sensitive_neurons(base, trial))
        optimizer = torch.optim.AdamW(tuned.parameters(), lr=2e-5)
        ...                              # any training loop
        tuned.merge()                    # a plain model again, no cost left at inference

    Args:
        model: any module with linear layers; transformers' models among them.
        neurons: which to train.
        impl: "rows" or "mask".

    Raises:
        ValueError: ``impl`` is unknown, the set is empty or names a weight that the model has not, or a weight that it
            shares with another module (tied embeddings).
    """

    def __init__(self, model: nn.Module, neurons: NeuronSet, impl: str = "rows") -> None:
        if impl not in ("rows", "mask"):
            raise ValueError(f"impl must be 'rows' or 'mask', not {impl!r}")
        if not neurons.count():
            raise ValueError("neurons is empty: there is nothing to train")
        self.model, self.neurons, self.impl = model, neurons, impl
        self._parts = [part for name in neurons for part in _parts(model, neurons, name)]
        for target, _, _ in self._parts:
            names = shared_with(model, target.weight) if _dense(target) else []
            if len(names) > 1:
                others = ", ".join(other for other in names if other != target.name)
                raise ValueError(
                    f"{target.name} is tied to {others}: training its neurons would change both; leave it out "
                    "(modules=), or untie them"
                )
        self._required = {name: p.requires_grad for name, p in model.named_parameters()}
        model.requires_grad_(False)
        self._replaced: dict[str, RowLinear] = {}
        self._parametrized: list[tuple[nn.Module, str]] = []
        for part in self._parts:
            self._attach(*part)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained, and nothing else."""
        return (p for p in self.model.parameters() if p.requires_grad)

    def trainable_count(self) -> int:
        """Numbers that are really trained: |S| (in + 1) for rows of a weight with a bias."""
        if self.impl == "rows":
            return sum(p.numel() for p in self.parameters())
        count = 0
        for target, index, axis in self._parts:
            bias = 1 if axis == "output" and target.bias is not None else 0
            count += len(index) * (target.weight.shape[1 - target.dim(axis)] + bias)
        return count

    def check(self, optimizer: torch.optim.Optimizer) -> int:
        """Warn where an optimizer was given parameters that are frozen; returns how many."""
        frozen = sum(not p.requires_grad for group in optimizer.param_groups for p in group["params"])
        if frozen:
            warnings.warn(f"the optimizer holds {frozen} frozen tensors; give it tuned.parameters()", stacklevel=2)
        return frozen

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Write what was trained into the model and take everything else away; returns the model.

        Raises:
            TypeError: a quantised layer, which cannot take the trained rows.
        """
        for path, layer in self._replaced.items():
            _place(self.model, path, layer.merge())
        for owner, attribute in self._parametrized:
            parametrize.remove_parametrizations(owner, attribute, leave_parametrized=True)
        self._replaced, self._parametrized = {}, []
        for name, p in self.model.named_parameters():
            p.requires_grad_(self._required.get(name, True))
        return self.model

    def _attach(self, target: LinearMap, index: Tensor, axis: str) -> None:
        dim = target.dim(axis)
        # attention takes the weights of its parts and never calls them
        called = not isinstance(_parent(self.model, target.path), nn.MultiheadAttention)
        rows = self.impl == "rows" and axis == "output" and target.output_dim == 0
        if rows and called and target.weight_name == "weight" and target.path:
            self._replaced[target.path] = RowLinear(target.owner, index)
            _place(self.model, target.path, self._replaced[target.path])
            return
        if not _dense(target):
            raise TypeError(f"{target.name} is quantised: only impl='rows' on output neurons can train beside it")
        parts = [(target.weight_name, target.weight, dim)]
        if axis == "output" and target.bias is not None:
            parts.append((target.bias_name, target.bias, 0))
        for attribute, tensor, along in parts:
            kind = ReplacedSlices if self.impl == "rows" else MaskedSlices
            parametrize.register_parametrization(target.owner, attribute, kind(tensor, index, along))
            original = target.owner.parametrizations[attribute].original  # type: ignore[index, union-attr]
            original.requires_grad_(self.impl == "mask")
            self._parametrized.append((target.owner, attribute))


def neft(
    model: M,
    train: Train,
    fraction: float = 0.06,
    probe_steps: int | None = None,
    *,
    scope: str = "global",
    modules: Sequence[str] | None = None,
    unit: str = "vector",
    impl: str = "rows",
) -> tuple[M, NeuronSet]:
    """The whole procedure: a trial fine-tuning of everything, the choice, and the fine-tuning of the chosen neurons.

    Args:
        model: the base; left as it is.
        train: ``train(model, parameters, steps)``, called twice: with all parameters of a copy and ``probe_steps``,
            then with the chosen neurons of another copy and None. Give the optimizer exactly ``parameters``.
        fraction: share of neurons, in (0, 1].
        probe_steps: length of the trial fine-tuning; None for as long as the second one.
        scope: as in `sensitive_neurons`.
        modules: as in `sensitive_neurons`.
        unit: as in `sensitive_neurons`.
        impl: as in `NeuronFineTuning`.

    Returns:
        The fine-tuned model, plain, and the neurons that were trained.
    """
    probe = copy_module(model)
    train(probe, list(probe.parameters()), probe_steps)
    neurons = sensitive_neurons(model, probe, fraction=fraction, scope=scope, modules=modules, unit=unit)
    del probe
    result = copy_module(model)
    tuned = NeuronFineTuning(result, neurons, impl)
    train(result, list(tuned.parameters()), None)
    tuned.merge()
    return result, neurons


def _parts(model: nn.Module, neurons: NeuronSet, name: str) -> list[tuple[LinearMap, Tensor, str]]:
    """Weights that neurons of a name have their numbers in, which of their rows or columns, and which of the two."""
    target, index = _find(model, name), neurons[name]
    if neurons.unit == "vector":
        return [(target, index, neurons.axis)]
    parts = feed_forward(model, target) if _dense(target) else None
    if parts is None:
        raise ValueError(f"{name} does not end a feed-forward network of floating-point weights")
    return [(part, index, axis) for part, axis in parts]


def _find(model: nn.Module, name: str) -> LinearMap:
    """The linear map of a weight's name, whatever holds it now."""
    path, _, attribute = name.rpartition(".")
    try:
        owner = model.get_submodule(path)
    except AttributeError:
        raise ValueError(f"the model has no weight {name}") from None
    if not hasattr(owner, attribute) and not hasattr(owner, "in_features"):
        raise ValueError(f"the model has no weight {name}")
    if attribute == "in_proj_weight":
        return LinearMap(owner, path, attribute, "in_proj_bias")
    return LinearMap(owner, path, attribute, output_dim=int("Conv1D" in type(owner).__name__))


def _dense(target: LinearMap) -> bool:
    """Whether the owner shows a floating-point weight; a quantised layer does not."""
    weight = getattr(target.owner, target.weight_name, None)
    return isinstance(weight, Tensor) and weight.is_floating_point()


def _parent(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(path.rpartition(".")[0])


def _place(model: nn.Module, path: str, module: nn.Module) -> None:
    setattr(_parent(model, path), path.rpartition(".")[2], module)


def covered(model: nn.Module, modules: Sequence[str] | None = None) -> list[nn.Parameter]:
    """Weights and biases of the linear maps that neurons are chosen from: what ``fraction=1`` trains."""
    maps = linear_maps(model, modules).values()
    return [p for m in maps for p in (m.weight, m.bias) if isinstance(p, nn.Parameter)]
