"""Samples read off a gradient: by division and by search."""

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from optcourse import models
from optcourse.nodes import first_layer_inputs, match_gradient, repeated_inputs

NET = models.mlp(6, 3, width=40, depth=1, seed=0).double()
X, Y = torch.rand(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])


def first_layer(net, x, y):
    layer = net[1]
    return torch.autograd.grad(cross_entropy(net(x), y), [layer.weight, layer.bias])


def test_every_quotient_of_one_sample_is_the_sample():
    inputs, units = first_layer_inputs(*first_layer(NET, X[:1], Y[:1]))
    assert torch.equal(units, (NET[1](X[:1]) > 0)[0])  # those that fire
    torch.testing.assert_close(inputs, X[:1].expand_as(inputs), rtol=0, atol=1e-12)


def test_twins_of_a_batch_are_samples_and_others_are_not_trusted():
    """A unit that fires for one sample gives it away; the attacker trusts quotients that come twice, and only these."""
    dW, db = first_layer(NET, X, Y)
    inputs, units = first_layer_inputs(dW, db)
    alone = ((NET[1](X) > 0)[:, units]).sum(0) == 1
    trusted = repeated_inputs(inputs)
    assert trusted.any() and alone[trusted].all()
    distance = (inputs[trusted][:, None] - X[None]).norm(dim=-1).min(1).values
    assert distance.max() < 1e-12
    owner = (NET[1](X) > 0)[:, units].double().argmax(0)
    for k in range(len(X)):  # whoever has two units of its own is found
        own = alone & (owner == k)
        assert trusted[own].all() == (int(own.sum()) >= 2 or not own.any())


def test_the_search_finds_the_sample_and_its_label():
    net = models.mlp(6, 3, width=16, depth=1, activation="tanh", seed=0).double()
    weights = [net[1].weight, net[-1].weight]

    def gradient_of(x, p, **options):
        return torch.autograd.grad(-(p * net(x).log_softmax(-1)).sum(), weights, **options)

    sent = gradient_of(X[:1], one_hot(Y[:1], 3).double())
    guess = torch.full((1, 6), 0.5, dtype=torch.float64)
    found = match_gradient(gradient_of, sent, guess, 3, iterations=300, marks=(0, 4))
    assert len(found.inputs) == 3 and torch.equal(found.inputs[0], guess)
    torch.testing.assert_close(found.inputs[-1], X[:1], rtol=0, atol=1e-3)
    assert found.label == int(Y[0])
    assert torch.equal(guess, torch.full((1, 6), 0.5, dtype=torch.float64))  # not written to


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"must have shapes \[width, d\] and \[width\], got \[4, 3\] and \[3\]"):
        first_layer_inputs(torch.ones(4, 3), torch.ones(3))
    with pytest.raises(ValueError, match=r"inputs must have shape \[k, d\], got \[3\]"):
        repeated_inputs(torch.ones(3))
    with pytest.raises(ValueError, match=r"tol must be in \(0, inf\)"):
        repeated_inputs(torch.ones(3, 2), tol=0.0)
    nothing = [torch.zeros(2, 2)]
    with pytest.raises(ValueError, match="sent must hold a gradient that is not zero"):
        match_gradient(lambda *a, **k: nothing, nothing, torch.zeros(1, 2), 3)
    with pytest.raises(ValueError, match="n_classes must be at least 2, got 1"):
        match_gradient(lambda *a, **k: nothing, [torch.ones(2, 2)], torch.zeros(1, 2), 1)
