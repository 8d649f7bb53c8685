"""Settings from text, and studies that make no sense."""

from dataclasses import dataclass
from typing import Literal

import pytest

from neurarium.lab import Arm, Claim, Paper, RequestError, Run, Study, StudyError, value
from neurarium.lab.study import override


@dataclass(frozen=True)
class Settings:
    count: int = 1
    rate: float = 0.5
    name: str = "x"
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    limit: float | None = None


def study(**changes):
    base = {"paper": Paper("T", "A", 2000), "trial": lambda s, r: {"m": 1.0}, "arms": {"one": Settings()}}
    return Study(**{**base, **changes})


def test_text_becomes_the_fields_types():
    texts = {"count": "3", "rate": "1e-3", "flag": "yes", "kind": "b", "sizes": "4,5,6", "limit": "2", "name": "y"}
    assert override(Settings(), texts) == Settings(3, 1e-3, "y", True, "b", (4, 5, 6), 2.0)
    assert override(Settings(limit=1.0), {"limit": "none"}).limit is None


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("count", "1.5", "whole number"),
        ("rate", "fast", "must be a number"),
        ("flag", "maybe", "true or false"),
        ("kind", "c", "one of a, b"),
        ("sizes", "1,x", "whole number"),
        ("cuont", "1", "did you mean 'count'"),
    ],
)
def test_text_that_does_not_fit(name, text, sentence):
    with pytest.raises(RequestError, match=sentence):
        override(Settings(), {name: text})


def test_scales_change_settings_by_mapping_or_function():
    s = study(scales={"smoke": {"count": 9}, "paper": lambda s: override(s, {"rate": "2"})})
    assert s.settings("one", "smoke").count == 9
    assert s.settings("one", "small") == Settings()
    assert s.settings("one", "paper").rate == 2.0


@dataclass(frozen=True)
class Other:
    width: int = 3


def other_trial(settings, run):
    return {"m": float(settings.width)}


def test_arms_of_several_experiments():
    s = study(
        trial=None,
        arms={"one": Arm(other_trial, Other()), "two": Arm(lambda settings, run: {"m": 1.0}, Settings())},
        scales={"smoke": {Other: {"width": 1}, Settings: lambda settings: Settings(count=2)}, "paper": {}},
    )
    assert s.arm("one").trial is other_trial
    assert s.settings("one", "smoke") == Other(1)
    assert s.settings("two", "smoke").count == 2
    assert s.settings("two", "paper") == Settings()
    with pytest.raises(StudyError, match="needs Arm"):
        study(trial=None)
    with pytest.raises(StudyError, match="share one settings class"):
        study(arms={"one": Settings(), "two": Other()})


def test_impossible_studies_are_refused():
    with pytest.raises(StudyError, match="did you mean 'one'"):
        study(claims=[Claim("c", "s", value("m", "onee") > 0)])
    with pytest.raises(StudyError, match="at least one arm"):
        study(arms={})
    with pytest.raises(StudyError, match="must state its assumption"):
        study(scope="mechanism")
    with pytest.raises(StudyError, match="unknown scale"):
        study(scales={"large": {}})


def test_run_records_and_keeps_files(tmp_path):
    seen = []
    run = Run(3, folder=tmp_path / "f", progress=lambda *state: seen.append(state))
    assert list(run.track(range(3), "steps")) == [0, 1, 2]
    assert seen[-1] == ("steps", 3, 3)
    run.record(step=1, word="a")
    assert run.curves == [{"step": 1.0, "word": "a"}]
    assert run.artifact("a.bin", b"12").read_bytes() == b"12"
    with pytest.raises(ValueError, match="plain file name"):
        run.artifact("../a", b"")
    with pytest.raises(TypeError, match="numbers and text"):
        run.record(x=[1, 2])
    assert run.rng(1).random() == Run(3).rng(1).random() != Run(3).rng(2).random()
