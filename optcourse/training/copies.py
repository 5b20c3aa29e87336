"""Many copies of one network learn side by side: at every rate of a grid, each in its own order of the samples.

Their parameters are the rows of a matrix, see :mod:`optcourse.models.rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optcourse.arguments import integer, nonnegative
from optcourse.models.rows import Loss, check_rows, forward, losses_of, places, split, stack
from optcourse.optim.stepper import stepper
from optcourse.runtime import progress
from optcourse.training.fit import batches

#: Numbers of batches that go through the networks together: what they leave behind then fits into a cache.
CACHE = 393_216


class Trained(NamedTuple):
    """What :func:`train` returns, for each column of rates and each network."""

    #: Mini-batch losses ``[steps, columns, nets]``, each before its step.
    losses: np.ndarray
    #: Parameters at the end ``[columns, nets, d]``.
    weights: Tensor
    #: What was seen on the way ``[looks, columns, nets, ...]``; None without ``look``.
    looks: np.ndarray | None


def train(
    nets: Sequence[nn.Module],
    samples: tuple[Tensor, Tensor],
    method: type[Any],
    lr: np.ndarray,
    *,
    orders: Sequence[int],
    batch_size: int,
    loss: Loss = F.cross_entropy,
    labels: Tensor | None = None,
    start: Tensor | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
    climb: Callable[[Tensor], Tensor] | None = None,
    look: Callable[[Tensor], Tensor] | None = None,
    every: int = 1,
    new_step: Callable[..., Callable[[Tensor, Tensor], Tensor]] = stepper,
    **settings: Any,
) -> Trained:
    """Train copies of ``nets`` (of one shape) side by side, one for each column of the rates lr ``[steps, columns]``.

    With lr ``[steps, columns, nets]`` each network has rates of its own in every column.

    A copy's losses are those of :func:`optcourse.training.fit` of that network alone, up to rounding. Network i draws
    its mini-batches of ``samples = (x, y)`` in an order with seed ``orders[i]``, the same in every column;
    ``labels`` ``[nets, n]``, one row for each network, take the place of y; ``change(x)`` may alter a batch ``[nets,
    B, ...]`` on the way. ``method`` is an element-wise optimizer of ``optcourse.optim`` with its ``settings``, or what
    else ``new_step(method, lr=..., **settings)`` makes of it (see :func:`optcourse.optim.layer_stepper`): a function x,
    gradient -> next x of parameters ``[columns * nets, d]``, where lr ``[columns * nets, 1]`` changes in place.
    ``climb(g)`` makes it SAM: the step is taken with the gradients at w + climb(g), see :func:`optcourse.optim.ascent`.
    ``start`` are other first parameters, ``[nets, d]`` or ``[columns, nets, d]``. ``look(w)`` is given all parameters
    ``[columns * nets, d]`` at first and after every ``every`` steps: they themselves, so a look that changes them in
    place changes the training.

    Raises ``ValueError`` for no network or different ones, rates that are negative, not finite or no table, a wrong
    number of orders or labels, a start of another shape, and what :func:`optcourse.training.batches`,
    :func:`optcourse.models.rows.check_rows` and the method refuse; ``TypeError`` for orders that are no integers.
    """
    (rates,) = nonnegative(lr=lr)
    if rates.ndim not in (2, 3) or rates.size == 0:
        raise ValueError(f"lr must have shape [steps, columns], both at least 1, got {list(rates.shape)}")
    if rates.ndim == 3 and rates.shape[2] != len(nets):
        raise ValueError(f"lr must have rates for each of {len(nets)} nets, got shape {list(rates.shape)}")
    if len(nets) == 0 or len(orders) != len(nets):
        raise ValueError(f"orders must be one seed for each of nets, at least one, got {len(orders)} for {len(nets)}")
    if len({repr(net) for net in nets}) > 1:  # all are computed as the first one
        raise ValueError("nets must have the same layers, got different ones")
    if len(samples[0]) != len(samples[1]):
        raise ValueError(f"samples must be (x, y) of one length, got {len(samples[0])} and {len(samples[1])}")
    if labels is not None and labels.shape[:2] != (len(nets), len(samples[1])):
        raise ValueError(f"labels must have shape {[len(nets), len(samples[1])]}, got {list(labels.shape)}")
    integer("every", every, 1)
    orders = [integer("orders", seed, 0) for seed in orders]
    columns, w = rates.shape[1], stack(nets)
    if start is not None:
        if start.shape not in (w.shape, (columns, *w.shape)):
            raise ValueError(f"start must have shape {list(w.shape)} or {[columns, *w.shape]}, got {list(start.shape)}")
        w = start.detach()
    w = w.expand(columns, len(nets), -1).flatten(0, 1).clone()
    rates = rates.repeat(len(nets), axis=1) if rates.ndim == 2 else rates.reshape(len(rates), -1)
    rates = torch.as_tensor(rates, dtype=w.dtype, device=w.device).unsqueeze(2)
    now = rates.amax(0)  # of all rates, for the method's checks
    step = new_step(method, lr=now, **settings)
    (x, y), streams = samples, [batches(len(samples[1]), batch_size, torch.Generator().manual_seed(i)) for i in orders]
    seen, looks = w.new_empty(len(rates), len(w)), [look(w)] if look else []
    own = torch.arange(len(nets)).unsqueeze(1)
    check_rows(nets[0])  # and names and shapes are looked up once, not at every step
    parameters, names = list(nets[0].parameters()), places(nets[0])

    def values_and_gradients(at: Tensor) -> tuple[Tensor, Tensor]:
        found = []  # a loss of one's own may count its calls
        some = max(1, CACHE // batch[0].numel()) if loss is F.cross_entropy else len(at)
        for part, h, goals in zip(at.detach().split(some), batch.split(some), targets.split(some), strict=True):
            pieces = split(parameters, part.requires_grad_())
            values = losses_of(loss, forward(nets[0], "", {name: pieces[i] for name, i in names.items()}, h), goals)
            found.append((values.detach(), torch.autograd.grad(values.sum(), part)[0]))
        values, gradients = zip(*found, strict=True)
        return (values[0], gradients[0]) if len(found) == 1 else (torch.cat(values), torch.cat(gradients))

    for k in progress(range(len(rates)), desc="training"):
        i = torch.stack([next(stream) for stream in streams])
        batch, targets = (change(x[i]) if change else x[i]), (y[i] if labels is None else labels[own, i])
        batch = batch.movedim(1, -1).contiguous()  # as the networks take it, see :mod:`optcourse.models.rows`
        batch, targets = (part.repeat(columns, *[1] * (part.dim() - 1)) for part in (batch, targets))
        seen[k], g = values_and_gradients(w)
        if climb:
            _, g = values_and_gradients(w + climb(g))
        now.copy_(rates[k])
        w = step(w, g)
        if look and (k + 1) % every == 0:
            looks.append(look(w))
    found = torch.stack(looks).double().unflatten(1, (columns, -1)).cpu().numpy() if look else None
    return Trained(seen.double().unflatten(1, (columns, -1)).cpu().numpy(), w.unflatten(0, (columns, -1)), found)
