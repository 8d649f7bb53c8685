"""The TIMIT loader on a tiny made-up copy."""

import io
import os
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.data._errors import DataError
from neurarium.data.sounds._timit import (
    CORE_TEST_SPEAKERS,
    PHONES_39,
    PHONES_48,
    PHONES_61,
    fold_phone,
    load_timit,
    read_sphere,
)
from neurarium.lab import Run
from neurarium.studies.learning._phone_sentences import FrozenFeatures, timit
from neurarium.studies.learning.primal_dual_rnn import STUDY

SAMPLES = np.arange(-400, 400, dtype="<i2")
PHN = "0 160 h#\n160 480 ix\n480 640 q\n640 800 tcl\n"


def sphere(samples=SAMPLES, coding="pcm", order="01"):
    head = f"NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i {len(samples)}\nsample_n_bytes -i 2\n"
    head += f"sample_byte_format -s2 {order}\nsample_coding -s3 {coding}\nend_head\n"
    return head.encode().ljust(1024) + samples.tobytes()


def riff():
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(SAMPLES.tobytes())
    return out.getvalue()


def put(root, part, speaker, content):
    place = root / part / "DR1" / speaker.upper()
    place.mkdir(parents=True)
    for name in ("SA1", "SX5", "SI9"):
        (place / f"{name}.WAV").write_bytes(content)
        (place / f"{name}.PHN").write_text(PHN)
    return place


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "folder" / "TIMIT"
    put(root, "TRAIN", "fcjf0", riff())
    for speaker in (*CORE_TEST_SPEAKERS, "fxxx0"):
        put(root, "TEST", speaker, sphere())
    return root


def test_parts_sound_and_labels(copy):
    found = load_timit(copy)
    assert [(s.speaker, s.name) for s in found.train] == [("fcjf0", "si9"), ("fcjf0", "sx5")]
    assert len(found.test) == 48
    assert {s.speaker for s in found.test} == set(CORE_TEST_SPEAKERS)
    for sentence in (found.train[0], found.test[0]):
        torch.testing.assert_close(sentence.wave, torch.from_numpy(SAMPLES / 32768).float())
    labels = found.test[0].frame_labels(6)
    sil, ih = PHONES_39.index("sil"), PHONES_39.index("ih")
    assert labels.tolist() == [sil, ih, ih, -100, sil, -100]
    assert found.test[0].frame_labels(6, phones=48)[4] == PHONES_48.index("cl")


def test_states_are_equal_parts_of_a_phone(copy):
    labels = load_timit(copy).test[0].frame_labels(10, hop=80, phones=61, states=2)
    h, ix, q, tcl = (2 * PHONES_61.index(phone) for phone in ("h#", "ix", "q", "tcl"))
    assert labels.tolist() == [h, h + 1, ix, ix, ix + 1, ix + 1, q, q + 1, tcl, tcl + 1]  # 160, 320, 160, 160 samples
    far = load_timit(copy).test[0].frame_labels(3, hop=300, phones=61)  # at samples 0, 300 and 600
    assert far.tolist() == [PHONES_61.index(phone) for phone in ("h#", "ix", "q")]


def test_the_copy_is_found_among_the_data_folders(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("NEURARIUM_DATA", os.pathsep.join([str(tmp_path / "none"), str(copy.parent)]))
    assert len(load_timit().test) == 48
    monkeypatch.setenv("NEURARIUM_DATA", str(copy))
    with pytest.raises(DataError, match=r"put your copy as the folder timit into \$NEURARIUM_DATA"):
        load_timit()


def test_the_study_runs_on_it(copy, monkeypatch):
    monkeypatch.setenv("NEURARIUM_DATA", str(copy.parent))
    data = timit(2, 20)
    frames, labels = data.train.x, data.train.y
    assert frames.shape == (2, 6, 40)  # 800 samples make 6 frames, the last behind the transcription
    torch.testing.assert_close(frames.flatten(0, 1).mean(0), torch.zeros(40), atol=1e-4, rtol=0)
    phones = [data.phone_of[label] for label in labels[0, :5]]
    assert phones == [PHONES_39.index(p) for p in ("sil", "ih", "ih")] + [-1, PHONES_39.index("sil")]
    assert labels[0, 5] == -100
    sizes = {"train": 2, "test": 20, "dnn_width": 8, "hidden": 8, "dnn_epochs": 1, "epochs": 2}
    settings = replace(STUDY.settings("primal-dual", "paper"), **sizes)
    found = STUDY.trial(settings, Run())
    assert settings.corpus == "timit"
    assert 0 <= found["frame_error"] <= 1
    assert found["diverged"] == 0


def test_padding_is_not_heard():
    layers = FrozenFeatures(nn.Linear(4, 3))
    x = torch.randn(1, 5, 4)
    x[:, 3:] = 0
    assert not layers(x)[:, 3:].any()
    torch.testing.assert_close(layers(x)[:, :3], layers.layers(x)[:, :3])
    assert not any(p.requires_grad for p in layers.parameters())


def test_foldings():
    assert (len(set(PHONES_61)), len(PHONES_48), len(PHONES_39)) == (61, 48, 39)
    assert len(set(CORE_TEST_SPEAKERS)) == 24
    assert [fold_phone(p, 48) for p in ("ax-h", "bcl", "zh", "q", "epi")] == ["ax", "vcl", "zh", None, "epi"]
    assert [fold_phone(p) for p in ("ax-h", "bcl", "zh", "q", "epi")] == ["ah", "sil", "sh", None, "sil"]


def test_byte_order_is_read():
    big = sphere(SAMPLES.astype(">i2"), order="10")
    assert torch.equal(read_sphere(big, "x"), read_sphere(sphere(), "x"))


def test_what_is_missing_is_named(copy):
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        load_timit(copy / "nowhere")
    with pytest.raises(DataError, match="holds no folder TRAIN"):
        load_timit(copy / "TEST")
    with pytest.raises(DataError, match="compressed"):
        read_sphere(sphere(coding="pcm,embedded-shorten-v2.00"), "x")
    with pytest.raises(DataError, match="800 samples"):
        read_sphere(sphere()[:-2], "x")
    (copy / "TEST/DR1/MDAB0").rename(copy / "TEST/DR1/MZZZ0")
    with pytest.raises(DataError, match="speakers mdab0"):
        load_timit(copy)
    (copy / "TRAIN/DR1/FCJF0/SX5.PHN").unlink()
    with pytest.raises(DataError, match=r"no transcription sx5\.phn"):
        load_timit(copy)
