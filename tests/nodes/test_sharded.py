"""Codes divided among the nodes: every message, its bytes, and the sum that gathering would give."""

import math
import socket
from itertools import pairwise

import pytest
import torch

from optcourse.nodes import Streams, compressors
from optcourse.nodes.messages.payloads import Plain
from optcourse.nodes.network.kernel import kernel_bytes
from optcourse.nodes.time.collectives import sharded
from optcourse.nodes.time.pipeline import gpipe
from optcourse.theory import communication as com

WIRE = {"latency": 3e-5, "seconds_per_byte": 2e-9}


def vectors(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def makers(n):
    return {
        "sign": lambda: compressors.scaled_sign(),
        "qsgd": lambda: compressors.qsgd(7, Streams("codes", 0, range(n))),
        "top": lambda: compressors.top_k(1),
    }


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("kind", makers(1))
def test_all_nodes_get_the_sum_that_gathering_the_same_codes_gives(n, kind):
    x = vectors(n, 5 * n + 2)
    done = sharded(x, makers(n)[kind](), **WIRE)
    again = makers(n)[kind]()  # the same streams from their start
    gathered = torch.cat([again(part).dense().double().sum(0) for part in x.tensor_split(n, 1)])
    assert all(torch.equal(row, done.total[0]) for row in done.total)
    torch.testing.assert_close(done.total[0].double(), gathered, rtol=1e-5, atol=1e-5)
    assert done.messages.tolist() == [2 * (n - 1)] * n


@pytest.mark.parametrize("n", [2, 4, 16])
def test_bytes_and_seconds_by_hand_and_by_the_formula(n):
    """d = 64 n: a part has 64 float32 = 256 bytes; its sign code 4 + 8 bytes."""
    x = vectors(n, 64 * n)
    code, part = 4 + 8, 256
    for back, answer in ((None, part), (compressors.scaled_sign(), code)):
        done = sharded(x, compressors.scaled_sign(), back, **WIRE)
        assert done.bytes_sent.tolist() == [(n - 1) * (code + answer)] * n
        seconds = (n - 1) * (2 * WIRE["latency"] + (code + answer) * WIRE["seconds_per_byte"])
        assert done.seconds == pytest.approx(seconds, rel=1e-12)
        way = "sharded_twice" if back else "sharded"
        predicted = com.compressed_traffic(way=way, n_nodes=n, ratio=part / code)
        assert float(done.bytes_sent[0]) / (part * n) == pytest.approx(predicted, rel=1e-12)


def test_what_is_compressed_again_is_the_same_for_its_owner():
    x = vectors(4, 24, dtype=torch.float64)
    done = sharded(x, lambda p: Plain((p,)), compressors.scaled_sign())
    sums = [compressors.scaled_sign()(part[None]).dense()[0] for part in x.sum(0).tensor_split(4)]
    assert all(torch.allclose(row, torch.cat(sums)) for row in done.total)
    assert all(torch.equal(row, done.total[0]) for row in done.total)


def test_without_compression_it_is_a_reduce_scatter_and_an_all_gather():
    x = torch.arange(24.0, dtype=torch.float64).view(4, 6)
    done = sharded(x, lambda p: Plain((p,)))
    assert torch.equal(done.total, x.sum(0).expand_as(x))
    ring = com.compressed_traffic(way="added", n_nodes=4, ratio=1)
    assert float(done.bytes_sent.mean()) == pytest.approx(ring * x[0].nbytes)


@pytest.mark.parametrize("shape", [(0, 3), (4, 3), (4,)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"x must have shape \[n, d\] with d >= n >= 1, got"):
        sharded(torch.zeros(shape), compressors.scaled_sign())


def test_the_ways_cross_where_the_docstring_says():
    R = 8.0
    traffic = {way: com.compressed_traffic(way=way, n_nodes=[9, 10, 15, 16, 17], ratio=R) for way in com.WAYS}
    dense = com.compressed_traffic(way="added", n_nodes=[9, 10, 15, 16, 17], ratio=1)
    assert (traffic["gathered"] - traffic["sharded"]).round(12).tolist()[0] == 0
    assert (traffic["gathered"] > traffic["sharded"]).tolist()[1:] == [True] * 4
    assert (traffic["gathered"] < dense).tolist() == [True, True, True, False, False]
    assert (dense / traffic["sharded"]).tolist() == pytest.approx([2 * R / (R + 1)] * 5)
    with pytest.raises(ValueError, match="way must be one of"):
        com.compressed_traffic(way="lost", n_nodes=2, ratio=2)
    with pytest.raises(ValueError, match="ratio must be"):
        com.compressed_traffic(way="added", n_nodes=2, ratio=0)


@pytest.mark.parametrize(("p", "M"), [(1, 1), (1, 5), (2, 1), (4, 8), (3, 2)])
def test_a_pipeline_idles_for_its_bubble(p, M):
    bars = gpipe(p, M, forward=0.5, backward=1.25)
    assert max(bar.end for bar in bars) == pytest.approx((M + p - 1) * 1.75)
    for s in range(p):
        own = sorted((bar.start, bar.end) for bar in bars if bar.node == s)
        assert len(own) == 2 * M and all(a[1] <= b[0] + 1e-12 for a, b in pairwise(own))
    with pytest.raises(ValueError, match="micro must be at least 1, got 0"):
        gpipe(p, 0)
    with pytest.raises(ValueError, match="backward must be"):
        gpipe(p, M, backward=0.0)


def test_the_kernel_counts_what_a_socket_sends():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as wire:
        other, _ = server.accept()
        before = kernel_bytes()
        if math.isnan(before):
            pytest.skip("this kernel does not say")
        wire.sendall(bytes(12_345))
        with other:
            left = 12_345
            while left:
                left -= len(other.recv(65536))
            assert kernel_bytes() - before == 12_345
