"""Where biased compressors fail alone, and error feedback repairs them: in fractions."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcourse.theory import compression_failures as fail

QUARTER, EIGHTH = Fraction(1, 4), Fraction(1, 8)


@pytest.mark.topic("15.4")
def test_the_mean_sign_points_the_wrong_way():
    example = fail.failure("sign_drift")
    rows = example.gradients(example.start)
    slope = (example.value((Fraction(1),)) - example.value((Fraction(0),))) / 1
    assert sum(Fraction(g) for (g,) in rows) / 4 == slope == QUARTER
    assert sum(Fraction(s) for (s,) in map(fail.sign, rows)) / 4 == Fraction(-1, 2)
    last = example.run(lr=QUARTER, draws=range(8))[-1]
    assert example.value(last) - example.value(example.start) == 8 * QUARTER * Fraction(1, 2) * QUARTER


@pytest.mark.topic("15.4")
@pytest.mark.parametrize(
    ("name", "compress"),
    [("sign_nonsmooth", fail.sign), ("sign_nonsmooth", fail.scaled_sign), ("sign_stochastic", fail.scaled_sign)],
)
def test_the_sum_is_invariant(name, compress):
    example = replace(fail.failure(name), compress=compress)
    draws = np.random.default_rng(0).integers(2, size=40)
    for x in example.run(lr=EIGHTH, draws=draws):
        assert sum(x) == 2 and example.value(x) >= example.value((Fraction(1), Fraction(1))) > 0


@pytest.mark.topic("15.4")
def test_plain_sign_keeps_the_sum_of_the_smooth_example_until_a_gradient_vanishes():
    """sgn(0) = 1 makes a step (1, 1) of a zero gradient; the scaled sign of zero is zero."""
    example = replace(fail.failure("sign_stochastic"), compress=fail.sign)
    draws = np.random.default_rng(0).integers(2, size=40).tolist()
    xs = example.run(lr=EIGHTH, draws=draws)
    vanished = [not any(example.gradients(x)[draw]) for x, draw in zip(xs, draws, strict=False)]
    moved = [sum(after) != sum(x) for x, after in pairwise(xs)]
    assert moved == vanished and any(moved)
    generic = example.run(lr=Fraction(1, 7), draws=draws)
    assert all(sum(x) == 2 for x in generic)


@pytest.mark.topic("15.4")
def test_the_stated_gradients_are_those_of_the_stated_functions():
    x, h = (Fraction(3, 7), Fraction(-2, 5), Fraction(4, 3)), Fraction(1, 1000)
    for name in ("sign_stochastic", "top_one_nodes", "top_one_noise"):
        example = fail.failure(name)
        point = x[: len(example.start)]
        rows = example.gradients(point)
        for i, entry in enumerate(map(sum, zip(*rows, strict=True))):
            ahead, behind = (tuple(a + s * h * (i == j) for j, a in enumerate(point)) for s in (1, -1))
            slope = (example.value(ahead) - example.value(behind)) / (2 * h)
            assert slope == entry / len(rows)  # central differences are exact for quadratics
        assert example.value(example.minimizer) == 0


@pytest.mark.topic("15.4")
def test_sign_of_zero_decides_the_nonsmooth_example():
    """With sgn(0) = 0 the subgradient on the diagonal is epsilon (1, 1), and x1 + x2 moves."""

    def symmetric(v):
        return tuple((a > 0) - (a < 0) for a in v)

    start = (Fraction(1), Fraction(1))
    moved = symmetric((sum(start) * fail.EPSILON, sum(start) * fail.EPSILON))
    assert sum(moved) != 0
    example = replace(fail.failure("sign_nonsmooth"), start=start)
    assert sum(example.run(lr=EIGHTH, draws=range(1))[-1]) == sum(start)


@pytest.mark.topic("15.4")
@given(lr=st.fractions(Fraction(1, 1000), 10), steps=st.integers(0, 20))
def test_top_one_grows_by_its_factor_exactly(lr, steps):
    example = fail.failure("top_one_nodes")
    last = example.run(lr=lr, draws=range(steps))[-1]
    assert last == (fail.growth_factor(lr=lr) ** steps,) * 3
    plain = replace(example, compress=lambda v: v).run(lr=lr, draws=range(steps))[-1]
    assert plain == ((1 - Fraction(7, 6) * lr) ** steps,) * 3


@pytest.mark.topic("15.4")
def test_noise_hides_the_second_coordinate_while_the_condition_holds():
    """Drawn in turn, |x1| stays below 4 lr: x2 never moves. A long run of equal draws breaks the condition."""
    example = fail.failure("top_one_noise")
    for x in example.run(lr=EIGHTH, draws=range(60)):
        assert x[1] == 1 and abs(x[0]) <= 4 * EIGHTH
    unlucky = example.run(lr=EIGHTH, draws=[0] * 30)
    first = next(i for i, x in enumerate(unlucky) if x[1] != 1)
    assert abs(unlucky[first - 1][0]) + abs(unlucky[first - 1][1]) >= 4
    assert all(abs(x[0]) + abs(x[1]) < 4 for x in unlucky[: first - 1])


@pytest.mark.topic("15.5")
@pytest.mark.parametrize(
    ("name", "lr", "goal"),
    [("sign_nonsmooth", 0.01, 0.05), ("sign_stochastic", 0.02, 1e-12), ("top_one_nodes", 0.05, 1e-12)],
)
def test_error_feedback_repairs_them(name, lr, goal):
    """A constant step leaves a subgradient method within a multiple of lr; the smooth ones converge."""
    example = fail.failure(name)
    for seed in range(5):
        draws = np.random.default_rng(seed).integers(2, size=3000)
        repaired = example.run(lr=lr, draws=draws, feedback=True)[-1]
        assert example.value(repaired) < goal
        broken = example.run(lr=lr, draws=draws[:300])[-1]
        assert example.value(broken) > 0.4


@pytest.mark.topic("15.5")
def test_error_feedback_moves_the_hidden_coordinate():
    example = fail.failure("top_one_noise")
    fixed = example.run(lr=0.01, draws=range(3000), feedback=True)
    assert max(abs(x[1]) for x in fixed[-500:]) < 0.1


@pytest.mark.topic("15.5")
def test_feedback_loses_nothing():
    """x_t - e_t moves by the plain gradients, exactly: what has not been sent is still in the memory."""
    example, lr = fail.failure("top_one_nodes"), EIGHTH
    xs = [np.array(x) for x in example.run(lr=lr, draws=range(12), feedback=True)]
    virtual, memory = xs[0], np.zeros((3, 3), dtype=int) * Fraction(1)
    for x, following in pairwise(xs):
        g = np.array(example.gradients(tuple(x)))
        p = memory + lr * g
        sent = np.where(np.arange(3) == abs(p).argmax(1)[:, None], p, 0)
        memory, virtual = p - sent, virtual - lr * g.sum(0) / 3
        assert (following == virtual + memory.sum(0) / 3).all()


@pytest.mark.parametrize("name", fail.FAILURES)
def test_gradients_are_those_of_the_value_and_the_minimizer_is_one(name):
    """Differences of linear and quadratic functions are exact; so are those of absolute values beside their kinks."""
    example, h = fail.failure(name), Fraction(1, 1000)
    for seed in range(5):
        x = tuple(Fraction(7 * i + 3 * seed - 5, 11 + i) for i in range(len(example.start)))
        rows = example.gradients(x)
        for i in range(len(x)):
            up, down = (tuple(a + s * h * (j == i) for j, a in enumerate(x)) for s in (1, -1))
            slope = (example.value(up) - example.value(down)) / (2 * h)
            assert sum(row[i] for row in rows) * Fraction(1, len(rows)) == slope
    least = example.value(example.minimizer)
    assert len(example.minimizer) == len(example.start)
    if name == "sign_drift":  # linear, meant for [-1, 1]
        assert example.start == (0,) and example.minimizer == (-1,) and least == Fraction(-1, 4)
        return
    assert least == 0 < example.value(example.start)
    for i in range(len(example.start)):
        for step in (h, -h):
            assert example.value(tuple(a + step * (j == i) for j, a in enumerate(example.minimizer))) > 0
