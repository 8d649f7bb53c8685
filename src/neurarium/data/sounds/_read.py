"""Sound files to samples."""

from __future__ import annotations

import io

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.data._archives import check_size, reason
from neurarium.data._errors import DataError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64")
UNREADABLE = (".m4a", ".aac", ".wma", ".amr", ".mp4", ".webm")


def read_sound(content: bytes, what: str) -> tuple[Float[Tensor, " samples"], int]:
    """The samples of a sound file in -1 to 1, and how many of them make a second.

    Any depth (8 to 32 bits, floating-point) and number of channels, of which the mean is taken. Floating-point files
    may go beyond 1 and are left so.

    Args:
        content: bytes of a WAV (RIFF, RF64, NIST SPHERE), FLAC, OGG, MP3, AIFF, AU or CAF file.
        what: what it is called in messages.

    Raises:
        DataError: it is damaged, empty, of another format, or holds a value that is not finite.
    """
    import soundfile

    told = int.from_bytes(content[4:8], "little") + 8
    if content.startswith(b"RIFF") and len(content) < told < 2**32 - 1:  # a stream's length may be unknown: all ones
        raise DataError(f"{what} holds {len(content):,} of its {told:,} bytes; is it cut off?")
    try:
        with soundfile.SoundFile(_Bytes(content)) as file:
            check_size(4 * file.frames * file.channels, what)
            samples = file.read(dtype="float32", always_2d=True)
            rate = file.samplerate
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        text = reason(error).removeprefix("Error opening ").partition(">: ")[2] or reason(error)
        raise DataError(f"{what} is not a readable sound file ({text.rstrip('.')})") from None
    if len(samples) == 0:
        raise DataError(f"{what} holds no samples")
    if not np.isfinite(samples).all():
        raise DataError(f"{what} holds a sample that is not finite")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(1)
    return torch.from_numpy(np.ascontiguousarray(mono)), rate


class _Bytes(io.BytesIO):
    """Bytes in which a damaged file may seek anywhere."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return super().seek(0)
