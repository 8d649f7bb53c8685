"""``neurarium probe`` on a stranger's network."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from neurarium.cli.app import app
from neurarium.lab import RequestError
from neurarium.probes import ProbeResult
from neurarium.studies.probing import arguments, plain, probes
from neurarium.testing import public

NET = """
from torch import nn
def build():
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
"""


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """A package with a network, two of its states, and data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "strangers_nets.py").write_text(NET)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 6)).astype("float32")
    np.savez(tmp_path / "mine.npz", x=x, y=rng.integers(0, 3, 120))
    import strangers_nets

    for name in ("a", "b"):
        torch.save(strangers_nets.build().state_dict(), tmp_path / f"{name}.pt")
    return ["--model", "strangers_nets:build", "--weights", "a.pt", "--data", "mine.npz"]


def run(*arguments):
    return CliRunner().invoke(app, ["probe", *arguments], catch_exceptions=False)


def test_every_probe_that_returns_a_result_is_there_by_itself():
    import typing

    wanted = {
        name.replace("_", "-")
        for name, thing in public("probes").items()
        if issubclass(typing.get_type_hints(thing)["return"], ProbeResult)
    }
    assert set(probes()) == wanted
    assert {row["probe"] for row in json.loads(run("--json").stdout)} == wanted


def test_the_list_says_what_fits_and_why_the_rest_does_not(brought):
    rows = {row["probe"]: row["fits"] for row in json.loads(run(*brought, "--json").stdout)}
    assert rows["jacobian-spectrum"] == rows["sharpness"] == rows["match-units"] == "yes"
    assert "--other" in rows["unit-correlations"]
    assert "rule" in rows["alignment"]
    with_other = {row["probe"]: row["fits"] for row in json.loads(run(*brought, "--other", "b.pt", "--json").stdout)}
    assert with_other["unit-correlations"] == with_other["cka-matrix"] == "yes"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_text_figure_and_json(brought, tmp_path, suffix):
    figure = f"units{suffix}"
    shown = run("unit-correlations", *brought, "--other", "b.pt", "--figure", figure)
    assert shown.exit_code == 0
    assert "matched one to one" in shown.stdout
    head = (tmp_path / figure).read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in head or b"<?xml" in head
    content = json.loads(run("unit-correlations", *brought, "--other", "b.pt", "--json").stdout)
    matrix = torch.tensor(content["result"]["tables"]["1/1"]["matrix"])
    assert matrix.shape == (12, 12)
    own = json.loads(run("match-units", *brought, "--set", "kind=greedy", "--json").stdout)
    assert own["result"]["kind"] == "greedy"
    assert np.allclose(own["result"]["correlations"], 1)


def test_settings_reach_the_probe(brought):
    said = json.loads(run("unit-correlations", *brought, "--other", "a.pt", "--set", "layers_a=0", "--json").stdout)
    assert list(said["result"]["tables"]) == ["0/0"]
    scaled = run("perturbation-curve", *brought, "--set", "scales=0,0.1")
    assert scaled.exit_code == 0, scaled.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["unit-correlation"], "did you mean 'unit-correlations'"),
        (["unit-correlations"], "needs a second network"),
        (["unit-correlations", "--other", "b.pt", "--set", "layers=0"], "did you mean 'layers_"),
        (["unit-correlations", "--other", "b.pt", "--set", "layers_a=9"], "no layer '9'"),
        (["match-units", "--set", "kind"], "NAME=VALUE"),
        (["match-units", "--set", "kind=best"], "one of one-to-one, greedy"),
        (["match-units", "--figure", "units.jpg"], "must end in .png"),
        (["match-units", "--figure", "nowhere/units.png"], "no folder"),
        (["match-units", "--other", "c.pt"], "no file c.pt"),
        (["match-units", "--examples", "0"], "--examples must be between 1"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(brought, words, sentence):
    with pytest.raises(RequestError, match=sentence):
        run(*words, *brought)


def test_data_must_be_named():
    with pytest.raises(RequestError, match="name the data"):
        run("sharpness")


def test_large_tensors_are_said_briefly():
    assert plain(torch.arange(6.0), 5) == {"shape": [6], "mean": 2.5, "min": 0, "max": 5}
    assert plain({("a", "b"): [float("nan"), 1]}) == {"a/b": [None, 1]}


def test_a_probe_of_ones_own_kind_of_argument_is_refused_by_name():
    def made_up(model: nn.Module, moon: int) -> ProbeResult: ...

    from neurarium.data import Arrays
    from neurarium.studies.probing import Subject

    subject = Subject(nn.Linear(2, 2), Arrays(torch.zeros(4, 2), torch.zeros(4)))
    with pytest.raises(LookupError, match="moon"):
        arguments(made_up, subject, {})
    assert arguments(made_up, subject, {"moon": "3"})["moon"] == 3
