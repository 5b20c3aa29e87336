"""Every pattern, sent message by message: sum, messages, bytes and seconds are those of the formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse.nodes.time.collectives import Plan, Transfer, execute, plan
from optcourse.theory import communication as com

REDUCES = [pattern for pattern in com.PATTERNS if pattern not in ("gossip", "one_peer")]
WIRE = {"latency": 3e-5, "seconds_per_byte": 2e-9}
SIZES = [1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 17]


def whole_numbers(n, d, seed=0):
    """Sums of these are exact in float64, in every order."""
    return torch.as_tensor(np.random.default_rng(seed).integers(-1000, 1000, (n, d)), dtype=torch.float64)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("pattern", REDUCES)
def test_every_node_gets_the_sum_in_the_time_of_the_formula(pattern, n):
    x = whole_numbers(n, 48 * n)  # a multiple of n and of every power of two below it that SIZES has
    done = execute(plan(pattern, n), x, **WIRE)
    assert torch.equal(done.total, x.sum(0).expand_as(x))
    predicted = com.communication_time(pattern=pattern, n_nodes=n, message_bytes=x[0].nbytes, **WIRE)
    assert done.seconds == pytest.approx(predicted, rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 12])
def test_messages_and_bytes_of_all_hosts_together(n):
    """Counted by hand: what reduces to a tree moves 2 (n - 1) vectors, exchanges between equals move more."""
    x = whole_numbers(n, 24 * n)
    vectors = {name: execute(plan(name, n), x).bytes_sent / x[0].nbytes for name in REDUCES}
    messages = {name: int(execute(plan(name, n), x).messages.sum()) for name in REDUCES}
    p = 2 ** (n.bit_length() - 1)
    surplus, rounds = 2 * (n - p), p.bit_length() - 1
    assert messages["parameter_server"] == vectors["parameter_server"].sum() == 2 * n
    assert vectors["parameter_server"].tolist() == [1] * n + [n]  # the server's wire carries as much as all others'
    assert messages["binomial_tree"] == vectors["binomial_tree"].sum() == 2 * (n - 1)
    assert messages["ring"] == 2 * n * (n - 1)
    np.testing.assert_allclose(vectors["ring"], 2 * (n - 1) / n, rtol=1e-12)
    assert messages["recursive_doubling"] == vectors["recursive_doubling"].sum() == p * rounds + surplus
    assert messages["rabenseifner"] == 2 * p * rounds + surplus
    assert float(vectors["rabenseifner"].sum()) == pytest.approx(2 * (p - 1) + surplus, rel=1e-12)
    assert vectors["all_gather"].tolist() == [n - 1] * n


def test_the_ring_of_three_by_hand():
    """a, b, c are the nodes' vectors; the columns below are parts 0, 1, 2 of what each node holds."""
    a, b, c = torch.tensor([[1, 2, 4], [10, 20, 40], [100, 200, 400]]).double()
    history = execute(plan("ring", 3), torch.stack([a, b, c]), record=True).history
    assert history.tolist() == [
        [[1, 2, 4], [10, 20, 40], [100, 200, 400]],
        [[1, 2, 404], [11, 20, 40], [100, 220, 400]],
        [[1, 222, 404], [11, 20, 444], [111, 220, 400]],
        [[111, 222, 404], [11, 222, 444], [111, 220, 444]],
        [[111, 222, 444], [111, 222, 444], [111, 222, 444]],
    ]


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4, 7])
def test_gossip_sums_over_a_node_and_its_neighbours(degree):
    n = 8
    x = whole_numbers(n, 5)
    done = execute(plan("gossip", n, degree), x, **WIRE)
    neighbours = [0, 1, -1, 2, -2, 3, -3, 4][: degree + 1]
    assert torch.equal(done.total, sum(x.roll(-shift, 0) for shift in neighbours))
    setting = {"n_nodes": n, "message_bytes": x[0].nbytes, **WIRE}
    assert done.seconds == pytest.approx(com.communication_time(pattern="gossip", degree=degree, **setting), rel=1e-12)
    assert done.messages.tolist() == [degree] * n


@pytest.mark.parametrize("n", [1, 2, 5])
def test_one_peer_is_gossip_with_one_neighbour(n):
    x = whole_numbers(n, 3)
    done = execute(plan("one_peer", n), x, **WIRE)
    assert torch.equal(done.total, x + x.roll(-1, 0) if n > 1 else x)
    setting = {"n_nodes": n, "message_bytes": x[0].nbytes, **WIRE}
    assert done.seconds == pytest.approx(com.communication_time(pattern="one_peer", **setting), rel=1e-12)


@settings(max_examples=40)
@given(st.sampled_from(REDUCES), st.integers(1, 20), st.integers(0, 50))
def test_vectors_of_any_length_are_summed_and_nothing_is_overwritten(pattern, n, d):
    x = whole_numbers(n, d, seed=n)
    before = x.clone()
    done = execute(plan(pattern, n), x, record=True)
    assert torch.equal(done.total, x.sum(0).expand_as(x)) and torch.equal(x, before)
    assert execute(plan(pattern, n), x).history is None
    assert done.history.shape == (len(plan(pattern, n).rounds) + 1, plan(pattern, n).n_hosts, d)


@settings(max_examples=25)
@given(st.sampled_from(REDUCES), st.integers(2, 20), st.floats(0, 1e-3), st.floats(0, 1e-6), st.integers(1, 2000))
def test_nothing_beats_the_lower_bound(pattern, n, latency, seconds_per_byte, d):
    wire = {"latency": latency, "seconds_per_byte": seconds_per_byte}
    x = torch.zeros(n, d)
    bound = com.all_reduce_lower_bound(n_nodes=n, message_bytes=x[0].nbytes, **wire)
    assert execute(plan(pattern, n), x, **wire).seconds >= bound * (1 - 1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tree", 4), "pattern must be one of"),
        (("ring", 0), "n_nodes must be at least 1"),
        (("gossip", 4), "degree must be given for gossip"),
        (("ring", 4, 2), "degree must be given for gossip"),
        (("gossip", 4, 4), r"degree must be in 0..3, got 4"),
    ],
)
def test_bad_plans_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan(*arguments)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([Transfer(0, 1, (0,)), Transfer(0, 2, (0,))], "distinct senders"),
        ([Transfer(0, 1, (0,)), Transfer(2, 1, (0,))], "distinct receivers"),
        ([Transfer(0, 3, (0,))], r"distinct receivers in 0..2: \[3\]"),
        ([Transfer(0, 1, (5,))], r"parts in 0..2, got \[5\]"),
    ],
)
def test_a_round_with_two_messages_on_one_wire_is_refused(messages, message):
    with pytest.raises(ValueError, match=message):
        Plan("ring", 3, 3, (tuple(messages),))


def test_bad_vectors_and_times_are_refused():
    with pytest.raises(ValueError, match=r"x must have shape \[3, d\], got \[2, 4\]"):
        execute(plan("ring", 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="latency"):
        execute(plan("ring", 3), torch.zeros(3, 4), latency=-1.0)
    unknown = Plan("all_gather", 3, 3, ((Transfer(0, 1, (2,)),),), gathers=True)
    with pytest.raises(ValueError, match=r"host 0 must hold parts \[2\]"):
        execute(unknown, torch.zeros(3, 4))
