"""Low-rank messages against numpy's decompositions, Eckart and Young, and the calculators of the theory."""

import numpy as np
import pytest
import torch
from compressor_cases import SHAPES, D, normal, same, streams

from optcourse.nodes.messages.compressors import low_rank
from optcourse.nodes.messages.factors import matrix_views, orthogonalize, products
from optcourse.theory import compression as theory


def test_matrix_views_are_views_in_order():
    x = normal(2, D)
    matrices, rest = matrix_views(x, SHAPES)
    assert [list(t.shape) for t in matrices + rest] == [[2, 5, 7], [2, 3, 8], [2, 11, 3], [2, 5], [2, 1]]
    parameters = [np.arange(np.prod(s, dtype=int)) for s in SHAPES]  # as a model would be flattened
    offsets = np.cumsum([0] + [len(t) for t in parameters])
    np.testing.assert_array_equal(matrices[1][1], x[1, offsets[2] : offsets[3]].reshape(3, 8))
    np.testing.assert_array_equal(rest[0][1], x[1, offsets[1] : offsets[2]])
    for t in matrices + rest:
        t.zero_()
    assert not x.any()


def test_products_and_bases_are_those_of_every_node():
    A, B = normal(4, 35).view(4, 5, 7), normal(4, 14, seed=1).view(4, 7, 2)
    torch.testing.assert_close(products(A, B), torch.einsum("mij,mjk->mik", A, B), rtol=1e-13, atol=1e-13)
    P = normal(6, 20).view(6, 10, 2) * 10.0 ** torch.arange(-3, 3)[:, None, None]
    P[4] = 0
    P[5, :, 1] = 2 * P[5, :, 0]  # dependent
    U = orthogonalize(P)
    eye = torch.eye(2, dtype=P.dtype)
    torch.testing.assert_close(U.mT @ U, eye.expand(6, 2, 2), rtol=0, atol=1e-14)  # a norm over the batch fails here
    torch.testing.assert_close(U @ (U.mT @ P), P, rtol=1e-13, atol=1e-13)  # the span is kept
    with pytest.raises(ValueError, match=r"P must be \[m, a, r\] with r <= a, got \[1, 2, 3\]"):
        orthogonalize(torch.ones(1, 2, 3))


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_low_rank_is_the_projection_of_numpy(iterations):
    p, r, shape = normal(3, 48), 2, (6, 8)
    found = low_rank([shape], r, iterations, streams=streams(range(3)))(p).dense().view(3, *shape)
    start = streams(range(3)).normal(8 * r, dtype=p.dtype).view(3, 8, r)
    for M, Q, got in zip(p.view(3, *shape).numpy(), start.numpy(), found.numpy(), strict=True):
        power = np.linalg.matrix_power(M @ M.T, iterations - 1) @ M @ Q
        P = np.linalg.svd(power, full_matrices=False)[0]
        np.testing.assert_allclose(got, P @ P.T @ M, atol=1e-11)


@pytest.mark.parametrize("r", [1, 2, 4])
def test_more_iterations_approach_eckart_young_and_nothing_beats_it(r):
    p, shape = normal(3, 40), (4, 10)
    square = p.square().sum(1)

    def attained(q):
        return 1 - (q.dense() - p).square().sum(1) / square

    best = p.new_tensor([theory.delta_low_rank(matrix=M, rank=r) for M in p.view(3, *shape).numpy()])
    once, twice, often = (attained(low_rank([shape], r, k, streams=streams(range(3)))(p)) for k in (1, 2, 60))
    assert (once <= twice + 1e-13).all() and (twice <= best + 1e-13).all()
    torch.testing.assert_close(often, best, rtol=0, atol=1e-6)


def test_matrices_of_the_rank_and_biases_pass_unchanged():
    x = normal(2, D)
    for M, seed in zip(matrix_views(x, SHAPES)[0], (1, 2, 3), strict=True):
        a, b = M.shape[1:]
        M.copy_(normal(2, a * 2, seed=seed).view(2, a, 2) @ normal(2, 2 * b, seed=seed).view(2, 2, b))
    found = low_rank(SHAPES, 2, streams=streams(range(2)))(x).dense()
    torch.testing.assert_close(found, x, rtol=0, atol=1e-12)
    for sent, bias in zip(matrix_views(found, SHAPES)[1], matrix_views(x, SHAPES)[1], strict=True):
        assert same(sent, bias)
    vectors = low_rank([(3,), (4,)], streams=streams(range(2)))
    assert same(vectors(x[:, :7]).dense(), x[:, :7])


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_random_start_contracts_as_in_theory(shape):
    r, n = 2, 2000
    U = orthogonalize(normal(1, 36).view(1, 9, 4))[0]
    equal = (U if shape == (9, 4) else U.mT).reshape(1, -1)  # equal singular values: tight, whatever the start
    found = low_rank([shape], r, streams=streams([0]))(equal).dense()
    assert float((found - equal).square().sum()) == pytest.approx((1 - theory.delta_sparse(size=4, kept=r)) * 4)
    v = normal(1, 36, seed=3)
    p = v.expand(n, -1)
    attained = 1 - (low_rank([shape], r, streams=streams(range(n)))(p).dense() - p).square().sum(1) / v.square().sum()
    assert attained.mean() - 4 * attained.std() / n**0.5 > theory.delta_sparse(size=4, kept=r)


def test_one_node_does_not_set_the_scale_of_another():
    p = normal(3, 12, seed=5)
    p[1] *= 1e6
    p[2] = 0
    found = low_rank([(3, 4)], 3, streams=streams(range(3)))(p).dense()  # full rank: nothing is lost
    torch.testing.assert_close(found[0], p[0], rtol=0, atol=1e-14)
    torch.testing.assert_close(found[1], p[1], rtol=0, atol=1e-14 * 1e6)
    assert not found[2].any()


def test_low_rank_errors():
    for rank in (0, 4):
        with pytest.raises(ValueError, match=rf"rank .*must be .*, got {rank}"):
            low_rank([(3, 5)], rank, streams=streams([0]))
    with pytest.raises(ValueError, match=r"rank \(of the 3 x 5 matrix\) must be in 1\.\.3, got 4"):
        low_rank([(9, 9), (3, 5)], 4, streams=streams([0]))
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        low_rank([(3, 5)], iterations=0, streams=streams([0]))
    with pytest.raises(ValueError, match="shapes must list at least one shape"):
        low_rank([], streams=streams([0]))
    with pytest.raises(ValueError, match="a side in shapes must be at least 1, got 0"):
        low_rank([(3, 0)], streams=streams([0]))
    with pytest.raises(ValueError, match=r"p must be \[m, d\] with d = 15, the entries of shapes, got \[2, 14\]"):
        low_rank([(3, 5)], streams=streams(range(2)))(torch.ones(2, 14))
    with pytest.raises(ValueError, match="the factors of p must be finite, got NaN or infinity in row 1 of 2"):
        low_rank([(3, 5)], streams=streams(range(2)))(torch.tensor([[1.0], [3e38]]).expand(2, 15))
