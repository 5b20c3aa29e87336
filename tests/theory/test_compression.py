"""Compressors by enumeration, guarantees by exact moments and by running the methods."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcourse.theory import compression as comp
from optcourse.theory import compression_failures as fail

entries = st.floats(-10.0, 10.0).map(lambda a: round(a, 3))
vectors = st.lists(entries, min_size=1, max_size=6).filter(any).map(np.array)


def qsgd_law(v, s):
    """Every value of Q(v) with its probability, from the definition."""
    r = s * abs(v) / np.linalg.norm(v)
    for up in product((0, 1), repeat=v.size):
        p = r - np.floor(r)
        probability = np.prod(np.where(up, p, 1 - p))
        yield probability, np.linalg.norm(v) * np.sign(v) * (np.floor(r) + up) / s


@pytest.mark.topic("15.1")
@given(v=vectors, s=st.integers(1, 5))
def test_qsgd_is_unbiased_with_the_stated_variance(v, s):
    law = list(qsgd_law(v, s))
    np.testing.assert_allclose(sum(p * q for p, q in law), v, atol=1e-9)
    variance = sum(p * np.square(q - v).sum() for p, q in law)
    assert comp.qsgd_variance(vector=v, levels=s) == pytest.approx(variance, rel=1e-9, abs=1e-9)
    assert variance <= comp.qsgd_omega(size=v.size, levels=s) * (v @ v) + 1e-9


@pytest.mark.topic("15.1")
def test_qsgd_bound_is_attained():
    ones = np.ones((3, 100))
    np.testing.assert_allclose(comp.qsgd_variance(vector=ones, levels=1), 9 * 100)
    assert comp.qsgd_omega(size=100, levels=1) == 9
    halves = np.array([0.5] * 7 + [1.5])  # norm 2 = s, so r = |v|: every entry is half-way between two levels
    assert comp.qsgd_variance(vector=halves, levels=2) == pytest.approx(8 / 4)
    assert comp.qsgd_omega(size=8, levels=2) * (halves @ halves) == pytest.approx(8 / 4)
    assert comp.qsgd_variance(vector=[0.0, 0.0], levels=3) == 0
    sizes, s = np.arange(1, 200), 3
    both = np.minimum(sizes / 4, np.sqrt(sizes))  # what holds for every s, here with s = 1
    assert (comp.qsgd_omega(size=sizes, levels=1) <= both).all()
    slack = [
        comp.qsgd_omega(size=d, levels=s) / (comp.qsgd_variance(vector=np.ones(d), levels=s) / d) for d in (144, 900)
    ]
    assert slack == pytest.approx([4 / 3, 10 / 9])  # sqrt(d)/s against sqrt(d)/s - 1


@pytest.mark.topic("15.2", "15.4")
@given(v=vectors, data=st.data())
def test_contractions_by_enumeration(v, data):
    k = data.draw(st.integers(1, v.size))
    delta, square = comp.delta_sparse(size=v.size, kept=k), v @ v
    supports = [np.isin(np.arange(v.size), chosen) for chosen in combinations(range(v.size), k)]
    errors = [np.square(np.where(mask, v, 0) - v).sum() for mask in supports]
    assert np.mean(errors) == pytest.approx((1 - delta) * square, abs=1e-9)  # random-k
    assert 1 - min(errors) / square == pytest.approx(comp.delta_top_k(vector=v, kept=k), abs=1e-9)  # top-k
    assert comp.delta_top_k(vector=v, kept=k) >= delta - 1e-12
    scaled = abs(v).mean() * np.where(v >= 0, 1, -1)
    found = comp.delta_sign(vector=v)
    assert 1 - np.square(scaled - v).sum() / square == pytest.approx(found, abs=1e-9)
    assert 1 / v.size - 1e-12 <= found <= 1 + 1e-12


@pytest.mark.topic("15.1", "15.2")
def test_worst_cases_of_the_contractions():
    assert comp.delta_top_k(vector=np.ones(8), kept=2) == comp.delta_sparse(size=8, kept=2) == 0.25
    assert comp.delta_sign(vector=[0.0, 0.0, 5.0, 0.0]) == 0.25 and comp.delta_sign(vector=[2.0, -2.0]) == 1
    gaussian = [comp.delta_sign(vector=np.random.default_rng(i).standard_normal(10_000)) for i in range(20)]
    stderr = np.std(gaussian, ddof=1) / np.sqrt(20)
    assert abs(np.mean(gaussian) - 2 / np.pi) < 4 * stderr + 1e-4  # the bias of a ratio is of order 1/d


@pytest.mark.topic("15.1", "15.5")
@pytest.mark.parametrize(("v", "s"), [(np.array([3.0, -1.0, 0.5]), 2), (np.ones(5), 1)])
def test_a_scaled_unbiased_compressor_is_a_contraction(v, s):
    omega = comp.qsgd_variance(vector=v, levels=s) / (v @ v)
    error = sum(p * np.square(q / (1 + omega) - v).sum() for p, q in qsgd_law(v, s))
    assert 1 - error / (v @ v) == pytest.approx(comp.delta_unbiased(omega=omega))


@pytest.mark.topic("15.3")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank_contraction(rank):
    rng = np.random.default_rng(1)
    M = rng.standard_normal((3, 7))
    best = comp.delta_low_rank(matrix=M, rank=rank)
    Q = np.linalg.qr(M @ (M.T @ rng.standard_normal((3, rank))))[0] if rank < 3 else np.eye(3)

    def attained(P):
        return 1 - np.square(P @ P.T @ M - M).sum() / np.square(M).sum()

    leading = np.linalg.eigh(M @ M.T)[1][:, -rank:]
    assert attained(leading) == pytest.approx(best) and attained(Q) <= best + 1e-12
    assert best >= comp.delta_sparse(size=3, kept=rank)
    orthogonal = np.linalg.qr(rng.standard_normal((7, 3)))[0].T
    assert comp.delta_low_rank(matrix=orthogonal, rank=rank) == pytest.approx(rank / 3)


def random_one(v, rng):
    """Random-1 scaled by d along the last axis: unbiased, omega = d - 1 with equality."""
    chosen = rng.integers(v.shape[-1], size=v.shape[:-1])
    return np.where(np.arange(v.shape[-1]) == chosen[..., None], v.shape[-1] * v, 0)


@pytest.mark.topic("15.1", "15.2")
def test_unbiased_bound_on_unequal_nodes():
    """f_i = ||x||^2/2 + <b_i, x>, noise +-1: 400 runs, against the bound and against exact moments."""
    rng, runs, n, d, T = np.random.default_rng(0), 400, 4, 3, 200
    b = rng.standard_normal((n, d))
    b -= b.mean(0)
    setting = {"L": 1.0, "delta0": d / 2, "sigma2": float(d), "zeta2": np.square(b).sum(-1).mean()}
    setting |= {"omega": d - 1, "n_nodes": n, "steps": T}
    bound = comp.unbiased_bound(**setting)
    x, lr, squares = np.ones((runs, d)), bound.stepsize, []
    for _ in range(T):
        squares.append(np.square(x).sum(-1))
        g = x[:, None] + b + rng.choice([-1.0, 1.0], (runs, n, d))
        x = x - lr * random_one(g, rng).mean(1)
    averages = np.mean(squares, 0)
    mean, stderr = averages.mean(), averages.std(ddof=1) / np.sqrt(runs)
    rate = 1 - 2 * lr + lr**2 * (1 + (d - 1) / n)
    noise = lr**2 * (d * d + (d - 1) * setting["zeta2"]) / n
    exact, moment = 0.0, float(d)
    for _ in range(T):
        exact, moment = exact + moment / T, rate * moment + noise
    assert abs(mean - exact) < 4 * stderr
    assert exact <= float(bound) <= 2.5 * exact
    assert float(comp.unbiased_bound_at(lr=lr, **setting)) <= float(bound) * (1 + 1e-12)


def top_one(v):
    return np.where(np.arange(v.shape[-1]) == abs(v).argmax(-1)[..., None], v, 0)


def pseudo_huber_run(lr, steps, n, d, compress, shift, noise, runs, rng):
    """Error feedback on f_i = sum sqrt(1 + (x - shift_i)^2) - 1, noise +-1; squared gradients [T], memory [T]."""
    x, e, squares, memory = np.full((runs, d), 2.0), np.zeros((runs, n, d)), [], []

    def gradients(x):
        return (x[:, None] - shift) / np.sqrt(1 + np.square(x[:, None] - shift))

    for _ in range(steps):
        squares.append(np.square(gradients(x).mean(1)).sum(-1))
        p = e + lr * (gradients(x) + noise * rng.choice([-1.0, 1.0], e.shape))
        q = compress(p)
        e, x = p - q, x - q.mean(1)
        memory.append(np.square(e).sum(-1).mean())
    return np.mean(squares, 0), np.array(memory)


@pytest.mark.topic("15.5")
@pytest.mark.parametrize(("n", "lr"), [(1, 0.02), (1, 0.2), (4, 0.1), (4, 0.5)])
def test_error_feedback_bounds_on_unequal_nodes(n, lr):
    """Top-1 of 4 entries: |gradient| <= 1 in each, so that G2 = 8 with noise of variance 4; L = 1."""
    d, T, runs, rng = 4, 300, 100, np.random.default_rng(n)
    shift = rng.uniform(-2, 2, (n, d)) if n > 1 else np.zeros((1, d))
    averages, memory = pseudo_huber_run(lr, T, n, d, top_one, shift, 1.0, runs, rng)
    mean, stderr = averages.mean(), averages.std(ddof=1) / np.sqrt(runs)
    start = np.mean((np.sqrt(1 + (2 - shift) ** 2) - 1).sum(-1))  # f >= 0, so f(x_0) is above the gap
    common = {"L": 1.0, "delta0": start, "G2": 8.0, "delta": 1 / d, "steps": T, "lr": lr}
    assert mean - 4 * stderr <= float(comp.ef_bound_at(sigma2=4.0, n_nodes=n, **common))
    limit = float(comp.ef_memory(G2=8.0, delta=1 / d, lr=lr))
    assert memory.max() <= limit and memory.max() > limit / 100


@pytest.mark.topic("15.5")
@given(delta=st.floats(1e-6, 1.0), lr=st.floats(1e-3, 10.0))
def test_the_memory_constant_is_the_fixed_point_and_below_the_published_one(delta, lr):
    found = float(comp.ef_memory(G2=2.0, delta=delta, lr=lr))
    m = np.sqrt(found)
    assert np.sqrt(1 - delta) * (m + lr * np.sqrt(2.0)) == pytest.approx(m, rel=1e-9)
    published = 4 * (1 - delta) * lr**2 * 2.0 / delta**2
    assert published / 4 * (1 - 1e-9) <= found <= published * (1 + 1e-9)
    tiny = {"G2": 1.0, "delta": 1e-8, "lr": 1.0}
    assert float(comp.ef_memory(**tiny)) == pytest.approx(4e16, rel=1e-3)


@pytest.mark.topic("15.5")
@given(
    sigma2=st.floats(0.0, 10.0),
    G2=st.floats(0.0, 10.0),
    delta=st.floats(0.01, 1.0),
    n=st.integers(1, 64),
    T=st.integers(1, 10**6),
)
def test_the_tuned_bound_is_above_the_bound_at_its_step(sigma2, G2, delta, n, T):
    setting = {"L": 2.0, "delta0": 3.0, "sigma2": sigma2, "G2": G2, "delta": delta, "n_nodes": n, "steps": T}
    tuned = comp.ef_bound(**setting)
    assert tuned.stepsize <= 0.25
    assert float(comp.ef_bound_at(lr=tuned.stepsize, **setting)) <= float(tuned) * (1 + 1e-9)


@pytest.mark.topic("15.5")
def test_tuned_terms_and_the_n_that_the_slide_hides():
    setting = {"L": 2.0, "delta0": 3.0, "sigma2": 5.0, "G2": 7.0, "n_nodes": 4, "steps": 100}
    delta = 1e-6
    terms = comp.ef_bound(delta=delta, **setting).terms
    assert terms["noise"] == pytest.approx(np.sqrt(32 * 2 * 3 * 5 / 400))
    assert terms["drift"] == pytest.approx(2 * (128 * (2 * 3 * np.sqrt(7) / (delta * 100)) ** 2) ** (1 / 3), rel=1e-3)
    assert terms["deterministic"] == pytest.approx(8 * 2 * 3 / 100)
    one, four = (comp.ef_bound_at(delta=0.1, lr=1e-4 * np.sqrt(n), **setting | {"n_nodes": n}).terms for n in (1, 4))
    assert four["memory"] / one["memory"] == pytest.approx(4, rel=1e-3)  # n/(delta^2 T), not 1/(delta^2 T)
    assert one["noise"] / four["noise"] == pytest.approx(2, rel=1e-3)


@pytest.mark.topic("15.5")
def test_no_compression_gives_back_sgd_and_sweeps_mark_failures():
    setting = {"L": 1.0, "delta0": 1.0, "sigma2": 2.0, "G2": 9.0, "n_nodes": 2, "steps": 10}
    assert comp.ef_bound_at(delta=1.0, lr=0.5, **setting).terms == {"initial gap": 0.8, "noise": 1.0, "memory": 0.0}
    bound = comp.ef_bound_at(delta=0.5, lr=np.array([0.5, 1.0]), **setting)
    assert bound.valid.tolist() == [True, False] and np.isnan(bound.value).tolist() == [False, True]
    with pytest.raises(ValueError, match="lr < 1/L, got lr = 1"):
        comp.ef_bound_at(delta=0.5, lr=1.0, **setting)


@pytest.mark.topic("15.1", "15.2", "15.5")
@pytest.mark.parametrize(
    ("name", "bad"), [("delta", 0.0), ("delta", 1.5), ("G2", -1.0), ("L", 0.0), ("steps", 0), ("n_nodes", 0)]
)
def test_bad_arguments_are_named(name, bad):
    setting = {"L": 1.0, "delta0": 1.0, "sigma2": 1.0, "G2": 1.0, "delta": 0.5, "n_nodes": 2, "steps": 10}
    with pytest.raises(ValueError, match=f"{name} must be in .*got {bad}"):
        comp.ef_bound(**setting | {name: bad})
    with pytest.raises(TypeError, match=f"{name} must be a real number"):
        comp.ef_bound(**setting | {name: "much"})


@pytest.mark.topic("15.1", "15.2", "15.3")
@given(bad=st.one_of(st.integers(max_value=0), st.integers(min_value=4), st.floats(), st.booleans()))
def test_kept_entries_and_ranks_are_counted(bad):
    for function, given_ in (
        (comp.delta_sparse, {"size": 3}),
        (comp.delta_top_k, {"vector": np.ones(3)}),
    ):
        with pytest.raises((ValueError, TypeError), match="kept must be"):
            function(kept=bad, **given_)
    with pytest.raises((ValueError, TypeError), match="rank must be"):
        comp.delta_low_rank(matrix=np.ones((3, 5)), rank=bad)


@pytest.mark.topic("15.1", "15.4")
def test_shapes_and_ranges_are_checked():
    with pytest.raises(ValueError, match="vector must have 1 axes and a nonzero entry"):
        comp.delta_sign(vector=[0.0, 0.0])
    with pytest.raises(ValueError, match="matrix must have 2 axes"):
        comp.delta_low_rank(matrix=[1.0], rank=1)
    with pytest.raises(ValueError, match=r"vector must have shape \[..., d\]"):
        comp.qsgd_variance(vector=1.0, levels=1)
    with pytest.raises(ValueError, match="levels must be at least 1"):
        comp.qsgd_variance(vector=[1.0], levels=0)
    with pytest.raises(ValueError, match="omega must be in"):
        comp.delta_unbiased(omega=-1.0)
    with pytest.raises(ValueError, match=r"lr <= 1/\(L \(1 \+ omega/n\)\)"):
        comp.unbiased_bound_at(L=1.0, delta0=1.0, sigma2=0.0, zeta2=0.0, omega=1.0, n_nodes=1, steps=1, lr=0.6)
    with pytest.raises(ValueError, match="name must be one of 'sign_drift'"):
        fail.failure("sgd")
    with pytest.raises(ValueError, match="lr must be in"):
        fail.failure("sign_drift").run(lr=-1, draws=range(1))


@pytest.mark.parametrize("scale", [1e-250, 1e-160, 1e160, 1e250])
def test_contractions_have_no_unit(scale):
    v = np.array([3.0, -1.0, 4.0, 1.0, -5.0, 9.0])
    assert comp.delta_sign(vector=scale * v) == pytest.approx(comp.delta_sign(vector=v), rel=1e-14)
    for kept in (1, 3):
        expected = comp.delta_top_k(vector=v, kept=kept)
        assert comp.delta_top_k(vector=scale * v, kept=kept) == pytest.approx(expected, rel=1e-14)
    M = v.reshape(2, 3)
    expected = comp.delta_low_rank(matrix=M, rank=1)
    assert comp.delta_low_rank(matrix=scale * M, rank=1) == pytest.approx(expected, rel=1e-13)


@pytest.mark.topic("15.1")
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1e4])
def test_variance_of_qsgd_scales_as_a_square(scale):
    """r is the same for every multiple of a vector, also for short ones; a zero vector has none."""
    v = np.array([3.0, -1.0, 0.2, 0.0])
    found = comp.qsgd_variance(vector=scale * v, levels=2)
    assert found == pytest.approx(scale**2 * comp.qsgd_variance(vector=v, levels=2), rel=1e-12)
    assert comp.qsgd_variance(vector=0 * v, levels=2) == 0


def test_the_memory_is_bounded_from_zero_and_forgets_another_start():
    """delta = 3/4 and lr = G = 1: C(p) = p/2 leaves 1 of any start in the end, but not before."""
    bound = float(comp.ef_memory(G2=1.0, delta=0.75, lr=1.0))
    for start, holds in ((0.0, True), (100.0, False)):
        memory = [start]
        for _ in range(60):
            memory.append((memory[-1] + 1) / 2)
        assert all(e**2 <= bound for e in memory) is holds
        assert memory[-1] == pytest.approx(bound**0.5, rel=1e-9)
