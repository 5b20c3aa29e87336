"""Data sets: deterministic, stratified, cached safely; partitions are partitions."""

import os
import random
import socket
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from optcourse import data


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTCOURSE_CACHE", str(tmp_path))
    return tmp_path


def same(a, b):
    return all(torch.equal(getattr(a, t), getattr(b, t)) for t in ("x_train", "y_train", "x_test", "y_test"))


# ------------------------------------------------------------------------------------- data sets


def test_digits_is_a_stratified_split_of_the_bundled_images():
    d = data.digits(standardize=False, seed=3)
    pixels, labels = load_digits(return_X_y=True)
    rows = torch.cat([d.x_train, d.x_test]).numpy() * 16
    order, reference = np.lexsort(rows.T), np.lexsort(pixels.T)
    np.testing.assert_array_equal(rows[order], pixels[reference])
    np.testing.assert_array_equal(torch.cat([d.y_train, d.y_test])[order], labels[reference])
    expected = 0.25 * np.bincount(labels)
    assert np.abs(torch.bincount(d.y_test).numpy() - expected).max() <= 0.5  # at most half a sample per class off


def test_digits_standardized_with_training_statistics_only():
    d = data.digits(dtype=torch.float64)
    spread = d.x_train.std(0, correction=0)
    assert d.x_train.mean(0).abs().max() < 1e-12
    assert torch.all(torch.isclose(spread, torch.ones_like(spread)) | (spread == 0))
    assert d.x_test.mean(0).abs().max() > 1e-3
    image = data.digits(image=True, dtype=torch.float64)
    assert image.x_train.shape[1:] == (1, 8, 8)
    assert image.x_train.std(correction=0).item() == pytest.approx(1, abs=1e-12)


def test_types_and_reproducibility():
    for make in (data.digits, data.two_moons, data.spirals):
        d = make(seed=5)
        assert d.x_train.dtype == torch.float32 and d.y_train.dtype == torch.int64
        assert make(dtype=torch.float64).x_test.dtype == torch.float64
        assert same(d, make(seed=5)) and not torch.equal(d.x_train, make(seed=6).x_train)
        assert d.y_train.unique().tolist() == list(range(d.n_classes))


def test_moons_and_spirals_lie_on_their_curves_without_noise():
    m = data.two_moons(noise=0, dtype=torch.float64)
    centre = torch.stack([m.y_train.double(), 0.5 * m.y_train], dim=1)
    np.testing.assert_allclose((m.x_train - centre).norm(dim=1), 1, atol=1e-12)
    s = data.spirals(noise=0, turns=0.5, classes=4, dtype=torch.float64)
    angle = torch.atan2(s.x_train[:, 1], s.x_train[:, 0])
    expected = 2 * np.pi * (0.5 * s.x_train.norm(dim=1) + s.y_train / 4)
    np.testing.assert_allclose(torch.cos(angle - expected), 1, atol=1e-12)


def test_subset_keeps_the_test_set():
    d = data.two_moons(samples=40)
    part = d.subset(torch.tensor([3, 1]))
    assert torch.equal(part.x_train, d.x_train[[3, 1]]) and torch.equal(part.x_test, d.x_test)


# -------------------------------------------------------------------------------------- MNIST-1D


def test_mnist1d_equals_the_generator_and_leaves_global_random_states_alone(cache, monkeypatch):
    from mnist1d.data import get_dataset_args, make_dataset

    args = get_dataset_args()
    args.num_samples, args.seed = 200, 7
    raw = make_dataset(args)

    def no_network(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", no_network)
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].copy()
    d = data.mnist1d(samples=200, seed=7, dtype=torch.float64)
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    for ours, theirs in (("x_train", "x"), ("y_train", "y"), ("x_test", "x_test"), ("y_test", "y_test")):
        np.testing.assert_array_equal(getattr(d, ours), raw[theirs])


def test_mnist1d_default_is_the_published_size_and_standardized(cache):
    d = data.mnist1d()
    assert d.x_train.shape == (4000, 40) and d.x_test.shape == (1000, 40) and d.n_classes == 10
    x = torch.cat([d.x_train, d.x_test]).double()
    assert x.mean().abs() < 1e-6 and abs(x.std(correction=0) - 1) < 1e-6
    assert torch.bincount(torch.cat([d.y_train, d.y_test])).tolist() == [500] * 10


def test_cache_is_used_and_left_clean(cache, monkeypatch):
    first = data.mnist1d(samples=50)
    assert [p.name for p in cache.iterdir()] == ["mnist1d-50-42.npz"]
    monkeypatch.setattr(data.sets, "_generate_mnist1d", lambda *a: pytest.fail("the cache was not used"))
    assert same(first, data.mnist1d(samples=50))
    with pytest.raises(pytest.fail.Exception):
        data.mnist1d(samples=50, cache=False)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "other seed", "array"])
def test_a_bad_cache_file_is_replaced_with_a_warning(cache, damage):
    good = data.mnist1d(samples=50)
    path = cache / "mnist1d-50-42.npz"
    whole = path.read_bytes()
    if damage == "other seed":
        data.mnist1d(samples=50, seed=1)
        (cache / "mnist1d-50-1.npz").replace(path)
    elif damage == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes({"garbage": b"not a zip", "truncated": whole[: len(whole) // 2], "empty": b""}[damage])
    with pytest.warns(UserWarning, match="generating the data again"):
        assert same(good, data.mnist1d(samples=50))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(good, data.mnist1d(samples=50))


def test_a_flipped_byte_in_the_cache_is_noticed(cache):
    good = data.mnist1d(samples=50)
    path = cache / "mnist1d-50-42.npz"
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"x.npy") + 400] ^= 0xFF  # inside the signals
    path.write_bytes(bytes(whole))
    with pytest.warns(UserWarning, match="generating the data again"):
        assert same(good, data.mnist1d(samples=50))


def test_no_place_for_a_cache_is_no_error(tmp_path, monkeypatch):
    obstacle = tmp_path / "file"
    obstacle.write_text("a file where the folder should be")
    monkeypatch.setenv("OPTCOURSE_CACHE", str(obstacle))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(data.mnist1d(samples=50).y_train) == 40
    if os.geteuid() != 0:  # root writes everywhere
        folder = tmp_path / "readonly"
        folder.mkdir(mode=0o555)
        monkeypatch.setenv("OPTCOURSE_CACHE", str(folder))
        assert len(data.mnist1d(samples=50).y_train) == 40


# -------------------------------------------------------------- splits, noise, imbalance, partitions

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(lambda y: torch.tensor(y))


def assert_partition(parts, n):
    assert sorted(torch.cat(parts).tolist()) == list(range(n))


@given(y=LABELS, n_nodes=st.integers(1, 12), alpha=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_dirichlet_is_a_partition_with_a_minimum_size(y, n_nodes, alpha, seed):
    if n_nodes > len(y):
        with pytest.raises(ValueError, match="n_nodes"):
            data.dirichlet_partition(y, n_nodes, alpha, seed)
        return
    min_size = len(y) // n_nodes
    parts = data.dirichlet_partition(y, n_nodes, alpha, seed, min_size=min_size)
    assert_partition(parts, len(y))
    assert len(parts) == n_nodes and min(map(len, parts)) >= min_size


def test_dirichlet_shares_have_the_variance_of_the_distribution():
    """A share of Dirichlet(alpha 1_n) has mean 1/n and variance (n-1) / (n² (alpha n + 1))."""
    n, alpha, per_class = 5, 0.7, 4000
    y = torch.zeros(per_class, dtype=torch.int64)
    parts = [data.dirichlet_partition(y, n, alpha, seed, min_size=0) for seed in range(400)]
    shares = np.array([[len(p) / per_class for p in part] for part in parts])
    variance = (n - 1) / (n**2 * (alpha * n + 1))
    assert shares.var() == pytest.approx(variance, rel=0.15)  # 2000 shares: standard error about 4 %


@given(y=LABELS, n_nodes=st.integers(1, 8), per_node=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_label_partition_gives_each_node_its_number_of_classes(y, n_nodes, per_node, seed):
    try:
        parts = data.label_partition(y, n_nodes, per_node, seed)
    except ValueError as error:
        smallest = torch.bincount(y)[y.unique()].min()
        too_few = per_node > len(y.unique()) or n_nodes * per_node < len(y.unique()) or smallest < n_nodes
        assert too_few, error
        return
    assert_partition(parts, len(y))
    assert all(len(y[part].unique()) == per_node for part in parts)


@given(y=LABELS, fraction=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_label_noise_changes_exactly_the_fraction(y, fraction, seed):
    before = y.clone()
    noisy, mask = data.label_noise(y, fraction, 6, seed)
    assert int(mask.sum()) == round(fraction * len(y)) and torch.equal(mask, noisy != y)
    assert noisy.min() >= 0 and noisy.max() <= 5 and torch.equal(y, before)


def test_label_noise_is_symmetric():
    y = torch.full((30_000,), 2)
    noisy, _ = data.label_noise(y, 1.0, 4)
    counts = torch.bincount(noisy, minlength=4)
    assert counts[2] == 0
    assert (counts[[0, 1, 3]] - 10_000).abs().max() < 4 * np.sqrt(30_000 * (1 / 3) * (2 / 3))


def test_imbalance_keeps_the_asked_share():
    y = torch.arange(300) % 3
    index = data.imbalance(y, {1: 0.25, 2: 1e-9})
    assert torch.bincount(y[index]).tolist() == [100, 25, 1]
    assert len(index.unique()) == len(index)


def test_split_counts_and_disjointness():
    y = np.repeat([0, 1, 2], [8, 40, 100])
    train, test = data.split(y, test_fraction=0.25, seed=1)
    assert np.bincount(y[test]).tolist() == [2, 10, 25]
    assert_partition([torch.from_numpy(train), torch.from_numpy(test)], 148)


BAD = st.sampled_from([-1, 0, float("nan"), float("inf"), None, "a", True])


@given(bad=BAD)
def test_bad_arguments_are_named(bad):
    y = torch.arange(20) % 2
    calls = {
        "samples": lambda: data.two_moons(samples=bad),
        "turns": lambda: data.spirals(turns=bad),
        "classes": lambda: data.spirals(classes=bad),
        "test_fraction": lambda: data.digits(test_fraction=bad),
        "alpha": lambda: data.dirichlet_partition(y, 2, bad),
        "n_nodes": lambda: (
            data.dirichlet_partition(y, bad, 1.0) if bad is not True else data.label_partition(y, bad, 1)
        ),
        "n_classes": lambda: data.label_noise(y, 0.5, bad),
    }
    for name, call in calls.items():
        with pytest.raises((ValueError, TypeError), match=name):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: data.mnist1d(samples=55), "samples must be a multiple of 10"),
        (lambda y: data.digits(dtype=torch.int32), "dtype must be one of"),
        (lambda y: data.label_noise(y, 1.5, 2), r"fraction must be in \[0, 1\], got 1.5"),
        (lambda y: data.label_noise(y + 1, 0.5, 2), r"labels in 0..1, got 1..2"),
        (lambda y: data.label_noise(y.double(), 0.5, 2), "vector of integer labels"),
        (lambda y: data.label_partition(y, 1, 1), "n_nodes \\* classes_per_node"),
        (lambda y: data.label_partition(y, 25, 1), "class [01] has 10 samples"),
        (lambda y: data.imbalance(y, {7: 0.5}), "keep: class must be one of 0, 1, got 7"),
        (lambda y: data.imbalance(y, {1: 0.0}), r"keep\[1\] must be in \(0, 1\]"),
        (lambda y: data.split(y, test_fraction=0.01), "each class needs at least one"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.arange(20) % 2)
