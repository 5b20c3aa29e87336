"""Every error names argument, value and allowed range, for anything that a caller may pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcourse import arguments

anything = st.one_of(st.none(), st.booleans(), st.text(), st.lists(st.text(), min_size=1), st.complex_numbers())


@given(anything)
def test_what_is_no_number_is_a_type_error_with_the_name(value):
    with pytest.raises(TypeError, match="lr must be a real number, got "):
        arguments.real("lr", value)
    with pytest.raises(TypeError, match="steps must be an integer, got "):
        arguments.integer("steps", value, 0)


@given(st.floats())
def test_intervals(x):
    inside = 0 < x <= 1
    try:
        assert arguments.real("beta", x, 0, 1, open_low=True) == x
        assert inside
    except ValueError as error:
        assert not inside and str(error) == f"beta must be in (0, 1], got {x!r}"


def test_arrays_show_their_first_bad_entry():
    with pytest.raises(ValueError, match=r"^lr must be in \(0, inf\), got -2.0$"):
        arguments.positive(lr=[1.0, -2.0, -3.0])
    lr, T = arguments.positive(lr=[1, 2], steps=3)
    assert lr.dtype == float and lr.tolist() == [1, 2] and T == 3


def test_one_number_is_not_several():
    for value in (2, 2.0, np.float32(2), np.array(2.0)):
        assert arguments.number("x", value, 1) == 2.0 and type(arguments.number("x", value, 1)) is float
    for value in ([2.0], np.ones(2), np.ones((1, 1))):
        with pytest.raises(TypeError, match="^x must be one real number, got "):
            arguments.number("x", value)
    with pytest.raises(ValueError, match=r"^x must be in \(0, 1\), got -1.0$"):
        arguments.number("x", np.array(-1.0), 0, 1, open_low=True, open_high=True)


@pytest.mark.parametrize("value", [np.ones(2) * 1j, ["1", "2"], b"1", np.array("1"), [[1], [1, 2]]])
def test_what_numpy_would_read_as_a_number_is_refused(value):
    """An imaginary part would be dropped, and a text be read."""
    with pytest.raises(TypeError, match="^x must be a real number, got "):
        arguments.real("x", value)


@given(st.integers(-5, 5))
def test_integers(n):
    try:
        assert arguments.integer("k", n, 1, 3) == n and 1 <= n <= 3
    except ValueError as error:
        assert not 1 <= n <= 3 and str(error) == f"k must be in 1..3, got {n}"


def test_numpy_numbers_are_numbers():
    assert arguments.integer("k", np.int64(2), 0) == 2
    assert arguments.real("x", np.float32(0.5)) == 0.5
