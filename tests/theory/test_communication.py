"""Communication costs against a simulator that moves real vectors, and the batch-size model against enumeration."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from optcourse.theory import batch, sgd
from optcourse.theory import communication as com

LATENCY, PER_BYTE = 3e-5, 2e-9


class Wires:
    """Counts time round by round; in one round a node sends at most one message and receives at most one."""

    def __init__(self):
        self.seconds = 0.0

    def round(self, messages):
        """``messages``: (sender, receiver, array). Returns what each receiver got."""
        senders, receivers, payloads = zip(*messages, strict=True)
        assert len(set(senders)) == len(senders) and len(set(receivers)) == len(receivers)
        self.seconds += LATENCY + PER_BYTE * max(payload.nbytes for payload in payloads)
        return {receiver: payload.copy() for _, receiver, payload in messages}


def power_below(n):
    return 1 << (n.bit_length() - 1)


def folded(core):
    """Nodes beyond the largest power of two hand in their vector before ``core``, and get the result after."""

    def run(wires, x):
        n, p = len(x), power_below(len(x))
        if n > p:
            for i, payload in wires.round([(p + j, j, x[p + j]) for j in range(n - p)]).items():
                x[i] += payload
        core(wires, x[:p])
        if n > p:
            for i, payload in wires.round([(j, p + j, x[j]) for j in range(n - p)]).items():
                x[i] = payload

    return run


def recursive_doubling(wires, x):
    bit = 1
    while bit < len(x):
        for i, payload in wires.round([(i, i ^ bit, x[i]) for i in range(len(x))]).items():
            x[i] += payload
        bit *= 2


def rabenseifner(wires, x):
    parts = [slice(0, x.shape[1])] * len(x)
    bit, history = len(x) // 2, []
    while bit:
        halves = [(slice(s.start, (s.start + s.stop) // 2), slice((s.start + s.stop) // 2, s.stop)) for s in parts]
        kept = [halves[i][bool(i & bit)] for i in range(len(x))]
        got = wires.round([(i, i ^ bit, x[i, halves[i][not i & bit]]) for i in range(len(x))])
        for i, payload in got.items():
            x[i, kept[i]] += payload
        history.append((bit, parts))
        parts, bit = kept, bit // 2
    for bit, wider in reversed(history):
        got = wires.round([(i, i ^ bit, x[i, parts[i]]) for i in range(len(x))])
        for i, payload in got.items():
            x[i, parts[i ^ bit]] = payload
        parts = wider


def binomial_tree(wires, x):
    n, bits = len(x), [1 << k for k in range((len(x) - 1).bit_length())]
    for bit in bits:
        got = wires.round([(i, i - bit, x[i]) for i in range(n) if i % (2 * bit) == bit])
        for i, payload in got.items():
            x[i] += payload
    for bit in reversed(bits):
        got = wires.round([(i, i + bit, x[i]) for i in range(0, n, 2 * bit) if i + bit < n])
        for i, payload in got.items():
            x[i] = payload


def ring(wires, x):
    n = len(x)
    part = np.array_split(np.arange(x.shape[1]), n)
    for gathering, step in product((False, True), range(n - 1)):
        chunk = [part[(i - step + gathering) % n] for i in range(n)]
        got = wires.round([(i, (i + 1) % n, x[i, chunk[i]]) for i in range(n)])
        for i, payload in got.items():
            x[i, chunk[i - 1]] = payload if gathering else x[i, chunk[i - 1]] + payload


def all_gather(wires, x):
    """Bruck: node i knows the vectors i, i + 1, ... and fetches as many again; then everybody sums locally."""
    n, bit, known = len(x), 1, [row[None] for row in x]
    while bit < n:
        size = min(bit, n - bit)
        got = wires.round([(i, (i - bit) % n, known[i][:size]) for i in range(n)])
        known = [np.concatenate([known[i], got[i]]) for i in range(n)]
        bit *= 2
    x[:] = [rows.sum(0) for rows in known]


def parameter_server(wires, x):
    server = len(x)
    total = sum(wires.round([(i, server, row)])[server] for i, row in enumerate(x))
    for i in range(server):
        x[i] = wires.round([(server, i, total)])[i]


ALL_REDUCE = {
    "parameter_server": parameter_server,
    "all_gather": all_gather,
    "recursive_doubling": folded(recursive_doubling),
    "binomial_tree": binomial_tree,
    "ring": ring,
    "rabenseifner": folded(rabenseifner),
}


@pytest.mark.topic("14.2")
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16])
@pytest.mark.parametrize("pattern", ALL_REDUCE)
def test_every_formula_is_what_the_messages_take_and_the_sum_is_right(pattern, n):
    x = np.random.default_rng(n).integers(-1000, 1000, (n, 48 * n))
    total, wires = x.sum(0), Wires()
    setting = {"n_nodes": n, "message_bytes": x[0].nbytes, "latency": LATENCY, "seconds_per_byte": PER_BYTE}
    ALL_REDUCE[pattern](wires, x)
    assert (x == total).all()
    assert com.communication_time(pattern=pattern, **setting) == pytest.approx(wires.seconds, rel=1e-12)
    assert com.all_reduce_lower_bound(**setting) <= wires.seconds * (1 + 1e-12)


@pytest.mark.topic("14.2")
@pytest.mark.parametrize("shifts", [(1,), (1, -1), (1, -1, 2, -2)])
def test_gossip_costs_its_degree(shifts):
    """Neighbours on a circle, one after the other; ``one_peer`` is a single exchange."""
    n, wires = 8, Wires()
    x = np.random.default_rng(0).standard_normal((n, 100))
    mixed = x / (len(shifts) + 1)
    for shift in shifts:
        for i, payload in wires.round([(i, (i + shift) % n, x[i]) for i in range(n)]).items():
            mixed[i] += payload / (len(shifts) + 1)
    np.testing.assert_allclose(mixed.mean(0), x.mean(0))
    setting = {"n_nodes": n, "message_bytes": x[0].nbytes, "latency": LATENCY, "seconds_per_byte": PER_BYTE}
    assert com.communication_time(pattern="gossip", degree=len(shifts), **setting) == pytest.approx(wires.seconds)
    if len(shifts) == 1:
        assert com.communication_time(pattern="one_peer", **setting) == pytest.approx(wires.seconds)


@pytest.mark.topic("14.2")
def test_the_lower_bounds_are_attained_and_rabenseifner_is_near_them():
    n, m = 2 ** np.arange(1, 9)[:, None], np.geomspace(1.0, 1e10, 200)
    bytes_only = {"n_nodes": n, "message_bytes": m, "latency": 0.0, "seconds_per_byte": PER_BYTE}
    bound = com.all_reduce_lower_bound(**bytes_only)
    for pattern in ("ring", "rabenseifner"):
        np.testing.assert_allclose(com.communication_time(pattern=pattern, **bytes_only), bound, rtol=1e-12)
    empty = {"n_nodes": n, "message_bytes": 0.0, "latency": LATENCY, "seconds_per_byte": PER_BYTE}
    bound = com.all_reduce_lower_bound(**empty)
    np.testing.assert_allclose(com.communication_time(pattern="recursive_doubling", **empty), bound)
    both = {"n_nodes": n, "message_bytes": m, "latency": LATENCY, "seconds_per_byte": PER_BYTE}
    best = com.communication_time(pattern="rabenseifner", **both)
    assert (best <= 3 * com.all_reduce_lower_bound(**both) * (1 + 1e-12)).all()
    assert (best <= com.communication_time(pattern="ring", **both) * (1 + 1e-12)).all()


@pytest.mark.topic("14.2")
@pytest.mark.parametrize("n", [3, 4, 6, 16, 1000, 1024])
def test_the_ring_wins_exactly_above_the_crossover(n):
    m = com.ring_crossover_bytes(n_nodes=n, latency=LATENCY, seconds_per_byte=PER_BYTE)
    setting = {"n_nodes": n, "message_bytes": m * np.array([0.99, 1.0, 1.01])}
    setting |= {"latency": LATENCY, "seconds_per_byte": PER_BYTE}
    lead = com.communication_time(pattern="ring", **setting) / com.communication_time(
        pattern="recursive_doubling", **setting
    )
    assert lead[0] > 1 > lead[2] and lead[1] == pytest.approx(1, rel=1e-12)


@pytest.mark.topic("14.2")
def test_two_nodes_never_prefer_the_ring_and_the_slides_orders_hold():
    assert com.ring_crossover_bytes(n_nodes=2, latency=0.0, seconds_per_byte=1.0) == np.inf
    two = {"n_nodes": 2, "message_bytes": 1e9, "latency": 1e-5, "seconds_per_byte": 1e-9}
    assert com.communication_time(pattern="ring", **two) > com.communication_time(pattern="recursive_doubling", **two)
    many = {"n_nodes": [100, 10_000], "message_bytes": 1e6, "latency": 0.0, "seconds_per_byte": 1e-9}
    server, around = (com.communication_time(pattern=p, **many) for p in ("parameter_server", "ring"))
    assert server[1] / server[0] == pytest.approx(100) and around[1] / around[0] == pytest.approx(1, abs=0.011)


@pytest.mark.topic("14.3", "14.4")
def test_speedups_and_the_published_tables():
    hours = np.array([22.0, 14.0, 8.5, 5.1])  # on 4, 8, 16, 32 nodes
    speedup = hours[0] / hours
    np.testing.assert_allclose(speedup, [1, 1.57, 2.59, 4.31], atol=0.005)
    np.testing.assert_allclose(100 * speedup / 2.0 ** np.arange(4), [100, 79, 65, 54], atol=0.5)
    assert 81.4 * 60 / 76.19 == pytest.approx(64.1, abs=0.05) and 81.4 * 60 / 101.2 == pytest.approx(48.3, abs=0.05)
    n = np.arange(1, 65)
    setting = {"n_nodes": n, "message_bytes": 1e8, "latency": 1e-5, "seconds_per_byte": 1e-10}
    costs = {p: com.communication_time(pattern=p, **setting) for p in ("parameter_server", "ring", "one_peer")}
    curves = {p: com.throughput_speedup(n_nodes=n, compute_time=0.1, communication_time=t) for p, t in costs.items()}
    assert (curves["parameter_server"] < 0.1 / (2 * 0.01001)).all()
    assert (curves["one_peer"][2:] > curves["ring"][2:]).all() and curves["ring"][0] == 1
    steps = np.array([sum(1 / (0.1 + t) for _ in range(k)) for k, t in zip(n, costs["ring"], strict=True)])
    np.testing.assert_allclose(curves["ring"], steps * 0.1, rtol=1e-12)  # batches per second, counted


@pytest.mark.topic("15.1", "15.2", "15.3")
@pytest.mark.parametrize(("size", "kept"), [(1000, 10), (64, 64), (50_000, 7)])
def test_ratios_are_those_of_real_arrays(size, kept):
    dense = np.zeros(size, np.float32)
    payload = dense[:kept].nbytes + np.arange(kept, dtype=np.int32).nbytes
    assert com.sparse_ratio(size=size, kept=kept) == dense.nbytes / payload
    assert com.sparse_ratio(size=size, kept=kept, index_bits=0) == size / kept
    signs, scale = np.packbits(np.ones(size, bool)), np.zeros(1, np.float32)
    assert com.quantized_ratio(size=size, bits=1) == dense.nbytes / (signs.nbytes + scale.nbytes)
    a, b = np.zeros((size, 3), np.float32), np.zeros((kept, 3), np.float32)
    assert com.low_rank_ratio(rows=size, columns=kept, rank=3) == (a @ b.T).nbytes / (a.nbytes + b.nbytes)


@pytest.mark.topic("14.1")
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_optimal_step_minimizes_the_enumerated_loss(batch_size):
    """Every batch of a discrete noise law, so that the expectation is exact."""
    rng = np.random.default_rng(3)
    root, G = rng.standard_normal((3, 3)), rng.standard_normal(3)
    H, noise = root @ root.T + 0.1 * np.eye(3), rng.standard_normal((4, 3))
    noise -= noise.mean(0)
    Sigma = noise.T @ noise / 4
    g = G + np.array([np.mean(rows, 0) for rows in product(noise, repeat=batch_size)])

    def decrease(lr):
        return np.mean(lr * g @ G - 0.5 * lr**2 * np.einsum("bi,ij,bj->b", g, H, g))

    best = minimize_scalar(lambda lr: -decrease(lr))
    step = batch.optimal_step(gradient=G, hessian=H, covariance=Sigma, batch_size=batch_size)
    assert step.lr == pytest.approx(best.x, rel=1e-6) and step.decrease == pytest.approx(-best.fun, rel=1e-9)
    full = batch.optimal_step(gradient=G, hessian=H, covariance=0 * Sigma, batch_size=1)
    share = 1 + batch.noise_scale(gradient=G, covariance=Sigma, hessian=H) / batch_size
    np.testing.assert_allclose(np.array(full) / np.array(step), share)


@pytest.mark.topic("14.1")
@given(B=st.floats(0.1, 1e6), noise=st.floats(0.1, 1e6), steps=st.floats(1.0, 1e6))
def test_steps_and_examples_lie_on_the_hyperbola(B, noise, steps):
    S, E = batch.steps_and_examples(batch_size=B, noise_scale=noise, min_steps=steps)
    assert pytest.approx(B, rel=1e-9) == E / S
    least_S, _ = batch.steps_and_examples(batch_size=1e30, noise_scale=noise, min_steps=steps)
    _, least_E = batch.steps_and_examples(batch_size=1e-30, noise_scale=noise, min_steps=steps)
    assert (S - least_S) * (E - least_E) == pytest.approx(least_S * least_E, rel=1e-3)


@pytest.mark.topic("14.1")
def test_the_curve_of_the_sgd_theorem_is_another_one():
    B = np.geomspace(1e-3, 1e9, 100)
    setting = {"L": 2.0, "delta0": 3.0, "sigma2": 5.0, "eps": 0.01}
    S = sgd.sgd_iters(batch_size=B, **setting)
    least_S, least_E = 2 * 2.0 * 3.0 / 0.01, 8 * 2.0 * 3.0 * 5.0 / 0.01**2
    products = (S / least_S - 1) * (B * S / least_E - 1)
    assert products.min() > 2 * (1 - 1e-3) and products[0] == pytest.approx(2, rel=0.01) and products[-1] > 100


@given(value=st.one_of(st.floats(max_value=0.99), st.just(2.5), st.just(float("nan")), st.just(float("inf"))))
@pytest.mark.topic("14.2")
def test_node_counts_are_whole_numbers(value):
    for pattern in com.PATTERNS[:-1]:
        with pytest.raises(ValueError, match="n_nodes must be"):
            com.communication_time(pattern=pattern, n_nodes=value, message_bytes=1, latency=1, seconds_per_byte=1)
    with pytest.raises(ValueError, match="n_nodes must be"):
        com.throughput_speedup(n_nodes=value, compute_time=1.0, communication_time=1.0)


@pytest.mark.topic("14.2")
def test_bad_arguments_are_named():
    setting = {"n_nodes": 4, "message_bytes": 1.0, "latency": 1.0, "seconds_per_byte": 1.0}
    with pytest.raises(ValueError, match="pattern must be one of 'parameter_server'"):
        com.communication_time(pattern="star", **setting)
    with pytest.raises(ValueError, match="latency must be in"):
        com.communication_time(pattern="ring", **setting | {"latency": -1.0})
    for pattern, degree in (("ring", 2), ("gossip", None)):
        with pytest.raises(ValueError, match="degree must be given for gossip and for it alone"):
            com.communication_time(pattern=pattern, degree=degree, **setting)
    with pytest.raises(ValueError, match="degree must be at most n_nodes - 1"):
        com.communication_time(pattern="gossip", degree=4, **setting)
    with pytest.raises(ValueError, match="kept must be at most size"):
        com.sparse_ratio(size=3, kept=4)
    with pytest.raises(ValueError, match="rank must be at most"):
        com.low_rank_ratio(rows=3, columns=9, rank=4)
    with pytest.raises(ValueError, match=r"shape \[d\].*covariance \[1, 1\]"):
        batch.noise_scale(gradient=[1.0, 2.0], covariance=[[1.0]])
    with pytest.raises(ValueError, match="must be positive"):
        batch.noise_scale(gradient=[0.0], covariance=[[1.0]])
    with pytest.raises(TypeError, match="n_nodes must be a real number"):
        com.throughput_speedup(n_nodes="two", compute_time=1.0, communication_time=0.1)


def test_traffic_of_four_nodes_counted_by_hand():
    """Codes are eight times smaller. A part is a quarter of a vector, its code 1/32; each node has three others."""
    ways = {"added": 3 / 32 + 3 / 32, "gathered": 3 / 8, "sharded": 3 / 32 + 3 / 4, "sharded_twice": 3 / 32 + 3 / 32}
    for way, vectors in ways.items():
        assert com.compressed_traffic(way=way, n_nodes=4, ratio=8) == pytest.approx(vectors)
