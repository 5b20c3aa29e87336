"""Lookahead on rows against the optimizer, row by row."""

import numpy as np
import pytest
import torch

from optcourse import optim


def loss_gradient(x):
    """Of sum(cos(x) + x^2 / 4): not linear, so that a wrong order of steps shows."""
    return x / 2 - torch.sin(x)


@pytest.mark.parametrize(
    ("method", "settings"), [(optim.SGD, {}), (optim.SGD, {"momentum": 0.9}), (optim.Adam, {"betas": (0.8, 0.9)})]
)
@pytest.mark.parametrize(("k", "alpha"), [(1, 0.5), (3, 0.3), (4, 0.8), (5, 1.0), (2, 0.0)])
def test_rows_go_where_the_optimizer_goes(method, settings, k, alpha):
    rates = torch.tensor([[0.05], [0.3]], dtype=torch.float64)
    x = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parameters = [torch.nn.Parameter(row.clone()) for row in x]
    optimizers = [
        optim.Lookahead(method([p], lr=float(lr), **settings), k=k, alpha=alpha)
        for p, lr in zip(parameters, rates, strict=True)
    ]
    step = optim.lookahead_stepper(k, alpha)(method, lr=rates, **settings)
    for _ in range(11):
        x = step(x, loss_gradient(x))
        for p, optimizer in zip(parameters, optimizers, strict=True):
            p.grad = loss_gradient(p.detach())
            optimizer.step()
        torch.testing.assert_close(x, torch.stack([p.detach() for p in parameters]), rtol=1e-13, atol=1e-13)


def test_it_goes_around_layer_wise_methods_too_and_alpha_one_is_the_inner_method():
    net, x = torch.nn.Linear(3, 2), torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    inner = optim.layer_stepper(net)
    lr = torch.full((2, 1), 0.1)
    alone, wrapped, half = (
        make(optim.LARS, lr=lr)
        for make in (inner, optim.lookahead_stepper(3, 1.0, inner), optim.lookahead_stepper(3, 0.5, inner))
    )
    a = b = c = x
    for _ in range(3):
        a, b, c = alone(a, loss_gradient(a)), wrapped(b, loss_gradient(b)), half(c, loss_gradient(c))
    assert torch.equal(a, b)
    torch.testing.assert_close(c, (x + a) / 2)  # the first cycle, too, goes half the way back


def test_a_rate_that_changes_in_place_is_seen():
    lr = torch.full((1, 1), 1.0)
    step = optim.lookahead_stepper(k=2, alpha=0.5)(optim.SGD, lr=lr)
    x = step(torch.zeros(1, 1), torch.ones(1, 1))
    lr.fill_(3.0)
    assert step(x, torch.ones(1, 1)).item() == -2.0  # half of -(1 + 3)


def test_what_the_caller_writes_into_x_is_not_the_slow_weights():
    """An x that is updated in place, as a buffer is."""
    step, x, seen = optim.lookahead_stepper(k=2)(optim.SGD, lr=0.5), torch.ones(1, 1), []
    for _ in range(4):
        x.copy_(step(x, torch.ones(1, 1)))
        seen.append(x.item())
    step, y = optim.lookahead_stepper(k=2)(optim.SGD, lr=0.5), torch.ones(1, 1)
    for _ in range(4):
        y = step(y, torch.ones(1, 1)).mul_(1)
        y.add_(1).sub_(1)
    assert seen == [0.5, 0.5, 0.0, 0.0] and y.item() == 0.0
    step = optim.lookahead_stepper(k=1)(optim.SGD, lr=0.5)
    x = step(torch.ones(1, 1), torch.ones(1, 1))  # slow: 0.75
    assert step(x.zero_(), torch.zeros(1, 1)).item() == 0.375  # half the way from 0.75 to 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 1.5}, TypeError, "k must be an integer"),
        ({"alpha": 1.1}, ValueError, r"alpha must be in \[0, 1\], got 1.1"),
        ({"alpha": np.nan}, ValueError, "alpha must be in"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        optim.lookahead_stepper(**arguments)
