"""Small data sets that are generated from a seed or ship with a library.

>>> data = digits(seed=0)
>>> data.x_train.shape, data.n_classes
(torch.Size([1347, 64]), 10)
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optcourse import files
from optcourse.arguments import choice, integer, nonnegative, positive
from optcourse.data.parts import MAX_SEED, split

FLOATS = (torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test set: ``x`` is float ``[N, ...]``, ``y`` is int64 ``[N]`` with labels ``0..n_classes-1``."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    n_classes: int
    name: str

    def to(self, device: torch.device | str) -> Dataset:
        """The same data on another device."""
        tensors = ("x_train", "y_train", "x_test", "y_test")
        return replace(self, **{t: getattr(self, t).to(device) for t in tensors})

    def subset(self, index: Tensor) -> Dataset:
        """Only the training samples ``index``; the test set stays whole."""
        return replace(self, x_train=self.x_train[index], y_train=self.y_train[index])


def digits(
    *,
    test_fraction: float = 0.25,
    seed: int = 0,
    standardize: bool = True,
    image: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Scikit-learn's 1797 handwritten digits of 8 x 8 pixels, flat ``[N, 64]`` or ``[N, 1, 8, 8]``.

    The split is stratified. Grey values are scaled to 0..1; ``standardize`` then subtracts mean and
    divides by standard deviation *of the training set*, for each pixel (for an image: over all pixels).
    """
    pixels, labels = _load_digits()
    x, y = pixels / 16.0, labels.astype(np.int64)
    train, test = split(y, test_fraction=test_fraction, seed=seed)
    if image:
        x = x.reshape(-1, 1, 8, 8)
    if standardize:
        axes = None if image else 0
        mean, std = x[train].mean(axes), x[train].std(axes)
        x = (x - mean) / np.where(std > 0, std, 1.0)  # a pixel that is blank in training has no scale
    return _dataset(x, y, train, test, "digits", dtype)


def mnist1d(*, samples: int = 5000, seed: int = 42, cache: bool = True, dtype: torch.dtype = torch.float32) -> Dataset:
    """MNIST-1D (Greydanus & Kobak 2024): ten classes of noisy, shifted, sheared signals of length 40.

    The defaults give the published set (4000 training and 1000 test signals). The signals are made by
    the ``mnist1d`` package's generator, which takes a second or two, and kept in ``$OPTCOURSE_CACHE``
    or the user's cache folder; an unreadable or foreign file there is replaced with a warning,
    and a folder that cannot be written is no error. Random states of numpy and Python stay untouched.
    """
    if integer("samples", samples, 20) % 10:
        raise ValueError(f"samples must be a multiple of 10, the number of classes, got {samples!r}")
    integer("seed", seed, 0, MAX_SEED)
    source = f"mnist1d {version('mnist1d')} samples={samples} seed={seed}"
    path = files.folder() / f"mnist1d-{samples}-{seed}.npz"
    arrays = files.load(path, source, parts="xy") if cache else None
    if arrays is None:
        arrays = _generate_mnist1d(samples, seed)
        if cache:
            files.save(path, arrays, source)
    train, test = np.split(np.arange(samples), [int(0.8 * samples)])
    return _dataset(arrays["x"], arrays["y"], train, test, "MNIST-1D", dtype)


def two_moons(
    *,
    samples: int = 1000,
    noise: float = 0.15,
    test_fraction: float = 0.25,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Two interleaved half circles of radius 1 in the plane, with Gaussian ``noise`` (standard deviation)."""
    integer("samples", samples, 8)
    nonnegative(noise=noise)
    rng = np.random.default_rng(integer("seed", seed, 0, MAX_SEED))
    y = np.arange(samples) % 2
    angle = rng.uniform(0, np.pi, samples)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    x = np.where(y[:, None] == 0, upper, lower) + noise * rng.standard_normal((samples, 2))
    return _dataset(x, y, *split(y, test_fraction=test_fraction, seed=seed), "two moons", dtype)


def spirals(
    *,
    samples: int = 1200,
    classes: int = 3,
    turns: float = 0.75,
    noise: float = 0.03,
    test_fraction: float = 0.25,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Arms of a spiral in the unit disc, one per class, each making ``turns`` turns, with Gaussian ``noise``."""
    integer("classes", classes, 2)
    integer("samples", samples, 4 * classes)
    positive(turns=turns)
    nonnegative(noise=noise)
    rng = np.random.default_rng(integer("seed", seed, 0, MAX_SEED))
    y = np.arange(samples) % classes
    radius = rng.uniform(0.05, 1.0, samples)
    angle = 2 * np.pi * (turns * radius + y / classes)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x += noise * rng.standard_normal((samples, 2))
    return _dataset(x, y, *split(y, test_fraction=test_fraction, seed=seed), "spirals", dtype)


# ----------------------------------------------------------------------------------------- helpers


@functools.cache  # lectures ask for hundreds of splits of one file
def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    return found.data, found.target


def _generate_mnist1d(samples: int, seed: int) -> dict[str, np.ndarray]:
    from mnist1d.data import get_dataset_args, make_dataset

    args: Any = get_dataset_args()  # an object whose attributes are the keys of a dictionary
    args.num_samples, args.seed = samples, seed
    # The generator seeds and consumes the global generators of Python and numpy; put both back.
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        raw = make_dataset(args)
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
    return {part: np.concatenate([raw[part], raw[f"{part}_test"]]) for part in "xy"}


def _dataset(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, name: str, dtype: torch.dtype
) -> Dataset:
    choice("dtype", dtype, FLOATS)
    inputs, labels = torch.as_tensor(x, dtype=dtype), torch.as_tensor(y, dtype=torch.int64)
    return Dataset(inputs[train], labels[train], inputs[test], labels[test], int(labels.max()) + 1, name)
