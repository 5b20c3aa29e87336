"""What is another thing in every round: step sizes, who takes part, and time that an average does not take."""

import inspect
import weakref
from functools import partial

import node_cases
import numpy as np
import pytest
import torch

from optcourse import nodes
from optcourse.nodes import Clock, Network, compressors
from optcourse.nodes.network import averaging
from optcourse.nodes.time.clock import constant
from optcourse.optim import LARS, SGD

NAMES = list(node_cases.cases(Network(8)))


def run(name, lr, steps=9, dtype=torch.float64):
    net = Network(8)
    rule, options = node_cases.cases(net)[name]
    return nodes.last_iterate(
        rule(net, node_cases.gradient(net, dtype), node_cases.start(net, dtype), lr, **options), steps
    )


# ---- step sizes


@pytest.mark.parametrize("name", NAMES)
def test_a_step_size_may_be_a_function_of_the_round(name):
    """The same in all rounds: the same bits; a tensor [d] as well. Another one in each: other iterates."""
    assert torch.equal(run(name, lambda k: 0.05), run(name, 0.05))
    sizes = torch.linspace(0.01, 0.1, node_cases.DIM)
    assert torch.equal(run(name, lambda k: sizes), run(name, sizes))
    assert not torch.equal(run(name, lambda k: 0.05 / (k + 1)), run(name, 0.05))


@pytest.mark.parametrize(
    "name", ["psgd", "local_sgd", "scaffold", "dsgd", "d2", "gradient_tracking", "overlap_local_sgd"]
)
def test_the_way_is_the_sum_of_the_step_sizes(name):
    """Against a gradient of ones, round k goes lr(k): d2 and scaffold must not mix up the rates of two rounds."""
    rule, options = node_cases.cases(Network(8))[name]
    x = torch.zeros(8, 1, dtype=torch.float64)
    iterates = rule(Network(8), torch.ones_like, x, lambda k: 2.0**-k, **options)
    for k in range(12):
        expected = -sum(2.0**-j for j in range(k + 1))
        np.testing.assert_allclose(next(iterates).numpy(), expected, rtol=1e-12)


def test_scaffold_s_control_variates_are_mean_gradients_whatever_the_rates():
    net = Network(4)
    tilt = torch.arange(4.0, dtype=torch.float64)[:, None]
    iterates = nodes.scaffold(net, lambda x: tilt, torch.zeros(4, 1, dtype=torch.float64), lambda k: 1.0 / (k + 1), 3)
    nodes.last_iterate(iterates, 3)
    torch.testing.assert_close(nodes.memory(iterates)["c_i"], tilt)


def test_a_schedule_goes_on_where_a_checkpoint_ends():
    whole = run("psgd", lambda k: 0.1 / (k + 1), 9)
    net = Network(8)
    grad = node_cases.gradient(net, torch.float64)
    iterates = nodes.psgd(net, grad, node_cases.start(net, torch.float64), lambda k: 0.1 / (k + 1))
    x = nodes.last_iterate(iterates, 5)
    net.resume(5, {}, {})
    again = nodes.psgd(net, grad, x, lambda k: 0.1 / (k + 1))
    assert torch.equal(nodes.last_iterate(again, 4), whole)


def test_bad_step_sizes_of_a_round_are_named():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"lr must be in \(0, inf\), got 0"):
        nodes.psgd(Network(2), torch.ones_like, x, lambda k: float(k))
    iterates = nodes.psgd(Network(2), torch.ones_like, x, lambda k: 1.0 - k)
    next(iterates)
    with pytest.raises(ValueError, match=r"lr must be in \(0, inf\), got 0"):
        next(iterates)
    with pytest.raises(ValueError, match=r"lr must be a number or have shape \[3\], got shape \[2\]"):
        nodes.psgd(Network(2), torch.ones_like, x, lambda k: torch.ones(2))


# ---- algorithms of others


def gossip(net, grad, x, lr, W):
    for _ in net.rounds():
        x = net.mix(W, x - lr * grad(x))
        yield x


def means(net, grad, x, lr):
    while True:
        x = net.mean(x - lr * grad(x)).expand_as(x)
        yield x


def test_a_generator_that_is_no_algorithm_is_refused_where_it_would_be_cheaper():
    W, x = nodes.mixing_matrix(nodes.topology("ring", 4)), torch.zeros(4, 2)
    clock = Clock(compute=2.0, latency=1.0)
    for rule, options in ((gossip, {"W": W}), (means, {})):
        next(rule(Network(4), torch.ones_like, x, 0.1, **options))  # no clock: nothing to be wrong about
        with pytest.raises(TypeError, match=rf"{rule.__name__} must be made an algorithm \(@nodes.algorithm\)"):
            next(rule(Network(4, clock=clock), torch.ones_like, x, 0.1, **options))
        net = Network(4, clock=clock)
        decorated = nodes.algorithm(rule)
        next(decorated(net, torch.ones_like, x, 0.1, **options))
        assert net.clock.now == 2.0 + (2 if rule is gossip else 6)
    assert not {"gossip", "means"} & set(nodes.ALGORITHMS)  # those of the package only


def test_a_network_with_a_clock_may_still_be_asked_directly():
    net = Network(4, clock=Clock(latency=1.0))
    assert [float(net.mean(x)) for x in torch.ones(2, 4, 1)] == [1.0, 1.0]
    assert sum(net.mean(torch.ones(4, 1)) for _ in range(2)) == 2  # a generator expression is not a generator function


# ---- who takes part


def test_clients_are_drawn_evenly_and_alike_everywhere():
    alive = nodes.clients(10, 3, seed=4)
    drawn = torch.stack([alive(k) for k in range(2000)])
    assert (drawn.sum(1) == 3).all()
    error = drawn.double().mean(0) - 0.3
    assert error.abs().max() < 4 * (0.3 * 0.7 / 2000) ** 0.5  # four standard errors
    assert torch.equal(alive(7), nodes.clients(10, 3, seed=4)(7)) and not torch.equal(drawn[0], drawn[1])
    for count in (0, 11):
        with pytest.raises(ValueError, match=r"count must be in 1\.\.10"):
            nodes.clients(10, count)


def test_the_result_costs_those_who_did_not_take_part():
    """3 of 8 average 400 bytes; they serve five others, two turns for one or two of them each."""
    alive, x = torch.arange(8) < 3, torch.ones(8, 100)
    net = Network(8, clock=Clock(compute=constant([1.0] * 7 + [50.0], 8), latency=2.0, seconds_per_byte=0.01))
    net.clock.compute()
    net.mean(x, weight=alive / 3)
    each = 2 * 2 / 3 * 400 + 5 / 3 * 400
    assert net.bytes_sent.tolist() == pytest.approx([each] * 3 + [0] * 5)
    mean = 1 + 4 * (2 + 400 / 3 * 0.01)  # a ring of three
    message = 2 + 4.0
    waits = [mean] * 3 + [mean + message] * 3 + [mean + 2 * message, 50 + message]
    assert net.clock.times.tolist() == pytest.approx(waits)


def test_messages_are_passed_on_to_those_who_did_not_take_part():
    alive, net = torch.arange(8) < 2, Network(8, clock=Clock(latency=1.0))
    net.mean(compressors.top_k(5)(torch.randn(8, 100)), weight=alive / 2)
    assert net.bytes_sent.tolist() == [7 * 40.0] * 2 + [0.0] * 6  # as if each had sent its message to all others
    assert net.clock.times.tolist() == [1.0, 1.0, 2, 2, 3, 3, 4, 4]


def test_a_result_that_others_do_not_use_may_stay_where_it_is():
    alive, net = torch.arange(4) < 2, Network(4, clock=Clock(latency=1.0))
    net.mean(torch.ones(4, 10), weight=alive / 2, hand_out=False)
    assert net.bytes_sent.tolist() == [40.0, 40.0, 0, 0] and net.clock.times.tolist() == [2.0, 2.0, 0, 0]


def test_what_did_not_fit_waits_with_a_node_that_does_not_take_part():
    """Three nodes, gradients 1, 2, 3 times (3, 1), the larger entry travels: a trace on paper.

    Round 0, nodes 0 and 1: they send 3 and 6 and keep 1 and 2 of the second entry. Round 1, nodes 1 and 2: node 1 has
    (6, 4), sends 6 and keeps 4; node 2 has (9, 3). Round 2, node 1: (6, 6), of which the first travels. Each message
    of a float64 and a position has 12 bytes, and a sender's reaches both others, whoever passes it on.
    """
    taking = torch.tensor([[True, True, False], [False, True, True], [False, True, False]])
    net = Network(3, clock=Clock(compute=1.0, latency=1.0))
    g = torch.tensor([[3.0, 1.0]], dtype=torch.float64) * torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    x = torch.zeros(3, 2, dtype=torch.float64)
    iterates = nodes.error_feedback(net, lambda x: g, x, 1.0, compressors.top_k(1), alive=lambda k: taking[k])
    trace = [
        # x, memories of the second entry, bytes sent by now, times
        (-4.5, [1, 2, 0], [24, 24, 0], [2, 2, 3]),  # a gradient, one message to the other, one on to node 2
        (-12.0, [1, 4, 3], [24, 48, 24], [6, 5, 5]),  # node 2 was late: 3 + 1 + 1, and one on to node 0
        (-18.0, [1, 6, 3], [24, 72, 24], [8, 6, 8]),  # node 1 waits for nobody; node 0 comes at 7, node 2 has its turn
    ]
    for where, memories, n_bytes, times in trace:
        found = next(iterates)
        assert found.tolist() == [[where, 0.0]] * 3
        assert nodes.memory(iterates)["e"].tolist() == [[0.0, e] for e in memories]
        assert net.bytes_sent.tolist() == n_bytes and net.clock.times.tolist() == times


def test_compressed_gradients_of_those_who_take_part_reach_everybody():
    """The mean of two of three gradients, as messages of 8 bytes; each sender's reaches both others."""
    net, alive = Network(3, clock=Clock(compute=1.0, latency=1.0)), [True, True, False]
    g = torch.tensor([[1.0, 0.0], [3.0, 0.0], [50.0, 0.0]])
    found = next(nodes.compressed_sgd(net, lambda x: g, torch.zeros(3, 2), 0.5, compressors.identity(), alive))
    assert found.tolist() == [[-1.0, 0.0]] * 3
    assert net.bytes_sent.tolist() == [16, 16, 0] and net.clock.times.tolist() == [2, 2, 3]


@pytest.mark.parametrize("rule", [nodes.local_sgd, nodes.scaffold, nodes.diloco])
def test_a_mask_takes_part_in_every_round(rule):
    mask, x = torch.tensor([True, False, True]), torch.zeros(3, 2)
    g = torch.tensor([[1.0], [float("nan")], [3.0]]).expand(3, 2)  # whoever is away may have anything
    found = [
        nodes.last_iterate(rule(Network(3), lambda x: g.nan_to_num(0.0), x, 0.1, local_steps=2, alive=alive), 4)
        for alive in (mask, mask.tolist(), mask.numpy(), lambda k: mask)
    ]
    assert all(torch.equal(y, found[0]) for y in found) and found[0].isfinite().all()
    assert not torch.equal(found[0], nodes.last_iterate(rule(Network(3), lambda x: g.nan_to_num(0.0), x, 0.1, 2), 4))


@pytest.mark.parametrize(
    ("alive", "error", "message"),
    [
        ([0, 1], ValueError, r"alive must be a function of the step, or a bool mask of shape \[4\] .*got \[0, 1\]"),
        (torch.tensor([True, False]), ValueError, r"bool mask of shape \[4\] that is not all False, got tensor"),
        ([False] * 4, ValueError, "not all False, got .False, False, False, False"),
        (3, TypeError, "alive must be a function of the step, or a bool mask .* got 3"),
        (
            lambda k: [0, 1],
            ValueError,
            r"alive must give a bool mask of shape \[4\] .* got \[0, 1\]",
        ),
        (lambda k: None, TypeError, "alive must give a bool mask .* got None"),
        (lambda: None, TypeError, r"alive must be called like alive\(k\)"),
        (nodes.clients, TypeError, r"alive must be what clients\(...\) makes: call it, alive=clients\(...\)"),
    ],
)
@pytest.mark.parametrize("name", ["local_sgd", "scaffold", "diloco", "error_feedback", "compressed_sgd"])
def test_who_takes_part_is_said_by_a_mask(name, alive, error, message):
    options = {"compress": compressors.top_k(1)} if name in ("error_feedback", "compressed_sgd") else {"local_steps": 1}
    with pytest.raises(error, match=message):
        next(nodes.ALGORITHMS[name](Network(4), torch.ones_like, torch.zeros(4, 2), 0.1, alive=alive, **options))


def test_who_cannot_be_away_is_said_by_name():
    """A star serves those who were away; elsewhere nobody does."""
    net, refused = Network(8), set()
    x = node_cases.start(net, torch.float64)
    for rule, options in node_cases.cases(net).values():
        if "alive" not in inspect.signature(rule).parameters:
            refused.add(rule.__name__)
            with pytest.raises(TypeError, match=f"{rule.__name__} got an unexpected keyword argument 'alive'"):
                rule(net, torch.ones_like, x, 0.1, alive=[True] * 8, **options)
    takes = {"local_sgd", "scaffold", "diloco", "compressed_sgd", "error_feedback"}
    assert refused == set(nodes.ALGORITHMS) - takes


def test_bad_samples_and_servers_are_named():
    def first(**options):
        return next(nodes.local_sgd(Network(4), torch.ones_like, torch.zeros(4, 2), 0.1, **options))

    for options, error, message in (
        ({"samples": [1, 2]}, ValueError, r"samples must have shape \[4\]"),
        ({"samples": [1, 2, 3, -1]}, ValueError, r"samples must be in \[0, inf\), got -1"),
        ({"samples": [0] * 4}, ValueError, "samples must .* not be all 0"),
        (
            {"samples": [0, 0, 1, 1], "alive": lambda k: torch.arange(4) < 2},
            ValueError,
            "a node with samples in step 0",
        ),
        ({"proximal": -1.0}, ValueError, r"proximal must be in \[0, inf\)"),
        ({"server_lr": 0.5}, ValueError, "server_lr must be 1 without a server, got 0.5"),
        ({"server": SGD, "server_lr": 0}, ValueError, "server_lr must be in"),
        ({"server": "adam"}, TypeError, "server must be an optimizer of optcourse.optim.* got 'adam'"),
        ({"optimizer": LARS}, TypeError, "optimizer must be an element-wise optimizer .*LARS"),
        ({"server": torch.optim.SGD}, TypeError, "server must be an element-wise optimizer .*torch.optim"),
        ({"server": partial(SGD, foo=1)}, TypeError, "server must have settings of SGD, got {'foo': 1}: .*'foo'"),
        ({"server": nodes.fed_adam}, TypeError, r"server must be what fed_adam\(...\) makes: call it"),
    ):
        with pytest.raises(error, match=message):
            first(**options)
    for make, bad in (
        (nodes.fed_adam, {"beta2": 1.0}),
        (nodes.fed_yogi, {"tau": 0}),
        (nodes.fed_adagrad, {"beta1": -1}),
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            make(**bad)


# ---- averages under way


@pytest.mark.parametrize(("seconds", "tau"), [(1.0, 4), (10.0, 4), (10.0, 1)])
def test_an_average_under_way_costs_only_what_the_computation_does_not_hide(seconds, tau):
    """A round takes the longer of tau gradients of 2 s and the mean, where local SGD takes their sum."""
    x, rounds = torch.ones(4, 3), 5
    for rule, round_seconds in (
        (nodes.local_sgd, 2 * tau + seconds),
        (nodes.overlap_local_sgd, max(2 * tau, seconds)),
    ):
        net = Network(4, clock=Clock(compute=2.0, latency=seconds / 6))  # a ring of four: six messages
        nodes.last_iterate(rule(net, lambda x: x, x, 0.1, local_steps=tau), rounds * tau)
        assert net.clock.now == pytest.approx(rounds * round_seconds)


def test_an_overlapped_average_waits_for_the_slowest_start():
    net = Network(2, clock=Clock(compute=[1.0, 3.0], latency=0.5, record=True))
    nodes.last_iterate(nodes.overlap_local_sgd(net, lambda x: x, torch.ones(2, 1), 0.1), 2)
    # the second mean starts when node 1 has its first gradient, at 3, and takes 1: hidden by gradients until 6
    assert net.clock.times.tolist() == [4.0, 6.0]


@pytest.mark.parametrize("stop", [4, 5, 6])
def test_an_overlapped_run_goes_on_within_a_round(stop):
    """Bytes, simulated time and bits, as if it had not stopped."""

    def start(net, x):
        return nodes.overlap_local_sgd(net, node_cases.gradient(net, torch.float64), x, 0.1, local_steps=3)

    def network():
        return Network(8, clock=Clock(compute=nodes.exponential(1.0, 8, seed=2), latency=0.4))

    whole = network()
    expected = nodes.last_iterate(start(whole, node_cases.start(whole, torch.float64)), 10)
    before, after = network(), network()
    iterates = start(before, node_cases.start(before, torch.float64))
    x = nodes.last_iterate(iterates, stop)
    after.resume(stop, nodes.memory(iterates), before.stream_positions)
    after.bytes_sent.copy_(before.bytes_sent)
    after.clock.times, after.clock.calls = before.clock.times, before.clock.calls
    assert torch.equal(nodes.last_iterate(start(after, x), 10 - stop), expected)
    assert torch.equal(after.bytes_sent, whole.bytes_sent) and torch.equal(after.clock.times, whole.clock.times)


# ---- messages of all nodes, some at a time


def test_gathered_messages_are_not_all_dense_at_once(monkeypatch):
    monkeypatch.setattr(averaging, "_NUMBERS", 300)
    q = compressors.top_k(3)(torch.randn(16, 100, dtype=torch.float64))
    largest, dense = [], type(q).dense

    def watched(self):
        out = dense(self)
        largest.append(out.numel())
        return out

    for weight in (None, torch.arange(16.0) / 100):
        exact = q.dense().mean(0) if weight is None else weight.double() @ q.dense()
        with monkeypatch.context() as patch:
            patch.setattr(type(q), "dense", watched)
            found = Network(16).mean(q, weight)
        torch.testing.assert_close(found[0], exact, rtol=1e-13, atol=1e-13)
    assert max(largest) <= 300


@pytest.mark.parametrize("weight", [None, torch.arange(16.0) / 100])
@pytest.mark.parametrize(("numbers", "d", "together"), [(1, 100, 1), (100, 100, 1), (300, 100, 3), (2, 1, 2)])
def test_a_mean_of_messages_forgets_what_it_has_read(monkeypatch, numbers, d, together, weight):
    """Of 16 messages as many are dense at any time as are read at once: one, when they are long."""
    monkeypatch.setattr(averaging, "_NUMBERS", numbers)
    q = compressors.top_k(1)(torch.randn(16, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    alive, most, dense = set(), [], type(q).dense

    def watched(self):
        out = dense(self)
        name = len(most)
        alive.add((name, len(out)))
        weakref.finalize(out, alive.discard, (name, len(out)))
        most.append(sum(rows for _, rows in alive))
        return out

    exact = q.dense().mean(0) if weight is None else weight.double() @ q.dense()
    monkeypatch.setattr(type(q), "dense", watched)
    found = Network(16).mean(q, weight)
    assert max(most) == together and not alive
    torch.testing.assert_close(found[0], exact, rtol=1e-13, atol=1e-13)


def test_the_node_whose_message_is_not_finite_is_found_among_all_pieces(monkeypatch):
    monkeypatch.setattr(averaging, "_NUMBERS", 30)
    q = compressors.top_k(3)(torch.randn(16, 10))
    q.payload[0][11, 1] = torch.inf
    with pytest.raises(ValueError, match="node 11 sent NaN or infinity"):
        Network(16).mean(q)
