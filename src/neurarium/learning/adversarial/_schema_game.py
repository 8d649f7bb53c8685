"""Networks of a schema against the critics of its types, bound by the schema's equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.learning.adversarial._critics import critic_loss, frozen, logits
from neurarium.objectives import AdversarialLoss


class SchemaGame(nn.Module):
    """Learning a model of a schema from unpaired examples (Gavranović, 2019).

    Every arrow is a generator whose samples the critic of its target judges (of a product, one critic per factor), and
    each equation adds its violation: networks descend ``Σ adversarial + weight · Σ violations``, critics their own
    loss, as in `AdversarialGame`.

    Args:
        model: a `neurarium.models.SchemaModel`.
        loss: of the games; Wasserstein with a gradient penalty of 10 by default.
        weight: of the violations; 0 leaves independent games.
        norm: of the violations: "l1" or "l2".
        source: generator of latent codes and of the penalty's points.

    Raises:
        ValueError: a negative weight; at a step: a type of which the batch has no examples.
    """

    def __init__(
        self,
        model: Any,
        loss: AdversarialLoss | None = None,
        *,
        weight: float = 10.0,
        norm: str = "l1",
        source: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight must not be negative, not {weight}")
        self.model = model
        self.loss = AdversarialLoss("wasserstein", gradient_penalty=10.0) if loss is None else loss
        self.weight, self.norm, self.source = weight, norm, source

    def forward(self, arrow: str, *x: Tensor) -> Any:
        """One arrow of the model."""
        return self.model(arrow, *x)

    def complete(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch with codes drawn for latent types that it has none of."""
        found = dict(batch)
        like = next(iter(batch.values()))
        for kind in self.model.schema.types.values():
            if kind.latent and kind.name not in found:
                made = like.device if self.source is None else self.source.device
                code = torch.randn(len(like), *kind.shape, generator=self.source, device=made)
                found[kind.name] = code.to(like)
        return found

    def critic_credit(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Add the critics' gradients on a batch; returns the sum of their losses, detached."""
        batch = self.complete(batch)
        with torch.no_grad():
            values = self.model.on(batch)
            fakes = [(critic, kind, fake) for _, critic, kind, fake in self._judged(values)]
        total = self._zero()
        for critic, kind, fake in fakes:
            loss = critic_loss(self.loss, critic, values.examples(kind), fake, self.source)
            loss.backward()
            total = total + loss.detach()
        return total

    def network_credit(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add the networks' gradients on a batch; returns the detached parts: "adversarial" and each relation."""
        values = self.model.on(self.complete(batch))
        parts = {"adversarial": self._zero()}
        with frozen(self.model.critics):
            for _, critic, _, fake in self._judged(values):
                parts["adversarial"] = parts["adversarial"] + self.loss.generator(logits(critic, fake))
            total = parts["adversarial"]
            if self.weight:
                for p, q in self.model.schema.relations:
                    parts[f"{p} ~ {q}"] = values.violation(p, q, self.norm)
                    total = total + self.weight * parts[f"{p} ~ {q}"]
            total.backward()
        return {name: part.detach() for name, part in parts.items()}

    def step(
        self,
        batch: Mapping[str, Tensor],
        network_optimizer: torch.optim.Optimizer | None,
        critic_optimizer: torch.optim.Optimizer | None,
    ) -> dict[str, Tensor]:
        """One step of the critics and then of the networks on a batch; None leaves a side as it is.

        For several steps of the critics per step of the networks, give None for the networks in between.

        Args:
            batch: type -> examples, as many of each; latent types may be left out.
            network_optimizer: of ``model.networks``.
            critic_optimizer: of ``model.critics``.
        """
        found: dict[str, Tensor] = {}
        if critic_optimizer is not None:
            critic_optimizer.zero_grad()
            found["critics"] = self.critic_credit(batch)
            critic_optimizer.step()
        if network_optimizer is not None:
            network_optimizer.zero_grad()
            found |= self.network_credit(batch)
            network_optimizer.step()
        return found

    def _judged(self, values: Any) -> list[tuple[Any, nn.Module, Any, Tensor]]:
        """Every arrow with the critics of its target, and what they are to judge."""
        found = []
        for arrow in self.model.schema.arrows:
            value = values.value(arrow)
            for kind, part in zip(
                arrow.target.factors, value if isinstance(value, tuple) else (value,), strict=True
            ):  # fmt: skip
                if kind.name in self.model.critics:
                    found.append((arrow, self.model.critics[kind.name], kind, part))
        return found

    def _zero(self) -> Tensor:
        like = next(self.model.networks.parameters())
        return torch.zeros((), dtype=like.dtype, device=like.device)
