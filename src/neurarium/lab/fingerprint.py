"""The fingerprint of a study: a hash of all the code of ours that its trial depends on.

Imports are followed through the syntax trees, never executed. A name taken from a room leads to the one module that
defines it (the room's stub is the table), so adding a component to a room changes no other study's fingerprint.
Comments, docstrings and blank lines do not count. Of the lab only `Run` counts, which trials see; claims do not, since
verdicts are always derived anew from the stored metrics.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_LAB_MODULES_THAT_COUNT = {"neurarium.lab.run"}


def fingerprint(sources: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits over the given files and every module of ours that they import, however deep."""
    files = closure(sources)
    digest = hashlib.sha256()
    for label in sorted(files):
        digest.update(f"{label}\0{significant(files[label])}\0".encode())
    return digest.hexdigest()[:16]


def closure(sources: Iterable[Path]) -> dict[str, Path]:
    """Label -> file for the sources and all modules of ours they import (label: module name, or file name outside)."""
    found: dict[str, Path] = {}
    waiting = [path.resolve() for path in sources]
    while waiting:
        path = waiting.pop()
        name = _module_name(path)
        label = name or path.name
        if label in found:
            continue
        found[label] = path
        for module in _imported(path.read_text(encoding="utf-8"), name, path.name == "__init__.py"):
            target = _file_of(module)
            if target is not None and (not module.startswith("neurarium.lab") or module in _LAB_MODULES_THAT_COUNT):
                waiting.append(target)
    return found


@cache
def significant(path: Path) -> str:
    """A source text without comments, docstrings and blank lines."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node, clean=False) is None:
                continue
            for number in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1):
                lines[number - 1] = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            if lines[row - 1]:
                lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _module_name(path: Path) -> str:
    try:
        inside = path.relative_to(PACKAGE.parent)
    except ValueError:
        return ""
    parts = inside.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(text: str, name: str, is_package: bool) -> Iterator[str]:
    """Modules of ours named by the import statements of a source text, rooms resolved to the defining modules."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("neurarium."))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
                base = ".".join([*parts, base]) if base else ".".join(parts)
            if base.split(".")[0] == "neurarium":
                yield from (_defining(base, alias.name) for alias in node.names)


def _defining(module: str, name: str) -> str:
    """The module that defines ``name`` as imported from ``module``."""
    exported = _stub(module).get(name)
    if exported:
        return f"{module}.{exported}"
    return f"{module}.{name}" if _file_of(f"{module}.{name}") else module


@cache
def _stub(module: str) -> dict[str, str]:
    """Public name -> submodule, from a room's stub; empty where there is none."""
    path = PACKAGE.parent.joinpath(*module.split("."), "__init__.pyi")
    if not path.exists():
        return {}
    return {
        alias.asname or alias.name: node.module
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _file_of(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None
