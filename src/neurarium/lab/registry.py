"""Finding studies: those of the house by slug, a user's own by path, without importing what is not run."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from neurarium.lab.errors import RequestError
from neurarium.lab.study import Paper, Study, closest

STUDIES = Path(__file__).resolve().parents[1] / "studies"


@dataclass(frozen=True)
class Entry:
    """A study that can be run.

    Args:
        slug: its name on the command line.
        room: the room of the paper's component; empty for a user's own study.
        source: module name, or absolute path of a user's file.
        path: the file.
    """

    slug: str
    room: str
    source: str
    path: Path

    def paper(self) -> Paper:
        """The paper, read from the source text, without importing the study (which would import torch)."""
        text = self.path.read_text(encoding="utf-8")
        start = text.find("Paper(", max(text.find("\nSTUDY"), 0))
        for end in _closing(text, start):
            try:
                call = ast.parse(text[start:end], mode="eval").body
            except SyntaxError:
                continue
            if isinstance(call, ast.Call):
                return Paper(
                    *(ast.literal_eval(a) for a in call.args),
                    **{k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg},
                )
        return self.load().paper

    def docstring(self) -> str:
        """The study's docstring."""
        return ast.get_docstring(ast.parse(self.path.read_text(encoding="utf-8"))) or ""

    def load(self) -> Study:
        """Import the study.

        Raises:
            RequestError: the file cannot be imported or defines no ``STUDY``.
        """
        study = getattr(load_module(self.source), "STUDY", None)
        if not isinstance(study, Study):
            raise RequestError(f"{self.path} defines no STUDY = Study(...)")
        return study


def _closing(text: str, start: int) -> Iterator[int]:
    """Positions just behind each closing bracket after ``start``; none where start is negative."""
    position = text.find(")", start) if start >= 0 else -1
    while position >= 0:
        yield position + 1
        position = text.find(")", position + 1)


def entries() -> dict[str, Entry]:
    """All studies of the house by slug, in alphabetical order."""
    found = {}
    for path in STUDIES.glob("*/*.py"):
        if not path.name.startswith("_"):
            slug, room = path.stem.replace("_", "-"), path.parent.name
            found[slug] = Entry(slug, room, f"neurarium.studies.{room}.{path.stem}", path)
    return dict(sorted(found.items()))


def find(name: str) -> Entry:
    """The study of a slug or of a user's file.

    Raises:
        RequestError: there is none; the nearest slug is offered.
    """
    if name.endswith(".py"):
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise RequestError(f"there is no study file {name}")
        return Entry(path.stem.replace("_", "-"), "", str(path), path)
    known = entries()
    return known[closest(name, known, "study")]


def load_module(source: str) -> ModuleType:
    """Import a module by name, or a file by absolute path under a name of its own.

    Raises:
        RequestError: a user's file cannot be imported; the message ends with the cause.
    """
    if not source.endswith(".py"):
        return importlib.import_module(source)
    name = "neurarium_user_" + hashlib.sha256(source.encode()).hexdigest()[:12]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise RequestError(f"{source} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before execution: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise RequestError(f"{source} cannot be imported: {type(error).__name__}: {error}") from error
    return module
