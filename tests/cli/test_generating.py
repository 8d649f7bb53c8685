"""Text from the command line: trained, kept, and gone on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neurarium.cli.generating import generate_text, load, save, train_text
from neurarium.lab.errors import RequestError


@pytest.fixture
def text(tmp_path: Path) -> str:
    file = tmp_path / "mine.txt"
    file.write_text("the cat sat on the mat. " * 60, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("model", ["transformer", "tlinformer", "brillm"])
def test_a_model_is_trained_kept_and_goes_on(model: str, text: str, tmp_path: Path) -> None:
    trained = train_text(text, model, 3, 20, 0)
    save(trained, tmp_path / "model.pt")
    first, second = (generate_text(each, "the c", 40, 1) for each in (trained, load(tmp_path / "model.pt")))
    assert first == second
    assert first.startswith("the c")
    assert len(first) == 45
    assert set(first) <= set("the cat sat on the mat. ")


@pytest.mark.parametrize(
    ("change", "match"),
    [({"model": "gpt"}, "unknown model 'gpt'"), ({"steps": 0}, "at least 1"), ({"symbols": 1}, "two kinds or more")],
)
def test_requests_that_make_no_sense_are_refused(change: dict[str, Any], match: str, text: str) -> None:
    with pytest.raises(RequestError, match=match):
        train_text(**{"text": text, "model": "brillm", "steps": 1, "symbols": 9, "seed": 0, **change})


def test_a_beginning_of_strange_characters_is_refused(text: str, tmp_path: Path) -> None:
    trained = train_text(text, "brillm", 1, 20, 0)
    with pytest.raises(RequestError, match="--prompt: the text has the character 'Z'"):
        generate_text(trained, "Z", 3, 0)
    with pytest.raises(RequestError, match="--weights"):
        load(tmp_path / "none.pt")
