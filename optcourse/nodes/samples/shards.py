"""The data of the nodes: who holds which samples, and random batches of them.

>>> from optcourse import data
>>> from optcourse.nodes import Network
>>> digits, net = data.digits(), Network(4)
>>> shards = Shards(net, digits, split(digits, 4, "label"), batch_size=8)
>>> X, Y = shards.batch()
>>> X.shape, Y.shape, shards.sizes.sum().item()
(torch.Size([4, 8, 64]), torch.Size([4, 8]), 1347)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from optcourse.arguments import choice, integer
from optcourse.data import Dataset, dirichlet_partition, label_partition
from optcourse.nodes.network.network import Network
from optcourse.nodes.streams import Rows

SPLITS = ("iid", "label", "dirichlet")


def split(
    data: Dataset, n_nodes: int, how: str = "iid", *, alpha: float = 0.5, classes_per_node: int = 2, seed: int = 0
) -> list[Tensor]:
    """Deal the training samples to ``n_nodes`` nodes: one int64 index tensor per node, together a partition.

    ``"iid"``: shuffled, in parts that differ by one sample at most; ``"label"``: each node holds ``classes_per_node``
    classes (more when the nodes are too few for all classes); ``"dirichlet"``: each class in proportions drawn from
    Dirichlet(``alpha``). Raises ``ValueError`` for another ``how`` or more nodes than samples.
    """
    choice("how", how, SPLITS)
    n = integer("n_nodes", n_nodes, 1, len(data.y_train))
    if how == "label":
        classes = integer("classes_per_node", classes_per_node, 1, data.n_classes)
        classes = max(classes, -(-data.n_classes // n))
        most = int(torch.bincount(data.y_train, minlength=data.n_classes).min()) * data.n_classes // classes
        try:
            return label_partition(data.y_train, n, classes, seed)
        except ValueError as error:
            if n <= most:
                raise
            limit = f"at most {most} for {classes} classes per node"
            raise ValueError(f"n_nodes must be {limit}, got {n}: {error}") from None
    if how == "dirichlet":
        return dirichlet_partition(data.y_train, n, alpha, seed)
    order = torch.randperm(len(data.y_train), generator=torch.Generator().manual_seed(integer("seed", seed, 0)))
    return list(order.tensor_split(n))


class Shards:
    """The samples of the own nodes, and batches of ``batch_size`` of them, drawn with replacement.

    ``parts`` lists the indices into the training set of *all* n nodes (``split``). ``batch_size=None`` gives each
    node's whole shard, every time, and needs shards of one size. Batches come from the network's stream "data" of
    ``seed``. ``relabel(labels, n_classes) -> labels`` changes the labels of the nodes ``liars`` (a label-flip attack).
    ``sizes`` int64 [n] are all nodes' numbers of samples.

    Raises ``ValueError`` for another number of parts, an empty part, indices outside the training set, a batch_size
    below 1, or None with shards that differ in size.
    """

    def __init__(
        self,
        net: Network,
        data: Dataset,
        parts: Sequence[Tensor],
        batch_size: int | None = None,
        *,
        seed: int = 0,
        relabel: Callable[[Tensor, int], Tensor] | None = None,
        liars: Sequence[int] = (),
    ) -> None:
        if len(parts) != net.n:
            raise ValueError(f"parts must list the samples of {net.n} nodes, got {len(parts)} lists")
        self.sizes = torch.tensor([len(part) for part in parts])
        if (self.sizes == 0).any():
            raise ValueError(f"parts must give each node samples, node {int(self.sizes.argmin())} has none")
        if batch_size is None and (self.sizes != self.sizes[0]).any():
            listed = f"{int(self.sizes.min())} to {int(self.sizes.max())}"
            raise ValueError(f"batch_size must be a number when shards differ in size, got None for {listed} samples")
        self.batch_size = None if batch_size is None else integer("batch_size", batch_size, 1)
        parts = [torch.as_tensor(part) for part in parts]
        everything = torch.cat(parts)
        if everything.min() < 0 or everything.max() >= len(data.y_train):
            raise ValueError(f"parts must hold indices in 0..{len(data.y_train) - 1}, got {int(everything.max())}")
        self._x, own = data.x_train, net.mine.tolist()
        lying = {integer("liars", int(node), 0, net.n - 1) for node in liars}
        changed = relabel(data.y_train, data.n_classes) if relabel else data.y_train
        # The samples of all own nodes in a row; a sample of node i is offset_i plus its place in the shard.
        self._index = torch.cat([parts[node] for node in own])
        self._labels = torch.cat([(changed if node in lying else data.y_train)[parts[node]] for node in own])
        self._own_sizes = self.sizes[own]
        self._offset = self._own_sizes.cumsum(0) - self._own_sizes
        self.streams = net.streams("data", seed)

    def batch(self, rows: Rows = None) -> tuple[Tensor, Tensor]:
        """``(X [m, B, ...], Y [m, B])`` for all own nodes, or the positions ``rows`` among them, whose streams move."""
        chosen = torch.arange(len(self._offset)) if rows is None else torch.as_tensor(rows)
        if self.batch_size is None:
            place = torch.arange(int(self.sizes[0])).expand(len(chosen), -1)
        else:
            place = self.streams.integers(self._own_sizes[chosen], self.batch_size, rows=rows)
        place = place + self._offset[chosen, None]
        return self._x[self._index[place]], self._labels[place]
