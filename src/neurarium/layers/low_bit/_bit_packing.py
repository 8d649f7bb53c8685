"""Small whole numbers packed without gaps: N codes of b bits in ceil(b N / 8) bytes."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor


def pack_bits(codes: Tensor, bits: int) -> UInt8[Tensor, bytes]:
    """Pack codes below ``2 ** bits``.

    Eight codes make a word of ``bits`` bytes. So that every operation runs over contiguous memory, word i holds the
    codes i, i + M, ..., i + 7 M of the first 8 M = 8 (N // 8), and its bytes lie M apart. The last N mod 8 codes
    follow.

    Args:
        codes: uint8; a value of ``2 ** bits`` or more spoils its neighbours.
        bits: 1 to 8.

    Returns:
        Exactly ``ceil(bits * codes / 8)`` bytes.

    Raises:
        ValueError: ``bits`` is out of range, or the codes are not a uint8 vector.
    """
    _check(bits)
    if codes.dtype != torch.uint8 or codes.dim() != 1:
        raise ValueError(f"codes must be a vector of uint8, not {codes.dtype} of shape {tuple(codes.shape)}")
    if bits == 8:
        return codes.clone()
    words, rest = divmod(len(codes), 8)
    parts = _pack(codes[: 8 * words].view(8, words), bits) if words else []
    if rest:
        tail = _pack(torch.nn.functional.pad(codes[8 * words :], (0, 8 - rest)).view(8, 1), bits)
        parts += tail[: -(-bits * rest // 8)]
    return torch.cat(parts) if parts else codes.clone()


def unpack_bits(packed: Tensor, bits: int, count: int) -> UInt8[Tensor, codes]:
    """The ``count`` codes that `pack_bits` packed.

    Raises:
        ValueError: ``bits`` is out of range, or the bytes are not as many as ``count`` codes take.
    """
    _check(bits)
    if packed.dtype != torch.uint8 or packed.shape != (-(-bits * count // 8),):
        raise ValueError(f"packed must be {-(-bits * count // 8)} bytes for {count} codes of {bits} bits")
    if bits == 8:
        return packed.clone()
    words, rest = divmod(count, 8)
    parts = _unpack(packed[: bits * words].view(bits, words), bits) if words else []
    if rest:
        tail = packed[bits * words :]
        parts += _unpack(torch.nn.functional.pad(tail, (0, bits - len(tail))).view(bits, 1), bits)[:rest]
    return torch.cat(parts) if parts else packed.clone()


def _pack(rows: Tensor, bits: int) -> list[Tensor]:
    """Eight rows of codes as ``bits`` rows of bytes: code r takes the bits from r * bits of the word."""
    packed: list[Tensor] = []
    for byte in range(bits):
        held: Tensor | None = None
        for r in range(8):
            shift = r * bits - 8 * byte
            if -bits < shift < 8:
                piece = rows[r] << shift if shift > 0 else rows[r] >> -shift if shift < 0 else rows[r]
                held = piece if held is None else held | piece
        packed.append(rows[0] if held is None else held)
    return packed


def _unpack(packed: Tensor, bits: int) -> list[Tensor]:
    rows: list[Tensor] = []
    for r in range(8):
        byte, shift = divmod(r * bits, 8)
        code = packed[byte] >> shift if shift else packed[byte]
        if shift + bits > 8:
            code = code | (packed[byte + 1] << (8 - shift))
        rows.append(code if shift + bits == 8 else code & (2**bits - 1))
    return rows


def _check(bits: int) -> None:
    if not isinstance(bits, int) or not 1 <= bits <= 8:
        raise ValueError(f"bits must be a whole number from 1 to 8, not {bits!r}")
