"""``check``: which comparisons hold, what is printed, and the bundle that the runner collects."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcourse import ClaimBroken, check
from optcourse.checking import MIME, Verdict

number = st.floats(-1e6, 1e6)


@given(measured=number, bound=number, relation=st.sampled_from(["<=", ">=", "<", ">", "=="]))
def test_relations_mean_what_python_means(measured, bound, relation):
    holds = eval(f"a {relation} b", {"a": measured, "b": bound})
    try:
        check("00.0", "claim", measured, relation, bound)
        raised = False
    except ClaimBroken:
        raised = True
    assert raised != holds


@given(measured=number, bound=number, relation=st.sampled_from(["<=", ">=", "<", ">", "=="]))
def test_a_claim_either_holds_or_fails_as_expected(measured, bound, relation):
    outcomes = []
    for expect in ("holds", "fails"):
        try:
            check("00.0", "claim", measured, relation, bound, expect=expect, why="a reason")
            outcomes.append(True)
        except ClaimBroken:
            outcomes.append(False)
    assert sorted(outcomes) == [False, True]


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


@pytest.mark.parametrize("bad", [np.nan, np.inf, [1.0, np.nan], []])
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
        (("<", 1.0, {"tol": 0.1}), "tol must be >= 0, and 0 with the relation '<'"),
        (("<=", 1.0, {"tol": -0.1}), "tol must be >= 0"),
        (("in", 1.0, {}), "bound must be a pair"),
        (("<=", 1.0, {"seeds": 0}), "seeds must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    relation, bound, options = arguments
    with pytest.raises(ValueError, match=message):
        check("02.4", "claim", 0.5, relation, bound, **options)


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
