"""Every script of ``examples/`` is a paper's, runs as it stands, and says something."""

import runpy
import sys
from pathlib import Path

import pytest

from neurarium.lab.registry import entries

SCRIPTS = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", [str(script)])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip(), "an example says what it found"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_is_a_papers(script):
    assert script.stem.replace("_", "-") in entries()
    assert script.read_text(encoding="utf-8").startswith('"""')
