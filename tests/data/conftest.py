"""Small hand-made data files, and the folder of sets that no registry carries."""

import os

import numpy as np
import pytest
from PIL import Image

from neurarium.data import DataError


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    monkeypatch.delenv("NEURARIUM_DATA", raising=False)


@pytest.fixture
def or_skip(monkeypatch):
    """Call a loader; where its set is not on this machine, skip with the loader's own sentence."""
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")

    def call(loader, *args, **kwargs):
        if os.environ.get("NEURARIUM_DATA"):
            return loader(*args, **kwargs)
        with pytest.raises(DataError) as refusal:
            loader(*args, **kwargs)
        pytest.skip(str(refusal.value))

    return call


@pytest.fixture
def write(tmp_path):
    """Write a text file and return its path."""

    def write_text(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


@pytest.fixture
def draw(tmp_path):
    """Write an image of one colour and return its path."""

    def draw_image(name, size=(4, 4), colour=128, mode="L"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, colour).save(path)
        return path

    return draw_image


@pytest.fixture
def table(write):
    """A CSV of 40 rows: two numbers, one text, two classes."""
    generator = np.random.default_rng(0)
    rows = [f"{generator.normal():.3f},{i},{'red' if i % 3 else 'blue'},{'yes' if i % 2 else 'no'}" for i in range(40)]
    return write("table.csv", "width,count,colour,label\n" + "\n".join(rows) + "\n")
