"""Values as data: what crosses the border between a student's process and the grader's.

Plain numbers, texts, lists, dicts, NumPy arrays and torch tensors become JSON and come back. Nothing else
does, and nothing is ever unpickled: whatever a hostile process sends, reading it runs none of its code.
"""

from __future__ import annotations

import base64
import math
import sys
from typing import Any

import numpy as np

#: Arrays and tensors may hold these numbers.
DTYPES = ("bool", "uint8", *(f"int{bits}" for bits in (8, 16, 32, 64)), *(f"float{bits}" for bits in (16, 32, 64)))
DTYPES += ("complex64", "complex128")
#: The largest array that is read back, in bytes.
MAX_BYTES = 32 * 2**20
#: The longest whole number, in bits: JSON has them as decimals, and Python refuses more than 4,300 digits of a text.
MAX_BITS = 14_000
#: Nesting of lists and dicts.
MAX_DEPTH = 16
KEY = "$kind"


def encode(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON; what is no data becomes a note of its type.

    Only what a number, text, list, dict or array holds is read: nothing that a class derived from it defines is called.
    """
    if depth > MAX_DEPTH:
        return _other("nested too deeply")
    if value is None or type(value) is bool:
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        return _encode_array(np.asarray(value), "array")
    if isinstance(value, str):
        return str.__str__(value) if str.__len__(value) <= MAX_BYTES else _other("a text of many MB")
    if isinstance(value, int):
        return int.__int__(value) if int.bit_length(value) <= MAX_BITS else _other("a number of thousands of digits")
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, complex):
        return _encode_array(np.asarray(complex.__complex__(value)), "array")
    if isinstance(value, (list, tuple)):
        plain: Any = list.__iter__ if isinstance(value, list) else tuple.__iter__
        return [encode(item, depth + 1) for item in plain(value)]
    if isinstance(value, dict):
        pairs = list(dict.items(value))
        if all(type(key) in (str, int) for key, _ in pairs):
            return {KEY: "dict", "items": [[key, encode(item, depth + 1)] for key, item in pairs]}
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _encode_tensor(torch.Tensor.as_subclass(value, torch.Tensor))
    return _other(type(value).__name__)


def _other(what: str) -> dict[str, str]:
    return {KEY: "other", "type": str(what)[:80]}


def _encode_array(value: np.ndarray, kind: str) -> Any:
    room = math.prod(max(1, n) for n in value.shape) * value.dtype.itemsize
    if value.dtype.name not in DTYPES or room > MAX_BYTES:
        return _other(f"array of {value.nbytes / 2**20:.0f} MB of {value.dtype}")
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
    return {KEY: kind, "dtype": value.dtype.name, "shape": list(value.shape), "data": data}


def _encode_tensor(value: Any) -> Any:
    if math.prod(max(1, n) for n in value.shape) * value.element_size() > MAX_BYTES:
        return _other("a tensor of many MB")  # before a copy of it is made
    value = value.detach().cpu()
    name = str(value.dtype).removeprefix("torch.")
    if name == "bfloat16":  # NumPy has none; every bfloat16 is a float32
        return {**_encode_array(value.float().numpy(), "tensor"), "dtype_of_tensor": name}
    return _encode_array(value.resolve_conj().resolve_neg().numpy(), "tensor")


def decode(data: Any, depth: int = 0) -> Any:
    """The value that :func:`encode` wrote; raises ``ValueError`` for anything it cannot have written."""
    if depth > MAX_DEPTH + 1:
        raise ValueError("nested too deeply")
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    if isinstance(data, list):
        return [decode(item, depth + 1) for item in data]
    kind = data.get(KEY) if isinstance(data, dict) else None
    if kind == "dict":
        return {key: decode(item, depth + 1) for key, item in _pairs(data.get("items"))}
    if kind == "other":
        return Other(str(data.get("type"))[:80])
    if kind in ("array", "tensor"):
        return _decode_array(data, kind)
    raise ValueError("not a value")


def _pairs(items: Any) -> list[tuple[str | int, Any]]:
    if not isinstance(items, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in items):
        raise ValueError("not a dict")
    if not all(isinstance(key, (str, int)) for key, _ in items):
        raise ValueError("not a dict")
    return [(key, item) for key, item in items]


def _decode_array(data: dict, kind: str) -> Any:
    dtype, shape, raw = data.get("dtype"), data.get("shape"), data.get("data")
    if dtype not in DTYPES or not isinstance(raw, str) or len(raw) > 1.4 * MAX_BYTES:
        raise ValueError("not an array")
    if not isinstance(shape, list) or len(shape) > 16 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise ValueError("not a shape")
    if math.prod(max(1, n) for n in shape) * np.dtype(dtype).itemsize > MAX_BYTES:
        raise ValueError("an empty array of a huge shape")  # its sums would not be empty
    raw = base64.b64decode(raw, validate=True)
    if math.prod(shape) * np.dtype(dtype).itemsize != len(raw):
        raise ValueError("shape and data differ")
    array = np.frombuffer(raw, dtype=dtype).reshape(shape).copy()
    if kind == "array":
        return array if shape else array[()]
    import torch  # late: most answers are plain numbers

    tensor = torch.from_numpy(array)
    return tensor.bfloat16() if dtype == "float32" and data.get("dtype_of_tensor") == "bfloat16" else tensor


def items(data: Any) -> int:
    """How much a value as JSON is: numbers of its arrays (an empty dimension counts as one), characters, entries."""
    if isinstance(data, str):
        return len(data)
    if isinstance(data, list):
        return 1 + sum(map(items, data))
    if isinstance(data, dict):
        shape = data.get("shape")
        if data.get(KEY) in ("array", "tensor") and isinstance(shape, list):
            return math.prod(max(1, n) for n in shape if type(n) is int)
        return 1 + sum(map(items, data.values()))
    return 1


def has_other(data: Any) -> bool:
    """Whether something in a value as JSON was no data."""
    if isinstance(data, list):
        return any(map(has_other, data))
    return isinstance(data, dict) and (data.get(KEY) == "other" or any(map(has_other, data.values())))


class Other:
    """Stands for a value that is no data: a function, a module, an object of a student's own class."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name

    def __repr__(self) -> str:
        """What messages say of it."""
        return f"a value of type {self.type_name}"


def difference(actual: Any, expected: Any, tol: float) -> str | None:
    """Why ``actual`` is not ``expected``, or ``None``.

    Numbers agree when ``max |actual - expected| <= tol * max |expected|`` (``tol`` itself where all expected
    numbers are zero); infinities where they are expected, NaN never. Shapes must be equal. A Python number,
    a NumPy scalar and a 0-dim tensor are one kind of thing, as are lists and tuples; a tensor is no array.
    """
    actual, expected = _scalar(actual), _scalar(expected)
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or actual.keys() != expected.keys():
            return f"expected a dict with keys {sorted(map(str, expected))}"
        return next((f"[{k!r}]: {d}" for k in expected if (d := difference(actual[k], expected[k], tol))), None)
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return f"expected {len(expected)} values in a row, got {describe(actual)}"
        pairs = enumerate(zip(actual, expected, strict=True))
        return next((f"[{i}]: {d}" for i, (a, e) in pairs if (d := difference(a, e, tol))), None)
    if expected is None or isinstance(expected, (bool, str)):
        return None if type(actual) is type(expected) and actual == expected else f"{describe(actual)}, not equal"
    return _numbers(actual, expected, tol)


def _scalar(value: Any) -> Any:
    """A 0-dim array or tensor as the Python number it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and value.shape != ()


def describe(value: Any) -> str:
    """A few words on what ``value`` is, for messages."""
    if _is_array(value):
        return f"{'a tensor' if hasattr(value, 'detach') else 'an array'} of shape {tuple(value.shape)}"
    return repr(value)[:60] if isinstance(value, Other) else f"a value of type {type(value).__name__}"


def _numbers(actual: Any, expected: Any, tol: float) -> str | None:
    if isinstance(actual, (bool, str, list, dict, Other)) or actual is None:
        return f"expected numbers, got {describe(actual)}"
    if _is_array(expected) and hasattr(actual, "detach") != hasattr(expected, "detach"):
        return f"expected {describe(expected)}, got {describe(actual)}"
    a, e = (np.asarray(v.double() if hasattr(v, "detach") and v.is_floating_point() else v) for v in (actual, expected))
    if a.shape != e.shape:
        return f"shape {a.shape} instead of {e.shape}"
    if e.dtype.kind not in "iufcb" or a.dtype.kind not in "iufcb":
        return "not numbers"
    kind = complex if "c" in (a.dtype.kind, e.dtype.kind) else float
    a, e = a.astype(kind), e.astype(kind)
    finite = np.isfinite(e)
    if not np.array_equal(a[~finite], e[~finite]) or not np.isfinite(a[finite]).all():
        return "not finite where it should be"
    if not finite.any():
        return None
    scale = np.abs(e[finite]).max() or 1.0
    with np.errstate(over="ignore"):  # infinitely far off is far off
        error = np.abs(a[finite] - e[finite]).max() / scale
    return None if error <= tol else f"off by {error:.2g} of the expected size"
