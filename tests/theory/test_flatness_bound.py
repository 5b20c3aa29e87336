"""The flatness bound against its display, and the claims of its proof one by one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from optcourse.theory import sharpness

pytestmark = pytest.mark.topic("11.2")

SETTING = {"training_loss": 0.1, "worst_loss": 0.15, "w2": 50.0, "rho": 0.5, "k": 6, "n": 20_000, "delta": 0.05}


def h_by_hand(w2, rho, k, n, delta):
    """The paper's last display, typed once more."""
    inside = k * math.log(1 + w2 / rho**2 * (1 + math.sqrt(math.log(n) / k)) ** 2)
    return math.sqrt((inside + 4 * math.log(n / delta) + 8 * math.log(6 * n + 3 * k)) / (n - 1))


def test_terms_add_up_to_the_papers_display():
    bound = sharpness.flatness_bound(**SETTING)
    assert bound.value == pytest.approx(0.15 + h_by_hand(50.0, 0.5, 6, 20_000, 0.05), rel=1e-12)
    assert list(bound.terms) == ["training loss", "flatness", "dimension", "confidence", "scales"]
    h2 = sum(list(bound.terms.values())[2:]) ** 2
    assert bound.terms["confidence"] / sum(list(bound.terms.values())[2:]) == pytest.approx(
        4 * math.log(20_000 / 0.05) / (h2 * 19_999)
    )


def test_more_parameters_than_samples_are_vacuous_only_for_a_small_radius():
    """h >= 1 where k >= n - 1 and ‖w‖² >= (e - 1) ρ²; beyond, the bound may say something."""
    many = {"training_loss": 0.1, "worst_loss": 0.5, "k": 10_000, "n": 5000}
    assert float(sharpness.flatness_bound(**many, w2=1.0, rho=10.0)) < 0.72
    edge = {"training_loss": 0.0, "worst_loss": 0.0, "k": 4999, "n": 5000, "rho": 2.0}
    assert float(sharpness.flatness_bound(**edge, w2=4 * (math.e - 1))) >= 1


def test_the_sharp_form_is_its_display():
    """With σ in it instead of ρ, as the proof has it."""
    bound, n, k = sharpness.flatness_bound_sharp(**SETTING), 20_000, 6
    sigma = 0.5 / (math.sqrt(k) + math.sqrt(math.log(n)))
    inside = k / 4 * math.log(1 + 50.0 / (k * sigma**2)) + 1 / 4 + math.log(n / 0.05) / 2 + math.log(6 * n + 3 * k)
    assert bound.value == pytest.approx(0.15 + 0.85 / math.sqrt(n) + math.sqrt(inside / (n - 1)), rel=1e-12)
    assert list(bound.terms)[:3] == ["training loss", "flatness", "escape"]


@given(
    w2=st.floats(0, 1e12),
    rho=st.floats(1e-6, 1e3),
    k=st.integers(1, 10**8),
    n=st.integers(2, 10**8),
    delta=st.floats(1e-9, 0.999),
    losses=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_the_sharp_form_implies_the_papers(w2, rho, k, n, delta, losses):
    setting = {"w2": w2, "rho": rho, "k": k, "n": n, "delta": delta}
    setting |= {"training_loss": losses[0], "worst_loss": losses[1]}
    paper, sharp = sharpness.flatness_bound(**setting), sharpness.flatness_bound_sharp(**setting)
    assert losses[1] <= float(sharp) <= float(paper) * (1 + 1e-12)
    for bound in (paper, sharp):
        assert all(term >= 0 for term in bound.terms.values())


@given(k=st.integers(1, 10**6), n=st.integers(2, 10**7))
def test_the_claims_of_the_proof(k, n):
    """The normal noise leaves the ball with probability at most 1/√n; the number of the nearest prior costs what the
    bound says."""
    sigma = 1 / (math.sqrt(k) + math.sqrt(math.log(n)))
    assert chi2.sf(1 / sigma**2, k) <= 1 / math.sqrt(n)
    j = 1 + k * np.logaddexp(0, 4 * n / k)
    assert 0.5 * math.log(math.pi**2 / 6 * j**2) <= math.log(6 * n + 3 * k)


def test_h_increases_in_the_norm_and_decreases_in_the_samples():
    def h(w2=50.0, n=20_000):
        return float(sharpness.flatness_bound(**(SETTING | {"w2": w2, "n": n, "training_loss": 0, "worst_loss": 0})))

    assert h(w2=0.0) < h(w2=1.0) < h(w2=1e300) and h(n=1000) > h(n=2000) > h(n=10**9)
    sweep = sharpness.flatness_bound(**(SETTING | {"n": np.array([1000, 2000])}))
    assert sweep.value.tolist() == [float(sharpness.flatness_bound(**(SETTING | {"n": n}))) for n in (1000, 2000)]


@pytest.mark.parametrize("function", [sharpness.flatness_bound, sharpness.flatness_bound_sharp])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"training_loss": 1.5, "worst_loss": 1.5}, r"training_loss must be in \[0, 1\], got 1.5"),
        ({"worst_loss": 0.05}, "worst_loss must be at least training_loss"),
        ({"w2": -1.0}, "w2 must be in"),
        ({"rho": 0.0}, "rho must be in"),
        ({"k": 0}, "k must be in"),
        ({"n": 1}, "n must be in"),
        ({"delta": 1.0}, "delta must be in"),
        ({"delta": np.nan}, "delta must be in"),
    ],
)
def test_bad_arguments_of_the_bounds(function, bad, message):
    with pytest.raises(ValueError, match=message):
        function(**(SETTING | bad))
