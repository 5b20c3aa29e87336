"""A contest of many methods at once is what each method does alone."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from optcourse import models, optim
from optcourse.models import rows
from optcourse.training import contest, fit

STEPS, EVERY = 6, 3
X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (40,), generator=torch.Generator().manual_seed(1))
LAYERWISE = {
    "SGDP": (optim.SGDP, {"nesterov": True}),
    "AdamP": (optim.AdamP, {}),
    "LARS": (optim.LARS, {"trust": 1.0}),
    "LAMB": (optim.LAMB, {}),
    "Muon": (contest.muon_with_adam, {}),
}


def network(seed):
    return models.mlp(5, 3, width=4, depth=1, seed=seed)


def field():
    layers = optim.layer_stepper(network(0), shared=True)
    return {
        "SGD": partial(optim.stepper, optim.SGD, momentum=0.9),
        "Adam": partial(optim.stepper, optim.Adam),
        **{name: partial(layers, method, **settings) for name, (method, settings) in LAYERWISE.items()},
    }


def run(rates, **options):
    nets, sets = [network(7), network(8)], ((X[:30], Y[:30]), (X[30:], Y[30:]))
    options = {"orders": (3, 4), "batch_size": 10, "steps": STEPS, "every": EVERY, **options}
    return contest.race(nets, *sets, field(), rates, **options)


def alone(make, seed, order):
    """Held-out losses of one network that ``fit`` trains."""
    net, seen = network(seed), []
    look = lambda *_: seen.append(cross_entropy(net(X[30:]), Y[30:]).item())  # noqa: E731
    look()
    fit(net, (X[:30], Y[:30]), make(net.parameters()), steps=STEPS, batch_size=10, seed=order, callbacks=[look])
    return seen[::EVERY]


@pytest.mark.parametrize("name", ["SGD", "Adam", "LARS", "SGDP", "Muon"])
def test_every_copy_is_the_network_that_is_trained_alone(name):
    rates = {"Adam": [0.01], "SGD": [0.05, 0.1], "LARS": [0.01, 0.03], "SGDP": [0.1], "Muon": [0.03]}
    losses = run(rates)
    method, settings = {"SGD": (optim.SGD, {"momentum": 0.9}), "Adam": (optim.Adam, {}), **LAYERWISE}[name]
    assert losses[name].shape == (STEPS // EVERY + 1, len(rates[name]), 2)
    for i, rate in enumerate(rates[name]):
        for j, (seed, order) in enumerate(((7, 3), (8, 4))):
            expected = alone(lambda p, rate=rate: method(p, lr=rate, **settings), seed, order)
            np.testing.assert_allclose(losses[name][:, i, j], expected, rtol=1e-4)  # float32, sums in another order


@pytest.mark.parametrize("name", LAYERWISE)
def test_rows_that_share_an_optimizer_step_as_if_each_had_its_own(name):
    method, settings = LAYERWISE[name]
    lr = torch.tensor([0.1, 0.02, 0.1, 0.02, 0.1]).view(-1, 1)
    apart, shared = (
        optim.layer_stepper(network(0), shared=share)(method, lr=lr, **settings) for share in (False, True)
    )
    d = models.n_parameters(network(0))
    x = y = torch.randn(5, d, generator=torch.Generator().manual_seed(2))
    for k in range(3):
        g = torch.randn(5, d, generator=torch.Generator().manual_seed(k))
        x, y = apart(x, g), shared(y, g)
    torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-7)
    if hasattr(method, "update_rows"):  # takes all rows at once, whatever their rates
        return
    lr[0] = 0.05  # a schedule that parts rows of one optimizer
    with pytest.raises(ValueError, match="lr must stay equal"):
        shared(y, y)
    assert apart(x, x).isfinite().all()


def test_a_divergent_method_is_infinite_and_harms_no_other():
    losses = run({"SGD": [0.05, 1e30], "Adam": [0.01]})
    assert np.isinf(losses["SGD"][-1, 1]).all() and np.isfinite(losses["SGD"][:, 0]).all()
    np.testing.assert_array_equal(losses["Adam"], run({"Adam": [0.01], "SGD": [0.05]})["Adam"])


@pytest.mark.parametrize("rates", [{}, {"SGD": []}, {"other": [0.1]}, {"SGD": [[0.1]]}, {"SGD": [-0.1]}])
def test_bad_rates_are_refused(rates):
    with pytest.raises(ValueError, match="rates"):
        run(rates)


@pytest.mark.parametrize("held", [0, 3])
def test_no_or_unequal_held_out_samples_are_refused(held):
    with pytest.raises(ValueError, match="held_out"):
        contest.race(
            [network(7)], (X, Y), (X[:held], Y[:0]), field(), {"SGD": [0.1]}, orders=[0], batch_size=9, steps=1
        )


def test_steps_and_choice_by_hand():
    # [looks, rates, seeds], every 2 steps
    losses = np.array([[[9, 9], [9, 9], [9, 9]], [[5, 2], [1, 9], [4, 4]], [[1, 2], [1, 9], [3, 3]]], dtype=float)
    np.testing.assert_array_equal(contest.steps_to(losses, 2.0, every=2), [[4, 2], [2, np.inf], [np.inf, np.inf]])
    assert contest.choose(losses, 2.0, every=2) == 0  # means 3; 5 (never: 8); 8
    assert contest.choose(losses[:, 1:], 0.5, every=2) == 1  # nobody arrives: the final loss decides, 3 < 5
    assert contest.steps_to(losses[:, 0], 9.0, every=2).tolist() == [0, 0]
    bad = np.where(losses == 1, np.inf, losses)
    assert contest.choose(bad, 2.0, every=2) == 0
    with pytest.raises(ValueError, match=r"losses must have shape \[looks"):
        contest.steps_to(losses[:0], 2.0, every=2)
    with pytest.raises(ValueError, match=r"losses must have shape \[looks, rates, seeds"):
        contest.choose(losses[0], 2.0, every=2)
    with pytest.raises(ValueError, match="every must be"):
        contest.steps_to(losses, 2.0, every=0)


def test_muon_takes_matrices_and_adam_the_rest():
    parameters = list(network(0).parameters())
    together = contest.muon_with_adam(parameters, lr=0.1)
    muon, adam = together.optimizers
    assert {p.dim() for g in muon.param_groups for p in g["params"]} == {2}
    assert {p.dim() for g in adam.param_groups for p in g["params"]} == {1}
    assert sum(len(g["params"]) for g in together.param_groups) == len(parameters)
    for shape, kind in (((2, 3), optim.Muon), ((3,), optim.Adam)):  # a network without offsets, one without matrices
        (only,) = contest.muon_with_adam([torch.nn.Parameter(torch.zeros(shape))], lr=0.1).optimizers
        assert type(only) is kind
    with pytest.raises(ValueError, match="empty parameter list"):
        contest.muon_with_adam([], lr=0.1)


def test_muon_with_adam_is_at_home_in_a_loop():
    net = network(0)
    together = contest.muon_with_adam(net.parameters(), lr=0.01)

    def closure():
        together.zero_grad()
        loss = cross_entropy(net(X), Y)
        loss.backward()
        return loss

    with torch.no_grad():  # as torch's optimizers do, it lets the closure differentiate
        losses = [together.step(closure).item() for _ in range(5)]
    assert losses[-1] < losses[0]
    together.zero_grad()
    assert all(p.grad is None for p in net.parameters()) and together.step() is None


def test_muon_side_by_side_takes_the_steps_of_muon_with_adam():
    """A convolution, matrices, offsets and two rates: rows by vmap against one optimizer for each row."""
    net = models.cnn2d(channels=(3, 4), strides=(2, 2), seed=0).double()
    start = rows.stack([net, models.cnn2d(channels=(3, 4), strides=(2, 2), seed=1).double()])
    lr, draws = torch.tensor([[0.01], [0.1]], dtype=torch.float64), torch.Generator().manual_seed(0)
    for settings in ({}, {"weight_decay": 0.5}):
        one = contest.muon_stepper(net)(None, lr=lr, **settings)
        other = optim.layer_stepper(net)(contest.muon_with_adam, lr=lr, **settings)
        x = y = start
        for _ in range(5):
            g = torch.randn(start.shape, generator=draws, dtype=torch.float64)
            x, y = one(x, g), other(y, g)
            torch.testing.assert_close(x, y, rtol=0, atol=1e-12)
        assert (x - start).abs().max() > 0.01
    with pytest.raises(ValueError, match="weight_decay"):
        contest.muon_stepper(net)(None, lr=lr, weight_decay=-1.0)


def test_muons_weight_decay_is_off_unless_asked_for():
    for decay, factor in ((0.0, 1.0), (0.5, 0.95)):
        (p,) = [torch.nn.Parameter(torch.ones(2, 3))]
        p.grad = torch.zeros(2, 3)
        contest.muon_with_adam([p], lr=0.1, weight_decay=decay).step()
        torch.testing.assert_close(p.detach(), torch.full((2, 3), factor))
