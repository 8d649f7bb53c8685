"""Saved things: what is no such file is refused with one sentence that names it, whatever is inside."""

import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.cli.compressing import read_weights
from neurarium.compression import NeuronSet
from neurarium.continual import NearestMeanClassifier, StreamClassifier
from neurarium.data import DataError, Trajectory
from neurarium.data._saved import read_saved, read_tensors
from neurarium.lab.errors import RequestError
from neurarium.models import Forecaster, load_released


class Hostile:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


def saved(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


GOOD = saved({"a": torch.ones(3)})
CONTENTS = {
    "absent": None,
    "empty": b"",
    "text": b"hello",
    "cut off": GOOD[:-30],
    "damaged": GOOD[:200] + b"\xff\xff" + GOOD[202:],
    "something else": GOOD,
    "a list": saved([1, 2]),
    "a tensor": saved(torch.ones(2)),
    "a number": saved(3),
    "a pickle": pickle.dumps(Hostile()),
    "code": saved({"a": Hostile()}),
    "an array": npy(np.ones((2, 3, 4))),
    "an array cut off": npy(np.ones((2, 6)))[:-20],
    "an array of objects": npy(np.array([None, 1], object)),
}
READERS = {
    "NeuronSet": NeuronSet.load,
    "Forecaster": Forecaster.load,
    "load_released": load_released,
    "StreamClassifier": lambda path: StreamClassifier("text-hash", NearestMeanClassifier()).load(path),
    "Trajectory": lambda path: Trajectory.load(path, nn.Linear(2, 2)),
    "weights": lambda path: read_weights(nn.Linear(2, 2), path),
    "read_tensors": lambda path: read_tensors(path, "save_file"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", [*CONTENTS, "a folder"])
def test_it_is_refused(reader, name, tmp_path, capfd):
    path = tmp_path / "saved.file"
    if name == "a folder":
        path.mkdir()
    elif CONTENTS[name] is not None:
        path.write_bytes(CONTENTS[name])
    with pytest.raises((ValueError, RequestError)) as refusal:
        READERS[reader](path)
    message = str(refusal.value)
    assert "saved.file" in message
    assert "\n" not in message
    assert len(message) < 300
    assert "never be printed" not in "".join(capfd.readouterr())


def test_what_was_saved_comes_back(tmp_path):
    (tmp_path / "a.pt").write_bytes(GOOD)
    assert read_saved(tmp_path / "a.pt", "torch.save")["a"].tolist() == [1, 1, 1]
    with pytest.raises(DataError, match="is no file that us wrote: it has no 'b'"):
        read_saved(tmp_path / "a.pt", "us", ("a", "b"))
