"""Schedules against torch's schedulers and closed forms; adaptive clipping against loops."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from optcourse import optim


def rates(make, steps=60):
    optimizer = optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler, seen = make(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


PAIRS = {
    "warmup": (partial(optim.warmup, steps=10), lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=9)),
    "step": (partial(optim.step_decay, every=7, factor=0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
    "exponential": (partial(optim.exponential, rate=0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    "triangular": (
        partial(optim.triangular, half_period=8, low=0.2),
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.5, 8, cycle_momentum=False),
    ),
    "cosine": (
        partial(optim.cosine_restarts, period=10, low=0.1),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, eta_min=0.05),
    ),
    "growing": (
        partial(optim.cosine_restarts, period=5, growth=2),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, T_mult=2),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_through_lambda_lr_a_schedule_equals_torchs(name):
    function, theirs = PAIRS[name]
    ours = rates(lambda o: lr_scheduler.LambdaLR(o, function))
    np.testing.assert_allclose(ours, rates(theirs), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", PAIRS)
def test_an_array_of_steps_gives_an_array_of_multipliers(name):
    function, _ = PAIRS[name]
    many = function(np.arange(100))
    assert isinstance(function(3), float)
    np.testing.assert_allclose(many, [function(t) for t in range(100)], rtol=1e-14)
    assert many.min() >= 0 and many.max() <= 1


@given(period=st.integers(1, 50), growth=st.integers(1, 4), restarts=st.integers(0, 6))
def test_cosine_restarts_begin_at_one(period, growth, restarts):
    start = sum(period * growth**i for i in range(restarts))
    assert optim.cosine_restarts(start, period=period, growth=growth) == 1.0


BAD = [
    (optim.warmup, {"steps": 0}, "steps"),
    (optim.step_decay, {"every": 0}, "every"),
    (optim.step_decay, {"every": 3, "factor": 1.5}, "factor"),
    (optim.exponential, {"rate": 0.0}, "rate"),
    (optim.triangular, {"half_period": 0}, "half_period"),
    (optim.triangular, {"half_period": 3, "low": -0.1}, "low"),
    (optim.cosine_restarts, {"period": 0}, "period"),
    (optim.cosine_restarts, {"period": 3, "growth": 0}, "growth"),
    (optim.cosine_restarts, {"period": 3, "low": 1.1}, "low"),
    (partial(optim.warmup, steps=3), {"step": -1}, "step"),
]


@pytest.mark.parametrize(("function", "arguments", "name"), BAD)
def test_bad_arguments_are_named(function, arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        function(**{"step": 0, **arguments})


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 2, 2), (6,), ()])
def test_clipping_by_loops(shape):
    rng = np.random.default_rng(0)
    w, g = rng.normal(size=shape), 3 * rng.normal(size=shape)
    if len(shape) > 1:
        w[0], g[1] = 0.0, 0.0  # a unit that starts at zero, one without gradient
    p = torch.nn.Parameter(torch.tensor(w))
    p.grad = torch.tensor(g)
    found = optim.adaptive_clip_grad_([p], 0.5)
    expected, worst = np.array(g), 0.0
    for i in range(shape[0]) if len(shape) > 1 else [...]:
        ratio = np.linalg.norm(g[i]) / max(np.linalg.norm(w[i]), 1e-3)
        worst = max(worst, ratio)
        if ratio > 0.5:
            expected[i] = g[i] * 0.5 / ratio
    np.testing.assert_allclose(p.grad, expected, rtol=1e-13)
    assert found.item() == pytest.approx(worst, rel=1e-13)
    before = p.grad.clone()
    optim.adaptive_clip_grad_(p, 0.5 + 1e-9)
    assert torch.equal(p.grad, before), "what is small enough is not touched"


def test_clipping_skips_parameters_without_gradient():
    assert optim.adaptive_clip_grad_([torch.nn.Parameter(torch.ones(2))], 0.1) == 0


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (2, 0, 3)])
def test_clipping_has_nothing_to_do_where_there_are_no_numbers(shape):
    p = torch.nn.Parameter(torch.zeros(shape))
    p.grad = torch.zeros(shape)
    assert optim.adaptive_clip_grad_(p, 0.1) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 6e4, 1e30])
@pytest.mark.parametrize("shape", [(2, 3), (5,)])
def test_clipping_at_any_scale_and_precision(dtype, size, shape):
    p = torch.nn.Parameter(torch.full(shape, 0.5, dtype=dtype))
    g = torch.full(shape, min(size, torch.finfo(dtype).max), dtype=torch.float64).to(dtype)
    p.grad = g.clone()
    rows = math.sqrt(shape[-1])
    ratio = g.flatten()[0].item() * rows / max(0.5 * rows, 1e-3)
    assert optim.adaptive_clip_grad_(p, 0.01).item() == pytest.approx(ratio, rel=1e-6)
    expected = g.double() * min(1.0, 0.01 / ratio if ratio else 1.0)
    torch.testing.assert_close(p.grad.double(), expected, rtol=torch.finfo(dtype).eps, atol=0)


def test_clipping_shows_nan_and_leaves_other_units_alone():
    p = torch.nn.Parameter(torch.ones(2, 2))
    p.grad = torch.tensor([[math.nan, 1.0], [0.0, 1.0]])
    assert optim.adaptive_clip_grad_((q for q in [p]), 0.1).isnan()
    assert p.grad[0].isnan().any() and p.grad[1, 1].item() == pytest.approx(0.1 * math.sqrt(2))


def test_clipping_names_what_is_no_parameter():
    layer = torch.nn.Linear(2, 1)
    sparse = torch.nn.Embedding(3, 2, sparse=True)
    sparse(torch.tensor([1])).sum().backward()
    layer.weight.grad = torch.ones(1, 2)
    for parameters in (layer.named_parameters(), layer, [{"params": [layer.weight]}]):
        with pytest.raises(TypeError, match="^parameters must be"):
            optim.adaptive_clip_grad_(parameters, 0.01)
    with pytest.raises(ValueError, match="^parameters must have dense gradients"):
        optim.adaptive_clip_grad_([layer.weight, sparse.weight], 0.01)
    assert torch.equal(layer.weight.grad, torch.ones(1, 2)), "nothing is clipped by half"


@pytest.mark.parametrize(
    ("arguments", "name"), [({"clip_factor": 0.0}, "clip_factor"), ({"clip_factor": 1.0, "eps": 0.0}, "eps")]
)
def test_clipping_names_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        optim.adaptive_clip_grad_([], **arguments)
