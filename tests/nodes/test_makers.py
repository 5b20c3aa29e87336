"""Rules, attacks, compressors, laws: the function that makes one in its place, one of another kind, or none at all."""

import inspect
import re
from functools import partial

import pytest
import torch

from optcourse import nodes
from optcourse.nodes import Clock, Network, Streams, aggregators, attacks, compressors
from optcourse.nodes.algorithms import asynchronous, participation, server
from optcourse.nodes.byzantine import wrappers
from optcourse.nodes.time import clock
from optcourse.nodes.time.collectives import sharded
from optcourse.optim import SGD

N = 4
X = torch.linspace(-1, 1, 12).reshape(N, 3)
W = nodes.mixing_matrix(nodes.topology("ring", N))
ONE = clock.constant(1.0, N)
SCHEDULE = nodes.asynchronous_schedule(ONE, N, updates=3)


def first(name, **options):
    return next(nodes.ALGORITHMS[name](Network(N), lambda x, rows=None: torch.ones_like(x), X * 0, 0.1, **options))


#: Every argument that takes what a maker makes: {argument and where: (call, makers of such)}.
RULES = [aggregators.clipping_from_last, aggregators.bucketing, aggregators.nearest_neighbour_mixing]
COMPRESSORS = [
    compressors.identity,
    compressors.top_k,
    compressors.random_k,
    compressors.qsgd,
    compressors.scaled_sign,
    compressors.low_rank,
    compressors.side_by_side,
]
LAWS = [clock.constant, clock.exponential, clock.stragglers]
PLACES = {
    "aggregate of robust_sgd": (lambda f: first("robust_sgd", aggregate=f), RULES),
    "attack of robust_sgd": (
        lambda f: first("robust_sgd", aggregate=aggregators.median, n_byzantine=1, attack=f),
        list(attacks.ATTACKS.values()),
    ),
    "rule of bucketing": (lambda f: aggregators.bucketing(f, 2, torch.Generator()), RULES),
    "rule of nearest_neighbour_mixing": (aggregators.nearest_neighbour_mixing, RULES),
    "compress of compressed_sgd": (lambda f: first("compressed_sgd", compress=f), COMPRESSORS),
    "compress of error_feedback": (lambda f: first("error_feedback", compress=f), COMPRESSORS),
    "compress of choco": (lambda f: first("choco", W=W, compress=f), COMPRESSORS),
    "compress of side_by_side": (lambda f: compressors.side_by_side(f, 2), COMPRESSORS),
    "compress of sharded": (lambda f: sharded(X.T, f), COMPRESSORS),
    "back of sharded": (lambda f: sharded(X.T, compressors.identity(), f), COMPRESSORS),
    "alive of local_sgd": (lambda f: first("local_sgd", alive=f), [nodes.clients]),
    "server of local_sgd": (
        lambda f: first("local_sgd", server=f),
        [nodes.fed_adam, nodes.fed_yogi, nodes.fed_adagrad],
    ),
    "limit of async_sgd": (lambda f: first("async_sgd", schedule=SCHEDULE, limit=f), [nodes.delay_adaptive]),
    "compute of Clock": (lambda f: Clock(compute=f), LAWS),
    "law of stragglers": (lambda f: clock.stragglers(f, [0], 2.0), LAWS),
    "law of asynchronous_schedule": (lambda f: nodes.asynchronous_schedule(f, N, 3), LAWS),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_maker_that_was_not_called_is_told_to_be(place):
    call, makers = PLACES[place]
    argument = place.split()[0]
    for maker in makers:
        made = rf"{argument} must be what {maker.__name__}\(...\) makes: call it, {argument}={maker.__name__}\(...\)"
        for value in (maker, partial(maker), partial(partial(maker), n_nodes=3)):
            with pytest.raises(TypeError, match=made):
                call(value)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_function_is_named(place):
    call, _ = PLACES[place]
    argument = place.split()[0]
    for value in ("median", object()):
        with pytest.raises(TypeError, match=rf"{argument} must be .*got {re.escape(repr(value))}"):
            call(value)


def test_every_maker_is_marked():
    """Those that return a rule, an attack, a compressor, ... and none that returns anything else."""
    products = {"Aggregator", "Attack", "Compressor", "Law", "Limit", "Adaptive", "Callable[[int], Tensor]"}
    makers = set()
    for module in (aggregators, wrappers, attacks, compressors, clock, asynchronous, participation, server):
        for name, function in vars(module).items():
            if (
                inspect.isfunction(function)
                and function.__module__ == module.__name__
                and not name.startswith(("_", "as_"))
            ):
                makes = inspect.signature(function).return_annotation in products
                assert vars(function).get("makes", False) == makes, name
                makers |= {function} if makes else set()
    assert makers == {maker for _, makers in PLACES.values() for maker in makers}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: first("robust_sgd", aggregate=attacks.sign_flip()),
            r"aggregate must be called like aggregate\(X, n_byzantine=f\), got .*attack",
        ),
        (
            lambda: first("robust_sgd", aggregate=aggregators.median, n_byzantine=1, attack=aggregators.median),
            r"attack must be called like attack\(honest, byzantine, streams\), got <function median",
        ),
        (
            lambda: first("robust_sgd", aggregate=aggregators.median, n_byzantine=1, attack=attacks.label_flip),
            r"attack must be called like attack\(honest, byzantine, streams\), got <function label_flip",
        ),
        (lambda: first("error_feedback", compress=lambda p: p), r"compress must return a Message, .* shape \[4, 3\]"),
        (lambda: first("choco", W=W, compress=lambda: None), r"compress must be called like compress\(p\)"),
        (lambda: Clock(compute=lambda: 1.0), r"compute must be called like compute\(call\)"),
        (
            lambda: aggregators.bucketing(aggregators.mean, 2, 0),
            r"random must be Streams\(name, seed, nodes\), .*got 0",
        ),
        (lambda: aggregators.bucketing(aggregators.mean, 2, None), "random must be Streams.* got None"),
        (lambda: compressors.random_k(2, 0), "streams must be Streams.* got 0"),
        (lambda: compressors.qsgd(2, None), "streams must be Streams.* got None"),
        (lambda: compressors.low_rank([(3, 1)], streams=0), "streams must be Streams.* got 0"),
        (lambda: compressors.top_k(X[0]), "k must be an integer, got tensor"),
        (
            lambda: first("local_sgd", server=torch.optim.SGD),
            "server must be an element-wise optimizer .*torch.optim.sgd",
        ),
        (lambda: first("local_sgd", optimizer=int), "optimizer must be an element-wise optimizer .*'int'"),
        (
            lambda: first("local_sgd", optimizer=partial(SGD, foo=1)),
            "optimizer must have settings of SGD, got .'foo': 1",
        ),
        (lambda: Network(N).mean(X, weight="a"), r"weight must be a tensor of shape \[4\], got 'a'"),
    ],
)
def test_one_of_another_kind_is_named(call, message):
    with pytest.raises(TypeError, match=re.compile(message, re.DOTALL)):
        call()


def test_factors_name_the_vectors_that_they_were_given():
    with pytest.raises(ValueError, match=r"p must be \[m, d\] with d = 4, the entries of shapes, got \[4, 3\]"):
        compressors.low_rank([(2, 2)], streams=Streams("a", 0, range(N)))(X)
    with pytest.raises(ValueError, match=r"x must be \[m, d\] with d = 4, the entries of shapes, got \[4, 3\]"):
        first("powersgd", shapes=[(2, 2)])


def test_functions_of_others_are_taken_as_they_are():
    """A rule with options of its own, a method, a function in C, a partial of a rule."""

    class Rules:
        def middle(self, X, n_byzantine, factor=1.0):
            return factor * X.median(0).values

    def attack(honest, byzantine, *rest):
        return honest

    expected = first("robust_sgd", aggregate=lambda X, **options: X.median(0).values)
    for rule in (Rules().middle, partial(Rules().middle, factor=1.0)):
        assert torch.equal(first("robust_sgd", aggregate=rule, attack=attack), expected)
    krum = partial(aggregators.krum, neighbours="paper")
    assert first("robust_sgd", aggregate=aggregators.bucketing(krum, 1, torch.Generator())).shape == X.shape


def test_liars_may_be_a_mask():
    """The same iterates as by their numbers: of gradients 1, -3, 1, 1 the mean is 0."""
    mask = torch.tensor([False, True, False, False])
    options = {"aggregate": aggregators.mean, "n_byzantine": 1, "attack": attacks.sign_flip(3.0)}
    found = [first("robust_sgd", byzantine=said, **options) for said in ([1], mask, mask.tolist(), mask.numpy())]
    assert all((x == 0).all() for x in found)
    assert (first("robust_sgd", byzantine=[], **options) == -0.1).all()
    assert clock.stragglers(ONE, [True, False, False, False], 3.0)(0).tolist() == [3.0, 1.0, 1.0, 1.0]
    for bad in (mask[:3], [True, 1, 0, 0]):
        with pytest.raises(TypeError, match="byzantine must be an integer, got (True|False)"):
            first("robust_sgd", byzantine=bad, **options)
    with pytest.raises(TypeError, match=r"byzantine must be a sequence of integers in 0\.\.3, or a mask of 4 .*got 2"):
        first("robust_sgd", byzantine=2, **options)
