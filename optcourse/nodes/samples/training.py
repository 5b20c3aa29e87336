"""Networks that learn on nodes: what the lectures repeat for every algorithm, several seeds side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optcourse.arguments import integer
from optcourse.data import Dataset
from optcourse.models.rows import stack
from optcourse.nodes.algorithms.algorithm import Iterates
from optcourse.nodes.byzantine.attacks import label_flip
from optcourse.nodes.network.network import Network
from optcourse.nodes.samples.gradients import flat_gradient
from optcourse.nodes.samples.shards import Shards
from optcourse.nodes.streams import Rows
from optcourse.runtime import progress


def train(
    net: Network,
    nets: Sequence[nn.Module],
    data: Dataset | Sequence[Dataset],
    parts: Sequence[Sequence[Tensor]],
    algorithm: Callable[..., Iterates],
    lr: float | Tensor | Callable[[int], float | Tensor],
    steps: int,
    *,
    seeds: Sequence[int],
    batch_size: int | None = 16,
    start: Tensor | None = None,
    liars: Sequence[int] = (),
    change: Callable[[Tensor], Tensor] | None = None,
    look: Callable[[Tensor], Any] | None = None,
    every: int = 1,
    **options: Any,
) -> tuple[list[Any], Tensor]:
    """Minimize the cross-entropy on the nodes of ``net``, once for each of ``seeds``: ``(looks, x [rows, seeds, d])``.

    Seed s trains ``nets[s]`` (all of one shape) on ``data`` (one for all seeds, or one for each), of which node i holds
    the samples ``parts[s][i]``. Its batches are those that it would draw alone, and equal seeds draw equal ones (for
    networks that differ in their rate); another training on the same ``net`` goes on where its streams stand. The
    algorithm is given x ``[rows, seeds * d]`` and ``options``: one that treats entries alike gives every seed what it
    would have alone, one that does not (a compressor, a robust rule) takes one seed at a time. ``lr`` is a number, a
    tensor with one for each seed, or a function of the round that gives either. ``start`` are other first parameters,
    which broadcast to ``[rows, seeds, d]``. ``liars`` are nodes whose labels y read C - 1 - y; ``change`` alters the
    gradients ``[m, seeds, d]``. ``look(x)``, x as returned, is asked at first and after every ``every`` steps.

    Ends after ``steps``, or with the algorithm. Raises ``ValueError`` for no seed, another number of networks, data or
    parts, equal seeds with different ones, and what ``Shards``, ``flat_gradient`` and the algorithm refuse.
    """
    worlds, copies = [data] * len(seeds) if isinstance(data, Dataset) else list(data), len(seeds)
    if not copies or {len(nets), len(worlds), len(parts)} != {copies}:
        raise ValueError(f"seeds must be as many as nets, data and parts, at least one, got {copies} for {len(nets)}")
    integer("steps", steps, 1)
    integer("every", every, 1)
    first = stack(nets).to(worlds[0].x_train.dtype) if start is None else start
    d = first.shape[-1]
    x = first.expand(net.rows, copies, d).flatten(1)
    shards, held = {}, {}
    for seed, world, part in zip(seeds, worlds, parts, strict=True):
        known, dealt = held.setdefault(seed, (world, part))
        if known is not world or not all(map(torch.equal, dealt, part)):
            raise ValueError(f"seeds that are equal must have the same data and parts, got {seed} with different ones")
        shards[seed] = Shards(net, world, part, batch_size, seed=seed, relabel=label_flip, liars=liars)

    def batch(rows: Rows = None) -> tuple[Tensor, ...]:
        """Row i * seeds + s is node i of seed s."""
        drawn = {seed: shard.batch(rows) for seed, shard in shards.items()}
        return tuple(torch.stack([drawn[seed][k] for seed in seeds], 1).flatten(0, 1) for k in (0, 1))

    batches: Any = SimpleNamespace(batch=batch)
    of_rows = flat_gradient(nets[0], F.cross_entropy, batches)

    def grad(x: Tensor, rows: Rows = None) -> Tensor:
        g = of_rows(x.reshape(-1, d), rows).view(len(x), copies, d)
        return (change(g) if change else g).flatten(1)

    def spread(lr: float | Tensor) -> float | Tensor:
        return torch.as_tensor(lr, dtype=x.dtype).repeat_interleave(d) if isinstance(lr, Tensor) else lr

    rates = (lambda k: spread(lr(k))) if callable(lr) else spread(lr)
    looks = [look(x.view(-1, copies, d))] if look else []
    iterates = islice(algorithm(net, grad, x, rates, **options), steps)
    for k, x in enumerate(progress(iterates, desc="training", total=steps), 1):
        if look and k % every == 0:
            looks.append(look(x.view(-1, copies, d)))
    return looks, x.view(-1, copies, d)
