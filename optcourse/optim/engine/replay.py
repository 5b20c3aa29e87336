"""Eager rules without allocations: read the equation once, then replay it with ``out=``.

A rule such as ``m = average(m, g, beta); ...`` makes a new vector per operation, and fresh memory (page
faults) can cost more than the arithmetic. Here the rule is called with symbols that only write down what
is done to them. The operations then run piece by piece: what lies between is kept in a few buffers in the
cache, and results go straight into the old vectors. Operations and their order are those of the rule, so
the numbers are the same to the last bit.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

#: Elements per piece. Measured: a smaller piece that fits a core's own cache gains less than its many more
#: calls (and waits of the threads for each other) cost; a larger one falls out of the shared cache.
PIECE = 524_288
#: The element-wise operations that can write into given memory.
OPERATIONS = ("add", "sub", "mul", "div", "pow", "neg", "lerp", "maximum", "minimum", "reciprocal", "abs", "sign")
OPERATIONS += ("square", "sqrt", "rsqrt", "exp", "log", "addcmul", "addcdiv")


def _record(name: str, *operands: Any, **keywords: Any) -> Vector:
    """Write one operation down; ``TypeError`` for what cannot be replayed."""
    for o in (*operands, *keywords.values()):
        if not isinstance(o, (Vector, int, float)) and not (isinstance(o, Tensor) and o.dim() == 0):
            raise TypeError(f"{type(o)} in a rule")
    if name not in OPERATIONS or keywords.keys() - {"alpha", "value"}:
        raise TypeError(f"{name} in a rule")
    tape = next(o.tape for o in operands if isinstance(o, Vector))
    tape.append((getattr(torch, name), operands, keywords))
    return Vector(tape, len(tape) - 1)


def _operation(name: str) -> Callable[..., Vector]:
    return lambda *operands, **keywords: _record(name, *operands, **keywords)


class Vector:
    """Stands for a vector while a rule is read. What it does not know raises, and the rule runs as it is."""

    def __init__(self, tape: list, index: int) -> None:
        self.tape, self.index = tape, index

    @classmethod
    def __torch_function__(cls, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Vector:
        """Functions of torch."""
        return _record(function.__name__.strip("_"), *args, **(kwargs or {}))

    __add__ = __radd__ = _operation("add")
    __mul__ = __rmul__ = _operation("mul")
    __sub__, __truediv__, __pow__, __neg__ = map(_operation, ("sub", "div", "pow", "neg"))
    __eq__ = __bool__ = None  # type: ignore[assignment]  # a branch would not be the same for every element

    def __rtruediv__(self, other: Any) -> Vector:
        """As in torch."""
        return _record("mul", _record("reciprocal", self), other)


for _name in OPERATIONS:
    setattr(Vector, _name, _operation(_name))


class Program:
    """The operations of one rule, with a place for every value.

    Values are numbered: the inputs (``None`` on the tape), then the result of every operation. Places are
    positions in one list: inputs, outputs, buffers, constants. ``results[k]`` is the value that output ``k``
    gets, ``overwritten[k]`` are the inputs in its memory.
    """

    def __init__(self, tape: list, results: list[int], overwritten: tuple[tuple[int, ...], ...]) -> None:
        inputs, end = tape.count(None), len(tape)
        reads = [{o.index for o in step[1] if isinstance(o, Vector)} if step else set() for step in tape]
        last = {value: reader for reader, values in enumerate(reads) for value in values}
        last |= {r: end for r, old in zip(results, overwritten, strict=True) if r not in old}
        place = {value: value for value in range(inputs)}
        # A result goes straight into its output unless somebody reads the old value there later.
        direct: dict[int, int] = {}
        copies = []
        for k, (r, old) in enumerate(zip(results, overwritten, strict=True)):
            if r >= inputs and r not in direct and all(last.get(i, 0) <= r for i in old):
                direct[r] = inputs + k
            elif r not in old:
                copies.append((inputs + k, r))
        # Between the last reading of its old value and the new one, an output can hold other values.
        until = {p: r for r, p in direct.items()}
        since = {p: max((last.get(i, 0) for i in overwritten[p - inputs]), default=0) for p in until}
        free = [p for p in since if since[p] < inputs]
        first = buffers = inputs + len(results)
        for value in range(inputs, end):
            free += [p for p in since if since[p] == value]
            free += [place[i] for i in reads[value] if i >= inputs and i not in direct and last[i] == value]
            fitting = [p for p in free if until.get(p, end) >= last.get(value, value)]
            if value in direct:
                place[value] = direct[value]
            elif fitting:
                place[value] = fitting[-1]  # the one used last: it is in the cache
                free.remove(fitting[-1])
            else:
                place[value] = buffers
                buffers += 1
        self.buffers = buffers - first
        self.constants = [o for step in tape[inputs:] for o in step[1] if not isinstance(o, Vector)]
        constants = iter(range(buffers, buffers + len(self.constants)))
        self.steps = []
        for value, (function, operands, keywords) in enumerate(tape[inputs:], inputs):
            where = [place[o.index] if isinstance(o, Vector) else next(constants) for o in operands]
            self.steps.append((function, where, keywords, place[value]))
        self.copies = [(output, place[r]) for output, r in copies]

    def run(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        """Piece by piece over the whole length."""
        buffers = _buffers(self.buffers, min(PIECE, len(outputs[0])), outputs[0].dtype)
        for pieces in zip(*(t.split(PIECE) for t in (*inputs, *outputs)), strict=True):
            memory = [*pieces, *(b[: len(pieces[0])] for b in buffers), *self.constants]
            for function, where, keywords, output in self.steps:
                function(*[memory[i] for i in where], out=memory[output], **keywords)
            for output, value in self.copies:
                memory[output].copy_(memory[value])


def replay(rule: Callable, scalars: dict, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> bool:
    """``outputs <- rule(*inputs, **scalars)``; False, and nothing done, where the rule must run as it is.

    Every output is one of the inputs or overlaps none of them. 0-dim inputs are numbers like others.
    """
    vectors, x = [t for t in inputs if t.dim()], outputs[0]
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    if any(t.dtype != x.dtype or t.requires_grad for t in (*outputs, *vectors)):
        return False
    overwritten = tuple(tuple(i for i, t in enumerate(vectors) if t.data_ptr() == o.data_ptr()) for o in outputs)
    try:
        numbers = tuple(None if t.dim() else t for t in inputs)
        program = _program(rule, tuple(scalars.items()), numbers, overwritten)
    except (TypeError, AttributeError):
        return False
    program.run(outputs, vectors)
    return True


@functools.lru_cache(maxsize=32)
def _program(rule: Callable, scalars: tuple, numbers: tuple, overwritten: tuple[tuple[int, ...], ...]) -> Program:
    """Read a rule, once for all blocks of a step; ``numbers`` are the 0-dim inputs, ``None`` where a vector is."""
    tape: list = [None for number in numbers if number is None]
    symbols = iter([Vector(tape, i) for i in range(len(tape))])
    values = rule(*(next(symbols) if number is None else number for number in numbers), **dict(scalars))
    return Program(tape, [value.index for value in values], overwritten)


_memory = threading.local()  # two optimizers may step at once


def _buffers(count: int, length: int, dtype: torch.dtype) -> list[Tensor]:
    """The same memory at every step: what a buffer holds does not last."""
    kept: Any = _memory.__dict__
    if len(kept.get(dtype, ())) < count * length:
        kept[dtype] = torch.empty(count * length, dtype=dtype)
    return list(kept[dtype][: count * length].split(length)) if count else []
