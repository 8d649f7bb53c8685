"""Reading volumes in the NIfTI-1 format, which needs nothing but its 348 bytes of header."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from neurarium.data._errors import DataError

_KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
LARGEST = 1 << 31


def read_nifti(path: str | os.PathLike[str]) -> Shaped[Tensor, "x y z"]:
    """The volume in a file ``.nii`` or ``.nii.gz``; axes as they are stored, values scaled as the header says.

    Args:
        path: of the file; a single file of both header and image.

    Returns:
        Whole numbers as stored where the header gives no scale (int64 for labels, uint8 for bytes), else float32.

    Raises:
        DataError: it cannot be read, is no NIfTI-1 file, holds no volume of three dimensions or is cut short.
    """
    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if len(content) < 352 or content[344:347] != b"n+1":
        raise DataError(f"{path} is no NIfTI-1 file of header and image")
    order = "<" if struct.unpack_from("<i", content)[0] == 348 else ">"
    dims = struct.unpack_from(order + "8h", content, 40)
    kind = struct.unpack_from(order + "h", content, 70)[0]
    offset, slope, shift = struct.unpack_from(order + "3f", content, 108)
    shape = dims[1:4]
    if not 3 <= dims[0] <= 7 or any(n != 1 for n in dims[4 : dims[0] + 1]) or min(shape) < 1:
        raise DataError(f"{path} must hold one volume of three dimensions, not {dims[1 : dims[0] + 1]}")
    if kind not in _KINDS:
        raise DataError(f"{path} holds numbers of kind {kind}, which cannot be read")
    count = shape[0] * shape[1] * shape[2]
    dtype = np.dtype(order + _KINDS[kind])
    if count * dtype.itemsize > min(LARGEST, len(content) - int(offset)):
        raise DataError(f"{path} is cut short: {shape} do not fit into {len(content)} bytes")
    values = np.frombuffer(content, dtype, count, int(offset)).reshape(shape, order="F")
    if slope not in (0, 1) or shift != 0:
        return torch.from_numpy((values.astype(np.float32) * (slope or 1) + shift).astype(np.float32))
    native = {"u1": np.uint8, "f4": np.float32, "f8": np.float32}.get(_KINDS[kind], np.int64)
    return torch.from_numpy(np.ascontiguousarray(values.astype(native)))
