"""TIMIT from the user's own licensed copy: sound, phone labels for every frame, and the standard parts and foldings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurarium.data._errors import DataError
from neurarium.data.known._cache import data_folders
from neurarium.data.sounds._read import read_sound

RATE = 16_000
IGNORED = -100  # cross_entropy's ignore_index: the glottal stop, which the standard folding drops

_SPEAKERS = """mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0
mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0"""
_PHONES = """aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh k
kcl l m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh"""
CORE_TEST_SPEAKERS = tuple(_SPEAKERS.split())
PHONES_61 = tuple(_PHONES.split())
_TO_48 = {
    "ax-h": "ax", "axr": "er", "em": "m", "eng": "ng", "nx": "n", "hv": "hh", "ux": "uw", "h#": "sil", "pau": "sil",
    "bcl": "vcl", "dcl": "vcl", "gcl": "vcl", "pcl": "cl", "tcl": "cl", "kcl": "cl",
}  # fmt: skip
_TO_39 = {
    "ao": "aa", "ax": "ah", "el": "l", "en": "n", "ix": "ih", "zh": "sh", "cl": "sil", "vcl": "sil", "epi": "sil",
}  # fmt: skip
PHONES_48 = tuple(sorted({_TO_48.get(phone, phone) for phone in PHONES_61} - {"q"}))
PHONES_39 = tuple(sorted({_TO_39.get(phone, phone) for phone in PHONES_48}))


def fold_phone(phone: str, phones: int = 39) -> str | None:
    """One of the 61 transcribed phones in the set of 48 (training) or 39 (scoring); None for "q", which is dropped.

    Raises:
        DataError: no such phone.
        ValueError: ``phones`` is not 61, 48 or 39.
    """
    if phones not in (61, 48, 39):
        raise ValueError(f"phones must be 61, 48 or 39, not {phones}")
    if phone not in PHONES_61:
        raise DataError(f"{phone!r} is not one of TIMIT's 61 phones")
    if phones == 61:
        return phone
    if phone == "q":
        return None
    folded = _TO_48.get(phone, phone)
    return folded if phones == 48 else _TO_39.get(folded, folded)


@dataclass(frozen=True)
class TimitSentence:
    """A sentence: ``wave`` float32 [samples] at 16 kHz, ``segments`` of (first sample, end, one of 61 phones)."""

    speaker: str
    name: str
    wave: Tensor
    segments: tuple[tuple[int, int, str], ...]

    def frame_labels(self, frames: int, *, hop: int = 160, phones: int = 39, states: int = 1) -> Tensor:
        """A label for every frame, int64 [frames]: what is said at sample ``t * hop``, where frame t of `log_mel` lies.

        Args:
            frames: how many.
            hop: samples from one frame to the next.
            phones: the set of phones, 61, 48 or 39; a phone's number is its place in ``PHONES_61`` and so on.
            states: cut each phone into so many equal parts; the label is then ``states * phone + part``.

        Returns:
            Labels; -100 beyond the transcription and, but for 61 phones, in the glottal stop "q".
        """
        names: tuple[str, ...] = {61: PHONES_61, 48: PHONES_48}.get(phones, PHONES_39)
        labels = torch.full((frames,), IGNORED)
        place = torch.arange(frames) * hop
        for first, end, phone in self.segments:
            folded = fold_phone(phone, phones)
            if folded is not None:
                inside = (place >= first) & (place < end)
                part = (place[inside] - first) * states // max(end - first, 1)
                labels[inside] = names.index(folded) * states + part
        return labels


@dataclass(frozen=True)
class Timit:
    """Training sentences (3,696 in a full copy) and the core test set (192); the SA sentences are left out."""

    train: tuple[TimitSentence, ...]
    test: tuple[TimitSentence, ...]


def load_timit(folder: str | Path | None = None) -> Timit:
    """TIMIT from a folder that holds ``TRAIN`` and ``TEST`` (any case), with region, speaker and sentence below.

    Sound may be NIST SPHERE or RIFF. Phones are read from the ``.phn`` file of the same name.

    Args:
        folder: your copy; by default the folder ``timit`` (any case) in a folder of ``$NEURARIUM_DATA``.

    Raises:
        DataError: the folder, one of its parts, a core-test speaker or a transcription is missing, or a file is
            damaged.
    """
    root = _own_copy() if folder is None else Path(folder)
    if not root.is_dir():
        raise DataError(f"TIMIT is licensed and cannot be fetched: there is no folder {root}; name your own copy's")
    parts = {}
    for part in ("train", "test"):
        found = [child for child in root.iterdir() if child.is_dir() and child.name.lower() == part]
        if not found:
            raise DataError(f"{root} holds no folder {part.upper()}, so it is not a copy of TIMIT")
        parts[part] = _sentences(found[0], CORE_TEST_SPEAKERS if part == "test" else None)
    absent = sorted(set(CORE_TEST_SPEAKERS) - {sentence.speaker for sentence in parts["test"]})
    if absent or not parts["train"]:
        missing = f"core-test speakers {', '.join(absent)}" if absent else "training sentences"
        raise DataError(f"{root} lacks {missing}")
    return Timit(parts["train"], parts["test"])


def _own_copy() -> Path:
    for place in data_folders():
        found = [child for child in place.iterdir() if child.name.lower() == "timit"] if place.is_dir() else []
        if found:
            return found[0]
    raise DataError("TIMIT is licensed and cannot be fetched: put your copy as the folder timit into $NEURARIUM_DATA")


def _sentences(part: Path, speakers: tuple[str, ...] | None) -> tuple[TimitSentence, ...]:
    """All but the SA sentences, in the order of speakers and names; a second copy of a sound is passed over."""
    found: dict[tuple[str, str], TimitSentence] = {}
    for path in sorted(part.glob("*/*/*")):
        speaker, name = path.parent.name.lower(), path.name.split(".")[0].lower()
        kept = path.suffix.lower() == ".wav" and not name.startswith("sa") and (speaker, name) not in found
        if kept and (speakers is None or speaker in speakers):
            beside = [p for p in path.parent.iterdir() if p.name.lower() == f"{name}.phn"]
            if not beside:
                raise DataError(f"{path} has no transcription {name}.phn beside it")
            wave = read_sphere(path.read_bytes(), str(path))
            found[speaker, name] = TimitSentence(speaker, name, wave, _segments(beside[0]))
    return tuple(found[key] for key in sorted(found))


def _segments(path: Path) -> tuple[tuple[int, int, str], ...]:
    segments = []
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").splitlines(), 1):
        fields = line.split()
        if len(fields) != 3 or not (fields[0].isdigit() and fields[1].isdigit()) or fields[2] not in PHONES_61:
            raise DataError(f"{path}, line {number}: not 'first end phone' with one of TIMIT's 61 phones")
        segments.append((int(fields[0]), int(fields[1]), fields[2]))
    return tuple(segments)


def read_sphere(content: bytes, what: str) -> Tensor:
    """A mono 16-bit NIST SPHERE (uncompressed) or RIFF file as float32 [samples] in -1 to 1.

    Raises:
        DataError: it is damaged, compressed or of another format.
    """
    if not content.startswith(b"NIST_1A"):
        return read_sound(content, what)[0]
    lines = content[:1024].decode("ascii", errors="replace").splitlines()
    size = lines[1].strip() if len(lines) > 1 else ""
    fields = {words[0]: words[2] for line in lines[2:] if len(words := line.split(maxsplit=2)) == 3}
    fixed = (fields.get("channel_count", "1"), fields.get("sample_n_bytes"), fields.get("sample_coding", "pcm"))
    count = fields.get("sample_count", "")
    if not (size.isdigit() and count.isdigit()) or fixed != ("1", "2", "pcm"):
        raise DataError(f"{what} is not uncompressed mono 16-bit NIST SPHERE sound")
    order = ">i2" if fields.get("sample_byte_format") == "10" else "<i2"
    body = content[int(size) : int(size) + 2 * int(count)]
    if len(body) != 2 * int(count):
        raise DataError(f"{what} ends before the {count} samples that its header promises")
    return torch.from_numpy(np.frombuffer(body, order).astype(np.float32) / 32768)
