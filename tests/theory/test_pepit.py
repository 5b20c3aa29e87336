"""Worst cases from performance estimation, solved anew when the ``oracle`` extra is installed.

Agreement with the closed forms and with the golden values that the other tests use: 1e-5, the
solver's accuracy being about 1e-9 with CLARABEL.
"""

import pytest

from optcourse.theory import gradient_descent as gd

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
