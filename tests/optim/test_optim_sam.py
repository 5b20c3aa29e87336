"""SAM: the perturbation against a numerical maximum, the step by hand, and what it must leave alone."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_cases import DATA, closure_for, equal, gap, network
from scipy.optimize import linprog, minimize
from torch import nn

from optcourse import optim
from optcourse.optim.wrappers import worst_direction


def numerical_inner_maximum(g, p):
    """max ⟨ε, g⟩ over the unit ball of the p-norm, by search: no formula for ε."""
    if p == math.inf:
        return -linprog(-g, bounds=(-1, 1)).fun
    if p == 1:  # ε = a - b with a, b >= 0 and Σ (a + b) <= 1
        return -linprog(np.r_[-g, g], A_ub=np.ones((1, 2 * len(g))), b_ub=[1], bounds=(0, None)).fun
    starts = np.random.default_rng(1).normal(size=(4, len(g)))
    return max(-minimize(lambda z: -g @ z / np.linalg.norm(z, p), start).fun for start in starts)


@pytest.mark.parametrize("p", [1, 1.5, 2, 4, math.inf])
def test_worst_direction_reaches_the_numerical_inner_maximum(p):
    g = np.random.default_rng(0).normal(size=6)
    direction = worst_direction([torch.tensor(g[:4]).view(2, 2), torch.tensor(g[4:])], p)
    flat = torch.cat([t.flatten() for t in direction]).numpy()
    assert np.linalg.norm(flat, p) == pytest.approx(1.0, abs=1e-12)
    assert g @ flat == pytest.approx(numerical_inner_maximum(g, p), rel=1e-7)


@settings(deadline=None, max_examples=50)
@given(p=st.floats(1.0, 50.0), scale=st.floats(1e-30, 1e30), seed=st.integers(0, 10**6))
def test_worst_direction_has_unit_norm_at_any_scale(p, scale, seed):
    rng = np.random.default_rng(seed)
    g = [torch.tensor(rng.normal(size=n) * scale) for n in (3, 5)]
    direction = torch.cat(worst_direction(g, p)).numpy()
    assert np.linalg.norm(direction, p) == pytest.approx(1.0, rel=1e-6)
    q = p / (p - 1) if p > 1 else math.inf
    flat = torch.cat(g).numpy()
    flat /= abs(flat).max()  # large q: powers of larger numbers overflow
    assert flat @ direction == pytest.approx(np.linalg.norm(flat, q), rel=1e-6)


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_worst_direction_in_any_memory_format(p):
    g = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    (plain,) = worst_direction([g], p)
    (odd,) = worst_direction([g.to(memory_format=torch.channels_last)], p)
    assert torch.allclose(plain, odd, atol=1e-6)


def test_sam_step_by_hand():
    model, other = network(), network()
    optimizer = optim.SAM(model.parameters(), optim.SGD, rho=0.2, lr=0.1, momentum=0.9)
    by_hand = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    for _ in range(10):
        first = optimizer.step(closure_for(model, optimizer))
        home = copy.deepcopy(other.state_dict())
        closure = closure_for(other, by_hand)
        assert torch.equal(first, closure()) or abs(first - closure()) < 1e-13
        norm = torch.cat([p.grad.flatten() for p in other.parameters()]).norm()
        with torch.no_grad():
            for p in other.parameters():
                p += 0.2 * p.grad / norm
        closure()
        other.load_state_dict(home)
        by_hand.step()
    assert gap(model.parameters(), other.parameters()) < 1e-12


def test_sam_settles_in_the_two_cycle_of_the_theory():
    """f = lam x²/2 with plain descent: |x| = lr lam rho / (2 - lr lam) for ever."""
    lam, lr, rho = 2.0, 0.3, 0.1
    x = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = optim.SAM([x], optim.SGD, rho=rho, lr=lr)

    def closure():
        optimizer.zero_grad()
        loss = lam * x.square().sum() / 2
        loss.backward()
        return loss

    for _ in range(200):
        optimizer.step(closure)
    size = lr * lam * rho / (2 - lr * lam)
    before = x.item()
    optimizer.step(closure)
    assert abs(before) == pytest.approx(size, rel=1e-9) and x.item() == pytest.approx(-before, rel=1e-9)


def test_sam_counts_batch_norm_statistics_once():
    model, plain = network(norm=True), network(norm=True)
    optimizer = optim.SAM(model.parameters(), optim.SGD, rho=0.5, lr=0.0)
    reference = torch.optim.SGD(plain.parameters(), lr=0.0)
    for _ in range(3):
        optimizer.step(closure_for(model, optimizer))
        reference.step(closure_for(plain, reference))
    for (name, a), (_, b) in zip(model.named_buffers(), plain.named_buffers(), strict=True):
        assert torch.equal(a, b), name
    assert model[1].num_batches_tracked == 3
    model(DATA)
    assert model[1].num_batches_tracked == 4, "the hook is gone after the step"


def test_sam_in_two_calls_equals_the_closure():
    model, other = network(norm=True), network(norm=True)
    a, b = (optim.SAM(m.parameters(), optim.SGD, rho=0.1, lr=0.1, momentum=0.9) for m in (model, other))
    for _ in range(4):
        a.step(closure_for(model, a))
        closure = closure_for(other, b)
        closure()
        b.first_step()
        closure()
        b.second_step()
    assert equal(model.parameters(), other.parameters()) and equal(model.buffers(), other.buffers())


def test_sam_returns_home_when_the_second_pass_fails():
    model = network(norm=True)
    optimizer = optim.SAM(model.parameters(), optim.SGD, rho=0.1, lr=0.1, momentum=0.9)
    home, calls = copy.deepcopy(model.state_dict()), []

    def closure():
        calls.append(1)
        loss = closure_for(model, optimizer)()
        if len(calls) == 2:
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert all(torch.equal(p, home[name]) for name, p in model.named_parameters())
    assert model[1].num_batches_tracked == 1
    optimizer.step(closure_for(model, optimizer))


def test_sam_at_a_stationary_point_or_without_gradients():
    x = nn.Parameter(torch.zeros(2))
    optimizer = optim.SAM([x], optim.SGD, lr=0.1)
    optimizer.step(lambda: None)
    x.grad = torch.zeros(2)
    optimizer.step(lambda: None)
    assert torch.equal(x, torch.zeros(2))


def test_sam_misuse_is_explained():
    x = nn.Parameter(torch.ones(2))
    optimizer = optim.SAM([x], optim.SGD, lr=0.1)
    with pytest.raises(TypeError, match="closure must be given"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="needs a first_step"):
        optimizer.second_step()
    x.grad = torch.ones(2)
    optimizer.first_step()
    with pytest.raises(RuntimeError, match="called twice"):
        optimizer.first_step()
    optimizer.second_step()
