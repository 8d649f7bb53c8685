"""The package laid out as the wheel installs it, away from the checkout: verdicts, figures and pages are there."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from neurarium.lab.registry import entries

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Call the installed command: (exit code, standard output, standard error)."""
    folder = tmp_path_factory.mktemp("installed") / "site-packages"
    shutil.copytree(ROOT / "src" / "neurarium", folder / "neurarium", ignore=shutil.ignore_patterns("__pycache__"))
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source, target in wheel["force-include"].items():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
        copy(ROOT / source, folder / target)
    home = tmp_path_factory.mktemp("home")

    def call(*words):
        environment = {**os.environ, "PYTHONPATH": str(folder), "NEURARIUM_HOME": str(home)}
        command = [sys.executable, "-m", "neurarium", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home, check=False)
        return done.returncode, done.stdout, done.stderr

    return call


def test_it_lists_every_verdict(installed):
    code, out, err = installed("list", "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert {row["slug"] for row in rows} == set(entries())
    assert all("reproduced" in row["verdict"] for row in rows)


def test_its_site_has_papers_figures_guides_and_reference(installed, tmp_path):
    code, out, err = installed("report", tmp_path / "site", "--json")
    assert code == 0, err
    assert Path(json.loads(out)["index"]) == tmp_path / "site" / "index.html"
    names = {path.name for path in (tmp_path / "site").glob("*.html")}
    assert {"index.html", "reference.html", "guide-run.html", "guide-compared.html", "room-learning.html"} <= names
    assert {f"{slug}.html" for slug in entries()} <= names
    text = (tmp_path / "site" / "linear-path.html").read_text(encoding="utf-8")
    assert 'id="figuredata"' in text
    assert "When to use it" in text


def test_it_does_not_write_into_itself(installed):
    code, _, err = installed("run", "linear-path", "--save")
    assert code == 2
    assert "--save-to" in err
