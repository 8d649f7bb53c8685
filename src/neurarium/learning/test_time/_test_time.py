"""Adapting a trained classifier to the unlabelled stream it is used on: the common contract, and its simplest members.

Everything is done around the user's model: hooks, batch statistics and frozen weights last for one pass, and the few
parameters that change are remembered, so that the source model can be had back bit for bit.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from neurarium.objectives import prediction_entropy
from neurarium.training import call
from neurarium.training._labels import loaded_labels, stored_labels

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class TestTimeAdaptation(nn.Module):
    """``adapt(x) -> logits`` adapts to a batch and then predicts it; ``predict(x)`` only predicts.

    As it stands nothing is trained: with ``bn="source"`` it is the source model, with ``bn="batch"`` the model whose
    batch normalisation uses the statistics of the batch at hand. Subclasses name parameters that descend a loss of the
    predictions (``trained``), or change weights within a pass (``_hooks``).

    The model must be in evaluation mode. Its ``requires_grad`` flags, ``.grad``, buffers and hooks are the same after
    each call; ``state_dict()`` holds all there is to go on from: parameters, source values, the optimizer's state.

    Args:
        model: a trained classifier, ``model(x) -> logits [batch, classes]``.
        trained: parameters that descend the loss.
        changed: further parameters that change.
        bn: statistics of batch normalisation: ``"source"`` (the running ones), ``"batch"``, or ``"mix"``.
        mix: weight of the batch's statistics in a mix; no gradient flows through mixed statistics.
        loss: ``loss(logits) -> scalar``; the entropy of the predictions by default.
        lr: rate of Adam.
        optimizer: ``optimizer(parameters)`` instead of Adam with rate ``lr``.
        predict_before: predict from the pass that the step was computed from, and save the second one.
        episodic: start every batch from the source model.
        reset_on_domain_change: start from the source model whenever ``adapt`` is given another ``domain``.

    Raises:
        ValueError: an argument out of range.
    """

    __test__ = False  # not a test class, whatever its name

    def __init__(
        self,
        model: nn.Module,
        *,
        trained: Sequence[nn.Parameter] = (),
        changed: Sequence[nn.Parameter] = (),
        bn: str = "source",
        mix: float = 0.5,
        loss: Callable[[Tensor], Tensor] = prediction_entropy,
        lr: float = 1e-3,
        optimizer: MakeOptimizer | None = None,
        predict_before: bool = False,
        episodic: bool = False,
        reset_on_domain_change: bool = False,
    ) -> None:
        super().__init__()
        if bn not in ("source", "batch", "mix"):
            raise ValueError(f"bn must be 'source', 'batch' or 'mix', not {bn!r}")
        if not 0 <= mix <= 1:
            raise ValueError(f"mix must be between 0 and 1, not {mix}")
        self.model, self.bn, self.mix, self.loss = model, bn, mix, loss
        self.predict_before, self.episodic = predict_before, episodic
        self.reset_on_domain_change = reset_on_domain_change
        self.training = model.training
        self.batches = 0
        self.domain: Any = None
        self.trained = list(trained)
        self.changed = [*self.trained, *changed]
        for i, parameter in enumerate(self.changed):
            self.register_buffer(f"source_{i}", parameter.detach().clone())
        make = optimizer or (lambda parameters: torch.optim.Adam(parameters, lr))
        self.optimizer = make(self.trained) if self.trained else None
        self._fresh: dict[str, Any] = copy.deepcopy(self.optimizer.state_dict()) if self.optimizer else {}

    def adapt(self, x: Float[Tensor, "batch ..."], *labels: Any, domain: Any = None) -> Float[Tensor, "batch ..."]:
        """Adapt to a batch, then predict it. A batch with values that are not finite is predicted only, with a warning.

        Args:
            x: inputs.
            domain: where the batch comes from, for ``reset_on_domain_change``.

        Raises:
            TypeError: labels were given, or ``x`` is no tensor.
            ValueError: a model in training mode; one example where its statistics are needed.
        """
        if labels or not isinstance(x, Tensor):
            raise TypeError("adapt takes one tensor of inputs and no labels: adaptation at test time has none")
        self._check(x)
        if self.episodic or (self.reset_on_domain_change and self.batches and domain != self.domain):
            batches = self.batches
            self.reset()
            self.batches = batches
        index, self.batches, self.domain = self.batches, self.batches + 1, domain
        if not bool(torch.isfinite(x).all()):
            warnings.warn(f"batch {index} holds values that are not finite: not adapted to", RuntimeWarning, 2)
            return self.predict(x)
        with torch.inference_mode(False):
            return self._adapt(x.clone() if x.is_inference() else x, index)

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        """Logits under what was adapted so far; changes nothing."""
        self._check(x)
        with self._passing(False):
            return call(self.model, x)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        """The same as ``predict``."""
        return self.predict(x)

    @torch.no_grad()
    def reset(self) -> None:
        """Back to the source model, bit for bit, and to an optimizer without history."""
        for i, parameter in enumerate(self.changed):
            parameter.copy_(getattr(self, f"source_{i}"))
        if self.optimizer is not None:
            self.optimizer.load_state_dict(copy.deepcopy(self._fresh))
        self.batches, self.domain = 0, None

    def restore(self) -> nn.Module:
        """Reset, and hand back the source model."""
        self.reset()
        return self.model

    def get_extra_state(self) -> dict[str, Any]:
        """What ``state_dict`` holds beside tensors: the optimizer's state and the place in the stream."""
        optimizer = None if self.optimizer is None else self.optimizer.state_dict()
        return {"optimizer": optimizer, "batches": self.batches, "domain": stored_labels([self.domain])}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what ``get_extra_state`` gave."""
        self.batches, self.domain = state["batches"], loaded_labels(state["domain"])[0]
        if self.optimizer is not None:
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))

    def _adapt(self, x: Tensor, index: int) -> Tensor:
        """One step on the loss, where something is trained, then the prediction."""
        if self.optimizer is None:
            with torch.no_grad(), self._passing(True):
                return call(self.model, x)
        with torch.enable_grad(), self._passing(True):
            logits = call(self.model, x)
            gradients = torch.autograd.grad(self.loss(logits), self.trained)
        if all(bool(torch.isfinite(g).all()) for g in gradients):
            held = [p.grad for p in self.trained]
            for parameter, gradient in zip(self.trained, gradients):
                parameter.grad = gradient
            self.optimizer.step()
            for parameter, before in zip(self.trained, held):
                parameter.grad = before
        else:
            warnings.warn(f"batch {index} gave a gradient that is not finite: no step taken", RuntimeWarning, 3)
        return logits.detach() if self.predict_before else self.predict(x)

    def _hooks(self, adapting: bool) -> list[RemovableHandle]:
        """Hooks for one pass."""
        return []

    @contextmanager
    def _passing(self, adapting: bool) -> Iterator[None]:
        """Within the context: hooks, statistics of the chosen kind, and nothing but ``trained`` requires a gradient."""
        with ExitStack() as stack:
            stack.enter_context(statistics(self.model, self.bn, self.mix))
            stack.enter_context(_only(self.model, self.trained if adapting else ()))
            for handle in self._hooks(adapting):
                stack.callback(handle.remove)
            yield

    def _check(self, x: Tensor) -> None:
        for name, module in self.model.named_modules():
            if module.training and isinstance(module, (_DropoutNd, _BatchNorm)):
                what = "dropout off" if isinstance(module, _DropoutNd) else "batch normalisation in evaluation mode"
                raise ValueError(f"adaptation needs {what} (module {name!r}): call model.eval()")


@contextmanager
def statistics(model: nn.Module, bn: str, mix: float = 0.5) -> Iterator[None]:
    """Within the context, batch normalisation in evaluation mode uses statistics of the given kind; no buffer changes.

    Args:
        model: any module.
        bn: ``"source"``, ``"batch"`` or ``"mix"``.
        mix: weight of the batch's statistics in a mix.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    kept: list[tuple[Any, Any]] = [(m.running_mean, m.running_var) for m in layers]
    handles = []

    def blend(module: nn.Module, arguments: tuple[Tensor, ...], source: tuple[Tensor, Tensor]) -> None:
        x = arguments[0].detach()
        variance, mean = torch.var_mean(x, dim=[d for d in range(x.dim()) if d != 1], correction=0)
        module.running_mean = torch.lerp(source[0], mean, mix)
        module.running_var = torch.lerp(source[1], variance, mix)

    def several(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if arguments[0].numel() == arguments[0].shape[1]:  # maps of one image have a value per place
            raise ValueError("one example has no batch statistics: give larger batches, or bn='source' or bn='mix'")

    if bn == "batch":
        for layer in layers:  # without running statistics the layer takes those of the batch
            layer.running_mean = layer.running_var = None
            handles.append(layer.register_forward_pre_hook(several))
    elif bn == "mix":
        for layer, source in zip(layers, kept):
            handles.append(layer.register_forward_pre_hook(lambda m, a, source=source: blend(m, a, source)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, (mean, variance) in zip(layers, kept):
            layer.running_mean, layer.running_var = mean, variance


@contextmanager
def _only(model: nn.Module, trained: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the context, of the model's parameters only those in ``trained`` require a gradient."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    chosen = {id(p) for p in trained}
    for parameter, _ in flags:
        parameter.requires_grad_(id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


class BatchNormAdapt(TestTimeAdaptation):
    """Batch normalisation with the statistics of the test batch; no parameter changes.

    (Schneider et al., 2020; Nado et al., 2020.)

    Args:
        model: a trained classifier with batch normalisation, in evaluation mode.
        mix: weight of the batch's statistics against the source's; 1 uses the batch's alone.

    Raises:
        ValueError: the model has no batch normalisation with running statistics.
    """

    def __init__(self, model: nn.Module, *, mix: float = 1.0) -> None:
        if not any(isinstance(m, _BatchNorm) and m.running_mean is not None for m in model.modules()):
            raise ValueError("model has no batch normalisation with running statistics, so there is nothing to adapt")
        super().__init__(model, bn="batch" if mix == 1 else "mix", mix=mix)
