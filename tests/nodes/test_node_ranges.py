"""Ranges and defaults of compressors, rules and attacks: the ends are taken, what lies beyond is named."""

import inspect

import pytest
import torch

from optcourse.nodes.byzantine import aggregators, attacks
from optcourse.nodes.messages import compressors, factors
from optcourse.nodes.network.averaging import weighted_sum, weights
from optcourse.nodes.streams import Streams

X = torch.tensor([[1.0, -2.0], [0.5, 3.0], [4.0, 0.25], [-1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
LIARS = attacks.last_nodes(5, 2)


def streams(n=5):
    return Streams("test", 0, range(n))


def attacked(maker):
    return lambda value: maker(value)(X, LIARS, streams())


#: What is called with one argument, values at or just inside the ends of its range, values just outside.
RANGES = {
    "mean": (lambda f: aggregators.mean(X, f), [0, 5], [-1, 6]),
    "median": (lambda f: aggregators.median(X, f), [0, 2], [-1, 3]),
    "mean of one": (lambda n: aggregators.mean(X[:n], 0), [1], [0]),
    "krum": (lambda f: aggregators.krum(X, f), [0, 2], [-1, 3]),
    "krum_paper": (lambda f: aggregators.krum(X, f, "paper"), [0, 1], [-1, 2]),
    "rows of krum_paper": (lambda n: aggregators.krum(X[:n], 0, "paper"), [3, 4], [1, 2]),
    "m": (lambda m: aggregators.multi_krum(X, 2, m), [1, 3], [0, 4]),
    "tolerance": (lambda t: aggregators.geometric_median(X, 1, tolerance=t), [1e-12, 0.4999], [0.0, 0.5]),
    "iterations": (lambda k: aggregators.geometric_median(X, 1, iterations=k), [1, 2], [0]),
    "clipping steps": (lambda k: aggregators.centered_clipping(X, 1, iterations=k), [1, 2], [0]),
    "clipping radius": (lambda r: aggregators.centered_clipping(X, 1, radius=r), [1e-9, 0.5], [0.0, -0.5]),
    "size": (lambda s: aggregators.bucketing(aggregators.mean, s, torch.Generator())(X, 0), [1, 2], [0]),
    "f in buckets": (lambda f: aggregators.bucketing(aggregators.mean, 2, torch.Generator())(X, f), [0, 5], [-1, 6]),
    "nodes": (lambda n: attacks.last_nodes(n, 0), [1, 2], [0]),
    "byzantine nodes": (lambda f: attacks.last_nodes(5, f), [0, 5], [-1, 6]),
    "sign_flip": (attacked(attacks.sign_flip), [0.0, 0.5], [-1e-9]),
    "noise": (attacked(attacks.noise), [0.0, 0.5], [-1e-9]),
    "inner_product": (attacked(attacks.inner_product), [0.0, 0.5], [-1e-9]),
    "alie": (attacked(attacks.alie), [0.0, 0.5], [-1e-9]),
    "alie_z of n": (lambda n: attacks.alie_z(n, 0), [1, 2], [0]),
    "alie_z of f": (lambda f: attacks.alie_z(8, f), [0, 4], [-1, 5]),
    "mimic": (attacked(attacks.mimic), [0, 2], [-1, 3, 5]),
    "classes": (lambda C: attacks.label_flip(torch.tensor([0]), C), [1, 2], [0]),
    "labels": (lambda y: attacks.label_flip(torch.tensor([y]), 3), [0, 2], [-1, 3]),
    "top_k": (lambda k: compressors.top_k(k)(X), [1, 2], [0, 3]),
    "random_k": (lambda k: compressors.random_k(k, streams())(X), [1, 2], [0, 3]),
    "shared streams": (lambda n: compressors.random_k(1, streams(n), shared=True)(X), [1], [2]),
    "levels": (lambda s: compressors.qsgd(s, streams())(X), [1, 2, 2**23], [0, 2**23 + 1]),
    "bucket": (lambda b: compressors.qsgd(4, streams(), b)(X), [1, 2, 3], [0]),
    "rank": (lambda r: compressors.low_rank([(1, 2)], r, streams=streams()), [1], [0, 2]),
    "power iterations": (lambda k: compressors.low_rank([(1, 2)], 1, k, streams=streams())(X), [1, 2], [0]),
    "sides": (lambda a: factors.sizes([(a, 2)]), [1, 2], [0]),
    "columns": (lambda r: factors.orthogonalize(torch.ones(1, 2, r)), [1, 2], [3]),
    "weight": (lambda w: weights(torch.tensor([w, 0.0]), 2), [1e-9, -2.0, 1.0], [0.0, float("nan"), float("inf")]),
}


@pytest.mark.parametrize("name", RANGES)
def test_a_range_ends_where_it_says(name):
    call, inside, outside = RANGES[name]
    for value in inside:
        call(value)
    for value in outside:
        with pytest.raises(ValueError, match="must|needs"):
            call(value)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (aggregators.geometric_median, {"tolerance": 1e-8, "iterations": 1000}),
        (aggregators.centered_clipping, {"center": None, "radius": "median", "iterations": 3}),
        (aggregators.multi_krum, {"m": None, "neighbours": "honest"}),
        (attacks.sign_flip, {"scale": 1.0}),
        (attacks.noise, {"scale": 10.0}),
        (attacks.inner_product, {"epsilon": 0.1}),
        (attacks.alie, {"z": None, "sample": "honest"}),
        (attacks.mimic, {"target": None, "warmup": 1}),
        (compressors.low_rank, {"rank": 1, "iterations": 1}),
        (factors.power_factors, {"iterations": 1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_arguments_that_are_not_given(function, expected):
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == expected


def test_a_weight_of_one_counts_and_a_weight_of_zero_hides():
    q = torch.tensor([[1.0, 2.0], [10.0, 20.0], [float("nan"), 1.0]])
    assert weighted_sum(torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), q).tolist() == [6.0, 12.0]


def test_a_row_that_is_the_geometric_median_is_returned_bit_by_bit():
    """Half of the rows are alike, and not in the middle of any column: center + (row - center) would be rounded."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        row, *others = torch.randn(3, 5, generator=generator, dtype=torch.float64)
        assert torch.equal(aggregators.geometric_median(torch.stack([others[0], row, row, others[1]]), 1), row)


def test_a_loose_tolerance_stops_after_a_short_step():
    square = torch.tensor([[1.0, 0.1], [-1.0, 0.0], [0.0, 1.0], [0.2, -1.3]], dtype=torch.float64)
    one = aggregators.geometric_median(square, 1, tolerance=0.4, iterations=1)
    assert torch.equal(aggregators.geometric_median(square, 1, tolerance=0.4), one)
    assert not torch.equal(aggregators.geometric_median(square, 1), one)
