"""The mean of a stochastic model's predictions, and the two parts of its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation


@dataclass(frozen=True)
class Predictive(ProbeResult):
    """Predictions of many draws, averaged.

    Args:
        probabilities: mean over draws.
        total: entropy of that mean, in nats.
        aleatoric: mean entropy of the draws: what is left when the model is known.
    """

    probabilities: Float[Tensor, "examples classes"]
    total: Float[Tensor, " examples"]
    aleatoric: Float[Tensor, " examples"]

    @property
    def epistemic(self) -> Float[Tensor, " examples"]:
        """What knowing the model would take away: the mutual information of prediction and model."""
        return (self.total - self.aleatoric).clamp(min=0)

    def summary(self) -> str:
        """Means over examples."""
        return (
            f"{len(self.total)} examples: entropy {float(self.total.mean()):.3f} nats, "
            f"{float(self.aleatoric.mean()):.3f} of it in the data and {float(self.epistemic.mean()):.3f} in the model"
        )

    def plot(self, ax: Any) -> Any:
        """Histograms of both parts."""
        ax.hist([self.aleatoric.cpu().numpy(), self.epistemic.cpu().numpy()], bins=20, label=["aleatoric", "epistemic"])
        ax.set(xlabel="nats", ylabel="examples")
        ax.legend()
        return ax


@torch.no_grad()
def predictive(model: nn.Module, x: Any, samples: int = 50) -> Predictive:
    """Predict with many draws of a classifier that draws its weights anew in every call (`bayesianize` makes one).

    Args:
        model: inputs to logits [examples, classes]; in evaluation mode here.
        x: inputs as the model takes them.
        samples: draws.

    Raises:
        ValueError: fewer than one draw, or outputs that are no logits of classes.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    with evaluation(model):
        draws = torch.stack([call(model, x).log_softmax(-1) for _ in range(samples)])
    if draws.dim() != 3:
        raise ValueError(f"the model must give logits [examples, classes], not {tuple(draws.shape[1:])}")
    mean = draws.exp().mean(0)
    return Predictive(mean, torch.special.entr(mean).sum(1), torch.special.entr(draws.exp()).sum(2).mean(0))
