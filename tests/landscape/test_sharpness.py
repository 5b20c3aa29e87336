"""Sharpness against quadratics whose maximum in a ball is known, and samples of the ball."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from optcourse import landscape, models
from optcourse.models.rows import flat_parameters


class Point(nn.Module):
    """A network that is a point: its score is its parameter."""

    def __init__(self, at):
        super().__init__()
        self.at = nn.Parameter(torch.as_tensor(at, dtype=torch.float64))

    def forward(self, x):
        return self.at.expand(len(x), -1)


DATA = torch.zeros(1, 1), torch.zeros(1)


def quadratic(H, g):
    H, g = (torch.as_tensor(t, dtype=torch.float64) for t in (H, g))
    return lambda scores, y: g @ scores[0] + scores[0] @ H @ scores[0] / 2


def norm(epsilon, p):
    return float(torch.linalg.vector_norm(epsilon, p))


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_a_linear_loss_rises_by_rho_times_the_dual_norm(p):
    g = torch.tensor([3.0, -4.0, 0.5], dtype=torch.float64)
    q = {1: math.inf, math.inf: 1}.get(p) or p / (p - 1)
    found = landscape.sharpness(Point([1.0, 2.0, 3.0]), quadratic(np.zeros((3, 3)), g), DATA, 0.3, p)
    assert float(found) == pytest.approx(0.3 * norm(g, q), rel=1e-12)
    assert found.first_order == found.worst and norm(found.perturbation, p) == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_on_a_convex_quadratic_the_two_norm_ball_has_the_maximum_of_the_secular_equation(seed):
    """The maximum of g·ε + ε·Hε/2 on ‖ε‖ = ρ has (μ − H) ε = g with μ >= λ_max: one unknown, solved by bisection."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(6, 6))
    H, g, rho = A @ A.T, rng.normal(size=6), 0.7
    lam, U = np.linalg.eigh(H)
    low, high = lam[-1], lam[-1] + np.linalg.norm(g) / rho + 1
    for _ in range(200):
        mu = (low + high) / 2
        low, high = (mu, high) if np.linalg.norm((U.T @ g) / (mu - lam)) > rho else (low, mu)
    epsilon = U @ ((U.T @ g) / (mu - lam))
    exact = g @ epsilon + epsilon @ H @ epsilon / 2
    found = landscape.sharpness(Point(np.zeros(6)), quadratic(H, g), DATA, rho, steps=500)
    assert found.first_order <= found.worst <= exact + 1e-12
    assert float(found) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_at_a_minimum_it_is_the_largest_eigenvalue(seed):
    """Almost at the minimum: the gradient only says where to begin."""
    H = np.diag([5.0, 3.0, 1.0])
    g = 1e-6 * np.random.default_rng(seed).normal(size=3)
    found = landscape.sharpness(Point(np.zeros(3)), quadratic(H, g), DATA, 0.1, steps=200)
    assert float(found) == pytest.approx(5.0 * 0.1**2 / 2, rel=1e-3)


def test_on_a_box_a_convex_quadratic_is_highest_at_a_corner():
    A = np.random.default_rng(0).normal(size=(5, 5))
    H, g = A @ A.T, np.random.default_rng(1).normal(size=5)
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 5), axis=-1).reshape(-1, 5)
    heights = corners @ g + np.einsum("ni,ij,nj->n", corners, H, corners) / 2
    found = landscape.sharpness(Point(np.zeros(5)), quadratic(H, g), DATA, 0.5, math.inf)
    assert np.abs(heights - found.worst).min() < 1e-12 and found.worst > np.quantile(heights, 0.9)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_a_network_is_sharper_than_samples_of_the_ball_say_and_stays_as_it_is(p):
    model = models.mlp(6, 3, width=8, depth=2, norm="batch", seed=0).double().train()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 6, generator=generator, dtype=torch.float64), torch.arange(30) % 3
    before, w, rho = [t.clone() for t in model.state_dict().values()], flat_parameters(model), 0.05
    found = landscape.sharpness(model, cross_entropy, (x, y), rho, p)
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True)) and model.training
    assert norm(found.perturbation, p) <= rho * (1 + 1e-12)
    assert found.loss < found.first_order <= found.worst
    for norms in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d)):
        norms.running_mean = norms.running_var = norms.num_batches_tracked = None
    values = []
    for _ in range(200):
        u = torch.randn(len(w), generator=generator, dtype=torch.float64)
        nn.utils.vector_to_parameters(w + rho * u / norm(u, p), model.parameters())
        values.append(cross_entropy(model(x), y).item())
    assert max(values) < found.worst
    nn.utils.vector_to_parameters(w + found.perturbation, model.parameters())
    assert cross_entropy(model(x), y).item() == pytest.approx(found.worst, rel=1e-12)


def test_a_tangent_that_points_too_far_is_not_followed():
    """A step of ρ leads across a ditch to the side of a lower hill, where the ball ends: the ascent begins at home."""
    found = landscape.sharpness(Point([0.05]), lambda s, y: s[0, 0].mul(10).cos(), DATA, 0.6, steps=50)
    assert found.first_order == pytest.approx(math.cos(5.5))
    assert found.first_order < found.loss < found.worst == pytest.approx(1.0, abs=1e-4)


def test_no_ball_no_rise():
    found = landscape.sharpness(Point([1.0, 2.0]), quadratic(np.eye(2), [1, 1]), DATA, 0.0)
    assert float(found) == 0 and not found.perturbation.any()


@given(p=st.floats(allow_nan=True, allow_infinity=False).filter(lambda p: not p >= 1))
def test_norms_below_one_are_refused(p):
    with pytest.raises(ValueError, match="p must be in"):
        landscape.sharpness(Point([1.0]), quadratic([[1.0]], [1.0]), DATA, 0.1, p)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rho": -0.1}, ValueError, "rho must be in"),
        ({"rho": "0.1"}, TypeError, "rho must be a real number"),
        ({"rho": 0.1, "steps": -1}, ValueError, "steps must be at least 0"),
        ({"rho": 0.1, "batch_norm": None}, ValueError, "batch_norm"),
        ({"rho": 0.1, "data": (torch.zeros(2, 1), torch.zeros(1))}, ValueError, "data must be"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    data = options.pop("data", DATA)
    with pytest.raises(error, match=message):
        landscape.sharpness(Point([1.0]), quadratic([[1.0]], [1.0]), data, **options)


def test_at_a_minimum_the_rise_is_that_of_the_largest_eigenvalue():
    """f = (9 a^2 + b^2) / 2 at 0, where there is no slope: the rise is 9 rho^2 / 2."""
    net = nn.Linear(2, 1, bias=False).double()
    nn.init.zeros_(net.weight)
    x, y = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64)), torch.zeros(2, 1, dtype=torch.float64)
    found = landscape.sharpness(net, lambda s, y: ((s - y) ** 2).sum() / 2, (x, y), rho=0.5)
    assert float(found) == pytest.approx(9 * 0.25 / 2, rel=1e-6)
