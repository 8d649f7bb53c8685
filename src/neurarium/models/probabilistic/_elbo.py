"""The evidence lower bound of a probabilistic program."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import kl_divergence

from neurarium.models.probabilistic._approximations import Drawn
from neurarium.models.probabilistic._module import Variable, is_observed, observed_value, variables_of

Estimator = Literal["auto", "sampled", "path"]


def elbo_loss(model: nn.Module, scaling: float = 1.0, estimator: str = "auto") -> Float[Tensor, ""]:
    """Minus the evidence lower bound, from the variables that the last execution used.

    ``- sum log p(observed) + scaling * sum KL(q || p)`` over what was observed and what was read since `resample`.
    Divergences are exact where torch knows them, else ``log q - log p`` of the draw. Draws through which no gradient
    passes (discrete ones) are reached by the score function: the gradient of their log-probability times all of the
    loss. The value is the loss in every case.

    Args:
        model: a `ProbabilisticModule`, or a module that holds some; it was called since `resample`.
        scaling: of the divergence: one over the number of batches, where an execution sees one of them and its
            likelihood is that batch's.
        estimator: "auto"; "sampled" never takes the exact divergence; "path" neither, and leaves out the gradient of
            log q with respect to its own parameters, whose mean is 0 (Roeder et al., 2017).

    Raises:
        ValueError: an unknown estimator, or nothing was observed or read.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"estimator must be one of {', '.join(get_args(Estimator))}, not {estimator!r}")
    costs: list[Tensor] = []
    scores: list[Tensor] = []
    unread = []
    for name, module, variable in variables_of(model):
        if not variable.present:
            continue
        if is_observed(module, name):
            costs.append(-variable.prior.log_prob(observed_value(module, name)).sum())
        elif variable.drawn is None:
            unread.append(name)
        else:
            costs.append(scaling * _divergence(variable, variable.drawn, estimator))
            if not variable.drawn.differentiable:
                scores.append(variable.drawn.log_prob)
    if not costs:
        raise ValueError("the model has no variable that was observed or read since resample: call it first")
    if unread:
        warnings.warn(
            f"random variables that nothing read, and that so cost nothing: {', '.join(unread)}", stacklevel=2
        )
    loss = torch.stack([cost.reshape(()) for cost in costs]).sum()
    for score in scores:
        surrogate = score * loss.detach()
        loss = loss + surrogate - surrogate.detach()
    return loss


def _divergence(variable: Variable, drawn: Drawn, estimator: str) -> Tensor:
    """KL(q || p), exact or of the draw."""
    prior, q = variable.prior, drawn.distribution
    if estimator == "auto" and q is not None:
        try:
            exact = kl_divergence(q, prior).sum()
        except NotImplementedError:
            exact = None
        if exact is not None and bool(exact.isfinite()):
            return exact
    log_q = drawn.log_prob
    if estimator == "path" and q is not None and drawn.differentiable:
        log_q = drawn.stopped_log_prob()
    return log_q - prior.log_prob(drawn.value).sum()
