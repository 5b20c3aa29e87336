"""Several seeds side by side against one after the other, and against the loop that ``train`` replaces."""

from itertools import islice

import pytest
import torch
from torch.nn.functional import cross_entropy

from optcourse import data, models, nodes
from optcourse.nodes import Network, Shards, flat_gradient, flat_parameters, split, train

SEEDS = [3, 4, 5]
DIGITS = data.digits(seed=0)
NETS = [models.mlp(64, 10, width=12, depth=1, seed=seed) for seed in SEEDS]
PARTS = [split(DIGITS, 4, "label", seed=seed) for seed in SEEDS]
RING = nodes.mixing_matrix(nodes.topology("ring", 4), dtype=torch.float32)


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [(nodes.psgd, {}), (nodes.scaffold, {"local_steps": 3}), (nodes.dsgd, {"W": RING})],
)
def test_a_seed_is_what_it_would_be_alone(algorithm, options):
    job = {"lr": 0.1, "steps": 12, **options}
    _, together = train(Network(4), NETS, DIGITS, PARTS, algorithm, seeds=SEEDS, **job)
    for s, seed in enumerate(SEEDS):
        _, alone = train(Network(4), [NETS[s]], DIGITS, [PARTS[s]], algorithm, seeds=[seed], **job)
        assert torch.equal(together[:, s], alone[:, 0])
        net = Network(4)
        shards = Shards(net, DIGITS, PARTS[s], 16, seed=seed)
        start = flat_parameters(NETS[s]).repeat(4, 1)
        iterates = algorithm(net, flat_gradient(NETS[s], cross_entropy, shards), start, 0.1, **options)
        *_, x = islice(iterates, 12)
        assert torch.equal(alone[:, 0], x)


def test_equal_seeds_draw_equal_batches_at_rates_of_their_own():
    nets, parts = [NETS[0]] * 3, [PARTS[0]] * 3
    rates = torch.tensor([0.05, 0.1, 0.1])
    _, x = train(Network(4), nets, [DIGITS] * 3, parts, nodes.psgd, rates, 10, seeds=[3, 3, 3])
    assert torch.equal(x[:, 1], x[:, 2])
    _, slow = train(Network(4), [NETS[0]], DIGITS, [PARTS[0]], nodes.psgd, 0.05, 10, seeds=[3])
    assert torch.equal(x[:, 0], slow[:, 0])


def test_looks_starts_changes_and_liars():
    start = torch.zeros(4, 1, models.n_parameters(NETS[0]))
    seen, job = [], {"algorithm": nodes.psgd, "lr": 1.0, "seeds": [3], "start": start}

    def change(g):
        seen.append(g)
        return torch.ones_like(g)

    looks, x = train(
        Network(4), NETS[:1], DIGITS, PARTS[:1], steps=7, look=lambda x: x.mean().item(), every=3, change=change, **job
    )
    assert looks == [0.0, -3.0, -6.0] and (x == -7).all()
    assert all(g.shape == (4, 1, start.shape[2]) for g in seen)
    # At zero the biases of the last layer have the gradient mean(softmax - one-hot) = 1/10 - share of the class.
    biases = [seen[0][:, 0, -10:]]
    train(Network(4), NETS[:1], DIGITS, PARTS[:1], steps=1, liars=[1, 3], change=change, **job)
    biases.append(seen[-1][:, 0, -10:])
    torch.testing.assert_close(biases[1][[0, 2]], biases[0][[0, 2]])
    torch.testing.assert_close(biases[1][[1, 3]], biases[0][[1, 3]].flip(1))


def test_asynchronous_algorithms_end_with_their_schedule():
    schedule = nodes.asynchronous_schedule(nodes.exponential(1.0, 4, seed=1), 4, 30)
    looks, x = train(
        Network(4), NETS[:1], DIGITS, PARTS[:1], nodes.async_sgd, 0.05, 99, seeds=[3], look=len, schedule=schedule
    )
    assert len(looks) == 31 and x.shape == (4, 1, models.n_parameters(NETS[0]))


@pytest.mark.parametrize(("seeds", "parts"), [([], []), (SEEDS[:2], PARTS), (SEEDS, PARTS[:2])])
def test_wrong_numbers_are_refused(seeds, parts):
    with pytest.raises(ValueError, match="seeds must be as many as nets, data and parts"):
        train(Network(4), NETS, DIGITS, parts, nodes.psgd, 0.1, 3, seeds=seeds)


def test_equal_seeds_with_different_parts_are_refused():
    with pytest.raises(ValueError, match="seeds that are equal must have the same data and parts, got 5"):
        train(Network(4), NETS[:2], DIGITS, PARTS[:2], nodes.psgd, 0.1, 3, seeds=[5, 5])


def test_the_rate_may_be_a_function_of_the_round():
    """For all seeds, or one for each."""
    per_seed = torch.tensor([0.1, 0.05, 0.2])

    def trained(lr):
        return train(Network(4), NETS, DIGITS, PARTS, nodes.psgd, lr, 6, seeds=SEEDS)[1]

    assert torch.equal(trained(lambda k: per_seed), trained(per_seed))
    falling = trained(lambda k: per_seed / (k + 1))
    for s in range(3):
        _, alone = train(
            Network(4),
            [NETS[s]],
            DIGITS,
            [PARTS[s]],
            nodes.psgd,
            lambda k, s=s: float(per_seed[s]) / (k + 1),
            6,
            seeds=[SEEDS[s]],
        )
        torch.testing.assert_close(falling[:, s], alone[:, 0])
