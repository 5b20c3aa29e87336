r"""What a gradient says about the data that it was taken at: two attacks on "only gradients leave the device".

A first layer z = W h + b has dW = delta h^T and db = delta with delta = dl/dz: one division gives h. Where there is no
bias, a search finds an input whose gradients are those that were sent. Lecture 16 derives both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optcourse.arguments import integer, positive

#: The gradients of all parameters that were sent, for an input [1, d] and a label as probabilities [1, C].
GradientOf = Callable[..., Sequence[Tensor]]


class Quotients(NamedTuple):
    """What a division tells: ``inputs`` [k, d], one for each of the ``units`` (bool [width]) that had a gradient."""

    inputs: Tensor
    units: Tensor


class Found(NamedTuple):
    """What a search found: ``inputs``, one after each number of evaluations asked for and one at the end; ``label``."""

    inputs: list[Tensor]
    label: int


def first_layer_inputs(weight_gradient: Tensor, bias_gradient: Tensor) -> Quotients:
    """Row j of the gradient of W [width, d] over entry j of that of b [width], where that is not zero.

    For one sample every quotient is the sample, after one step and (as all of them are multiples of it) after many. For
    a batch, where a ReLU unit fires for one sample only. Source: Phong, Aono, Hayashi, Wang & Moriai 2018,
    "Privacy-preserving deep learning via additively homomorphic encryption". Raises ``ValueError`` for other shapes.

    >>> delta, h = torch.tensor([2.0, 0.0]), torch.tensor([3.0, 5.0])
    >>> first_layer_inputs(delta[:, None] * h, delta)
    Quotients(inputs=tensor([[3., 5.]]), units=tensor([ True, False]))
    """
    if weight_gradient.dim() != 2 or bias_gradient.shape != weight_gradient.shape[:1]:
        shapes = f"{list(weight_gradient.shape)} and {list(bias_gradient.shape)}"
        raise ValueError(f"weight_gradient and bias_gradient must have shapes [width, d] and [width], got {shapes}")
    size = bias_gradient.abs()
    units = size > 1e-12 * size.max()
    return Quotients(weight_gradient[units] / bias_gradient[units, None], units)


def repeated_inputs(inputs: Tensor, tol: float = 1e-8) -> Tensor:
    """Which quotients [k, d] an attacker can trust: those that another one equals, up to ``tol`` of its norm. Bool [k].

    Units that fire for one and the same sample give the same quotient; a mixture of samples has weights of its own in
    each unit. No private data are needed. Raises ``ValueError`` for tol <= 0 or another shape.

    >>> repeated_inputs(torch.tensor([[1.0, 2.0], [3.0, 1.0], [1.0, 2.0]]))
    tensor([ True, False,  True])
    """
    positive(tol=tol)
    if inputs.dim() != 2:
        raise ValueError(f"inputs must have shape [k, d], got {list(inputs.shape)}")
    apart = (inputs[:, None] - inputs[None]).norm(dim=-1)
    apart.fill_diagonal_(float("inf"))
    return (apart <= tol * inputs.norm(dim=-1)).any(1)


def match_gradient(
    gradient_of: GradientOf,
    sent: Sequence[Tensor],
    guess: Tensor,
    n_classes: int,
    *,
    iterations: int = 60,
    marks: Sequence[int] = (),
) -> Found:
    r"""The input and label whose gradients are those that were ``sent``, by L-BFGS from ``guess`` [1, d].

    Minimizes :math:`\sum\|g(\hat h,\mathrm{softmax}\,\hat y)-g\|^2/\sum\|g\|^2` through the gradient: ``gradient_of(h,
    p, create_graph=True)`` must be differentiable. ``marks`` are numbers of evaluations after which the input is kept.
    Source: Zhu, Liu & Han 2019, "Deep leakage from gradients", equation (4). Raises ``ValueError`` for gradients that
    are all zero, n_classes < 2 or iterations < 1.
    """
    integer("n_classes", n_classes, 2)
    integer("iterations", iterations, 1)
    scale = sum(float(g.square().sum()) for g in sent)
    if scale == 0:
        raise ValueError("sent must hold a gradient that is not zero")
    guess = guess.detach().clone().requires_grad_()
    scores = torch.zeros(1, n_classes, dtype=guess.dtype, requires_grad=True)
    seen: list[Tensor] = []
    calls = 0
    options = {"max_iter": iterations, "history_size": 50, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([guess, scores], tolerance_grad=1e-12, tolerance_change=1e-14, **options)

    def closure() -> Tensor:
        nonlocal calls
        if calls in marks:
            seen.append(guess.detach().clone())
        calls += 1
        optimizer.zero_grad()
        found = gradient_of(guess, scores.softmax(-1), create_graph=True)
        loss = torch.stack([(f - g).square().sum() for f, g in zip(found, sent, strict=True)]).sum() / scale
        loss.backward()
        return loss

    optimizer.step(closure)
    return Found([*seen, guess.detach()], int(scores.argmax()))
