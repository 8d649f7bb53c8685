"""Finding recipes by slug, without importing those that are not wanted."""

from __future__ import annotations

import importlib
import inspect
from functools import cache
from pathlib import Path

from neurarium.recipes.recipe import Recipe

FOLDER = Path(__file__).parent
_REFERENCES = ("backprop", "linear", "trees", "neighbours")


def catalogue() -> dict[str, Recipe]:
    """Every recipe of the house by slug: the references first, then in alphabetical order."""
    return {slug: find(slug) for slug in slugs()}


@cache
def slugs() -> list[str]:
    """The slugs of all recipes; nothing is imported."""
    return list(_files())


def find(slug: str) -> Recipe:
    """The recipe of a slug, or the one that "package.module:name" names, a person's own.

    Raises:
        KeyError: there is no such slug.
        ImportError: there is no such module.
        TypeError: what is named is no recipe.
    """
    if ":" in slug:
        module_name, _, name = slug.partition(":")
        kind = getattr(importlib.import_module(module_name), name, None)
        if not (inspect.isclass(kind) and issubclass(kind, Recipe)):
            raise TypeError(f"{slug} is not a class derived from neurarium.recipes.Recipe")
        return kind()
    path = _files()[slug]
    module = importlib.import_module(".".join(["neurarium.recipes", *path.relative_to(FOLDER).with_suffix("").parts]))
    return recipe_in(module)


def source(slug: str) -> Path:
    """The file of a recipe."""
    if ":" in slug:
        return Path(inspect.getfile(type(find(slug))))
    return _files()[slug]


def recipe_in(module: object) -> Recipe:
    """The recipe that a module defines.

    Raises:
        TypeError: it defines none, or several.
    """
    name = getattr(module, "__name__", "")
    kinds = [
        kind for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Recipe) and kind.__module__ == name and hasattr(kind, "slug")
    ]  # fmt: skip
    if len(kinds) != 1:
        raise TypeError(f"{name} defines {len(kinds)} recipes; a file has one")
    return kinds[0]()


@cache
def _files() -> dict[str, Path]:
    """Slug -> file: references first, then the ideas of every role in alphabetical order."""
    references = [FOLDER / "references" / f"{name}.py" for name in _REFERENCES]
    ideas = [
        path for path in FOLDER.glob("*/*.py") if path.parent.name != "references" and not path.stem.startswith("_")
    ]
    return {path.stem.replace("_", "-"): path for path in [*references, *sorted(ideas, key=lambda path: path.stem)]}
