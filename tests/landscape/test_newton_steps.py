"""Newton's steps against torch's Hessians, hand computations and a dense solve."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optcourse import problems
from optcourse.landscape import conjugate_gradients, critical_points, derivatives, newton
from optcourse.models import mlp, rows
from optcourse.theory import newton as theory


def random_rotation(d, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def points(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_derivatives_are_those_of_torch_func():
    net = mlp(3, 2, width=3, depth=1, activation="tanh").double()
    x, y = points(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])

    def value(w):
        n = len(w)
        return rows.losses(net, w, x.expand(n, -1, -1), y.expand(n, -1)) + 0.1 * w.square().sum(1)

    w = points(4, sum(p.numel() for p in net.parameters()), seed=1)
    f, g, H = derivatives(value, w)
    for i in range(4):
        one = lambda v: value(v[None])[0]  # noqa: E731
        torch.testing.assert_close(f[i], one(w[i]))
        torch.testing.assert_close(g[i], torch.func.grad(one)(w[i]), rtol=0, atol=1e-12)
        torch.testing.assert_close(H[i], torch.func.hessian(one)(w[i]), rtol=0, atol=1e-12)


@given(st.integers(2, 8), st.integers(0, 1000))
def test_one_step_solves_a_quadratic_whatever_its_signs(d, seed):
    rng = np.random.default_rng(seed)
    eigenvalues = rng.choice([-1, 1], d) * rng.uniform(0.1, 10, d)
    R, center = random_rotation(d, seed), rng.standard_normal(d)
    A, c = torch.as_tensor(R * eigenvalues @ R.T), torch.as_tensor(center)

    def value(x):
        return 0.5 * ((x - c) @ A * (x - c)).sum(1)

    start = points(3, d, seed)
    end = newton(value, start, steps=1)[-1]
    np.testing.assert_allclose(end, np.tile(center, (3, 1)), atol=1e-10)
    # With absolute eigenvalues the distance along a descending direction doubles, along the others it vanishes.
    away = (newton(value, start, steps=1, absolute=True)[-1] - c).numpy() @ R
    expected = np.where(eigenvalues > 0, 0.0, 2.0) * ((start - c).numpy() @ R)
    np.testing.assert_allclose(away, expected, atol=1e-9)


def test_newton_on_the_trap_alternates_and_from_inside_converges():
    trap = problems.NewtonTrap(curvature=3.0, M=1.0)
    start = torch.tensor([[2.0], [1.0]], dtype=torch.float64)
    path = newton(trap.value, start, steps=5)
    np.testing.assert_allclose(path[:, 0, 0], [2, -2, 2, -2, 2, -2], rtol=1e-12)
    assert abs(path[-1, 1]).item() < 1e-12


def test_steps_are_cut_and_small_eigenvalues_lifted():
    flat = problems.Quadratic([1e-6, 1.0])
    start = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    (x, _), (y, _) = (newton(flat.value, start, steps=1, absolute=True, floor=f)[-1, 0] for f in (0.0, 1e-3))
    assert x == pytest.approx(0.0, abs=1e-9) and y == pytest.approx(2.0 * (1 - 1e-3), rel=1e-9)
    cut = newton(flat.value, start, steps=1, longest=0.5)[-1] - start
    assert cut.norm().item() == pytest.approx(0.5) and torch.cosine_similarity(cut, -start).item() == pytest.approx(1.0)


def test_a_run_that_leaves_the_numbers_is_nan_and_the_others_go_on():
    huber = problems.PseudoHuber()  # x+ = -x^3
    path = newton(huber.value, torch.tensor([[0.5], [1.5]], dtype=torch.float64), steps=12)
    assert path[-1, 0].item() == pytest.approx(0.0, abs=1e-12) and path[-1, 1].isnan().all()


def test_critical_points_have_the_index_of_their_hessian():
    bowl = problems.Cosine(dim=2)  # minima, saddles and maxima on a grid of spacing pi
    corners = [[0.0, 0.0], [np.pi, 0.0], [np.pi, np.pi], [0.3, 0.0], [np.nan, 0.0]]
    candidates = torch.tensor(corners, dtype=torch.float64)
    found = critical_points(bowl.value, candidates)
    assert found.index.tolist() == [0, 1, 2] and found.value.tolist() == pytest.approx([0.0, 2.0, 4.0])
    assert torch.equal(found.points, candidates[:3])


def test_a_flat_direction_does_not_count_as_negative():
    def value(x):
        return x[:, 0] ** 2 - x[:, 1] ** 2 + 0 * x[:, 2]

    assert critical_points(value, torch.zeros(1, 3, dtype=torch.float64)).index.tolist() == [1]


def test_conjugate_gradients_reach_the_dense_solution_within_their_bound():
    d = 12
    eigenvalues = np.geomspace(1, 200, d)
    R = random_rotation(d, 3)
    A, b = torch.as_tensor(R * eigenvalues @ R.T), points(1, d)[0]
    solution = torch.linalg.solve(A, b)
    iterates = conjugate_gradients(lambda v: A @ v, b, steps=40, tol=1e-12)
    assert len(iterates) <= 20  # d steps in exact arithmetic, a few more with rounding
    torch.testing.assert_close(iterates[-1], solution, rtol=1e-9, atol=0)
    errors = iterates - solution
    energy = ((errors @ A) * errors).sum(1).clamp(min=0).sqrt().numpy()
    k = np.arange(d)
    bound = theory.conjugate_gradients(mu=1.0, L=200.0, R=energy[0], steps=k).value
    assert (energy[:d] <= bound * (1 + 1e-9)).all()


def test_conjugate_gradients_count_one_product_a_step_and_stop_early():
    calls = []
    A = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))

    def product(v):
        calls.append(1)
        return A @ v

    iterates = conjugate_gradients(product, torch.ones(3, dtype=torch.float64), steps=2)
    assert len(iterates) == 3 and len(calls) == 2
    assert len(conjugate_gradients(product, torch.zeros(3, dtype=torch.float64), steps=5)) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, x: newton(f, x, steps=0), "steps must be at least 1, got 0"),
        (lambda f, x: newton(f, x, steps=1, floor=-1.0), r"floor must be in \[0, inf\)"),
        (lambda f, x: newton(f, x, steps=1, longest=0.0), r"longest must be in \(0, inf\]"),
        (lambda f, x: newton(f, x[0], steps=1), r"start must have shape \[n, d\]"),
        (lambda f, x: derivatives(lambda x: x.sum(), x), "value must map points"),
        (lambda f, x: critical_points(f, x, tol=0.0), "tol must be in"),
        (lambda f, x: conjugate_gradients(lambda v: -v, x[0], steps=3), "product must be positive definite"),
        (lambda f, x: conjugate_gradients(lambda v: v, x, steps=3), r"b must have shape \[d\]"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(problems.Saddle().value, torch.ones(2, 2, dtype=torch.float64))


def test_a_singular_hessian_gives_nan_and_a_linear_function_has_a_zero_one():
    H = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 6.0, 9.0]], dtype=torch.float64)
    value, start = lambda x: ((x @ H) * x).sum(1) / 2 - x[:, 0], torch.ones(1, 3, dtype=torch.float64)
    assert newton(value, start, steps=2)[1:].isnan().all()
    assert newton(value, start, steps=2, absolute=True, floor=1e-3, longest=1.0).isfinite().all()
    assert derivatives(lambda x: x.sum(1), start).hessian.abs().max() == 0
