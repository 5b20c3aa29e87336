"""Small networks, plain or residual, each with a chosen normalization layer.

All hidden layers are made of one :class:`Block`, and one ``seed`` gives one model, whatever the
state of torch's global generator.

>>> n_parameters(mlp(40, 10, width=100, depth=2))
15210
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optcourse.arguments import choice, integer

NORMS = ("none", "batch", "layer", "group", "instance")
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}
SALT = int.from_bytes(b"model")


class Block(nn.Module):
    """``x -> layer(activation(norm(x)))``, with ``residual`` ``x -> x + layer(activation(norm(x)))``.

    This is the pre-activation order of He et al. 2016 ("Identity mappings in deep residual networks").
    """

    def __init__(self, norm: nn.Module, activation: nn.Module, layer: nn.Module, *, residual: bool) -> None:
        """Put the three modules together; ``residual`` adds the identity."""
        super().__init__()
        self.branch = nn.Sequential(norm, activation, layer)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return x + self.branch(x) if self.residual else self.branch(x)


def softmax_regression(features: int, classes: int, bias: bool = True) -> nn.Linear:
    """Linear scores ``s = X h (+ b)``; ``X`` of shape ``[classes, features]`` starts at zero (loss ``log classes``)."""
    integer("features", features, 1)
    integer("classes", classes, 2)
    model: Any = _blank(nn.Linear, features, classes, bias=bias)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def mlp(
    features: int,
    classes: int,
    *,
    width: int = 100,
    depth: int = 2,
    residual: bool = False,
    norm: str = "none",
    activation: str = "relu",
    seed: int = 0,
) -> nn.Sequential:
    """A multilayer perceptron with ``depth`` hidden layers of ``width`` units; inputs ``[N, ...]`` are flattened.

    ``classes=1`` gives a regression network. ``norm="instance"`` is refused: a unit of an MLP is
    one number per sample, and normalizing it alone would erase it. So are "layer" and "group" below three units.
    """
    integer("features", features, 1)
    integer("classes", classes, 1)
    integer("width", width, 1)
    integer("depth", depth, 1)
    choice("norm", norm, [n for n in NORMS if n != "instance"])
    act = ACTIVATIONS[choice("activation", activation, ACTIVATIONS)]
    blocks = [Block(_norm(norm, width), act(), _linear(width, width), residual=residual) for _ in range(depth - 1)]
    layers = [nn.Flatten(), _linear(features, width), *blocks, _norm(norm, width), act(), _linear(width, classes)]
    return _initialize(nn.Sequential(*layers), activation, seed)


def cnn1d(
    length: int = 40,
    classes: int = 10,
    *,
    in_channels: int = 1,
    channels: Sequence[int] = (25, 25, 25),
    strides: Sequence[int] = (2, 2, 2),
    kernel_size: int = 5,
    blocks: int = 0,
    residual: bool = False,
    norm: str = "none",
    activation: str = "relu",
    seed: int = 0,
) -> nn.Sequential:
    """A convolutional network for signals, ``[N, in_channels * length]`` or ``[N, in_channels, length]``.

    The defaults are close to the ConvNet of the MNIST-1D paper: three convolutions of 25 channels
    with stride 2, then a linear layer. Options as for :func:`cnn2d`.
    """
    rest = channels, strides, kernel_size, blocks, residual, norm, activation, seed
    return _cnn((integer("length", length, 1),), classes, in_channels, *rest)


def cnn2d(
    size: int = 8,
    classes: int = 10,
    *,
    in_channels: int = 1,
    channels: Sequence[int] = (16, 32),
    strides: Sequence[int] = (1, 2),
    kernel_size: int = 3,
    blocks: int = 0,
    residual: bool = False,
    norm: str = "none",
    activation: str = "relu",
    seed: int = 0,
) -> nn.Sequential:
    """A convolutional network for square images, ``[N, in_channels * size²]`` or ``[N, in_channels, size, size]``.

    Each stage of ``channels`` is opened by a convolution with its entry of ``strides`` and followed by ``blocks``
    further blocks of constant width (``residual`` or not); ``kernel_size`` is odd; ``norm`` in
    ``none | batch | layer | group | instance``; ``activation`` in ``relu | tanh | gelu | silu``. All positions feed
    the linear classifier. Raises ``ValueError`` that names the argument, also where ``norm`` would have no more than
    two numbers to normalize.
    """
    rest = channels, strides, kernel_size, blocks, residual, norm, activation, seed
    return _cnn((integer("size", size, 1),) * 2, classes, in_channels, *rest)


def n_parameters(model: nn.Module) -> int:
    """The number of trainable numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _cnn(
    shape: tuple[int, ...],
    classes: int,
    in_channels: int,
    channels: Sequence[int],
    strides: Sequence[int],
    kernel_size: int,
    blocks: int,
    residual: bool,
    norm: str,
    activation: str,
    seed: int,
) -> nn.Sequential:
    integer("classes", classes, 1)
    integer("in_channels", in_channels, 1)
    integer("blocks", blocks, 1 if residual else 0)  # a residual network without blocks would have no skip
    if not channels or len(channels) != len(strides):
        raise ValueError(f"channels and strides must have the same length >= 1, got {channels!r} and {strides!r}")
    if integer("kernel_size", kernel_size, 1) % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size!r}")
    choice("norm", norm, NORMS)
    act = ACTIVATIONS[choice("activation", activation, ACTIVATIONS)]
    conv_type = {1: nn.Conv1d, 2: nn.Conv2d}[len(shape)]

    def conv(n_in: int, n_out: int, stride: int = 1) -> nn.Module:
        return _blank(conv_type, n_in, n_out, kernel_size, stride=stride, padding=kernel_size // 2)

    layers: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, (in_channels, *shape))]
    width = in_channels
    for stage, (new_width, stride) in enumerate(zip(channels, strides, strict=True)):
        integer("channels", new_width, 1)
        integer("strides", stride, 1)
        opening = conv(width, new_width, stride)
        # The first convolution sees the raw input, all later ones a normalized, activated signal.
        layers.append(opening if stage == 0 else Block(_norm(norm, width, shape), act(), opening, residual=False))
        shape, width = tuple(-(-side // stride) for side in shape), new_width
        more = [conv(width, width) for _ in range(blocks)]
        layers += [Block(_norm(norm, width, shape), act(), layer, residual=residual) for layer in more]
    layers += [_norm(norm, width, shape), act(), nn.Flatten(), _linear(width * math.prod(shape), classes)]
    return _initialize(nn.Sequential(*layers), activation, seed)


def _norm(norm: str, channels: int, shape: tuple[int, ...] = ()) -> nn.Module:
    """Layer, group and instance normalization are one formula with 1, several and ``channels`` groups.

    A group has at least three numbers: one alone would always become 0, and two 1 and -1, whatever comes in.
    """
    if norm == "none":
        return nn.Identity()
    if norm == "batch":
        return nn.BatchNorm2d(channels) if len(shape) == 2 else nn.BatchNorm1d(channels)
    numbers = channels * math.prod(shape)
    several = max((k for k in range(1, 9) if channels % k == 0 and numbers >= 3 * k), default=1)
    groups = {"layer": 1, "group": several, "instance": channels}[norm]
    if numbers < 3 * groups:
        raise ValueError(
            f"norm={norm!r} needs at least 3 numbers to normalize together, got {numbers // groups} "
            f"in a layer of {channels} channels and {math.prod(shape)} positions"
        )
    return nn.GroupNorm(groups, channels)


def _linear(n_in: int, n_out: int) -> nn.Module:
    return _blank(nn.Linear, n_in, n_out)


def _blank(layer: type[nn.Module], *sizes: int, **options: Any) -> nn.Module:
    """A layer whose weights are to be replaced: torch's random numbers stay as they were.

    ``torch.nn.utils.skip_init`` is for this too, but its first layer loads sympy, half a second.
    """
    with torch.random.fork_rng(devices=[]):
        return layer(*sizes, **options)


def _initialize(model: nn.Sequential, activation: str, seed: int) -> nn.Sequential:
    """He et al. 2015: weights N(0, gain² / fan_in) that keep the scale of the signal, biases zero."""
    # Data drawn with the same seed would otherwise be the very numbers that become the weights.
    generator = torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1) ^ SALT)
    nonlinearity = "tanh" if activation == "tanh" else "relu"
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity=nonlinearity, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
