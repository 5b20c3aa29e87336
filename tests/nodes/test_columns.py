"""Many seeds in the columns of x: gradients and compressors that treat each by itself."""

import numpy as np
import pytest
import torch

from optcourse.nodes import Network, Streams, compressors, dsgd, in_columns, mixing_matrix, topology
from optcourse.problems import CosineNodes, QuadraticNodes

PROBLEM = CosineNodes(L=1.0, phases=np.arange(6.0).reshape(3, 2), sigma2=4.0)


def test_without_noise_every_copy_has_its_own_gradient():
    exact = CosineNodes(L=1.0, phases=PROBLEM.phases)
    x = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    g = in_columns(exact, np.random.default_rng(0))(x.flatten(1)).view(3, 4, 2)
    for copy in range(4):
        torch.testing.assert_close(g[:, copy], exact.node_gradient(x[:, copy]))


def test_blocks_share_their_noise_and_copies_do_not():
    x = torch.zeros(3, 5 * 1000 * 2, dtype=torch.float64)
    g = in_columns(PROBLEM, np.random.default_rng(0), same=5)(x).view(3, 5, 1000, 2)
    torch.testing.assert_close(g, g[:, :1].expand_as(g), rtol=0, atol=1e-12)
    noise = g[:, 0] - PROBLEM.node_gradient(torch.zeros(3, 2, dtype=torch.float64))[:, None]
    assert noise.square().sum(-1).mean().item() == pytest.approx(PROBLEM.sigma2, rel=0.1)
    assert abs(np.corrcoef(noise.permute(0, 2, 1).reshape(6, -1).numpy()) - np.eye(6)).max() < 0.15


def test_dsgd_in_columns_is_dsgd_of_each_column():
    problem = QuadraticNodes([1.0, 2.0, 3.0], [0.0, 1.0, -1.0])
    W, x = mixing_matrix(topology("ring", 3)), torch.arange(6.0, dtype=torch.float64).view(3, 2)
    both = next(dsgd(Network(3), in_columns(problem, np.random.default_rng(0)), x, 0.1, W=W))
    for column in range(2):
        alone = next(dsgd(Network(3), problem.node_gradient, x[:, column : column + 1], 0.1, W=W))
        torch.testing.assert_close(both[:, column : column + 1], alone)


@pytest.mark.parametrize(("shape", "same"), [((2, 4), 1), ((3, 3), 1), ((3, 4), 4)])
def test_other_shapes_are_refused(shape, same):
    with pytest.raises(ValueError, match="x must have shape"):
        in_columns(PROBLEM, np.random.default_rng(0), same)(torch.zeros(shape))


PIECES = {
    "top_k": lambda n: compressors.top_k(2),
    "scaled_sign": lambda n: compressors.scaled_sign(),
    "qsgd": lambda n: compressors.qsgd(3, Streams("codes", 0, range(n))),
}


@pytest.mark.parametrize("name", PIECES)
def test_each_piece_is_compressed_as_if_alone(name):
    p = torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(2))
    message = compressors.side_by_side(PIECES[name](12), 3)(p.flatten(1))
    alone = PIECES[name](12)(p.flatten(0, 1))
    assert len(message) == 4 and message.nbytes == alone.nbytes
    assert torch.equal(message.dense().view(12, 10), alone.dense())
    some = message.with_payload([t[1:3] for t in message.payload])  # what another process receives
    assert torch.equal(some.dense(), message.dense()[1:3])


def test_pieces_must_be_equal():
    with pytest.raises(ValueError, match="parts must divide the 10 entries of a vector, got 3"):
        compressors.side_by_side(compressors.identity(), 3)(torch.ones(2, 10))
    with pytest.raises(ValueError, match="parts must be at least 1, got 0"):
        compressors.side_by_side(compressors.identity(), 0)


def test_one_piece_is_the_whole():
    x = torch.tensor([[3.0, -1.0, 0.5, 2.0], [0.0, 1.0, -4.0, 0.1]])
    whole = compressors.top_k(k=2)
    torch.testing.assert_close(compressors.side_by_side(whole, 1)(x).dense(), whole(x).dense())
