"""D2 at the edge of what it allows: the smallest eigenvalue of an even ring with three equal weights is -1/3."""

from itertools import islice

import pytest
import torch

from optcourse import nodes


@pytest.mark.parametrize("n", [4, 6, 8, 16, 32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_even_ring_is_taken_and_ends_at_the_mean(n, dtype):
    W = nodes.mixing_matrix(nodes.topology("ring", n)).to(dtype)
    assert abs(torch.linalg.eigvalsh(W.double())[0] + 1 / 3) < 1e-7
    b = torch.arange(float(n), dtype=dtype)[:, None]
    iterates = nodes.d2(nodes.Network(n), lambda x: x - b, torch.zeros(n, 1, dtype=dtype), 0.3, W)
    first = next(iterates)
    *_, x = islice(iterates, 200 + n**2 // 2)
    assert (x - b.mean()).abs().max() < 1e-3 * (first - b.mean()).abs().max()


def test_below_it_the_iteration_without_gradient_grows_and_is_refused():
    W = nodes.mixing_matrix(nodes.topology("ring", 8)).double()
    beyond = 1.01 * W - 0.01 * torch.eye(8, dtype=W.dtype)  # symmetric, rows sum to one, smallest eigenvalue -0.347
    lowest = torch.linalg.eigvalsh(beyond)[0].item()
    roots = torch.linalg.eigvals(torch.tensor([[2 * lowest, -lowest], [1.0, 0.0]]))  # x'' = lowest (2 x' - x)
    assert roots.abs().max() > 1.01
    with pytest.raises(ValueError, match=r"W must have eigenvalues of at least -1/3 for D2, got -0\.346"):
        next(nodes.d2(nodes.Network(8), lambda x: x, torch.ones(8, 1).double(), 0.1, beyond))
