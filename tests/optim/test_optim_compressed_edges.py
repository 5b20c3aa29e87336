"""Compressed where something fails, around and inside other wrappers, and with nothing to compress."""

import copy
import warnings

import pytest
import torch
from optim_cases import closure_for, equal, give_gradients, network, parameters, twins
from torch import nn

from optcourse import optim
from optcourse.optim import Compressed, Grid, Magnitude, compressed_stepper


class Fails:
    """Pruning that fails in one of its methods, once it is told to."""

    def __init__(self, where):
        self.inner, self.where, self.now = Magnitude(0.5), where, False

    def choose(self, weights, step):
        if self.now and self.where == "choose":
            raise KeyboardInterrupt
        return self.inner.choose(weights, step)

    def apply(self, weights, forms):
        if self.now and self.where == "apply":
            raise KeyboardInterrupt
        return self.inner.apply(weights, forms)[: -1 if self.now and self.where == "too few" else None]


@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize(
    ("where", "error"), [("choose", KeyboardInterrupt), ("apply", KeyboardInterrupt), ("too few", ValueError)]
)
def test_a_compressor_that_fails_changes_neither_weights_nor_memory(where, error, steps, feedback):
    """The parameters were left dense, and the memory one step behind them."""
    model = network()
    sgd = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    compressor = Fails(where)
    optimizer = Compressed(sgd, compressor, feedback=feedback)
    for _ in range(steps):
        optimizer.step(closure_for(model, optimizer))

    def memory(p):
        return {key: value for key, value in sgd.state.get(p, {}).items() if key.startswith("compressed_")}

    weights = [p for p in model.parameters() if p.dim() > 1]
    before, remembered = copy.deepcopy(weights), copy.deepcopy([memory(p) for p in weights])
    compressor.now = True
    for fail in (lambda: optimizer.step(closure_for(model, optimizer)), optimizer.compress):
        with pytest.raises(error):
            fail()
        assert equal(before, weights) and optimizer.taken == steps
        for p, then in zip(weights, remembered, strict=True):
            now = memory(p)
            assert now.keys() == then.keys() and all(torch.equal(now[key], then[key]) for key in now)


def test_lookahead_goes_inside():
    """The dense weights are those of Lookahead alone with the same gradients."""
    a = parameters(((5, 7), (7,)))
    b = twins(a)
    ours, alone = (optim.Lookahead(optim.SGD(ps, lr=0.1, momentum=0.9), k=3) for ps in (a, b))
    optimizer = Compressed(ours, Magnitude(0.5))
    for seed in range(7):
        give_gradients(a, b, seed=seed)
        optimizer.step()
        alone.step()
        assert int((a[0] == 0).sum()) == round(0.5 * 35)
    with optimizer.dense():
        assert equal(a, b)


def test_fine_tuning_keeps_the_mask():
    """As the module's table says; masks that are chosen again change, by what one update is worth."""
    model = network()
    sgd = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    closure_for(model, sgd)()
    sgd.step()
    optimizer = Compressed(sgd, Magnitude(0.5), every=10**9, feedback=False)
    optimizer.compress()
    zeros = [p == 0 for p in model.parameters()]
    for _ in range(40):
        optimizer.step(closure_for(model, optimizer))
    assert all(torch.equal(zero, p == 0) for zero, p in zip(zeros, model.parameters(), strict=True))


def net_without_inputs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: nothing to initialize
        return nn.Linear(0, 6)


@pytest.mark.parametrize("net", [nn.LayerNorm(3), net_without_inputs()], ids=["biases", "empty layer"])
@pytest.mark.parametrize("compressor", [Magnitude(0.5), Grid(4)], ids=str)
def test_rows_of_networks_with_nothing_to_compress(net, compressor):
    x = torch.ones(2, 6)
    assert torch.equal(compressed_stepper(net, Grid(4))(optim.SGD, lr=0.5)(x, x), x / 2)
