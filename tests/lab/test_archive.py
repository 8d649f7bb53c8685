"""Findings go to files and come back the same; what figures draw survives the thinning."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from neurarium.lab import Bars, Curve, Heatmap, RequestError, archive
from neurarium.lab.archive import load_finding, save, summary
from neurarium.lab.executors import Inline
from neurarium.lab.registry import find
from neurarium.lab.runner import Request, run_study
from neurarium.lab.site.curves import bands, mean_map
from neurarium.lab.store import Store
from neurarium.lab.thinning import drawn

EXAMPLE = Path(__file__).with_name("example_study.py")


@pytest.fixture
def finding(tmp_path):
    entry = find(str(EXAMPLE))
    figures = [Curve("Size by step", x="step", y="size"), Bars(metric="distance", arms=("long",))]
    study = replace(entry.load(), figures=figures)
    return run_study(entry, study, Request(), executor=Inline(), store=Store(tmp_path / "s.sqlite"))


def test_a_finding_comes_back_as_it_went(finding, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "entries", lambda: {finding.entry.slug: finding.entry})
    path = save(finding, tmp_path / "results")
    assert path.name == "example-study.json"
    back = load_finding("example-study", tmp_path / "results")
    assert back == finding  # all but the raw trials
    assert back.trials == {}
    assert summary(back) == summary(finding)
    again = save(back, tmp_path / "again")
    for name in (path.name, "example-study.curves.json.gz"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "results" / name).read_bytes()
    assert again.exists()
    assert load_finding("nobody", tmp_path / "results") is None


def test_one_seed_and_numbers_that_are_not_finite_come_back(finding, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "entries", lambda: {finding.entry.slug: finding.entry})
    study = find(str(EXAMPLE)).load()
    one = run_study(finding.entry, study, Request(seeds=1), executor=Inline(), store=Store(tmp_path / "t.sqlite"))
    broken = replace(one.arms["long"], metrics={"m": replace(one.arms["long"].metrics["distance"], mean=math.nan)})
    one = replace(one, arms={**one.arms, "long": broken})
    save(one, tmp_path)
    back = load_finding("example-study", tmp_path)
    assert back.verdicts[0].low == -math.inf
    assert back.arms["short"].metrics == one.arms["short"].metrics
    assert math.isnan(back.arms["long"].metrics["m"].mean)


def test_a_damaged_file_is_named(finding, tmp_path):
    path = save(finding, tmp_path)
    path.write_text(path.read_text()[:500])
    with pytest.raises(RequestError, match=r"example-study.json cannot be read"):
        load_finding("example-study", tmp_path)
    save(finding, tmp_path)
    (tmp_path / "example-study.curves.json.gz").write_bytes(b"no gzip")
    with pytest.raises(RequestError, match="cannot be read"):
        load_finding("example-study", tmp_path)


def test_thinning_keeps_the_bands():
    def row(step, layer, seed):
        return {"step": step, "loss": math.exp(-step / 900) + seed, "layer": layer, "noise": "text"}

    rows = {seed: [row(t, k, seed) for t in range(1000) for k in (0, 1)] for seed in range(3)}
    kept = drawn(Curve(x="step", y="loss", series="layer"), {"arm": rows})["arm"]
    assert {len(lines) for lines in kept.values()} == {400}
    assert kept[0][0].keys() == {"step", "loss", "layer"}
    whole, thinned = (bands(by_seed, "step", "loss", "layer") for by_seed in (rows, kept))
    for a, b in zip(whole, thinned, strict=True):
        assert (a.name, a.x) == (b.name, b.x)
        assert b.mean == pytest.approx(a.mean, rel=1e-3)
        assert b.high == pytest.approx(a.high, rel=1e-3)


def test_thinning_averages_repeats_and_leaves_other_arms_and_columns():
    rows = [{"x": 1, "y": 1.0}, {"x": 1, "y": 2.0}, {"x": math.nan, "y": 1.0}, {"x": 2, "y": math.nan}, {"y": 3.0}]
    kept = drawn(Curve(x="x", y="y", arms=("a",)), {"a": {0: rows}, "b": {0: rows}})
    assert kept == {"a": {0: [{"x": 1.0, "y": 1.5}, {"x": 2.0, "y": None}]}}
    assert drawn(Bars(metric="y"), {"a": {0: rows}}) == {}
    assert drawn(Curve(x="step", y="y"), {"a": {0: rows}}) == {}


def test_a_map_is_averaged_over_seeds():
    rows = {seed: [{"x": x, "y": name, "v": x + seed} for x in (1.0, 2.0) for name in ("b", "a")] for seed in (0, 2)}
    kept = drawn(Heatmap(x="x", y="y", value="v"), {"arm": rows})["arm"]
    assert mean_map(kept, "x", "y", "v") == mean_map(rows, "x", "y", "v")


def test_an_installed_package_is_not_written_into(monkeypatch, tmp_path):
    package = tmp_path / "site-packages" / "neurarium"
    package.mkdir(parents=True)
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(archive, "PACKAGE", package)
    assert archive.results_folder() == package / "results"
    with pytest.raises(RequestError, match="--save-to"):
        archive.writable_folder()
