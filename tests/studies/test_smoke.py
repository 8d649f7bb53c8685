"""Every study runs at smoke scale, from the engine, and gives what its claims and figures need."""

import math

import pytest

from neurarium.lab.executors import Inline
from neurarium.lab.registry import entries
from neurarium.lab.runner import Request, run_study
from neurarium.lab.store import Store


@pytest.mark.smoke
@pytest.mark.parametrize("slug", entries())
def test_study_at_smoke_scale(slug, tmp_path, monkeypatch):
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    entry = entries()[slug]
    study = entry.load()
    assert entry.paper() == study.paper
    finding = run_study(entry, study, Request("smoke"), executor=Inline(), store=Store(tmp_path / "s.sqlite"))
    assert not finding.failed, finding.failed[0][2].traceback
    table = {arm: {seed: o.metrics for seed, o in seeds.items()} for arm, seeds in finding.trials.items()}
    for claim in study.claims:
        verdict = claim.judge(table, deterministic=True)  # raises where a metric that the claim needs is missing
        assert verdict.n == 1
        assert math.isfinite(verdict.margin)
    columns = {name for seeds in finding.trials.values() for o in seeds.values() for row in o.curves for name in row}
    metrics = {name for arm in finding.trials for name in finding.intervals(arm)} | {"seconds", "peak_memory"}
    assert study.figures
    for figure in study.figures:
        named = {getattr(figure, part) for part in ("x", "y", "series", "value", "metric") if getattr(figure, part, "")}
        known = columns if type(figure).__name__ in ("Curve", "Heatmap") else metrics
        assert named <= known, f"{figure.title}: {named - known} were not recorded"
        assert set(figure.arms) <= set(study.arms)


@pytest.mark.parametrize("slug", entries())
def test_paper_scale_is_wired(slug):
    study = entries()[slug].load()
    changed = [arm for arm in study.arms if study.settings(arm, "paper") != study.settings(arm, "small")]
    assert changed, "paper scale must differ from small"
