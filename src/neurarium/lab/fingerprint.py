"""The fingerprint of a study: a hash of the definitions of ours that its trial can reach.

A definition is a function, a class or a constant at the top of a file. From the trial on, every name that a definition
uses is followed to the definition behind it: through imports, through a room's stub, into a user's own modules. What
counts is the definitions' words and which of them uses which, never the files they stand in. So moving a file, or
changing a definition that the trial does not reach, leaves a result valid; changing one that it reaches does not. A
module that is handed about whole, or that looks its own names up at run time, counts whole.

Nothing is executed. Of the lab only `Run` counts, which trials see; claims do not, since verdicts are always derived
anew from the stored metrics, nor do the arms' settings, which are part of a trial's identity themselves. What the data
room's ``load`` functions read is known by its contents (each set's bytes by their SHA-256, what is decoded from them by
a test), so the walk ends there, and a new set or a better reader of tables leaves results valid.
"""

from __future__ import annotations

import ast
import hashlib
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from neurarium.lab.source import Definition, read_source

PACKAGE = Path(__file__).resolve().parents[1]
_LAB_MODULES_THAT_COUNT = {"neurarium.lab._run"}
_KNOWN_BY_CONTENTS = "neurarium.data.load"
_LOOSE = ""  # the name under which a module's statements that bind nothing go

Root = Path | tuple[Path, str]
"""A file, or one definition of it."""


@dataclass(frozen=True)
class Place:
    """Where a definition stands: the module's dotted name (a file's stem outside packages), its file, its own name."""

    module: str
    path: Path
    name: str


def fingerprint(sources: Iterable[Root]) -> str:
    """Sixteen hexadecimal digits over every definition that the sources reach, however deep.

    A file that defines a ``STUDY`` stands for its trials and their settings; any other for all its definitions.
    """
    digest = hashlib.sha256()
    for record in sorted(_records(reached(sources))):
        digest.update(f"{record}\0".encode())
    return digest.hexdigest()[:16]


def closure(sources: Iterable[Root]) -> dict[str, Path]:
    """Module name -> file, for every file that holds a definition which the sources reach."""
    return {place.module: place.path for place in reached(sources)}


def reached(sources: Iterable[Root]) -> dict[Place, dict[str, str | Place]]:
    """Every definition that the sources reach, with what each name in it stands for: ours, or a dotted name."""
    folders = tuple(dict.fromkeys(_home_of(_path(root)) for root in sources))
    waiting = [place for root in sources for place in _roots(root, folders)]
    found: dict[Place, dict[str, str | Place]] = {}
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        found[place], beyond = _leads_to(place, folders)
        waiting.extend(beyond)
    return found


@cache
def _leads_to(place: Place, folders: tuple[Path, ...]) -> tuple[dict[str, str | Place], list[Place]]:
    """What each name in a definition stands for, and every definition that it brings with it."""
    definition = _definition(place)
    links: dict[str, str | Place] = {}
    beyond = [Place(place.module, place.path, _LOOSE)]
    for chain in definition.uses:
        for target in _resolve(place, definition, chain, folders):
            if isinstance(target, Place):
                beyond.append(target)
            links[".".join(chain)] = target
    if definition.dynamic:
        beyond.extend(_whole(place.module, place.path, folders))
    return links, beyond


def _records(found: dict[Place, dict[str, str | Place]]) -> Iterator[str]:
    """Each definition as text: its name, its words, and what it uses by name and words."""
    words = {place: _definition(place).words for place in found}
    short = {place: hashlib.sha256(text.encode()).hexdigest()[:16] for place, text in words.items()}
    for place, links in found.items():
        if words[place]:
            uses = sorted(
                f"{used}={t.name}:{short[t]}" if isinstance(t, Place) else f"{used}={t}" for used, t in links.items()
            )
            yield "\n".join([place.name, words[place], *uses])


def _definition(place: Place) -> Definition:
    source = read_source(place.path, place.module)
    return source.loose if place.name == _LOOSE else source.definitions[place.name]


def _path(root: Root) -> Path:
    return (root if isinstance(root, Path) else root[0]).resolve()


def _roots(root: Root, folders: tuple[Path, ...]) -> Iterator[Place]:
    """The definitions that a source stands for."""
    path = _path(root)
    module = _module_name(path, folders)
    if not isinstance(root, Path):
        yield from (target for target in _lookup(module, path, root[1], folders) if isinstance(target, Place))
        return
    call = study_call(path)
    if call is None:
        yield from _whole(module, path, folders)
        return
    here = Place(module, path, "STUDY")
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    expressions = [value for name, value in given.items() if name in ("trial", "arms")]
    expressions += call.args[1:3] if not expressions else []
    seen: set[Place] = set()
    waiting = list(_named(here, expressions, folders))
    while waiting:  # constants between the arms and their settings lead on, but do not count themselves
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        definition = _definition(place)
        if definition.kind != "value":
            yield place
            continue
        for chain in definition.uses:
            waiting.extend(t for t in _resolve(place, definition, chain, folders) if isinstance(t, Place))


def study_call(path: Path) -> ast.Call | None:
    """The call on the right of ``STUDY = Study(...)`` in a file; None where there is no such assignment."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            if "STUDY" in names:
                return statement.value
    return None


def _named(here: Place, expressions: Iterable[ast.expr], folders: tuple[Path, ...]) -> Iterator[Place]:
    """The definitions named in some expressions of a file."""
    definition = Definition()
    for expression in expressions:
        definition.uses |= {(node.id,) for node in ast.walk(expression) if isinstance(node, ast.Name)}
    for chain in definition.uses:
        yield from (t for t in _resolve(here, definition, chain, folders) if isinstance(t, Place))


def _resolve(
    place: Place, definition: Definition, chain: Sequence[str], folders: tuple[Path, ...]
) -> Iterator[str | Place]:
    """What a dotted name in a definition stands for; nothing for a local variable or a builtin."""
    source = read_source(place.path, place.module)
    first, rest = chain[0], chain[1:]
    if first in definition.imports:
        module, name = definition.imports[first]
    elif first in source.definitions:
        yield Place(place.module, place.path, first)
        return
    elif first in source.imports:
        module, name = source.imports[first]
    else:
        return
    yield from _follow(module, [name, *rest] if name else list(rest), folders)


def _follow(module: str, names: Sequence[str], folders: tuple[Path, ...]) -> Iterator[str | Place]:
    """What ``module.name.name`` stands for: the longest part that is a module of ours, then a definition in it."""
    names = list(names)
    if names and f"{module}.{names[0]}".startswith(_KNOWN_BY_CONTENTS):
        yield f"{module}.{names[0]}"
        return
    while names and _file_of(f"{module}.{names[0]}", folders) and not _stub(module).get(names[0]):
        module = f"{module}.{names.pop(0)}"
    path = _file_of(module, folders)
    if path is None and _folder_of(module, folders) is None:
        yield ".".join([module, *names])
    elif not _counts(module) and not (names and names[0] in _stub(module)):
        return
    elif names and names[0] != "*":
        yield from _lookup(module, path, names[0], folders)
    elif path is not None:
        yield from _whole(module, path, folders)


def _lookup(module: str, path: Path | None, name: str, folders: tuple[Path, ...]) -> Iterator[str | Place]:
    """A name of a module of ours: through the room's stub, as a definition, or imported there from elsewhere."""
    stub = _stub(module)
    if name in stub:
        yield from _follow(f"{module}.{stub[name]}" if stub[name] else f"{module}.{name}", [name] if stub[name] else [],
                           folders)  # fmt: skip
        return
    if path is None or not _counts(module):
        return
    source = read_source(path, module)
    if name in source.definitions:
        yield Place(module, path, name)
    elif name in source.imports:
        base, original = source.imports[name]
        yield from _follow(base, [original] if original else [], folders)


def _whole(module: str, path: Path, folders: tuple[Path, ...]) -> Iterator[Place]:
    """Every definition of a module, those that a room's stub or a star import brings in included."""
    source = read_source(path, module)
    yield Place(module, path, _LOOSE)
    yield from (Place(module, path, name) for name in source.definitions)
    for name in [*_stub(module), *source.imports]:
        if name in _stub(module) or path.name == "__init__.py" or name == "*":
            yield from (t for t in _lookup(module, path, name, folders) if isinstance(t, Place))


def _counts(module: str) -> bool:
    return not module.startswith("neurarium.lab") or module in _LAB_MODULES_THAT_COUNT


@cache
def _stub(module: str) -> dict[str, str]:
    """Public name -> submodule ("" where the name is the submodule), from a room's stub; empty where there is none."""
    path = PACKAGE.parent.joinpath(*module.split("."), "__init__.pyi")
    if not path.exists():
        return {}
    return {
        alias.asname or alias.name: node.module or ""
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _home_of(path: Path) -> Path:
    """The folder that a file's dotted name starts from: the first one above it that is no package."""
    folder = path.parent
    while (folder / "__init__.py").exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _module_name(path: Path, folders: tuple[Path, ...]) -> str:
    inside = path.relative_to(_home_of(path)).with_suffix("").parts
    return ".".join(inside[:-1] if inside[-1] == "__init__" else inside)


@cache
def _foreign() -> tuple[Path, ...]:
    """Folders of installed and standard libraries: what is there is a version, not code of the user's."""
    paths = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(Path(p).resolve() for p in [*paths, *site.getsitepackages(), site.getusersitepackages()])


def _is_foreign(path: Path) -> bool:
    installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)  # of this interpreter or another
    return installed or any(path.is_relative_to(library) for library in _foreign())


def _places(folders: tuple[Path, ...]) -> Iterator[Path]:
    """Where modules of ours and of the user's are looked for."""
    yield PACKAGE.parent
    yield from folders
    for entry in sys.path:
        folder = Path(entry or ".").resolve()
        if not _is_foreign(folder):
            yield folder


@cache
def _file_of(module: str, folders: tuple[Path, ...]) -> Path | None:
    """The file of a module of ours or of the user's."""
    parts = module.split(".")
    ours = parts[0] == "neurarium"
    for folder in [PACKAGE.parent] if ours else dict.fromkeys(_places(folders)):
        path = folder.joinpath(*parts)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file() and (ours or not _is_foreign(candidate)):
                return candidate.resolve()
    return None


def _folder_of(module: str, folders: tuple[Path, ...]) -> Path | None:
    """The folder of a package of ours without an ``__init__.py``, if it is one."""
    folder = PACKAGE.parent.joinpath(*module.split("."))
    return folder if module.split(".")[0] == "neurarium" and folder.is_dir() else None
