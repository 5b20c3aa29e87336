"""What the labs' test cells are made of: ``expect`` teaches, ``hidden`` grades.

>>> expect([0.5, 0.5], [0.5, 0.5], "equal scores give equal probabilities")
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optcourse.labs.values import decode, difference, encode


class NotAsExpected(AssertionError):
    """A visible test failed; the message names the property, what was expected and what came."""


def expect(actual: Any, expected: Any, what: str, *, tol: float = 1e-6) -> None:
    """Fail unless ``actual`` is ``expected``, in a sentence that says which property is violated.

    ``what`` states the property ("each row sums to 1"). Numbers, lists, dicts, arrays and tensors are compared as
    :func:`optcourse.labs.values.difference` says, to ``tol`` of the largest expected number.
    Raises :class:`NotAsExpected`.
    """
    reason = difference(decode(encode(actual)), decode(encode(expected)), tol)
    if reason is not None:
        raise NotAsExpected(f"{what}\n  expected: {_short(expected)}\n  actual:   {_short(actual)}\n  ({reason})")


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 300 else f"{text[:300]} …"


@dataclass(frozen=True)
class Case:
    """One question to a student's code; ``data``, the values it gets, and ``expected`` are JSON."""

    expression: str
    setup: str
    data: dict[str, Any]
    expected: Any
    points: float
    tol: float


_recorded: list[Case] | None = None


@contextlib.contextmanager
def recording() -> Iterator[list[Case]]:
    """The questions that :func:`hidden` asks meanwhile; when a notebook simply runs they are not kept."""
    global _recorded
    _recorded = []
    try:
        yield _recorded
    finally:
        _recorded = None


def hidden(expression: str, *, points: float = 1, tol: float = 1e-6, setup: str = "", **data: Any) -> None:
    """A hidden test: the value of ``expression`` in the student's notebook must be what it is in ours.

    ``data`` are the names the expression may use besides the notebook's own: plain numbers, texts, lists, dicts,
    arrays, tensors. ``setup`` is code that runs before it, in the same names. Both travel into the sandbox; the
    expected value, computed here with the reference solution, does not.
    """
    space = {**sys._getframe(1).f_globals, **{name: decode(encode(value)) for name, value in data.items()}}
    exec(setup, space)
    expected = encode(eval(expression, space))
    reason = difference(decode(expected), decode(expected), tol)
    if reason is not None:
        raise ValueError(
            f"expression must give finite numbers, texts, lists or dicts of them; {expression!r}: {reason}"
        )
    if _recorded is not None:
        _recorded.append(Case(expression, setup, {k: encode(v) for k, v in data.items()}, expected, points, tol))
