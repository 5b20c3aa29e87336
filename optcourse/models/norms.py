r"""Batch, layer, instance and group normalization: one function, four sets of axes, and its gradient by hand.

A number of x ``[N, C, ...]`` has five coordinates (:data:`COORDINATES`): the ghost batch of its sample and its place
there, the group of its channel and its place there, and its position. What is normalized together are the numbers that
differ only along the axes in :data:`AXES`; :class:`BatchNorm` adds what only batches need, running statistics. The
networks of :mod:`optcourse.models.networks` keep torch's layers, which compute the same in half the time.

>>> x = torch.tensor([[1.0, 2.0], [5.0, 4.0]])
>>> normalize(x, "batch").round(decimals=3).tolist(), normalize(x, "layer").round(decimals=3).tolist()
([[-1.0, -1.0], [1.0, 1.0]], [[-1.0, 1.0], [1.0, -1.0]])
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from optcourse.arguments import choice, integer, positive, real

M = TypeVar("M", bound=nn.Module)

COORDINATES = ("ghost", "sample", "group", "channel", "position")
AXES = {
    "batch": ("sample", "position"),
    "layer": ("group", "channel", "position"),
    "instance": ("position",),
    "group": ("channel", "position"),
}


def normalize(x: Tensor, norm: str, *, groups: int = 1, ghost_size: int | None = None, eps: float = 1e-5) -> Tensor:
    r"""Mean zero and variance (almost) one for every set of numbers that ``norm`` takes together.

    .. math:: \hat x = \frac{x-\mu}{\sqrt{\sigma^2+\epsilon}}, \qquad
        \mu=\operatorname{mean}(x), \quad \sigma^2=\operatorname{mean}\big((x-\mu)^2\big)

    x has shape ``[N, C, ...]``, the result too; ``norm`` is a key of :data:`AXES`. ``groups`` (only "group" feels it)
    divides the channels, ``ghost_size`` (only "batch") the samples, which are then normalized by that many at a time.
    With eps = 0 a set of equal numbers becomes NaN.

    Raises ``ValueError`` for another shape or norm, ``groups`` or ``ghost_size`` that do not divide, eps < 0, and
    where a set has a single number. Sources: Ioffe & Szegedy 2015, Algorithm 1; Ba, Kiros & Hinton 2016, eq. (3);
    Ulyanov, Vedaldi & Lempitsky 2016, eq. (3); Wu & He 2018, eq. (1); ghosts: Hoffer, Hubara & Soudry 2017.
    """
    real("eps", eps, 0.0)
    numbers, axes = arrange(x, norm, groups=groups, ghost_size=ghost_size)
    return _Normalize.apply(numbers, axes, eps)[0].view(x.shape)


def normalize_backward(g: Tensor, x: Tensor, axes: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    r"""The gradient in x of a loss that has the gradient g in :math:`\hat x`; both of the shape of x.

    .. math:: \frac{1}{\sqrt{\sigma^2+\epsilon}}
        \big(g-\operatorname{mean}(g)-\hat x\operatorname{mean}(g\,\hat x)\big)

    The means are over ``axes``: g loses what would shift the set, and what would stretch it. Source: Ioffe & Szegedy
    2015, section 3 (there as three sums).
    """
    kind, x = x.dtype, _wide(x)
    mean, variance = moments(x, axes)
    scale = (variance + eps).rsqrt()
    return _project(_wide(g), (x - mean) * scale, scale, axes).to(kind)


def _project(g: Tensor, normal: Tensor, scale: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The formula of :func:`normalize_backward`, given what the forward pass has found."""
    return scale * (g - g.mean(axes, keepdim=True) - normal * (g * normal).mean(axes, keepdim=True))


def _wide(x: Tensor) -> Tensor:
    """At least float32: squares of float16 overflow."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def moments(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over ``axes``, which stay as axes of length one."""
    mean = x.mean(axes, keepdim=True)
    return mean, (x - mean).square().mean(axes, keepdim=True)  # torch.var_mean takes up to ten times as long here


def arrange(x: Tensor, norm: str, *, groups: int = 1, ghost_size: int | None = None) -> tuple[Tensor, tuple[int, ...]]:
    """x along the five :data:`COORDINATES`, and the axes over which ``norm`` takes its means; see :func:`normalize`.

    >>> numbers, axes = arrange(torch.zeros(6, 4, 5, 5), "group", groups=2, ghost_size=3)
    >>> numbers.shape, axes
    (torch.Size([2, 3, 2, 2, 25]), (3, 4))
    """
    choice("norm", norm, AXES)
    if x.dim() < 2 or x.numel() == 0:
        raise ValueError(f"x must have shape [N, C, ...] and at least one number, got {list(x.shape)}")
    n, channels = x.shape[:2]
    ghost_size = n if ghost_size is None else integer("ghost_size", ghost_size, 1)
    if n % ghost_size:
        raise ValueError(f"ghost_size must divide the number of samples, {n}, got {ghost_size}")
    if channels % integer("groups", groups, 1):
        raise ValueError(f"groups must divide the number of channels, {channels}, got {groups}")
    numbers = x.reshape(n // ghost_size, ghost_size, groups, channels // groups, -1)
    axes = tuple(COORDINATES.index(name) for name in AXES[norm])
    if (together := math.prod(numbers.shape[axis] for axis in axes)) < 2:
        raise ValueError(
            f"norm={norm!r} needs at least 2 numbers to normalize together, got {together} in {list(x.shape)}"
        )
    return numbers, axes


class _Normalize(torch.autograd.Function):
    """``numbers, axes, eps -> normalized, mean, variance``; second derivatives go back to x, a first one need not."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = moments(_wide(x), axes)
        return ((x - mean) * (variance + eps).rsqrt()).to(x.dtype), mean, variance

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, ctx.axes, ctx.eps = inputs
        ctx.save_for_backward(x, output[0], output[2])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        x, normal, variance = ctx.saved_tensors
        if not torch.is_grad_enabled() and normal.dtype == variance.dtype:  # not rounded
            return _project(g, normal, (variance + ctx.eps).rsqrt(), ctx.axes), None, None
        return normalize_backward(g, x, ctx.axes, ctx.eps), None, None


class BatchNorm(_BatchNorm):
    r"""Batch normalization of ``[N, C, ...]``, then :math:`\gamma\hat x+\beta`, as torch's layers compute it.

    In training the statistics are the batch's, or with ``ghost_size`` those of so many samples at a time; in
    evaluation running ones. After every batch in training

    .. math:: m \leftarrow (1-\text{momentum})\,m+\text{momentum}\cdot\mu, \qquad
        v \leftarrow (1-\text{momentum})\,v+\text{momentum}\cdot\tfrac{n}{n-1}\sigma^2

    with n numbers behind each statistic, and the averages of :math:`\mu` and :math:`\sigma^2` over the ghosts: the
    variance that is remembered is unbiased, the one that normalizes is not. Parameters, buffers and their names are
    those of torch. Raises ``ValueError`` for arguments out of range, and in training what :func:`normalize` refuses.

    Sources: Ioffe & Szegedy 2015, Algorithms 1 and 2; Hoffer, Hubara & Soudry 2017, Algorithm 1 (which lets later
    ghosts of a batch count more in m and v).
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(
        self,
        channels: int,
        *,
        ghost_size: int | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
    ) -> None:
        integer("channels", channels, 1)
        positive(eps=eps)
        real("momentum", momentum, 0, 1)
        if ghost_size is not None:
            integer("ghost_size", ghost_size, 1)
        super().__init__(channels, eps, momentum, affine)
        self.ghost_size = ghost_size

    def forward(self, x: Tensor) -> Tensor:
        """Normalize by the batch and remember its statistics, or, in evaluation, normalize by what is remembered."""
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"x must have shape [N, {self.num_features}, ...], got {list(x.shape)}")
        column = (1, -1, *[1] * (x.dim() - 2))
        if self.training:
            numbers, axes = arrange(x, "batch", ghost_size=self.ghost_size)
            normal, mean, variance = _Normalize.apply(numbers, axes, self.eps)
            self._remember(mean, variance, n=numbers.numel() // mean.numel())
            normal = normal.view(x.shape)
        else:
            mean, variance = (buffer.view(column) for buffer in (self.running_mean, self.running_var))
            normal = (x - mean) * (variance + self.eps).rsqrt()
        y = torch.addcmul(self.bias.view(column), self.weight.view(column), normal) if self.affine else normal
        return y.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, n: int) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.mean(0).flatten(), self.momentum)
        self.running_var.lerp_(n / (n - 1) * variance.mean(0).flatten(), self.momentum)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return super().extra_repr() + f", ghost_size={self.ghost_size}"


def ghost_batches(model: M, ghost_size: int | None) -> M:
    """``model`` itself, every batch normalization in it replaced by :class:`BatchNorm` with this ``ghost_size``.

    Parameters and running statistics stay, as the same tensors. Raises ``ValueError`` for a model without any.
    """
    found: dict[int, BatchNorm] = {}
    for module in list(model.modules()):
        for name, old in list(module._modules.items()):  # named_children leaves out what occurs again
            if isinstance(old, _BatchNorm):
                if id(old) in found:
                    setattr(module, name, found[id(old)])
                    continue
                if old.running_mean is None or old.momentum is None:
                    raise ValueError(f"model must keep running statistics with a momentum, got {old}")
                options = {"eps": old.eps, "momentum": old.momentum, "affine": old.affine}
                new = BatchNorm(old.num_features, ghost_size=ghost_size, **options).train(old.training)
                new._parameters, new._buffers = dict(old._parameters), dict(old._buffers)
                setattr(module, name, new)
                found[id(old)] = new
    if not found:
        raise ValueError(f"model must contain layers of batch normalization, got {type(model).__name__}")
    return model
