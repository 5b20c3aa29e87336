"""Algorithms against numbers that their authors printed."""

import networkx as nx
import pytest
import torch

from optcourse import nodes


class RandomQuadratics:
    """f_i(x) = ||A_i x - b_i||^2 of RelaySum's appendix: singular values from mu to 1, unlike minima (zeta2)."""

    def __init__(self, n, d, mu, zeta2, seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the paper's draws, in its order
            A, apart = torch.randn(n, d, d, dtype=torch.float64), torch.randn(n, d, 1, dtype=torch.float64)
            minimum = torch.randn(d, 1, dtype=torch.float64)
        U, _, V = torch.linalg.svd(A)
        self.A = U @ torch.diag(torch.linspace(mu, 1, d, dtype=torch.float64)) @ V
        b = self.A @ apart
        b = b - self.A @ self._minimizer(b)  # the optimum at 0; the gradients there are the heterogeneity
        unlike = (self.A.mT @ b).square().sum((1, 2)).mean()
        self.b = b * (zeta2 / unlike).sqrt() + self.A @ (minimum / minimum.norm())
        self.least = self.value(self._minimizer(self.b))

    def _minimizer(self, b):
        stacked = self.A.flatten(0, 1)
        return torch.linalg.solve(stacked.T @ stacked, stacked.T @ b.flatten(0, 1))

    def value(self, x):
        return (self.A @ x - self.b).square().sum() / len(self.A)

    def gradient(self, x):
        return (2 * self.A.mT @ (self.A @ x[..., None] - self.b))[..., 0]


@pytest.mark.parametrize(
    ("zeta2", "lr", "steps"), [(0.0, 0.869140625, 51), (0.1, 0.869140625, 51), (10.0, 0.8984375, 54)]
)
def test_relay_sum_takes_the_steps_of_the_released_notebook(zeta2, lr, steps):
    """Figure 7: a chain of 32 nodes, d = 10, from 0 to f(mean) - f* < 1e-6 at the rates that its tuning found."""
    f, start = RandomQuadratics(32, 10, 0.5, zeta2), torch.zeros(32, 10, dtype=torch.float64)
    iterates = nodes.relay_sum(nodes.Network(32), f.gradient, start, lr, tree=nx.path_graph(32))
    errors = (float(f.value(x.mean(0)[:, None]) - f.least) for x in iterates)
    assert next(k for k, error in enumerate(errors, 1) if error < 1e-6) == steps
