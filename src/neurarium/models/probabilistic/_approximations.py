"""What stands for a random variable while it is not known: a distribution with parameters of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, TransformedDistribution, biject_to


@dataclass(frozen=True)
class Drawn:
    """A value, and how likely it was.

    Args:
        value: of the variable.
        log_prob: of the value under the approximation, summed.
        distribution: the approximation; None for a single point.
        differentiable: whether gradients pass from the value to the approximation's parameters.
    """

    value: Tensor
    log_prob: Tensor
    distribution: Distribution | None
    differentiable: bool

    def stopped_log_prob(self) -> Tensor:
        """The log-probability of the value under the approximation held still: gradients pass through the value."""
        assert self.distribution is not None
        return _held(self.distribution).log_prob(self.value).sum()


class NormalApproximation(nn.Module):
    """A normal distribution for each number, mapped onto the support of the prior.

    Args:
        prior: where it begins: at the prior's mean, or 0 before the map where it has none.
        log_scale: of the deviations, before the map.
    """

    def __init__(self, prior: Distribution, log_scale: float = -3.0) -> None:
        super().__init__()
        start = starting_point(prior)
        self.mean = nn.Parameter(start)
        self.log_scale = nn.Parameter(torch.full_like(start, log_scale))

    def draw(self, prior: Distribution) -> Drawn:
        """A value and its log-probability."""
        around = Normal(self.mean, self.log_scale.exp())
        transform = biject_to(prior.support)
        plain = isinstance(prior, Normal)
        q: Distribution = around if plain else TransformedDistribution(around, [transform])
        raw = around.rsample()
        value = raw if plain else transform(raw)
        log_prob = around.log_prob(raw).sum()
        if not plain:  # not q.log_prob(value): the inverse of the map loses digits far out
            log_prob = log_prob - transform.log_abs_det_jacobian(raw, value).sum()
        return Drawn(value, log_prob, q, True)


class PointMass(nn.Module):
    """A single value, which a bijection keeps in the prior's support: with it the ELBO is the log joint probability.

    Args:
        prior: as for `NormalApproximation`.
    """

    def __init__(self, prior: Distribution) -> None:
        super().__init__()
        self.point = nn.Parameter(starting_point(prior))

    def draw(self, prior: Distribution) -> Drawn:
        """The value; it costs nothing."""
        return Drawn(biject_to(prior.support)(self.point), self.point.new_zeros(()), None, True)


class SameFamily(nn.Module):
    """A distribution of the prior's own family, with parameters that begin at the prior's.

    Args:
        prior: a distribution of torch's with tensor arguments; discrete ones too.

    Raises:
        TypeError: the prior is one around another (independent, transformed, a mixture).
    """

    def __init__(self, prior: Distribution) -> None:
        super().__init__()
        names = [name for name in prior.arg_constraints if name != "probs" or "logits" not in prior.arg_constraints]
        if not names or hasattr(prior, "base_dist"):
            raise TypeError(f"{type(prior).__name__} has no arguments of its own to learn; use another posterior")
        self.family: Any = type(prior)
        self.arguments = nn.ParameterDict(
            {name: biject_to(_constraint(prior, name)).inv(getattr(prior, name).detach().clone()) for name in names}
        )

    def draw(self, prior: Distribution) -> Drawn:
        """A value and its log-probability."""
        q: Distribution = self.family(
            **{name: biject_to(_constraint(prior, name))(raw) for name, raw in self.arguments.items()}
        )
        value = q.rsample() if q.has_rsample else q.sample()
        return Drawn(value, q.log_prob(value).sum(), q, bool(q.has_rsample))


Approximation = NormalApproximation | PointMass | SameFamily
Posterior = Callable[[Distribution], nn.Module]
"""Makes the approximation of a variable from its prior: one of the classes here, or your own with the same ``draw``."""


def automatic(prior: Distribution) -> nn.Module:
    """Normal on the support of continuous variables, of the prior's family for discrete ones."""
    return SameFamily(prior) if is_discrete(prior) else NormalApproximation(prior)


def is_discrete(prior: Distribution) -> bool:
    """Whether its values have no gradient."""
    support: Any = prior.support
    return bool(support.is_discrete)


def starting_point(prior: Distribution) -> Tensor:
    """The prior's mean before the map onto its support; 0 where there is no finite one inside."""
    transform = biject_to(prior.support)
    try:
        mean = prior.mean.detach()
        start = transform.inv(mean)
        if bool(start.isfinite().all()):
            return start.clone()
    except (NotImplementedError, ValueError):
        pass
    shape = transform.inverse_shape(prior.batch_shape + prior.event_shape)
    like = next((v for v in prior.__dict__.values() if isinstance(v, Tensor)), torch.zeros(()))
    return torch.zeros(shape, dtype=like.dtype if like.is_floating_point() else None, device=like.device)


def _constraint(prior: Distribution, name: str) -> Any:
    return prior.arg_constraints[name]


def _held(distribution: Distribution) -> Distribution:
    """The same distribution without gradients to its parameters."""
    held = copy.copy(distribution)
    for name, value in distribution.__dict__.items():
        if isinstance(value, Tensor):
            held.__dict__[name] = value.detach()
        elif isinstance(value, Distribution):
            held.__dict__[name] = _held(value)
    return held
