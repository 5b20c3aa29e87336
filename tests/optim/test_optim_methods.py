"""Element-wise methods: traces by hand, identities of the theory, and the equation as a pure function."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_cases import CASES, gap, give_gradients, parameters

from optcourse import optim

ELEMENTWISE = [c for c in CASES if c.name not in ("LARS", "LAMB", "SGDP", "AdamP", "Muon")]


def noisy_slope(x, noise):
    return x + torch.sin(3 * x) + noise  # not convex


def descend(optimizer, p, noises, rate=None):
    path = []
    for t, noise in enumerate(noises):
        if rate is not None:
            optimizer.param_groups[0]["lr"] = rate(t)
        p.grad = noisy_slope(p.detach(), noise)
        optimizer.step()
        path.append(p.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgdw_is_momentum_with_a_penalty_under_the_closed_map(nesterov):
    """beta' = beta (1 - lr w), lambda' = w (1 - beta), buffer w x0 / (1 - lr w): same iterates at a constant rate."""
    lr, beta, w = 0.05, 0.9, 0.3
    noises = torch.randn(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = parameters([(6,)])[0].detach()
    p, q = torch.nn.Parameter(x0.clone()), torch.nn.Parameter(x0.clone())
    decoupled = optim.SGDW([p], lr=lr, momentum=beta, weight_decay=w, nesterov=nesterov)
    penalty = optim.SGD([q], lr=lr, momentum=beta * (1 - lr * w), weight_decay=w * (1 - beta), nesterov=nesterov)
    penalty.state[q] = {"step": 1, "m": w * x0 / (1 - lr * w)}
    difference = (descend(decoupled, p, noises) - descend(penalty, q, noises)).abs().max()
    if nesterov:  # the map is for the heavy ball: the look-ahead uses beta as well
        assert difference > 1e-3
    else:
        assert difference < 1e-9


def test_a_schedule_breaks_the_map():
    lr, beta, w = 0.05, 0.9, 0.3
    noises = torch.zeros(60, 3, dtype=torch.float64)
    x0 = parameters([(3,)])[0].detach()
    p, q = torch.nn.Parameter(x0.clone()), torch.nn.Parameter(x0.clone())
    decoupled = optim.SGDW([p], lr=lr, momentum=beta, weight_decay=w)
    penalty = optim.SGD([q], lr=lr, momentum=beta * (1 - lr * w), weight_decay=w * (1 - beta))
    penalty.state[q] = {"step": 1, "m": w * x0 / (1 - lr * w)}

    def rate(t):
        return lr / (1 + 0.1 * t)

    assert (descend(decoupled, p, noises, rate) - descend(penalty, q, noises, rate)).abs().max() > 1e-3


def test_adamw_ends_in_the_box_and_adam_at_the_penalized_minimum():
    """f = sum a (x - c)^2 / 2: AdamW tends to clip(c, 1/w), Adam with a penalty to a c / (a + w)."""
    a, c, w = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.3, 3.0, -4.0]), 1.0
    ends = {}
    for name in ("AdamW", "Adam"):
        p = torch.nn.Parameter(torch.zeros(3))
        optimizer = getattr(optim, name)([p], lr=0.05, weight_decay=w)
        for t in range(6000):
            optimizer.param_groups[0]["lr"] = 0.05 / (1 + t / 100)
            p.grad = a * (p.detach() - c)
            optimizer.step()
        ends[name] = p.detach()
    torch.testing.assert_close(ends["AdamW"], c.clamp(-1 / w, 1 / w), atol=5e-3, rtol=0)
    torch.testing.assert_close(ends["Adam"], a * c / (a + w), atol=1e-3, rtol=0)


@pytest.mark.parametrize("alpha", [0.9, 0.99])
@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_centered_rmsprop_divides_by_the_true_deviation_of_nearly_constant_gradients(alpha, noise):
    """In single precision, ``v - mean²`` is rounding there, and may be negative; the oracle is torch in double."""
    generator = torch.Generator().manual_seed(0)
    g = torch.rand(500, generator=generator) * 10 ** (torch.rand(500, generator=generator) * 4 - 2)
    p, q = torch.nn.Parameter(torch.ones(500)), torch.nn.Parameter(torch.ones(500, dtype=torch.float64))
    settings = {"lr": 1e-4, "alpha": alpha, "centered": True, "eps": 1e-6}
    runs = optim.RMSprop([p], **settings), torch.optim.RMSprop([q], **settings)
    for _ in range(300):
        p.grad = g * (1 + noise * torch.randn(500, generator=generator))
        q.grad = p.grad.double()
        for run in runs:
            run.step()
    moved = (q.detach() - 1).abs()
    assert moved.min() > 0.01
    if noise:  # of a constant gradient the deviation tends to zero, and with it the accuracy of any step
        assert ((p.detach() - q.detach()).abs() / moved).max() < 0.02
    assert p.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_centered_rmsprop_is_finite_in_half_precision(dtype):
    p = torch.nn.Parameter(torch.ones(50, dtype=dtype))
    optimizer = optim.RMSprop([p], lr=1e-4, alpha=0.9, centered=True, momentum=0.5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        p.grad = (3 + 0.01 * torch.randn(50, generator=generator)).to(dtype)
        optimizer.step()
        assert p.isfinite().all() and (optimizer.state[p]["s"] >= 0).all()


def test_lion_trace_by_hand():
    """From x = 1, m = 0, lr = 1/8, decay 1/2, betas (1/2, 3/4): gradients 4, -8, 0, 0."""
    p = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.Lion([p], lr=0.125, betas=(0.5, 0.75), weight_decay=0.5)
    # c: 2, -3.5, -0.625, -0.46875; m: 1, -1.25, -0.9375
    signs, x = [1, -1, -1, -1], 1.0
    for g, sign in zip([4.0, -8.0, 0.0, 0.0], signs, strict=True):
        x = (1 - 0.0625) * x - 0.125 * sign
        p.grad = torch.full_like(p, g)
        optimizer.step()
        assert p.item() == x
    assert optimizer.state[p]["m"].item() == -1.25 * 0.75 * 0.75


def test_lion_does_not_see_the_size_of_the_gradients():
    a, b = parameters([(9,)])[0], parameters([(9,)])[0]
    runs = optim.Lion([a]), optim.Lion([b])
    for seed in range(20):
        give_gradients([a], [b], seed=seed)
        b.grad *= 1024.0
        for run in runs:
            run.step()
    assert torch.equal(a, b)


@pytest.mark.parametrize(("correct", "first"), [(True, 1.0), (False, 0.1 / np.sqrt(0.001))])
def test_adams_first_step_with_and_without_correction(correct, first):
    numbers = optim.Adam.scalars(1, lr=1.0, betas=(0.9, 0.999), eps=0.0, weight_decay=0.0)
    if not correct:
        numbers |= {"debias1": 1.0, "debias2": 1.0}
    zero = torch.zeros(1, dtype=torch.float64)
    x, *_ = optim.Adam.update(zero, torch.full_like(zero, 7.0), zero, zero, **numbers)
    assert -x.item() == pytest.approx(first, rel=1e-12)


def test_epsilon_stands_outside_the_root():
    """With a gradient far below eps, the first step is lr g / eps; inside the root it would be lr g / sqrt(eps)."""
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    p.grad = torch.full_like(p, 1e-12)
    optim.Adam([p], lr=1.0).step()
    assert p.item() == pytest.approx(-1e-12 / (1e-12 + 1e-8), rel=1e-9)


def test_reddis_example_misleads_adam_and_not_amsgrad():
    """Gradient C every third step and -1 otherwise, on [-1, 1]: the best point is -1 (Reddi et al. 2018)."""
    ends = {}
    for amsgrad in (False, True):
        p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = optim.Adam([p], betas=(0.0, 1 / 10), amsgrad=amsgrad, eps=0.0)  # beta2 = 1 / (1 + C²), C = 3
        for t in range(1, 6001):
            optimizer.param_groups[0]["lr"] = 0.5 / t**0.5
            p.grad = torch.full_like(p, 3.0 if t % 3 == 1 else -1.0)
            optimizer.step()
            with torch.no_grad():
                p.clamp_(-1, 1)
        ends[amsgrad] = p.item()
    assert ends[False] > 0.9 and ends[True] < -0.9


def pure(case, p):
    """The case's update, its scalars at step 8 and a plausible state, for tensors like ``p``."""
    optimizer = case.make([torch.nn.Parameter(p.clone())])
    group = optimizer.param_groups[0]
    counters = {"step": 8, **({"mu_product": 0.2} if case.name == "NAdam" else {})}
    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.rand(p.shape, dtype=p.dtype, generator=generator) for name in optimizer.initial_slots(group)}
    state = [value + 2.0 if name == "v" else value for name, value in noise.items()]  # v is above the mean's square
    return case.cls.update, optimizer.scalars(**counters, **group), state


@pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
def test_update_works_on_a_leading_node_axis_and_changes_nothing_in_place(case):
    x, g = (p.detach() for p in parameters([(4, 9), (4, 9)]))
    update, scalars, state = pure(case, x)
    inputs = [x, g, *state]
    kept = [t.clone() for t in inputs]
    new = update(*inputs, **scalars)
    assert all(torch.equal(t, old) for t, old in zip(inputs, kept, strict=True))
    assert len(new) == 1 + len(state)
    for node in range(4):
        alone = update(*(t[node] for t in inputs), **scalars)
        assert all(torch.equal(t[node], u) for t, u in zip(new, alone, strict=True))
    mapped = torch.func.vmap(lambda *row: update(*row, **scalars))(*inputs)
    assert gap(mapped, new) < 1e-14


@pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
def test_hypergradient_of_the_rate_equals_finite_differences(case):
    x, g = (p.detach() for p in parameters([(9,), (9,)]))
    update, scalars, state = pure(case, x)
    numbers = {k: v for k, v in scalars.items() if k != "lr"}

    def loss(lr):
        y, *new = update(x, g, *state, lr=lr, **numbers)
        z, *_ = update(y, torch.sin(y), *new, lr=lr, **numbers)  # the rate also acts through the second gradient
        return (z**2).sum()

    lr = torch.tensor(scalars["lr"], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(lr), lr)
    h = 1e-6
    finite = (loss(lr.detach() + h) - loss(lr.detach() - h)) / (2 * h)
    torch.testing.assert_close(slope, finite, rtol=1e-5, atol=1e-7)


OUT = {
    "lr": st.floats(max_value=-1e-9, allow_nan=False) | st.just(float("nan")) | st.just(float("inf")),
    "momentum": st.floats(max_value=-1e-9, allow_nan=False) | st.floats(min_value=1.0),
    "dampening": st.floats(max_value=-1e-9, allow_nan=False) | st.floats(min_value=1.0, exclude_min=True),
    "alpha": st.floats(max_value=-1e-9, allow_nan=False) | st.floats(min_value=1.0),
    "rho": st.floats(max_value=-1e-9, allow_nan=False) | st.floats(min_value=1.0),
    "betas": st.tuples(st.floats(0.0, 0.99), st.floats(min_value=1.0)) | st.just((-0.1, 0.9)) | st.just((0.9,)),
    "eps": st.floats(max_value=-1e-12, allow_nan=False),
    "weight_decay": st.floats(max_value=-1e-9, allow_nan=False),
    "lr_decay": st.floats(max_value=-1e-9, allow_nan=False),
    "initial_accumulator_value": st.floats(max_value=-1e-9, allow_nan=False),
    "momentum_decay": st.floats(max_value=-1e-9, allow_nan=False),
    "trust": st.floats(max_value=0.0, allow_nan=False),
    "delta": st.floats(max_value=-1e-9, allow_nan=False),
    "wd_ratio": st.floats(min_value=1.0, exclude_min=True) | st.floats(max_value=-1e-9, allow_nan=False),
}


@settings(max_examples=15)
@given(data=st.data())
@pytest.mark.parametrize("cls", sorted({c.cls for c in CASES}, key=lambda c: c.__name__), ids=lambda c: c.__name__)
def test_bad_settings_are_named_with_value_and_range(cls, data):
    p = torch.nn.Parameter(torch.zeros(2, 2))
    names = [n for n in cls([p]).defaults if n in OUT]
    name = data.draw(st.sampled_from(names))
    bad = data.draw(OUT[name])
    for make in (lambda: cls([p], **{name: bad}), lambda: cls([{"params": [p], name: bad}])):
        with pytest.raises(ValueError, match=rf"{name}.*(\[|\()") as error:
            make()
        assert "got" in str(error.value)


@pytest.mark.parametrize(
    ("name", "settings", "error", "words"),
    [
        ("SGD", {"nesterov": True}, ValueError, "nesterov.*momentum"),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "nesterov.*dampening"),
        ("SGD", {"nesterov": 1}, TypeError, "nesterov must be a bool"),
        ("SGD", {"lr": "0.1"}, TypeError, "lr must be a real number"),
        ("SGD", {"compile": "yes"}, TypeError, "compile must be a bool"),
        ("Adam", {"amsgrad": "no"}, TypeError, "amsgrad must be a bool"),
        ("Adam", {"betas": 0.9}, ValueError, "betas must be a pair"),
        ("RMSprop", {"centered": None}, TypeError, "centered must be a bool"),
        ("Muon", {"ns_steps": 0}, ValueError, "ns_steps"),
        ("Muon", {"adjust_lr_fn": "best"}, ValueError, "adjust_lr_fn must be one of"),
    ],
)
def test_bad_switches_and_combinations(name, settings, error, words):
    with pytest.raises(error, match=words):
        getattr(optim, name)([torch.nn.Parameter(torch.zeros(2, 2))], **settings)
