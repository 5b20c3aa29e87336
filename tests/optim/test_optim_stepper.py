"""The equation alone, for many rates at once, against the optimizer at each of them."""

import pytest
import torch
from optim_cases import CASES, equal
from torch import nn

from optcourse import optim
from optcourse.optim import stepper

#: They look at norms of layers, or at matrices: their step is more than their ``update``, which some inherit.
BY_LAYER = ("LARS", "LAMB", "SGDP", "AdamP", "Muon")
ELEMENTWISE = [case for case in CASES if case.name not in BY_LAYER]


@pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
def test_a_stepper_with_many_rates_equals_the_optimizer_with_each(case):
    rates = [0.003, 0.1]
    settings = {name: value for name, value in case.settings.items() if name != "lr"}
    x = torch.tensor([[1.0, 1.5, -2.0]] * 2, dtype=torch.float64)
    step = stepper(case.cls, lr=torch.tensor(rates, dtype=torch.float64)[:, None], **settings)
    params = [nn.Parameter(row.clone()) for row in x]
    optimizers = [case.make([p], lr=lr) for p, lr in zip(params, rates, strict=True)]
    for _ in range(12):
        x = step(x, x**3 - 1)
        for p, optimizer in zip(params, optimizers, strict=True):
            p.grad = p.detach() ** 3 - 1
            optimizer.step()
    for row, p in zip(x, params, strict=True):
        torch.testing.assert_close(row, p.detach(), rtol=1e-9, atol=1e-12)
    assert not equal([x[0]], [x[1]])


def test_every_method_is_a_stepper_or_refused():
    for name in {case.name for case in CASES} - {case.name for case in ELEMENTWISE} | {"SAM", "Lookahead"}:
        with pytest.raises(TypeError, match=f"^method must be an element-wise optimizer of optcourse.optim.*{name}"):
            stepper(getattr(optim, name), lr=0.1)


@pytest.mark.parametrize("method", [torch.optim.Adam, nn.Linear, "Adam"])
def test_other_things_are_refused(method):
    with pytest.raises(TypeError, match="^method must be"):
        stepper(method, lr=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0.1, "betas": (0.9, 1.0)}, "betas"),
        ({"lr": torch.tensor([0.1, -0.1])}, "lr must be in .*-0.1"),
        ({"lr": torch.tensor([0.1, torch.inf])}, "lr must be in .*inf"),
        ({"lr": torch.tensor([torch.nan, 0.1])}, "lr must be in .*nan"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        stepper(optim.Adam, **arguments)


@pytest.mark.parametrize("lr", [True, "0.1", None, torch.tensor([True])])
def test_rates_that_are_no_numbers_are_refused(lr):
    for make in (stepper, optim.layer_stepper(nn.Linear(1, 1))):
        with pytest.raises(TypeError, match="^lr must"):
            make(optim.SGD, lr=lr)


@pytest.mark.parametrize(
    "make", [stepper, optim.layer_stepper(nn.Linear(2, 1)), optim.lookahead_stepper(2)], ids=["each", "layers", "slow"]
)
def test_shapes_that_would_broadcast_are_refused(make):
    with pytest.raises(ValueError, match=r"gradient must have the shape \[3, 3\] of x, got \[3\]"):
        make(optim.SGD, lr=torch.tensor(0.1), momentum=0.9)(torch.ones(3, 3), torch.ones(3))
    step = make(optim.SGD, lr=torch.tensor(0.1), momentum=0.9)
    step(torch.ones(1, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"x must keep its shape \[1, 3\], got \[2, 3\]"):
        step(torch.ones(2, 3), torch.ones(2, 3))


def test_rates_that_would_stretch_x_are_refused():
    with pytest.raises(ValueError, match=r"lr must broadcast to the shape of x, got \[2, 1\] for \[1, 3\]"):
        stepper(optim.SGD, lr=torch.ones(2, 1))(torch.ones(1, 3), torch.ones(1, 3))


@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5), torch.tensor([0.5]), torch.full((3, 1), 0.5)])
def test_one_rate_is_that_of_all_rows(lr):
    step = optim.layer_stepper(nn.Linear(1, 1))(optim.SGD, lr=lr)
    assert torch.equal(step(torch.ones(3, 2), torch.ones(3, 2)), torch.full((3, 2), 0.5))


@pytest.mark.parametrize("given", [2, 4])
def test_another_number_of_rates_than_rows_is_refused(given):
    step = optim.layer_stepper(nn.Linear(1, 1))(optim.SGD, lr=torch.full((given, 1), 0.5))
    with pytest.raises(ValueError, match=f"lr must be one rate, or one for each of the 3 rows of x, got {given}"):
        step(torch.ones(3, 2), torch.ones(3, 2))


@pytest.mark.parametrize("settings", [{}, {"maximize": True, "weight_decay": 0.1}])
@pytest.mark.parametrize(
    "method, more",
    [(optim.LARS, {}), (optim.LAMB, {})]
    + [(method, {"delta": delta}) for method in (optim.SGDP, optim.AdamP) for delta in (0.1, 0.5, 1.0, 3.0)],
)
def test_rows_at_once_are_the_optimizers_one_after_the_other(method, more, settings):
    """Also where a layer's weights or gradients are zero; a refined method is not mistaken for the one it refines."""

    class Refined(method):
        pass

    net, generator = nn.Linear(3, 2).double(), torch.Generator().manual_seed(0)
    x, lr = torch.randn(4, 8, dtype=torch.float64, generator=generator), torch.tensor([[0.1], [0.2], [0.0], [0.4]])
    x[1, 6:] = 0
    rows, each = (optim.layer_stepper(net)(kind, lr=lr, **settings, **more) for kind in (method, Refined))
    y = x.clone()
    for k in range(5):
        lr.mul_(0.9)
        slope = x**2 - 0.3
        slope[0, :6] = slope[0, :6] if k else 0
        x, y = rows(x, slope), each(y, slope)
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-12)
