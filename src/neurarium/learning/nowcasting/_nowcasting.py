"""Jumps along the trajectory: once in a while the parameters are replaced by a forecast of where they are going."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class Forecast(Protocol):
    """What a predictor gives for one model."""

    context: int
    """Snapshots it sees."""
    horizon: int
    """The furthest snapshot it forecasts."""

    def predict(self, states: Float[Tensor, "parameters context"], k: int) -> Float[Tensor, parameters]:
        """The flat parameter vector ``k`` snapshots after the last state."""


@runtime_checkable
class Predictor(Protocol):
    """`NiNo`, `WeightNowcast`, `LinearNowcast`, or your own."""

    def bind(self, model: nn.Module) -> Forecast:
        """The predictor for one model."""


class LinearNowcast:
    """A straight line through the last values of each parameter, by least squares, continued ("Linefit").

    Args:
        context: snapshots it sees.
        horizon: the furthest snapshot it forecasts; the first jumps of a run go this far.

    Raises:
        ValueError: ``context`` below 2 or ``horizon`` below 1.
    """

    def __init__(self, context: int = 5, horizon: int = 40) -> None:
        if context < 2 or horizon < 1:
            raise ValueError(f"context must be at least 2 and horizon at least 1, not {context} and {horizon}")
        self.context = context
        self.horizon = horizon

    def bind(self, model: nn.Module) -> LinearNowcast:
        """A line needs to know nothing of the model."""
        return self

    def predict(self, states: Float[Tensor, "parameters context"], k: int) -> Float[Tensor, parameters]:
        """The line ``k`` snapshots after the last state."""
        times = torch.arange(states.shape[1], dtype=states.dtype, device=states.device)
        times -= times.mean()
        slope = states @ times / times.square().sum()
        return states.mean(1) + slope * (times[-1] + k)


def horizon_schedule(horizon: int, nowcasts: int, power: float = 2.0) -> list[int]:
    """How many snapshots ahead each jump of a run goes: far at first, one at the end (section 4.4).

    Args:
        horizon: the first jump.
        nowcasts: jumps in the run.
        power: of the decay; round(linspace(horizon^(1/power), 1, nowcasts)^power).
    """
    roots = np.linspace(horizon ** (1 / power), 1.0, num=max(1, nowcasts))
    return [int(k) for k in (roots**power).round()]


class Nowcaster(torch.optim.Optimizer):
    """An optimizer that jumps once every ``period`` steps (Knyazev et al., 2024, algorithm 1).

    Every ``period / context`` steps the parameters are kept. At the step that completes ``context`` snapshots no
    gradient step is made: the forecast replaces the parameters, the snapshots are dropped, and the optimizer's own
    state (Adam's moments) stays as it is. Only parameters move, so it goes with every learning rule; buffers such as
    batch statistics and parameters that need no gradient are left alone.

    It takes the place of the optimizer it wraps: hooks, parameter groups and learning-rate schedulers reach that one.
    In a distributed run every rank makes the jump of rank 0, and the guard's loss is the mean over the ranks.

    Args:
        optimizer: makes all other steps.
        model: its parameters are forecast, in the order of `named_parameters`.
        predictor: forecasts them; its ``context`` is the number of snapshots.
        period: steps from one jump to the next; a multiple of the context.
        max_steps: length of the run, over which jumps get shorter.
        power: how fast they do; see `horizon_schedule`.
        guard: ``guard() -> loss`` on a held batch; a jump that raises it is undone. A jump to values that are not
            finite is undone in any case.

    Raises:
        ValueError: ``period`` is not divisible by the context, no jump would ever happen, or ``power`` is not
            positive.

    Example:
        optimizer = Nowcaster(torch.optim.Adam(model.parameters()), model, LinearNowcast(), max_steps=10_000)
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        predictor: Predictor,
        *,
        period: int = 1000,
        max_steps: int,
        power: float = 2.0,
        guard: Callable[[], float | Tensor] | None = None,
    ) -> None:
        self.optimizer = optimizer  # before anything else: what is not found here is looked for there
        self.model = model
        self.forecast = predictor.bind(model)
        self.context = self.forecast.context
        if period < 1 or period % self.context:
            raise ValueError(f"period must be a multiple of the predictor's context {self.context}, not {period}")
        if max_steps < period:
            raise ValueError(f"max_steps is {max_steps}, less than period {period}: no nowcast would ever happen")
        if power <= 0:
            raise ValueError(f"power must be positive, not {power}")
        self.period = period
        self.guard = guard
        self.schedule = horizon_schedule(self.forecast.horizon, max_steps // period, power)
        self.steps = 0
        self.undone: list[int] = []
        self.states: list[Tensor] = []
        self._shapes = self._layout()

    def __getattr__(self, name: str) -> Any:
        if name == "optimizer":
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    @property
    def needs_gradient(self) -> bool:
        """False where the next step is a jump: the backward pass can be left out."""
        return not (len(self.states) == self.context - 1 and self._keeps_next())

    @property
    def k(self) -> int:
        """How many snapshots ahead the next jump goes."""
        return self.schedule[min(len(self.schedule) - 1, self.steps // self.period)]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients."""
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """A step of the optimizer, or a jump; both count as one step.

        Raises:
            ValueError: the parameters have changed shape or number since the run began.
        """
        if self._keeps_next():
            if self._layout() != self._shapes:
                raise ValueError(
                    "the model's parameters changed shape or number since the nowcaster was made; make a new one after "
                    "every change of the architecture"
                )
            self.states.append(self._vector())
        loss = None
        if len(self.states) == self.context:
            self._jump()
            self.states = []
        else:
            loss = self.optimizer.step(closure) if closure is not None else self.optimizer.step()
        self.steps += 1
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Everything a run needs to go on, in the middle of a period too."""
        return {
            "optimizer": self.optimizer.state_dict(), "steps": self.steps, "states": list(self.states),
            "undone": list(self.undone),
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a run was left."""
        sizes = {len(states) for states in state_dict["states"]}
        if sizes - {len(self._vector())}:
            raise ValueError("state_dict holds snapshots of another model: their sizes differ")
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.steps = state_dict["steps"]
        self.states = list(state_dict["states"])
        self.undone = list(state_dict["undone"])

    def __repr__(self) -> str:
        return f"Nowcaster(period={self.period}, schedule={self.schedule}, {self.optimizer!r})"

    def _keeps_next(self) -> bool:
        return (self.steps + 1) % (self.period // self.context) == 0

    def _layout(self) -> list[tuple[str, torch.Size]]:
        return [(name, parameter.shape) for name, parameter in self.model.named_parameters()]

    @torch.no_grad()
    def _vector(self) -> Tensor:
        """The parameters as one vector in main memory."""
        kinds = {parameter.dtype for parameter in self.model.parameters()}
        dtype = torch.float64 if torch.float64 in kinds else torch.float32
        return torch.cat([p.detach().flatten().to("cpu", dtype, copy=True) for p in self.model.parameters()])

    def _jump(self) -> None:
        before = self._guarded()
        vector = self._shared(self.forecast.predict(torch.stack(self.states, dim=1), self.k)).cpu()
        if not torch.isfinite(vector).all():
            warnings.warn(f"step {self.steps + 1}: the forecast is not finite; the jump is left out", stacklevel=3)
            self.undone.append(self.steps + 1)
            return
        self._place(vector)
        if before is not None and not self._guarded() <= before:
            self._place(self.states[-1])
            self.undone.append(self.steps + 1)

    def _guarded(self) -> Any:
        """The guard's loss; None without a guard."""
        return None if self.guard is None else float(self._shared(torch.as_tensor(self.guard()), mean=True))

    @torch.no_grad()
    def _shared(self, tensor: Tensor, mean: bool = False) -> Tensor:
        """The same on all ranks: that of rank 0, or the mean. Rounding alone would let their weights drift apart."""
        if not (dist.is_available() and dist.is_initialized()):
            return tensor
        common = tensor.to(next(self.model.parameters()).device, copy=True)
        if mean:
            dist.all_reduce(common)
            return common / dist.get_world_size()
        dist.broadcast(common, src=0)
        return common

    @torch.no_grad()
    def _place(self, vector: Tensor) -> None:
        parameters = list(self.model.parameters())
        ends = itertools.accumulate(p.numel() for p in parameters)
        for parameter, end in zip(parameters, ends):
            if parameter.requires_grad:
                parameter.copy_(vector[end - parameter.numel() : end].view_as(parameter))
