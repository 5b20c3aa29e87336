"""L, mu, fstar, minimizer, G2 and zeta2 are bounds, and they are attained (or approached as stated)."""

import numpy as np
import pytest
import torch
from examples import ALL
from scipy.optimize import minimize, minimize_scalar

from optcourse import problems

# Where the Polyak–Łojasiewicz ratio ‖∇f‖²/2(f − f*) tends to zero, for the problems that have no such constant.
NOT_PL = {
    "Cosine": lambda f: np.full(f.dim, np.pi),
    "OffsetNodes": lambda f: np.full(f.dim, np.pi),
    "CosineNodes": lambda f: f.minimizer + np.pi,
    "Rosenbrock": lambda f: np.array([1e4, 1e8 + (1 - 1e-4) / 200]),
    "Beale": lambda f: np.array([0.0, 1.0]),
    "BoundedSaddle": lambda f: np.zeros(2),
    "Plateau": lambda f: np.array([10 * f.width, 0.0]),
    "TwoWells": lambda f: np.array([f.bottoms[2], 0.0]),
    "LastIterateTrap": lambda f: np.array([-2.0]),
}


def eigenvalues(problem, x):
    return np.linalg.eigvalsh(problem.hessian(x))


def node_curvatures(problem, x):
    """|eigenvalues| of the node Hessians at x [m, d], from autograd of ``node_value`` alone."""
    rows = torch.tensor(x)[:, None].repeat(1, problem.n_nodes, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(problem.node_value(rows).sum(), rows, create_graph=True)
    columns = [torch.autograd.grad(g.sum(), rows, retain_graph=True)[0] for g in gradient.unbind(-1)]
    return np.abs(np.linalg.eigvalsh(torch.stack(columns, -1).numpy()))


def test_L_bounds_the_curvature_and_is_attained(problem, points):
    x = points(problem)
    if isinstance(problem, problems.Distributed):
        curvature = node_curvatures(problem, x)
    else:
        curvature = abs(eigenvalues(problem, x))
    if problem.L is None:  # unbounded: it grows at least in proportion to the distance
        assert abs(eigenvalues(problem, 1000 * x)).max() > 1000 * curvature.max()
    else:
        assert curvature.max() <= problem.L * (1 + 1e-12)
        assert curvature.max() >= problem.L * (1 - 1e-3)


def test_L_also_bounds_the_mean_of_the_nodes(distributed, points):
    assert abs(eigenvalues(distributed, points(distributed))).max() <= distributed.L * (1 + 1e-12)


def test_cosine_nodes_state_the_smoothness_of_the_mean(points):
    f = next(p for p in ALL if isinstance(p, problems.CosineNodes))
    stated = f.L * abs(np.exp(1j * f.phases).mean(0)).max()
    assert abs(eigenvalues(f, points(f))).max() == pytest.approx(stated, rel=1e-12)
    assert stated < 0.9 * f.L


def test_convexity_is_as_stated(problem, points):
    lowest = eigenvalues(problem, points(problem)).min()
    if problem.convex:
        assert lowest >= -1e-12 * problem.L
    else:
        assert lowest < -0.1


def test_mu_of_convex_problems_is_the_smallest_curvature(convex, points):
    lowest = eigenvalues(convex, points(convex)).min()
    assert lowest >= convex.mu - 1e-12 * convex.L
    assert lowest <= convex.mu + 1e-6


def test_problems_without_mu_violate_every_pl_inequality(without_mu):
    x = NOT_PL[type(without_mu).__name__](without_mu)
    assert without_mu.delta0(x) > 1e-2
    assert (without_mu.gradient(x) ** 2).sum() <= 1e-6 * 2 * without_mu.delta0(x)


def test_pl_constant_is_the_minimum_of_the_ratio():
    f = problems.PolyakLojasiewicz()

    def ratio(x):  # written out here: f' = 2x + 3 sin 2x
        return (2 * x + 3 * np.sin(2 * x)) ** 2 / (2 * (x**2 + 3 * np.sin(x) ** 2))

    best = minimize_scalar(ratio, bounds=(2.0, 2.4), method="bounded", options={"xatol": 1e-12})
    assert best.x == pytest.approx(2.2017, abs=1e-4)
    assert 0 <= best.fun - f.mu < 1e-9

    # For |x| >= 3: |f'| >= 2|x| − 3 and f <= x² + 3, and (2x − 3)²/(2(x² + 3)) increases from 9/24. So [0, 3] decides.
    x = np.linspace(1e-3, 3, 300_001)[:, None]
    slack = (f.gradient(x) ** 2).sum(-1) - 2 * f.mu * f.value(x)
    assert slack.min() >= 0
    far = np.linspace(3, 1000, 100_001)
    assert ratio(far).min() >= 9 / 24


def test_fstar_is_attained_at_the_minimizer_and_never_undercut(bounded, points):
    assert bounded.value(bounded.minimizer) == pytest.approx(bounded.fstar, abs=1e-12)
    assert abs(bounded.gradient(bounded.minimizer)).max() <= 1e-12
    assert bounded.value(points(bounded)).min() >= bounded.fstar - 1e-12

    starts = np.random.default_rng(3).standard_normal((10, bounded.dim))
    found = [minimize(bounded.value, s, jac=bounded.gradient, tol=1e-9).fun for s in starts]
    assert min(found) >= bounded.fstar - 1e-12
    assert min(found) <= bounded.fstar + 1e-8


def test_delta0_is_the_distance_to_the_infimum(bounded):
    x = np.linspace(-1, 1, 4 * bounded.dim).reshape(4, bounded.dim)
    np.testing.assert_allclose(bounded.delta0(x), bounded.value(x) - bounded.value(bounded.minimizer), atol=1e-12)


def test_the_saddle_is_unbounded_below():
    f = problems.Saddle(L=2.0)
    assert f.value([0.0, 1e6]) == pytest.approx(-1e12)
    assert f.fstar is f.minimizer is f.mu is None
    with pytest.raises(ValueError, match="unbounded below"):
        f.delta0([0.0, 0.0])


def test_bounded_saddle_agrees_with_the_saddle_near_zero():
    x = 1e-3 * np.random.default_rng(0).standard_normal((50, 2))
    error = problems.BoundedSaddle(L=3.0).value(x) - problems.Saddle(L=3.0).value(x)
    assert abs(error).max() <= 3.0 / 24 * abs(x).max() ** 4 + 1e-15  # next term of the cosine; rounding


def test_G2_bounds_the_second_moment_of_the_gradient_and_is_approached(with_G2, points, supremum):
    def second_moment(x):
        return (with_G2.gradient(x) ** 2).sum(-1) + with_G2.sigma2

    largest = max(second_moment(points(with_G2)).max(), supremum(second_moment, with_G2.dim))
    assert largest <= with_G2.G2 * (1 + 1e-12)
    assert largest >= with_G2.G2 * (1 - 1e-5)


def test_zeta2_is_the_supremum_of_the_heterogeneity(distributed, points, supremum):
    x = points(distributed)
    measured = distributed.heterogeneity(x)
    if distributed.zeta2 is None:
        assert distributed.heterogeneity(1000 * x).max() > 1e5 * measured.max()
    elif isinstance(distributed, problems.CosineNodes):
        assert measured.max() <= distributed.zeta2 * (1 + 1e-12)
        assert measured.min() < 0.5 * distributed.zeta2
        assert supremum(distributed.heterogeneity, distributed.dim) == pytest.approx(distributed.zeta2, rel=1e-9)
    else:  # offsets, or equal curvatures: the same at every point
        np.testing.assert_allclose(measured, distributed.zeta2, rtol=1e-9)


def test_cosine_nodes_zeta2_over_random_phases(supremum):
    rng = np.random.default_rng(11)
    for n in (1, 2, 3, 7):
        f = problems.CosineNodes(L=rng.uniform(0.5, 3), phases=rng.uniform(-np.pi, np.pi, (n, 2)))
        assert supremum(f.heterogeneity, 2) == pytest.approx(f.zeta2, rel=1e-9, abs=1e-12)


def test_quadratic_nodes_minimizer_by_hand():
    f = problems.QuadraticNodes(a=[1.0, 4.0, 0.5], b=[0.0, 1.0, -3.0])
    assert f.minimizer[0] == pytest.approx(2.5 / 5.5)
    assert f.mu == pytest.approx(5.5 / 3)


def test_least_squares_constants_against_normal_equations():
    f = next(p for p in ALL if isinstance(p, problems.LeastSquares))
    A, b = f.features, f.targets
    np.testing.assert_allclose(f.minimizer, np.linalg.solve(A.T @ A, A.T @ b), rtol=1e-12)
    assert f.fstar == pytest.approx(((A @ f.minimizer - b) ** 2).mean() / 2)
    singular = np.linalg.svd(A / np.sqrt(len(A)), compute_uv=False)
    assert (f.L, f.mu) == pytest.approx((singular[0] ** 2, singular[-1] ** 2))
    sample_hessians = np.einsum("ni,nj->nij", A, A)
    np.testing.assert_allclose(f.sample_L, np.linalg.eigvalsh(sample_hessians).max(-1))


def test_least_squares_with_too_few_samples():
    f = problems.LeastSquares(features=[[1, 2, 0], [0, 1, 1]], targets=[1, 2])
    assert f.mu == 0
    assert f.fstar == pytest.approx(0, abs=1e-25)
    np.testing.assert_allclose(f.minimizer, np.linalg.pinv(f.features) @ f.targets)


def test_surface_regions_hold_start_and_minimizer(surface):
    (x0, x1), (y0, y1) = surface.region
    for point in [surface.start] + ([] if surface.minimizer is None else [surface.minimizer]):
        assert x0 <= point[0] <= x1
        assert y0 <= point[1] <= y1
    local = surface.local_L()
    x = np.random.default_rng(0).uniform([x0, y0], [x1, y1], (20_000, 2))
    assert abs(eigenvalues(surface, x)).max() <= local * (1 + 1e-9)
    if surface.L is not None:
        assert local == pytest.approx(surface.L, rel=1e-6)


def test_rosenbrock_local_L_is_at_a_corner():
    """The largest eigenvalue is convex in (x, y), so a corner decides: (±2, −1) of the default region."""
    corner = [[2 - 400 * (-1 - 12), -800], [-800, 200]]
    assert problems.Rosenbrock().local_L() == pytest.approx(np.linalg.eigvalsh(corner).max(), rel=1e-12)


def test_local_L_finds_a_maximum_between_grid_points():
    f = problems.Plateau(depth=1.0, width=0.01)  # its peak is far narrower than a cell of this grid
    assert f.local_L(((-0.9, 1.1), (-1.0, 1.0)), points=202) == pytest.approx(f.L, rel=1e-6)
