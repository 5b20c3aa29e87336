import numpy as np
import pytest
from examples import ALL
from scipy.optimize import minimize

from optcourse import problems

#: The arguments that make a test run on registered examples, and on which of them.
EXAMPLES = {
    "problem": lambda p: True,
    "distributed": lambda p: isinstance(p, problems.Distributed),
    "convex": lambda p: p.convex,
    "bounded": lambda p: p.fstar is not None,
    "without_mu": lambda p: p.fstar is not None and p.mu is None,
    "with_G2": lambda p: p.G2 is not None,
    "surface": lambda p: isinstance(p, problems.Surface),
}


def pytest_generate_tests(metafunc):
    for argument, selected in EXAMPLES.items():
        if argument in metafunc.fixturenames:
            chosen = {f"{i:02d}-{type(p).__name__}": p for i, p in enumerate(ALL) if selected(p)}
            metafunc.parametrize(argument, chosen.values(), ids=chosen)


@pytest.fixture
def points():
    """``points(problem)``: 4 x 300 random points at the scales 0.1, 1, 10 and 1000, and the minimizer, [m, d]."""

    def sample(problem):
        rng = np.random.default_rng(7)
        cloud = [scale * rng.standard_normal((300, problem.dim)) for scale in (0.1, 1, 10, 1000)]
        known = [] if problem.minimizer is None else [problem.minimizer[None]]
        return np.concatenate(cloud + known)

    return sample


@pytest.fixture
def supremum():
    """``supremum(function, dim)``: the largest value that BFGS finds from 20 random starts."""

    def search(function, dim):
        starts = np.random.default_rng(8).uniform(-3, 3, (20, dim))
        return max(-minimize(lambda x: -float(function(x)), start, tol=1e-12).fun for start in starts)

    return search
