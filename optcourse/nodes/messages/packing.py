"""Small whole numbers in real bytes: codes of b bits, packed without gaps.

The bytes of a row are one little-endian number: code i occupies its bits b i ... b i + b - 1. Eight codes fill b bytes
exactly, so that both directions loop over the eight places of a group and treat all groups at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from optcourse.arguments import integer

#: The widest code: the largest one is still an int32.
MAX_BITS = 31


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes in 0 .. 2**bits - 1, ``[m, d]`` of an integer type or bool, as ``uint8 [m, ceil(d * bits / 8)]``.

    Unused bits at a row's end are 0. Raises ``ValueError`` unless bits is in 1..31 and every code fits.

    >>> pack(torch.tensor([[1, 2, 3]]), bits=2).tolist()  # 1 + 4 * 2 + 16 * 3
    [[57]]
    """
    bits = integer("bits", bits, 1, MAX_BITS)
    low, high = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
    if low < 0 or high >= 2**bits:
        raise ValueError(f"codes must be in 0..{2**bits - 1}, got {low}..{high}")
    m, d = codes.shape
    groups = pad(_integers(codes, bits), (0, -d % 8)).unflatten(1, (-1, 8))
    packed = groups.new_zeros(m, groups.shape[1], bits, dtype=torch.uint8)
    for place, byte, shift in _overlaps(bits):
        code = groups[..., place]
        # A conversion to uint8 keeps the low eight bits.
        packed[..., byte] |= (code << shift if shift >= 0 else code >> -shift).to(torch.uint8)
    return packed.flatten(1)[:, : -(-d * bits // 8)].contiguous()


def unpack(packed: Tensor, bits: int, size: int) -> Tensor:
    """The first ``size`` codes of every row of :func:`pack`'s result: ``uint8 [m, bytes]`` to ``int32 [m, size]``.

    Raises ``ValueError`` unless bits is in 1..31, size >= 0 and a row has ceil(size * bits / 8) bytes.

    >>> unpack(torch.tensor([[57]], dtype=torch.uint8), bits=2, size=3).tolist()
    [[1, 2, 3]]
    """
    bits, size = integer("bits", bits, 1, MAX_BITS), integer("size", size, 0)
    m, n_bytes = packed.shape
    needed = -(-size * bits // 8)
    if n_bytes != needed:
        raise ValueError(f"packed must have {needed} bytes per row for {size} codes of {bits} bits, got {n_bytes}")
    groups = _integers(pad(packed, (0, -n_bytes % bits)).unflatten(1, (-1, bits)), bits)
    codes = groups.new_zeros(m, groups.shape[1], 8)
    for place, byte, shift in _overlaps(bits):
        part = groups[..., byte]
        codes[..., place] |= part >> shift if shift >= 0 else part << -shift
    return (codes & (2**bits - 1)).flatten(1)[:, :size].int()


def _overlaps(bits: int) -> Iterator[tuple[int, int, int]]:
    """Every pair (place, byte) of a group that shares bits, and how far the code is shifted to the left in the byte."""
    for place in range(8):
        start = place * bits
        for byte in range(start // 8, (start + bits - 1) // 8 + 1):
            yield place, byte, start - 8 * byte


def _integers(tensor: Tensor, bits: int) -> Tensor:
    """The narrowest integers whose shifts lose none of a code's bits."""
    return tensor.to(torch.uint8 if bits <= 8 else torch.int32)
