"""Values cross the border as data: round trips, hostile JSON, and the comparison against NumPy's own."""

import json
import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optcourse.labs.values import DTYPES, KEY, MAX_BYTES, Other, decode, difference, encode

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
DATA = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=12,
)
ARRAYS = hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([KEY, "items", "dtype", "shape", "data", "type", "x"]), inner, max_size=6)
    ),
    max_leaves=15,
)
ARRAY_LIKE = st.fixed_dictionaries(
    {
        KEY: st.sampled_from(["array", "tensor"]),
        "dtype": st.sampled_from([*DTYPES, "object", "O", "U8", "float128", "void", 3, None, []]),
        "shape": st.lists(st.integers(-3, 2**41) | st.sampled_from([0, 1, 2**39, 2**63]), max_size=40) | JSON,
        "data": st.sampled_from(["", "AAAA", "AAAAAAAAAAA=", "!!", "é", "AAA"]) | JSON,
    },
    optional={"dtype_of_tensor": st.sampled_from(["bfloat16", "x", 1])},
)


def through(value):
    """There and back, as the border has it."""
    return decode(json.loads(json.dumps(encode(value))))


@given(DATA)
def test_plain_data_comes_back(value):
    assert through(value) == value


@given(ARRAYS)
def test_arrays_come_back(array):
    back = through(array)
    np.testing.assert_array_equal(back, array, strict=array.shape != ())
    assert back.dtype == array.dtype


@given(ARRAYS)
def test_tensors_come_back(array):
    tensor = torch.from_numpy(np.array(array))
    back = through(tensor.requires_grad_(tensor.is_floating_point()))
    assert back.dtype == tensor.dtype
    torch.testing.assert_close(back, tensor.detach(), rtol=0, atol=0, equal_nan=True)


def test_bfloat16_and_strides():
    tensor = torch.arange(12.0).reshape(3, 4).bfloat16().T
    assert torch.equal(through(tensor), tensor)
    assert through(tensor).dtype == torch.bfloat16
    np.testing.assert_array_equal(through(np.arange(12).reshape(3, 4).T[::2]), np.arange(12).reshape(3, 4).T[::2])


@pytest.mark.parametrize(
    "value",
    [
        len,
        np,
        object(),
        {1, 2},
        (k for k in "a"),
        np.array([object()]),
        np.array(["text"]),
        {(1, 2): 3},
        b"x",
        range(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_data_becomes_a_note_that_equals_nothing(value):
    back = through(value)
    assert isinstance(back, Other)
    for expected in (0.0, None, True, "text", [], {}, np.zeros(2), torch.zeros(2)):
        assert difference(back, expected, 1e6) is not None


def test_what_is_too_large_becomes_a_note():
    huge = np.broadcast_to(1.0, (2**28, 2**28))
    assert isinstance(through(huge), Other)
    assert isinstance(through(torch.ones(1).expand(2**26)), Other)
    assert isinstance(through("x" * (MAX_BYTES + 1)), Other)
    assert through(np.zeros(MAX_BYTES // 8)).nbytes == MAX_BYTES
    endless: list = []
    endless.append(endless)
    through(endless)


def test_nothing_of_the_object_is_called_on_the_way_back():
    class Trap(np.ndarray):
        def __reduce__(self):
            raise AssertionError

        __eq__ = __array_finalize__ = __getitem__ = lambda *_: True

    assert type(through(np.zeros(3).view(Trap))) is np.ndarray


@settings(max_examples=300)
@given(JSON | ARRAY_LIKE | st.lists(ARRAY_LIKE, max_size=2))
@example({KEY: "array", "dtype": "bool", "shape": [2**40] * 16, "data": ""})
@example({KEY: "array", "dtype": "float64", "shape": [0, 2**39, 2**39, 2**39], "data": ""})
@example({KEY: "tensor", "dtype": "complex64", "shape": [], "data": "AAAAAAAAAAA=", "dtype_of_tensor": "bfloat16"})
@example({KEY: "dict", "items": [[True, 1], [1, 2]]})
@example(math.inf)
def test_hostile_json_raises_nothing_but_value_errors(data):
    try:
        value = decode(data)
    except ValueError:
        return
    for expected in (1.0, True, None, "x", [1, 2], {"x": 1}, np.ones(3), torch.ones(3), 1j, np.array([1, np.inf])):
        assert difference(value, expected, 1e-6) is None or isinstance(difference(value, expected, 1e-6), str)


def test_deep_json_raises_a_value_error():
    data: list = []
    for _ in range(100):
        data = [data]
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(data)


FINITE = st.floats(-1e6, 1e6)


@given(hnp.arrays(float, 5, elements=FINITE), hnp.arrays(float, 5, elements=FINITE), st.floats(0, 2))
def test_the_tolerance_is_relative_to_the_largest_expected_number(actual, expected, tol):
    scale = np.abs(expected).max() or 1.0
    error = np.abs(actual - expected).max()
    if abs(error - tol * scale) < 1e-9 * scale:
        return  # a matter of rounding
    try:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tol * scale)
        same = True
    except AssertionError:
        same = False
    assert (difference(actual, expected, tol) is None) == same
    assert (difference(list(actual), list(expected), tol) is None) <= same  # element by element is stricter
    assert (difference(torch.from_numpy(actual), torch.from_numpy(expected), tol) is None) == same


@given(ARRAYS, ARRAYS)
def test_equal_without_tolerance_as_numpy_says(actual, expected):
    actual, expected = through(actual), through(expected)
    same = np.shape(actual) == np.shape(expected) and np.array_equal(actual, expected)
    if np.isnan(np.asarray(expected)).any() or isinstance(actual, np.bool_) != isinstance(expected, np.bool_):
        same = False
    if (
        np.asarray(expected).dtype.kind in "iu"
        and np.asarray(expected).size
        and np.abs(expected.astype(float)).max() > 2**53
    ):
        return  # numbers are compared as doubles
    assert (difference(actual, expected, 0.0) is None) == same


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (1, 1.0), (np.float32(2), 2), (torch.tensor(3.0), 3), (3.0, torch.tensor(3)), ((1, 2), [1, 2]),
        ([1, 2], (1, 2)), (np.True_, True), (torch.tensor(True), True), (True, torch.tensor(True)),
        (np.ones(0), np.ones(0)), (np.inf, np.inf),
        (np.array([1, -np.inf]), np.array([1.0, -np.inf])), ({"a": 1}, {"a": 1.0}), (None, None), ("x", "x"),
        (np.arange(3), np.arange(3.0)), (torch.arange(3), torch.arange(3.0)), (1 + 0j, 1.0), (np.array(2.0), 2),
    ],
)  # fmt: skip
def test_equal(actual, expected):
    assert difference(through(actual), through(expected), 1e-9) is None


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (np.nan, 1.0), (np.nan, np.inf), (np.nan, np.nan), (np.array([1, np.nan]), np.array([1.0, 2])),
        (np.inf, -np.inf),
        (np.inf, 1.0), (1.0, np.inf), (True, 1), (1, True), (False, 0.0), (np.True_, 1), ("1", 1), (None, 0), (0, None),
        ([1], 1), (1, [1]), (np.ones(2), [1, 1]), (np.ones((2, 1)), np.ones(2)), (np.ones(1), 1.0), (1.0, np.ones(1)),
        (np.ones(2), torch.ones(2)), (torch.ones(2), np.ones(2)), ({"a": 1}, {"b": 1}), ({}, {"a": 1}), ([1, 2], [1]),
        (10**400, 1), (1, 1j), ("x", "y"), (True, False), (torch.tensor(False), True), (2**70, 1.0),
    ],
)  # fmt: skip
def test_different(actual, expected):
    assert isinstance(difference(actual, expected, 1e-9), str)
