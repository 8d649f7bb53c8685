"""All unknown variables of a program as one vector, for samplers and optimisers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, biject_to

from neurarium.models.probabilistic._approximations import is_discrete, starting_point
from neurarium.models.probabilistic._module import fixed, is_observed, observed_value, resample, variables_of


@contextmanager
def unchecked() -> Iterator[None]:
    """Within it torch's distributions do not check their arguments: where a step leads too far out, the density is not
    a number, which samplers refuse, in the place of an error."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


class FlatPosterior:
    """The log of the joint probability of a program as a function of one vector of real numbers.

    Every unknown variable is a part of the vector, before the map onto the support of its prior; the map's Jacobian is
    counted, so that samples of this density are samples of the posterior. Give it to `NoUTurnSampler`,
    `HamiltonianMonteCarlo` or `laplace`, and their vectors back to `values`.

    Args:
        model: a `ProbabilisticModule`, or a module that holds some, with what is known observed.
        run: executes it, as ``lambda: model(x)``; by default ``model()``.

    Raises:
        ValueError: nothing is unknown, or a discrete variable is.
    """

    def __init__(self, model: nn.Module, run: Callable[[], Any] | None = None) -> None:
        self.model = model
        self.run = run or model
        resample(model)
        self.run()
        starts = {}
        for name, module, variable in variables_of(model):
            if variable.present and not is_observed(module, name):
                if is_discrete(variable.prior):
                    raise ValueError(f"the unknown variable {name!r} is discrete, and has no gradient")
                starts[name] = starting_point(variable.prior)
        if not starts:
            raise ValueError("the model has no unknown variable")
        resample(model)
        self.shapes = {name: start.shape for name, start in starts.items()}
        self.start: Tensor = torch.cat([start.flatten() for start in starts.values()])

    def __call__(self, flat: Float[Tensor, " size"]) -> Float[Tensor, ""]:
        """The log-density at a vector.

        Raises:
            ValueError: this execution has other unknown variables than the first: which there are depends on draws, or
                some were observed since.
        """
        parts = self._parts(flat)
        terms, used = [], set()
        with unchecked(), fixed(self.model, parts):
            self.run()
            for name, module, variable in variables_of(self.model):
                if not variable.present:
                    continue
                if is_observed(module, name):
                    terms.append(variable.prior.log_prob(observed_value(module, name)).sum())
                    continue
                if name not in parts:
                    raise ValueError(f"the variable {name!r} is new: a vector needs a fixed set")
                used.add(name)
                value = getattr(module, name.rsplit(".", 1)[-1])
                assert variable.log_jacobian is not None
                terms.append(variable.prior.log_prob(value).sum() + variable.log_jacobian)
        self._refuse_without(used)
        return torch.stack(terms).sum()

    @torch.no_grad()
    def values(self, flat: Float[Tensor, "*samples size"]) -> dict[str, Tensor]:
        """The variables in their own units, by name, [samples, *shape] each.

        Raises:
            ValueError: as for the density.
        """
        rows = []
        for row in flat.reshape(-1, flat.shape[-1]):
            found = {}
            with fixed(self.model, self._parts(row)):
                self.run()
                for name, module, variable in variables_of(self.model):
                    if name in self.shapes and variable.present and not is_observed(module, name):
                        found[name] = biject_to(variable.prior.support)(self._parts(row)[name])
            self._refuse_without(found)
            rows.append(found)
        return {
            name: torch.stack([row[name] for row in rows]).reshape(*flat.shape[:-1], *rows[0][name].shape)
            for name in self.shapes
        }

    def _refuse_without(self, names: Collection[str]) -> None:
        """An unknown that an execution lacks would leave its part of the vector without a density."""
        for name in self.shapes:
            if name not in names:
                raise ValueError(f"the variable {name!r} was observed since, or not made: a vector needs a fixed set")

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = flat.split(sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
