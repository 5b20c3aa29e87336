"""Packed bits against Python's integers and numpy."""

import numpy as np
import pytest
import torch
from compressor_cases import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse.nodes.messages.packing import pack, unpack


@settings(max_examples=150)
@given(bits=st.integers(1, 31), m=st.integers(0, 3), d=st.integers(0, 40), data=st.data())
def test_packed_codes_are_one_little_endian_number(bits, m, d, data):
    code = st.sampled_from([0, 1, 2**bits - 1]) | st.integers(0, 2**bits - 1)
    codes = data.draw(st.lists(st.lists(code, min_size=d, max_size=d), min_size=m, max_size=m))
    packed = pack(torch.tensor(codes, dtype=torch.int64).reshape(m, d), bits)
    assert packed.dtype == torch.uint8 and packed.shape == (m, -(-d * bits // 8))
    for row, sent in zip(codes, packed.tolist(), strict=True):
        assert int.from_bytes(bytes(sent), "little") == sum(c << (bits * i) for i, c in enumerate(row))
    assert unpack(packed, bits, d).tolist() == codes


@pytest.mark.parametrize("d", [1, 7, 8, 9, 1001])
def test_single_bits_are_packed_as_numpy_packs_them(d):
    flags = normal(2, d) > 0
    np.testing.assert_array_equal(pack(flags, 1).numpy(), np.packbits(flags.numpy(), axis=1, bitorder="little"))


def test_packing_errors():
    with pytest.raises(ValueError, match=r"codes must be in 0\.\.3, got 0\.\.4"):
        pack(torch.tensor([[0, 4]]), 2)
    with pytest.raises(ValueError, match=r"codes must be in 0\.\.3, got -1\.\.0"):
        pack(torch.tensor([[0, -1]]), 2)
    for bits in (0, 32):
        with pytest.raises(ValueError, match=rf"bits must be in 1\.\.31, got {bits}"):
            pack(torch.tensor([[0]]), bits)
    with pytest.raises(ValueError, match="packed must have 2 bytes per row for 3 codes of 4 bits, got 1"):
        unpack(torch.zeros(1, 1, dtype=torch.uint8), 4, 3)
