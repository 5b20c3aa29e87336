"""Adaptive gradient clipping: no unit's gradient may be large against its own weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from optcourse.arguments import real

#: Norms of rows whose squares neither overflow nor vanish in float32, nor do those of entries that count in them.
SAFE = 1e-12, 1e18


def unit_norm(t: Tensor) -> Tensor:
    """The Euclidean norm of every row ``t[i]``, broadcastable to ``t``; of all of ``t`` if it has no rows.

    A row holds what feeds one output unit: axis 0 of a linear or convolution weight of any
    dimension. A vector (bias, gain) counts as one unit, as in the authors' code. In at least float32, with
    the largest entry set apart: squares neither overflow nor vanish.
    """
    t = t.to(torch.promote_types(t.dtype, torch.float32))
    axes = tuple(range(min(1, t.dim() - 1), t.dim()))
    if t.device.type == "cpu":  # on a GPU a look at the range would wait for it
        norm = torch.linalg.vector_norm(t, dim=axes, keepdim=True)
        least, most = norm.aminmax() if norm.numel() else (norm.new_zeros(()),) * 2
        if least >= SAFE[0] and most <= SAFE[1]:
            return norm
    largest = t.abs().amax(axes, keepdim=True)
    scale = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    return scale * torch.linalg.vector_norm(t / scale, dim=axes, keepdim=True)


@torch.no_grad()
def adaptive_clip_grad_(parameters: Iterable[Tensor] | Tensor, clip_factor: float, eps: float = 1e-3) -> Tensor:
    r"""Scale down, in place, the gradient rows that are large against their weight rows.

    .. math::
        G_i \leftarrow \lambda \frac{\max(\|W_i\|, \varepsilon)}{\|G_i\|} G_i
        \quad \text{if } \frac{\|G_i\|}{\max(\|W_i\|, \varepsilon)} > \lambda

    Row ``i`` is an output unit, ``λ = clip_factor > 0``. ``eps`` lets units that start at zero move. A
    step of SGD with rate ``lr`` then changes no unit by more than ``λ lr`` of its length.

    Choose the parameters: matrices and kernels. A gain or bias that starts at zero is a unit shorter than ``eps``, and
    until it is not it moves by at most ``λ lr eps`` in a step: residual branches whose gain starts at zero then stay
    switched off, and nothing says so. ``models.normfree.hidden_weights`` chooses.

    Returns the largest ratio ‖G_i‖/max(‖W_i‖, ε) found, before clipping (0 without gradients, NaN if one is NaN).
    Raises ``TypeError`` and ``ValueError`` for bad arguments, sparse gradients among them, before it clips any.
    Defaults: ``eps=1e-3``; the paper uses λ from 0.01 to 0.16 depending on batch size and does not clip the last
    linear layer.

    Source: Brock, De, Smith and Simonyan, High-Performance Large-Scale Image Recognition Without
    Normalization (ICML 2021), equation (3).
    """
    real("clip_factor", clip_factor, 0.0, open_low=True)
    real("eps", eps, 0.0, open_low=True)
    if not isinstance(parameters, Iterable):
        raise TypeError(f"parameters must be a tensor or an iterable of tensors, got {parameters!r}")
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in parameters:
        if not isinstance(p, Tensor):
            raise TypeError(f"parameters must be tensors, as of model.parameters(), got {p!r} among them")
        if p.grad is not None and p.grad.layout != torch.strided:
            raise ValueError(f"parameters must have dense gradients, got {p.grad.layout} for shape {list(p.shape)}")
    largest = torch.zeros(())
    for p, g in ((p, p.grad) for p in parameters if p.grad is not None and p.numel()):
        ratio = unit_norm(g) / unit_norm(p).clamp(min=eps)
        g.mul_(torch.where(ratio > clip_factor, clip_factor / ratio, 1.0))
        largest = torch.maximum(largest.to(ratio.device), ratio.max())
    return largest
