"""Random variables as attributes of a torch module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, biject_to

from neurarium.models.probabilistic._approximations import Drawn, Posterior, automatic


@dataclass
class Variable:
    """One random variable in one execution.

    Args:
        prior: its distribution, given the variables that it depends on.
        drawn: its value in this execution; None until it is read.
        raw: what its value is made of instead, before the map onto the support; for samplers and optimisers.
        log_jacobian: of that map.
        lasting: it was made outside ``forward``, so that it is there in every execution.
        present: it was made in this execution, or is lasting.
    """

    prior: Distribution
    lasting: bool = True
    present: bool = True
    drawn: Drawn | None = None
    raw: Tensor | None = None
    log_jacobian: Tensor | None = None


@dataclass
class Program:
    """All that a module knows of its variables; kept out of torch's registers."""

    posterior: Posterior = automatic
    variables: dict[str, Variable] = field(default_factory=dict)
    observed: dict[str, Tensor] = field(default_factory=dict)
    running: int = 0


class ProbabilisticModule(nn.Module):
    """A module in which a distribution is assigned where a parameter would be, and is used as a tensor.

    ``self.w = Normal(zeros(3), 1.0)`` makes a random variable; ``self.w`` is then its value: a draw from what
    approximates its posterior, or what `observe` said. One execution sees one draw of each; `resample` ends it. Assign
    in ``__init__``, or in ``forward`` where a distribution depends on other variables, on the input or on a branch that
    draws decide: what is used is counted anew in every execution (Belcher et al., 2022). What approximates a variable
    is made with it, so call a model that makes some in ``forward`` once before its parameters go to an optimizer.

    Args:
        posterior: makes the approximation of each variable (`NormalApproximation`, `PointMass`, `SameFamily`); by
            default normal for continuous, of the prior's family for discrete ones.
    """

    def __init__(self, posterior: Posterior = automatic) -> None:
        super().__init__()
        self.__dict__["program"] = Program(posterior)
        self.approximations = nn.ModuleDict()

    def observe(self, **values: Tensor | float | None) -> None:
        """Say what variables are, by name, also those that ``forward`` has yet to make; None takes it back.

        Raises:
            ValueError: the variable exists and the value is outside the support of its distribution.
        """
        program: Program = self.__dict__["program"]
        for name, value in values.items():
            if value is None:
                program.observed.pop(name, None)
                continue
            program.observed[name] = torch.as_tensor(value)
            if name in program.variables:
                self._check(name, program.variables[name].prior)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """`forward`, in which variables are made for one execution."""
        program: Program = self.__dict__["program"]
        program.running += 1
        try:
            return super().__call__(*inputs, **named)
        finally:
            program.running -= 1

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, Distribution):
            super().__setattr__(name, value)
            return
        program: Program = self.__dict__["program"]
        if name in program.observed:
            self._check(name, value)
        known = program.variables.get(name)
        if known is not None:
            known.prior, known.present = value, True
            return
        program.variables[name] = Variable(value, lasting=not program.running)
        if name not in program.observed and name not in self.approximations:
            self.approximations[name] = program.posterior(value)

    def __getattr__(self, name: str) -> Any:
        program: Program | None = self.__dict__.get("program")
        if program is None or name not in program.variables:
            return super().__getattr__(name)
        if name in program.observed:
            return program.observed[name]
        variable = program.variables[name]
        if not variable.present:
            raise AttributeError(f"the random variable {name!r} was not made in this execution")
        if variable.drawn is None:
            variable.drawn = self._drawn(name, variable)
        return variable.drawn.value

    def _drawn(self, name: str, variable: Variable) -> Drawn:
        if variable.raw is not None:
            transform = biject_to(variable.prior.support)
            value = transform(variable.raw)
            variable.log_jacobian = transform.log_abs_det_jacobian(variable.raw, value).sum()
            return Drawn(value, value.new_zeros(()), None, True)
        if name not in self.approximations:  # it was observed when it was made
            self.approximations[name] = self.__dict__["program"].posterior(variable.prior)
        approximation: Any = self.approximations[name]
        return approximation.draw(variable.prior)

    def _check(self, name: str, prior: Distribution) -> None:
        """Refuse an observation that cannot be.

        Raises:
            ValueError: it is outside the support, or of a shape that does not fit.
        """
        value = self.__dict__["program"].observed[name]
        shape = prior.batch_shape + prior.event_shape
        try:
            torch.broadcast_shapes(value.shape, shape)
        except RuntimeError:
            raise ValueError(
                f"the observed {name!r} has shape {tuple(value.shape)}, its prior {tuple(shape)}"
            ) from None
        support: Any = prior.support
        if not bool(support.check(value).all()):
            raise ValueError(f"the observed {name!r} is outside the support of {type(prior).__name__}")

    def __getstate__(self) -> dict[str, Any]:
        """Without the draws of the present execution, which cannot be copied."""
        state = dict(self.__dict__)
        program: Program = state["program"]
        kept = {
            name: Variable(_moved(v.prior, lambda t: t.detach()), v.lasting, v.lasting)
            for name, v in program.variables.items()
        }
        state["program"] = Program(program.posterior, kept, dict(program.observed))
        return state

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Priors and observations move with the parameters; draws are forgotten."""
        program: Program = self.__dict__["program"]
        for variable in program.variables.values():
            variable.prior = _moved(variable.prior, lambda t: fn(t.detach()))
            variable.drawn = variable.raw = None
        program.observed = {name: fn(value) for name, value in program.observed.items()}
        return super()._apply(fn, recurse)


def variables_of(model: nn.Module) -> Iterator[tuple[str, ProbabilisticModule, Variable]]:
    """Every random variable of a model with its qualified name and the module that holds it."""
    for prefix, module in model.named_modules():
        if isinstance(module, ProbabilisticModule):
            for name, variable in list(module.__dict__["program"].variables.items()):
                yield f"{prefix}.{name}".lstrip("."), module, variable


def is_observed(module: ProbabilisticModule, name: str) -> bool:
    """Whether a variable, by its qualified name, is known."""
    return name.rsplit(".", 1)[-1] in module.__dict__["program"].observed


def observed_value(module: ProbabilisticModule, name: str) -> Tensor:
    """What it is known to be."""
    return module.__dict__["program"].observed[name.rsplit(".", 1)[-1]]


def resample(model: nn.Module) -> nn.Module:
    """End an execution: every variable is drawn anew when it is read next, and those made in ``forward`` are forgotten
    until it makes them again.

    Returns:
        The model.
    """
    for module in model.modules():
        if isinstance(module, ProbabilisticModule):
            for variable in module.__dict__["program"].variables.values():
                variable.drawn = variable.log_jacobian = None
                variable.present = variable.lasting
    return model


@contextmanager
def fixed(model: nn.Module, raw: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, variables are made of given numbers (before the maps onto their supports) instead of drawn."""
    try:
        resample(model)
        for name, module, variable in variables_of(model):
            if not is_observed(module, name):
                variable.raw = raw.get(name)
        yield
    finally:
        for _, _, variable in variables_of(model):
            variable.raw = None
        resample(model)


def _moved(prior: Distribution, fn: Callable[[Tensor], Tensor]) -> Distribution:
    """A distribution with other tensors, and so for those inside it."""
    moved = copy.copy(prior)
    for name, value in prior.__dict__.items():
        if isinstance(value, Tensor):
            moved.__dict__[name] = fn(value)
        elif isinstance(value, Distribution):
            moved.__dict__[name] = _moved(value, fn)
    return moved
