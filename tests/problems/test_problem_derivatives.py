"""Gradients and Hessians against autograd; shapes; numpy against torch."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from examples import ALL

from optcourse import problems


@pytest.fixture
def x(problem):
    return np.random.default_rng(1).uniform(-2, 2, (2, 3, problem.dim))


def tensor(x):
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=tolerance, atol=tolerance)


def test_gradient_is_autograd_of_value(problem, x):
    t = tensor(x)
    (expected,) = torch.autograd.grad(problem.value(t).sum(), t)
    close(problem.gradient(x), expected)


def test_hessian_is_autograd_of_value(problem, x):
    t = tensor(x).reshape(-1, problem.dim)
    expected = torch.stack([torch.autograd.functional.hessian(problem.value, row) for row in t])
    close(problem.hessian(x).reshape(-1, problem.dim, problem.dim), expected)


@pytest.mark.parametrize("where", [0.0, 1.0])
def test_derivatives_at_special_points(problem, where):
    """At 0 and 1 powers like y^(k-2) are delicate."""
    t = tensor(np.full(problem.dim, where))
    (expected,) = torch.autograd.grad(problem.value(t), t)
    close(problem.gradient(t.detach().numpy()), expected)
    close(problem.hessian(t.detach().numpy()), torch.autograd.functional.hessian(problem.value, t))


def test_node_gradient_is_autograd_of_node_value(distributed):
    t = tensor(np.random.default_rng(2).uniform(-2, 2, (5, distributed.n_nodes, distributed.dim)))
    (expected,) = torch.autograd.grad(distributed.node_value(t).sum(), t)
    close(distributed.node_gradient(t.detach().numpy()), expected)


def test_mean_over_nodes_is_the_objective(distributed):
    x = np.random.default_rng(3).uniform(-2, 2, (5, distributed.dim))
    rows = np.repeat(x[:, None], distributed.n_nodes, axis=1)
    close(distributed.node_value(rows).mean(-1), distributed.value(x))
    close(distributed.node_gradient(rows).mean(-2), distributed.gradient(x))


@pytest.mark.parametrize("method", ["value", "gradient", "hessian"])
def test_leading_axes_are_independent_copies(problem, x, method):
    f = getattr(problem, method)
    rows = [[f(x[i, j]) for j in range(3)] for i in range(2)]
    assert f(x).shape == {"value": (2, 3), "gradient": x.shape, "hessian": (*x.shape, problem.dim)}[method]
    close(f(x), np.array(rows), 1e-13)
    assert f(np.empty((0, problem.dim))).shape[0] == 0


@pytest.mark.parametrize("method", ["value", "gradient", "hessian"])
def test_numpy_and_torch_agree(problem, x, method):
    f = getattr(problem, method)
    assert isinstance(f(tensor(x)), torch.Tensor)
    close(f(tensor(x)).detach(), f(x), 1e-13)


@pytest.mark.parametrize("method", ["value", "gradient", "hessian"])
def test_the_dtype_is_kept_and_integers_become_float64(problem, x, method):
    f = getattr(problem, method)
    assert f(x.astype(np.float32)).dtype == np.float32
    assert f(torch.tensor(x, dtype=torch.float32)).dtype == torch.float32
    assert f([1] * problem.dim).dtype == np.float64
    assert f(torch.ones(problem.dim, dtype=torch.int64)).dtype == torch.float64


def test_every_class_has_an_example():
    examples = {type(p).__name__ for p in ALL}
    assert examples == {name for name, value in vars(problems).items() if isinstance(value, type)} - {
        "Problem",
        "Distributed",
        "FiniteSum",
        "PiecewiseQuadratic",
        "Surface",
    }


def test_the_package_does_not_import_torch():
    code = "import sys, optcourse.problems as p; p.Cosine().value([1.0]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
