"""Networks without a normalizer: standardized weights, scaled residual branches, masks; and very deep isometric ones.

>>> net = nf_mlp(64, 10, width=32, depth=4)
>>> net(torch.zeros(5, 64)).shape
torch.Size([5, 10])

They run as rows of :mod:`optcourse.models.rows` too (many copies side by side), unless they draw masks: those random
numbers would not belong to a row, and are refused there.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.dropout import _DropoutNd

from optcourse.arguments import choice, integer, nonnegative, positive, real
from optcourse.models.networks import SALT

#: 1 / standard deviation of relu(z), z standard normal.
RELU_GAIN = math.sqrt(2 / (1 - 1 / math.pi))


# ------------------------------------------------------------------------ scaled weight standardization


def standardize(weight: Tensor, eps: float = 1e-4) -> Tensor:
    r"""Rows with mean zero and length one: :math:`\hat W_{ij} = (W_{ij}-\mu_i)/\big(\sqrt N\,\sigma_i\big)`.

    ``weight`` is ``[out, ...]``; a row is what feeds one output unit, N its number of entries (the fan-in, of a
    convolution channels times positions), mu_i and sigma_i its mean and standard deviation. Rows with
    :math:`N\sigma_i^2` below ``eps`` are divided by the root of ``eps`` instead, so that a constant row becomes 0 and
    not NaN. Raises ``ValueError`` for a weight without rows of at least two numbers.

    Source: Brock, De & Smith 2021, "Characterizing Signal Propagation to Close the Performance Gap in Unnormalized
    ResNets", equation (1); without the factor 1 / sqrt(N) Qiao et al. 2019, "Weight Standardization".

    >>> standardize(torch.tensor([[1.0, 1.0, 3.0, 3.0]]))
    tensor([[-0.5000, -0.5000,  0.5000,  0.5000]])
    """
    if weight.dim() < 2 or weight[0].numel() < 2:
        raise ValueError(f"weight must have shape [out, ...], two numbers or more a row, got {list(weight.shape)}")
    n, axes = weight[0].numel(), tuple(range(1, weight.dim()))
    if weight.device.type == "cpu":  # in one pass
        found, _, inverse = torch.native_layer_norm(weight.flatten(1), (n,), weight.new_full((n,), n**-0.5), None, 0.0)
        with suppress(RuntimeError):  # vmap lets nobody look at 1 / sigma
            if inverse.detach().amax().item() <= (n / eps) ** 0.5:
                return found.view(weight.shape)
    centred = weight - weight.mean(axes, keepdim=True)
    return centred / centred.square().sum(axes, keepdim=True).clamp(min=eps).sqrt()


class WSLinear(nn.Linear):
    """A linear layer with standardized weights and a gain for each unit: ``gain * standardize(weight) x + bias``."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        self.gain = nn.Parameter(torch.ones(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., n_in] -> [..., n_out]``."""
        return F.linear(x, self.gain.unsqueeze(1) * standardize(self.weight), self.bias)


class WSConv2d(nn.Conv2d):
    """The same for convolutions; ``options`` are those of ``torch.nn.Conv2d``."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int, **options: Any) -> None:
        super().__init__(n_in, n_out, kernel_size, **options)
        self.gain = nn.Parameter(torch.ones(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, n_in, height, width] -> [N, n_out, ...]``."""
        return self._conv_forward(x, self.gain.view(-1, 1, 1, 1) * standardize(self.weight), self.bias)


class Dropout(_DropoutNd):
    r"""Inverted dropout: :math:`y = m\,x/(1-p)`, entries of the mask m are 0 with probability p and else 1.

    Then E y = x and Var y = p/(1-p) x². ``whole`` draws one number for each sample instead of one for each entry:
    that is *stochastic depth* when x is the branch of a residual block. In evaluation mode the identity.

    Raises ``ValueError`` unless p is in [0, 1). Sources: Srivastava et al. 2014, "Dropout", section 10 (there the
    weights are scaled at test time; inverted, test time needs no scaling); Huang et al. 2016, "Deep Networks with
    Stochastic Depth", equation (2) (there one number for a mini-batch, and the scaling at test time).
    """

    def __init__(self, p: float = 0.5, *, whole: bool = False) -> None:
        super().__init__(real("p", p, 0, 1, open_high=True))
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of the shape of x, ``[N, ...]``."""
        if not self.training or self.p == 0:
            return x
        shape = (len(x), *[1] * (x.dim() - 1)) if self.whole else x.shape
        return x * ((torch.rand(shape, device=x.device) >= self.p).to(x.dtype) / (1 - self.p))


class ScaledReLU(nn.Module):
    r"""The activation of normalizer-free networks: :math:`h \mapsto \gamma\operatorname{relu}(h/\beta)`.

    For h with variance beta² the result has variance 1 with gamma = ``RELU_GAIN``. Neither number is learned.
    """

    def __init__(self, beta: float = 1.0, gamma: float = RELU_GAIN) -> None:
        super().__init__()
        self.beta, self.gamma = (float(value) for value in positive(beta=beta, gamma=gamma))

    def forward(self, h: Tensor) -> Tensor:
        """Entry by entry."""
        return F.relu(h * (self.gamma / self.beta))  # the same for positive factors, in one pass less

    def extra_repr(self) -> str:
        """The numbers behind ``repr``."""
        return f"beta={self.beta:g}, gamma={self.gamma:g}"


class NFBlock(nn.Module):
    r"""``h -> h + alpha * gain * mask(layer(scaled_relu(h / beta)))``: a residual block that knows its variances.

    With a standardized ``layer`` and gain 1 the branch has variance 1 where h has variance beta², so that block l
    with :math:`\beta_l^2 = 1 + l\alpha^2` leaves variance :math:`1+(l+1)\alpha^2`. ``gain`` is learned, one number that
    starts at ``skip_gain``; from 0 the block starts as the identity (SkipInit, De & Smith 2020). ``drop`` is the
    probability of stochastic depth. Source: Brock et al. 2021b, section 3, and 2021a, section 3.

    Adaptive gradient clipping must leave ``gain`` alone, see :func:`hidden_weights`.
    """

    def __init__(
        self, layer: nn.Module, *, beta: float = 1.0, alpha: float = 0.2, skip_gain: float = 1.0, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.activation, self.layer, self.mask = ScaledReLU(beta), layer, Dropout(drop, whole=True)
        self.gain = nn.Parameter(torch.tensor(float(real("skip_gain", skip_gain))))
        self.alpha = float(nonnegative(alpha=alpha)[0])

    def forward(self, h: Tensor) -> Tensor:
        """A tensor of the shape of h, ``[N, ...]``."""
        return h + self.alpha * self.gain * self.mask(self.layer(self.activation(h)))


def nf_mlp(
    features: int,
    classes: int,
    *,
    width: int = 64,
    depth: int = 8,
    alpha: float = 0.5,
    skip_gain: float = 1.0,
    standardized: bool = True,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    seed: int = 0,
) -> nn.Sequential:
    """A normalizer-free residual network: a first layer, ``depth`` blocks, relu(h / beta), a linear classifier.

    ``dropout`` is that before the classifier, ``stochastic_depth`` the probability with which a sample skips a block.
    ``standardized=False`` takes plain layers N(0, 1/fan-in) in the blocks instead of :class:`WSLinear`: one part less.
    The classifier starts near zero (standard deviation 0.01), biases are zero. Raises ``ValueError`` that names the
    argument.
    """
    integer("features", features, 2)
    integer("classes", classes, 1)
    integer("width", width, 2)
    integer("depth", depth, 0)
    real("alpha", alpha, 0, 1e6)
    for name, p in (("dropout", dropout), ("stochastic_depth", stochastic_depth)):
        real(name, p, 0, 1, open_high=True)
    generator = torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1) ^ SALT)
    options = {"alpha": alpha, "skip_gain": skip_gain, "drop": stochastic_depth}
    kind = WSLinear if standardized else nn.Linear
    first, head = WSLinear(features, width), nn.Linear(width, classes)
    layers = [kind(width, width) for _ in range(depth)]
    betas = [math.sqrt(1 + k * alpha**2) for k in range(depth + 1)]
    blocks = [NFBlock(layer, beta=beta, **options) for layer, beta in zip(layers, betas, strict=False)]
    for layer in (first, *layers, head):
        std = 0.01 if layer is head else layer.in_features**-0.5
        nn.init.normal_(layer.weight, std=std, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), first, *blocks, ScaledReLU(betas[-1], 1.0), Dropout(dropout), head)


def hidden_weights(model: nn.Sequential) -> list[nn.Parameter]:
    """What adaptive gradient clipping is for: every weight with rows, except that of the last layer.

    Not the gains and biases: a number that starts at zero is shorter than the clipping's eps = 1e-3, and until it is
    not it moves by at most lr * clip_factor * eps in a step. Residual branches would stay switched off.
    """
    last = {id(p) for p in list(model.children())[-1].parameters()}
    return [p for p in model.parameters() if p.dim() > 1 and id(p) not in last]


# ------------------------------------------------------------------------------- very deep and isometric


class _TanhLayers(torch.autograd.Function):
    """:math:`h_l = tanh(h_{l-1} W_l + b_l)` for h ``[c, B, n]``, W ``[c, L, n, n]`` and b ``[c, L, n]``.

    Two calls a layer forward and two backward, and the gradients of all weights in one product: a graph of thousands of
    modules costs several times more. Under ``vmap`` the copies become the axis c.
    """

    @staticmethod
    def forward(h: Tensor, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        x = h.new_empty(W.shape[1] + 1, *h.shape)
        x[0] = h
        weights, biases, rows = W.unbind(1), b.unsqueeze(2).unbind(1), x.unbind(0)
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            torch.baddbmm(bias, rows[layer], weight, out=rows[layer + 1])
            rows[layer + 1].tanh_()
        return rows[-1].clone(), x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], inputs[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, W = ctx.saved_tensors
        d = 1 - x[1:].square()  # becomes the gradient at the pre-activations
        transposed, rows = W.transpose(2, 3).unbind(1), d.unbind(0)
        for layer in reversed(range(len(rows))):
            rows[layer].mul_(g)
            g = torch.bmm(rows[layer], transposed[layer])
        gradient = x[:-1].transpose(2, 3).flatten(0, 1) @ d.flatten(0, 1)
        return g, gradient.view(*d.shape[:2], *W.shape[2:]).transpose(0, 1), d.sum(2).transpose(0, 1)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[tuple[Tensor, Tensor], Any]:
        moved = [
            t.expand(info.batch_size, *t.shape) if place is None else t.movedim(place, 0)
            for t, place in zip(inputs, in_dims, strict=True)
        ]
        out, x = _TanhLayers.apply(*(t.flatten(0, 1) for t in moved))
        shape = (info.batch_size, -1)
        return (out.unflatten(0, shape), x.unflatten(1, shape)), (0, 1)


class DeepTanh(nn.Module):
    r"""A tanh network of ``depth`` square layers, one tensor ``W [depth, width, width]``: thousands of layers train.

    The first layer makes pre-activations of variance ``q`` out of inputs whose entries have mean square 1; then
    :math:`h_l=\tanh(h_{l-1}W_l+b_l)`, with ``weights`` ``"orthogonal"`` (times the root of ``sigma_w2``) or
    ``"gaussian"`` (variance ``sigma_w2 / width``) and biases of variance ``sigma_b2``; the linear readout divides by
    the root of q. ``theory.signal.critical(q=..., activation="tanh")`` keeps q and the size of gradients; with q about
    1 / depth and orthogonal weights all singular values of the Jacobian stay near 1 but that of the signal's own
    direction, about exp(-2). Sources: Pennington et al. 2017 and Xiao et al. 2018.

    Raises ``ValueError`` that names the argument.

    >>> DeepTanh(64, 10, width=8, depth=100)(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        width: int = 32,
        depth: int = 1000,
        weights: str = "orthogonal",
        sigma_w2: float = 1.0,
        sigma_b2: float = 0.0,
        q: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        n, length = integer("width", width, 1), integer("depth", depth, 1)
        features, classes = integer("features", features, 1), integer("classes", classes, 1)
        positive(q=q)
        nonnegative(sigma_w2=sigma_w2, sigma_b2=sigma_b2)
        generator = torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1) ^ SALT)

        def normal(variance: float, *shape: int) -> Tensor:
            return variance**0.5 * torch.randn(shape, generator=generator)

        W = normal(1.0, length, n, n)
        if choice("weights", weights, ("orthogonal", "gaussian")) == "orthogonal":
            Q, R = torch.linalg.qr(W)
            W = Q * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)  # uniform over all rotations and reflections
        self.first = nn.Parameter(normal(q / features, features, n))
        self.W = nn.Parameter(W * (sigma_w2 if weights == "orthogonal" else sigma_w2 / n) ** 0.5)
        self.b = nn.Parameter(normal(sigma_b2, length, n))
        self.readout, self.offset = nn.Parameter(normal(1 / (n * q), n, classes)), nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``[N, classes]`` of inputs ``[N, features]``."""
        h = torch.tanh(x @ self.first)
        h, _ = _TanhLayers.apply(h.unsqueeze(0), self.W.unsqueeze(0), self.b.unsqueeze(0))
        return h.squeeze(0) @ self.readout + self.offset
