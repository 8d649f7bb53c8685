"""Finding studies: those of the house by slug, a user's own by path, without importing what is not run."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from neurarium.lab.errors import RequestError, StudyError
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
        """The paper, read from the ``STUDY`` assignment, without importing the study (which would import torch)."""
        call = _paper_call(self.path.read_text(encoding="utf-8"))
        try:
            return (
                Paper(
                    *(ast.literal_eval(value) for value in call.args),
                    **{keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg},
                )
                if call is not None
                else self.load().paper
            )
        except ValueError:  # something computed
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


def _paper_call(text: str) -> ast.Call | None:
    """The ``Paper(...)`` in the assignment to ``STUDY``; None where there is none to be seen.

    What stands before the assignment is not parsed, which makes listing all studies several times faster.
    """
    start = re.search(r"^STUDY\b", text, flags=re.MULTILINE)
    try:
        statements = ast.parse(text[start.start() :]).body if start else []
    except SyntaxError:
        return None
    for node in ast.walk(statements[0]) if statements else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Paper":
            return node
    return None


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
        StudyError: its study contradicts itself.
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
    except StudyError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise RequestError(f"{source} cannot be imported: {type(error).__name__}: {error}") from error
    return module
