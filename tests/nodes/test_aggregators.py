"""What every robust rule must do: commute with symmetries, leave its input alone, and refuse what it cannot use."""

from functools import partial

import numpy as np
import pytest
import torch
from aggregator_cases import ROBUST, bound_name, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from optcourse.nodes.byzantine.aggregators import (
    AGGREGATORS,
    bucketing,
    centered_clipping,
    clipping_from_last,
    geometric_median,
    krum,
    mean,
    median,
    multi_krum,
    nearest_neighbour_mixing,
    squared_distances,
)
from optcourse.nodes.streams import Streams
from optcourse.theory import byzantine

# Equivariance

EQUIVARIANT = {**AGGREGATORS, "geometric_median": partial(geometric_median, tolerance=1e-13)}


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(5, 12),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-100, 100),
)
@settings(max_examples=20, derandomize=True)
def test_rules_commute_with_permutations_translations_and_scalings(seed, n, scale, shift):
    X = draw(seed, n, 3)
    order = np.r_[0, 1 + np.random.default_rng(seed).permutation(n - 1)]  # node 0 is the reference of monna
    for name, rule in EQUIVARIANT.items():
        for wrap in (lambda rule: rule, nearest_neighbour_mixing):
            found = wrap(rule)(X, n_byzantine=1)
            moved = wrap(rule)(scale * X[order] + shift, n_byzantine=1)
            # The sum is rounded to 1e-16 of |shift|, which is up to 1e5 of the spread, and amplified by the
            # curvature of the geometric median.
            atol = 1e-12 * (scale + abs(shift)) * (100 if name == "geometric_median" else 1)
            np.testing.assert_allclose(moved, scale * found + shift, rtol=0, atol=atol, err_msg=name)


WRAPPERS = {
    "alone": lambda rule: rule,
    "mixed": nearest_neighbour_mixing,
    "bucketed": lambda rule: bucketing(rule, 2, torch.Generator().manual_seed(0)),
}
POWERS = {torch.float32: (-35, -20, 20, 30), torch.float64: (-290, -160, 160, 290)}


@pytest.mark.parametrize("dtype", POWERS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", AGGREGATORS)
@given(seed=st.integers(0, 10**6), place=st.integers(0, 3))
@settings(max_examples=8, derandomize=True)
def test_units_do_not_matter(name, wrapper, dtype, seed, place):
    """Against float64 in units near one: whoever squares an entry on the way leaves the range of the numbers."""
    X, scale, wrap, rule = draw(seed, 9, 4, dtype), 10.0 ** POWERS[dtype][place], WRAPPERS[wrapper], EQUIVARIANT[name]
    X[-1] *= 30  # something to clip and to trim
    error = wrap(rule)(X * scale, 1).double() / scale - wrap(rule)(X.double(), 1)
    assert error.abs().max() <= 1000 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", ["mean", "geometric_median", "krum", "krum_paper", "multi_krum", "mda", "monna"])
def test_rules_of_distances_commute_with_rotations(name):
    for seed in range(10):
        X = draw(seed, 9, 4)
        Q = torch.tensor(ortho_group.rvs(4, random_state=seed))
        torch.testing.assert_close(EQUIVARIANT[name](X @ Q, 2), EQUIVARIANT[name](X, 2) @ Q, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_no_rule_changes_its_input_or_the_dtype(name):
    for dtype in (torch.float32, torch.float64):
        X = draw(1, 8, 3, dtype)
        before = X.clone()
        found = AGGREGATORS[name](X, 1)
        found += 1  # the output is no view of the input
        assert torch.equal(X, before) and found.dtype == dtype and found.shape == (3,)


def test_names_are_those_of_the_theory():
    assert set(AGGREGATORS) == {*byzantine.RULES, "multi_krum"}


# Errors


def alternating(rule, first, second):
    """A rule with memory, asked about vectors of two kinds."""
    rule(first, n_byzantine=1)
    return rule(second, n_byzantine=1)


@pytest.mark.parametrize("name", ROBUST)
def test_too_many_byzantine_nodes_are_refused(name):
    for n in (5, 6, 11):
        most = byzantine.breakdown(rule=bound_name(name), n_nodes=n)
        AGGREGATORS[name](draw(0, n, 2), most)
        with pytest.raises(
            ValueError, match=rf"n_byzantine must be in 0\.\.{most} for .* of {n} vectors, got {most + 1}"
        ):
            AGGREGATORS[name](draw(0, n, 2), most + 1)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_bad_input_is_refused(name):
    rule, X = AGGREGATORS[name], draw(0, 6, 2)
    for f, error in ((-1, ValueError), (7, ValueError), (1.0, TypeError), (True, TypeError), (None, TypeError)):
        with pytest.raises(error, match="n_byzantine"):
            rule(X, f)
    for bad in (X[0], X[None], X[:0], X.long()):
        with pytest.raises(ValueError, match="X must be a floating-point tensor"):
            rule(bad, 0)
    with pytest.raises(ValueError, match="X must be a floating-point tensor .* of layout torch.sparse_coo"):
        rule(X.to_sparse(), 0)
    for bad in (X.tolist(), list(X), X.numpy(), None, "X"):
        with pytest.raises(TypeError, match=rf"X must be a floating-point tensor \[n, d\], got {type(bad).__name__}"):
            rule(bad, 0)
    for value in (torch.nan, torch.inf, -torch.inf):
        bad = X.clone()
        bad[4, 1] = value
        with pytest.raises(ValueError, match="node 4"):
            rule(bad, 1)


@pytest.mark.parametrize("X", [[[1.0, 2.0]] * 4, [torch.ones(2)] * 4, None])
def test_wrapped_rules_refuse_what_is_no_tensor(X):
    for rule in (
        bucketing(median, 2, torch.Generator()),
        nearest_neighbour_mixing(median),
        clipping_from_last(),
        squared_distances,
    ):
        with pytest.raises(TypeError, match=r"X must be a floating-point tensor \[n, d\]"):
            rule(X, **({} if rule is squared_distances else {"n_byzantine": 0}))


def test_rows_beyond_float64_are_named():
    X = draw(0, 5, 2)
    X[3] = 1e200
    for rule in (krum, geometric_median, nearest_neighbour_mixing(mean)):
        with pytest.raises(ValueError, match="node 3"):
            rule(X, 1)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda X: multi_krum(X, 1, 0), "m must be in 1..4"),
        (lambda X: multi_krum(X, 1, 5), "m must be in 1..4"),
        (lambda X: krum(X, 1, "some"), "neighbours"),
        (lambda X: krum(X[:2], 0, "paper"), "neighbours"),
        (lambda X: geometric_median(X, 1, tolerance=0), "tolerance"),
        (lambda X: geometric_median(X, 1, iterations=0), "iterations"),
        (lambda X: centered_clipping(X, 1, radius=0), "radius"),
        (lambda X: centered_clipping(X, 1, radius=-1.0), "radius"),
        (lambda X: centered_clipping(X, 1, radius="mean"), "radius"),
        (lambda X: centered_clipping(X, 1, iterations=0), "iterations"),
        (lambda X: alternating(clipping_from_last(), X, X[:, :1]), "X must have rows of 2 numbers as before, got 1"),
        (
            lambda X: alternating(bucketing(clipping_from_last(), 1, torch.Generator()), X, X[:, :1]),
            "X must have rows of 2 numbers as before, got 1",
        ),
        (lambda X: centered_clipping(X, 1, torch.zeros(3)), "center"),
        (lambda X: centered_clipping(X, 1, torch.tensor([0.0, torch.nan])), "center"),
        (lambda X: bucketing(median, 0, torch.Generator()), "size"),
        (lambda X: bucketing(median, 2, Streams("bucketing", 0, [0]))(X, 1), "random"),
        (lambda X: bucketing(median, 2, torch.Generator())(X, 2), "buckets of size 2 of 5"),
        (lambda X: bucketing(mean, 2, torch.Generator())(X, -1), "n_byzantine"),
        (lambda X: nearest_neighbour_mixing(mean)(X, 3), "n_byzantine"),
    ],
)
def test_settings_out_of_range_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call(draw(0, 5, 2))
