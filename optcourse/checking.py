"""``check``: one line that compares a measurement with a prediction and fails when the claim fails.

Each call prints its verdict, and inside a notebook also emits a small JSON bundle, from which
``optcourse run`` builds ``verdicts.json`` and the index page.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from optcourse.arguments import choice, integer
from optcourse.measure import Estimate

MIME = "application/vnd.optcourse.verdict+json"
HOLDS, FAILS, UNDECIDED, BROKEN = "holds", "fails as expected", "undecided", "broken"


class Mark(NamedTuple):
    """How a verdict looks wherever it is shown; signs differ in shape, so that colour is never the only one."""

    sign: str
    css: str
    colour: str


#: Every verdict there is, in the order in which they are counted.
MARKS = {
    HOLDS: Mark("✓", "holds", "#00588f"),
    FAILS: Mark("◇", "expected", "#6a4c00"),
    UNDECIDED: Mark("?", "undecided", "#595959"),
    BROKEN: Mark("✗", "broken", "#a3210b"),
}

#: How far a measurement is inside its bound, in the measurement's own units; >= 0 when it holds, > 0 where strict.
_SLACK = {
    "<=": lambda m, b, tol: b - m + tol,
    ">=": lambda m, b, tol: m - b + tol,
    "<": lambda m, b, tol: b - m,
    ">": lambda m, b, tol: m - b,
    "==": lambda m, b, tol: tol - abs(m - b),
    "!=": lambda m, b, tol: abs(m - b),
    "in": lambda m, b, tol: np.minimum(m - b[0], b[1] - m),
}
_STRICT = ("<", ">", "!=")


class ClaimBroken(AssertionError):
    """A claim of the course did not hold in this run."""


@dataclass(frozen=True)
class Verdict:
    """One compared claim: the entry of ``verdicts.json``.

    ``margin`` is the distance to the bound, >= 0 when the relation holds. Where an ``interval`` was measured it counts
    from the end that decides: the one nearest to the bound, or, undecided, the one furthest beyond it.
    """

    topic: str
    claim: str
    measured: float
    relation: str
    bound: float | list[float]
    margin: float
    verdict: str
    seeds: int | None = None
    interval: list[float] | None = None
    points: int = 1
    tol: float = 0.0
    why: str | None = None

    @property
    def line(self) -> str:
        """The sentence that the reader sees."""
        notes = [f"margin {number(self.margin)}"]
        if self.tol:
            notes.append(f"tolerance {number(self.tol)}")
        if self.points > 1:
            notes.append(f"worst of {self.points} points")
        if self.seeds:
            notes.append(f"{self.seeds} seeds")
        tail = f" — {self.why}" if self.why else ""
        return (
            f"{MARKS[self.verdict].sign} {self.topic} {self.verdict}: {self.claim}: "
            f"{number(self.measured, self.interval)} {self.relation} {number(self.bound)} ({', '.join(notes)}){tail}"
        )


#: The verdicts of this process, in order: a page about all claims adds them to those of the other lectures.
GIVEN: list[Verdict] = []


def check(
    topic: str,
    claim: str,
    measured: Any,
    relation: str,
    bound: Any,
    *,
    seeds: int | None = None,
    tol: float = 0.0,
    expect: str = "holds",
    why: str | None = None,
) -> None:
    """Compare ``measured`` with ``bound``, print the verdict, raise :class:`ClaimBroken` if it fails.

    An :class:`~optcourse.measure.Estimate` is compared with its whole interval: the claim *holds* when all of the
    interval satisfies the relation, fails when none of it does, and is *undecided* in between, whatever was expected.

    Parameters
    ----------
    topic : syllabus id such as ``"02.4"``.
    claim : the statement in plain words.
    measured : numbers or estimates; for a sweep an array, an estimate of arrays, or a list of estimates.
    bound : a number, or an array that broadcasts with ``measured``; the worst point decides.
        For the relation ``"in"`` the bound is a pair ``(low, high)``.
    relation : ``"<="``, ``">="``, ``"<"``, ``">"``, ``"=="``, ``"in"``, or ``"!="``, which leaves the side
        open (estimates never fail it: no number of seeds shows that two things are equal).
    seeds : how many random seeds stand behind ``measured``; an estimate knows.
    tol : absolute tolerance of ``"<="``, ``">="`` and ``"=="`` for rounding; it is printed.
    expect : ``"fails"`` for a claim that should *not* hold here; then ``why`` is required and
        the check breaks when the claim holds after all.

    Raises ``ValueError`` for a bad argument or a measurement that is not finite.
    """
    choice("relation", relation, _SLACK)
    choice("expect", expect, ("holds", "fails"))
    if expect == "fails" and not why:
        raise ValueError("why must say in a sentence why the claim is expected to fail, got " + repr(why))
    if not 0 <= tol < np.inf or (tol and relation in (*_STRICT, "in")):
        raise ValueError(f"tol must be >= 0, and 0 with the relation {relation!r}, got {tol!r}")
    if seeds is not None:
        integer("seeds", seeds, 1)

    (m, low, high), counted = _ends(measured)
    if seeds is not None and counted is not None and seeds != counted:
        raise ValueError(f"seeds must be that of the estimate, {counted}, got {seeds}")
    (b, *_), estimated = _ends(bound)
    if estimated:
        raise ValueError(f"bound must be a number; measure.paired compares two measurements, got {bound!r}")
    if relation == "in" and (b.shape != (2,) or b[0] > b[1]):
        raise ValueError(f"bound must be a pair (low, high) for the relation 'in', got {bound!r}")
    if not (np.isfinite([low, m, high]).all() and np.isfinite(b).all() and m.size):
        raise ValueError(f"{topic} {claim!r}: measured and bound must be finite, got {measured!r} and {bound!r}")
    if not ((low <= m) & (m <= high)).all():
        raise ValueError(f"{topic} {claim!r}: an estimate must lie in its interval, got {measured!r}")

    # Over an interval the slack, concave or (for !=) convex, has its extremes at the ends and nearest to the bound.
    nearest = np.clip(b.mean() if relation == "in" else b, low, high)
    slacks = [np.asarray(_SLACK[relation](x, b, tol), dtype=float) for x in (low, high, nearest)]
    least, most = np.minimum.reduce(slacks), np.maximum.reduce(slacks)
    inside = np.greater if relation in _STRICT else np.greater_equal
    holds, fails = bool(inside(least, 0).all()), not inside(most, 0).all()
    fails &= relation != "!=" or counted is None  # no number of seeds shows that two things are equal
    # A claim that should fail is judged by its most violated point, like any other.
    margin = most if fails else least
    worst = np.unravel_index(int(margin.argmin()), margin.shape)

    def at_worst(x: np.ndarray) -> float:
        return float(np.broadcast_to(x, margin.shape)[worst])

    expected = fails if expect == "fails" else holds
    verdict = Verdict(
        topic=topic,
        claim=claim,
        measured=at_worst(m),
        relation=relation,
        bound=b.tolist() if relation == "in" else at_worst(b),
        margin=at_worst(margin),
        verdict=UNDECIDED if holds == fails else BROKEN if not expected else HOLDS if holds else FAILS,
        seeds=seeds or counted,
        interval=None if counted is None else [at_worst(low), at_worst(high)],
        points=int(margin.size),
        tol=float(tol),
        why=why,
    )
    GIVEN.append(verdict)
    _show(verdict)
    if verdict.verdict == BROKEN:
        problem = "should fail here but holds" if holds else "does not hold"
        raise ClaimBroken(f"topic {topic}: the claim {claim!r} {problem}: {verdict.line}")


def tally(verdicts: Iterable[str]) -> dict[str, int]:
    """How many verdicts there are of each kind, in the order of ``MARKS``; ``KeyError`` for a word that is none."""
    counts = dict.fromkeys(MARKS, 0)
    for verdict in verdicts:
        counts[verdict] += 1
    return counts


def number(x: float | list[float], interval: list[float] | None = None) -> str:
    """Four significant digits; an interval in brackets."""
    text = f"[{', '.join(map(number, x))}]" if isinstance(x, list) else f"{x:.4g}"
    return f"{text} {number(interval)}" if interval else text


def _ends(measured: Any) -> tuple[np.ndarray, int | None]:
    """Value, low and high end (equal for plain numbers) as one array [3, …], and the number of seeds if it is known."""
    if isinstance(measured, Estimate):
        return np.asarray([measured.value, measured.low, measured.high], dtype=float), measured.seeds
    array = np.asarray(measured)
    estimates = [m for m in array.flat if isinstance(m, Estimate)] if array.dtype == object else []
    if not estimates:
        return np.stack([np.asarray(measured, dtype=float)] * 3), None
    if len(estimates) < array.size:
        raise ValueError(f"a list must hold numbers or estimates, not both, got {measured!r}")
    return np.stack([_ends(m)[0] for m in estimates], axis=1), min(m.seeds for m in estimates)


def _show(verdict: Verdict) -> None:
    """Print the line; in a notebook, display it with its JSON bundle."""
    shell = _ipython()
    if shell is None or not hasattr(shell, "kernel"):
        print(verdict.line)
        return
    from IPython.display import display

    colour = MARKS[verdict.verdict].colour
    page = f'<div style="color:{colour};font-family:monospace;font-size:0.9em">{html.escape(verdict.line)}</div>'
    display({"text/plain": verdict.line, "text/html": page, MIME: asdict(verdict)}, raw=True)


def _ipython() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()
