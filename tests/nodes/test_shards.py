"""Who holds which samples; a batch is the same whoever owns the node."""

import pytest
import torch

from optcourse import data
from optcourse.nodes import Network, attacks
from optcourse.nodes.samples.shards import SPLITS, Shards, split


class Part:
    """The rows of one process in a network of n nodes."""

    def __init__(self, n, rows):
        self.n, self.mine, self._whole = n, torch.tensor(list(rows)), Network(n)

    def streams(self, name, seed):
        from optcourse.nodes.streams import Streams

        return Streams(name, seed, self.mine)


@pytest.fixture(scope="module")
def digits():
    return data.digits(seed=0)


@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("n", [1, 3, 16])
def test_a_split_deals_every_sample_once(digits, how, n):
    parts = split(digits, n, how, seed=4)
    assert len(parts) == n and torch.equal(torch.cat(parts).sort().values, torch.arange(len(digits.y_train)))
    again = split(digits, n, how, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))


def test_splits_have_the_shape_they_name(digits):
    sizes = [len(part) for part in split(digits, 16)]
    assert max(sizes) - min(sizes) <= 1
    assert all(len(digits.y_train[part].unique()) == 2 for part in split(digits, 16, "label"))
    few = [len(digits.y_train[part].unique()) for part in split(digits, 8, "dirichlet", alpha=0.05)]
    many = [len(digits.y_train[part].unique()) for part in split(digits, 8, "dirichlet", alpha=100.0)]
    assert sum(few) < sum(many) == 80


@pytest.mark.parametrize("how", SPLITS)
def test_batches_come_from_the_own_shard_and_do_not_depend_on_the_process(digits, how):
    n, parts = 6, split(digits, 6, how, alpha=0.3)
    whole = Shards(Network(n), digits, parts, batch_size=5)
    halves = [Shards(Part(n, rows), digits, parts, batch_size=5) for rows in (range(4), range(4, 6))]
    for _ in range(3):
        X, Y = whole.batch()
        Xs, Ys = zip(*(half.batch() for half in halves), strict=True)
        assert torch.equal(X, torch.cat(Xs)) and torch.equal(Y, torch.cat(Ys))
        for node in range(n):
            held = {tuple(x.tolist()) for x in digits.x_train[parts[node]]}
            assert all(tuple(x.tolist()) in held for x in X[node])


def test_some_rows_draw_what_they_would_have_drawn(digits):
    parts = split(digits, 4, "dirichlet", alpha=0.5)
    one, other = (Shards(Network(4), digits, parts, batch_size=3) for _ in range(2))
    X, Y = one.batch()
    for rows in ([2], [0, 3], [1]):
        x, y = other.batch(torch.tensor(rows))
        assert torch.equal(x, X[rows]) and torch.equal(y, Y[rows])


def test_every_sample_of_a_shard_is_drawn_equally_often(digits):
    parts = [torch.arange(7), torch.arange(7, 27)]
    shards = Shards(Network(2), digits, parts, batch_size=4000)
    X, _ = shards.batch()
    for node, part in enumerate(parts):
        counts = torch.stack([(X[node] == digits.x_train[i]).all(-1).sum() for i in part]).double()
        expected = 4000 / len(part)
        chi2 = float(((counts - expected) ** 2 / expected).sum())
        assert counts.sum() == 4000 and chi2 < len(part) - 1 + 5 * (2 * (len(part) - 1)) ** 0.5  # five deviations


def test_a_whole_shard_is_its_samples(digits):
    parts = [torch.tensor([3, 1]), torch.tensor([7, 7])]
    X, Y = Shards(Network(2), digits, parts).batch()
    assert torch.equal(X, digits.x_train[torch.stack(parts)]) and torch.equal(Y, digits.y_train[torch.stack(parts)])


def test_liars_have_other_labels_and_the_same_samples(digits):
    parts = split(digits, 4)
    honest = Shards(Network(4), digits, parts, batch_size=9)
    lying = Shards(Network(4), digits, parts, batch_size=9, relabel=attacks.label_flip, liars=[3])
    (X, Y), (X_lying, Y_lying) = honest.batch(), lying.batch()
    assert torch.equal(X, X_lying) and torch.equal(Y[:3], Y_lying[:3]) and torch.equal(9 - Y[3], Y_lying[3])


def test_bad_arguments_are_refused(digits):
    net, parts = Network(2), split(digits, 2)
    for bad, options, message in (
        (parts[:1], {}, "parts must list the samples of 2 nodes, got 1"),
        ([parts[0], torch.tensor([], dtype=torch.int64)], {}, "node 1 has none"),
        ([parts[0], torch.tensor([5000])], {"batch_size": 1}, r"indices in 0\.\.1346"),
        (parts, {"batch_size": 0}, "batch_size must be at least 1"),
        ([torch.arange(3), torch.arange(2)], {}, "batch_size must be a number"),
        (parts, {"batch_size": 1, "liars": [2]}, r"liars must be in 0\.\.1"),
    ):
        with pytest.raises(ValueError, match=message):
            Shards(net, digits, bad, **options)
    with pytest.raises(ValueError, match="how must be one of"):
        split(digits, 2, "alphabetical")
    with pytest.raises(ValueError, match="n_nodes must be"):
        split(digits, 5000)
