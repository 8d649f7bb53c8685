"""Every script of ``examples/`` is a paper's, runs in seconds as it stands, and says something."""

import runpy
import sys
import time
from pathlib import Path

import pytest

from neurarium.lab.registry import entries

SCRIPTS = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", [str(script)])
    begun = time.process_time()
    runpy.run_path(str(script), run_name="__main__")
    assert time.process_time() - begun < 30, "an example is of toy size by default"
    assert capsys.readouterr().out.strip(), "an example says what it found"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_is_a_papers(script):
    assert script.stem.replace("_", "-") in entries()
    assert script.read_text(encoding="utf-8").startswith('"""')
