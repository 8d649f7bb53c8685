"""The language of schemas: types of data, arrows that networks will fill, paths, and equations between paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Type:
    """A kind of data.

    Args:
        name: of it.
        shape: of one example.
        latent: a code without data of its own; it is drawn from N(0, 1).
    """

    name: str
    shape: tuple[int, ...]
    latent: bool = False

    @property
    def factors(self) -> tuple[Type, ...]:
        """Itself."""
        return (self,)

    def __mul__(self, other: Type | Product) -> Product:
        return Product(self.factors + other.factors)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Product:
    """Several types at once, independent of one another; its values are tuples.

    Args:
        factors: the types.
    """

    factors: tuple[Type, ...]

    @property
    def name(self) -> str:
        """The factors' names."""
        return " × ".join(factor.name for factor in self.factors)

    def __mul__(self, other: Type | Product) -> Product:
        return Product(self.factors + other.factors)

    def __str__(self) -> str:
        return self.name


Object = Type | Product


class Composable:
    """What goes from an object to an object and can be composed: ``second @ first``."""

    source: Object
    target: Object

    @property
    def steps(self) -> tuple[Step, ...]:
        """Arrows, projections and pairings, the first one first."""
        raise NotImplementedError

    def __matmul__(self, first: Composable) -> Path:
        if first.target != self.source:
            raise ValueError(
                f"{self} begins at {self.source} but {first} ends at {first.target}: they cannot be composed"
            )
        return Path(first.source, self.target, first.steps + self.steps)


@dataclass(frozen=True)
class Arrow(Composable):
    """A generating morphism, for which a network will stand.

    Args:
        name: of it.
        source: what the network is given; the factors of a product are arguments of their own.
        target: what it gives; for a product, a tuple.
    """

    name: str
    source: Object
    target: Object

    @property
    def steps(self) -> tuple[Step, ...]:
        """Itself."""
        return (self,)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Projection(Composable):
    """One factor of a product.

    Args:
        source: the product.
        index: of the factor.
    """

    source: Product
    index: int

    @property
    def target(self) -> Type:  # type: ignore[override]
        """The factor."""
        return self.source.factors[self.index]

    @property
    def steps(self) -> tuple[Step, ...]:
        """Itself."""
        return (self,)

    def __str__(self) -> str:
        return f"π_{self.target}"


@dataclass(frozen=True)
class Pairing(Composable):
    """Several paths from one object, side by side: into the product of where they end.

    Args:
        paths: two or more.

    Raises:
        ValueError: they begin at different objects.
    """

    paths: tuple[Path, ...]

    def __post_init__(self) -> None:
        if len({path.source for path in self.paths}) != 1:
            raise ValueError(f"paths to be paired must begin at one object: {', '.join(map(str, self.paths))}")

    @property
    def source(self) -> Object:  # type: ignore[override]
        """Where all begin."""
        return self.paths[0].source

    @property
    def target(self) -> Product:  # type: ignore[override]
        """The product of where they end."""
        return Product(tuple(factor for path in self.paths for factor in path.target.factors))

    @property
    def steps(self) -> tuple[Step, ...]:
        """Itself."""
        return (self,)

    def __str__(self) -> str:
        return f"⟨{', '.join(map(str, self.paths))}⟩"


Step = Arrow | Projection | Pairing


@dataclass(frozen=True)
class Path(Composable):
    """A composite; without steps the identity.

    Args:
        source: where it begins.
        target: where it ends.
        steps: arrows, projections and pairings in between, the first one first.
    """

    source: Object
    target: Object
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return ".".join(str(step) for step in reversed(self.steps)) or f"id_{self.source}"


def identity(at: Object) -> Path:
    """The path that does nothing."""
    return Path(at, at)


def pair(*paths: Composable) -> Path:
    """``⟨p, q⟩``: x to (p(x), q(x))."""
    step = Pairing(tuple(as_path(path) for path in paths))
    return Path(step.source, step.target, (step,))


def as_path(thing: Composable) -> Path:
    """An arrow as a path of one step; a path as it is."""
    return thing if isinstance(thing, Path) else Path(thing.source, thing.target, thing.steps)


Relation = tuple[Composable, Composable]


@dataclass(frozen=True)
class Schema:
    """A category presented by types, arrows and equations: what a system of networks is to be.

    Args:
        arrows: the generating morphisms; the types are those that they speak of.
        relations: pairs of parallel paths whose composites are to be equal.

    Raises:
        ValueError: two arrows of one name, two types of one name and different shapes, paths that are not parallel, or
            an arrow in a relation that the schema does not have.
    """

    arrows: tuple[Arrow, ...]
    relations: tuple[tuple[Path, Path], ...] = ()

    def __init__(self, arrows: Sequence[Arrow], relations: Sequence[Relation] = ()) -> None:
        object.__setattr__(self, "arrows", tuple(arrows))
        object.__setattr__(self, "relations", tuple((as_path(p), as_path(q)) for p, q in relations))
        names = [arrow.name for arrow in self.arrows]
        twice = next((name for name in names if names.count(name) > 1), None)
        if not names or twice is not None:
            raise ValueError("a schema needs at least one arrow" if not names else f"two arrows are called {twice!r}")
        known: dict[str, Type] = {}
        for arrow in self.arrows:
            for kind in (*arrow.source.factors, *arrow.target.factors):
                if known.setdefault(kind.name, kind) != kind:
                    raise ValueError(f"two types are called {kind.name!r}: {known[kind.name].shape} and {kind.shape}")
        for p, q in self.relations:
            if (p.source, p.target) != (q.source, q.target):
                raise ValueError(
                    f"{p} ~ {q} are not parallel: {p.source} -> {p.target} against {q.source} -> {q.target}"
                )
            for arrow in arrows_of(p) + arrows_of(q):
                if arrow not in self.arrows:
                    raise ValueError(f"the relation {p} ~ {q} speaks of {arrow}, which is no arrow of the schema")

    @property
    def types(self) -> dict[str, Type]:
        """Every type by name, in the order of the arrows."""
        ends = [kind for arrow in self.arrows for kind in (*arrow.source.factors, *arrow.target.factors)]
        return {kind.name: kind for kind in ends}

    def arrow(self, name: str) -> Arrow:
        """The arrow of a name.

        Raises:
            ValueError: there is none.
        """
        for arrow in self.arrows:
            if arrow.name == name:
                return arrow
        raise ValueError(f"the schema has no arrow {name!r}; it has {', '.join(a.name for a in self.arrows)}")

    def summary(self) -> str:
        """The presentation as text: types, arrows, relations, a line each."""
        lines = [f"{t.name}: {'latent ' if t.latent else ''}{list(t.shape)}" for t in self.types.values()]
        lines += [f"{arrow}: {arrow.source} -> {arrow.target}" for arrow in self.arrows]
        return "\n".join(lines + [f"{p} ~ {q}" for p, q in self.relations])

    def __str__(self) -> str:
        return self.summary()

    def plot(self, ax: Any) -> Any:
        """Objects in a row, arrows between them, relations below."""
        objects = list(dict.fromkeys(end for arrow in self.arrows for end in (arrow.source, arrow.target)))
        for place, thing in enumerate(objects):
            ax.text(place, 0, str(thing), ha="center", va="center", bbox={"boxstyle": "round", "fc": "white"})
        bends: dict[tuple[int, int], int] = {}
        for arrow in self.arrows:
            ends = objects.index(arrow.source), objects.index(arrow.target)
            bends[ends] = bends.get(ends, 0) + 1
            bend = 0.25 * bends[ends]
            style = {"arrowstyle": "->", "shrinkA": 22, "shrinkB": 22, "connectionstyle": f"arc3,rad={bend}"}
            ax.annotate("", (ends[1], 0), (ends[0], 0), arrowprops=style)
            height = bend * abs(ends[1] - ends[0]) / 2 + 0.05
            ax.text(sum(ends) / 2, -height if ends[1] > ends[0] else height, str(arrow), ha="center", va="center")
        ax.text((len(objects) - 1) / 2, -0.8, "\n".join(f"{p} ~ {q}" for p, q in self.relations), ha="center")
        ax.set_xlim(-0.5, len(objects) - 0.5)
        ax.set_ylim(-1, 0.6)
        ax.set_axis_off()
        return ax


def arrows_of(path: Path) -> list[Arrow]:
    """The arrows on a path, those inside pairings too."""
    found: list[Arrow] = []
    for step in path.steps:
        if isinstance(step, Pairing):
            found += [arrow for inner in step.paths for arrow in arrows_of(inner)]
        elif isinstance(step, Arrow):
            found.append(step)
    return found


def cycle_gan(shape_a: Sequence[int], shape_b: Sequence[int]) -> Schema:
    """Two types and two mutually inverse arrows (Zhu et al., 2017): ``f: A -> B``, ``g: B -> A``."""
    a, b = Type("A", tuple(shape_a)), Type("B", tuple(shape_b))
    f, g = Arrow("f", a, b), Arrow("g", b, a)
    return Schema([f, g], [(g @ f, identity(a)), (f @ g, identity(b))])


def product_task(
    whole: Sequence[int], background: Sequence[int], part: Sequence[int], *, latent: bool = False
) -> Schema:
    """Taking something out of an example and putting it back, without pairs: ``d: C -> A × B``, ``c: A × B -> C``.

    C are examples with an object, A without, B the objects, or (``latent``) codes of them. Both composites are to be
    the identity: were only ``c.d`` asked to be, ``d`` could hide the object in A.
    """
    a, b, c = Type("A", tuple(background)), Type("B", tuple(part), latent), Type("C", tuple(whole))
    take, put = Arrow("d", c, a * b), Arrow("c", a * b, c)
    return Schema([take, put], [(put @ take, identity(c)), (take @ put, identity(a * b))])


def autoencoder_schema(shape: Sequence[int], code: Sequence[int]) -> Schema:
    """``decode.encode ~ id`` on examples; the code is latent, so that an adversary can hold it to N(0, 1)."""
    x, z = Type("X", tuple(shape)), Type("Z", tuple(code), latent=True)
    encode, decode = Arrow("encode", x, z), Arrow("decode", z, x)
    return Schema([encode, decode], [(decode @ encode, identity(x))])
