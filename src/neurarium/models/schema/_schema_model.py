"""A schema filled with networks: paths can be applied, and equations measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurarium.models.schema._schema import (
    Arrow,
    Composable,
    Object,
    Pairing,
    Path,
    Product,
    Projection,
    Schema,
    Step,
    Type,
    arrows_of,
    as_path,
)
from neurarium.training import evaluation

Value = Tensor | tuple[Tensor, ...]
Norm = Literal["l1", "l2"]


class SchemaModel(nn.Module):
    """One network for every arrow of a schema, one critic for every type that is to be judged.

    ``model[path](x)`` applies a composite: the composition of the networks, so that an arrow that a path uses twice is
    the same parameters twice. (Gavranović, 2019: a model is a functor on the free category; it factors through the
    schema's equations where `violation` is 0.)

    Args:
        schema: types, arrows, relations.
        networks: arrow -> network, given the source's factors as arguments; for a product it returns a tuple.
        critics: type -> critic, one logit per example; types without one are not judged.

    Raises:
        ValueError: an arrow without a network or a network without an arrow; a critic of an unknown type; a name that
            torch's modules use themselves ("to", "type"); a network whose output for its arrow's source does not have
            its target's shape.
    """

    def __init__(
        self, schema: Schema, networks: Mapping[str, nn.Module], critics: Mapping[str, nn.Module] | None = None
    ) -> None:
        super().__init__()
        wanted, given = {arrow.name for arrow in schema.arrows}, set(networks)
        if wanted != given:
            missing, extra = sorted(wanted - given), sorted(given - wanted)
            raise ValueError(f"networks: no network for {missing[0]!r}" if missing else f"no arrow {extra[0]!r}")
        unknown = sorted(set(critics or {}) - set(schema.types))
        if unknown:
            raise ValueError(f"critics: the schema has no type {unknown[0]!r}; it has {', '.join(schema.types)}")
        reserved = [name for name in (*networks, *(critics or {})) if hasattr(nn.ModuleDict(), name) or "." in name]
        if reserved:
            raise ValueError(f"{reserved[0]!r} cannot be the name of a network: torch's modules use it; rename it")
        self.schema = schema
        self.networks = nn.ModuleDict(dict(networks))
        self.critics = nn.ModuleDict(dict(critics or {}))
        with torch.no_grad(), evaluation(self):
            for arrow in schema.arrows:
                self._try(arrow)

    def forward(self, arrow: str, *x: Tensor) -> Value:
        """One arrow applied to its source's factors."""
        return self.follow(self.schema.arrow(arrow), x if len(x) > 1 else x[0])

    def __getitem__(self, path: Composable) -> Callable[[Value], Value]:
        """A composite as a function."""
        return lambda x: self._through(as_path(path), x)

    def follow(self, step: Step, x: Value) -> Value:
        """An arrow, a projection or a pairing applied to a value."""
        if isinstance(step, Projection):
            return x[step.index]
        if isinstance(step, Pairing):
            found: list[Tensor] = []
            for path in step.paths:
                value = self._through(path, x)
                found += value if isinstance(value, tuple) else (value,)
            return tuple(found)
        result: Value = self.networks[step.name](*x) if isinstance(x, tuple) else self.networks[step.name](x)
        return tuple(result) if isinstance(step.target, Product) else result

    def on(self, batch: Mapping[str, Tensor]) -> Evaluation:
        """Paths on one batch, each beginning computed once."""
        return Evaluation(self, batch)

    def violation(
        self, relation: tuple[Composable, Composable], batch: Mapping[str, Tensor], norm: Norm = "l1"
    ) -> Tensor:
        """Mean distance of the two sides of an equation, over the examples of the type where they begin.

        Args:
            relation: two parallel paths.
            batch: type -> examples.
            norm: "l1" for mean absolute differences, "l2" for mean squared ones; factors of a product add up.
        """
        return self.on(batch).violation(as_path(relation[0]), as_path(relation[1]), norm)

    def parameters_of(self, path: Composable) -> list[nn.Parameter]:
        """Parameters of a composite: those of its arrows, each once."""
        names = dict.fromkeys(arrow.name for arrow in arrows_of(as_path(path)))
        return list(dict.fromkeys(p for name in names for p in self.networks[name].parameters()))

    def pulled_back(self, schema: Schema, arrows: Mapping[str, Composable]) -> SchemaModel:
        """The model of another schema that a map of schemas makes of this one, on the same parameters.

        Args:
            schema: the other one, on types of the same shapes.
            arrows: each of its arrows -> a path here.

        Raises:
            ValueError: a path does not have its arrow's shapes.
        """
        return SchemaModel(schema, {name: Composite(self, as_path(path)) for name, path in arrows.items()})

    def _through(self, path: Path, x: Value) -> Value:
        for step in path.steps:
            x = self.follow(step, x)
        return x

    def _try(self, arrow: Arrow) -> None:
        like = next(self.networks.parameters(), torch.zeros(1))
        x = tuple(
            torch.zeros(2, *factor.shape, dtype=like.dtype, device=like.device) for factor in arrow.source.factors
        )
        given = " and ".join(str(factor.shape) for factor in arrow.source.factors)
        try:
            found = self.follow(arrow, x if len(x) > 1 else x[0])
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"the network of {arrow} does not take {given}: {error}") from error
        shapes = [tuple(value.shape[1:]) for value in (found if isinstance(found, tuple) else (found,))]
        promised = [factor.shape for factor in arrow.target.factors]
        if shapes != promised:
            told = [" and ".join(map(str, some)) for some in (shapes, promised)]
            raise ValueError(f"the network of {arrow} maps {given} to {told[0]}, but the arrow promises {told[1]}")


class Composite(nn.Module):
    """A path through a model as a network of its own, on the model's parameters."""

    def __init__(self, model: SchemaModel, path: Path) -> None:
        super().__init__()
        self.model, self.path = model, path

    def forward(self, *x: Tensor) -> Value:
        """The path applied to its source's factors."""
        return self.model[self.path](x if len(x) > 1 else x[0])


class Evaluation:
    """Values of paths on one batch; those that begin alike share what they have in common."""

    def __init__(self, model: SchemaModel, batch: Mapping[str, Tensor]) -> None:
        self.model, self.batch = model, batch
        self.known: dict[tuple[Object, tuple[Step, ...]], Any] = {}

    def examples(self, at: Object) -> Value:
        """Examples of a type; of a product, those of its factors side by side.

        Raises:
            ValueError: the batch has none.
        """
        for factor in at.factors:
            if factor.name not in self.batch:
                raise ValueError(f"the batch has no examples of the type {factor.name}")
        found = tuple(self.batch[factor.name] for factor in at.factors)
        return found[0] if isinstance(at, Type) else found

    def value(self, path: Composable) -> Any:
        """A path applied to the examples of the type where it begins."""
        path = as_path(path)
        key = (path.source, path.steps)
        if key not in self.known:
            if not path.steps:
                self.known[key] = self.examples(path.source)
            else:
                before = self.value(Path(path.source, path.steps[-1].source, path.steps[:-1]))
                self.known[key] = self.model.follow(path.steps[-1], before)
        return self.known[key]

    def violation(self, p: Path, q: Path, norm: Norm = "l1") -> Tensor:
        """Mean distance of two parallel paths on the batch."""
        sides = [value if isinstance(value, tuple) else (value,) for value in (self.value(p), self.value(q))]
        apart = [a - b for a, b in zip(*sides, strict=True)]
        return torch.stack([d.abs().mean() if norm == "l1" else d.square().mean() for d in apart]).sum()
