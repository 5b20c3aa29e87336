"""``check``: which comparisons hold, what is printed, and the bundle that the runner collects."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcourse import ClaimBroken, check, measure
from optcourse.checking import BROKEN, FAILS, HOLDS, MARKS, MIME, UNDECIDED, Verdict, tally
from optcourse.measure import Estimate

number = st.floats(-1e6, 1e6)
grid, relations = st.integers(-8, 8), st.sampled_from(["<=", ">=", "<", ">", "==", "!=", "in"])


def estimate(low, high):
    return Estimate((low + high) / 2, low, high, (high - low) / 4, 8)


def verdict_of(*arguments, **options):
    """What ``check`` shows, also where it raises."""
    with pytest.MonkeyPatch.context() as patch, suppress(ClaimBroken):
        patch.setattr("optcourse.checking._show", shown.append)
        check("00.0", "claim", *arguments, why="a reason", **options)
    return shown.pop()


shown = []


@given(measured=number, bound=number, relation=st.sampled_from(["<=", ">=", "<", ">", "==", "!="]))
def test_relations_mean_what_python_means(measured, bound, relation):
    holds = eval(f"a {relation} b", {"a": measured, "b": bound})
    try:
        check("00.0", "claim", measured, relation, bound)
        raised = False
    except ClaimBroken:
        raised = True
    assert raised != holds


@given(measured=number, bound=number, relation=st.sampled_from(["<=", ">=", "<", ">", "==", "!="]))
def test_a_claim_either_holds_or_fails_as_expected(measured, bound, relation):
    outcomes = []
    for expect in ("holds", "fails"):
        try:
            check("00.0", "claim", measured, relation, bound, expect=expect, why="a reason")
            outcomes.append(True)
        except ClaimBroken:
            outcomes.append(False)
    assert sorted(outcomes) == [False, True]


@given(ends=st.tuples(grid, grid).map(sorted), bound=grid, relation=relations, tol=st.sampled_from([0, 2]))
def test_an_interval_decides_when_all_its_points_agree(ends, bound, relation, tol):
    """The oracle asks Python about every point of a grid that holds all the critical ones."""
    (low, high), tol = ends, 0 if relation in ("<", ">", "!=", "in") else tol
    bounds = (bound - 3, bound + 3) if relation == "in" else bound
    true = {
        "in": lambda x: bounds[0] <= x <= bounds[1],
        "==": lambda x: abs(x - bound) <= tol,
        "<=": lambda x: x <= bound + tol,
        ">=": lambda x: x >= bound - tol,
    }.get(relation, lambda x: eval(f"x {relation} bound", {"x": x, "bound": bound}))
    answers = {bool(true(x / 2)) for x in range(2 * low, 2 * high + 1)}
    right = {"holds": HOLDS, "fails": BROKEN} if answers == {True} else {"holds": BROKEN, "fails": FAILS}
    if len(answers) == 2 or (relation == "!=" and low == high == bound):  # seeds cannot show that two things are equal
        right = {"holds": UNDECIDED, "fails": UNDECIDED}
    for expect, verdict in right.items():
        got = verdict_of(estimate(low, high), relation, bounds, tol=tol, expect=expect)
        assert (got.verdict, got.interval, got.seeds) == (verdict, [low, high], 8)
        assert (got.margin > 0 if relation in ("<", ">", "!=") else got.margin >= 0) == (answers == {True})


@given(st.lists(st.tuples(grid, grid).map(sorted), min_size=1, max_size=4), grid, relations)
def test_a_sweep_of_intervals_holds_everywhere_or_fails_somewhere(intervals, bound, relation):
    bounds = (bound - 3, bound + 3) if relation == "in" else bound
    estimates = [estimate(*interval) for interval in intervals]
    one_by_one = {verdict_of(e, relation, bounds).verdict for e in estimates}
    right = next(v for v in (BROKEN, UNDECIDED, HOLDS) if v in one_by_one)
    together = Estimate(*(np.array([getattr(e, f) for e in estimates]) for f in ("value", "low", "high", "stderr")), 8)
    got = verdict_of(estimates, relation, bounds)
    assert got == verdict_of(together, relation, bounds)
    assert got.verdict == right and got.interval in [list(map(float, interval)) for interval in intervals]


def test_an_undecided_claim_is_printed_with_its_interval_and_does_not_stop(capsys):
    losses = np.array([1.0, 2.0, 3.0, 4.5]), np.array([1.5, 1.5, 2.5, 4.0])
    for expect in ("holds", "fails"):
        check("06.2", "slower", measure.paired(*losses), ">", 0, expect=expect, why="a reason")
        line = capsys.readouterr().out.strip()
        assert line == ("? 06.2 undecided: slower: 0.25 [-0.5456, 1.046] > 0 (margin -0.5456, 4 seeds) — a reason")


def test_the_worst_point_of_a_sweep_is_shown(capsys):
    check("02.4", "curve under bound", [1.0, 2.0, 3.0], "<=", [5.0, 2.5, 9.0], seeds=20)
    line = capsys.readouterr().out.strip()
    assert line == "✓ 02.4 holds: curve under bound: 2 <= 2.5 (margin 0.5, worst of 3 points, 20 seeds)"


def test_a_broken_claim_names_topic_claim_and_both_numbers(capsys):
    with pytest.raises(ClaimBroken, match=r"topic 02\.4: the claim 'slope' does not hold.*3 in \[0, 1\]"):
        check("02.4", "slope", 3.0, "in", (0.0, 1.0))
    assert capsys.readouterr().out.startswith("✗ 02.4 broken: slope: 3 in [0, 1]")


def test_an_expected_failure_that_holds_is_broken():
    check("02.5", "printed formula", 2.0, "<=", 1.0, expect="fails", why="the slide dropped a term")
    with pytest.raises(ClaimBroken, match="should fail here but holds"):
        check("02.5", "printed formula", 0.5, "<=", 1.0, expect="fails", why="the slide dropped a term")


def test_tolerance_is_absolute_and_printed(capsys):
    check("01.4", "equal", 1.0 + 1e-9, "==", 1.0, tol=1e-8)
    assert "tolerance 1e-08" in capsys.readouterr().out
    with pytest.raises(ClaimBroken):
        check("01.4", "equal", 1.0 + 1e-7, "==", 1.0, tol=1e-8)


NOT_FINITE = [np.nan, np.inf, [1.0, np.nan], [], estimate(-np.inf, 1), estimate(np.nan, 1), [estimate(0, np.inf)] * 2]


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("expect", ["holds", "fails"])
def test_a_number_that_is_none_never_counts_as_a_verdict(bad, expect):
    with pytest.raises(ValueError, match="measured and bound must be finite"):
        check("02.4", "claim", bad, "<=", 1.0, expect=expect, why="why")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("~", 1.0, {}), "relation must be one of"),
        (("<=", 1.0, {"expect": "maybe"}), "expect must be one of 'holds', 'fails', got 'maybe'"),
        (("<=", 1.0, {"expect": "fails"}), "why must say in a sentence"),
        (("!=", 1.0, {"tol": 0.1}), "tol must be >= 0, and 0 with the relation '!='"),
        (("<", 1.0, {"tol": 0.1}), "tol must be >= 0, and 0 with the relation '<'"),
        (("<=", 1.0, {"tol": -0.1}), "tol must be >= 0"),
        (("in", 1.0, {}), "bound must be a pair"),
        (("in", (1.0, 0.0), {}), "bound must be a pair"),
        (("<=", 1.0, {"tol": np.nan}), "tol must be >= 0"),
        (("<=", 1.0, {"seeds": 0}), "seeds must be at least 1, got 0"),
        (("<=", estimate(0, 1), {}), "bound must be a number; measure.paired compares two"),
        (("<=", [1.0, estimate(0, 1)], {}), "numbers or estimates, not both"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    relation, bound, options = arguments
    with pytest.raises(ValueError, match=message):
        check("02.4", "claim", 0.5, relation, bound, **options)


def test_an_estimate_knows_its_seeds_and_lies_in_its_interval():
    with pytest.raises(ValueError, match="seeds must be that of the estimate, 8, got 9"):
        check("02.4", "claim", estimate(0, 1), ">=", 0, seeds=9)
    with pytest.raises(ValueError, match="an estimate must lie in its interval"):
        check("02.4", "claim", Estimate(2.0, 0.0, 1.0, 0.1, 8), ">=", 0)


def test_every_verdict_has_a_mark_of_its_own_and_undecided_is_neither_green_nor_red():
    assert set(MARKS) == {HOLDS, FAILS, UNDECIDED, BROKEN}
    for field in zip(*MARKS.values(), strict=True):
        assert len(set(field)) == len(MARKS)
    red, green, blue = bytes.fromhex(MARKS[UNDECIDED].colour[1:])
    assert red == green == blue
    assert tally([HOLDS, BROKEN, HOLDS]) == {HOLDS: 2, FAILS: 0, UNDECIDED: 0, BROKEN: 1}
    with pytest.raises(KeyError, match="perhaps"):
        tally(["perhaps"])


def test_in_a_notebook_the_verdict_travels_as_json(monkeypatch):
    shown = []
    monkeypatch.setattr("optcourse.checking._ipython", lambda: type("Shell", (), {"kernel": True})())
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    with pytest.raises(ClaimBroken):
        check("02.4", "a < b & c", 2.0, "<=", 1.0, seeds=3)
    (data,) = shown
    verdict = Verdict(**json.loads(json.dumps(data[MIME], allow_nan=False)))
    assert (verdict.topic, verdict.verdict, verdict.margin, verdict.seeds) == ("02.4", "broken", -1.0, 3)
    assert data["text/plain"] == verdict.line and "a &lt; b &amp; c" in data["text/html"]
    assert MARKS[BROKEN].colour in data["text/html"]
    check("02.4", "claim", measure.mean([[0.0, 1.0], [2.0, 4.0]]), ">", [-20, 0])
    verdict = Verdict(**json.loads(json.dumps(shown[-1][MIME], allow_nan=False)))
    assert (verdict.verdict, verdict.measured, verdict.seeds, verdict.points) == ("undecided", 2.5, 2, 2)
    assert verdict.interval[0] < 0 < verdict.interval[1] and MARKS[UNDECIDED].colour in shown[-1]["text/html"]
