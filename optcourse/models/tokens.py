r"""Networks that see an image or a signal as a row of tokens, one for each patch: a vision transformer and MLP-Mixer.

Both are X [tokens, width] -> X + mix(LayerNorm(X)), again and again. They differ in how tokens see each other: by
:class:`Attention`, whose weights depend on X, or by a perceptron along the tokens, whose weights are fixed.

>>> net = vit(8, 10, patch=2, width=16, depth=1, heads=2)
>>> net(torch.zeros(5, 64)).shape
torch.Size([5, 10])

They run as rows of :mod:`optcourse.models.rows` too (many copies side by side).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optcourse.arguments import integer
from optcourse.models.networks import SALT, Block

#: Standard deviation of the learnt positions at the start. Tokens have 1; beside them the 0.02 of published code, meant
#: for long training, would leave attention nearly blind to places for the first hundreds of steps.
POSITION = 0.5


class Samples(nn.Flatten):
    """``[N, channels, *grid] -> [N, channels * prod(grid)]``, or flat already; other shapes raise ``ValueError``."""

    def __init__(self, channels: int, *grid: int) -> None:
        super().__init__()
        self.shape = channels, *grid

    def forward(self, input: Tensor) -> Tensor:
        """Features in the order of torch's flatten. A shape that only has as many numbers is another picture."""
        flat = (math.prod(self.shape),)
        if input.shape[1:] not in (flat, self.shape):
            allowed = " or ".join(f"[N, {', '.join(map(str, shape))}]" for shape in (flat, self.shape))
            raise ValueError(f"x must have shape {allowed}, got {list(input.shape)}")
        return super().forward(input)

    def extra_repr(self) -> str:
        """The numbers behind ``repr``."""
        return ", ".join(map(str, self.shape))


class Tokens(nn.Module):
    """``[N, width, *grid] -> [N, tokens, width]``: the channels of each place of the grid are a token."""

    def forward(self, x: Tensor) -> Tensor:
        """Places row by row."""
        return x.flatten(2).mT


class Positions(nn.Module):
    """``X -> X + P`` with a learnt P ``[tokens, width]``; without it attention could not tell places apart."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, tokens, width]``, unchanged in shape."""
        return x + self.table


class Attention(nn.Module):
    r"""Multi-head self-attention: every token asks all tokens, and takes the mean of what answers.

    .. math::
        Q_h = X W_h^Q, \quad K_h = X W_h^K, \quad V_h = X W_h^V, \qquad
        A_h = \operatorname{softmax}\big(Q_h K_h^\top / \sqrt{d}\big), \qquad
        Y = [A_1 V_1, \dots, A_H V_H]\, W^O

    for X ``[tokens, width]`` (and N of them), H = ``heads`` and d = width / H; softmax along the last axis: a row of
    A_h sums to one. All maps have biases. ``qkv.weight`` is ``[3 width, width]``: Q of all heads, then K, then V, as
    in ``torch.nn.MultiheadAttention``. They start as torch's linear maps do. Raises ``ValueError`` unless ``heads``
    divides ``width``.

    Source: Vaswani et al. 2017, "Attention is all you need", sections 3.2.1 and 3.2.2.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if integer("width", width, 1) % integer("heads", heads, 1):
            raise ValueError(f"heads must divide width, got heads={heads!r} and width={width!r}")
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, tokens, width] -> [N, tokens, width]``."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [N, heads, tokens, d]
        a = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1)
        return self.out((a @ v).transpose(1, 2).flatten(2))

    def extra_repr(self) -> str:
        """The number behind ``repr``."""
        return f"heads={self.heads}"


class Perceptron(nn.Module):
    r"""``x -> W_2 gelu(W_1 x + b_1) + b_2`` along one axis of X ``[N, tokens, width]``, alike all along the other.

    ``axis=-1``: within each token. ``axis=-2``: along the tokens, for each channel. Starts as torch's linear maps do.
    """

    def __init__(self, features: int, hidden: int, *, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.first, self.second = nn.Linear(features, hidden), nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of the shape of x."""
        h = self.second(F.gelu(self.first(x.transpose(self.axis, -1))))
        return h.transpose(self.axis, -1)

    def extra_repr(self) -> str:
        """The number behind ``repr``."""
        return f"axis={self.axis}"


class Average(nn.Module):
    """``[N, tokens, width] -> [N, width]``."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the tokens."""
        return x.mean(1)


def vit(
    size: int = 8,
    classes: int = 10,
    *,
    dimensions: int = 2,
    in_channels: int = 1,
    patch: int = 2,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    hidden: int = 64,
    seed: int = 0,
) -> nn.Sequential:
    """A vision transformer for images, ``[N, in_channels * size²]`` or ``[N, in_channels, size, size]``.

    Square patches of ``patch`` pixels a side become tokens of ``width`` channels, and get their learnt positions; then
    ``depth`` times attention with ``heads`` heads and a perceptron with ``hidden`` units within each token, both
    behind a layer norm and beside a skip. The mean of the last tokens feeds the linear classifier. With
    ``dimensions=1`` it is for signals, ``[N, in_channels * size]`` or ``[N, in_channels, size]``; the network
    refuses other shapes. Raises ``ValueError`` that names the argument, also unless ``patch`` divides ``size`` and
    ``heads`` divides ``width``.

    Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words", equations (1) to (4), here with the mean of the
    tokens in place of a class token.
    """
    tokens = _tokens(size, dimensions, in_channels, classes, patch, width, hidden)
    if integer("width", width, 1) % integer("heads", heads, 1):
        raise ValueError(f"heads must divide width, got heads={heads!r} and width={width!r}")

    def mix() -> list[nn.Module]:
        return [Attention(width, heads), Perceptron(width, hidden, axis=-1)]

    return _network(size, classes, dimensions, in_channels, patch, width, depth, [Positions(tokens, width)], mix, seed)


def mixer(
    size: int = 8,
    classes: int = 10,
    *,
    dimensions: int = 2,
    in_channels: int = 1,
    patch: int = 2,
    width: int = 32,
    depth: int = 2,
    token_hidden: int = 32,
    hidden: int = 64,
    seed: int = 0,
) -> nn.Sequential:
    """An MLP-Mixer: like :func:`vit`, with a perceptron of ``token_hidden`` units along the tokens for attention.

    It needs no positions: each token has its own weights. Arguments and errors as for :func:`vit`.

    Source: Tolstikhin et al. 2021, "MLP-Mixer: an all-MLP architecture for vision", equation (1).
    """
    tokens = _tokens(size, dimensions, in_channels, classes, patch, width, hidden)
    integer("token_hidden", token_hidden, 1)

    def mix() -> list[nn.Module]:
        return [Perceptron(tokens, token_hidden, axis=-2), Perceptron(width, hidden, axis=-1)]

    return _network(size, classes, dimensions, in_channels, patch, width, depth, [], mix, seed)


def _tokens(size: int, dimensions: int, in_channels: int, classes: int, patch: int, width: int, hidden: int) -> int:
    """The number of patches, of arguments that are checked."""
    integer("dimensions", dimensions, 1, 2)
    smallest = {"in_channels": in_channels, "classes": classes, "width": width, "hidden": hidden}
    for name, value in smallest.items():
        integer(name, value, 1)
    if integer("size", size, 1) % integer("patch", patch, 1):
        raise ValueError(f"patch must divide size, got patch={patch!r} and size={size!r}")
    return (size // patch) ** dimensions


def _network(
    size: int,
    classes: int,
    dimensions: int,
    in_channels: int,
    patch: int,
    width: int,
    depth: int,
    start: list[nn.Module],
    mix: Callable[[], list[nn.Module]],
    seed: int,
) -> nn.Sequential:
    """Patches, ``start``, ``depth`` times the layers that ``mix`` makes, the mean token, a classifier."""
    convolution = {1: nn.Conv1d, 2: nn.Conv2d}[dimensions]
    with torch.random.fork_rng(devices=[]):  # what torch draws is replaced below
        layers: list[nn.Module] = [
            Samples(in_channels, *(size,) * dimensions),
            nn.Unflatten(1, (in_channels, *(size,) * dimensions)),
            # A linear map of each patch is a convolution whose stride is its kernel.
            convolution(in_channels, width, patch, stride=patch),
            Tokens(),
            *start,
        ]
        for _ in range(integer("depth", depth, 1)):
            layers += [Block(nn.LayerNorm(width), nn.Identity(), layer, residual=True) for layer in mix()]
        model = nn.Sequential(*layers, nn.LayerNorm(width), Average(), nn.Linear(width, classes))

    generator = torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1) ^ SALT)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            # N(0, 1 / fan_in): as large behind the map as before it.
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear", generator=generator)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        elif isinstance(module, Positions):
            nn.init.normal_(module.table, std=POSITION, generator=generator)
    return model
