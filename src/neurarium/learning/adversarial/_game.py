"""A generator that learns from a discriminator which learns to tell its samples from data."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.learning.adversarial._critics import critic_loss, frozen, logits
from neurarium.objectives import AdversarialLoss
from neurarium.training import evaluation


class AdversarialGame(nn.Module):
    """Two networks of your own in the game of Goodfellow et al. (2014): samples come to follow the data.

    `discriminator_credit` and `generator_credit` fill ``.grad`` of one player and leave the other's alone, so that any
    two optimizers, penalties and clippings go around them; `step` is the paper's algorithm 1 with two optimizers::

        game = AdversarialGame(generator, discriminator, features=100)
        for x in loader:
            game.step(x, generator_optimizer, discriminator_optimizer)

    Args:
        generator: noise ``[batch, features]`` to samples of the data's shape.
        discriminator: examples to one logit each, ``[batch]`` or ``[batch, 1]``.
        loss: of the game; the non-saturating one by default.
        features: numbers of noise for each sample.
        noise: "uniform" in -1..1, as in the paper, or "normal".
        source: generator of the noise; torch's own by default.

    Raises:
        ValueError: ``features`` below 1 or an unknown ``noise``; at a step: a player's output has the wrong shape.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | None = None,
        *,
        features: int,
        noise: Literal["uniform", "normal"] = "uniform",
        source: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if features < 1 or noise not in ("uniform", "normal"):
            raise ValueError(
                f"features must be at least 1 and noise 'uniform' or 'normal', not {features} and {noise!r}"
            )
        self.generator, self.discriminator = generator, discriminator
        self.loss = AdversarialLoss() if loss is None else loss
        self.features, self.noise, self.source = features, noise, source
        self._checked = False

    def forward(self, z: Float[Tensor, "batch features"]) -> Float[Tensor, "batch ..."]:
        """Samples for given noise."""
        found: Tensor = self.generator(z)
        return found

    def draw(self, count: int, source: torch.Generator | None = None) -> Float[Tensor, "count features"]:
        """Noise where the generator is, in its type."""
        like = next(self.generator.parameters(), None)
        device = torch.device("cpu") if like is None else like.device
        made = device if source is None else source.device
        if self.noise == "normal":
            z = torch.randn(count, self.features, generator=source, device=made)
        else:
            z = 2 * torch.rand(count, self.features, generator=source, device=made) - 1
        return z.to(device, torch.float32 if like is None else like.dtype)

    def discriminator_credit(self, x: Float[Tensor, "batch ..."]) -> Tensor:
        """Add the discriminator's gradient on a batch and as many fresh samples; returns its detached loss."""
        with torch.no_grad():
            fake = self.generator(self.draw(len(x), self.source))
        self._check(x, fake)
        loss = critic_loss(self.loss, self.discriminator, x, fake, self.source)
        loss.backward()
        return loss.detach()

    def generator_credit(self, count: int) -> Tensor:
        """Add the generator's gradient on so many fresh samples; returns its detached loss."""
        with frozen(self.discriminator):
            loss = self.loss.generator(logits(self.discriminator, self.generator(self.draw(count, self.source))))
            loss.backward()
        return loss.detach()

    def step(
        self,
        x: Float[Tensor, "batch ..."],
        generator_optimizer: torch.optim.Optimizer | None,
        discriminator_optimizer: torch.optim.Optimizer | None,
    ) -> tuple[Tensor, Tensor]:
        """One step of each player on a batch, the discriminator first; None leaves a player as it is.

        For k steps of the discriminator per step of the generator, give None to all but every k-th call.

        Returns:
            The detached losses of generator and discriminator, nan for a player that did not move.
        """
        found = [torch.full((), torch.nan), torch.full((), torch.nan)]
        if discriminator_optimizer is not None:
            discriminator_optimizer.zero_grad()
            found[1] = self.discriminator_credit(x)
            discriminator_optimizer.step()
        if generator_optimizer is not None:
            generator_optimizer.zero_grad()
            found[0] = self.generator_credit(len(x))
            generator_optimizer.step()
        return found[0], found[1]

    @torch.no_grad()
    def sample(self, count: int, source: torch.Generator | None = None) -> Float[Tensor, "count ..."]:
        """Samples of the generator in evaluation mode."""
        with evaluation(self.generator):
            return self(self.draw(count, source))

    @torch.no_grad()
    def walk(
        self, count: int, steps: int = 8, source: torch.Generator | None = None
    ) -> Float[Tensor, "count steps ..."]:
        """Samples along straight lines between pairs of noise vectors, in evaluation mode.

        Args:
            count: number of lines.
            steps: points on each, ends included.
            source: generator of the ends.
        """
        ends = self.draw(2 * count, source).reshape(2, count, 1, -1)
        share = torch.linspace(0, 1, steps).to(ends)[:, None]
        with evaluation(self.generator):
            return self(torch.lerp(ends[0], ends[1], share).flatten(0, 1)).unflatten(0, (count, steps))

    def _check(self, x: Tensor, fake: Tensor) -> None:
        if self._checked:
            return
        if x.shape[1:] != fake.shape[1:]:
            raise ValueError(f"the generator gives {list(fake.shape[1:])} for examples of {list(x.shape[1:])}")
        last: Any = list(self.generator.modules())[-1]
        low = {nn.Sigmoid: 0.0, nn.Tanh: -1.0}.get(type(last))
        if low is not None and not (low <= float(x.min()) and float(x.max()) <= 1):
            warnings.warn(
                f"the generator ends in a {type(last).__name__} and cannot reach data from {float(x.min()):g} to "
                f"{float(x.max()):g}: scale them to {low:g}..1", stacklevel=4,
            )  # fmt: skip
        self._checked = True
