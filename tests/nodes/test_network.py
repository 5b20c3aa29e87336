"""Collectives of the simulator against plain sums; bytes against the formulas; errors."""

import itertools

import cloudpickle
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optcourse import nodes
from optcourse.nodes import compressors
from optcourse.theory import communication


def numbers(n, d=3, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7, 64, 100])
def test_mean_and_mix_are_the_sums_they_name(n, exact):
    net, x = nodes.Network(n, exact=exact), numbers(n)
    torch.testing.assert_close(net.mean(x), x.mean(0, keepdim=True), rtol=0, atol=1e-14)
    weight = torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(net.mean(x, weight)[0], weight @ x, rtol=0, atol=1e-13)
    for graph in ("ring", "complete", "star"):
        W = nodes.mixing_matrix(nodes.topology(graph, n))
        sparse = nodes.mixing_matrix(nodes.topology(graph, n), sparse=True)
        torch.testing.assert_close(net.mix(W, x), W @ x, rtol=0, atol=1e-13)
        torch.testing.assert_close(net.mix(sparse, x), W @ x, rtol=0, atol=1e-13)


def test_a_compressed_message_is_mixed_and_averaged_as_its_receiver_reads_it():
    net, x = nodes.Network(6), numbers(6, 10)
    q = compressors.top_k(3)(x)
    W = nodes.mixing_matrix(nodes.topology("ring", 6))
    torch.testing.assert_close(net.mean(q)[0], q.dense().mean(0))
    torch.testing.assert_close(net.mix(W, q), W @ q.dense())
    torch.testing.assert_close(net.gather(q), q.dense())


def test_rows_may_have_any_shape():
    net, x = nodes.Network(5), numbers(5, 6).reshape(5, 2, 3)
    W = nodes.mixing_matrix(nodes.topology("ring", 5))
    torch.testing.assert_close(net.mix(W, x), torch.einsum("ij,jab->iab", W, x))
    assert net.mean(x).shape == (1, 2, 3)


def test_what_was_started_is_read_after_the_wait():
    net, x = nodes.Network(4), numbers(4)
    W = nodes.mixing_matrix(nodes.topology("ring", 4))
    mean, mix = net.start_mean(x), net.start_mix(W, x)
    torch.testing.assert_close(mix.wait(), W @ x)
    torch.testing.assert_close(mean.wait()[0], x.mean(0))


def test_exchange_delivers_along_the_edges_in_their_order():
    net, edges = nodes.Network(4), [(2, 0), (0, 1), (3, 1), (1, 3)]
    messages = torch.arange(4.0)[:, None]
    assert net.exchange(edges, messages).flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert net.bytes_sent.tolist() == [4.0, 4.0, 4.0, 4.0]
    assert net.exchange([], torch.zeros(0, 1)).shape == (0, 1)


def sent(n, call):
    net = nodes.Network(n)
    call(net)
    return net.bytes_sent.tolist()


def test_bytes_are_those_of_the_payload():
    n, x = 8, numbers(8, 100, dtype=torch.float32)
    assert sent(n, lambda net: net.mean(x)) == [2 * 7 / 8 * 400] * n
    assert sent(n, lambda net: net.gather(x)) == [7 * 400] * n
    assert sent(n, lambda net: net.mean(compressors.top_k(5)(x))) == [7 * 5 * (4 + 4)] * n
    ring, star = (nodes.mixing_matrix(nodes.topology(name, n)) for name in ("ring", "star"))
    assert sent(n, lambda net: net.mix(ring, x)) == [2 * 400] * n
    assert sent(n, lambda net: net.mix(star, x)) == [7 * 400] + [400] * 7
    one_way = nodes.one_peer_exponential(n)[1]
    assert sent(n, lambda net: net.mix(one_way, compressors.top_k(5)(x))) == [40] * n
    alive = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1], dtype=torch.bool)
    each = 2 * 5 / 6 * 400
    expected = [each if a else 0.0 for a in alive]
    assert sent(n, lambda net: net.mean(x, weight=alive / alive.sum())) == pytest.approx(expected)
    assert nodes.Network(1).wire_bytes == 0


def test_the_clock_charges_what_the_theory_says():
    prices = {"latency": 0.25, "seconds_per_byte": 1e-3}
    for pattern, n in itertools.product(("ring", "parameter_server", "rabenseifner"), (2, 8)):
        net = nodes.Network(n, clock=nodes.Clock(compute=1.0, pattern=pattern, **prices))
        iterates = nodes.psgd(net, lambda x: x, torch.ones(n, 10), 0.1)
        next(iterates), next(iterates)
        one = communication.communication_time(pattern=pattern, n_nodes=n, message_bytes=40, **prices)
        assert net.clock.now == pytest.approx(2 * (1 + one))
    net = nodes.Network(8, clock=nodes.Clock(compute=1.0, **prices))
    W = nodes.mixing_matrix(nodes.topology("ring", 8))
    next(nodes.dsgd(net, lambda x: x, torch.ones(8, 10), 0.1, W=W))
    gossip = communication.communication_time(pattern="gossip", degree=2, n_nodes=8, message_bytes=40, **prices)
    assert net.clock.now == pytest.approx(1 + gossip)


def test_the_same_name_gives_the_same_streams():
    net = nodes.Network(3)
    assert net.streams("data", 1) is net.streams("data", 1)
    assert net.streams("data", 1) is not net.streams("data", 2)


def test_bad_messages_are_refused():
    net, W = nodes.Network(3), nodes.mixing_matrix(nodes.topology("ring", 3))
    with pytest.raises(
        ValueError, match=r"q must be a dense floating-point tensor of shape \[3, \.\.\.\], got .*\[2, 3\]"
    ):
        net.mean(numbers(2))
    with pytest.raises(ValueError, match="floating-point"):
        net.mix(W, torch.ones(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="q must have 3 rows"):
        net.mean(compressors.top_k(1)(numbers(2)))
    for weight in ([1.0, 2.0], [0.0] * 3, [np.nan, 1, 1]):
        with pytest.raises(ValueError, match="weight must be finite"):
            net.mean(numbers(3), weight=torch.tensor(weight))
    with pytest.raises(ValueError, match=r"edges must join nodes in 0\.\.2"):
        net.exchange([(0, 3)], numbers(1))
    with pytest.raises(ValueError, match="sum to 1"):
        net.mix(2 * W, numbers(3))
    for n in (0, -1, 2.5, "three", True):
        with pytest.raises((ValueError, TypeError), match="n must be"):
            nodes.Network(n)
    with pytest.raises(ValueError, match="timeout must be in"):
        nodes.Network(2, timeout=0)


@given(bad=st.sampled_from([np.nan, np.inf, -np.inf]), node=st.integers(0, 4))
def test_the_node_that_sends_no_number_is_named(bad, node):
    net, x = nodes.Network(5), numbers(5)
    x[node, 1] = bad
    W = nodes.mixing_matrix(nodes.topology("complete", 5))
    for call in (net.mean, lambda x: net.mix(W, x)):
        with pytest.raises(ValueError, match=f"messages must be finite: node {node} sent NaN or infinity in round 0"):
            call(x)


def test_a_sum_that_overflows_its_check_but_not_its_numbers_is_accepted():
    x = torch.full((2, 3), 3e38)
    assert torch.isfinite(nodes.Network(2).mix(torch.full((2, 2), 0.5), x / 2)).all()


def test_changed_matrices_are_noticed():
    net, x = nodes.Network(4), numbers(4)
    W = nodes.mixing_matrix(nx.cycle_graph(4))
    net.mix(W, x)
    W.copy_(torch.full((4, 4), 0.25))
    torch.testing.assert_close(net.mix(W, x)[:1], x.mean(0, keepdim=True))


def test_a_network_travels_to_other_processes():
    """Also one that has mixed: a notebook's function may mention it."""
    W, x = nodes.mixing_matrix(nodes.topology("ring", 4)), torch.arange(4.0, dtype=torch.float64)[:, None]
    net = nodes.Network(4)
    mixed = net.mix(W, x)
    assert torch.equal(cloudpickle.loads(cloudpickle.dumps(net)).mix(W, x), mixed)


def test_a_matrix_is_checked_for_what_this_call_asks():
    """The same matrix, first as one with columns that sum to 1, then as a doubly stochastic one."""
    net, W = nodes.Network(2), torch.tensor([[0.5, 1.0], [0.5, 0.0]], dtype=torch.float64)
    x = torch.tensor([[1.0], [10.0]], dtype=torch.float64)
    assert net.mix(W, x, stochastic="columns").flatten().tolist() == [10.5, 0.5]
    assert net.bytes_sent.tolist() == [8.0, 8.0]
    with pytest.raises(ValueError, match="rows that sum to 1"):
        net.mix(W, x)
    with pytest.raises(TypeError, match="W must be a tensor, got list"):
        net.mix([[1.0]], x)
