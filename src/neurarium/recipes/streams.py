"""How each strategy against forgetting is applied to a person's network and stream of tasks.

To add one, write a function ``name(brought) -> Strategy`` and put it into `STREAM_RECIPES`. Strategies on frozen
features get what enters the last layer of the user's network; the built-in network knows nothing yet, so with it they
get the inputs themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neurarium import continual
from neurarium.continual import Strategy


@dataclass(frozen=True)
class StreamProblem:
    """What a person brings to a stream.

    Args:
        model: the network, freshly initialised.
        own: it is the user's, not the built-in one.
        strength: of strategies that have one; 0 for each one's default.
    """

    model: nn.Module
    own: bool = False
    strength: float = 0.0

    @property
    def encoder(self) -> nn.Module | None:
        """What enters the last layer of the user's network; None for the inputs themselves."""
        return Features(self.model) if self.own else None

    @property
    def stiffness(self) -> dict[str, Any]:
        """The strength as an argument, where the person gave one."""
        return {"strength": self.strength} if self.strength else {}


@dataclass(frozen=True)
class StreamRecipe:
    """A strategy for a stream.

    Args:
        make: the strategy around the network, or around its features.
        paper: the slug of the study that tests the idea's claims; empty for a reference or a known method.
        passes: 1 for a memory, in which an example that comes twice would vote twice; 0 for as many as asked for.
    """

    make: Callable[[StreamProblem], Strategy]
    paper: str = ""
    passes: int = 0


class Features(nn.Module):
    """What enters the last layer with parameters of a network.

    Raises:
        ValueError: no layer has any.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        layers = [name for name, module in model.named_modules() if module._parameters and name]
        if not layers:
            raise ValueError("the network has no layer with parameters, before which features could be taken")
        self.model, self.last = model, layers[-1]

    def forward(self, x: Tensor) -> Tensor:
        """[batch, features]."""
        found: list[Tensor] = []
        handle = self.model.get_submodule(self.last).register_forward_pre_hook(lambda _, given: found.append(given[0]))
        try:
            self.model(x)
        finally:
            handle.remove()
        return found[-1]


def finetune(brought: StreamProblem) -> Strategy:
    """Plain training, which forgets."""
    return continual.Finetune(brought.model)


def ewc(brought: StreamProblem) -> Strategy:
    """Springs act as proximal steps, which no strength makes unstable."""
    return continual.EWC(brought.model, implicit=True, **brought.stiffness)


def l2_anchor(brought: StreamProblem) -> Strategy:
    """Equal springs on all weights."""
    return continual.L2Anchor(brought.model, implicit=True, **brought.stiffness)


def synaptic_intelligence(brought: StreamProblem) -> Strategy:
    """Springs by what each weight has contributed."""
    return continual.SynapticIntelligence(brought.model, implicit=True, **brought.stiffness)


def learning_without_forgetting(brought: StreamProblem) -> Strategy:
    """The old answers are kept on the new examples."""
    return continual.LearningWithoutForgetting(brought.model, **brought.stiffness)


def replay(brought: StreamProblem) -> Strategy:
    """Some old examples come again."""
    return continual.Replay(brought.model, **brought.stiffness)


def averaged_gem(brought: StreamProblem) -> Strategy:
    """No step may raise the loss on remembered examples."""
    return continual.AveragedGEM(brought.model)


def gateon(brought: StreamProblem) -> Strategy:
    """Gates by context; when tested, it guesses the context from the input."""
    return continual.GateON(brought.model)


def nearest_mean_classifier(brought: StreamProblem) -> Strategy:
    """The class whose mean feature is nearest."""
    return continual.NearestMeanClassifier(brought.encoder)


def streaming_lda(brought: StreamProblem) -> Strategy:
    """The nearest mean under the classes' common covariance."""
    return continual.StreamingLDA(brought.encoder)


def streaming_ridge(brought: StreamProblem) -> Strategy:
    """Ridge regression from streamed statistics."""
    return continual.StreamingRidge(brought.encoder, **brought.stiffness)


def copy_weight_reinit(brought: StreamProblem) -> Strategy:
    """A temporary head per task."""
    return continual.CopyWeightReinit(brought.encoder)


def differentiable_ensemble(brought: StreamProblem) -> Strategy:
    """Experts near an input vote; the steps suit classes of any size."""
    return continual.DifferentiableEnsemble(brought.encoder, balance=0.03)


def visual_memory(brought: StreamProblem) -> Strategy:
    """Remembered examples vote."""
    return continual.VisualMemory(brought.encoder)


STREAM_RECIPES: dict[str, StreamRecipe] = {
    "finetune": StreamRecipe(finetune),
    "ewc": StreamRecipe(ewc, "ewc"),
    "l2-anchor": StreamRecipe(l2_anchor),
    "synaptic-intelligence": StreamRecipe(synaptic_intelligence),
    "learning-without-forgetting": StreamRecipe(learning_without_forgetting),
    "replay": StreamRecipe(replay),
    "averaged-gem": StreamRecipe(averaged_gem),
    "gateon": StreamRecipe(gateon, "gateon"),
    "nearest-mean-classifier": StreamRecipe(nearest_mean_classifier, "nmc"),
    "streaming-lda": StreamRecipe(streaming_lda),
    "streaming-ridge": StreamRecipe(streaming_ridge),
    "copy-weight-reinit": StreamRecipe(copy_weight_reinit),
    "differentiable-ensemble": StreamRecipe(differentiable_ensemble, "dee"),
    "visual-memory": StreamRecipe(visual_memory, "visual-memory", passes=1),
}
"""Every strategy that a comparison knows, by slug."""
