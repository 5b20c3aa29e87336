"""What a calculator of bounds returns, and the lemma that tunes step sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import nonnegative, positive

Number = float | np.ndarray
Guarantee = TypeVar("Guarantee", bound=Callable)


@dataclass(frozen=True)
class Bound:
    """The value of a guarantee, with its summands.

    ``value`` is the sum of ``terms`` unless a docstring says otherwise; ``stepsize`` the
    learning rate for which it holds; ``valid`` tells where its conditions hold, and ``why``
    names the condition that fails elsewhere. A single number with a failed condition is never
    returned (that is a ``ValueError``); in a sweep the failed points are NaN.
    """

    value: Number
    terms: Mapping[str, Number] = field(default_factory=dict)
    stepsize: Number | None = None
    valid: bool | np.ndarray = True
    why: str = ""

    def __float__(self) -> float:
        """The value, where it is a single number."""
        return float(self.value)

    @classmethod
    def where(
        cls, condition: ArrayLike, why: str, terms: Mapping[str, ArrayLike], stepsize: ArrayLike | None = None
    ) -> Bound:
        """The sum of ``terms`` where ``condition`` holds; ``why`` is the condition in words.

        The terms get one shape, that of the sum, so that a stacked plot can take them as they are. Raises
        ``TypeError`` for a condition that is not boolean: as truth values nan and "no" would count as true.
        """
        holds = np.asarray(condition)
        if holds.dtype != bool:
            raise TypeError(f"condition must be boolean, got {condition!r}")
        if holds.ndim == 0 and not holds:
            raise ValueError(f"the bound needs {why}")
        shape = np.broadcast_shapes(holds.shape, *map(np.shape, terms.values()))
        kept = {name: scalar(np.where(holds, np.broadcast_to(term, shape), np.nan)) for name, term in terms.items()}
        total = sum(kept.values())
        return cls(
            value=total,
            terms=kept,
            stepsize=None if stepsize is None else scalar(stepsize),
            valid=bool(holds) if holds.ndim == 0 else holds,
            why="" if holds.all() else f"NaN where it fails: {why}",
        )


def in_units(of_value: str, *, step: str = "length^2/loss") -> Callable[[Guarantee], Guarantee]:
    """Declares the units of a guarantee: of its value and of each of its terms, and of its ``stepsize``.

    Written in powers of loss and length, as in ``"loss^2/length^2"``; ``"1"`` has none. Who measures losses in other
    units, or lengths, must get the same guarantee in those: ``tests/theory/test_scaling.py``. The calculator keeps them
    as its attribute ``units``.

    >>> @in_units("loss")
    ... def gap(*, L: float, R: float) -> Bound:
    ...     return Bound(L * R**2 / 2)
    >>> gap.units
    ('loss', 'length^2/loss')
    """

    def declare(guarantee: Guarantee) -> Guarantee:
        guarantee.units = (of_value, step)  # type: ignore[attr-defined]
        return guarantee

    return declare


def scalar(x: ArrayLike) -> Number:
    """A float where ``x`` is a single number, else a float array."""
    array = np.asarray(x, dtype=float)
    return float(array) if array.ndim == 0 else array


def power(*, lost: ArrayLike, steps: ArrayLike, kept: ArrayLike | None = None) -> np.ndarray:
    r"""(1 - ``lost``)^steps, lost in [0, 1]; ``kept`` is 1 - lost where the caller has it without cancellation.

    Near 1 what is kept is rounded, and the error grows with the number of steps: a share of 1e-12, lost in each of 1e12
    steps, would be wrong in the fourth digit. ``lost`` is as exact as the caller has it: near the end of a range, where
    it is a difference itself, its own rounding stays.

    >>> round(float(power(lost=1e-12, steps=1e12)), 9), round(float(np.exp(-1)), 9)
    (0.367879441, 0.367879441)
    """
    lost, steps = (np.asarray(x, dtype=float) for x in (lost, steps))
    kept = 1 - lost if kept is None else np.asarray(kept, dtype=float)
    with np.errstate(all="ignore"):
        return np.where(lost < 0.5, np.exp(steps * np.log1p(-lost)), kept**steps)


@in_units("loss^2/length^2")
def tune_step(*, r0: ArrayLike, b: ArrayLike, e: ArrayLike, d: ArrayLike, steps: ArrayLike) -> Bound:
    r"""Choose the step size in :math:`r_0/(\gamma T) + b\gamma + e\gamma^2`, for :math:`\gamma \le 1/d`.

    Statement: :math:`\gamma = \min\{\sqrt{r_0/(bT)}, (r_0/(eT))^{1/3}, 1/d\}` makes the sum at most
    :math:`2\sqrt{b r_0/T} + 2e^{1/3}(r_0/T)^{2/3} + d r_0/T`. Proof: 1/gamma is at most the sum
    of the three candidates' inverses, and each of the other two terms is at most its value at
    its own candidate. Tight: equality at the best gamma where b = e = 0, and where b alone counts; 1.06 where e
    alone does. Slack: 2.2, where all three count alike (by search over b and e), 1.1 where b nearly
    alone does.

    Source: Koloskova, Loizou, Boreiri, Jaggi & Stich 2020, "A unified theory of decentralized
    SGD with changing topology and local updates", the tuning lemma of the appendix.

    Parameters: ``r0`` > 0 (loss), ``b, e`` >= 0, ``d`` > 0 (1/step size), ``steps`` > 0.
    Raises ``ValueError`` outside these ranges.

    >>> tune_step(r0=1.0, b=0.0, e=0.0, d=4.0, steps=100).value
    0.04
    """
    r0, d, T = positive(r0=r0, d=d, steps=steps)
    b, e = nonnegative(b=b, e=e)
    with np.errstate(divide="ignore", over="ignore"):
        lr = np.minimum(np.minimum(np.sqrt(r0 / (b * T)), np.cbrt(r0 / (e * T))), 1 / d)
    terms = {
        "noise": 2 * np.sqrt(b * r0 / T),
        "drift": 2 * np.cbrt(e) * (r0 / T) ** (2 / 3),
        "deterministic": d * r0 / T,
    }
    return Bound.where(True, "", terms, lr)


def transient(*, r0: ArrayLike, b: ArrayLike, e: ArrayLike) -> Number:
    r"""Steps after which the noise term of :func:`tune_step` exceeds its drift term.

    Statement: :math:`r_0 e^2/b^3`.

    ``r0``, ``b`` > 0, ``e`` >= 0. Raises ``ValueError`` otherwise.

    >>> transient(r0=1.0, b=0.5, e=2.0)
    32.0
    """
    (r0, b), (e,) = positive(r0=r0, b=b), nonnegative(e=e)
    return scalar(r0 * e**2 / b**3)
