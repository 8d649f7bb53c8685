"""Spoken digits and drawn characters."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from neurarium.data._archives import open_zip, zip_member
from neurarium.data._errors import DataError
from neurarium.data._folders import find_files
from neurarium.data._splitting import split_rows
from neurarium.data.known._cache import members, prepared
from neurarium.data.known._sets import known, table
from neurarium.data.sounds._read import SUFFIXES, UNREADABLE, read_sound


@dataclass(frozen=True)
class Recordings:
    """Sound with a class and a speaker.

    Args:
        waves: float32 [samples] in -1 to 1, of different lengths.
        labels: int64 [recordings].
        speakers: name of each recording's speaker.
    """

    waves: list[Tensor]
    labels: Tensor
    speakers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.waves)


@dataclass(frozen=True)
class AudioSplit:
    """Recordings for training and for test.

    Args:
        train: what methods learn from.
        test: what is reported.
        rate: samples per second.
        classes: class names in label order.
        name: of the set.
    """

    train: Recordings
    test: Recordings
    rate: int
    classes: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class Omniglot:
    """Hand-drawn characters and the published one-shot runs.

    Args:
        images: uint8 [images, 105, 105], 1 where there is ink.
        characters: int64 [images], index into ``names``.
        drawers: int64 [images], 0 to 19.
        names: ``alphabet/character`` by index.
        run_training: uint8 [20 runs, 20 classes, 105, 105], one image of each class.
        run_test: uint8 [20 runs, 20 images, 105, 105].
        run_answers: int64 [20 runs, 20 images], which class each test image is of.
    """

    images: Tensor
    characters: Tensor
    drawers: Tensor
    names: tuple[str, ...]
    run_training: Tensor
    run_test: Tensor
    run_answers: Tensor


def load_audio(name: str | os.PathLike[str] = "fsdd") -> AudioSplit:
    """The Free Spoken Digit Dataset, or your own folder of sounds.

    Args:
        name: ``"fsdd"``, of 3,000 recordings at 8 kHz, whose takes 0 to 4 of each speaker and digit are for test; or a
            folder with one sub-folder per class, below ``train`` and ``test`` or at the top (then a fifth of each class
            is for test). It holds WAV of any depth, FLAC, OGG, MP3 or AIFF, all of one rate; several channels become
            their mean.

    Raises:
        DataError: no such set, no source can be reached, or a sound cannot be used.
    """
    if not isinstance(name, str) or (name not in table() and Path(name).expanduser().is_dir()):
        return read_sound_folder(Path(name).expanduser())
    contents = members(known(name, "audio"))
    train: list[tuple[Tensor, int, str]] = []
    test: list[tuple[Tensor, int, str]] = []
    for path in sorted(path for path in contents if path.endswith(".wav")):
        digit, speaker, take = PurePosixPath(path).stem.split("_")
        (test if int(take) < 5 else train).append((read_sound(contents[path], path)[0], int(digit), speaker))

    def gather(rows: list[tuple[Tensor, int, str]]) -> Recordings:
        waves, labels, speakers = zip(*rows)
        return Recordings(list(waves), torch.tensor(labels), speakers)

    return AudioSplit(gather(train), gather(test), 8000, tuple("0123456789"), name)


def read_sound_folder(folder: Path) -> AudioSplit:
    """Your own sounds by class; speakers are not known, so each is called by its file's name."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; its sub-folders should hold the sounds of each class")
    found = find_files(folder, SUFFIXES, "sounds", UNREADABLE)
    sounds = {path: read_sound(path.read_bytes(), str(path)) for files in found.parts.values() for _, path in files}
    first, (_, rate) = next(iter(sounds.items()))
    for path, (_, other) in sounds.items():
        if other != rate:
            raise DataError(f"{path} has {other:,} samples a second but {first} has {rate:,}; make all one rate")
    parts = {
        part: Recordings(
            [sounds[path][0] for _, path in files], torch.tensor(found.labels(part)), tuple(p.stem for _, p in files)
        )
        for part, files in found.parts.items()
    }
    if "all" in parts:
        every = parts["all"]
        train, _, test = split_rows(every.labels, (0.8, 0.0, 0.2), 0, found.classes, folder.name)
        parts = {"train": pick(every, train), "test": pick(every, test)}
    return AudioSplit(parts["train"], parts["test"], rate, found.classes, folder.name)


def pick(recordings: Recordings, rows: Tensor) -> Recordings:
    """Some of the recordings."""
    chosen = rows.tolist()
    waves, speakers = [recordings.waves[i] for i in chosen], tuple(recordings.speakers[i] for i in chosen)
    return Recordings(waves, recordings.labels[rows], speakers)


def load_omniglot(name: str = "omniglot-part") -> Omniglot:
    """242 characters of 8 alphabets by 20 drawers, and the 20 published one-shot runs on 10 other alphabets.

    Decoded once and kept in the cache.

    Raises:
        DataError: no such set, or no source can be reached.
    """
    entry = known(name, "few-shot")
    tensors = prepared(entry, lambda: decode_omniglot(members(entry)))
    names = tuple(bytes(tensors["names"].tolist()).decode("utf-8").split("\n"))
    keys = ("images", "characters", "drawers", "run_training", "run_test", "run_answers")
    images, characters, drawers, *runs = (tensors[key] for key in keys)
    return Omniglot(images, characters, drawers, names, *runs)


def decode_omniglot(contents: dict[str, bytes]) -> dict[str, Tensor]:
    """The two background archives, whose Latin and Greek are the same, and the archive of runs."""
    found: dict[tuple[str, int], bytes] = {}
    for part in (1, 2):
        file = f"python/images_background_small{part}.zip"
        with open_zip(io.BytesIO(contents[file]), file) as archive:
            for entry in archive.namelist():
                path = PurePosixPath(entry)
                if path.suffix == ".png":
                    drawer = int(path.stem.split("_")[1]) - 1
                    found[f"{path.parts[1]}/{path.parts[2]}", drawer] = zip_member(archive, entry, file)
    names = sorted({name for name, _ in found})
    keys = sorted(found)
    with open_zip(io.BytesIO(contents["python/one-shot-classification/all_runs.zip"]), "all_runs.zip") as archive:
        runs = [read_run(archive, f"run{run:02d}") for run in range(1, 21)]
    return {
        "images": torch.stack([read_drawing(found[key]) for key in keys]),
        "characters": torch.tensor([names.index(name) for name, _ in keys]),
        "drawers": torch.tensor([drawer for _, drawer in keys]),
        "names": torch.tensor(list("\n".join(names).encode()), dtype=torch.uint8),
        "run_training": torch.stack([training for training, _, _ in runs]),
        "run_test": torch.stack([test for _, test, _ in runs]),
        "run_answers": torch.stack([answers for _, _, answers in runs]),
    }


def read_run(archive: zipfile.ZipFile, run: str) -> tuple[Tensor, Tensor, Tensor]:
    """Training images, test images and answers of one one-shot run."""

    def images(pattern: str) -> Tensor:
        members = (zip_member(archive, pattern.format(i), "all_runs.zip") for i in range(1, 21))
        return torch.stack([read_drawing(content) for content in members])

    answers = torch.full((20,), -1)
    for line in zip_member(archive, f"{run}/class_labels.txt", "all_runs.zip").decode().splitlines():
        test, training = (int(PurePosixPath(path).stem[-2:]) - 1 for path in line.split())
        answers[test] = training
    return images(run + "/training/class{:02d}.png"), images(run + "/test/item{:02d}.png"), answers


def read_drawing(content: bytes) -> Tensor:
    """A black-and-white PNG as uint8, 1 where it is black."""
    from PIL import Image

    return torch.from_numpy(1 - np.asarray(Image.open(io.BytesIO(content), formats=("PNG",)).convert("1"), np.uint8))
