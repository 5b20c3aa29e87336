"""One model, many nodes: the stochastic gradient of every node at its own parameters, in one call.

A node's parameters are one row of ``x``, shape ``[rows, d]``. What a Python loop over nodes would do with one
small matrix product after the other is done here with batched products over a few nodes at a time, so that
their weights, activations and gradients stay in the cache together.

>>> from optcourse.models import mlp
>>> model = mlp(4, 3, width=5, depth=1)
>>> X, Y = torch.ones(2, 6, 4), torch.zeros(2, 6, dtype=torch.int64)  # two nodes, batches of six samples
>>> from optcourse.models.rows import flat_parameters
>>> x = flat_parameters(model).repeat(2, 1)
>>> flat_gradient(model, F.cross_entropy, (X, Y))(x).shape
torch.Size([2, 43])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from optcourse.arguments import integer
from optcourse.models.rows import ALIGNMENT, STEP, Loss, check_rows, fill, forward, places, split
from optcourse.nodes.samples.compiled import Gradients, compiled
from optcourse.nodes.streams import Rows
from optcourse.problems.distributed import Distributed

#: Bytes of parameters that are worked on together: about what a cache shares with their gradient and activations.
CACHE = 2**22
#: At most so many nodes together; the overhead of a call is then small, and more do not help.
MOST = 64
#: The same for compiled calls, whose overhead is smaller.
MOST_COMPILED = 32


class Batches(Protocol):
    """Where gradients take their samples from; :class:`optcourse.nodes.samples.shards.Shards` is one."""

    def batch(self, rows: Rows = None) -> tuple[Tensor, Tensor]:
        """``(X [rows, B, ...], Y [rows, B, ...])``: B samples for each own node, or (if asked) some of them."""
        ...


def in_columns(problem: Distributed, rng: np.random.Generator, same: int = 1) -> Callable[[Tensor], Tensor]:
    """``grad(x)`` for x [n, copies * dim]: stochastic gradients of independent copies of ``problem``, in columns.

    Every copy has its own noise; with ``same`` it is shared by as many blocks, x being [n, same * copies * dim]:
    rates to be compared. Raises ``ValueError`` for another number of rows, or of columns that are no multiple.

    >>> from optcourse.problems import QuadraticNodes
    >>> problem = QuadraticNodes([1.0, 3.0], [0.0, 4.0])
    >>> in_columns(problem, np.random.default_rng(0))(torch.ones(2, 3, dtype=torch.float64))
    tensor([[ 1.,  1.,  1.],
            [-9., -9., -9.]], dtype=torch.float64)
    """
    integer("same", same, 1)
    n, d = problem.n_nodes, problem.dim

    def grad(x: Tensor) -> Tensor:
        if x.dim() != 2 or len(x) != n or x.shape[1] % (same * d):
            raise ValueError(f"x must have shape [{n}, copies * {same * d}], got {list(x.shape)}")
        points = x.view(n, same, -1, d).permute(1, 2, 0, 3)  # [same, copies, n, d]
        g = problem.stochastic_node_gradient(points[0], rng)[None]
        if same > 1:
            exact = problem.node_gradient(points)
            g = exact + (g - exact[0])
        return g.permute(2, 0, 1, 3).reshape(x.shape)

    return grad


def flat_gradient(
    model: nn.Module, loss: Loss, data: Batches | tuple[Tensor, Tensor], *, compile: bool = False
) -> Callable[..., Tensor]:
    """``grad(x)``: row i of ``[rows, d]`` is the gradient of ``loss(model(X_i), Y_i)`` at the parameters ``x_i``.

    ``data.batch()`` is asked for ``(X, Y)`` once per call; a pair of tensors is a batch that stays. ``grad(x, rows)``
    is for some of the own nodes only, of which ``data.batch(rows)`` is asked (asynchronous algorithms need it). Only
    shapes are taken from the parameters of ``model``, all values from x, in the order of ``model.parameters()``.
    The result is ``vmap(grad(functional_call))`` up to rounding, for every module that vmap can handle; sequences
    (and :class:`optcourse.models.Block`) of linear layers, convolutions, group norms and elementwise activations
    take a faster way.

    On the faster way and with one thread, a row has the same bits however many rows are computed together: a
    simulator of n nodes and a process that owns one of them agree exactly. ``compile=True`` runs torch's compiler
    (some ten seconds at the first call, some more for other shapes: see ``compiled.py``; eagerly, with a warning, where
    there is no compiler); rows are then equal up to rounding only.

    Raises ``ValueError`` for a model without parameters, with batch statistics or dropout; at the first call for a
    loss that is not one number per batch, or shapes that do not fit.
    """
    check_rows(model)
    parts = compiled(_parts(model, loss)) if compile else _parts(model, loss)
    most = MOST_COMPILED if compile else MOST
    d = sum(p.numel() for p in model.parameters())

    def grad(x: Tensor, rows: Rows = None) -> Tensor:
        if isinstance(data, tuple):
            X, Y = data if rows is None else (part[rows] for part in data)
        else:
            X, Y = data.batch() if rows is None else data.batch(rows)  # plain data need not know about rows
        if x.dim() != 2 or x.shape[1] != d or not len(x) == len(X) == len(Y):
            got = f"{list(x.shape)} for {len(X)} batches"
            raise ValueError(f"x must have shape [rows, {d}] with one row per batch, got {got}")
        out = torch.empty_like(x)
        with torch.no_grad():
            for chunk in _chunks(x, most):
                torch.cat(parts(x[chunk], X[chunk], Y[chunk]), dim=1, out=out[chunk])
        return out

    return grad


def _chunks(x: Tensor, most: int) -> Iterator[slice]:
    row_bytes = max(1, x.shape[1] * x.element_size())
    size = max(1, min(most, CACHE // row_bytes)) if x.device.type == "cpu" else max(1, len(x))
    return (slice(start, start + size) for start in range(0, len(x), size))


def _parts(model: nn.Module, loss: Loss) -> Gradients:
    parameters, place = list(model.parameters()), places(model)

    def gradients(x: Tensor, X: Tensor, Y: Tensor) -> list[Tensor]:
        leaves = [view.requires_grad_() for view in split(parameters, x.detach())]
        with torch.enable_grad():
            total = _total(model, loss, {name: leaves[i] for name, i in place.items()}, X, Y)
            parts = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        return [part.flatten(1) for part in parts]

    return gradients


# -------------------------------------------------------------------------------------- the forward pass
# Nodes do not interact: the gradient of the sum of their losses is the gradient of each. Activations have the
# batch *last*, [c, features, B]: see optcourse.models.rows.


def _total(model: nn.Module, loss: Loss, values: dict[str, Tensor], X: Tensor, Y: Tensor) -> Tensor:
    """The sum over nodes of their losses."""
    nodes, samples = X.shape[:2]
    # Dummy samples fill up the last axis for the sake of ALIGNMENT; the loss does not see them.
    dummies = -samples % (ALIGNMENT // X.element_size())
    scores = forward(model, "", values, fill(X.movedim(1, -1).contiguous(), dummies))
    if dummies:
        scores = scores[..., :samples]
    if loss is F.cross_entropy and scores.dim() == 3 and Y.dim() == 2:
        return F.cross_entropy(scores, Y, reduction="sum") / samples
    scores, targets = (fill(t.movedim(0, -1), -nodes % STEP) for t in (scores.movedim(-1, 1), Y))
    losses = vmap(loss)(scores.movedim(-1, 0).contiguous(), targets.movedim(-1, 0))
    if losses.dim() != 1:
        raise ValueError(f"loss must return one number per batch, got shape {list(losses.shape[1:])}")
    return losses[:nodes].sum()
