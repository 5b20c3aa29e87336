r"""Losses beyond the average: the tilted risk and its relatives, for any torch loop and under ``torch.func.vmap``.

With losses :math:`\ell_1,\dots,\ell_B` of a batch and a tilt t,

.. math::
    \tilde R_t = \frac1t\log\Big(\frac1B\sum_ie^{t\ell_i}\Big), \qquad \nabla\tilde R_t = \sum_iw_i\nabla\ell_i,
    \quad w_i = \frac{e^{t\ell_i}}{\sum_je^{t\ell_j}} .

t = 0 is the mean, t = inf the largest and t = -inf the smallest loss. Source: Li, Beirami, Sanjabi & Smith 2021,
"Tilted empirical risk minimization" (ICLR), section 1. Closed forms and bounds: :mod:`optcourse.theory.tilted`.

Losses that torch has are torch's: ``F.huber_loss``, ``F.l1_loss``, ``F.cross_entropy(label_smoothing=...)`` with
``reduction="none"`` give losses to tilt.

>>> residuals = torch.tensor([0.0, 1.0, 30.0])
>>> tilted(F.mse_loss(residuals, torch.zeros(3), reduction="none"), t=-2.0)  # 900 hardly counts
tensor(0.4858)
"""

from __future__ import annotations

import math
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optcourse.arguments import choice, integer, real

REDUCTIONS = ("mean", "sum", "none")


def tilted(losses: Tensor, t: float, *, weight: Tensor | None = None, log: bool = True) -> Tensor:
    r"""The tilted mean of ``losses`` over their last axis, ``[..., B] -> [...]``.

    With ``weight`` >= 0, which broadcasts, :math:`\frac1t\log\frac{\sum_iw_ie^{t\ell_i}}{\sum_iw_i}`; a loss of weight
    0 may be anything, also infinite (under ``vmap`` the weights' values are not checked). Without ``log``,
    :math:`\frac1t\big(\frac1B\sum_ie^{t\ell_i}-1\big)`, whose gradient has the factors :math:`e^{t\ell_i}/B`: they do
    not add up to one.

    The extreme loss is taken out before the exponential, so that neither |t| = 1e6 nor losses of 1e300 overflow; where
    all :math:`|t(\ell_i-\ell_j)|` are at most 1, ``expm1`` and ``log1p`` keep the digits that t -> 0 would cost. Half
    precision is computed in float32. NaN where all weights are 0, as in torch.

    ``t`` is a number, infinite too with ``log``; one below the smallest normal number of the losses' type counts as 0.
    Raises ``TypeError`` or ``ValueError`` for another t, for losses that are no floats or have no last axis, and for a
    weight that is no tensor of real numbers or not finite and >= 0.

    >>> losses = torch.tensor([1.0, 2.0, 6.0])
    >>> [round(tilted(losses, t).item(), 3) for t in (-math.inf, -1.0, 0.0, 1.0, math.inf)]
    [1.0, 1.78, 3.0, 4.926, 6.0]
    """
    t = _tilt(t, infinite=log)
    x, share, counted = _weighted(losses, weight)
    number = torch.finfo(x.dtype)
    if abs(t) < number.tiny:
        return (share * x.where(counted, 0)).sum(-1).to(losses.dtype)
    if not log:
        return ((share * torch.expm1(t * x.where(counted, 0))).sum(-1) / t).to(losses.dtype)
    extreme = x.where(counted, -math.inf).amax(-1) if t > 0 else x.where(counted, math.inf).amin(-1)
    if math.isinf(t):
        return extreme.to(losses.dtype)
    t = min(max(t, number.min), number.max)
    anchor = extreme.detach()
    anchor = anchor.where(anchor.isfinite(), 0).unsqueeze(-1)
    half = (x / 2 - anchor / 2).where(counted, 0)  # halved, as the difference of the largest floats is infinite
    spread = half.detach().abs().amax(-1)
    flat, small = spread <= number.eps / abs(t) / 2, (spread <= 1 / abs(t) / 2).unsqueeze(-1)
    z = 2 * (t * half)  # -inf at worst, whose exponential is 0
    near = torch.log1p((share * torch.expm1(z.where(small, 0))).sum(-1))
    far = torch.log((share * torch.exp(z.where(~small, 0))).sum(-1))
    above = near.where(small.squeeze(-1), far) / t / 2
    return (2 * (anchor.squeeze(-1) / 2 + (share * half).sum(-1).where(flat, above))).to(losses.dtype)


def grouped(
    losses: Tensor, groups: Tensor, t: float, *, n_groups: int, within: float = 0.0, balanced: bool = False
) -> Tensor:
    r"""The tilt over groups of the tilt ``within`` each, ``[..., B] -> [...]``.

    With :math:`R_g` = ``tilted(losses of group g, within)`` and n_g its size,
    :math:`\frac1t\log\big(\frac1B\sum_gn_ge^{tR_g}\big)`; ``balanced`` counts each group that is present once instead
    of n_g times. At t = ``within`` it is the plain tilt, at t = 0 with ``balanced`` plain balancing.

    ``groups`` ``[..., B]`` are integers; a sample whose label is not in 0..n_groups-1 counts in no group. Source: Li et
    al. 2021, section 2.4. Raises as :func:`tilted`, and ``TypeError`` for groups that are no integers.

    >>> grouped(torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.tensor([0, 0, 0, 1]), 0.0, n_groups=2, balanced=True)
    tensor(3.)
    """
    integer("n_groups", n_groups, 1)
    if groups.is_floating_point() or groups.dtype == torch.bool:
        raise TypeError(f"groups must be integers, got {groups.dtype}")
    if groups.shape != losses.shape:
        raise ValueError(f"groups must have the shape of losses, {list(losses.shape)}, got {list(groups.shape)}")
    member = groups.unsqueeze(-2) == torch.arange(n_groups, device=groups.device).unsqueeze(-1)
    sizes = member.sum(-1)
    # A group that is absent weighs nothing; with zeros for its losses nor does it pass NaN to the gradient.
    absent = (sizes == 0).unsqueeze(-1)
    risks = tilted(losses.unsqueeze(-2).where(~absent, 0), within, weight=member | absent)
    return tilted(risks, t, weight=sizes > 0 if balanced else sizes)


def tilted_cross_entropy(
    scores: Tensor,
    y: Tensor,
    t: float,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    log: bool = True,
) -> Tensor:
    """:func:`tilted` of the cross-entropies of scores ``[B, C, ...]`` with labels ``[B, ...]``; at t = 0 torch's.

    ``weight`` ``[C]`` weighs classes and ``ignore_index`` leaves samples out as in torch's ``cross_entropy``, which
    computes the losses. There is no ``reduction``: the tilt is one. Raises ``ValueError`` for ``weight`` of another
    shape or with ``label_smoothing`` (which torch spreads over the classes' weights), and what :func:`tilted` and torch
    refuse.

    >>> scores, y = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    >>> tilted_cross_entropy(scores, y, 0.0) == F.cross_entropy(scores, y)
    tensor(True)
    """
    if weight is not None and (label_smoothing or y.is_floating_point()):
        raise ValueError("weight must be None with label_smoothing or with probabilities as targets")
    classes = scores.shape[min(1, scores.dim() - 1)]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"weight must have one entry a class, [{classes}], got {list(weight.shape)}")
    found = F.cross_entropy(scores, y, reduction="none", ignore_index=ignore_index, label_smoothing=label_smoothing)
    if y.is_floating_point():
        return tilted(found.flatten(), t, log=log)
    kept = y != ignore_index
    share = kept if weight is None else weight[y.where(kept, 0)] * kept
    return tilted(found.flatten(), t, weight=share.flatten(), log=log)


def generalized_cross_entropy(
    scores: Tensor, y: Tensor, q: float, *, weight: Tensor | None = None, ignore_index: int = -100
) -> Tensor:
    r"""The mean of :math:`(1-p_y^q)/q`, between cross-entropy (q = 0) and one minus the label's probability (q = 1).

    As :math:`p_y = e^{-\ell}` it is the tilted risk without logarithm at t = -q. ``weight`` and ``ignore_index`` are
    those of :func:`tilted_cross_entropy`. Source: Zhang & Sabuncu 2018, equation 6. Raises ``ValueError`` unless q is
    in [0, 1], and ``TypeError`` for probabilities as targets, which have no one p_y.

    >>> round(generalized_cross_entropy(torch.zeros(1, 4), torch.tensor([2]), q=1.0).item(), 6)
    0.75
    """
    t = -float(real("q", q, 0, 1))
    if y.is_floating_point():
        raise TypeError(f"y must be labels (integers), got {y.dtype}")
    return tilted_cross_entropy(scores, y, t, weight=weight, ignore_index=ignore_index, log=False)


def pinball(prediction: Tensor, target: Tensor, q: float, *, reduction: str = "mean") -> Tensor:
    r"""The quantile loss :math:`\max\{q\,r, (q-1)\,r\}` of r = target - prediction; half the absolute error at q = 1/2.

    Its mean is smallest where a share q of the targets lies below. Source: Koenker & Bassett 1978. Raises
    ``ValueError`` unless q is in (0, 1), for different shapes (which would broadcast), and for a ``reduction`` that
    torch does not know.

    >>> pinball(torch.zeros(2), torch.tensor([10.0, -10.0]), q=0.9, reduction="none")
    tensor([9., 1.])
    """
    real("q", q, 0, 1, open_low=True, open_high=True)
    choice("reduction", reduction, REDUCTIONS)
    if prediction.shape != target.shape:
        shapes = f"{list(prediction.shape)} and {list(target.shape)}"
        raise ValueError(f"prediction and target must have the same shape, got {shapes}")
    r = target - prediction
    found = torch.maximum(q * r, (q - 1) * r)
    return found if reduction == "none" else found.mean() if reduction == "mean" else found.sum()


class RunningTilt(nn.Module):
    r"""The tilted risk from small batches, with a running estimate of its normalization.

    A batch's own weights :math:`e^{t\ell_i}/\sum_{j\in B}e^{t\ell_j}` are those of another function: on average over
    batches they are not the weights on all data. Instead :math:`e^{t\tilde R}\leftarrow(1-\lambda)e^{t\tilde R}+
    \lambda\frac1B\sum_{i\in B}e^{t\ell_i}` (which starts at the first batch), and the gradient is
    :math:`\frac1B\sum_{i\in B}e^{t(\ell_i-\tilde R)}\nabla\ell_i`. Its weights add up to at most :math:`1/\lambda`.

    ``RunningTilt(t, rate)(losses)`` with losses ``[*shape, B]`` takes the place of their mean: its value is exactly the
    estimate, its gradient the one above. The estimate ``risk`` is a buffer: ``state_dict`` saves it, ``to`` moves it.
    In evaluation mode it stays (the weights of losses far above it end at the largest number of their type); and also
    where the batch's tilted risk is not finite. An infinite loss has the gradient 0.

    ``t`` is finite, ``rate`` :math:`\lambda` in (0, 1]; with rate 1 it is :func:`tilted` of the batch. ``shape`` is
    that of many copies side by side: while training torch refuses to change the state inside ``vmap`` or ``grad`` of
    ``torch.func``. Source: Li et al. 2021, Algorithm 2. Raises ``ValueError`` outside these ranges and for losses of
    another shape, ``TypeError`` for losses that are no floats.

    >>> running = RunningTilt(t=1.0, rate=0.5)
    >>> [round(running(torch.tensor(batch)).item(), 3) for batch in ([0.0, 2.0], [0.0, 0.0])]
    [1.434, 0.954]
    """

    risk: Tensor

    def __init__(self, t: float, rate: float = 0.1, *, shape: tuple[int, ...] = ()) -> None:
        """See the class."""
        super().__init__()
        self.t = _tilt(t, infinite=False)
        self.rate = float(real("rate", rate, 0, 1, open_low=True))
        self.register_buffer("risk", torch.full(shape, torch.nan, dtype=torch.float64))

    def forward(self, losses: Tensor) -> Tensor:
        """The estimate ``[*shape]``, with the gradient of the class's docstring."""
        _floating(losses)
        if losses.dim() == 0 or losses.shape[:-1] != self.risk.shape:
            raise ValueError(f"losses must have shape {[*self.risk.shape, 'B']}, got {list(losses.shape)}")
        fixed = losses.detach().to(self.risk.dtype)
        batch = tilted(fixed, self.t)
        if self.training:
            both = torch.stack([self.risk, batch], dim=-1)
            mixed = tilted(both, self.t, weight=both.new_tensor([1 - self.rate, self.rate]))
            updated = batch.where(self.risk.isnan(), mixed)
            # In place: torch refuses that inside its transforms, which would leave their wrappers in the state.
            self.risk.copy_(updated.where(batch.isfinite(), self.risk))
        risk = batch.where(self.risk.isnan(), self.risk)
        infinite = fixed.isinf()
        exponent = (self.t * (fixed - risk.unsqueeze(-1))).where(~infinite, 0)
        share = torch.exp(exponent.clamp(max=math.log(torch.finfo(losses.dtype).max))) / losses.shape[-1]
        finite = losses.where(~infinite, 0)  # a difference of infinities would be NaN, and so would 0 times infinity
        return (share.to(losses.dtype) * (finite - finite.detach())).sum(-1) + risk.to(losses.dtype)

    def extra_repr(self) -> str:
        """``t`` and ``rate``."""
        return f"t={self.t:g}, rate={self.rate:g}"


def _tilt(t: float, *, infinite: bool) -> float:
    if infinite and isinstance(t, Real) and not isinstance(t, bool) and math.isinf(t):
        return float(t)
    return float(real("t", t))


def _weighted(losses: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Losses in single precision at least, shares that add up to 1, and which losses count: all of one shape."""
    _floating(losses)
    if losses.dim() == 0 or losses.shape[-1] == 0:
        raise ValueError(f"losses must have shape [..., B] with B >= 1, got {list(losses.shape)}")
    x = losses.float() if losses.dtype.itemsize < 4 else losses
    if weight is None:
        return x, torch.full_like(x, 1 / x.shape[-1]), torch.ones_like(x, dtype=torch.bool)
    if not isinstance(weight, Tensor) or weight.is_complex():
        raise TypeError(f"weight must be a tensor of real numbers, got {getattr(weight, 'dtype', weight)}")
    if not _admissible(weight):
        raise ValueError("weight must be finite and >= 0")
    # In the wider of the two types, and relative to the largest: neither the sum overflows nor do small ones vanish.
    x, given = torch.broadcast_tensors(x, weight.to(torch.promote_types(weight.dtype, x.dtype)))
    relative = given / given.detach().amax(-1, keepdim=True)
    return x, (relative / relative.sum(-1, keepdim=True)).to(x.dtype), given > 0


def _floating(losses: Tensor) -> None:
    if not losses.is_floating_point():
        raise TypeError(f"losses must be floating-point numbers, got {losses.dtype}")


def _admissible(weight: Tensor) -> bool:
    if weight.dtype == torch.bool or torch.compiler.is_compiling():
        return True
    try:
        return bool(((weight >= 0) & weight.isfinite()).all())
    except RuntimeError:  # under vmap, and without storage, there are no values to look at
        return True
