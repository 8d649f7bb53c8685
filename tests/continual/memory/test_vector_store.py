"""The store: kill -9 while adding, readers beside a writer, torn tails, erased bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from neurarium.continual import VectorStore

WRITER = """
import sys, torch
from neurarium.continual import VectorStore
store = VectorStore(path=sys.argv[1])
print("open", flush=True)
for batch in range(10_000):
    first = 50 * batch
    x = torch.zeros(50, 8)
    x[:, 0] = torch.arange(first, first + 50)
    store.add(x, torch.full((50,), batch % 7), [f"item {i}" for i in range(first, first + 50)])
    print(batch + 1, flush=True)
"""


def writer(folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    command = [sys.executable, "-c", WRITER, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def whole(store):
    """Every row is what was added under its id."""
    if len(store) == 0:
        return
    ids = store.ids(range(len(store.labels)))
    numbers = [int(name.split()[1]) for name in ids]
    assert store.vectors[:, 0].tolist() == numbers == list(range(len(store.labels)))
    assert store.labels.tolist() == [n // 50 % 7 for n in numbers]


def test_kill_in_the_middle_of_an_add_loses_nothing_acknowledged(tmp_path):
    acknowledged = 0
    for pause in (0.0, 0.05, 0.13):
        folder = tmp_path / f"after {pause}"
        process = writer(folder)
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split()
        process.wait()
        store = VectorStore(path=folder)
        acknowledged = 50 * int(lines[-1]) if lines else 0
        assert len(store) in (acknowledged, acknowledged + 50)  # the last may be committed and not yet printed
        whole(store)
        before = len(store)
        store.add(torch.ones(3, 8), torch.zeros(3, dtype=torch.int64), ["x", "y", "z"])
        assert len(VectorStore(path=folder)) == before + 3
    assert acknowledged > 0


def test_a_reader_beside_a_writer_sees_whole_batches_only(tmp_path):
    process = writer(tmp_path)
    process.stdout.readline()
    reader = VectorStore(path=tmp_path)
    sizes = []
    deadline = time.monotonic() + 60
    while len(set(sizes)) < 5 and time.monotonic() < deadline:
        reader.refresh()
        whole(reader)
        sizes.append(len(reader))
    process.kill()
    process.communicate()
    assert len(set(sizes)) >= 5
    assert all(size % 50 == 0 for size in sizes)
    assert sizes == sorted(sizes)


def filled(folder=None, dtype="float32"):
    store = VectorStore(path=folder, dtype=dtype)
    store.add(torch.arange(1.0, 13).reshape(4, 3), torch.tensor([0, 1, 0, 1]), ["a", "b", 7, 8])
    return store


def test_a_torn_tail_is_overwritten(tmp_path):
    store = filled(tmp_path)
    store.close()
    with open(tmp_path / "vectors.float32", "ab") as file:
        file.write(b"a batch that was never committed, in part")
    again = VectorStore(path=tmp_path)
    assert again.vectors.tolist() == filled().vectors.tolist()
    again.add(torch.full((1, 3), 5.0), torch.tensor([2]), ["c"])
    assert (tmp_path / "vectors.float32").stat().st_size == 5 * 3 * 4
    assert VectorStore(path=tmp_path).vectors[-1].tolist() == [5, 5, 5]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_removed_vector_leaves_the_file_even_if_the_erasure_was_interrupted(tmp_path, dtype, monkeypatch):
    store = filled(tmp_path, dtype)
    secret = store.vectors[1].numpy().tobytes()
    assert secret in (tmp_path / f"vectors.{dtype}").read_bytes()
    monkeypatch.setattr(VectorStore, "_erase", lambda self, rows: None)  # a crash right after the commit
    store.remove(store.rows(["b"]))
    store.close()
    assert secret in (tmp_path / f"vectors.{dtype}").read_bytes()
    monkeypatch.undo()
    again = VectorStore(path=tmp_path)
    assert secret not in (tmp_path / f"vectors.{dtype}").read_bytes()
    assert again.dtype == dtype
    assert len(again) == 3
    assert again.ids([0, 2, 3]) == ["a", 7, 8]
    with pytest.raises(ValueError, match="no item with id 'b'"):
        again.rows(["b"])


def test_a_failed_add_changes_nothing(tmp_path):
    store = filled(tmp_path)
    size = (tmp_path / "vectors.float32").stat().st_size
    with pytest.raises(ValueError, match="'b' is there already"):
        store.add(torch.ones(2, 3), torch.tensor([0, 1]), ["d", "b"])
    assert (tmp_path / "vectors.float32").stat().st_size == size
    assert len(store) == len(VectorStore(path=tmp_path)) == 4
    assert store.add(torch.ones(1, 3), torch.tensor([0]), ["d"]) == ["d"]


def test_another_length_and_a_full_folder_are_refused(tmp_path):
    filled(tmp_path)
    with pytest.raises(ValueError, match="vectors of 3 features, not 4"):
        VectorStore(4, tmp_path)
    with pytest.raises(ValueError, match="not empty"):
        filled().copy_to(tmp_path)


def test_labels_and_levels_follow_edits_of_another_process(tmp_path):
    one, two = filled(tmp_path), VectorStore(path=tmp_path)
    one.relabel(0, 5)
    one.add(torch.ones(1, 3), torch.tensor([2]), ["c"], {"coarse": torch.tensor([1])})
    assert two.refresh()
    assert two.labels.tolist() == [5, 1, 0, 1, 2]
    assert two.levels["coarse"].tolist() == [-1, -1, -1, -1, 1]
    assert not two.refresh()


def test_a_removed_item_leaves_no_byte_in_the_folder(tmp_path):
    """Id, label and vector: neither the tables nor the log nor the vectors keep a trace."""
    store = VectorStore(path=tmp_path)
    store.add(torch.eye(3), torch.tensor([0, 1, 0]), ["kept", "the secret name", "too"], {"coarse": torch.arange(3)})
    secret = torch.tensor([[0.123, 0.456, 0.789]])
    store.add(secret, torch.tensor([4_242_424_242]), ["another secret"])
    traces = [b"secret", secret.numpy().tobytes(), (4_242_424_242).to_bytes(6, "big")]

    def contents():
        return b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert all(trace in contents() for trace in traces)
    store.remove(store.rows(["the secret name", "another secret"]))
    assert not any(trace in contents() for trace in traces)
    assert store.ids([0, 2]) == ["kept", "too"]
    with pytest.raises(ValueError, match="row 1 was removed"):
        store.ids([0, 1])


def test_what_a_store_did_itself_it_need_not_read_again(tmp_path):
    """The short cut after an edit gives what reading everything anew gives."""
    one, two = filled(tmp_path), VectorStore(path=tmp_path)
    one.add(torch.ones(2, 3), torch.tensor([2, 2]), ["c", "d"], {"coarse": torch.tensor([1, 0])})
    one.remove(one.rows(["b", "c"]))
    assert one.levels["coarse"].tolist() == [-1, -1, -1, -1, -1, 0]
    assert one.labels.tolist() == [0, -1, 0, 1, -1, 2]
    one.relabel(0, 5)
    assert one.labels[0] == 5
    two.relabel(2, 6)  # has not seen the edits before
    one.refresh()
    for store in (one, two, VectorStore(path=tmp_path)):
        assert store.labels.tolist() == [5, -1, 6, 1, -1, 2]
        assert store.removed.tolist() == [False, True, False, False, True, False]
        assert store.levels["coarse"].tolist() == [-1, -1, -1, -1, -1, 0]
        assert store.vectors[1].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="label must not be negative"):
        one.relabel(0, -1)


def test_a_failed_first_add_fixes_no_length():
    store = VectorStore()
    with pytest.raises(ValueError, match="'a' is there already"):
        store.add(torch.ones(2, 3), torch.tensor([0, 1]), ["a", "a"])
    store.add(torch.ones(1, 5), torch.tensor([0]))
    assert store.features == 5


def test_what_is_read_together_is_of_one_state(tmp_path):
    one, two = filled(tmp_path), VectorStore(path=tmp_path)
    with one.reading():
        two.add(torch.ones(1, 3), torch.tensor([2]), ["c"])
        two.relabel(0, 5)
        assert not one.refresh()
        assert one.labels.tolist() == [0, 1, 0, 1]
        with pytest.raises(ValueError, match="no item with id 'c'"):
            one.rows(["c"])
    assert one.refresh()
    assert one.labels.tolist() == [5, 1, 0, 1, 2]
    assert one.rows(["c"]).tolist() == [4]
