"""GateON: gates choose a sub-network per context, and availability protects what earlier contexts rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.continual._strategy import Strategy, Task
from neurarium.continual.gating._context_detection import ContextDetector
from neurarium.continual.gating._gated_layer import GatedLayer, check_rule, chosen_layers
from neurarium.layers import ContextGate
from neurarium.training import Handle, call, evaluation, on_step, unwrap_optimizer
from neurarium.training._labels import loaded_labels, stored_labels

LEVELS, RULES, PLACES = ("neuron", "parameter"), ("full", "activity", "local"), ("update", "gradient")


class GateON(Strategy):
    """Context gates and availability on the layers of a network (Barry et al., 2023).

    Each gated layer's units are multiplied by gates that depend on the context alone. While a context is learned, the
    availability of units (or weights) falls with their relevance to its loss; from the next context on, it scales every
    change of their weights, and leaks back where they are idle. The output layer is neither gated nor protected.

    Gates become submodules of the gated layers: build the optimizer afterwards, from ``strategy.model.parameters()``,
    and ``attach`` it. Contexts are the tasks named to ``begin_task``; with ``detect=True`` they are found from the
    loss in ``observe``, which is best called before the step on a batch.

    ``predict`` takes a context, if it is known; else every example gets the one whose prediction is surest.

    Args:
        model: any module with `nn.Linear` or convolution layers; at least two.
        layers: names of the layers to gate, in order; all but the last by default.
        level: availability per ``"neuron"`` (a row of weights) or per ``"parameter"``.
        relevance: ``"full"``: (dL/da a)² from the backward pass; ``"activity"``: mean activity (for parameters,
            products of squared activities); ``"local"``: contribution to the next layer, fully connected layers only.
        rate: of availability's decay per step. Rate times the steps of a task says how much of it one task uses up:
            about 1 was best for neurons in our study, 5 for parameters.
        leak: relative relevance below which availability grows back (re-activation); 0 for never.
        max_contexts: capacity of the gates; few contexts in much room start with small gates.
        grow: double the capacity when it is used up, instead of raising.
        detect: find contexts from the loss.
        detector: settings of the detection.
        loss: ``loss(output, y)`` that detection watches.
        obstruct: scale each ``"update"``, right for any optimizer, or, as the released code does, each ``"gradient"``
            (Adam divides most of that out again).
        gates, availability: switch one half of the method off.
        normalize: give gated fully connected layers the paper's form: gate, norm with statistics per context, ReLU,
            unit length. Turn it off where another nonlinearity than ReLU follows (transformers).

    Raises:
        ValueError: an argument out of range, an unknown layer, or a model without two layers.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None = None,
        *,
        level: str = "neuron",
        relevance: str = "full",
        rate: float = 0.01,
        leak: float = 0.1,
        max_contexts: int = 128,
        grow: bool = False,
        detect: bool = False,
        detector: ContextDetector | None = None,
        loss: Callable[[Any, Tensor], Tensor] = cross_entropy,
        obstruct: str = "update",
        gates: bool = True,
        availability: bool = True,
        normalize: bool = True,
    ) -> None:
        super().__init__(model)
        for argument, given, known in (
            ("level", level, LEVELS), ("relevance", relevance, RULES), ("obstruct", obstruct, PLACES)
        ):  # fmt: skip
            if given not in known:
                raise ValueError(f"{argument} must be one of {', '.join(known)}, not {given!r}")
        if rate < 0 or leak < 0:
            raise ValueError(f"rate and leak must not be negative, not {rate} and {leak}")
        if level == "parameter" and relevance == "local":
            raise ValueError('relevance "local" is defined for level "neuron" only')
        self.rate, self.leak, self.obstruct, self.loss = rate, leak, obstruct, loss
        self.grow, self.detect, self.detector = grow, detect, detector or ContextDetector()
        self.names = chosen_layers(model, layers)
        found = [model.get_submodule(name) for name in self.names]
        check_rule(found, level, relevance)
        self.gated = nn.ModuleList(
            GatedLayer(
                layer, following, following is found[-1], gates=gates, normalize=normalize, num_contexts=max_contexts,
                level=level, relevance=relevance if availability else "none",
            )
            for layer, following in pairwise(found)
        )  # fmt: skip
        self.capacity = max_contexts
        self.context = 0
        self.contexts: dict[Task, int] = {}
        self._optimizers: list[torch.optim.Optimizer] = []

    # Contexts

    def begin_task(self, task: Task = None) -> None:
        """Switch to the context of a task, a new one if it is new. With ``detect=True`` the name is not looked at.

        Raises:
            ValueError: there is no room for another context.
        """
        if not self.detect:
            context = self.contexts.get(task, len(self.contexts))
            self._switch(context)
            self.contexts[task] = context
        self.task = task

    @property
    def num_contexts(self) -> int:
        """Contexts known so far."""
        return len(self.detector.losses) if self.detect else len(self.contexts)

    def _switch(self, context: int) -> None:
        self._make_room(context)
        if context == self.context:
            return
        self.context = context
        self._set(context)
        for layer in self._layers():
            layer.commit()
        for optimizer in self._optimizers:
            optimizer.state.clear()  # as in the released code; old momenta belong to the old context

    def _set(self, context: int) -> None:
        for module in self._switches():
            module.set_task(context)

    def _make_room(self, context: int) -> None:
        if context < self.capacity:
            return
        if not self.grow:
            raise ValueError(f"all {self.capacity} contexts are in use: raise max_contexts, or set grow=True")
        self._add_capacity(self.capacity)

    def _add_capacity(self, contexts: int) -> None:
        for name in self.names[:-1]:
            layer: Any = self.model.get_submodule(name)
            if hasattr(layer, "context_norm"):
                layer.context_norm.grow(contexts)
            if hasattr(layer, "context_gate"):
                new = layer.context_gate.grow(contexts)
                for optimizer in self._optimizers:
                    optimizer.add_param_group({"params": new})
        self.capacity += contexts

    # Learning

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Let availability act on an optimizer's steps; the handle's ``remove()`` ends that.

        Raises:
            ValueError: the optimizer lacks the gates, because it was built before them.
        """
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        gates = [p for m in self.model.modules() if isinstance(m, ContextGate) for p in m.parameters()]
        if any(p.requires_grad and id(p) not in held for p in gates):
            raise ValueError("optimizer lacks the gates: build it after the strategy, from strategy.model.parameters()")
        self._optimizers = [unwrap_optimizer(optimizer)]
        return on_step(optimizer, lambda _: self._before(), lambda _: self._after())

    def _layers(self) -> list[GatedLayer]:
        return list(self.gated)  # type: ignore[arg-type]

    def _before(self) -> None:
        for layer in self._layers():
            layer.before_step(self.obstruct)

    def _after(self) -> None:
        for layer in self._layers():
            layer.after_step(self.rate, self.leak)

    @torch.no_grad()
    def observe(self, x: Any, y: Tensor) -> None:
        """With ``detect=True``: look at the loss on a batch and switch context where it says so.

        Raises:
            ValueError: a batch of one example, whose loss is too noisy to tell.
        """
        if not self.detect:
            return
        if len(y) < 2:
            raise ValueError("detect=True needs batches of several examples: the loss of one is too noisy")
        detector = self.detector
        if not detector.losses:
            self._switch(detector.open())  # context 0, for which there always is room
        loss = float(self.loss(self.predict(x, self.context), y))
        if detector.trusted(self.context) and not detector.fits(self.context, loss) and self._moved(x, y):
            losses = {c: float(self.loss(self.predict(x, c), y)) for c in range(self.num_contexts) if c != self.context}
            known = [c for c, value in losses.items() if detector.fits(c, value)]
            if not known:
                self._make_room(self.num_contexts)
            self._switch(known[0] if known else detector.open())
            loss = losses[self.context] if known else float(self.loss(self.predict(x, self.context), y))
        detector.note(self.context, loss)

    # Predicting

    @torch.no_grad()
    def predict(self, x: Any, context: int | None = None) -> Any:
        """The output in evaluation mode under a context; without one, each example's surest (lowest entropy).

        Raises:
            ValueError: a context outside the capacity.
        """
        with evaluation(self.model):
            try:
                if context is not None or self.num_contexts < 2:
                    self._set(self.context if context is None else context)
                    return call(self.model, x)
                outputs = []
                for number in range(self.num_contexts):
                    self._set(number)
                    outputs.append(call(self.model, x))
                every = torch.stack(outputs)
                surest = entropy(every).argmin(0)
                return every[surest, torch.arange(every.shape[1], device=every.device)]
            finally:
                self._set(self.context)

    def _moved(self, x: Any, y: Tensor) -> bool:
        """Whether no quarter of a batch fits the context: where only a few examples are outliers, one does."""
        if not isinstance(x, Tensor):
            return True
        parts = min(4, len(y))
        losses = [float(self.loss(self.predict(x[i::parts], self.context), y[i::parts])) for i in range(parts)]
        return not any(self.detector.fits(self.context, loss) for loss in losses)

    @contextmanager
    def as_task(self, task: Task) -> Iterator[None]:
        """Within the context the gates are those of a task that was begun; with ``detect=True``, of a context's number.

        Raises:
            ValueError: the task was never begun, or the context never found.
        """
        known = set(range(self.num_contexts)) if self.detect else self.contexts
        if task not in known:
            names = ", ".join(map(repr, known)) or "none yet"
            raise ValueError(f"{'context' if self.detect else 'task'} {task!r} is not known; there are: {names}")
        try:
            self._set(task if self.detect else self.contexts[task])
            yield
        finally:
            self._set(self.context)

    @torch.no_grad()
    def infer_context(self, x: Any, y: Tensor | None = None) -> int:
        """The known context with the lowest loss on a few labelled examples; without labels, the surest on average."""
        outputs = [self.predict(x, c) for c in range(max(1, self.num_contexts))]
        doubts = [float(entropy(output).mean() if y is None else self.loss(output, y)) for output in outputs]
        return doubts.index(min(doubts))

    # Reports

    def occupancy(self, below: float = 0.05) -> dict[str, float]:
        """Share of each gated layer's weights (or units) whose availability is used up."""
        shares = {}
        for name, layer in zip(self.names, self._layers()):
            if "weight" in layer.states():
                used = layer.states()["weight"].working < below
                shares[name] = float(used.double().mean())
        return shares

    @torch.no_grad()
    def gate_overlap(self) -> Tensor:
        """Cosine of the gates of every two known contexts, over all gated layers: [contexts, contexts]."""
        gates = [
            torch.cat([self.model.get_submodule(f"{name}.context_gate").gate(c) for name in self.names[:-1]])  # type: ignore[operator]
            for c in range(max(1, self.num_contexts))
        ]
        unit = nn.functional.normalize(torch.stack(gates), dim=1)
        return unit @ unit.T

    def get_extra_state(self) -> dict[str, Any]:
        """Which task is which context, the detector's memory, and the room there is."""
        return {
            "context": self.context, "tasks": stored_labels(list(self.contexts)),
            "contexts": list(self.contexts.values()), "detector": self.detector.state(),
            "capacity": self.capacity,
        }  # fmt: skip

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See ``get_extra_state``."""
        self._add_capacity(max(0, state["capacity"] - self.capacity))  # for gates that had grown
        self.context = state["context"]
        self.contexts = dict(zip(loaded_labels(state["tasks"]), state["contexts"], strict=True))
        self.detector.restore(**state["detector"])
        self._set(self.context)


def entropy(output: Tensor) -> Tensor:
    """Of the class probabilities behind logits [..., classes]: [...]."""
    return torch.special.entr(output.softmax(-1)).sum(-1)
