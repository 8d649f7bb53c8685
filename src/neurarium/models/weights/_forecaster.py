"""Networks that forecast the parameters of other networks: what they have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.data import scale_states
from neurarium.data._saved import read_tensors


class Forecaster(nn.Module, ABC):
    """Looks at ``context`` snapshots of a model's parameters and forecasts up to ``horizon`` snapshots ahead.

    Direct multi-step forecasting: one output for each future snapshot, added to the last state. Everything happens in
    parameters scaled tensor by tensor.

    Args:
        context: snapshots it sees.
        horizon: the furthest snapshot it forecasts.
        config: the arguments it was made with, kept in its file.
    """

    kinds: ClassVar[dict[str, type[Forecaster]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Forecaster.kinds[cls.__name__] = cls

    def __init__(self, context: int, horizon: int, config: dict[str, Any]) -> None:
        super().__init__()
        if context < 2 or horizon < 1:
            raise ValueError(f"context must be at least 2 and horizon at least 1, not {context} and {horizon}")
        self.context = context
        self.horizon = horizon
        self.config = {"context": context, "horizon": horizon} | config

    @abstractmethod
    def bind(self, model: nn.Module) -> BoundForecaster:
        """This forecaster for one model: its structure is read once."""

    def initialise(self, generator: torch.Generator | None) -> None:
        """Linear layers and embeddings from N(0, 0.02²), biases 0."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02, generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def save(self, path: str | Path) -> None:
        """Write weights and arguments to a safetensors file."""
        from safetensors.torch import save_file

        meta = {"neurarium": json.dumps({"kind": type(self).__name__} | self.config)}
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, str(path), metadata=meta)

    @classmethod
    def load(cls, path: str | Path) -> Forecaster:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is of something else.
        """
        state, meta = read_tensors(path, f"{cls.__name__}.save")
        config = json.loads(meta.get("neurarium", "{}"))
        kind = Forecaster.kinds.get(config.pop("kind", ""))
        if kind is None or not issubclass(kind, cls):
            raise ValueError(f"{path} holds no {cls.__name__}: give a file that {cls.__name__}.save wrote")
        forecaster = kind(**config)
        forecaster.load_state_dict(state)
        return forecaster


class BoundForecaster(ABC):
    """A forecaster and the model whose parameters it forecasts.

    Args:
        forecaster: the network.
        model: gives the sizes of the parameter tensors, over which states are scaled.
    """

    def __init__(self, forecaster: Forecaster, model: nn.Module) -> None:
        self.context = forecaster.context
        self.horizon = forecaster.horizon
        self.sizes = [parameter.numel() for parameter in model.parameters()]

    @abstractmethod
    def forecasts(
        self,
        scaled: Float[Tensor, "slices parameters context"],
        k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "slices parameters *horizon"]:
        """Scaled future states, differentiable in the forecaster's weights.

        Args:
            scaled: past states, in the scale in which it was trained.
            k: only this many snapshots ahead; None for all of 1 to ``horizon``, in a last dimension.
            generator: draws what is random while it is trained; None where it is used.
        """

    @torch.no_grad()
    def predict(self, states: Float[Tensor, "parameters context"], k: int) -> Float[Tensor, parameters]:
        """The parameters ``k`` snapshots after the last state.

        Args:
            states: flat parameter vectors in the order of `named_parameters`, oldest first.
            k: 1 to ``horizon``.

        Raises:
            ValueError: ``states`` do not fit the model or the context, or ``k`` is out of range.
        """
        if states.shape != (sum(self.sizes), self.context):
            raise ValueError(
                f"states must be [{sum(self.sizes)} parameters, {self.context} snapshots], not of shape "
                f"{tuple(states.shape)}"
            )
        if not 1 <= k <= self.horizon:
            raise ValueError(f"k must be between 1 and {self.horizon}, not {k}")
        scaled, mean, std = scale_states(states, self.sizes)
        return self.forecasts(scaled[None], k)[0] * std[:, 0] + mean[:, 0]
