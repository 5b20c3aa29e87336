"""What meets who writes own algorithms: step sizes that vary, several runs on one network, clocks, mistakes."""

import math
import operator

import node_cases
import numpy as np
import pytest
import torch

from optcourse import nodes
from optcourse.nodes import Clock, Network
from optcourse.nodes.run.checkpoint import Keeper

N = 4
X = torch.zeros(N, 3)
RING = nodes.mixing_matrix(nodes.topology("ring", N))
SCHEDULE = nodes.asynchronous_schedule(nodes.constant(1.0, N), N, updates=6)


# ---- step sizes that vary


@nodes.algorithm
def endless(net, grad, x, lr):
    while True:
        x = x - lr * grad(x)
        yield x


@nodes.algorithm
def halved_before(net, grad, x, lr):
    half = lr / 2
    for _ in net.rounds():
        x = x - half * grad(x)
        yield x


@pytest.mark.parametrize("rule", [endless, halved_before])
def test_a_step_size_that_cannot_vary_is_refused(rule):
    net = Network(N)
    nodes.last_iterate(nodes.psgd(net, torch.ones_like, X, 0.1), 3)  # rounds of another run are none of this one
    with pytest.raises(ValueError, match=r"lr must be a number where no round has begun, .*`for k in net.rounds\(\):`"):
        next(rule(net, torch.ones_like, X, lambda k: 0.5**k))
    assert (next(rule(net, torch.ones_like, X, 0.5)) < 0).all()  # a number is one


LAWS = {"a number": lambda k: 0.5**k, "a tensor": lambda k: torch.linspace(0.1, 0.3, 3) / (k + 1)}
USES = {
    "-lr": operator.neg,
    "lr / 2": lambda lr: lr / 2,
    "1 - lr": lambda lr: 1 - lr,
    "2 / lr": lambda lr: 2 / lr,
    "lr**2": lambda lr: lr**2,
    "2**lr": lambda lr: 2**lr,
    "lr % 0.3, lr // 0.3": lambda lr: lr % 0.3 + lr // 0.3,
    "lr + lr * lr": lambda lr: lr + lr * lr,
    "abs(+lr)": lambda lr: abs(+lr),
    "lr < 0.2": lambda lr: torch.as_tensor(lr < 0.2).double() + torch.as_tensor(0.25 >= lr),
    "t * lr": lambda lr: torch.ones(4, 3) * lr - (torch.ones(4, 3) - lr),
    "t / lr, t**lr": lambda lr: torch.full((4, 3), 2.0) / lr + torch.full((4, 3), 2.0) ** lr,
    "torch": lambda lr: torch.mul(torch.ones(4, 3), lr) + torch.ones(4, 3).add(other=lr),
    "numpy": lambda lr: np.float64(2.0) * lr,
}
SCALAR_USES = {
    "float": float,
    "math.sqrt": math.sqrt,
    "min": lambda lr: float(min(lr, 0.3)),
    "alpha": lambda lr: torch.ones(4, 3).add(torch.ones(4, 3), alpha=-lr),
    "format": lambda lr: float(f"{lr:.2f}"),
}
CASES = [(use, law) for use in USES for law in LAWS] + [(use, "a number") for use in SCALAR_USES]


@pytest.mark.parametrize(("use", "law"), CASES)
def test_arithmetic_with_a_step_size_is_that_of_the_round(use, law):
    found, apply = [], {**USES, **SCALAR_USES}[use]

    @nodes.algorithm
    def rule(net, grad, x, lr):
        for k in net.rounds():
            found.append((apply(lr), apply(nodes.rate(lr, k))))
            yield x

    nodes.last_iterate(rule(Network(N), torch.ones_like, X, LAWS[law]), 3)
    values = [torch.as_tensor(value) for value, _ in found]
    for value, (_, expected) in zip(values, found, strict=True):
        assert torch.equal(value, torch.as_tensor(expected))
    assert not torch.equal(values[0], values[2]) or use == "lr < 0.2"


def test_what_only_numbers_have_is_named():
    @nodes.algorithm
    def rule(net, grad, x, lr):
        for _ in net.rounds():
            yield x - lr.clamp(max=1.0)

    with pytest.raises(AttributeError, match=r"lr is a function of the round and has no clamp; nodes.rate\(lr, k\)"):
        next(rule(Network(N), torch.ones_like, X, lambda k: 1.0))


# ---- several runs on one network


def test_runs_on_one_network_have_their_own_rounds_and_memory():
    """In turn, as if each had a network of its own; what the other one remembers is not lost."""
    net, lr = Network(8), lambda k: 0.05 / (k + 1)
    x, names = node_cases.start(net, torch.float64), ("gradient_tracking", "error_feedback", "local_sgd")

    def start(name, net):
        rule, options = node_cases.cases(net)[name]
        return rule(net, node_cases.gradient(Network(8), torch.float64), x, lr, **options)

    together, alone = {name: start(name, net) for name in names}, {name: start(name, Network(8)) for name in names}
    for steps in (1, 3, 2):
        for name in names:
            for _ in range(steps):
                assert torch.equal(next(together[name]), next(alone[name]))
    for name in names:
        memory, expected = nodes.memory(together[name]), nodes.memory(alone[name])
        assert memory.keys() == expected.keys() and len(memory) > 0
        assert all(np.array_equal(memory[key], expected[key]) for key in memory)


def test_an_algorithm_may_run_another_one():
    @nodes.algorithm
    def warm(net, grad, x, lr):
        x = nodes.last_iterate(nodes.psgd(net, grad, x, lr), 3)
        e = net.initial("e", torch.zeros_like(x))
        for _ in net.rounds():
            e = e + lr
            x = x - lr * grad(x)
            yield x

    net = Network(N, clock=Clock(compute=1.0))
    iterates = warm(net, torch.ones_like, X, lambda k: 0.5**k)
    assert [float(next(iterates)[0, 0]) for _ in range(2)] == [-1.75 - 1, -1.75 - 1.5]
    assert nodes.memory(iterates).keys() == {"e"} and float(nodes.memory(iterates)["e"][0, 0]) == 1.5
    assert net.clock.now == 5.0  # a gradient is paid once


def test_memory_has_the_names_of_variables():
    @nodes.algorithm
    def rule(net, grad, x, lr):
        e = net.initial("error", x)
        for _ in net.rounds():
            yield x - e

    iterates = rule(Network(N), torch.ones_like, X, 0.1)
    assert nodes.memory(iterates) == {}
    next(iterates)
    with pytest.raises(ValueError, match=r"net.initial must get the name of the variable .* got 'error'"):
        nodes.memory(iterates)
    for other in (iter([X]), (x for x in X), None):
        with pytest.raises(TypeError, match=r"iterates must be those of an algorithm \(@nodes.algorithm\)"):
            nodes.memory(other)


def test_a_rule_without_rounds_is_saved_and_goes_on(tmp_path):
    def run(steps, folder, resume=False):
        net = Network(N)
        keeper = Keeper(folder, net, every=2)
        start = keeper.restore(X) if resume else keeper.begin(X)
        assert keeper.done == (5 if resume else 0)
        *_, last = keeper.watch(endless(net, lambda x: x - 1, start, 0.1), steps)
        assert net.round == steps - 1
        return last

    run(5, tmp_path / "one")
    assert torch.equal(run(9, tmp_path / "one", resume=True), run(9, tmp_path / "other"))


# ---- clocks


def averaged(net, x):
    return net.mean(x).expand_as(x)


def by_a_function(net, grad, x, lr):
    while True:
        x = averaged(net, x - lr * grad(x))
        yield x


def by_functions_of_functions(net, grad, x, lr):
    def step(x):
        return next(averaged(net, y - lr * grad(y)) for y in (x,))

    for _ in iter(int, 1):
        yield (x := step(x))


def part(net, grad, x, lr):
    for _ in range(2):
        x = net.mean(x - lr * grad(x)).expand_as(x)
        yield x


def by_parts(net, grad, x, lr):
    while True:
        x = yield from last_of(part(net, grad, x, lr))


def last_of(iterates):
    for x in iterates:
        yield x
    return x


@pytest.mark.parametrize("rule", [by_a_function, by_functions_of_functions, by_parts])
def test_whoever_calls_the_network_it_is_the_generator_that_must_be_an_algorithm(rule):
    net = Network(N, clock=Clock(compute=2.0, latency=1.0))
    with pytest.raises(TypeError, match=r"(by_\w+|part) must be made an algorithm \(@nodes.algorithm\)"):
        next(rule(net, torch.ones_like, X, 0.5))
    iterates = nodes.algorithm(rule)(net, torch.ones_like, X, 0.5)
    assert nodes.last_iterate(iterates, 3)[0, 0] == -1.5
    assert net.clock.now == 3 * (2 + 6)  # a ring of four: six messages


def test_a_generator_that_only_watches_algorithms_is_none():
    def watching(net):
        for x in nodes.psgd(net, torch.ones_like, X, 0.5):
            yield float(x[0, 0]), net.clock.now

    assert next(watching(Network(N, clock=Clock(compute=2.0)))) == (-0.5, 2.0)


# ---- mistakes


def test_what_is_no_generator_function_is_no_algorithm():
    def step(net, grad, x, lr):
        return x - lr * grad(x)

    for rule, name in ((step, "step"), (lambda net, grad, x, lr: x, "<lambda>"), (3, "got 3"), (None, "got None")):
        with pytest.raises(TypeError, match=rf"rule must be a generator function, which yields .*{name}"):
            nodes.algorithm(rule)


@pytest.mark.parametrize(("iterate", "got"), [(lambda x: x[:1], r"shape \[1, 3\]"), (lambda x: None, "None")])
def test_iterates_are_checked(iterate, got):
    @nodes.algorithm
    def rule(net, grad, x, lr):
        for _ in net.rounds():
            yield iterate(x)

    with pytest.raises(ValueError, match=rf"rule must yield tensors of shape \[4, 3\], like x, got .*{got}"):
        next(rule(Network(N), torch.ones_like, X, 0.1))


BAD = {
    "post_local_sgd": ({"switch": -1, "local_steps": 2}, "switch must be at least 0, got -1"),
    "overlap_local_sgd": ({"local_steps": 0}, "local_steps must be at least 1, got 0"),
    "local_sgd": ({"local_steps": 0}, "local_steps must be at least 1, got 0"),
    "local_sgd alive": ({"alive": [0, 1]}, r"alive must be a function of the step, or a bool mask .* got \[0, 1\]"),
    "local_sgd samples": ({"samples": [1, 2]}, r"samples must have shape \[4\]"),
    "scaffold": ({"server_lr": 0}, "server_lr must be in"),
    "scaffold alive": ({"alive": torch.ones(N)}, "alive must be a function of the step, or a bool mask .* got tensor"),
    "diloco": ({"local_steps": 0}, "local_steps must be at least 1, got 0"),
    "diloco outer": ({"outer_momentum": 1.0}, r"outer_momentum must be in \[0, 1\), got 1.0"),
    "dsgd": ({"W": None}, "W must be a tensor, got NoneType"),
    "push_sum": ({"W": torch.ones(N, N)}, "W must"),
    "gradient_tracking": ({"W": []}, "W must hold at least one matrix"),
    "d2": ({"W": [RING]}, "W must be one matrix"),
    "relay_sum": ({"tree": None}, "tree must be an undirected tree"),
    "choco": ({"W": RING, "compress": "top_k"}, r"compress must be a function, called like compress\(p\), got 'top"),
    "compressed_sgd": ({"compress": None}, "compress must be a function.* got None"),
    "error_feedback": ({"compress": 3}, "compress must be a function.* got 3"),
    "powersgd": ({"shapes": [(2, 2)]}, "shapes"),
    "powersgd rank": ({"shapes": [(1, 3)], "rank": 2}, r"rank must be in 1\.\.1, got 2"),
    "robust_sgd": ({"aggregate": "median"}, "aggregate must be a function"),
    "async_sgd": ({"schedule": None}, "schedule must be a Schedule"),
    "async_sgd limit": (
        {"schedule": SCHEDULE, "limit": 0.1},
        r"limit must be a function, called like limit\(delay\), got 0.1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_arguments_are_refused_at_the_call(case):
    options, message = BAD[case]
    net = Network(N, clock=Clock(compute=1.0))
    with pytest.raises((ValueError, TypeError), match=message):
        nodes.ALGORITHMS[case.split()[0]](net, torch.ones_like, X, 0.1, **options)
    assert net.clock.now == 0 and not net.bytes_sent.any()


def test_every_algorithm_with_arguments_of_its_own_is_among_them():
    assert {name for name in nodes.ALGORITHMS if name != "psgd"} == {case.split()[0] for case in BAD}


def test_a_call_that_checks_leaves_everything_where_it_was():
    """No gradient, no message, no time; and what can be read only once is still there for the run."""
    net, asked = Network(N, clock=Clock(compute=1.0)), []
    iterates = nodes.robust_sgd(
        net, asked.append, X, 0.1, nodes.aggregators.mean, 1, nodes.attacks.sign_flip(), iter([2])
    )
    assert not asked and net.clock.now == 0 and not net.bytes_sent.any() and nodes.memory(iterates) == {}

    def slid(byzantine):
        options = {"aggregate": nodes.aggregators.mean, "attack": nodes.attacks.sign_flip(), "byzantine": byzantine}
        return nodes.last_iterate(nodes.robust_sgd(Network(N), torch.ones_like, X, 0.1, n_byzantine=1, **options), 2)

    assert torch.equal(slid(iter([2])), slid([2])) and not torch.equal(slid([2]), slid([]))
