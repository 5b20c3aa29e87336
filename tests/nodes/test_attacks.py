"""What Byzantine nodes send, against numpy, and what it does to the rules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from optcourse.nodes.byzantine.aggregators import AGGREGATORS, krum, mean
from optcourse.nodes.byzantine.attacks import (
    ATTACKS,
    alie,
    alie_z,
    inner_product,
    label_flip,
    last_nodes,
    mimic,
    noise,
    sign_flip,
)
from optcourse.nodes.streams import Streams
from optcourse.theory import byzantine

SCATTERED = torch.tensor([False, True, False, False, True, False, False])


def draw(seed, n, d, dtype=torch.float64):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((n, d)), dtype=dtype)


def streams(n, seed=0):
    return Streams("attack", seed, range(n))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("mask", [last_nodes(7, 0), last_nodes(7, 3), SCATTERED, last_nodes(7, 6)])
def test_only_byzantine_rows_change(name, mask):
    for dtype in (torch.float32, torch.float64):
        X = draw(0, 7, 4, dtype)
        before = X.clone()
        attack = ATTACKS[name](z=1.0) if name == "alie" else ATTACKS[name]()
        sent = attack(X, mask, streams(7))
        assert torch.equal(X, before) and sent.dtype == dtype and sent.data_ptr() != X.data_ptr()
        assert torch.equal(sent[~mask], X[~mask])
        assert (sent[mask] != X[mask]).any(dim=1).all()


def test_attacks_send_what_they_say():
    X = draw(1, 7, 4)
    honest = X.numpy()[~SCATTERED.numpy()]
    np.testing.assert_array_equal(sign_flip(3.0)(X, SCATTERED)[SCATTERED], -3 * X.numpy()[SCATTERED])
    expected = np.tile(-0.5 * honest.mean(0), (2, 1))
    np.testing.assert_allclose(inner_product(0.5)(X, SCATTERED)[SCATTERED], expected, rtol=1e-14)
    expected = np.tile(honest.mean(0) - 1.5 * honest.std(0), (2, 1))
    np.testing.assert_allclose(alie(1.5)(X, SCATTERED)[SCATTERED], expected, rtol=1e-13)
    expected = honest.mean(0) - alie_z(7, 2) * honest.std(0)
    np.testing.assert_allclose(alie()(X, SCATTERED)[1], expected, rtol=1e-13)
    own = X.numpy()[SCATTERED.numpy()]
    np.testing.assert_allclose(alie(1.5, sample="own")(X, SCATTERED)[1], own.mean(0) - 1.5 * own.std(0), rtol=1e-13)


def test_what_the_byzantine_would_have_sent_does_not_matter_to_attacks_on_the_mean():
    """The mean and the deviation are those of the honest alone."""
    X = draw(2, 7, 4)
    other = X.clone()
    other[SCATTERED] = 1e9
    for attack in (inner_product(), alie(), mimic()):
        assert torch.equal(attack(X, SCATTERED), attack(other, SCATTERED))


@pytest.mark.parametrize(
    ("dtype", "powers"), [(torch.float32, (-35, -20, 20, 30)), (torch.float64, (-290, -160, 160, 290))]
)
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "noise"])  # noise has units of its own
def test_units_do_not_matter(name, dtype, powers):
    attack = ATTACKS[name](z=1.0) if name == "alie" else ATTACKS[name]()
    for seed, power in enumerate(powers):
        X, scale = draw(seed, 7, 4, dtype), 10.0**power
        error = attack(X * scale, SCATTERED).double() / scale - attack(X.double(), SCATTERED)
        assert error.abs().max() <= 100 * torch.finfo(dtype).eps


# Random numbers


def test_noise_belongs_to_the_node():
    """Node 4 sends what its own stream says, whoever else is Byzantine, and something new every round."""
    X, one = torch.zeros(7, 3), Streams("attack", 9, [4])
    all_streams, again = streams(7, 9), streams(7, 9)
    for _ in range(3):
        alone = 2.0 * one.normal(3)[0]
        assert torch.equal(noise(2.0)(X, SCATTERED, all_streams)[4], alone)
        assert torch.equal(noise(2.0)(X, last_nodes(7, 3), again)[4], alone)
    assert not torch.equal(noise(2.0)(X, SCATTERED, all_streams)[4], alone)


def test_noise_has_its_scale():
    sent = noise(5.0)(torch.full((2, 4096), 100.0), last_nodes(2, 1), streams(2))[1].numpy()
    # Two standard errors of a mean and of a standard deviation of 4096 normal numbers.
    assert abs(sent.mean()) < 2 * 5 / 64 and abs(sent.std() - 5) < 2 * 5 / np.sqrt(2 * 4096)


def test_noise_asks_for_streams_of_all_nodes():
    with pytest.raises(ValueError, match="streams must have one row for each of the 7 nodes, got streams of 2"):
        noise()(draw(0, 7, 2), SCATTERED, Streams("attack", 0, [0, 1]))
    for bad in (None, 0):
        with pytest.raises(TypeError, match=rf"streams must be Streams\(name, seed, nodes\), .*got {bad}"):
            noise()(draw(0, 7, 2), SCATTERED, bad)


# ALIE


def test_z_of_alie_by_hand():
    """n = 50, f = 24: 2 of the 26 honest must support, so z is the 24/26 quantile, 1.426 in a table."""
    assert alie_z(50, 24) == pytest.approx(1.4261, abs=1e-4)
    # n = 25, f = 5: 8 supporters of 20; n = 51 as 50, but 27 honest.
    assert alie_z(25, 5) == pytest.approx(norm.ppf(12 / 20)) and alie_z(51, 24) == pytest.approx(norm.ppf(25 / 27))
    assert alie_z(10, 1) == 0.0 and norm.ppf((10 - 1 - 5) / 9) < 0  # few attackers: no shift is safe
    assert alie_z(1, 0) == 0.0


@given(n=st.integers(1, 300), data=st.data())
@settings(derandomize=True)
def test_z_grows_with_the_attackers_and_has_its_supporters(n, data):
    f = data.draw(st.integers(0, n // 2))
    z, s = alie_z(n, f), n // 2 + 1 - f
    assert f + s > n / 2  # a majority
    if z > 0:
        assert (n - f) * norm.sf(z) == pytest.approx(s, rel=1e-9)  # so many honest are expected beyond
    if f > 0:
        assert z >= alie_z(n, f - 1)


def test_alie_needs_a_z_when_the_attackers_are_the_majority():
    with pytest.raises(ValueError, match="z must be given for n_byzantine = 4 of 7 nodes"):
        alie()(draw(0, 7, 2), last_nodes(7, 4))
    assert torch.isfinite(alie(2.0)(draw(0, 7, 2), last_nodes(7, 4))).all()


def test_krum_takes_the_vector_of_alie_for_an_honest_one():
    """In many dimensions the attackers, together and one deviation off, are nearer to all than the honest are."""
    X, mask = draw(0, 25, 500), last_nodes(25, 11)
    sent = alie()(X, mask)
    assert torch.equal(krum(sent, 11), sent[-1])


# Mimic


def oja(rounds, warmup):
    """Victims, and the last direction, of the released code, in numpy: rounds of honest vectors, [rounds, n - f, d]."""
    z = torch.randn(rounds.shape[2], generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    victims = []
    for t, X in enumerate(rounds[:warmup]):
        mu = rounds[: t + 1].mean((0, 1))  # of all vectors so far
        p = sum((x - mu) * np.dot(x - mu, z) for x in X)
        z = p / np.linalg.norm(p) if t == 0 else t / (t + 1) * z + p / np.linalg.norm(p) / (t + 1)
        z = z / np.linalg.norm(z)
        victims.append(int(np.argmax(X @ z)))
    return victims + [victims[-1]] * (len(rounds) - warmup), z


@pytest.mark.parametrize("warmup", [1, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_mimic_chooses_its_victim_in_the_warm_up_and_keeps_it(seed, warmup):
    rounds = torch.stack([draw(100 * seed + k, 7, 4) for k in range(9)]) + 3
    honest = rounds[:, ~SCATTERED].numpy()
    attack, (victims, _) = mimic(warmup=warmup), oja(honest, warmup)
    for X, own, victim in zip(rounds, honest, victims, strict=True):
        assert (attack(X, SCATTERED)[SCATTERED].numpy() == own[victim]).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_long_warm_up_finds_the_direction_in_which_nodes_differ(seed):
    """Noise around nodes that differ along one axis: numpy's first singular vector, and the node at its end."""
    centers = draw(seed, 7, 1) * torch.tensor([4.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    rounds = torch.stack([centers + 0.3 * draw(1000 * seed + k, 7, 4) for k in range(60)])
    honest = rounds[:, ~SCATTERED].numpy()
    attack = mimic(warmup=59)
    for X in rounds:
        sent = attack(X, SCATTERED)
    direction = np.linalg.svd((honest - honest.mean((0, 1))).reshape(-1, 4))[2][0]
    ends = (honest.mean(0) @ direction).argmax(), (honest.mean(0) @ direction).argmin()
    victim = np.flatnonzero((sent[SCATTERED][0].numpy() == honest[-1]).all(1))
    assert victim in ends and abs(oja(honest, 59)[1] @ direction) > 0.99


def test_mimic_of_nodes_that_do_not_differ_yet_waits_for_a_direction():
    attack, X = mimic(warmup=2), draw(3, 7, 4)
    attack(torch.ones(7, 4, dtype=torch.float64), SCATTERED)
    sent = attack(X, SCATTERED)[1].numpy()
    assert (sent == X[~SCATTERED].numpy()).all(1).any()


def test_mimic_goes_on_with_the_nodes_that_it_began_with():
    """Other numbers of nodes or entries, and a victim that turns Byzantine, are refused; what it knows stays."""
    X = draw(4, 7, 4)
    for warmup in (1, 3):
        attack = mimic(warmup=warmup)
        first = attack(X, SCATTERED)
        for other in (draw(5, 7, 5), draw(5, 6, 4), draw(5, 8, 4), draw(5, 9, 4)):
            shape = (
                rf"honest must have shape \[7, 4\] as before, got \[{len(other)}, {other.shape[1]}\]: make a new attack"
            )
            with pytest.raises(ValueError, match=shape):
                attack(other, last_nodes(len(other), 2))
        assert torch.equal(attack(X, SCATTERED), first)
    victim = int(np.flatnonzero((X == first[1]).all(1) & ~SCATTERED)[0])
    attack(X, SCATTERED)  # the end of the warm-up
    turned = SCATTERED.clone()
    turned[victim] = True
    with pytest.raises(ValueError, match=f"byzantine must leave node {victim} honest, whom this attack copies"):
        attack(X, turned)
    assert torch.equal(attack(X, SCATTERED), first)


def test_mimic_of_a_given_node():
    X = draw(0, 7, 4)
    assert torch.equal(mimic(target=3)(X, SCATTERED)[SCATTERED], X[[3, 3]])
    for target in (1, 7):
        with pytest.raises(ValueError, match=r"target must be one of the nodes \[0, 2, 3, 5, 6\]"):
            mimic(target)(X, SCATTERED)


# Labels


def test_a_given_node_needs_no_warm_up():
    with pytest.raises(ValueError, match="warmup must be 1 with a target, .* got 5"):
        mimic(target=3, warmup=5)
    assert torch.equal(mimic(target=3, warmup=1)(draw(0, 7, 4), SCATTERED)[1], draw(0, 7, 4)[3])


def test_label_flip():
    labels = torch.arange(10).reshape(2, 5)
    assert label_flip(labels, 10).tolist() == [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]
    assert torch.equal(label_flip(label_flip(labels, 10), 10), labels)
    assert label_flip(torch.tensor([2], dtype=torch.uint8), 3).tolist() == [0]
    for bad in (torch.tensor([10]), torch.tensor([-1]), torch.tensor([1.0]), torch.tensor([True]), torch.tensor([1j])):
        with pytest.raises(ValueError, match="labels must be integers in 0..9"):
            label_flip(bad, 10)
    with pytest.raises(TypeError, match="labels must be a tensor of integers, got list"):
        label_flip([0, 1], 10)


# Attacks on rules


@pytest.mark.parametrize("epsilon", [1.9, 2.1])
def test_inner_product_turns_the_mean_round_beyond_its_threshold(epsilon):
    X, mask = draw(0, 9, 3) + 1, last_nodes(9, 3)
    found = mean(inner_product(epsilon)(X, mask), 3)
    assert bool(found @ X[:6].mean(0) < 0) == (epsilon > 6 / 3)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("rule", [rule for rule in byzantine.RULES if rule not in ("mean", "centered_clipping")])
def test_no_attack_exceeds_the_constant_of_a_rule(name, rule):
    n, f = 11, 4
    constant = byzantine.kappa(rule=rule, n_nodes=n, n_byzantine=f)
    for seed in range(20):
        X = draw(seed, n, 5) + 0.5
        sent = ATTACKS[name]()(X, last_nodes(n, f), streams(n, seed))
        honest = X[: n - f]
        error = (AGGREGATORS[rule](sent, f) - honest.mean(0)).square().sum()
        assert error <= constant * (honest - honest.mean(0)).square().sum(1).mean()


# Errors


@pytest.mark.parametrize("name", ATTACKS)
def test_bad_input_is_refused(name):
    attack, X = ATTACKS[name](), draw(0, 7, 2)
    for bad in (X[0], X.long()):
        with pytest.raises(ValueError, match="honest must be a floating-point tensor"):
            attack(bad, SCATTERED, streams(7))
    for bad in (X.tolist(), X.numpy(), None):
        with pytest.raises(
            TypeError, match=rf"honest must be a floating-point tensor \[n, d\], got {type(bad).__name__}"
        ):
            attack(bad, SCATTERED, streams(7))
    for bad in (SCATTERED[:6], SCATTERED.long(), SCATTERED[:, None], SCATTERED.tolist(), None):
        with pytest.raises(ValueError, match=r"byzantine must be a bool tensor \[7\]"):
            attack(X, bad, streams(7))
    for node in (0, 4):  # an honest one, and one that is not
        broken = X.clone()
        broken[node, 1] = torch.nan
        with pytest.raises(ValueError, match=f"honest must have finite rows, the row of node {node} is not"):
            attack(broken, SCATTERED, streams(7))
    attack(X, SCATTERED, streams(7))  # and none of these left a trace
    with pytest.raises(ValueError, match="byzantine must leave a node honest"):
        attack(X, last_nodes(7, 7), streams(7))


@pytest.mark.parametrize(
    ("make", "argument"),
    [(sign_flip, "scale"), (noise, "scale"), (inner_product, "epsilon"), (alie, "z"), (mimic, "target")],
)
def test_settings_out_of_range_are_named(make, argument):
    for bad in (-1, float("nan")) if make is not mimic else (-1,):
        with pytest.raises(ValueError, match=argument):
            make(bad)
    with pytest.raises(TypeError, match=argument):
        make("1")
    with pytest.raises(ValueError, match="sample must be"):
        alie(sample="all")
    with pytest.raises(ValueError, match="warmup must be at least 1, got 0"):
        mimic(warmup=0)


def test_last_nodes():
    assert last_nodes(3, 0).tolist() == [False] * 3 and last_nodes(3, 2).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="n_byzantine"):
        last_nodes(3, 4)
