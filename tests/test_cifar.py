"""CIFAR-10 from a folder: read as published, and every damage named."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optcourse import data

TRAIN = [f"data_batch_{i}.bin" for i in range(1, 6)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Six files of four records; what they hold, by name: labels [4] and pixels [4, 3, 32, 32]."""
    rng, held = np.random.default_rng(0), {}
    for name in [*TRAIN, "test_batch.bin"]:
        labels, pixels = rng.integers(0, 9, 4), rng.integers(0, 256, (4, 3, 32, 32))  # no label 9: classes are ten
        records = b"".join(
            bytes([label]) + bytes(image.ravel().tolist()) for label, image in zip(labels, pixels, strict=True)
        )
        (tmp_path / name).write_bytes(records)
        held[name] = labels, pixels
    monkeypatch.setenv("OPTCOURSE_DATA", str(tmp_path))
    return tmp_path, held


def test_images_and_labels_are_those_of_the_files(folder):
    _, held = folder
    found = data.cifar10(standardize=False, dtype=torch.float64)
    labels, pixels = (np.concatenate([held[name][i] for name in TRAIN]) for i in (0, 1))
    assert found.y_train.tolist() == labels.tolist() and found.y_train.dtype == torch.int64
    np.testing.assert_allclose(found.x_train * 255, pixels, atol=1e-12)
    np.testing.assert_allclose(found.x_test * 255, held["test_batch.bin"][1], atol=1e-12)
    assert found.y_test.tolist() == held["test_batch.bin"][0].tolist()
    assert (found.n_classes, found.name, data.has_cifar10()) == (10, "CIFAR-10", True)


def test_standardized_by_colour_with_training_statistics_only(folder):
    plain, found = (data.cifar10(standardize=choice, dtype=torch.float64) for choice in (False, True))
    assert found.x_train.mean((0, 2, 3)).abs().max() < 1e-12
    np.testing.assert_allclose(found.x_train.std((0, 2, 3), correction=0), 1, atol=1e-12)
    mean, std = plain.x_train.mean((0, 2, 3)), plain.x_train.std((0, 2, 3), correction=0)
    expected = (plain.x_test - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    np.testing.assert_allclose(found.x_test, expected, atol=1e-12)
    assert data.cifar10().x_train.dtype == torch.float32


def test_at_most_so_many_of_each_file(folder):
    every, some = data.cifar10(standardize=False), data.cifar10(samples=23, standardize=False)
    first = [4 * file + record for file in range(5) for record in range(3)]
    assert torch.equal(some.x_train, every.x_train[first]) and torch.equal(some.y_train, every.y_train[first])
    assert torch.equal(some.y_test, every.y_test[:3]) and len(data.cifar10(samples=54).y_train) == 20
    with pytest.raises(ValueError, match="samples must be at least 6, got 5"):
        data.cifar10(samples=5)


def test_a_colour_without_variation_stays_finite(folder):
    path, _ = folder
    for name in TRAIN:
        (path / name).write_bytes(bytes(3073))
    found = data.cifar10()
    assert found.x_train.abs().max() == 0 and found.x_test.isfinite().all()


def test_the_folder_of_the_archive_inside_is_found(folder, monkeypatch, tmp_path_factory):
    path, _ = folder
    outer = tmp_path_factory.mktemp("outer")
    path.rename(outer / "cifar-10-batches-bin")
    monkeypatch.setenv("OPTCOURSE_DATA", str(outer))
    assert len(data.cifar10().y_train) == 20


def test_without_a_folder_it_is_not_there_and_says_what_to_set(folder, monkeypatch):
    path, _ = folder
    monkeypatch.setenv("OPTCOURSE_DATA", str(path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"OPTCOURSE_DATA must name a folder, got '.*nowhere'"):
        data.cifar10()
    monkeypatch.setenv("OPTCOURSE_DATA", str(path))
    for name in ("data_batch_3.bin", "test_batch.bin"):
        whole = (path / name).read_bytes()
        (path / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name} is missing.*data_batch_1.bin, .*test_batch.bin"):
            data.cifar10()
        (path / name).write_bytes(whole)
    monkeypatch.setenv("OPTCOURSE_DATA", "")
    assert not data.has_cifar10()
    with pytest.raises(FileNotFoundError, match="OPTCOURSE_DATA must name the folder.*not set"):
        data.cifar10()


def test_another_type_is_refused(folder):
    with pytest.raises(ValueError, match=r"dtype must be one of torch.float32, torch.float64, got torch.float16"):
        data.cifar10(dtype=torch.float16)


@given(name=st.sampled_from([*TRAIN, "test_batch.bin"]), size=st.integers(0, 5 * 3073))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_a_file_of_another_size_is_refused_with_its_size(folder, name, size):
    path = folder[0] / name
    whole = path.read_bytes()
    try:
        path.write_bytes((whole * 2)[:size])
        if size and size % 3073 == 0:
            data.cifar10()
        else:
            with pytest.raises(ValueError, match=rf"{name} must have a multiple of 3073 bytes .*, got {size}$"):
                data.cifar10()
    finally:
        path.write_bytes(whole)


@given(name=st.sampled_from([*TRAIN, "test_batch.bin"]), record=st.integers(0, 3), label=st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_a_label_above_nine_is_refused_with_its_record(folder, name, record, label):
    path = folder[0] / name
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[record * 3073] = label
    try:
        path.write_bytes(damaged)
        if label <= 9:
            data.cifar10()
        else:
            message = rf"{name}: the label of record {record} must be in 0..9, got {label}$"
            with pytest.raises(ValueError, match=message):
                data.cifar10()
    finally:
        path.write_bytes(whole)
