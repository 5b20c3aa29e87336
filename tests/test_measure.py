"""Intervals that contain the truth as often as they say, slopes against scipy, figures with the right parts."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from scipy import stats

from optcourse import measure, plotting


def test_mean_interval_is_students():
    x = np.random.default_rng(0).standard_normal((12, 3, 2))
    estimate = measure.mean(x, confidence=0.9)
    low, high = stats.ttest_1samp(x, 0.0).confidence_interval(0.9)
    assert estimate.low == pytest.approx(low, rel=1e-12) and estimate.high == pytest.approx(high, rel=1e-12)
    assert estimate.value == pytest.approx(x.mean(0)) and estimate.seeds == 12
    single = measure.mean(x[:, 0, 0], confidence=0.9)
    assert (float(single), single.low) == pytest.approx((x[:, 0, 0].mean(), low[0, 0]))


def test_paired_is_the_t_test_for_related_samples():
    rng = np.random.default_rng(4)
    common = rng.lognormal(sigma=3.0, size=(7, 1))  # what both methods share on a seed
    a, b = (common * rng.lognormal(sigma=0.1, size=(7, 5)) for _ in range(2))
    for estimate, test in (
        (measure.paired(a, b, confidence=0.8), stats.ttest_rel(a, b)),
        (measure.paired(np.log(a), np.log(b), confidence=0.8), stats.ttest_rel(np.log(a), np.log(b))),
    ):
        low, high = test.confidence_interval(0.8)
        assert estimate.low == pytest.approx(low, rel=1e-9) and estimate.high == pytest.approx(high, rel=1e-9)
        assert estimate.errors_from(0.0) == pytest.approx(test.statistic, rel=1e-9)
    ratio = measure.paired(a, b, ratio=True, confidence=0.8)
    assert ratio.low == pytest.approx(np.exp(low)) and ratio.high == pytest.approx(np.exp(high))
    assert ratio.value == pytest.approx(stats.gmean(a / b, axis=0))


eighths = st.integers(-80, 80).map(lambda i: i / 8)  # whose sums are exact


@given(x=st.lists(eighths, min_size=2, max_size=20), bound=eighths)
def test_a_side_is_named_exactly_when_students_test_rejects(x, bound):
    estimate = measure.mean(x)
    assert estimate.low <= estimate.value <= estimate.high
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scipy, about equal samples
        p = stats.ttest_1samp(x, bound).pvalue
    side = np.sign(estimate.value - bound) if p < 0.05 else 0  # p is NaN for equal samples on the bound
    assert estimate.side_of(bound) == side or abs(p - 0.05) < 1e-6


def test_mean_in_errors_is_students_statistic():
    x = np.random.default_rng(3).standard_normal((9, 2)) + 0.5
    assert measure.mean(x).errors_from(0.2) == pytest.approx(stats.ttest_1samp(x, 0.2).statistic, rel=1e-12)
    assert [measure.mean([d, d]).errors_from(0) for d in (-1.0, 0.0, 2.0)] == [-np.inf, 0.0, np.inf]
    assert list(measure.mean([[2.0, 3.0]] * 2).errors_from([2.0, 2.0])) == [0.0, np.inf]


@pytest.mark.parametrize("value", [0.1, 0.7, 1e308])
@pytest.mark.parametrize("seeds", [2, 3, 6, 10])
def test_equal_samples_have_no_spread(value, seeds):
    """Their sum divided by their number may be another number."""
    estimate = measure.mean([value] * seeds)
    assert (estimate.value, estimate.low, estimate.high, estimate.stderr) == (value, value, value, 0.0)
    assert estimate.errors_from(value) == 0.0


def test_interval_covers_the_truth_as_often_as_stated():
    """2,000 repetitions with 5 seeds: 90 % of the intervals contain 0, within 4 standard errors of that share."""
    rng = np.random.default_rng(1)
    estimates = [measure.mean(rng.standard_normal(5), confidence=0.9) for _ in range(2000)]
    share = np.mean([e.low <= 0 <= e.high for e in estimates])
    assert abs(share - 0.9) <= 4 * np.sqrt(0.9 * 0.1 / 2000)


def test_slope_is_the_mean_of_the_slopes_of_the_seeds():
    rng = np.random.default_rng(2)
    x = np.array([1.0, 2.0, 5.0, 30.0])
    y = 3 * x**-0.5 * rng.lognormal(sigma=0.1, size=(6, 4))
    single = [stats.linregress(np.log(x), np.log(row)).slope for row in y]
    assert float(measure.loglog_slope(x, y)) == pytest.approx(np.mean(single), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure.mean([1.0]), r"samples must have shape \[seeds, …\] with at least two seeds, got \[1\]"),
        (lambda: measure.mean(1.0), r"with at least two seeds, got \[\]"),
        (lambda: measure.paired([1.0, 2.0], [1.0, 2.0, 3.0]), r"same shape to be paired, got \[2\] and \[3\]"),
        (lambda: measure.paired([1.0, np.inf], [1.0, 2.0]), "a must be finite"),
        (lambda: measure.paired([1.0, 2.0], [0.0, 2.0], ratio=True), "a and b must be positive"),
        (lambda: measure.loglog_slope([1, 2], [1, 2]), r"samples \[seeds, points\].*got \[2\] and \[2\]"),
        (lambda: measure.mean([1.0, np.nan]), "samples must be finite"),
        (lambda: measure.mean([1.0, 2.0], confidence=1.0), r"confidence must be in \(0, 1\), got 1.0"),
        (
            lambda: measure.loglog_slope([1, 2], [[1, 2, 3], [1, 2, 3]]),
            r"with at least two points, got \[2\] and \[2, 3\]",
        ),
        (lambda: measure.loglog_slope([1, 2], [[1, 0], [1, 2]]), "must be positive"),
        (
            lambda: plotting.band(plt.figure().gca(), [1, 2], [[1, 2, 3]], label=""),
            r"samples must have shape \[seeds, 2\]",
        ),
        (lambda: plotting.path(plt.figure().gca(), [1, 2], label=""), r"points must have shape \[steps, 2\]"),
        (lambda: plotting.contour(plt.figure().gca(), None, ((1, 0), (0, 1))), "region must be"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_band_shows_mean_and_percentiles():
    _, ax = plotting.figure()
    samples = np.random.default_rng(3).standard_normal((50, 4))
    line = plotting.band(ax, np.arange(4), samples, label="measured")
    assert line.get_ydata() == pytest.approx(samples.mean(0))
    low, high = ax.collections[0].get_datalim(ax.transData).intervaly
    assert (low, high) == pytest.approx((np.percentile(samples, 10, 0).min(), np.percentile(samples, 90, 0).max()))


def test_contour_and_path_share_the_plane():
    _, ax = plotting.figure()
    plotting.contour(ax, lambda p: (p**2).sum(-1), ((-1.0, 2.0), (-3.0, 4.0)))
    plotting.path(ax, [[0.0, 0.0], [1.0, 1.0]], label="path")
    assert ax.get_xlim() == (-1.0, 2.0) and ax.get_ylim() == (-3.0, 4.0)
    assert [text.get_text() for text in ax.legend().get_texts()] == ["path"]


def test_the_interval_of_a_ratio_covers_as_often_as_it_says():
    """E a / E b = 3 from 8 noisy pairs, 2000 times at 80 %: 1600 ± 54 (three standard errors)."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        b = rng.normal(1.0, 0.5, 8)
        a = 3 + rng.normal(0, 2.0, 8) + 2 * (b - 1)
        found = measure.ratio_of_means(a, b, confidence=0.8)
        covered += found.low <= 3 <= found.high
    assert 1546 <= covered <= 1654, covered


def test_a_ratio_holds_what_the_pairs_do_not_reject():
    """Fieller's definition: at either end the mean of a − r b lies exactly t standard errors from zero."""
    a, b = np.array([2.0, 5.0, 4.0, 7.0]), np.array([1.0, 1.5, 0.8, 1.2])
    found = measure.ratio_of_means(a, b, confidence=0.9)
    for end in (found.low, found.high):
        assert abs(measure.mean(a - end * b).errors_from(0.0)) == pytest.approx(stats.t(3).ppf(0.95), rel=1e-9)
    assert found.value == pytest.approx(18 / 4.5)
    negative = measure.ratio_of_means(a, -b, confidence=0.9)
    assert (negative.low, negative.high) == pytest.approx((-found.high, -found.low))


def test_a_ratio_to_nothing_is_open_and_bad_pairs_are_refused():
    found = measure.ratio_of_means([1.0, 2.0, 3.0], [1.0, -1.0, 0.5])
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert np.isinf(measure.ratio_of_means([1.0, 2.0], [0.0, 0.0]).value)
    assert np.isnan(measure.ratio_of_means([1.0, -1.0], [1.0, -1.0]).value)
    for a, b in (([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([[1.0], [2.0]], [[1.0], [2.0]]), ([1.0, np.nan], [1.0, 2.0])):
        with pytest.raises(ValueError, match="(a|b|a and b) must"):
            measure.ratio_of_means(a, b)


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    labels=st.lists(st.integers(-2, 3), min_size=20, max_size=20),
)
def test_groups_are_those_of_a_loop(values, labels):
    groups = labels[: len(values)]
    found = measure.by_group(values, groups)
    for label, average, count in zip(found.labels, found.means, found.counts, strict=True):
        members = [v for v, g in zip(values, groups, strict=True) if g == label]
        assert count == len(members) and average == pytest.approx(np.mean(members), rel=1e-9, abs=1e-9)
    assert found.labels.tolist() == sorted(set(groups))
    assert found.worst_mean == found.means.max() == found.means[found.labels.tolist().index(found.worst)]
    assert measure.by_group(values, groups, higher_is_better=True).worst_mean == found.means.min()


def test_equal_hits_are_equal_means():
    found = measure.by_group([True] * 7, ["a"] + ["b"] * 6, higher_is_better=True)
    assert found.worst == "a" and found.means.tolist() == [1.0, 1.0]
    assert measure.by_group([1.5e308, 1.5e308, 1.0], [0, 0, 1]).means.tolist() == [1.5e308, 1.0]


def test_groups_take_tensors_as_they_are():
    values = torch.tensor([1.0, 2.0, 4.0], dtype=torch.bfloat16, requires_grad=True)
    found = measure.by_group(values, torch.tensor([1, 0, 0]))
    assert found.means.tolist() == [3.0, 1.0] and found.worst == 0


@pytest.mark.parametrize(
    ("values", "groups", "names"),
    [
        ([1.0, 2.0], [0], "must have one shape"),
        ([], [], "must have one shape"),
        ([[1.0], [2.0]], [0, 1], "must have one shape"),
        ([1.0, np.nan], [0, 1], "must be finite"),
        ([1.0, 2.0], [0.0, np.nan], "must be finite"),
        ([1.0, 2.0], np.array(["a", np.nan], dtype=object), "must be finite"),
        ([1.0, 2.0], np.array(["2026-01-01", "NaT"], dtype="datetime64[D]"), "must be finite"),
    ],
)
def test_bad_groups_are_refused(values, groups, names):
    with pytest.raises(ValueError, match=names):
        measure.by_group(values, groups)


@pytest.mark.parametrize(
    ("values", "groups", "names"),
    [
        (["1", "2"], [0, 1], "values must be real numbers or bools"),
        ([1.0, 2.0j], [0, 1], "values must be real numbers or bools"),
        ([1.0, 2.0], [None, "a"], "groups must be labels that can be sorted"),
    ],
)
def test_values_and_labels_of_other_kinds_are_refused(values, groups, names):
    with pytest.raises(TypeError, match=names):
        measure.by_group(values, groups)
