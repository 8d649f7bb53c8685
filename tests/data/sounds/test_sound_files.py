"""Sounds of every depth and number of channels, against samples that are known."""

import io
import struct
import wave

import numpy as np
import pytest
import soundfile

from neurarium.data import DataError, load_audio
from neurarium.data.sounds._read import read_sound

TIME = np.arange(800) / 8000
TONE = (0.5 * np.sin(2 * np.pi * 440 * TIME)).astype(np.float32)


def written(samples=TONE, rate=8000, **options):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, **{"format": "WAV", "subtype": "PCM_16"} | options)
    return stream.getvalue()


DEPTHS = {
    "PCM_U8": 1e-2, "PCM_16": 1e-4, "PCM_24": 1e-6, "PCM_32": 1e-6, "FLOAT": 0.0, "DOUBLE": 0.0, "ULAW": 2e-2,
    "ALAW": 2e-2,
}  # fmt: skip


@pytest.mark.parametrize("subtype", DEPTHS)
@pytest.mark.parametrize("channels", [1, 2])
def test_depths_and_channels(subtype, channels):
    samples = TONE if channels == 1 else np.stack([TONE * 1.5, TONE * 0.5], 1)
    found, rate = read_sound(written(samples, subtype=subtype), "a.wav")
    assert rate == 8000
    assert np.abs(found.numpy()[:800] - TONE).max() <= DEPTHS[subtype] + 1e-7


@pytest.mark.parametrize(
    ("format_", "subtype"),
    [("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("AIFF", "PCM_16"), ("WAVEX", "PCM_24"), ("RF64", "FLOAT")],
)
def test_formats(format_, subtype):
    found, _ = read_sound(written(format=format_, subtype=subtype), "a")
    assert np.abs(found.numpy() - TONE).max() < 0.1


def test_sixteen_bits_are_exact():
    whole = np.array([-32768, -1, 0, 1, 32767], np.int16)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(whole.tobytes())
    found, rate = read_sound(stream.getvalue(), "a.wav")
    assert found.tolist() == (whole / 32768).tolist()
    assert rate == 16000


def test_a_stream_of_ffmpeg_whose_length_is_not_told():
    content = bytearray(written())
    content[4:8] = b"\xff" * 4
    place = content.index(b"data")
    content[place + 4 : place + 8] = b"\xff" * 4
    assert len(read_sound(bytes(content), "a.wav")[0]) == 800


REFUSED = {
    "text": (b"hello", "not a readable sound"),
    "empty": (b"", "not a readable sound"),
    "cut off": (written()[:500], "is it cut off?"),
    "no samples": (written(TONE[:0]), "holds no samples"),
    "not finite": (written(np.where(TONE > 0.4, np.nan, TONE), subtype="FLOAT"), "not finite"),
    "header only": (written()[:20], "cut off"),
    "unknown coding": (written()[:20] + struct.pack("<H", 0x7777) + written()[22:], "not a readable sound"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sound_is_refused(name):
    content, words = REFUSED[name]
    with pytest.raises(DataError) as refusal:
        read_sound(content, "a.wav")
    assert words in str(refusal.value)
    assert "a.wav" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def sounds(tmp_path):
    def write(name, **options):
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written(**options))

    for kind in ("bark", "meow"):
        for i in range(5):
            write(f"{kind}/{i}.wav", samples=TONE[: 400 + i], subtype=("PCM_16", "PCM_24", "FLOAT")[i % 3])
    return tmp_path / "sounds", write


def test_a_folder_of_sounds(sounds):
    folder, _ = sounds
    (folder / "bark" / "._0.wav").write_bytes(b"resource fork")
    split = load_audio(folder)
    assert split.classes == ("bark", "meow")
    assert split.rate == 8000
    assert (len(split.train), len(split.test)) == (8, 2)
    assert split.test.labels.tolist().count(0) == 1
    assert sorted(split.train.speakers + split.test.speakers) == sorted("01234" * 2)


def test_a_folder_that_is_split_and_what_is_refused(sounds, tmp_path):
    folder, write = sounds
    write("meow/9.wav", rate=16000)
    with pytest.raises(DataError, match=r"9\.wav has 16,000 samples a second but .* has 8,000; make all one rate"):
        load_audio(folder)
    (folder / "meow" / "9.wav").rename(folder / "meow" / "9.m4a")
    with pytest.raises(DataError, match=r"9\.m4a is of a kind that cannot be read; save sounds as \.wav"):
        load_audio(str(folder))
    (folder / "meow" / "9.m4a").unlink()
    (tmp_path / "parts").mkdir()
    for part in ("train", "test"):
        (tmp_path / "parts" / part).symlink_to(folder)
    split = load_audio(tmp_path / "parts")
    assert (len(split.train), len(split.test)) == (10, 10)
    with pytest.raises(DataError, match="is no folder"):
        load_audio(tmp_path / "none")
