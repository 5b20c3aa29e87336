"""The order of hidden units: other weights, the same function."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from optcourse.arguments import integer

Sizes = tuple[int, int, int]


def reorder(x: Tensor, order: Tensor, sizes: Sizes) -> Tensor:
    """The parameters x ``[d]`` of an MLP with one hidden layer, its hidden units in another ``order``.

    ``sizes`` are (inputs, hidden units, outputs), and x holds W ``[hidden, inputs]``, b, U ``[outputs, hidden]`` and c,
    as ``flat_parameters(mlp(inputs, outputs, width=hidden, depth=1))`` does. The function stays the same: there are
    hidden! such copies. ``order`` is a permutation of 0..hidden-1, int64 ``[hidden]``. Raises ``ValueError`` otherwise.

    >>> x = torch.tensor([1.0, -1.0, 0.5, 0.0, 3.0, 4.0, 9.0])  # 1 input, 2 units, 1 output
    >>> reorder(x, torch.tensor([1, 0]), (1, 2, 1)).tolist()
    [-1.0, 1.0, 0.0, 0.5, 4.0, 3.0, 9.0]
    """
    w, b, u, c = _layers("x", x, sizes)
    if sorted(order.tolist()) != list(range(len(b))):
        raise ValueError(f"order must be a permutation of 0..{len(b) - 1}, got {order.tolist()}")
    return torch.cat([w[order].flatten(), b[order], u[:, order].flatten(), c])


def align(x: Tensor, reference: Tensor, sizes: Sizes) -> Tensor:
    r"""x with its hidden units in the order in which they are most like those of ``reference``.

    Of all orders the one with the largest :math:`\langle x, \mathrm{reference}\rangle`, hence the shortest distance:
    an assignment of units to units, whose likeness is the product of their incoming and outgoing weights. Arguments as
    in :func:`reorder`. Source: Singh & Jaggi 2020, "Model fusion via optimal transport", with equal masses; Ainsworth,
    Hayase & Srinivasa 2023, "Git Re-Basin" (which iterates it over several layers).

    >>> x = torch.tensor([1.0, -1.0, 0.5, 0.0, 3.0, 4.0, 9.0])
    >>> align(reorder(x, torch.tensor([1, 0]), (1, 2, 1)), x, (1, 2, 1)).equal(x)
    True
    """
    (w, b, u, _), (w0, b0, u0, _) = _layers("x", x, sizes), _layers("reference", reference, sizes)
    alike = w0 @ w.T + torch.outer(b0, b) + u0.T @ u
    _, order = linear_sum_assignment(alike.detach().numpy(), maximize=True)
    return reorder(x, torch.as_tensor(order), sizes)


def _layers(name: str, x: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inputs, hidden, outputs = (integer(f"sizes[{i}]", size, 1) for i, size in enumerate(sizes))
    lengths = [inputs * hidden, hidden, outputs * hidden, outputs]
    if x.shape != (sum(lengths),):
        raise ValueError(f"{name} must have shape [{sum(lengths)}] for sizes {tuple(sizes)}, got {list(x.shape)}")
    w, b, u, c = x.split(lengths)
    return w.view(hidden, inputs), b, u.view(outputs, hidden), c
