"""The discriminator's side of a game, which all games share: its loss, its fixed weights while others learn from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.objectives import AdversarialLoss, gradient_penalty


def critic_loss(
    loss: AdversarialLoss,
    critic: nn.Module,
    real: Float[Tensor, "batch ..."],
    fake: Float[Tensor, "others ..."],
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """What a discriminator descends on examples and samples, penalty of its slope included.

    Both go through it in one pass, unless it normalises over the batch: then each is a batch of its own.

    Raises:
        ValueError: it does not give one logit for each row.
    """
    fake = fake.detach()
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in critic.modules()):
        on_real, on_fake = logits(critic, real), logits(critic, fake)
    else:
        on_real, on_fake = logits(critic, torch.cat([real, fake])).split([len(real), len(fake)])
    found = loss.discriminator(on_real, on_fake)
    if loss.gradient_penalty:
        rows = min(len(real), len(fake))
        found = found + loss.gradient_penalty * gradient_penalty(critic, real[:rows], fake[:rows], generator)
    return found


def logits(critic: nn.Module, x: Tensor) -> Float[Tensor, " batch"]:
    """A discriminator's logits as one vector.

    Raises:
        ValueError: it does not give one number for each row.
    """
    found: Tensor = critic(x)
    if found.shape not in ((len(x),), (len(x), 1)):
        raise ValueError(
            f"the discriminator must give one logit per example, [{len(x)}] or [{len(x)}, 1], not {list(found.shape)}"
        )
    return found.flatten()


@contextlib.contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No parameter of the modules collects a gradient; gradients still go through them to what they are given."""
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
