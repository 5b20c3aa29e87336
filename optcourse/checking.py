"""``check``: one line that compares a measurement with a prediction and fails when the claim fails.

Each call prints its verdict, and inside a notebook also emits a small JSON bundle, from which
``optcourse run`` builds ``verdicts.json`` and the index page.
"""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optcourse.arguments import choice, integer

MIME = "application/vnd.optcourse.verdict+json"
HOLDS, FAILS, BROKEN = "holds", "fails as expected", "broken"

#: How far a measurement is inside its bound, in the measurement's own units; >= 0 when it holds.
_SLACK = {
    "<=": lambda m, b, tol: b - m + tol,
    ">=": lambda m, b, tol: m - b + tol,
    "<": lambda m, b, tol: b - m,
    ">": lambda m, b, tol: m - b,
    "==": lambda m, b, tol: tol - abs(m - b),
    "in": lambda m, b, tol: np.minimum(m - b[0], b[1] - m),
}


class ClaimBroken(AssertionError):
    """A claim of the course did not hold in this run."""


@dataclass(frozen=True)
class Verdict:
    """One compared claim: the entry of ``verdicts.json``. ``margin`` >= 0 means the relation holds."""

    topic: str
    claim: str
    measured: float
    relation: str
    bound: float | list[float]
    margin: float
    verdict: str
    seeds: int | None = None
    points: int = 1
    tol: float = 0.0
    why: str | None = None

    @property
    def line(self) -> str:
        """The sentence that the reader sees."""
        sign = {HOLDS: "✓", FAILS: "✓", BROKEN: "✗"}[self.verdict]
        bound = "[" + ", ".join(_number(b) for b in self.bound) + "]" if self.relation == "in" else _number(self.bound)
        notes = [f"margin {_number(self.margin)}"]
        if self.tol:
            notes.append(f"tolerance {_number(self.tol)}")
        if self.points > 1:
            notes.append(f"worst of {self.points} points")
        if self.seeds:
            notes.append(f"{self.seeds} seeds")
        tail = f" — {self.why}" if self.why else ""
        return (
            f"{sign} {self.topic} {self.verdict}: {self.claim}: "
            f"{_number(self.measured)} {self.relation} {bound} ({', '.join(notes)}){tail}"
        )


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

    Parameters
    ----------
    topic : syllabus id such as ``"02.4"``.
    claim : the statement in plain words.
    measured, bound : numbers, or arrays that broadcast (a sweep); the worst point decides.
        For the relation ``"in"`` the bound is a pair ``(low, high)``.
    relation : ``"<="``, ``">="``, ``"<"``, ``">"``, ``"=="`` or ``"in"``.
    seeds : how many random seeds stand behind ``measured``.
    tol : absolute tolerance of ``"<="``, ``">="`` and ``"=="`` for rounding; it is printed.
    expect : ``"fails"`` for a claim that should *not* hold here; then ``why`` is required and
        the check breaks when the claim holds after all.

    Raises ``ValueError`` for a bad argument or a measurement that is not finite.
    """
    choice("relation", relation, _SLACK)
    choice("expect", expect, ("holds", "fails"))
    if expect == "fails" and not why:
        raise ValueError("why must say in a sentence why the claim is expected to fail, got " + repr(why))
    if tol < 0 or (tol and relation in ("<", ">", "in")):
        raise ValueError(f"tol must be >= 0, and 0 with the relation {relation!r}, got {tol!r}")
    if seeds is not None:
        integer("seeds", seeds, 1)

    m, b = np.asarray(measured, dtype=float), np.asarray(bound, dtype=float)
    if relation == "in" and b.shape != (2,):
        raise ValueError(f"bound must be a pair (low, high) for the relation 'in', got {bound!r}")
    if not (np.isfinite(m).all() and np.isfinite(b).all() and m.size):
        raise ValueError(f"{topic} {claim!r}: measured and bound must be finite, got {measured!r} and {bound!r}")

    slack = np.asarray(_SLACK[relation](m, b, tol), dtype=float)
    holds = bool((slack > 0).all() if relation in ("<", ">") else (slack >= 0).all())
    # A claim that should fail is judged by its most violated point, like any other.
    worst = np.unravel_index(int(slack.argmin()), slack.shape)
    verdict = Verdict(
        topic=topic,
        claim=claim,
        measured=float(np.broadcast_to(m, slack.shape)[worst]),
        relation=relation,
        bound=b.tolist() if relation == "in" else float(np.broadcast_to(b, slack.shape)[worst]),
        margin=float(slack[worst]),
        verdict=BROKEN if holds != (expect == "holds") else (HOLDS if holds else FAILS),
        seeds=seeds,
        points=int(slack.size),
        tol=float(tol),
        why=why,
    )
    _show(verdict)
    if verdict.verdict == BROKEN:
        problem = "should fail here but holds" if holds else "does not hold"
        raise ClaimBroken(f"topic {topic}: the claim {claim!r} {problem}: {verdict.line}")


def _show(verdict: Verdict) -> None:
    """Print the line; in a notebook, display it with its JSON bundle."""
    shell = _ipython()
    if shell is None or not hasattr(shell, "kernel"):
        print(verdict.line)
        return
    from IPython.display import display

    colour = "#b3261e" if verdict.verdict == BROKEN else "#1b7f3b"
    page = f'<div style="color:{colour};font-family:monospace;font-size:0.9em">{html.escape(verdict.line)}</div>'
    display({"text/plain": verdict.line, "text/html": page, MIME: asdict(verdict)}, raw=True)


def _ipython() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _number(x: float | list[float]) -> str:
    return f"{x:.4g}"
