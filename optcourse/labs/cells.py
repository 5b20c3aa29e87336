"""What the labs' test cells are made of: ``expect`` teaches, ``hidden`` grades.

>>> expect([0.5, 0.5], [0.5, 0.5], "equal scores give equal probabilities")
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from optcourse.labs.values import decode, describe, difference, encode, has_other, items


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
    """One question to a student's code; ``data``, the values it gets, and ``expected`` are JSON.

    The value that ``expression`` gives comes out of the student's process as it is; ``then`` makes of it what is
    compared, elsewhere, in names that no student reaches. ``most`` is the number of items it is ready to look at.
    """

    expression: str
    setup: str
    data: dict[str, Any]
    expected: Any
    points: float
    tol: float
    then: str = ""
    most: int = 0

    def wrong(self, answer: Any) -> str | None:
        """Why ``answer``, a value as JSON, whoever wrote it, is not the expected one, or ``None``."""
        try:
            value = decode(answer)
            if self.then and items(answer) > self.most:
                return "a much larger value than expected"
            if self.then:
                value = self._digested(value)
            return difference(value, decode(self.expected), self.tol)
        except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
            return f"not data: {error}"

    def _digested(self, value: Any) -> Any:
        try:
            return decode(encode(digest(self.then, value, self.data)))
        except Exception as error:  # of the wrong kind or shape: a wrong answer
            raise ValueError(f"{describe(value)}; {self.then!r} raised {type(error).__name__}: {error}"[:500]) from None


def digest(then: str, value: Any, data: dict[str, Any]) -> Any:
    """What the expression ``then`` makes of ``value``; it knows the ``data`` (JSON), ``np`` and ``torch`` besides."""
    space: dict[str, Any] = {"np": np, **{name: decode(item) for name, item in data.items()}, "value": value}
    if "torch" in then:  # late: most answers are plain numbers
        import torch

        space.setdefault("torch", torch)
    return eval(then, space)


def builtin_names(space: Iterable[str]) -> set[str]:
    """The names in ``space`` that are Python's own, ``sum`` or ``str``."""
    return {name for name in space if name in vars(builtins) and not name.startswith("_")}


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


def hidden(
    expression: str, *, points: float = 1, tol: float = 1e-6, setup: str = "", then: str = "", **data: Any
) -> None:
    """A hidden test: the value of ``expression`` in the student's notebook must be what it is in ours.

    ``data`` are the names the expression may use besides the notebook's own: plain numbers, texts, lists, dicts,
    arrays, tensors. ``setup`` is code that runs before it, in the same names. Both travel into the sandbox; the
    expected value, computed here with the reference solution, does not.

    ``expression`` gives values of the student's functions and nothing else: a verdict (``np.allclose(...)``) or a
    view of them (``str(x.dtype)``, ``len(x)``) made in the sandbox would be the student's to make. ``then``, an
    expression in ``value``, in the data, ``np`` and ``torch``, makes it outside, of the student's value and of ours,
    and the two results are compared: ``hidden("f(x)", x=x, then="str(value.dtype)")``. It may cost time by the size of
    ``value``, not by the numbers in it (no ``range(value)``).

    In the sandbox a name of Python's own (``sum``, ``str``) means Python's own, whatever the student made of it.

    Raises ``ValueError`` where our own solution gives no data or ``then`` cannot be compared.
    """
    if "value" in data:
        raise ValueError("data named 'value': that is what the expression gives; take another name")
    if hides := builtin_names(sys._getframe(1).f_globals).intersection(compile(expression, "", "eval").co_names):
        raise ValueError(f"{expression!r}: the lab defines {', '.join(sorted(hides))}, which is Python's own name")
    given = {name: encode(item) for name, item in data.items()}
    space = {**sys._getframe(1).f_globals, **{name: decode(item) for name, item in given.items()}}
    exec(setup, space)
    raw = encode(eval(expression, space))
    expected = encode(digest(then, decode(raw), given)) if then else raw
    reason = "no data" if has_other(raw) else difference(decode(expected), decode(expected), tol)
    if reason is not None:
        raise ValueError(
            f"expression must give finite numbers, texts, lists or dicts of them; {(then or expression)!r}: {reason}"
        )
    if _recorded is not None:
        _recorded.append(Case(expression, setup, given, expected, points, tol, then, 4 * items(raw) + 1000))
