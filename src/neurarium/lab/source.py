"""One Python file as definitions: what each top-level name is bound to, in which words, and which names it uses.

Read through the syntax tree; nothing is executed. Comments, docstrings, blank lines and import statements are no part
of a definition's words, so that they may change and move freely.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

Chain = tuple[str, ...]
"""A dotted name as used, ``("layers", "pam", "floor")``."""

_LOOKUPS = {"globals", "locals", "vars"}
_BODIES = (ast.stmt, ast.ExceptHandler, ast.match_case)


@dataclass
class Definition:
    """What a top-level name is bound to.

    Args:
        words: the source lines that bind it, without comments and docstrings.
        uses: the dotted names that stand in it.
        imports: names that an import statement inside it binds, with what they stand for.
        kind: "function", "class", or "value" for anything else.
        line: of its first statement.
        dynamic: it looks names of its own module up at run time.
    """

    words: str = ""
    uses: set[Chain] = field(default_factory=set)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    kind: str = "value"
    line: int = 0
    dynamic: bool = False


@dataclass(frozen=True)
class Source:
    """A file's definitions by name, what its imports bind, and the statements that bind nothing."""

    definitions: dict[str, Definition]
    imports: dict[str, tuple[str, str]]
    loose: Definition


@cache
def read_source(path: Path, module: str = "") -> Source:
    """The definitions of a file; ``module`` is its dotted name, which relative imports need.

    An imported name stands for ``(module, name)``, an imported module for ``(module, "")``.
    """
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = _bare_lines(text, tree)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    definitions: dict[str, Definition] = {}
    imports: dict[str, tuple[str, str]] = {}
    loose = Definition()
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            imports.update(_bindings(statement, package))
            continue
        names = list(dict.fromkeys(_bound(statement)))
        for target in [definitions.setdefault(name, Definition()) for name in names] or [loose]:
            _add(target, statement, lines, package)
        for base in _decorated_with(statement):  # ``@operation.register_fake`` changes what `operation` is
            if base in definitions and base not in names:
                _add(definitions[base], statement, lines, package)
    return Source(definitions, imports, loose)


def _add(target: Definition, statement: ast.stmt, lines: list[str], package: str) -> None:
    """Make a statement part of a definition."""
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    words = "\n".join(line for line in lines[first - 1 : statement.end_lineno] if line)
    target.words += ("\n" if target.words and words else "") + words
    target.line = target.line or first
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        target.kind = "function"
    elif isinstance(statement, ast.ClassDef):
        target.kind = "class"
    for node in _statements(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            target.imports.update(_bindings(node, package))
    target.uses |= _chains(statement)
    target.dynamic |= any(chain[0] in _LOOKUPS for chain in target.uses)


def _bare_lines(text: str, tree: ast.Module) -> list[str]:
    """The lines of a text with comments, docstrings and import statements emptied."""
    lines = text.splitlines()
    for node in _statements(tree):
        dropped: ast.stmt | None = None
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            dropped = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            dropped = node
        if dropped is not None:
            for number in range(dropped.lineno, (dropped.end_lineno or 0) + 1):
                lines[number - 1] = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline) if "#" in text else ():
        row, column = token.start
        if token.type == tokenize.COMMENT and lines[row - 1]:
            lines[row - 1] = lines[row - 1][:column]
    return [line.rstrip() for line in lines]


def _bindings(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """What an import statement binds: a name, and the ``(module, name)`` that it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (
                alias.asname or alias.name.partition(".")[0],
                (
                    alias.name if alias.asname else alias.name.partition(".")[0],
                    "",
                ),
            )
        return
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        above = ".".join(parts[: len(parts) - node.level + 1])
        base = ".".join(part for part in (above, base) if part)
    for alias in node.names:
        yield alias.asname or alias.name, (base, alias.name)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The top-level names that a statement binds or changes."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from _targets(target)
    elif isinstance(statement, (ast.If, ast.For, ast.While, ast.With, ast.Try)):
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt):
                yield from _bound(child)
            elif isinstance(child, ast.ExceptHandler):
                for inner in child.body:
                    yield from _bound(inner)


def _targets(target: ast.expr) -> Iterator[str]:
    """``a, b = ...`` binds a and b; ``a[0] = ...`` and ``a.b = ...`` change a."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, (ast.Tuple, ast.List)):
        for element in target.elts:
            yield from _targets(element)
    elif isinstance(target, (ast.Attribute, ast.Subscript, ast.Starred)):
        yield from _targets(target.value)


def _decorated_with(statement: ast.stmt) -> Iterator[str]:
    """The first names of a definition's dotted decorators."""
    for decorator in getattr(statement, "decorator_list", []):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Attribute):
            yield from (chain[0] for chain in _chains(called))


def _chains(tree: ast.AST) -> set[Chain]:
    """Every dotted name that is read in a tree, each as long as it stands there."""
    found: set[Chain] = set()
    waiting = [tree]
    while waiting:
        inner = waiting.pop()
        attributes: list[str] = []
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            found.add((inner.id, *reversed(attributes)))
        else:
            waiting.extend(ast.iter_child_nodes(inner))
    return found


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """A tree and every statement in it, without the expressions."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, _BODIES))
