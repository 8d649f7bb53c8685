"""One hash for what a number depends on: it changes with the contents, and with nothing else."""

import os
import shutil

import numpy as np
import pytest

from neurarium.data import DataError, identity


@pytest.fixture
def photos(draw, tmp_path):
    for kind in ("cat", "dog"):
        for i in range(2):
            draw(f"photos/{kind}/{i}.png", colour=i)
    return tmp_path / "photos"


def test_contents_count_and_places_do_not(table, tmp_path):
    first = identity(table)
    assert len(first) == 64
    moved = shutil.copy(table, tmp_path / "moved.csv")
    assert identity(moved) == identity(str(moved)) == first
    assert identity(shutil.copy(table, tmp_path / "moved.tsv")) != first  # is read in another way
    moved.write_text(moved.read_text().replace("red", "rot"))
    assert identity(moved) != first


def test_a_relative_name_in_another_project_is_other_data(tmp_path, monkeypatch):
    found = []
    for project, colour in (("a", "1"), ("b", "2")):
        (tmp_path / project).mkdir()
        (tmp_path / project / "mine.csv").write_text(colour)
        monkeypatch.chdir(tmp_path / project)
        found.append(identity("mine.csv"))
    assert found[0] != found[1]


def test_every_file_of_a_folder_counts(photos, draw):
    first = identity(photos)
    (photos / "cat" / "._0.png").write_bytes(b"resource fork")
    (photos / ".DS_Store").write_bytes(b"")
    assert identity(photos) == first
    os.utime(photos / "cat" / "0.png")
    assert identity(photos) == first
    shutil.copytree(photos, photos.parent / "elsewhere")
    assert identity(photos.parent / "elsewhere") == first

    draw("photos/cat/1.png", colour=77)  # an image replaced
    replaced = identity(photos)
    (photos / "cat" / "1.png").rename(photos / "dog" / "7.png")  # an image given another class
    assert len({first, replaced, identity(photos)}) == 3


def test_target_and_test_files_count_by_their_contents(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    found = []
    for values in (np.zeros(3), np.ones(3)):
        np.save(tmp_path / "y.npy", values)
        found.append(identity(tmp_path / "x.npy", str(tmp_path / "y.npy")))
        found.append(identity(tmp_path / "x.npy", split=tmp_path / "y.npy"))
    assert len({*found, identity(tmp_path / "x.npy"), identity(tmp_path / "x.npy", "label")}) == 6


def test_known_sets_are_identified_without_being_fetched(no_network):
    assert identity("mnist") == identity("mnist") != identity("mnist-small")


def test_a_link_that_leads_back_up_ends(photos):
    (photos / "loop").symlink_to(photos)
    assert identity(photos)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        identity(tmp_path / "none.csv")


def test_a_column_that_a_file_is_called_like_is_a_column(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = identity(table, "label")
    (tmp_path / "label").write_text("a note")
    assert identity(table, "label") == first != identity(table, "colour")
