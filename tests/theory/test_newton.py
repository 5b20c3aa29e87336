"""Newton's local theorem against the worst-case function, symbolic algebra and random cubics."""

import numpy as np
import pytest
import sympy as sp

from optcourse import problems
from optcourse.theory import newton

pytestmark = pytest.mark.topic("03.3")


def newton_path(problem, x0, steps):
    xs = [np.asarray(x0, dtype=float)]
    for _ in range(steps):
        xs.append(xs[-1] - np.linalg.solve(problem.hessian(xs[-1]), problem.gradient(xs[-1])))
    return np.stack(xs)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.99])
def test_the_trap_attains_the_bound_up_to_mu_over_M(share):
    f = problems.NewtonTrap(curvature=3.0, M=0.7)
    r = share * 3.0 / 0.7
    after = newton_path(f, [-r], 1)[-1, 0]
    bound = float(newton.newton_bound(mu=3.0, M=0.7, r=r))
    assert after == pytest.approx(bound, rel=1e-9)  # it lands on the other side
    assert (bound < r) == (r < newton.newton_radius(mu=3.0, M=0.7))


def test_the_radius_is_sharp_symbolically():
    mu, M, r = sp.symbols("mu M r", positive=True)
    f = mu * r**2 / 2 - M * r**3 / 6
    after = sp.simplify(r - sp.diff(f, r) / sp.diff(f, r, 2))
    assert sp.simplify(after + M * r**2 / (2 * (mu - M * r))) == 0
    (fixed,) = [s for s in sp.solve(sp.Eq(-after, r), r) if s != 0]
    assert sp.simplify(fixed - 2 * mu / (3 * M)) == 0
    numbers = {mu: 3.0, M: 0.7}
    assert newton.newton_radius(mu=3.0, M=0.7) == pytest.approx(float(fixed.subs(numbers)))


def test_from_the_radius_it_cycles_and_from_inside_it_converges_quadratically():
    f = problems.NewtonTrap(curvature=3.0, M=1.0)
    np.testing.assert_allclose(newton_path(f, f.start, 4)[:, 0], [2, -2, 2, -2, 2], rtol=1e-12)
    r = abs(newton_path(f, 0.5 * f.start, 4)[:, 0])
    assert (r[2:] <= r[1:-1] ** 2).all() and r[-1] < 1e-8


def test_random_functions_do_not_violate_the_bound():
    """f = x'Hx/2 + sum_j c_j h(a_j'x) with h''(t) = min(|t|, 1); M = ||sum_j |c_j| ||a_j|| a_j a_j'||."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        A, c = rng.standard_normal((4, 3)), rng.uniform(-0.3, 0.3, 4)
        H = np.eye(3) * rng.uniform(1, 3) + (B := rng.standard_normal((3, 3))) @ B.T
        M = np.linalg.norm((A.T * (abs(c) * np.linalg.norm(A, axis=1))) @ A, 2)
        mu = np.linalg.eigvalsh(H)[0]
        x = rng.standard_normal(3)
        x *= rng.uniform(0, 0.99) * mu / M / np.linalg.norm(x)
        t = A @ x
        slope = np.where(abs(t) < 1, t * abs(t) / 2, np.sign(t) * (abs(t) - 0.5))
        gradient, hessian = H @ x + A.T @ (c * slope), H + (A.T * (c * np.minimum(abs(t), 1))) @ A
        after = np.linalg.norm(x - np.linalg.solve(hessian, gradient))
        assert after <= float(newton.newton_bound(mu=mu, M=M, r=np.linalg.norm(x))) * (1 + 1e-12)


def test_far_away_newton_diverges_on_a_convex_function():
    """sqrt(1 + x^2): x+ = -x^3, so |x| > 1 explodes."""
    f = problems.PseudoHuber(dim=1)
    np.testing.assert_allclose(newton_path(f, [1.1], 3)[:, 0], [1.1, -(1.1**3), 1.1**9, -(1.1**27)], rtol=1e-9)


def test_a_sweep_is_nan_beyond_the_hessians_zero():
    bound = newton.newton_bound(mu=1.0, M=1.0, r=np.array([0.0, 0.5, 1.0, 2.0]))
    assert bound.valid.tolist() == [True, True, False, False] and np.isnan(bound.value[2:]).all()
    with pytest.raises(ValueError, match="r < mu/M, got r = 2"):
        newton.newton_bound(mu=1.0, M=1.0, r=2.0)
    with pytest.raises(ValueError, match="^M must be in"):
        newton.newton_radius(mu=1.0, M=0.0)


def test_the_bound_of_conjugate_gradients_is_one_over_chebyshevs_polynomial():
    mu, L = 0.3, 7.0
    for k in range(8):
        chebyshev = np.polynomial.Chebyshev.basis(k)((L + mu) / (L - mu))
        bound = newton.conjugate_gradients(mu=mu, L=L, R=2.0, steps=k)
        assert float(bound) == pytest.approx(2.0 / chebyshev, rel=1e-12)


def test_one_eigenvalue_is_solved_in_one_step():
    sweep = newton.conjugate_gradients(mu=3.0, L=3.0, R=1.0, steps=np.arange(3))
    assert sweep.value.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"mu": 2.0}, "mu must be at most L"),
        ({"R": 0.0}, r"R must be in \(0, inf\), got 0"),
        ({"steps": -1}, r"steps must be in \[0, inf\), got -1"),
    ],
)
def test_bad_arguments_of_conjugate_gradients_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        newton.conjugate_gradients(**({"mu": 0.5, "L": 1.0, "R": 1.0, "steps": 3} | bad))
