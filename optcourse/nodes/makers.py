"""Functions that make functions (rules, attacks, compressors, laws), and the one that was handed over uncalled."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def maker(function: Function) -> Function:
    """Mark ``function`` as one whose *result* is what others want: ``mimic()``, not ``mimic``."""
    vars(function)["makes"] = True
    return function


def refuse_maker(name: str, value: Any) -> None:
    """Raise ``TypeError`` if the argument ``name`` is a maker that was not called, or a ``partial`` of one.

    >>> refuse_maker("attack", maker(lambda scale=1.0: None))
    Traceback (most recent call last):
    TypeError: attack must be what <lambda>(...) makes: call it, attack=<lambda>(...), got the function itself
    """
    inner = value
    while isinstance(inner, partial):
        inner = inner.func
    if getattr(inner, "makes", False):
        call = f"{inner.__name__}(...)"
        raise TypeError(f"{name} must be what {call} makes: call it, {name}={call}, got the function itself")


def as_called(name: str, value: Function, example: str, *arguments: Any, **options: Any) -> Function:
    """``value`` when it is a function that can be called like ``example``, with these ``arguments`` and ``options``.

    Raises ``TypeError`` for what is no function, for one that takes other arguments, and as :func:`refuse_maker`.

    >>> as_called("law", abs, "law(call)", 0) is abs
    True
    """
    if not callable(value):
        raise TypeError(f"{name} must be a function, called like {example}, got {value!r}")
    refuse_maker(name, value)
    try:
        inspect.signature(value).bind(*arguments, **options)
    except TypeError as error:
        raise TypeError(f"{name} must be called like {example}, got {value!r}: {error}") from None
    except ValueError:  # some functions written in C do not say what they take
        pass
    return value
