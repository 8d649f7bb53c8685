"""A model of a whole class of signals: from what sensors saw of one to its neural field, in one pass.

Gu, Wang and Yeung, Generalizable Neural Fields as Partially Observed Neural Processes, 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from neurarium.layers import ForwardMap
from neurarium.models.fields._neural_fields import FourierFeatureField, perceptron

SHARP = 100.0  # the release's softplus of sharpness 1 keeps every deviation above 0.69
Moments = tuple[Tensor, Tensor]
FittedField = Callable[[Tensor], Moments]
"""Points [points, dimensions] or [batch, points, dimensions] -> means and deviations [batch, points, channels]."""


class SensorPrediction(NamedTuple):
    """What sensors are expected to read.

    Args:
        loc: means [samples, batch, sensors, ...].
        scale: standard deviations, of the same shape.
        prior: mean and deviation of the latent variable given the context [batch, width]; None without one.
        posterior: those given the targets too; None where no targets were given.
    """

    loc: Tensor
    scale: Tensor
    prior: Moments | None
    posterior: Moments | None


class PartiallyObservedNeuralProcess(nn.Module):
    """Encodes readings of some sensors, conditions a field on them, and predicts readings through the forward map.

    The field's values are never given: a reading's mean is the forward map of the field's mean, its deviation that of
    the field's deviation. Readings are encoded one by one, each with what `ForwardMap.describe` says of its sensor, and
    joined by attention from each point ("attention") or by their mean ("mean"), so that their order does not matter;
    with ``latent`` a normal variable z is drawn from their mean code. The four variants are those of the literature:
    CNP (mean), LNP (mean, latent: z alone), AttnCNP and AttnLNP (both codes, joined).

    In evaluation mode z is its mean unless more than one sample is asked for.

    Args:
        forward_map: the sensor, yours or one of `neurarium.layers`; differentiable in the field's values.
        sensor_features: numbers that the map's ``describe`` gives of a sensor (2 for an angle or a pixel).
        readings: numbers that one sensor reads (detectors of a projection, channels of a pixel).
        dimensions: coordinates of a point.
        channels: values of the field at a point.
        width: of all hidden layers.
        heads: of the attention.
        aggregator: "attention" or "mean".
        latent: a latent variable.
        bounded: the field's means lie in [0, 1].
        frequencies: standard deviation of the random frequencies in which points are encoded.
        typical: readings of some signals [..., readings]; what is encoded is standardised by their mean and deviation.
            Give it where readings are far from mean 0 and deviation 1, as projections are.
        generator: draws these frequencies.

    Raises:
        ValueError: an unknown aggregator, or a width that the heads do not divide.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        forward_map: ForwardMap,
        sensor_features: int,
        readings: int,
        dimensions: int = 2,
        channels: int = 1,
        *,
        width: int = 256,
        heads: int = 8,
        aggregator: str = "attention",
        latent: bool = True,
        bounded: bool = True,
        frequencies: float = 5.0,
        typical: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if aggregator not in ("attention", "mean"):
            raise ValueError(f"aggregator must be 'attention' or 'mean', not {aggregator!r}")
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, not {width} of {heads}")
        self.forward_map = forward_map
        usual = torch.zeros(2, readings) if typical is None else typical.detach().reshape(-1, readings)
        spread = torch.ones(()) if typical is None else (usual - usual.mean(0)).square().mean().sqrt()
        self.register_buffer("centre", usual.mean(0))
        self.register_buffer("spread", spread.clamp_min(1e-6))
        self.encode_point = FourierFeatureField(
            dimensions, width, width, frequencies, width, depth=1, sigmoid=False, generator=generator
        )
        self.encode_sensor = perceptron([sensor_features, width, width])
        self.resize = nn.Linear(width, readings)
        self.encode_reading = perceptron([readings, 2 * width, 2 * width, width])
        self.attend = PointAttention(width, heads) if aggregator == "attention" else None
        self.encode_latent = perceptron([width, width, 2 * width]) if latent else None
        self.join = nn.Linear(2 * width, width) if latent and self.attend else None
        self.decoder = FieldDecoder(width, channels, bounded)
        for module in self.modules():  # ten layers lie between a reading and the field: none may shrink what differs
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        with torch.no_grad():  # a sigmoid that begins at its ends hardly learns
            self.decoder.loc.weight *= 0.1
            self.decoder.scale.weight *= 0.1

    def forward(
        self,
        parameters: Tensor,
        observations: Tensor,
        queries: Tensor,
        *,
        samples: int = 1,
        targets: tuple[Tensor, Tensor] | None = None,
    ) -> SensorPrediction:
        """What other sensors read of the signal that some sensors saw.

        Args:
            parameters: of the sensors that saw it [batch, sensors, ...].
            observations: what they read [batch, sensors, ...].
            queries: parameters of the sensors asked for [batch, sensors, ...].
            samples: of the latent variable.
            targets: parameters and observations from which the latent variable is drawn instead, for the evidence
                bound in training.

        Raises:
            ValueError: no sensor in the context; readings of another size; a forward map that gives no gradient.
        """
        code, keys = self._encode(parameters, observations)
        prior = self._moments(code)
        posterior = self._moments(self._encode(*targets)[0]) if targets is not None else None
        z = self._draw(posterior or prior, samples)
        points = self.forward_map.points(queries)
        lead = points.shape[1:-2]  # a map may ask other points for each sensor
        loc, scale = self._field(code, keys, z, points.reshape(len(points), -1, points.shape[-1]))
        mean, deviation = self._sense(loc, scale, queries, lead)
        if torch.is_grad_enabled() and loc.requires_grad and not mean.requires_grad:
            raise ValueError("forward_map gives no gradient: it must be differentiable in the field's values")
        return SensorPrediction(mean, deviation, prior, posterior)

    def field(self, parameters: Tensor, observations: Tensor) -> FittedField:
        """The field of each signal, to be asked anywhere, at any resolution; z is its mean.

        Args:
            parameters: of the sensors that saw it [batch, sensors, ...].
            observations: what they read [batch, sensors, ...].
        """
        code, keys = self._encode(parameters, observations)
        moments = self._moments(code)
        z = None if moments is None else moments[0][None]

        def ask(points: Tensor) -> Moments:
            if points.dim() == 2:
                points = points.expand(len(code), -1, -1)
            loc, scale = self._field(code, keys, z, points)
            return loc[0], scale[0]

        return ask

    def adapt(self, parameters: Tensor, observations: Tensor, steps: int, lr: float = 1e-4) -> FittedField:
        """`field`, after some steps of Adam on the likelihood of the context's own readings (test-time optimisation).

        Only a copy of the decoder moves, one for each signal; the model stays as it is.

        Args:
            parameters: of the sensors that saw it [batch, sensors, ...].
            observations: what they read [batch, sensors, ...].
            steps: of Adam.
            lr: its learning rate.
        """
        with torch.no_grad():
            code, keys = self._encode(parameters, observations)
            moments = self._moments(code)
            z = None if moments is None else moments[0][None]
            points = self.forward_map.points(parameters)
            lead = points.shape[1:-2]
            given = self._represent(code, keys, z, points.reshape(len(points), -1, points.shape[-1]))
        weights = {
            name: p.detach().expand(len(code), *p.shape).clone().requires_grad_()
            for name, p in self.decoder.named_parameters()
        }

        def decode(weights: dict[str, Tensor], features: Tensor, code: Tensor) -> Moments:
            found: Moments = functional_call(self.decoder, weights, (features, code))
            return found

        def each(features: Tensor, code: Tensor) -> Moments:
            return vmap(decode, in_dims=(0, 0, 1), out_dims=1)(weights, features, code)

        optimizer = torch.optim.Adam(weights.values(), lr)
        with torch.enable_grad():
            for _ in range(steps):
                mean, deviation = self._sense(*each(*given), parameters, lead)
                reading = observations.view_as(mean[0])
                loss = (deviation.log() + 0.5 * ((reading - mean) / deviation).square()).sum()
                for weight, gradient in zip(weights.values(), torch.autograd.grad(loss, list(weights.values()))):
                    weight.grad = gradient
                optimizer.step()

        @torch.no_grad()
        def ask(points: Tensor) -> Moments:
            if points.dim() == 2:
                points = points.expand(len(code), -1, -1)
            loc, scale = each(*self._represent(code, keys, z, points))
            return loc[0], scale[0]

        return ask

    def _encode(self, parameters: Tensor, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of the readings and of their sensors, [batch, sensors, width] each."""
        if parameters.shape[1] == 0:
            raise ValueError("the context holds no sensor: at least one reading is needed")
        told = self.encode_sensor(self.forward_map.describe(parameters))
        read = observations.reshape(*observations.shape[:2], -1)
        if read.shape[-1] != self.resize.out_features:
            raise ValueError(f"a sensor of this model reads {self.resize.out_features} numbers, not {read.shape[-1]}")
        return self.encode_reading(self.resize(told) + (read - self.centre) / self.spread), told

    def _moments(self, code: Tensor) -> Moments | None:
        if self.encode_latent is None:
            return None
        loc, scale = self.encode_latent(code.mean(1)).chunk(2, -1)
        return loc, 0.1 + 0.9 * scale.sigmoid()

    def _draw(self, moments: Moments | None, samples: int) -> Tensor | None:
        """z [samples, batch, width]."""
        if moments is None:
            return None
        loc, scale = moments
        if samples == 1 and not self.training:
            return loc[None]
        return loc + scale * torch.randn(samples, *loc.shape, device=loc.device, dtype=loc.dtype)

    def _represent(self, code: Tensor, keys: Tensor, z: Tensor | None, points: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the points [batch, points, width], and the signal's code at them [samples, batch, .., width]."""
        features = self.encode_point(points)
        if self.attend is None:
            return features, (code.mean(1)[None] if z is None else z)[:, :, None]
        seen = self.attend(features, keys, code)[None]
        if z is None or self.join is None:
            return features, seen
        seen, drawn = torch.broadcast_tensors(seen, z[:, :, None])
        return features, self.join(torch.cat((seen, drawn), -1))

    def _field(self, code: Tensor, keys: Tensor, z: Tensor | None, points: Tensor) -> Moments:
        """Means and deviations of the field, [samples, batch, points, channels]."""
        found: Moments = self.decoder(*self._represent(code, keys, z, points))
        return found

    def _sense(self, loc: Tensor, scale: Tensor, queries: Tensor, lead: torch.Size) -> Moments:
        """What the sensors read of the field's means and deviations."""

        def seen(values: Tensor) -> Tensor:
            values = values.unflatten(2, (*lead, -1)) if lead else values
            return self.forward_map(values, queries.expand(len(values), *queries.shape))

        return seen(loc), 0.01 + 0.99 * F.softplus(seen(scale), beta=SHARP)


class PointAttention(nn.Module):
    """Each point asks the sensors: multi-head attention and a perceptron, each added and normalised.

    Args:
        width: of points, keys and values.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = perceptron([width, width, width])

    def forward(
        self,
        points: Float[Tensor, "batch points width"],
        keys: Float[Tensor, "batch sensors width"],
        values: Float[Tensor, "batch sensors width"],
    ) -> Float[Tensor, "batch points width"]:
        """What each point is told."""
        told = self.first(points + self.attention(points, keys, values, need_weights=False)[0])
        out: Tensor = self.second(told + self.mix(told))
        return out


class FieldDecoder(nn.Module):
    """The conditioned field: features of a point and the signal's code to mean and deviation of its value.

    Args:
        width: of features and code.
        channels: of the value.
        bounded: means in [0, 1].
    """

    def __init__(self, width: int, channels: int, bounded: bool) -> None:
        super().__init__()
        self.resize = perceptron([width, width, width])
        self.layers = nn.Sequential(perceptron([*[width] * 5]), nn.ReLU())
        self.loc, self.scale = nn.Linear(width, channels), nn.Linear(width, channels)
        self.bounded = bounded

    def forward(
        self, features: Float[Tensor, "*batch points width"], code: Float[Tensor, "*codes width"]
    ) -> tuple[Tensor, Tensor]:
        """Mean and what becomes the deviation, in [0, 1]."""
        hidden = self.layers(features + self.resize(code))
        loc = self.loc(hidden)
        return loc.sigmoid() if self.bounded else loc, self.scale(hidden).sigmoid()
