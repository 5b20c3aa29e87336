r"""Where biased compressors fail without error feedback: five small problems that run in exact arithmetic.

A :class:`Failure` is iterated as x - lr C(g), or with error feedback as p = e + lr g, x - C(p), e = p - C(p). Started
and stepped in ``fractions.Fraction`` there is no rounding, so an invariant is an equality; in floats the same code
is fast. sgn(0) = 1 throughout. With sgn(0) = 0 the second example leaves its line where x1 = x2; with sgn(0) = 1 and
the plain sign the third one leaves it where a gradient is exactly zero (the scaled sign of zero is zero).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from optcourse.arguments import choice, positive

Vector = tuple[Any, ...]


def sign(v: Vector) -> Vector:
    """sgn(v) with sgn(0) = 1, entry by entry.

    >>> sign((3, 0, -2))
    (1, 1, -1)
    """
    return tuple(1 if a >= 0 else -1 for a in v)


def scaled_sign(v: Vector) -> Vector:
    """||v||_1/d sgn(v), exact for fractions.

    >>> scaled_sign((3, 0, -3))
    (Fraction(2, 1), Fraction(2, 1), Fraction(-2, 1))
    """
    scale = sum(abs(a) for a in v) * Fraction(1, len(v))
    return tuple(scale * s for s in sign(v))


def top_one(v: Vector) -> Vector:
    """The entry of largest magnitude, the first of equals, and zeros.

    >>> top_one((1, -3, 3))
    (0, -3, 0)
    """
    largest = max(range(len(v)), key=lambda i: abs(v[i]))
    return tuple(a if i == largest else 0 for i, a in enumerate(v))


@dataclass(frozen=True)
class Failure:
    """A problem on which compressed SGD fails without error feedback.

    ``value`` is f, smallest at ``minimizer``. ``gradients(x)`` has one row per node if ``nodes`` (each step averages
    their messages), else one row per equally likely outcome (each step draws one). ``claim`` is what goes wrong.
    Error feedback repairs all but ``sign_drift``, whose unscaled sign is no contraction (in one dimension the scaled
    one sends everything).
    """

    claim: str
    source: str
    start: Vector
    minimizer: Vector
    value: Callable[[Vector], Any]
    gradients: Callable[[Vector], tuple[Vector, ...]]
    compress: Callable[[Vector], Vector]
    nodes: bool = False

    def run(self, *, lr: Any, draws: Iterable[int], feedback: bool = False) -> list[Vector]:
        """All iterates, x_0 first: one step for each entry of ``draws``, the row to use (modulo their number).

        With ``nodes`` only the length of ``draws`` counts. Exact if ``lr`` is a ``Fraction``. Raises ``ValueError``
        unless lr > 0.

        >>> example = failure("top_one_nodes")
        >>> example.run(lr=Fraction(6, 11), draws=range(3))[-1]
        (Fraction(8, 1), Fraction(8, 1), Fraction(8, 1))
        """
        positive(lr=lr)
        x = self.start
        senders = len(self.gradients(x)) if self.nodes else 1
        errors = [tuple(0 * a for a in x)] * senders
        iterates = [x]
        for draw in draws:
            rows = self.gradients(x)
            used = rows if self.nodes else (rows[draw % len(rows)],)
            messages = []
            for i, g in enumerate(used):
                p = tuple(e + lr * a for e, a in zip(errors[i], g, strict=True))
                if feedback:
                    messages.append(self.compress(p))
                    errors[i] = tuple(a - b for a, b in zip(p, messages[i], strict=True))
                else:
                    messages.append(tuple(lr * a for a in self.compress(g)))
            mean = (sum(entries) * Fraction(1, senders) for entries in zip(*messages, strict=True))
            x = tuple(a - b for a, b in zip(x, mean, strict=True))
            iterates.append(x)
        return iterates


def growth_factor(*, lr: Any) -> Any:
    r"""Factor by which every step of ``failure("top_one_nodes")`` multiplies x: :math:`1+\frac{11}6\gamma`.

    Without compression it is 1 - 7 lr/6. Proof: at x = t (1, 1, 1) node i sends -11t/2 in its own coordinate. An
    identity, exact for fractions; it grows for every lr > 0. Raises ``ValueError`` unless lr > 0.

    >>> growth_factor(lr=Fraction(6, 11))
    Fraction(2, 1)
    """
    positive(lr=lr)
    return 1 + Fraction(11, 6) * lr


def failure(name: str) -> Failure:
    """One of ``FAILURES``: ``sign_drift, sign_nonsmooth, sign_stochastic, top_one_nodes, top_one_noise``.

    Raises ``ValueError`` for another name.

    >>> failure("sign_nonsmooth").claim
    'x1 + x2 never changes'
    """
    return FAILURES[choice("name", name, FAILURES)]


EPSILON = Fraction(1, 2)
#: a_1 and a_2 = +-(1, -1) + epsilon (1, 1).
_STOCHASTIC = ((1 + EPSILON, -1 + EPSILON), (-1 + EPSILON, 1 + EPSILON))
_NODES = ((-3, 2, 2), (2, -3, 2), (2, 2, -3))
_KARIMIREDDY = "Karimireddy, Rebjock, Stich & Jaggi 2019, 'Error Feedback Fixes SignSGD', counterexample"


def _dot(a: Vector, x: Vector) -> Any:
    return sum(p * q for p, q in zip(a, x, strict=True))


def _nonsmooth_subgradient(x: Vector) -> tuple[Vector]:
    (along, across) = sign((x[0] + x[1], x[0] - x[1]))
    return ((EPSILON * along + across, EPSILON * along - across),)


def _node_gradient(a: Vector, x: Vector) -> Vector:
    return tuple(2 * _dot(a, x) * c + q * Fraction(1, 2) for c, q in zip(a, x, strict=True))


FAILURES = {
    "sign_drift": Failure(
        claim="E sgn(g) = -1/2 while f' = 1/4: the mean step climbs (meant for x in [-1, 1])",
        source=f"{_KARIMIREDDY} 1",
        start=(Fraction(0),),
        minimizer=(Fraction(-1),),
        value=lambda x: x[0] * Fraction(1, 4),
        gradients=lambda x: ((4,), (-1,), (-1,), (-1,)),
        compress=sign,
    ),
    "sign_nonsmooth": Failure(  # epsilon |x1 + x2| + |x1 - x2|
        claim="x1 + x2 never changes",
        source=f"{_KARIMIREDDY} 2",
        start=(Fraction(2), Fraction(0)),
        minimizer=(Fraction(0), Fraction(0)),
        value=lambda x: EPSILON * abs(x[0] + x[1]) + abs(x[0] - x[1]),
        gradients=_nonsmooth_subgradient,
        compress=scaled_sign,
    ),
    "sign_stochastic": Failure(  # the mean of <a_1, x>^2 and <a_2, x>^2
        claim="x1 + x2 never changes, whatever the draws",
        source=f"{_KARIMIREDDY} 3",
        start=(Fraction(1), Fraction(1)),
        minimizer=(Fraction(0), Fraction(0)),
        value=lambda x: sum(_dot(a, x) ** 2 for a in _STOCHASTIC) * Fraction(1, 2),
        gradients=lambda x: tuple(tuple(2 * _dot(a, x) * c for c in a) for a in _STOCHASTIC),
        compress=scaled_sign,
    ),
    "top_one_nodes": Failure(  # f_i = <a_i, x>^2 + ||x||^2/4 on three nodes
        claim="x grows by 1 + 11 lr/6 in every step",
        source="Beznosikov, Horvath, Richtarik & Safaryan 2023, 'On Biased Compression', example 1",
        start=(Fraction(1),) * 3,
        minimizer=(Fraction(0),) * 3,
        value=lambda x: sum(_dot(a, x) ** 2 for a in _NODES) * Fraction(1, 3) + _dot(x, x) * Fraction(1, 4),
        gradients=lambda x: tuple(_node_gradient(a, x) for a in _NODES),
        compress=top_one,
        nodes=True,
    ),
    "top_one_noise": Failure(  # ||x||^2/2 with noise (+-4, 0)
        claim="x2 does not move as long as |x1| + |x2| < 4, the size of the noise in the other coordinate",
        source="derived for this course",
        start=(Fraction(0), Fraction(1)),
        minimizer=(Fraction(0), Fraction(0)),
        value=lambda x: _dot(x, x) * Fraction(1, 2),
        gradients=lambda x: ((x[0] + 4, x[1]), (x[0] - 4, x[1])),
        compress=top_one,
    ),
}
