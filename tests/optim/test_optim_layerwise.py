"""LARS, LAMB, SGDP, AdamP and Muon against traces by hand, and the invariances that define them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_cases import gap, give_gradients, parameters, twins

from optcourse import optim


def one_parameter(values):
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def step_with(optimizer, p, g):
    p.grad = torch.as_tensor(g, dtype=p.dtype).reshape(p.shape).clone()
    optimizer.step()


def test_lars_trace_by_hand():
    rng = np.random.default_rng(0)
    w, m = np.array([3.0, -4.0, 1.0]), np.zeros(3)
    p = one_parameter(w)
    optimizer = optim.LARS([p], lr=2.0, momentum=0.9, weight_decay=0.01, trust=0.02)
    for t in range(20):
        lr = 2.0 / (1 + t)  # a moving rate shows that it is inside the buffer
        optimizer.param_groups[0]["lr"] = lr
        g = rng.normal(size=3)
        local = 0.02 * np.sqrt(w @ w) / (np.sqrt(g @ g) + 0.01 * np.sqrt(w @ w))
        m = 0.9 * m + lr * local * (g + 0.01 * w)
        w = w - m
        step_with(optimizer, p, g)
        np.testing.assert_allclose(p.detach(), w, rtol=1e-13)


@settings(max_examples=25)
@given(scale=st.floats(1e-6, 1e6), lr=st.floats(0.01, 10.0), seed=st.integers(0, 10**6))
def test_lars_relative_step_is_lr_times_trust_whatever_the_loss_scale(scale, lr, seed):
    params = parameters([(4, 3), (6,)], seed=seed)
    start = twins(params)
    optimizer = optim.LARS(params, lr=lr, momentum=0.0, weight_decay=0.0, trust=1e-2)
    give_gradients(params, seed=seed)
    for p in params:
        p.grad *= scale
    optimizer.step()
    for p, q in zip(params, start, strict=True):
        assert ((p - q).norm() / q.norm()).item() == pytest.approx(lr * 1e-2, rel=1e-9)


@pytest.mark.parametrize("name", ["LARS", "LAMB"])
def test_rescaling_a_layer_rescales_its_path(name):
    """f(w) and f(w / c): the paths are c times each other, layer by layer."""
    c = torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64)
    params = parameters([(4, 3), (5,), (2, 2, 2)])
    scaled = [torch.nn.Parameter(c[i] * p.detach()) for i, p in enumerate(params)]
    exact = {"eps": 0.0, "weight_decay": 0.0} if name == "LAMB" else {"weight_decay": 0.0}
    runs = [getattr(optim, name)(group, lr=0.05, **exact) for group in (params, scaled)]
    for seed in range(15):
        give_gradients(params, scaled, seed=seed)
        for i, p in enumerate(scaled):
            p.grad /= c[i]
        for run in runs:
            run.step()
    assert gap(params, [p.detach() / c[i] for i, p in enumerate(scaled)]) < 1e-12


def test_lamb_trace_by_hand():
    rng = np.random.default_rng(1)
    w, m, v = np.array([3.0, -4.0, 1.0]), np.zeros(3), np.zeros(3)
    p = one_parameter(w)
    optimizer = optim.LAMB([p], lr=0.1, weight_decay=0.05)
    for t in range(1, 21):
        g = rng.normal(size=3)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        d = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + 0.05 * w
        w = w - 0.1 * np.linalg.norm(w) / np.linalg.norm(d) * d
        step_with(optimizer, p, g)
        np.testing.assert_allclose(p.detach(), w, rtol=1e-12)


@pytest.mark.parametrize("name", ["LARS", "LAMB"])
def test_a_layer_of_zeros_can_leave_zero(name):
    p = one_parameter([0.0, 0.0])
    other = one_parameter([1.0, 1.0])
    optimizer = getattr(optim, name)([p, other], lr=0.1)
    other.grad = torch.zeros_like(other)
    step_with(optimizer, p, [1.0, -2.0])
    assert p.isfinite().all() and (p != 0).all() and other.isfinite().all()


def cosine_loss(w, target):
    """A loss of the direction of each row only, as under normalization."""
    rows = w.flatten(1)
    return -((rows / rows.norm(dim=1, keepdim=True)) * target.flatten(1)).sum()


@pytest.mark.parametrize("name", ["SGDP", "AdamP"])
@pytest.mark.parametrize("shape", [(3, 8), (3, 2, 2, 2)])
def test_projected_steps_are_tangent_to_every_row(name, shape):
    p, target = parameters([shape], seed=3) + parameters([shape], seed=4)
    optimizer = getattr(optim, name)([p], lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        cosine_loss(p, target.detach()).backward()
        before = p.detach().clone().flatten(1)
        optimizer.step()
        move = p.detach().flatten(1) - before
        cosine = (move * before).sum(1) / (move.norm(dim=1) * before.norm(dim=1))
        assert move.norm() > 1e-4 and cosine.abs().max() < 1e-6


def test_momentum_lengthens_weights_and_projection_removes_the_cross_terms():
    """‖w_T‖² - ‖w_0‖² = lr² Σ ‖p_t‖² exactly, with p_t the projected steps (Heo et al. 2021)."""
    target = parameters([(1, 6)], seed=4)[0].detach()
    growth = {}
    for name in ("SGD", "SGDP"):
        p = parameters([(1, 6)], seed=3)[0]
        optimizer = getattr(optim, name)([p], lr=0.1, momentum=0.9)
        start, squares = p.detach().clone(), 0.0
        for _ in range(40):
            optimizer.zero_grad()
            cosine_loss(p, target).backward()
            before = p.detach().clone()
            optimizer.step()
            squares += (p.detach() - before).square().sum().item()
        growth[name] = (p.detach().square().sum() - start.square().sum()).item(), squares
    assert growth["SGDP"][0] == pytest.approx(growth["SGDP"][1], rel=1e-6)
    assert growth["SGD"][0] > 2 * growth["SGD"][1]


def project_by_rows_then_layer(w, g, d, delta):
    """The authors' rule, with loops: returns the projected direction and whether it was."""
    for rows in (list(range(len(w))), None):
        blocks = [(w[i], g[i]) for i in rows] if rows is not None else [(w, g)]
        cosines = [abs((a * b).sum()) / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in blocks]
        if max(cosines) < delta / math.sqrt(blocks[0][0].size):
            d = d.copy()
            for i in rows if rows is not None else [slice(None)]:
                d[i] -= (w[i] * d[i]).sum() / (w[i] ** 2).sum() * w[i]
            return d, True
    return d, False


@pytest.mark.parametrize("delta", [0.05, 0.6, 1.5])
def test_adamp_trace_by_hand_through_all_three_branches(delta):
    rng = np.random.default_rng(2)
    w = rng.normal(size=(3, 4))
    m, v = np.zeros((3, 4)), np.zeros((3, 4))
    p = one_parameter(w)
    optimizer = optim.AdamP([p], lr=0.05, weight_decay=0.1, delta=delta)
    for t in range(1, 31):
        g = rng.normal(size=(3, 4))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        d = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        d, projected = project_by_rows_then_layer(w, g, d, delta)
        w = w * (1 - 0.05 * 0.1 * (0.1 if projected else 1.0)) - 0.05 * d
        step_with(optimizer, p, g)
        np.testing.assert_allclose(p.detach(), w, rtol=1e-6)


def test_the_three_branches_are_all_reached():
    rng = np.random.default_rng(2)
    seen = set()
    for _ in range(300):
        w, g, d = rng.normal(size=(3, 3, 4))
        new, projected = project_by_rows_then_layer(w, g, d, 1.0)
        by_row = projected and max(abs((w * new).sum(1))) < 1e-9
        seen.add((projected, by_row))
        ours = torch.tensor(d)
        assert optim.projected.project(torch.tensor(w), torch.tensor(g), ours, 1.0, 0.0) == projected
        np.testing.assert_allclose(ours, new, atol=1e-12)
    assert seen == {(True, True), (True, False), (False, False)}


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgdp_projects_the_step_and_never_its_buffer(nesterov):
    """Algorithm 1. Without Nesterov, the authors' package projects the buffer as well, and goes another way."""
    rng, steps = np.random.default_rng(5), []
    p = one_parameter(rng.normal(size=(3, 4)))
    w, theirs = (p.detach().numpy().copy() for _ in range(2))
    m, projected = np.zeros_like(w), np.zeros_like(w)
    optimizer = optim.SGDP([p], lr=0.05, momentum=0.9, nesterov=nesterov, delta=100.0)
    for t in range(6):
        g = rng.normal(size=w.shape)
        m = 0.9 * m + g if t else g
        w = w - 0.05 * project_by_rows_then_layer(w, g, g + 0.9 * m if nesterov else m, 100.0)[0]
        projected = 0.9 * projected + g if t else g
        projected, _ = project_by_rows_then_layer(theirs, g, projected, 100.0)
        theirs = theirs - 0.05 * projected
        step_with(optimizer, p, g)
        np.testing.assert_allclose(p.detach(), w, rtol=1e-6)
        np.testing.assert_allclose(optimizer.state[p]["m"], m, rtol=1e-12)
        steps.append(np.abs(theirs - w).max())
    assert nesterov or (steps[0] < 1e-7 and steps[-1] > 1e-3)


def test_vectors_are_never_projected():
    p, q = parameters([(5,)])[0], parameters([(5,)])[0]
    projected, plain = optim.AdamP([p], delta=100.0), optim.Adam([q])
    for seed in range(10):
        give_gradients([p], [q], seed=seed)
        projected.step()
        plain.step()
    assert gap([p], [q]) < 1e-14


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
def test_newton_schulz_with_convergent_coefficients_is_the_polar_factor(shape):
    matrix = parameters([shape])[0].detach()
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    convergent = (15 / 8, -10 / 8, 3 / 8)
    result = optim.orthogonalize(matrix, steps=30, coefficients=convergent, dtype=None)
    torch.testing.assert_close(result, u @ vt, atol=1e-9, rtol=0)
    quick = torch.linalg.svdvals(optim.orthogonalize(matrix, dtype=None))
    assert quick.min() > 0.3 and quick.max() < 1.3  # the published five steps only come near


def test_muon_uses_a_filter_bank_as_a_matrix():
    a = parameters([(4, 3, 2, 2)])[0]
    b = torch.nn.Parameter(a.detach().clone().flatten(1))
    runs = [optim.Muon([p], lr=0.1, ns_dtype=None) for p in (a, b)]
    for seed in range(5):
        give_gradients([a], seed=seed)
        b.grad = a.grad.flatten(1).clone()
        for run in runs:
            run.step()
    assert gap([a.detach().flatten(1)], [b]) < 1e-13
