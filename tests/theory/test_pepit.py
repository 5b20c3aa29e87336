"""Worst cases from performance estimation, solved anew when the ``oracle`` extra is installed.

Agreement with the closed forms and with the golden values that the other tests use: 1e-5, the
solver's accuracy being about 1e-9 with CLARABEL.
"""

import pytest

from optcourse.theory import gradient_descent as gd
from optcourse.theory import momentum

pytestmark = pytest.mark.topic("02.5", "04.4")

PEPit = pytest.importorskip("PEPit", reason="needs the oracle extra: pip install -e '.[oracle]'")
pytest.importorskip("clarabel", reason="needs the CLARABEL solver")


def worst_case(function_class, steps, *, metric, start="gap"):
    """The exact worst case of ``steps`` gradient steps with L = 1, lr = 1 over a function class."""
    from PEPit import PEP

    problem = PEP()
    f = problem.declare_function(function_class, L=1.0)
    x_star = f.stationary_point()
    x0 = x = problem.set_initial_point()
    problem.set_initial_condition(f(x0) - f(x_star) <= 1 if start == "gap" else (x0 - x_star) ** 2 <= 1)
    gradients = [f.gradient(x0)]
    for _ in range(steps):
        x = x - gradients[-1]
        gradients.append(f.gradient(x))
    if function_class.__name__ == "SmoothFunction":
        # f* is a lower bound of the function everywhere, not only a stationary value.
        iterates, point = [x0], x0
        for g in gradients[:-1]:
            point = point - g
            iterates.append(point)
        for point, g in zip(iterates, gradients, strict=True):
            problem.add_constraint(f(point) - 0.5 * g**2 >= f(x_star))
    metrics = {"best": [g**2 for g in gradients], "last": [gradients[-1] ** 2], "gap": [f(x) - f(x_star)]}
    for quantity in metrics[metric]:
        problem.set_performance_metric(quantity)
    return problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_convex(steps):
    from PEPit.functions import SmoothConvexFunction

    value = worst_case(SmoothConvexFunction, steps, metric="gap", start="distance")
    assert value == pytest.approx(float(gd.gd_convex(L=1.0, R=1.0, lr=1.0, steps=steps)), abs=1e-5)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_best_iterate(steps):
    from PEPit.functions import SmoothFunction

    value = worst_case(SmoothFunction, steps, metric="best")
    assert value == pytest.approx(float(gd.gd_best_iterate(L=1.0, delta0=1.0, steps=steps)), abs=1e-5)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_last_iterate(steps):
    from PEPit.functions import SmoothFunction

    value = worst_case(SmoothFunction, steps, metric="last")
    assert value == pytest.approx(gd.gd_last_iterate(L=1.0, delta0=1.0, steps=steps), abs=1e-5)


def worst_momentum(steps, *, mu, L, lr, coefficient, nesterov, start):
    """Worst gap of NAG, or worst squared distance of heavy ball, over mu-strongly convex L-smooth functions.

    ``coefficient`` maps k to the momentum after step k. At the start, ||x_0 - x*||^2 <= 1 or
    f(x_0) - f* + mu/2 ||x_0 - x*||^2 <= 1.
    """
    from PEPit import PEP
    from PEPit.functions import SmoothStronglyConvexFunction

    problem = PEP()
    f = problem.declare_function(SmoothStronglyConvexFunction, mu=mu, L=L)
    x_star = f.stationary_point()
    x = old = y = problem.set_initial_point()
    distance = (x - x_star) ** 2
    problem.set_initial_condition((distance if start == "distance" else f(x) - f(x_star) + mu / 2 * distance) <= 1)
    for k in range(steps):
        old, x = x, y - lr * f.gradient(y if nesterov else x)
        y = x + coefficient(k) * (x - old)
    problem.set_performance_metric(f(x) - f(x_star) if nesterov else (x - x_star) ** 2)
    return problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_nag_convex(steps):
    value = worst_momentum(
        steps, mu=0.0, L=1.0, lr=1.0, coefficient=lambda k: k / (k + 3), nesterov=True, start="distance"
    )
    assert value == pytest.approx(float(momentum.nag_convex(L=1.0, R=1.0, steps=steps)), abs=1e-6)


@pytest.mark.parametrize(("steps", "golden"), [(1, 0.5479388), (2, 0.3476022), (5, 0.0771202), (10, 0.0043322)])
def test_nag_strongly_convex(steps, golden):
    beta = momentum.nag_coefficient(mu=0.1, L=1.0)
    value = worst_momentum(steps, mu=0.1, L=1.0, lr=1.0, coefficient=lambda k: beta, nesterov=True, start="both")
    assert value == pytest.approx(golden, abs=1e-5)
    assert value <= float(momentum.nag_strongly_convex(mu=0.1, L=1.0, delta0=1.0, R=0.0, steps=steps))


@pytest.mark.parametrize(("steps", "golden"), [(3, 10.26), (6, 13.28), (9, 20.67), (12, 34.10)])
def test_heavy_ball_tuned_for_quadratics_gets_worse_with_more_steps(steps, golden):
    lr, beta = momentum.hb_parameters(mu=1.0, L=25.0)
    value = worst_momentum(steps, mu=1.0, L=25.0, lr=lr, coefficient=lambda k: beta, nesterov=False, start="distance")
    assert value == pytest.approx(golden, abs=0.01)
