"""Compressors against numpy, exact arithmetic, the calculators of the theory, and themselves with fewer rows."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from optcourse.nodes.compressors import identity, low_rank, qsgd, random_k, scaled_sign, top_k
from optcourse.nodes.factors import matrix_views, orthogonalize, products
from optcourse.nodes.packing import pack, unpack
from optcourse.nodes.streams import Streams
from optcourse.theory import communication as cost
from optcourse.theory import compression as theory

SHAPES = [(5, 7), (5,), (3, 2, 4), (), (11, 3)]
D = 35 + 5 + 24 + 1 + 33
DTYPES = [torch.float32, torch.float64]


def streams(nodes, seed=0):
    return Streams("compressor", seed, list(nodes))


#: Every compressor, for a process that owns ``nodes``.
COMPRESSORS = {
    "identity": lambda nodes: identity(),
    "top_k": lambda nodes: top_k(13),
    "random_k": lambda nodes: random_k(13, streams(nodes)),
    "random_k shared": lambda nodes: random_k(13, streams([0]), shared=True),
    "random_k unbiased": lambda nodes: random_k(13, streams(nodes), unbiased=True),
    "qsgd": lambda nodes: qsgd(3, streams(nodes)),
    "qsgd buckets": lambda nodes: qsgd(100, streams(nodes), bucket=10),
    "scaled_sign": lambda nodes: scaled_sign(),
    "low_rank": lambda nodes: low_rank(SHAPES, rank=2, streams=streams(nodes)),
    "low_rank twice": lambda nodes: low_rank(SHAPES, rank=1, iterations=2, streams=streams(nodes)),
    "low_rank best": lambda nodes: low_rank(SHAPES, rank=2, best=True),
}


def normal(m, d, dtype=torch.float64, seed=0):
    return torch.randn(m, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    """Equal to the last bit, and of the same type."""
    return a.dtype == b.dtype and torch.equal(a, b)


class Fixed:
    """Streams that give prepared numbers: the expectation over a grid of them is a finite sum."""

    def __init__(self, u):
        self.u, self.nodes = u, range(len(u))

    def uniform(self, d, dtype):
        return self.u.to(dtype)


# What every compressor must do


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_node_sends_the_same_whichever_process_owns_it(name, dtype):
    n = 8
    scales = 10.0 ** torch.arange(-4, n - 4, dtype=dtype)[:, None]  # one node must not set another one's scale
    rounds = [(normal(n, D, dtype, seed) * scales).round(decimals=3) for seed in range(3)]  # small rows: many ties
    for rows in (1, 2, 3, 8):
        parts = [list(range(n))[i : i + rows] for i in range(0, n, rows)]
        everyone, owners = COMPRESSORS[name](range(n)), [COMPRESSORS[name](part) for part in parts]
        for p in rounds:
            whole = everyone(p)
            sent = [own(p[part]) for own, part in zip(owners, parts, strict=True)]
            for k, t in enumerate(whole.payload):
                assert same(torch.cat([q.payload[k] for q in sent]), t)
            assert same(torch.cat([q.dense() for q in sent]), whole.dense())  # read by its sender, and
            gathered = [torch.cat([q.payload[k] for q in sent]) for k in range(len(whole.payload))]
            for q in sent:  # by every receiver
                assert same(q.with_payload(gathered).dense(), whole.dense())


@pytest.fixture(params=[1, 2], ids="{} threads".format)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_rows_and_large_matrices_add_in_one_order(threads, dtype):
    # Here batched kernels do differ: rank-1 products of one matrix and of two, sums of one long row on two threads.
    shape = (150, 301)
    p = normal(3, 150 * 301, dtype)
    makers = [
        lambda nodes: scaled_sign(),
        lambda nodes: qsgd(3, streams(nodes)),
        lambda nodes: low_rank([shape], 1, streams=streams(nodes)),
    ]
    for make in makers:
        whole, alone = make(range(3))(p), [make([i])(p[i : i + 1]) for i in range(3)]
        for k, t in enumerate(whole.payload):
            assert same(torch.cat([q.payload[k] for q in alone]), t)
        assert same(torch.cat([q.dense() for q in alone]), whole.dense())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", COMPRESSORS)
def test_message_has_the_vectors_shape_and_counts_its_payload(name, dtype):
    p = normal(4, D, dtype)
    before = p.clone()
    q = COMPRESSORS[name](range(4))(p)
    assert q.dense().shape == p.shape and q.dense().dtype == dtype and len(q) == 4
    assert q.nbytes == sum(t.numel() * t.element_size() for t in q.payload)
    assert all(len(t) == 4 and t.is_contiguous() for t in q.payload)
    assert same(p, before)
    assert same(q.dense(), q.dense())  # reading has no side effect


@pytest.mark.parametrize("name", COMPRESSORS)
def test_zero_is_sent_as_zero(name):
    assert not COMPRESSORS[name](range(2))(torch.zeros(2, D)).dense().any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", COMPRESSORS)
def test_non_finite_rows_are_named(name, bad):
    p = torch.ones(4, D)
    p[2, 5] = bad
    with pytest.raises(ValueError, match="p must be finite, got NaN or infinity in row 2 of 4"):
        COMPRESSORS[name](range(4))(p)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_other_shapes_and_types_are_refused(name):
    compress = COMPRESSORS[name](range(2))
    for p in (torch.ones(D), torch.ones(2, 1, D), torch.ones(2, 0)):
        with pytest.raises(ValueError, match=r"p must have shape \[m, d\] with d >= 1, got \["):
            compress(p)
    for p in (torch.ones(2, D, dtype=torch.int64), torch.ones(2, D, dtype=torch.float16), np.ones((2, D))):
        with pytest.raises(TypeError, match="p must be a float32 or float64 tensor, got"):
            compress(p)


@pytest.mark.parametrize("name", ["random_k", "random_k unbiased", "qsgd", "qsgd buckets", "low_rank"])
def test_every_row_needs_a_stream(name):
    with pytest.raises(ValueError, match="one row for each of the 3 nodes of streams, got 2"):
        COMPRESSORS[name](range(3))(torch.ones(2, D))


def test_identity():
    p = normal(3, 10)
    q = identity()(p)
    assert same(q.dense(), p) and q.nbytes == p.nbytes


# Packed bits


@settings(max_examples=150, deadline=None)
@given(bits=st.integers(1, 31), m=st.integers(0, 3), d=st.integers(0, 40), data=st.data())
def test_packed_codes_are_one_little_endian_number(bits, m, d, data):
    code = st.sampled_from([0, 1, 2**bits - 1]) | st.integers(0, 2**bits - 1)
    codes = data.draw(st.lists(st.lists(code, min_size=d, max_size=d), min_size=m, max_size=m))
    packed = pack(torch.tensor(codes, dtype=torch.int64).reshape(m, d), bits)
    assert packed.dtype == torch.uint8 and packed.shape == (m, -(-d * bits // 8))
    for row, sent in zip(codes, packed.tolist(), strict=True):
        assert int.from_bytes(bytes(sent), "little") == sum(c << (bits * i) for i, c in enumerate(row))
    assert unpack(packed, bits, d).tolist() == codes


@pytest.mark.parametrize("d", [1, 7, 8, 9, 1001])
def test_single_bits_are_packed_as_numpy_packs_them(d):
    flags = normal(2, d) > 0
    np.testing.assert_array_equal(pack(flags, 1).numpy(), np.packbits(flags.numpy(), axis=1, bitorder="little"))


def test_packing_errors():
    with pytest.raises(ValueError, match=r"codes must be in 0\.\.3, got 0\.\.4"):
        pack(torch.tensor([[0, 4]]), 2)
    with pytest.raises(ValueError, match=r"codes must be in 0\.\.3, got -1\.\.0"):
        pack(torch.tensor([[0, -1]]), 2)
    for bits in (0, 32):
        with pytest.raises(ValueError, match=rf"bits must be in 1\.\.31, got {bits}"):
            pack(torch.tensor([[0]]), bits)
    with pytest.raises(ValueError, match="packed must have 2 bytes per row for 3 codes of 4 bits, got 1"):
        unpack(torch.zeros(1, 1, dtype=torch.uint8), 4, 3)


# Bytes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [8, 96, 1001])
def test_bytes_are_those_of_the_theory(d, dtype):
    p, value = normal(3, d, dtype), 8 * dtype.itemsize

    def ratio(q):
        return p.nbytes / q.nbytes

    for k in (1, 5, d):
        sparse = {"size": d, "kept": k, "value_bits": value}
        assert ratio(top_k(k)(p)) == cost.sparse_ratio(**sparse)
        assert ratio(random_k(k, streams(range(3)))(p)) == cost.sparse_ratio(**sparse)
        shared = random_k(k, streams([0]), shared=True)(p)
        assert ratio(shared) == cost.sparse_ratio(**sparse, index_bits=0)
    codes = {s: qsgd(s, streams(range(3))) for s in (1, 2, 3, 4, 7, 8, 100, 127, 128, 2**23)}
    for bits, compress in [(1, scaled_sign())] + [(int(np.ceil(np.log2(2 * s + 1))), q) for s, q in codes.items()]:
        nbytes = compress(p).nbytes
        unused = -d * bits % 8  # bits in the last byte of a row; none if d is a multiple of 8
        assert 8 * nbytes == 3 * (d * bits + value + unused)
        if not unused:
            quantized = cost.quantized_ratio(size=d, bits=bits, value_bits=value)
            assert p.nbytes / nbytes == pytest.approx(quantized, rel=1e-15)
    assert qsgd(3, streams(range(3)), bucket=10)(p).nbytes == 3 * (-(-d // 10) * dtype.itemsize + -(-3 * d // 8))


@pytest.mark.parametrize("best", [True, False])
def test_low_rank_bytes(best):
    p = normal(2, 60 * 20, torch.float32)
    for r in (1, 3, 20):
        q = low_rank([(60, 20)], rank=r, streams=streams(range(2)), best=best)(p)
        assert p.nbytes / q.nbytes == cost.low_rank_ratio(rows=60, columns=20, rank=r)
    q = low_rank(SHAPES, rank=2, streams=streams(range(2)), best=best)(normal(2, D))
    assert q.nbytes == 2 * 8 * (2 * (5 + 7) + 2 * (3 + 8) + 2 * (11 + 3) + 5 + 1)  # biases as they are


# Sparse


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(st.integers(-3, 3), min_size=9, max_size=9), min_size=1, max_size=4), k=st.integers(1, 9))
def test_top_k_keeps_the_first_of_equals(rows, k):
    q = top_k(k)(torch.tensor(rows, dtype=torch.float64))
    for row, found, sent in zip(rows, q.dense().tolist(), q.payload[1].tolist(), strict=True):
        kept = sorted(range(9), key=lambda i: (-abs(row[i]), i))[:k]
        assert sent == sorted(kept)
        assert found == [a if i in kept else 0 for i, a in enumerate(row)]
        if any(row):
            delta = theory.delta_top_k(vector=row, kept=k)
            assert sum(a * a for a in found) == pytest.approx(delta * sum(a * a for a in row), rel=1e-12)


def test_top_k_of_many_entries_against_numpy():
    p = normal(2, 20_000, torch.float32).round(decimals=2)  # about 800 different values
    for k in (1, 200, 19_999):
        order = np.argsort(-p.abs().numpy(), axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(top_k(k)(p).payload[1].numpy(), np.sort(order, axis=1))


def test_contraction_of_sparse_messages_is_tight_for_equal_magnitudes():
    p = torch.tensor([[2.0, -2.0] * 5] * 3)
    for compress in (top_k(4), random_k(4, streams(range(3)))):
        error = (compress(p).dense() - p).square().sum(1) / p.square().sum(1)
        assert (error.double() == torch.tensor(1 - theory.delta_sparse(size=10, kept=4)).float().double()).all()


def test_random_k_draws_every_subset_equally_often():
    n, d, k = 2000, 5, 2
    indices = random_k(k, streams(range(n)))(normal(n, d)).payload[1]
    subsets = list(combinations(range(d), k))
    counts = [sum(tuple(row) == subset for row in indices.tolist()) for subset in subsets]
    assert sum(counts) == n  # distinct and ascending
    assert stats.chisquare(counts).pvalue > 1e-3  # nine degrees of freedom


def test_random_k_contracts_as_in_theory_and_is_unbiased_when_scaled():
    n, k = 2000, 2
    v = torch.tensor([3.0, -1.0, 0.5, 0.0, 2.0, -4.0], dtype=torch.float64)
    p, d = v.expand(n, -1), len(v)
    error = (random_k(k, streams(range(n)))(p).dense() - p).square().sum(1)
    within(error, (1 - theory.delta_sparse(size=d, kept=k)) * v.square().sum())
    Q = random_k(k, streams(range(n), seed=1), unbiased=True)(p).dense()
    within(Q, v)
    omega = d / k - 1
    assert theory.delta_unbiased(omega=omega) == theory.delta_sparse(size=d, kept=k)
    within((Q - p).square().sum(1), omega * v.square().sum())


def test_shared_positions_are_common_to_all_nodes_and_drawn_anew():
    sender, receiver = (random_k(5, streams([0]), shared=True) for _ in range(2))
    chosen = []
    for seed in range(4):
        p = normal(3, 50, seed=seed)
        q, regenerated = sender(p), receiver(normal(1, 50))
        assert torch.equal(q.indices, regenerated.indices) and len(q.payload) == 1
        mask = torch.zeros(50, dtype=torch.bool)
        mask[q.indices] = True
        assert same(q.dense(), p * mask)
        assert same(regenerated.with_payload(q.payload).dense(), q.dense())
        chosen.append(tuple(q.indices.tolist()))
    assert len(set(chosen)) == 4
    with pytest.raises(ValueError, match="streams must have one node if the positions are shared, got 2"):
        random_k(5, streams([0, 1]), shared=True)


@pytest.mark.parametrize("k", [0, 11, -1])
def test_k_is_checked_when_called(k):
    for compress in (top_k(k), random_k(k, streams([0])), random_k(k, streams([0]), shared=True)):
        with pytest.raises(ValueError, match=rf"k must be in 1\.\.10, got {k}"):
            compress(torch.ones(1, 10))
    with pytest.raises(TypeError, match=r"k must be an integer, got 1\.5"):
        top_k(1.5)(torch.ones(1, 10))


# QSGD and signs


@settings(max_examples=100, deadline=None)
@given(
    levels=st.integers(1, 300) | st.sampled_from([2**15, 2**23]),
    d=st.integers(1, 30),
    bucket=st.none() | st.integers(1, 40),
    seed=st.integers(0, 10),
)
def test_qsgd_rounds_as_the_definition(levels, d, bucket, seed):
    v = normal(2, d, seed=seed)
    u = streams(range(2)).uniform(d, dtype=v.dtype).numpy()
    found = qsgd(levels, streams(range(2)), bucket)(v).dense().numpy()
    for i, row in enumerate(v.numpy()):
        for start in range(0, d, bucket or d):
            part = slice(start, start + (bucket or d))
            norm = np.linalg.norm(row[part])
            r = levels * abs(row[part]) / norm
            level = np.floor(r) + (u[i, part] < r - np.floor(r))
            near = np.minimum(abs(r - np.round(r)), abs(u[i, part] - (r - np.floor(r)))) < 1e-13 * levels  # either way
            np.testing.assert_allclose(
                np.where(near, 0, found[i, part]), np.where(near, 0, norm * np.sign(row[part]) * level / levels), 1e-13
            )
            assert (abs(found[i, part] - row[part]) <= norm / levels * (1 + 1e-12)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_qsgd_attains_its_variance_exactly(dtype):
    grid = (torch.arange(4) + 0.5)[:, None] / 4  # four outcomes, alike for all entries: expectations are sums
    for v, s in (([1.0, -1.0] * 8, 1), ([-0.5] * 7 + [1.5], 2)):  # fractions of r: multiples of 1/4
        p = torch.tensor(v, dtype=dtype).expand(4, -1)
        Q = qsgd(s, Fixed(grid.expand(4, len(v))))(p).dense()
        assert same(Q.mean(0), p[0])
        square, omega = float(p[0].square().sum()), theory.qsgd_omega(size=len(v), levels=s)
        assert float((Q - p).square().sum(1).mean()) == theory.qsgd_variance(vector=v, levels=s) == omega * square


@pytest.mark.parametrize("bucket", [None, 3])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_qsgd_is_unbiased_with_the_variance_of_theory(levels, bucket):
    n = 2000
    v = torch.tensor([3.0, -1.0, 0.5, 0.0, 2.0, -4.0, 0.1], dtype=torch.float64)
    p = v.expand(n, -1)
    Q = qsgd(levels, streams(range(n)), bucket)(p).dense()
    within(Q, v)
    variance = sum(theory.qsgd_variance(vector=part.numpy(), levels=levels) for part in v.split(bucket or len(v)))
    within((Q - p).square().sum(1), variance)


def within(samples, mean):
    """The mean over the rows (2000 in all tests, one independent stream each) is within 4 standard errors."""
    assert len(samples) == 2000
    error = samples.std(0) / len(samples) ** 0.5
    assert ((samples.mean(0) - mean).abs() <= 4 * error + 1e-12).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_neither_overflow_nor_vanish(dtype):
    big = torch.finfo(dtype).max / 16
    for size in (big, 1 / big):
        p = torch.full((1, 4), size, dtype=dtype)
        q = qsgd(2, streams([0]))(p)
        assert same(q.payload[0], 2 * p[:, :1]) and same(q.dense(), p)  # r = 1 exactly: nothing is random
        assert same(scaled_sign()(p).dense(), p)
    with pytest.raises(ValueError, match="the norms of p must be finite, got NaN or infinity in row 0 of 1"):
        qsgd(2, streams([0]))(torch.full((1, 1000), big, dtype=dtype))
    p = torch.full((1, 1024), big, dtype=dtype)  # a power of two: the division by d is exact
    assert same(scaled_sign()(p).dense(), p)


def test_qsgd_never_exceeds_the_top_level():
    for seed in range(20):
        p = normal(50, 3, torch.float32, seed)
        p[:, 1:] *= 1e-4  # one entry is nearly the norm
        q = qsgd(2**23, streams(range(50)))(p)
        assert (q.dense().abs() <= q.payload[0]).all()


def test_qsgd_errors():
    for levels in (0, 2**23 + 1):
        with pytest.raises(ValueError, match=rf"levels must be in 1\.\.8388608, got {levels}"):
            qsgd(levels, streams([0]))
    with pytest.raises(ValueError, match="bucket must be at least 1, got 0"):
        qsgd(1, streams([0]), bucket=0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-10, 10).map(lambda a: round(a, 3)), min_size=1, max_size=40).filter(any))
def test_scaled_sign(v):
    p = torch.tensor([v], dtype=torch.float64)
    found = scaled_sign()(p).dense()[0].numpy()
    np.testing.assert_allclose(found, np.mean(np.abs(v)) * np.where(np.array(v) >= 0, 1, -1), rtol=1e-14)
    error = np.square(found - v).sum() / np.square(v).sum()
    assert error == pytest.approx(1 - theory.delta_sign(vector=v), abs=1e-13)


def test_both_zeros_are_sent_as_plus():
    assert scaled_sign()(torch.tensor([[3.0, 0.0, -0.0]])).dense().tolist() == [[1.0, 1.0, 1.0]]


# Low rank


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
    found = low_rank([shape], r, iterations, streams(range(3)))(p).dense().view(3, *shape)
    start = streams(range(3)).normal(8 * r, dtype=p.dtype).view(3, 8, r)
    for M, Q, got in zip(p.view(3, *shape).numpy(), start.numpy(), found.numpy(), strict=True):
        power = np.linalg.matrix_power(M @ M.T, iterations - 1) @ M @ Q
        P = np.linalg.svd(power, full_matrices=False)[0]
        np.testing.assert_allclose(got, P @ P.T @ M, atol=1e-11)


@pytest.mark.parametrize("r", [1, 2, 4])
def test_best_low_rank_attains_eckart_young_and_nothing_beats_it(r):
    p, shape = normal(3, 40), (4, 10)
    square = p.square().sum(1)

    def attained(q):
        return 1 - (q.dense() - p).square().sum(1) / square

    best = attained(low_rank([shape], r, best=True)(p))
    for M, delta in zip(p.view(3, *shape).numpy(), best.tolist(), strict=True):
        assert delta == pytest.approx(theory.delta_low_rank(matrix=M, rank=r), abs=1e-13)
        assert delta >= theory.delta_sparse(size=4, kept=r) - 1e-13
    once, twice, often = (attained(low_rank([shape], r, k, streams(range(3)))(p)) for k in (1, 2, 60))
    assert (once <= twice + 1e-13).all() and (twice <= best + 1e-13).all()
    torch.testing.assert_close(often, best, rtol=0, atol=1e-6)


def test_matrices_of_the_rank_and_biases_pass_unchanged():
    x = normal(2, D)
    for M, seed in zip(matrix_views(x, SHAPES)[0], (1, 2, 3), strict=True):
        a, b = M.shape[1:]
        M.copy_(normal(2, a * 2, seed=seed).view(2, a, 2) @ normal(2, 2 * b, seed=seed).view(2, 2, b))
    for compress in (low_rank(SHAPES, 2, streams=streams(range(2))), low_rank(SHAPES, 2, best=True)):
        found = compress(x).dense()
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
            low_rank([(3, 5)], rank, best=True)
    with pytest.raises(ValueError, match=r"rank \(of the 3 x 5 matrix\) must be in 1\.\.3, got 4"):
        low_rank([(9, 9), (3, 5)], 4, best=True)
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        low_rank([(3, 5)], iterations=0, streams=streams([0]))
    with pytest.raises(ValueError, match="streams must be given unless best = True"):
        low_rank([(3, 5)])
    with pytest.raises(ValueError, match="shapes must list at least one shape"):
        low_rank([], best=True)
    with pytest.raises(ValueError, match="a side in shapes must be at least 1, got 0"):
        low_rank([(3, 0)], best=True)
    with pytest.raises(ValueError, match=r"x must be \[m, d\] with d = 15, the entries of shapes, got \[2, 14\]"):
        low_rank([(3, 5)], best=True)(torch.ones(2, 14))
    with pytest.raises(ValueError, match="the factors of p must be finite, got NaN or infinity in row 1 of 2"):
        low_rank([(3, 5)], streams=streams(range(2)))(torch.tensor([[1.0], [3e38]]).expand(2, 15))
