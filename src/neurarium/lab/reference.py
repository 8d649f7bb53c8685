"""What each room offers, read from its stub and the syntax trees behind it: nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_INSIDE = ("studies", "cli", "testing")
"""Packages that are no rooms of components."""


@dataclass(frozen=True)
class Symbol:
    """A public class, function or constant.

    Args:
        name: as it is imported.
        kind: "class", "function", "method", "property" or "constant".
        parameters: as written, each with its annotation and default, ``*`` and ``/`` among them.
        returns: the annotation of what comes back; empty where there is none.
        docstring: as written.
        path: the file that defines it.
        line: where in the file.
        bases: of a class, as written.
        members: public methods and properties that say what they do.
    """

    name: str
    kind: str
    parameters: tuple[str, ...]
    returns: str
    docstring: str
    path: Path
    line: int
    bases: tuple[str, ...] = ()
    members: tuple[Symbol, ...] = ()


@dataclass(frozen=True)
class Family:
    """Components of a room that share a mechanism: a folder, or the room itself.

    Args:
        name: of the folder; empty for what stands in the room itself.
        about: its docstring.
        symbols: by name.
    """

    name: str
    about: str
    symbols: tuple[Symbol, ...]


@dataclass(frozen=True)
class Room:
    """A package with a stub.

    Args:
        name: "learning", ...
        about: its docstring.
        families: the room's own first.
    """

    name: str
    about: str
    families: tuple[Family, ...] = field(default_factory=tuple)

    @property
    def symbols(self) -> list[Symbol]:
        """All of them."""
        return [symbol for family in self.families for symbol in family.symbols]


def rooms() -> list[Room]:
    """Every room with its public names, in alphabetical order."""
    found = []
    for stub in sorted(PACKAGE.glob("*/__init__.pyi")):
        if stub.parent.name not in _INSIDE:
            room = _room(stub)
            if room.symbols:
                found.append(room)
    return found


def _room(stub: Path) -> Room:
    folder = stub.parent
    families: dict[str, list[Symbol]] = {}
    for module, original, name in exported(stub):
        path = _file(folder, module)
        symbol = _symbol(path, original, name) if path is not None else None
        if symbol is not None and path is not None:
            inside = path.parent.relative_to(folder).parts
            families.setdefault(inside[0] if inside else "", []).append(symbol)
    found = []
    for name, symbols in sorted(families.items()):
        about = _about(folder / name) if name else ""
        found.append(Family(name, about, tuple(sorted(symbols, key=lambda symbol: symbol.name.lower()))))
    return Room(folder.name, _about(folder), tuple(found))


def exported(stub: Path) -> Iterator[tuple[str, str, str]]:
    """(module, name there, public name) of every import in a room's stub."""
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            for alias in node.names:
                yield node.module, alias.name, alias.asname or alias.name


def _file(folder: Path, module: str) -> Path | None:
    path = folder.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _about(folder: Path) -> str:
    path = folder / "__init__.py"
    return (ast.get_docstring(_tree(path)) or "") if path.is_file() else ""


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _symbol(path: Path, original: str, name: str) -> Symbol | None:
    body = _tree(path).body
    for i, node in enumerate(body):
        if isinstance(node, ast.ClassDef) and node.name == original:
            return _class(node, name, path)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == original:
            return Symbol(name, "function", *_signature(node), ast.get_docstring(node) or "", path, node.lineno)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == original for target in targets):
            return Symbol(name, "constant", (), "", _below(body, i), path, node.lineno)
    return None


def _bound(node: ast.stmt) -> list[str]:
    """The names that an assignment binds."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _below(body: list[ast.stmt], i: int) -> str:
    """The string under a constant that says what it is."""
    after = body[i + 1] if i + 1 < len(body) else None
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
        return after.value.value
    return ""


def _class(node: ast.ClassDef, name: str, path: Path) -> Symbol:
    methods = {child.name: child for child in node.body if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))}
    members = tuple(_member(child, path) for child in methods.values() if _told(child))
    parameters: tuple[str, ...] = ()
    if "__init__" in methods:
        parameters, _ = _signature(methods["__init__"], drop_first=True)
    elif any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        parameters = tuple(_fields(node))
    bases = tuple(ast.unparse(base) for base in node.bases)
    return Symbol(name, "class", parameters, "", ast.get_docstring(node) or "", path, node.lineno, bases, members)


def _told(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return not node.name.startswith("_") and bool(ast.get_docstring(node))


def _member(node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> Symbol:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    docstring = ast.get_docstring(node) or ""
    if "property" in decorators:
        return Symbol(node.name, "property", (), "", docstring, path, node.lineno)
    signature = _signature(node, drop_first="staticmethod" not in decorators)
    return Symbol(node.name, "method", *signature, docstring, path, node.lineno)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, drop_first: bool = False) -> tuple[tuple[str, ...], str]:
    """The parameters as text, and what comes back."""
    a = node.args
    positional = [*a.posonlyargs, *a.args]
    defaults = [*[None] * (len(positional) - len(a.defaults)), *a.defaults]
    written = [_parameter(*pair) for pair in zip(positional, defaults, strict=True)]
    if a.posonlyargs:
        written.insert(len(a.posonlyargs), "/")
    if a.vararg is not None:
        written.append("*" + _parameter(a.vararg, None))
    elif a.kwonlyargs:
        written.append("*")
    written += [_parameter(*pair) for pair in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    if a.kwarg is not None:
        written.append("**" + _parameter(a.kwarg, None))
    return tuple(written[1:] if drop_first else written), ast.unparse(node.returns) if node.returns is not None else ""


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    annotation = f": {ast.unparse(argument.annotation)}" if argument.annotation is not None else ""
    value = "" if default is None else f"{' = ' if annotation else '='}{ast.unparse(default)}"
    return f"{argument.arg}{annotation}{value}"


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and not ast.unparse(child.annotation).startswith("ClassVar"):
            yield ast.unparse(child)
