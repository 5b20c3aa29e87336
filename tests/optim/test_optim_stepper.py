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
