"""A file appears whole or not at all."""

import pytest

from neurarium.data._files import replacing, write_whole


def test_text_and_bytes_take_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, "één")
    assert path.read_bytes() == "één".encode()
    write_whole(path, b"two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_stands_and_nothing_is_left(tmp_path):
    path = tmp_path / "model.pt2"
    path.write_text("old")

    def fail():
        with replacing(path) as partial:
            assert partial.suffix == ".pt2"
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
