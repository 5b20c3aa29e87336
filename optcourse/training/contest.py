"""Optimizers against each other on one workload: all methods, rates and seeds in one training of many copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import vmap

from optcourse import optim
from optcourse.arguments import integer, real
from optcourse.measure import first_below
from optcourse.models import rows
from optcourse.training import copies

#: ``maker(lr=rates [rows, 1])`` is a function x, gradient -> next x of rows, see :func:`optcourse.optim.stepper`.
Maker = Callable[..., Callable[[Tensor, Tensor], Tensor]]


def race(
    nets: Sequence[nn.Module],
    samples: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    field: Mapping[str, Maker],
    rates: Mapping[str, ArrayLike],
    *,
    orders: Sequence[int],
    batch_size: int,
    steps: int,
    every: int = 4,
) -> dict[str, np.ndarray]:
    """The loss on ``held_out`` at first and after every ``every`` steps, ``[looks, rates, nets]`` for each method.

    Every method of ``rates`` trains a copy of each network at each of its rates, with ``field[method]``; network i
    draws its mini-batches in the order of seed ``orders[i]``, the same for all. A loss that is not finite is ``inf``.
    Raises ``ValueError`` for a method without rates or that ``field`` lacks, for no or unequal ``held_out``, and as
    :func:`optcourse.training.copies.train`.
    """
    grids = {name: np.atleast_1d(real(f"rates[{name!r}]", grid, 0.0)) for name, grid in rates.items()}
    bad = [name for name, grid in grids.items() if grid.size == 0 or grid.ndim > 1 or name not in field]
    if bad or not grids:
        raise ValueError(f"rates must be a row of rates for each of some methods of field, got {dict(rates)!r}")
    widths = [len(grid) * len(nets) for grid in grids.values()]
    x, y = held_out
    if len(x) != len(y) or len(y) == 0:
        raise ValueError(f"held_out must be samples and as many labels, at least one, got {len(x)} and {len(y)}")

    def new_step(_: Any, *, lr: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        makers = zip(grids, lr.split(widths), strict=True)  # views: the rates change in place
        parts = [field[name](lr=its) for name, its in makers]
        return lambda w, g: torch.cat(
            [f(*each) for f, *each in zip(parts, w.split(widths), g.split(widths), strict=True)]
        )

    def look(w: Tensor) -> Tensor:
        with torch.no_grad():
            return rows.losses(nets[0], w, x.expand(len(w), *x.shape), y.expand(len(w), -1))

    schedule = np.tile(np.concatenate([*grids.values()]), (integer("steps", steps, 1), 1))
    options: dict[str, Any] = {"orders": orders, "batch_size": batch_size, "look": look, "every": every}
    looks = copies.train(nets, samples, optim.SGD, schedule, new_step=new_step, **options).looks
    assert looks is not None
    ends = np.cumsum([len(grid) for grid in grids.values()])[:-1]
    return dict(zip(grids, np.split(np.where(np.isfinite(looks), looks, np.inf), ends, axis=1), strict=True))


def steps_to(losses: ArrayLike, target: float, *, every: int) -> np.ndarray:
    """Steps until the loss was first seen at or below ``target``, ``[looks, ...] -> [...]``; ``inf`` for never.

    >>> steps_to([[3.0, 3.0], [1.0, 2.0], [2.0, 2.0]], 1.5, every=4)
    array([ 4., inf])
    """
    seen = np.asarray(losses, dtype=float)
    if seen.ndim == 0 or len(seen) == 0:
        raise ValueError(f"losses must have shape [looks, ...], got {list(seen.shape)}")
    integer("every", every, 1)
    found = every * first_below(seen.reshape(len(seen), -1).T, real("target", target))
    return np.where(np.isnan(found), np.inf, found).reshape(seen.shape[1:])


def choose(losses: ArrayLike, target: float, *, every: int) -> int:
    """The best rate of ``losses [looks, rates, seeds]``: fewest steps to the target on average over the seeds.

    A run that never gets there counts as twice all steps. Equal rates are told apart by the final loss.
    """
    seen = np.asarray(losses, dtype=float)
    if seen.ndim != 3 or 0 in seen.shape:
        raise ValueError(f"losses must have shape [looks, rates, seeds], got {list(seen.shape)}")
    steps = np.minimum(steps_to(seen, target, every=every), 2 * every * (len(seen) - 1)).mean(-1)
    return int(np.lexsort((seen[-1].mean(-1), steps))[0])


def muon_with_adam(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> _Together:
    """Muon for what has two or more axes, Adam for the rest, at one rate: Muon's steps are as long as AdamW's.

    ``weight_decay`` is Muon's, decoupled; Adam has none.
    It has what a training loop needs, ``zero_grad``, ``step`` and ``param_groups``; for checkpoints take its
    ``optimizers`` one by one.
    """
    every = [*parameters]
    matrices, others = ([p for p in every if (p.dim() > 1) is wanted] for wanted in (True, False))
    parts: list[torch.optim.Optimizer] = []
    if matrices:
        settings: dict[str, Any] = {"adjust_lr_fn": "match_rms_adamw", "ns_dtype": None}
        parts.append(optim.Muon(matrices, lr=lr, weight_decay=weight_decay, **settings))
    if others or not matrices:  # of neither: refused, as by every optimizer
        parts.append(optim.Adam(others, lr=lr))
    return _Together(*parts)


def muon_stepper(net: nn.Module) -> Callable[..., Callable[[Tensor, Tensor], Tensor]]:
    """:func:`muon_with_adam` side by side: ``muon_stepper(net)(None, lr=lr)`` is a function x, gradient -> next x.

    x are rows ``[rows, d]`` of the parameters of networks of net's shape, lr ``[rows, 1]``; ``weight_decay`` (0) as
    there. The same steps as through :func:`optcourse.optim.layer_stepper`, but all rows' matrices are rotated at once.
    """
    shapes = [p.shape for p in net.parameters()]
    sizes, rotate = [shape.numel() for shape in shapes], vmap(partial(optim.orthogonalize, dtype=None))

    def new_step(_: Any, *, lr: Tensor, weight_decay: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
        real("weight_decay", weight_decay, 0.0)
        adam, m = optim.stepper(optim.Adam, lr=lr), lr.new_zeros(())

        def step(x: Tensor, g: Tensor) -> Tensor:
            nonlocal m
            d, m = optim.Muon.direction(g, m, momentum=0.95, nesterov=True)
            places = (part.split(sizes, dim=1) for part in (x, d, adam(x, g)))
            after = []
            for shape, old, part, adams in zip(shapes, *places, strict=True):
                if len(shape) < 2:
                    after.append(adams)
                    continue
                matrices = part.reshape(len(part), shape[0], -1)
                length = 0.2 * max(matrices.shape[1:]) ** 0.5
                after.append((1 - lr * weight_decay) * old - lr * length * rotate(matrices).flatten(1))
            return torch.cat(after, dim=1)

        return step

    return new_step


class _Together:
    """Several optimizers that step as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss
