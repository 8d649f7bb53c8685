"""Convert the activations of a network that exists to ones that keep a few bits for the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neurarium.layers import Conversion, FewBitActivation, swap
from neurarium.layers._conversion import FUNCTIONS
from neurarium.training import call, copy_module, saved_bytes, unpack

KEEP_INPUT: tuple[type[nn.Module], ...] = (
    nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.LogSigmoid, nn.Hardswish, nn.ELU, nn.CELU, nn.SELU, nn.LeakyReLU,
    nn.Hardtanh, nn.ReLU6, nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink, nn.Softsign,
)  # fmt: skip
"""Activations that keep their input. ReLU, tanh and sigmoid keep their output, which the next layer keeps anyway."""
FUNCTIONAL = {function.__name__: kind for function, kind in FUNCTIONS.items() if kind in KEEP_INPUT}
"""Name of the function in `torch.nn.functional` -> the module that does the same."""


@dataclass(frozen=True)
class ActivationConversion(Conversion):
    """What `convert_activations` did.

    Args:
        model: the converted copy.
        changed: qualified name -> what was there.
        skipped: qualified name -> why it was left. With an example also modules whose ``forward`` calls an activation
            as a function, which is out of reach.
        kept_before: bytes that a training step on the example keeps for its backward pass; 0 without an example.
        kept_after: the same after the conversion.
        by_module: qualified name of an activation -> bytes that it alone keeps on the example, before and after.
    """

    kept_before: int = 0
    kept_after: int = 0
    by_module: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def summary(self) -> str:
        """As `Conversion.summary`, with the bytes."""
        if not self.kept_before:
            return super().summary()
        kept = f"{self.kept_before:,} -> {self.kept_after:,} bytes ({self.kept_after / self.kept_before:.0%})"
        return f"{super().summary()}\nkept for the backward pass: {kept}"


def convert_activations(
    model: nn.Module,
    bits: int = 3,
    *,
    example: Tensor | None = None,
    kinds: tuple[type[nn.Module], ...] = KEEP_INPUT,
    weights: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    make: Callable[[nn.Module], nn.Module] | None = None,
) -> ActivationConversion:
    """A copy of a model whose activation modules keep ``bits`` per element.

    Finds modules of the given kinds, and functions held as an attribute (``activation`` of torch's transformer layers).

    Args:
        model: the network; it is left untouched.
        bits: bits per element, 1 to 8.
        example: a batch. With it the bytes kept before and after are measured, and activations called as functions
            inside a ``forward``, which cannot be replaced, are listed.
        kinds: module classes to convert.
        weights: qualified name -> density of that activation's inputs, from `calibrate`.
        make: what to put in place of an activation module instead of `FewBitActivation`.

    Returns:
        The copy and an account of it.

    Raises:
        ValueError: nothing was converted, ``weights`` names what is not there, or ``bits`` is not in 1..8.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def replacement(name: str, old: nn.Module) -> nn.Module:
        weight = (weights or {}).get(name)
        return (make(old) if make else FewBitActivation(old, bits, weight=weight)).to(device)

    names = ", ".join(kind.__name__ for kind in kinds)
    done = swap(model, kinds, replacement, exclude=_few_bit(model), looked_for=f"an activation module: {names}")
    if unknown := set(weights or {}) - set(done.changed):
        raise ValueError(f"weights names {sorted(unknown)}, but the activations are {sorted(done.changed)}")
    if example is None:
        return ActivationConversion(done.model, done.changed, done.skipped)
    was, found = copy_module(model), list(done.changed)
    before, after = _own_bytes(was, found, example), _own_bytes(done.model, found, example)
    called = _functional_calls(done.model, example).items()
    return ActivationConversion(
        done.model,
        done.changed,
        {**done.skipped, **{name: f"calls {', '.join(functions)} in its forward" for name, functions in called}},
        saved_bytes(lambda: was(example)),
        saved_bytes(lambda: copy_module(done.model)(example)),
        {name: (before[name], after[name]) for name in found if name in before and name in after},
    )


def calibrate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    kinds: tuple[type[nn.Module], ...] = KEEP_INPUT,
    domain: tuple[float, float] = (-10.0, 10.0),
    bins: int = 200,
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Densities of the inputs of each activation, for ``convert_activations(weights=...)``.

    Args:
        model: the network, in the state whose inputs are to be counted; it is left untouched.
        loader: batches ``(x, y)``.
        kinds: module classes whose inputs are counted.
        domain: inputs beyond it count at its ends.
        bins: bins of the histogram.

    Raises:
        ValueError: no such activation, or no batch reached one.
    """
    counts: dict[str, Tensor] = {}

    def count(name: str) -> Callable[..., None]:
        counts[name] = torch.zeros(bins, dtype=torch.float64)

        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().float().clamp(*domain).cpu()
            counts[name] += torch.histc(values, bins, *domain).double()

        return hook

    def spied(name: str, old: nn.Module) -> nn.Module:
        spy = nn.Sequential(old)  # a function held as an attribute cannot carry a hook
        spy.register_forward_pre_hook(count(name))
        return spy

    copied = swap(model, kinds, spied, exclude=_few_bit(model)).model
    with torch.no_grad():
        for x, _ in map(unpack, loader):
            call(copied, x)
    if not any(total.sum() > 0 for total in counts.values()):
        raise ValueError("no batch of the loader reached an activation module of the given kinds")

    def density(total: Tensor) -> Callable[[Tensor], Tensor]:
        low, high = domain
        heights = total / total.sum() * bins / (high - low)
        return lambda x: heights[((x - low) / (high - low) * bins).long().clamp(0, bins - 1)]

    return {name: density(total) for name, total in counts.items() if total.sum() > 0}


def _few_bit(model: nn.Module) -> list[str]:
    """What was converted before, with the activation inside it."""
    return [name for name, module in model.named_modules() if isinstance(module, FewBitActivation)]


def _own_bytes(model: nn.Module, names: list[str], example: Tensor) -> dict[str, int]:
    """Bytes that each named activation alone keeps, on the input that it gets."""
    inputs: dict[str, Tensor] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    probe = copy_module(model)
    for name in names:
        parent, _, child = name.rpartition(".")
        owner = probe.get_submodule(parent)
        module = getattr(owner, child) if name else probe
        if not isinstance(module, nn.Module):
            module = FUNCTIONAL[module.__name__]()
            setattr(owner, child, module)
        modules[name] = module
        module.register_forward_pre_hook(functools.partial(_note, inputs, name))
    with torch.no_grad():
        probe.train()(example)
    kept = {}
    for name, x in inputs.items():
        x.requires_grad_()
        kept[name] = saved_bytes(functools.partial(_run_clone, modules[name], x))
    return kept


def _note(inputs: dict[str, Tensor], name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
    inputs[name] = given[0].detach().clone()


def _run_clone(module: nn.Module, x: Tensor) -> Tensor:
    output: Tensor = module(x.clone())  # an in-place activation may not touch a leaf
    return output


def _functional_calls(model: nn.Module, example: Tensor) -> dict[str, tuple[str, ...]]:
    """Activation functions called from a ``forward`` that is not itself an activation's."""
    probe = copy_module(model)
    names = {module: name for name, module in probe.named_modules()}
    stack: list[nn.Module] = []
    calls: dict[str, set[str]] = {}
    for module in names:
        module.register_forward_pre_hook(lambda m, _: stack.append(m))
        module.register_forward_hook(lambda *_: stack.pop() and None)

    class Spy(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            function = getattr(func, "__name__", "")
            if function in FUNCTIONAL and stack and not isinstance(stack[-1], (*KEEP_INPUT, FewBitActivation)):
                calls.setdefault(names[stack[-1]], set()).add(function)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Spy():
        probe.train()(example)
    return {name: tuple(sorted(functions)) for name, functions in calls.items()}
