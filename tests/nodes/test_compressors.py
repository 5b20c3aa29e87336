"""What every compressor must do: rows that do not depend on each other, honest shapes and bytes, clear errors."""

import numpy as np
import pytest
import torch
from compressor_cases import COMPRESSORS, DTYPES, SHAPES, D, normal, same, streams

from optcourse.nodes.messages.compressors import identity, low_rank, qsgd, random_k, scaled_sign, top_k
from optcourse.theory import communication as cost


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


@pytest.mark.parametrize("power", [-35, -20, 20, 30])
@pytest.mark.parametrize("name", COMPRESSORS)
def test_units_do_not_matter(name, power):
    """With the same random numbers, in float32: whoever squares an entry on the way leaves the range of the numbers."""
    for seed in range(5):
        p, scale = normal(4, D, torch.float32, seed), 10.0**power
        found, expected = (COMPRESSORS[name](range(4))(v).dense().double() for v in (p * scale, p))
        assert ((found / scale - expected).norm(dim=1) <= 1e-5 * p.norm(dim=1)).all()


def test_identity():
    p = normal(3, 10)
    q = identity()(p)
    assert same(q.dense(), p) and q.nbytes == p.nbytes


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


def test_low_rank_bytes():
    p = normal(2, 60 * 20, torch.float32)
    for r in (1, 3, 20):
        q = low_rank([(60, 20)], rank=r, streams=streams(range(2)))(p)
        assert p.nbytes / q.nbytes == cost.low_rank_ratio(rows=60, columns=20, rank=r)
    q = low_rank(SHAPES, rank=2, streams=streams(range(2)))(normal(2, D))
    assert q.nbytes == 2 * 8 * (2 * (5 + 7) + 2 * (3 + 8) + 2 * (11 + 3) + 5 + 1)  # biases as they are
