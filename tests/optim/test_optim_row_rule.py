"""``RowRule`` against ``stepper``, which keeps the state inside, and against torch."""

from functools import partial

import pytest
import torch

from optcourse import optim
from optcourse.optim import RowRule, stepper

METHODS = {
    "SGD": partial(optim.SGD),
    "momentum": partial(optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
    "dampened": partial(optim.SGD, momentum=0.9, dampening=0.3),
    "Adam": partial(optim.Adam, betas=(0.8, 0.9), maximize=True),
    "AMSGrad": partial(optim.Adam, amsgrad=True),
    "AdamW": partial(optim.AdamW, weight_decay=0.3),
    "NAdam": partial(optim.NAdam),
    "RAdam": partial(optim.RAdam),
    "Adamax": partial(optim.Adamax),
    "Adagrad": partial(optim.Adagrad, initial_accumulator_value=0.5),
    "Adadelta": partial(optim.Adadelta),
    "RMSprop": partial(optim.RMSprop, centered=True, momentum=0.5),
    "Lion": partial(optim.Lion),
}


def gradients(steps=7):
    return torch.randn(steps, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", METHODS)
def test_a_rule_is_the_stepper_with_its_state_outside(name):
    method = METHODS[name]
    rule, step = RowRule(method.func, **method.keywords), stepper(method.func, lr=0.1, **method.keywords)
    x = y = torch.ones(3, 5, dtype=torch.float64)
    state = rule.start(x)
    for g in gradients():
        before = [t.clone() for t in state]
        y, (x, new) = step(y, g), rule(x, g, state, 0.1)
        assert torch.equal(x, y)
        assert all(torch.equal(t, b) for t, b in zip(state, before, strict=True))  # pure
        assert all(len(t) == 3 for t in new) and len(new) == len(state)
        state = new


def test_the_rate_may_change_as_under_torch_s_schedules():
    rule, p = RowRule(optim.Adam), torch.nn.Parameter(torch.ones(3, 5, dtype=torch.float64))
    reference = torch.optim.Adam([p], lr=1.0)
    x = p.detach().clone()
    state = rule.start(x)
    for k, g in enumerate(gradients()):
        reference.param_groups[0]["lr"], p.grad = 0.1 / (k + 1), g
        reference.step()
        x, state = rule(x, g, state, 0.1 / (k + 1))
        torch.testing.assert_close(x, p.detach(), rtol=1e-14, atol=1e-14)


def test_what_looks_at_layers_is_refused():
    with pytest.raises(TypeError, match="method must be an element-wise optimizer"):
        RowRule(optim.LARS)
    with pytest.raises(ValueError, match="momentum"):
        RowRule(optim.SGD, momentum=-1.0)
