"""Values cross the border as data: round trips, hostile JSON, and the comparison against NumPy's own."""

import json
import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optcourse.labs.cells import hidden, recording
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


class Matrix(np.ndarray):
    __array_priority__ = 99
    shape = property(lambda self: (1, 1))
    tobytes = __array__ = __sub__ = lambda self, *_, **__: 1 / 0


class Text(str):
    __str__ = __len__ = __eq__ = __iter__ = lambda self, *_: 1 / 0
    __hash__ = None


class Real(float):
    __float__ = __eq__ = __repr__ = __sub__ = lambda self, *_: 1 / 0
    __hash__ = None


class Whole(int):
    __int__ = __index__ = __eq__ = __repr__ = bit_length = lambda self, *_: 1 / 0
    __hash__ = None


class Row(list):
    __iter__ = __len__ = __getitem__ = lambda self, *_: 1 / 0


class Pair(tuple):
    __iter__ = __len__ = __getitem__ = lambda self, *_: 1 / 0


class Table(dict):
    items = keys = __iter__ = __len__ = __getitem__ = lambda self, *_: 1 / 0


class Tensor(torch.Tensor):
    detach = cpu = numpy = lambda self, *_: 1 / 0


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.arange(3.0).view(Matrix), np.arange(3.0)), (Text("abc"), "abc"), (Real(2.5), 2.5), (Whole(7), 7),
        (Row([1, 2]), [1, 2]), (Pair([1, 2]), [1, 2]), (Table(a=1), {"a": 1}), ([Real(1.0)], [1.0]),
        (torch.arange(3.0).as_subclass(Tensor), torch.arange(3.0)), (np.matrix("1 2; 3 4"), np.array([[1, 2], [3, 4]])),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_derived_class_travels_as_what_it_holds(value, plain):
    back = through(value)
    assert type(back) is type(plain)
    assert difference(back, plain, 0.0) is None


@pytest.mark.parametrize("shape", [(0, 2**30), (2**20, 0, 2**20), (2**33, 0)])
def test_an_empty_array_of_a_huge_shape_is_no_value(shape):
    """Its sum over the empty axis takes gigabytes."""
    assert isinstance(through(np.zeros(shape)), Other)
    assert isinstance(through(torch.zeros(shape)), Other)
    with pytest.raises(ValueError, match="empty array of a huge shape"):
        decode({KEY: "array", "dtype": "float64", "shape": list(shape), "data": ""})
    np.testing.assert_array_equal(through(np.zeros((0, 5))), np.zeros((0, 5)), strict=True)


def test_a_number_of_thousands_of_digits_is_no_value():
    assert isinstance(through(10**5000), Other)
    assert through(-(10**4000)) == -(10**4000)


def asked(expression, then="", setup="", space=None, **data):
    """The case that a lab's notebook with the names ``space`` asks."""
    with recording() as cases:
        exec("ask(expression, then=then, setup=setup, **data)", {"ask": hidden, **(space or {}), **locals()})
    return cases[0]


def f(x):
    return x


@pytest.mark.parametrize(
    ("then", "x", "right", "wrong"),
    [
        ("str(value.dtype)", np.ones(2, "float32"), np.zeros(9, "float32"), [np.ones(2), "float32", 1.0, [1.0]]),
        ("bool(39 < value < 161)", 100, 50, [200, 39, True, np.ones(2), "100", None]),
        ("value is None", None, None, [0, False, "None", []]),
        ("sorted(value)", [3, 1, 2], [2, 3, 1], [[3, 1], 3, [3, "a", 1], None]),
        ("[len(part) for part in value]", [[1, 2], [3]], [[0, 0], [5]], [[[1], [2]], 3, [2, 1]]),
        ("np.sort(np.concatenate(value))", [np.array([2, 1]), np.array([0])], [np.array([0]), np.array([1, 2])],
         [[np.array([0, 1, 2])] * 2, 5, [1, 2]]),
        ("list(value.shape) + [torch.is_tensor(value)]", torch.ones(2, 3), torch.zeros(2, 3),
         [torch.ones(3, 2), np.ones((2, 3)), [2, 3, True]]),
        ("value @ x", np.eye(3), np.eye(3), [np.ones((3, 3)), np.ones(2), "x"]),
    ],
)  # fmt: skip
def test_then_makes_a_verdict_of_the_value_outside(then, x, right, wrong):
    case = asked("f(x)", then, space={"f": f}, x=x)
    assert case.wrong(encode(x)) is None
    assert case.wrong(encode(right)) is None
    for value in wrong:
        assert isinstance(case.wrong(encode(value)), str), value


def test_what_then_cannot_digest_is_a_wrong_answer_with_a_reason():
    case = asked("f(x)", "value @ value.T", space={"f": f}, x=np.ones((3, 1)))
    assert "ValueError" in case.wrong(encode(np.ones((2, 3, 4))))
    assert "a text" in case.wrong(encode("text")) or "type str" in case.wrong(encode("text"))
    assert case.wrong({"$kind": "no"}) == "not data: not a value"
    assert "larger" in case.wrong(encode(np.ones((10**6, 1))))  # the product would have 8 TB
    assert "larger" in case.wrong(encode(np.ones((10**6, 1)).tolist()))
    assert "larger" in case.wrong(encode("x" * 10**6))


def test_then_cannot_be_reached_from_the_notebook():
    """The names of the notebook are not those of ``then``."""
    case = asked("f(x)", "sum(value)", space={"f": f}, x=[1, 2])
    assert case.wrong([2, 1]) is None
    with pytest.raises(NameError):
        asked("f(x)", "f(value)", space={"f": f}, x=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expression": "len", "then": "1"}, "no data"),
        ({"expression": "f", "then": "value is None"}, "no data"),
        ({"expression": "x", "x": np.nan}, "not finite"),
        ({"expression": "x", "x": 1, "then": "value / 0 if value == 0 else print"}, "print"),
        ({"expression": "value", "value": 1}, "take another name"),
        ({"expression": "round(2.5)", "space": {"round": f}}, "the lab defines round"),
    ],
)
def test_a_question_that_nobody_could_answer_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        asked(**{"space": {"f": f}, **arguments})
