"""SAM: the perturbation against a numerical maximum, the step by hand, and what it must leave alone."""

import copy
import math
from functools import partial

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


@settings(max_examples=50)
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


class Counter(nn.Module):
    """A layer without parameters whose buffer is replaced, not changed in place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.seen = self.seen + len(x)
        return x


WAYS = {
    "plain": lambda model: model,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "compiled graph": lambda model: torch.compile(model, backend="aot_eager"),
    "compiled function": lambda model: torch.compile(lambda x: model(x), backend="eager"),
    "scripted": torch.jit.script,
    "scripted in a function": lambda model: partial(nn.Module.__call__, torch.jit.script(model)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_sam_counts_batch_norm_statistics_once(way):
    model, plain = network(norm=True), network(norm=True)
    run = WAYS[way](model)
    optimizer = optim.SAM(model.parameters(), optim.SGD, rho=0.5, lr=0.0)
    reference = torch.optim.SGD(plain.parameters(), lr=0.0)
    for _ in range(3):
        optimizer.step(closure_for(run, optimizer))
        reference.step(closure_for(plain, reference))
    for (name, a), (_, b) in zip(model.named_buffers(), plain.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert model[1].num_batches_tracked == 3
    run(DATA)
    assert model[1].num_batches_tracked == 4, "after the step data count again"


def test_sam_counts_once_in_every_buffer_of_a_model_and_of_layers_added_later():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False), Counter()).double()
    optimizer = optim.SAM(model.parameters(), optim.SGD, rho=0.5, lr=0.1)
    for step in range(1, 4):
        optimizer.step(closure_for(model, optimizer))
        assert model[1].num_batches_tracked == step and model[2].seen == 16 * step
    extra = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)).double()
    optimizer.add_param_group({"params": list(extra.parameters())})
    both = nn.Sequential(model, extra)
    optimizer.step(closure_for(both, optimizer))
    assert extra[0].num_batches_tracked == 1 and model[2].seen == 16 * 4


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


@pytest.mark.parametrize("p", [1, 1.5, 2, math.inf])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_costs_one_step(p, bad):
    """As in any optimizer: no error of ours, and the next good batch is a step again."""
    x = nn.Parameter(torch.ones(3))
    optimizer = optim.SAM([x], optim.SGD, lr=0.1, p=p)

    def step(scale):
        def closure():
            optimizer.zero_grad()
            loss = (x * torch.tensor([1.0, scale, 1.0])).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return x.isfinite().all().item()

    assert [step(scale) for scale in (1.0, bad)] == [True, False]
    x.data.fill_(1.0)
    assert step(1.0)
    torch.testing.assert_close(x.detach(), torch.full((3,), 0.9))


def test_sam_climbs_down_where_a_group_is_maximized():
    """f = x² + y², to be low in x and high in y: the worst point nearby has a larger x and a smaller y."""
    x, y = (nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (3.0, 4.0))
    groups = [{"params": [x]}, {"params": [y], "maximize": True}]
    optimizer = optim.SAM(groups, torch.optim.SGD, rho=1.0, lr=0.1)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = x.square().sum() + y.square().sum()
        loss.backward()
        seen.append((x.item(), y.item()))
        return loss

    optimizer.step(closure)
    assert seen == [(3.0, 4.0), (pytest.approx(3.6), pytest.approx(3.2))]
    assert (x.item(), y.item()) == (pytest.approx(3 - 0.1 * 7.2), pytest.approx(4 + 0.1 * 6.4))


def test_worst_direction_of_half_precision_gradients():
    """Ten thousand entries whose squares are nothing in float16 make up half of the norm."""
    g = torch.cat([torch.ones(1), torch.full((10_000,), 1e-2)])
    exact = worst_direction([g.double()], 2)[0]
    torch.testing.assert_close(worst_direction([g.half()], 2)[0].double(), exact, rtol=1e-3, atol=1e-6)
    tiny = torch.cat([torch.ones(1), torch.full((10_000,), 1e-4)])
    share = worst_direction([tiny.half()], 2)[0][1:].double().norm().item()
    assert share == pytest.approx(worst_direction([tiny.half().double()], 2)[0][1:].norm().item(), rel=1e-3)


def test_sam_refuses_sparse_gradients_every_time_and_goes_on():
    layer = nn.Embedding(3, 2, sparse=True)
    optimizer = optim.SAM(layer.parameters(), torch.optim.SGD, lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = layer(torch.tensor([1])).sum()
        loss.backward()
        return loss

    before = layer.weight.detach().clone()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="SAM does not support sparse gradients"):
            optimizer.step(closure)
    layer.sparse = False
    optimizer.step(closure)
    torch.testing.assert_close((before - layer.weight.detach())[1], torch.full((2,), 0.1))


def test_a_second_pass_given_up_by_hand():
    model = network(norm=True)
    optimizer = optim.SAM(model.parameters(), optim.SGD, rho=0.1, lr=0.1)
    closure = closure_for(model, optimizer)
    closure()
    home = copy.deepcopy(model.state_dict())
    optimizer.first_step()
    closure()
    optimizer.return_home()
    assert equal(model.state_dict().values(), home.values())
    optimizer.step(closure)


def test_a_scheduler_counts_steps_in_two_calls(recwarn):
    model = network()
    optimizer = optim.SAM(model.parameters(), optim.SGD, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    closure = closure_for(model, optimizer)
    for _ in range(2):
        closure()
        optimizer.first_step()
        closure()
        optimizer.second_step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.025
    assert not [str(w.message) for w in recwarn if "lr_scheduler" in str(w.message)]


def test_without_a_closure_a_gradient_of_zero_is_a_step_of_the_base_optimizer():
    x = nn.Parameter(torch.ones(2))
    optimizer = optim.SAM([x], optim.SGD, lr=0.1, weight_decay=1.0)
    x.grad = torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(x.detach(), torch.full((2,), 0.9))


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
