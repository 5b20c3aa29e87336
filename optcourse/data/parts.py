"""Splitting, spoiling and partitioning labelled samples: all by index, all from a seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from optcourse.arguments import choice, integer, positive, real

MAX_SEED = 2**32 - 1


def split(y: Tensor | np.ndarray, *, test_fraction: float = 0.25, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Stratified split: indices ``(train, test)``, each shuffled.

    Of a class with n samples, ``round(test_fraction * n)`` go to the test set. Raises ``ValueError``
    when that leaves a class without training or test samples.
    """
    real("test_fraction", test_fraction, 0, 1, open_low=True, open_high=True)
    y, rng = _labels(y), np.random.default_rng(integer("seed", seed, 0, MAX_SEED))
    train, test = [], []
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        n_test = round(test_fraction * members.size)
        if not 0 < n_test < members.size:
            raise ValueError(
                f"test_fraction={test_fraction!r} puts {n_test} of the {members.size} samples of class {label} "
                "into the test set; each class needs at least one in both sets"
            )
        test.append(members[:n_test])
        train.append(members[n_test:])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(test))


def label_noise(y: Tensor, fraction: float, n_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Replace exactly ``round(fraction * N)`` labels by a uniformly drawn *different* class.

    Returns the new labels and a boolean mask of the changed ones; ``y`` itself stays as it is.
    """
    real("fraction", fraction, 0, 1)
    integer("n_classes", n_classes, 2)
    labels = _labels(y)
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"y must hold labels in 0..{n_classes - 1}, got {labels.min()}..{labels.max()}")
    rng = np.random.default_rng(integer("seed", seed, 0, MAX_SEED))
    flipped = rng.choice(labels.size, round(fraction * labels.size), replace=False)
    # Adding 1..C-1 modulo C reaches every class but the present one, each equally often.
    labels[flipped] = (labels[flipped] + rng.integers(1, n_classes, flipped.size)) % n_classes
    new = torch.from_numpy(labels).to(y)
    return new, new != y


def imbalance(y: Tensor, keep: Mapping[int, float], seed: int = 0) -> Tensor:
    """Indices (sorted) of a subset in which class c keeps ``round(keep[c] * n_c)`` samples, at least one.

    Classes that ``keep`` does not name stay whole. Use it as ``data.subset(imbalance(data.y_train, {3: 0.1}))``.
    """
    labels = _labels(y)
    rng = np.random.default_rng(integer("seed", seed, 0, MAX_SEED))
    present = np.unique(labels).tolist()
    for label, fraction in keep.items():
        choice("keep: class", label, present)
        real(f"keep[{label}]", fraction, 0, 1, open_low=True)
    kept = []
    for label in present:
        members = rng.permutation(np.flatnonzero(labels == label))
        kept.append(members[: max(1, round(keep.get(label, 1.0) * members.size))])
    return torch.from_numpy(np.sort(np.concatenate(kept)))


def dirichlet_partition(y: Tensor, n_nodes: int, alpha: float, seed: int = 0, min_size: int = 1) -> list[Tensor]:
    """Deal all samples to nodes, each class in proportions drawn from Dirichlet(alpha, ..., alpha).

    Small ``alpha``: a node sees few classes; large ``alpha``: all nodes look alike (Hsu et al. 2019).
    A node with fewer than ``min_size`` samples is topped up from the largest node. Returns one index
    tensor per node; together they are a partition of ``0..N-1``.
    """
    labels = _labels(y)
    positive(alpha=alpha)
    integer("min_size", min_size, 0)
    integer("n_nodes", n_nodes, 1, labels.size // max(1, min_size))
    rng = np.random.default_rng(integer("seed", seed, 0, MAX_SEED))
    nodes: list[list[int]] = [[] for _ in range(n_nodes)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(n_nodes, float(alpha)))
        cuts = np.rint(np.cumsum(shares)[:-1] * members.size).astype(int)
        for node, part in zip(nodes, np.split(members, cuts), strict=True):
            node.extend(part.tolist())
    for node in nodes:
        while len(node) < min_size:
            largest = max(nodes, key=len)
            node.append(largest.pop(int(rng.integers(len(largest)))))
    return [torch.tensor(node, dtype=torch.int64) for node in nodes]


def label_partition(y: Tensor, n_nodes: int, classes_per_node: int, seed: int = 0) -> list[Tensor]:
    """Deal all samples so that each node holds exactly ``classes_per_node`` classes (McMahan et al. 2017).

    The samples of a class are shared evenly among the nodes that hold it. Returns one index tensor per
    node. Raises ``ValueError`` when the nodes cannot hold all classes, or a class has too few samples.
    """
    labels = _labels(y)
    rng = np.random.default_rng(integer("seed", seed, 0, MAX_SEED))
    classes = rng.permutation(np.unique(labels))
    integer("n_nodes", n_nodes, 1)
    integer("classes_per_node", classes_per_node, 1, classes.size)
    if n_nodes * classes_per_node < classes.size:
        raise ValueError(
            f"n_nodes * classes_per_node must be at least the number of classes, {classes.size}, "
            f"got {n_nodes} * {classes_per_node}"
        )
    # Node i takes the next classes_per_node classes in cyclic order, so each class has about equally many holders.
    slots = np.arange(n_nodes * classes_per_node) % classes.size
    holder = np.arange(n_nodes * classes_per_node) // classes_per_node
    nodes: list[list[int]] = [[] for _ in range(n_nodes)]
    for slot, label in enumerate(classes):
        members, holders = rng.permutation(np.flatnonzero(labels == label)), holder[slots == slot]
        if members.size < holders.size:
            raise ValueError(f"class {label} has {members.size} samples for the {holders.size} nodes that hold it")
        for node, part in zip(holders, np.array_split(members, holders.size), strict=True):
            nodes[node].extend(part.tolist())
    return [torch.tensor(node, dtype=torch.int64) for node in nodes]


def _labels(y: Tensor | np.ndarray) -> np.ndarray:
    """A fresh numpy copy of the labels; an error unless they are a non-empty vector of integers."""
    labels = np.array(y.detach().cpu().numpy() if isinstance(y, Tensor) else y)
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"y must be a non-empty vector of integer labels, got {labels.dtype} of shape {labels.shape}")
    return labels
