"""What discriminator and generator descend, on logits."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

Kind = Literal["non_saturating", "minimax", "least_squares", "wasserstein"]
Logits = Float[Tensor, "batch ..."]


@dataclass(frozen=True)
class AdversarialLoss:
    """The two losses of a game; the discriminator gives logits, so that no logarithm of zero is ever taken.

    "minimax" is the game as Goodfellow et al. (2014) define it, ``min_G max_D E log D(x) + E log(1 - D(G(z)))``;
    "non_saturating" lets the generator descend ``-log D(G(z))``, which has the same fixed point and a gradient while
    the discriminator is sure; "least_squares" is that of Mao et al. (2017); "wasserstein" (Arjovsky et al., 2017) wants
    a discriminator of bounded slope, for which `gradient_penalty` is there.

    Args:
        kind: of the game.
        gradient_penalty: weight of ``(|grad D| - 1)^2`` between real and fake (Gulrajani et al., 2017); 0 for none.

    Raises:
        ValueError: an unknown kind, or a negative weight.
    """

    kind: Kind = "non_saturating"
    gradient_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in typing.get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(typing.get_args(Kind))}, not {self.kind!r}")
        if self.gradient_penalty < 0:
            raise ValueError(f"gradient_penalty must not be negative, not {self.gradient_penalty}")

    def discriminator(self, real: Logits, fake: Float[Tensor, "others ..."]) -> Float[Tensor, ""]:
        """What the discriminator descends, from its logits on data and on samples."""
        if self.kind == "wasserstein":
            return fake.mean() - real.mean()
        if self.kind == "least_squares":
            return ((real - 1).square().mean() + fake.square().mean()) / 2
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: Logits) -> Float[Tensor, ""]:
        """What the generator descends, from the discriminator's logits on its samples."""
        if self.kind == "wasserstein":
            return -fake.mean()
        if self.kind == "least_squares":
            return (fake - 1).square().mean() / 2
        return -softplus(fake).mean() if self.kind == "minimax" else softplus(-fake).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor],
    real: Float[Tensor, "batch ..."],
    fake: Float[Tensor, "batch ..."],
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """``E (|grad D(x)| - 1)^2`` at random points on the lines between data and samples; differentiable.

    Args:
        discriminator: whose slope it is; each row on its own (no batch normalisation).
        real: examples.
        fake: as many samples.
        generator: source of the points.
    """
    device = real.device if generator is None else generator.device
    share = torch.rand(len(real), generator=generator, device=device).to(real)
    between = torch.lerp(fake.detach(), real, share.reshape(-1, *[1] * (real.dim() - 1))).requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()
