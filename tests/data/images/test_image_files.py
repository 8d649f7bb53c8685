"""Pixels of cameras, scanners and drawing programs, against images whose pixels are known."""

import numpy as np
import pytest
import torch
from PIL import Image

from neurarium.data import DataError, load
from neurarium.data.images._read import byte_range, read_images

RAMP = np.linspace(0, 255, 24).round().astype(np.uint8).reshape(4, 6)


def read(path, **options):
    return read_images([path], **options)[0][0].numpy()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits(tmp_path, suffix):
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(read(tmp_path / f"a.{suffix}"), RAMP)


def test_twelve_bits_in_sixteen(tmp_path):
    wide = np.linspace(0, 4095, 24).round().astype(np.uint16).reshape(4, 6)
    Image.fromarray(wide).save(tmp_path / "a.png")
    pixels, note = read_images([tmp_path / "a.png"])
    assert np.abs(pixels[0].numpy().astype(int) - RAMP).max() <= 1
    assert note == "values from 0 (black) to 4095 (white) scaled to bytes"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-3, 5), (0, 1e6)])
def test_fractions(tmp_path, low, high):
    fractions = (low + (high - low) * RAMP.astype(np.float64) / 255).astype(np.float32)
    Image.fromarray(fractions).save(tmp_path / "a.tif")
    assert np.array_equal(read(tmp_path / "a.tif"), RAMP)


def test_deep_images_keep_one_scale(tmp_path):
    for i, peak in enumerate((65535, 6000)):
        Image.fromarray((RAMP / 255 * peak).astype(np.uint16)).save(tmp_path / f"{i}.png")
    bright, dark = read_images([tmp_path / "0.png", tmp_path / "1.png"])[0]
    assert bright.max() == 255
    assert dark.max() == round(6000 / 257)
    assert byte_range([np.array([[0.0, 0.2]])]) == (0, 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_black_square_on_nothing_is_black_on_white(tmp_path, mode):
    picture = Image.new("LA", (6, 4), (0, 0))
    picture.paste((0, 255), (0, 0, 3, 4))
    if mode == "P":
        palette = Image.new("P", (6, 4), 1)
        palette.putpalette([0, 0, 0, 9, 9, 9])
        palette.paste(0, (0, 0, 3, 4))
        palette.info["transparency"] = 1
        palette.save(tmp_path / "a.png", transparency=1)
    else:
        picture.convert(mode).save(tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    grey = pixels if pixels.ndim == 2 else pixels[0]
    assert (grey[:, :3] == 0).all()
    assert (grey[:, 3:] == 255).all()
    assert (pixels.ndim == 2) == (mode == "LA")


def test_half_transparent_is_half_white(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 128)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[:, 0, 0].tolist() == [255, 127, 127]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cameras_rotations_are_applied(tmp_path, orientation):
    upright = Image.fromarray(np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((16, 16), np.uint8)))
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
            7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    stored = upright.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - np.asarray(upright)).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "YCbCr", "P"])
def test_every_mode(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.new("RGB", (8, 8), "white").convert(mode).save(path)
    pixels = read(path)
    assert pixels.shape == ((8, 8) if mode in ("1", "L") else (3, 8, 8))
    assert (pixels >= 254).all()


def test_what_archives_and_desktops_leave_is_passed_over(draw, tmp_path):
    for kind in ("cat", "dog"):
        for i in range(4):
            draw(f"photos/{kind}/{i}.png", colour=i)
        for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt"):
            (tmp_path / "photos" / kind / name).write_bytes(b"\0\5\x16\7")
    draw("photos/__MACOSX/cat/._0.png")
    draw("photos/@eaDir/0.png")
    (tmp_path / "photos/._cat").write_bytes(b"")
    split = load(tmp_path / "photos")
    assert split.classes == ("cat", "dog")
    assert len(split.train) + len(split.validation) + len(split.test) == 8


@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("Training", "dev", "Testing"), ("train", "val", "test")]
)
def test_names_of_parts(draw, tmp_path, names):
    for part, count in zip(names, (3, 2, 1)):
        for kind in ("a", "b"):
            for i in range(count):
                draw(f"photos/{part}/{kind}/{i}.png")
    split = load(tmp_path / "photos")
    assert [len(part) for part in (split.train, split.validation, split.test)] == [6, 4, 2]


def test_a_validation_part_is_tested_on_where_there_is_no_other(draw, tmp_path):
    for part in ("train", "val"):
        for kind in ("a", "b"):
            draw(f"photos/{part}/{kind}/0.png")
    split = load(tmp_path / "photos")
    assert (len(split.validation), len(split.test)) == (0, 2)
    assert split.notes == {"photos": "val is the test part, for there is no other"}


def test_photographs_of_all_sizes_are_cut_to_squares_where_asked(draw, tmp_path):
    for kind in ("a", "b"):
        for i, size in enumerate([(9, 6), (6, 9), (12, 12), (7, 5)]):
            draw(f"photos/{kind}/{i}.png", size, 50 + i)
    with pytest.raises(DataError, match=r"0\.png is 9 x 6; make all images one size, or give size="):
        load(tmp_path / "photos")
    split = load(tmp_path / "photos", size=4)
    assert split.train.x.shape[1:] == (4, 4)
    assert set(torch.cat([split.train.x, split.validation.x, split.test.x]).flatten().tolist()) == {50, 51, 52, 53}
    Image.fromarray(np.full((9, 9), 65535, np.uint16)).save(tmp_path / "photos/a/4.png")
    assert load(tmp_path / "photos", size=4).train.x.dtype == torch.uint8
    for size in (0, -1, 1.5, "4", True, 10**6):
        with pytest.raises(DataError, match="size must be a number of pixels"):
            load(tmp_path / "photos", size=size)


def test_kinds_that_cannot_be_read_are_named(draw, tmp_path):
    for kind in ("a", "b"):
        draw(f"photos/{kind}/0.png")
    (tmp_path / "photos/a/IMG_1.HEIC").write_bytes(b"")
    with pytest.raises(DataError, match=r"IMG_1\.HEIC is of a kind that cannot be read; save images as"):
        load(tmp_path / "photos")
