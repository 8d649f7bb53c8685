"""Saved results: whole, the same as the tables show, and marked where the code has changed since."""

from pathlib import Path

import pytest

from neurarium.lab import Curve, Heatmap
from neurarium.lab.archive import CURVES, load_finding
from neurarium.lab.finding import judge
from neurarium.lab.fingerprint import fingerprint
from neurarium.lab.registry import entries
from neurarium.lab.results import documents, is_stale, saved, verdict_table

ROOT = Path(__file__).parents[1]
RESULTS = saved(ROOT / "results")


def test_every_study_has_a_saved_result_and_a_page():
    assert set(RESULTS) == set(entries())
    for slug in entries():
        assert (ROOT / "docs" / "papers" / f"{slug}.md").exists()


def test_a_result_of_earlier_code_says_so():
    result = next(iter(RESULTS.values()))
    assert "The code has changed since" in verdict_table(result, stale=True)
    assert "The code has changed since" not in verdict_table(result)
    entry = entries()[result["study"]]
    assert is_stale({**result, "fingerprint": "0"}, entry)
    assert not is_stale({**result, "fingerprint": fingerprint([entry.path])}, entry)


@pytest.mark.parametrize("slug", RESULTS)
def test_result_judges_the_studys_own_claims(slug):
    study = entries()[slug].load()
    kept = [(c["text"], c["predicate"]) for c in RESULTS[slug]["claims"]]
    assert kept == [(claim.text, str(claim.predicate)) for claim in study.claims]
    assert all(c["verdict"] in ("reproduced", "not reproduced", "undecided") for c in RESULTS[slug]["claims"])
    assert RESULTS[slug]["cpu_seconds"] / 2 < 180, "a study at small scale must end in three minutes on two cores"


class Done:
    """A trial that ended well with some metrics."""

    status = "done"

    def __init__(self, metrics):
        self.metrics = metrics


@pytest.mark.parametrize("slug", [path.name.removesuffix(CURVES) for path in sorted((ROOT / "results").glob("*.gz"))])
def test_the_seeds_that_were_kept_give_the_verdicts(slug):
    kept = load_finding(slug, ROOT / "results")
    study = entries()[slug].load()
    trials = {arm: {seed: Done(row) for seed, row in found.values.items()} for arm, found in kept.arms.items()}
    if not any(trials.values()):
        pytest.skip("saved before single seeds were kept")
    assert repr(judge(entries()[slug], study, kept.scale, trials)) == repr(kept.verdicts)
    assert {arm: tuple(seeds) for arm, seeds in trials.items()} == {arm: f.seeds for arm, f in kept.arms.items()}
    drawn = [figure for figure in kept.figures if isinstance(figure, (Curve, Heatmap))]
    assert sum(map(bool, kept.curves)) == len(drawn), "every figure that is drawn from curves has some"


def test_tables_show_the_results():
    pages = documents(ROOT)
    assert {ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "images" / "papers.svg"} <= pages.keys()
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name} is behind results/: run `neurarium run SLUG --save`"
        )
        if path.parent.name == "papers":
            assert "<!-- verdicts -->" in text
