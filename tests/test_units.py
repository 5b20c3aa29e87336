"""Hidden units in another order: the same function, and the order that brings two networks together."""

import itertools

import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from optcourse import models
from optcourse.models.units import align, reorder

SIZES = (3, 4, 2)


def network(seed):
    return models.mlp(3, 2, width=4, depth=1, seed=seed).double()


def weights(seed):
    return parameters_to_vector(network(seed).parameters()).detach()


def test_every_order_is_the_same_function():
    x, points, net = weights(0), torch.randn(9, 3, dtype=torch.float64), network(1)
    expected = network(0)(points)
    for order in itertools.permutations(range(4)):
        vector_to_parameters(reorder(x, torch.tensor(order), SIZES), net.parameters())
        torch.testing.assert_close(net(points), expected)


def test_the_order_is_the_nearest_of_all_and_undoes_a_shuffle():
    x, other = weights(0), weights(1)
    copies = [reorder(x, torch.tensor(order), SIZES) for order in itertools.permutations(range(4))]
    nearest = min(copies, key=lambda copy: float((copy - other).norm()))
    assert torch.equal(align(x, other, SIZES), nearest)
    assert all(torch.equal(align(copy, x, SIZES), x) for copy in copies)


@pytest.mark.parametrize(
    ("x", "order", "sizes", "message"),
    [
        (torch.zeros(25), torch.arange(4), SIZES, r"x must have shape \[26\] for sizes \(3, 4, 2\), got \[25\]"),
        (
            torch.zeros(26),
            torch.tensor([0, 1, 2, 2]),
            SIZES,
            r"order must be a permutation of 0..3, got \[0, 1, 2, 2\]",
        ),
        (torch.zeros(26), torch.arange(4), (3, 0, 2), r"sizes\[1\] must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(x, order, sizes, message):
    with pytest.raises(ValueError, match=message):
        reorder(x, order, sizes)
