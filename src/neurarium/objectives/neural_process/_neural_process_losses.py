"""What neural processes are trained by: likelihood of the targets, sampled or bounded."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal, kl_divergence


def np_likelihood_loss(
    loc: Float[Tensor, "samples batch *readings"], scale: Float[Tensor, "samples batch *readings"], y: Tensor
) -> Float[Tensor, ""]:
    """-log of the mean over samples of the targets' likelihood, averaged over the batch (NPML).

    With one sample, or without a latent variable, it is the negative log-likelihood.

    Args:
        loc: predicted means.
        scale: predicted standard deviations.
        y: targets [batch, *readings].
    """
    likelihood = Normal(loc, scale, validate_args=False).log_prob(y).flatten(2).sum(2)
    return -(likelihood.logsumexp(0) - math.log(len(loc))).mean()


def np_elbo_loss(
    loc: Float[Tensor, "samples batch *readings"],
    scale: Float[Tensor, "samples batch *readings"],
    y: Tensor,
    posterior: tuple[Tensor, Tensor],
    prior: tuple[Tensor, Tensor],
) -> Float[Tensor, ""]:
    """Minus the evidence bound: log-likelihood under the posterior less its divergence from the prior (NPVI).

    Args:
        loc: predicted means, for samples of the posterior.
        scale: predicted standard deviations.
        y: targets [batch, *readings].
        posterior: mean and deviation of the latent variable given context and targets, [batch, latent].
        prior: those given the context alone.
    """
    likelihood = Normal(loc, scale, validate_args=False).log_prob(y).flatten(2).sum(2).mean(0)
    apart = kl_divergence(Normal(*posterior, validate_args=False), Normal(*prior, validate_args=False)).sum(1)
    return torch.mean(apart - likelihood)
