"""CIFAR-10 in its usual binary form, from a folder that the reader already has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from optcourse.arguments import choice, integer
from optcourse.data.sets import FLOATS, Dataset

#: The environment variable that names the folder.
FOLDER = "OPTCOURSE_DATA"
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = ("test_batch.bin",)
IMAGE, CLASSES = (3, 32, 32), 10
RECORD = 1 + 3 * 32 * 32  # a label, then the red, the green and the blue plane, row by row


def has_cifar10() -> bool:
    """Whether ``OPTCOURSE_DATA`` is set: then :func:`cifar10` is wanted, and says what is wrong in the folder."""
    return bool(os.environ.get(FOLDER))


def cifar10(*, samples: int = 60_000, standardize: bool = True, dtype: torch.dtype = torch.float32) -> Dataset:
    """The ten classes of small photographs (Krizhevsky 2009), ``x`` of shape ``[N, 3, 32, 32]``.

    Read from the folder that ``OPTCOURSE_DATA`` names, or from ``cifar-10-batches-bin`` in it: ``data_batch_1.bin`` …
    ``data_batch_5.bin`` and ``test_batch.bin`` as published (https://www.cs.toronto.edu/~kriz/cifar.html), or with
    fewer records. Of each file the first ``samples // 6`` are taken, or all that it has. Nothing is downloaded. Values
    are scaled to 0..1; ``standardize`` then subtracts the mean and divides by the standard deviation of each colour *in
    the training set*.

    Raises ``FileNotFoundError`` where the variable, the folder or a file is missing, and ``ValueError`` for a file that
    is not a whole number of records of 3073 bytes, or has a label above 9 among the records that are read.
    """
    choice("dtype", dtype, FLOATS)
    most = integer("samples", samples, 6) // 6
    folder = _folder()
    (train, y_train), (test, y_test) = (_read(folder, names, most) for names in (TRAIN, TEST))
    x_train, x_test = (torch.from_numpy(pixels).to(dtype).div_(255) for pixels in (train, test))
    if standardize:
        std, mean = torch.std_mean(x_train, (0, 2, 3), correction=0, keepdim=True)
        std[std == 0] = 1.0  # a colour that is the same everywhere has no scale
        x_train, x_test = x_train.sub_(mean).div_(std), x_test.sub_(mean).div_(std)
    return Dataset(x_train, torch.from_numpy(y_train), x_test, torch.from_numpy(y_test), CLASSES, "CIFAR-10")


def _folder() -> Path:
    named = os.environ.get(FOLDER)
    if not named:
        raise FileNotFoundError(f"{FOLDER} must name the folder with the binary files of CIFAR-10, and is not set")
    folder = Path(named)
    if not folder.is_dir():
        raise FileNotFoundError(f"{FOLDER} must name a folder, got {named!r}, which is none")
    inner = folder / "cifar-10-batches-bin"
    return inner if inner.is_dir() else folder


def _read(folder: Path, names: tuple[str, ...], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 ``[N, 3, 32, 32]`` and labels int64 ``[N]`` of the files, one after the other."""
    rows = np.concatenate([_records(folder / name, most) for name in names])
    return rows[:, 1:].reshape(-1, *IMAGE), rows[:, 0].astype(np.int64)


def _records(path: Path, most: int) -> np.ndarray:
    """The file as bytes ``[N, 3073]``, at most so many."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {FOLDER} must name a folder with {', '.join(TRAIN + TEST)}")
    size = path.stat().st_size
    if not size or size % RECORD:
        raise ValueError(
            f"{path} must have a multiple of {RECORD} bytes (30,730,000 as published), at least one, got {size}"
        )
    rows = np.fromfile(path, dtype=np.uint8, count=min(size, most * RECORD)).reshape(-1, RECORD)
    if rows[:, 0].max() >= CLASSES:
        record = int((rows[:, 0] >= CLASSES).argmax())
        raise ValueError(f"{path}: the label of record {record} must be in 0..{CLASSES - 1}, got {rows[record, 0]}")
    return rows
