"""Many networks of one shape at once: their parameters are the rows of a matrix ``[rows, d]``.

The rows do not interact: the gradient of the *sum* of their losses holds the gradient of each. They may be the nodes of
:mod:`optcourse.nodes` or the copies of :mod:`optcourse.training.copies`.

>>> from optcourse.models import mlp
>>> nets = [mlp(4, 3, width=5, depth=1, seed=seed) for seed in (0, 1)]
>>> x, y = torch.ones(2, 6, 4), torch.zeros(2, 6, dtype=torch.int64)  # six samples for each
>>> losses(nets[0], stack(nets), x, y).shape
torch.Size([2])

Inside, the batch axis is last, ``[c, features, B]``: a layer is then W h with W as it is stored, its gradient comes out
in the shape of W, and softmax, patches and activations run along B numbers that lie side by side. :func:`forward` gives
a row the same bits whatever the number c of rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from optcourse.models.networks import Block

#: Loss of one batch: (scores [B, ...], targets [B, ...]) -> scalar.
Loss = Callable[[Tensor, Tensor], Tensor]

#: Bytes to which the batch axis is filled up: libraries add up in an order that depends on where a row begins.
ALIGNMENT = 64
#: Numbers of one step of a vectorized loop, or a multiple; a shorter rest may go through another formula.
STEP = 64

# These treat every number alike, whatever its axis, and round.
_ROUNDED = (nn.Tanh, nn.GELU, nn.SiLU)
_BATCH_STATISTICS = nn.modules.batchnorm._NormBase


def flat_parameters(model: nn.Module) -> Tensor:
    """All parameters of ``model`` in one new vector ``[d]``, in the order of ``model.parameters()``."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def stack(nets: Iterable[nn.Module]) -> Tensor:
    """The parameters of networks of one shape as rows ``[nets, d]``, detached."""
    return torch.stack([flat_parameters(net) for net in nets])


def scores(net: nn.Module, w: Tensor, x: Tensor) -> Tensor:
    """Scores ``[rows, classes, B]`` at the parameters w ``[rows, d]``, each on its own batch x[i] ``[B, ...]``.

    Of ``net`` only the shape is used. Raises ``ValueError`` for another number of parameters or of rows, and what
    :func:`check_rows` refuses.
    """
    check_rows(net)
    return apply(net, w, x)


def apply(net: nn.Module, w: Tensor, x: Tensor) -> Tensor:
    """:func:`scores`, also with batch norm: on the statistics of each row's batch, in evaluation mode on running ones.

    No buffer changes. Raises ``ValueError`` for another number of parameters or of rows.
    """
    parameters = list(net.parameters())
    d = sum(p.numel() for p in parameters)
    if w.dim() != 2 or w.shape[1] != d or len(x) != len(w):
        raise ValueError(
            f"w must have shape [rows, {d}] with one batch of x for each row, got {list(w.shape)} for {len(x)} batches"
        )
    parts = split(parameters, w)
    return forward(net, "", {name: parts[i] for name, i in places(net).items()}, x.movedim(1, -1).contiguous())


def losses(net: nn.Module, w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropies ``[rows]``, each on its own batch: x ``[rows, B, ...]``, labels y ``[rows, B]``."""
    return losses_of(F.cross_entropy, scores(net, w, x), y)


def losses_of(loss: Loss, scores: Tensor, y: Tensor) -> Tensor:
    """The loss of each row ``[rows]``: scores ``[rows, classes, B]`` against y ``[rows, B, ...]``."""
    if loss is F.cross_entropy and scores.dim() == 3 and y.dim() == 2:
        return F.cross_entropy(scores, targets(y), reduction="none").mean(1)
    return vmap(loss)(scores.movedim(-1, 1), targets(y, loss))


def evaluate(model: nn.Module, w: Tensor, x: Tensor, y: Tensor, loss: Loss = F.cross_entropy) -> tuple[Tensor, Tensor]:
    """``(loss, accuracy)`` of the parameters w on the samples ``x [N, ...]`` with labels ``y [N]``.

    ``w`` of shape ``[d]`` gives two numbers (0-dim), ``[rows, d]`` two vectors ``[rows]``. Accuracy is as in
    :func:`accuracy`. Raises ``ValueError`` for what :func:`check_rows` refuses.
    """
    check_rows(model)
    results, own = [], copy.deepcopy(model).to(w)  # a model to write into: for small ones functional_call takes longer
    parameters = list(own.parameters())
    with torch.no_grad():
        # One row after the other: N samples fill a cache by themselves.
        for row in zip(*split(parameters, w.reshape(-1, w.shape[-1])), strict=True):
            for p, values in zip(parameters, row, strict=True):
                p.data = values
            found = own(x)
            if loss is F.cross_entropy and found.dim() == 2 and y.dim() == 1:  # softmax is fast along the samples
                value = losses_of(loss, found.T.contiguous()[None], y[None])[0]
            else:
                value = loss(found, targets(y, loss))
            results.append((value, accuracy(found, y).to(w.dtype)))
    mean_losses, accuracies = (torch.stack(column).reshape(w.shape[:-1]) for column in zip(*results, strict=True))
    return mean_losses, accuracies


def apply_one(model: nn.Module, w: Tensor, x: Tensor) -> Tensor:
    """``model(x)`` at the parameters w ``[d]``, in torch's own way; differentiable in w, for every module."""
    parts = [part[0] for part in split(list(model.parameters()), w[None])]
    return call_at(model, {name: parts[i] for name, i in places(model).items()}, x)


def targets(y: Tensor, loss: Loss = F.cross_entropy) -> Tensor:
    """Labels of any integer type, or bool, as torch's cross-entropy wants them; all else as it is."""
    return y.long() if loss is F.cross_entropy and not y.is_floating_point() else y


def accuracy(scores: Tensor, y: Tensor) -> Tensor:
    """The share of samples whose highest score (along axis 1) is that of their label.

    NaN where there is none: without class labels (integers or bools), or without a score for each class.
    """
    if y.is_floating_point() or scores.dim() < 2 or scores.shape[1] < 2:
        return scores.new_tensor(torch.nan, dtype=torch.float64)
    return (scores.argmax(1) == y).double().mean()


def check_rows(model: nn.Module) -> None:
    """Raise ``ValueError`` for a model that is more than its parameters: batch statistics, dropout; or has none."""
    for module in model.modules():
        if isinstance(module, _BATCH_STATISTICS) and (module.track_running_stats or "Batch" in type(module).__name__):
            raise ValueError(
                f"model must not contain {type(module).__name__}: its running statistics are buffers, which are no "
                "part of a row and would be shared by all rows; use norm='group' or 'layer'"
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise ValueError(f"model must not contain {module}: its random numbers would not belong to a row")
    if not any(True for _ in model.parameters()):
        raise ValueError("model must have parameters, got none")


def split(parameters: Sequence[Tensor], w: Tensor) -> list[Tensor]:
    """The rows of w, ``[c, d]``, as one view ``[c, *shape]`` for each parameter."""
    pieces = w.split([p.numel() for p in parameters], dim=1)
    return [piece.view(len(w), *p.shape) for piece, p in zip(pieces, parameters, strict=True)]


def places(model: nn.Module) -> dict[str, int]:
    """Name of a parameter -> its place in ``model.parameters()``; a shared parameter has several names."""
    place = {id(p): i for i, p in enumerate(model.parameters())}
    return {name: place[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}


# -------------------------------------------------------------------------------- the forward pass


def call_at(module: nn.Module, values: dict[str, Tensor], batch: Tensor) -> Tensor:
    """``module`` at other parameters; each is set once, for what functional_call sets twice it does not put back."""
    once = {
        (id(owner), key): f"{name}.{key}" if name else key
        for name, owner in module.named_modules()
        for key, _ in owner.named_parameters(recurse=False, remove_duplicate=False)
    }
    own = {name: values[name] for name in once.values()}
    return functional_call(module, own, (batch,), tie_weights=False)


def fill(t: Tensor, zeros: int) -> Tensor:
    """More zeros at the end of the last axis."""
    return F.pad(t, (0, zeros)) if zeros else t


def forward(module: nn.Module, name: str, values: dict[str, Tensor], h: Tensor) -> Tensor:
    """``module``, with parameters ``name...``, on the batch of each row: ``[c, ..., B] -> [c, ..., B]``."""
    kind = type(module)
    if type(module) is nn.Sequential:
        for place, child in zip(module._modules, module, strict=True):  # named_children() leaves out what occurs again
            h = forward(child, f"{name}{place}.", values, h)
        return h
    if type(module) is Block:
        branch = forward(module.branch, f"{name}branch.", values, h)
        return h + branch if module.residual else branch
    if kind in (nn.Identity, nn.ReLU) or (kind is nn.Dropout and not module.training):
        return module(h)
    if kind in _ROUNDED:
        return module(fill(h.flatten(), -h.numel() % STEP))[: h.numel()].view(h.shape)
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return h.flatten(1, -2)
    if type(module) is nn.Unflatten and module.dim == 1:
        return h.unflatten(1, module.unflattened_size)
    own = {key.removeprefix(name): value for key, value in values.items() if key.startswith(name)}
    if kind is nn.Linear and h.dim() == 3:
        return _affine(own["weight"], own.get("bias"), h)
    if (type(module) is nn.Conv1d or type(module) is nn.Conv2d) and _plain(module):
        return _convolution(module, own, h)
    if type(module) is nn.GroupNorm:
        return _group_norm(module, own, h)
    if (kind is nn.BatchNorm1d and h.dim() in (3, 4)) or (kind is nn.BatchNorm2d and h.dim() == 5):
        return _batch_norm(module, own, h)
    mapped = vmap(lambda own, batch: call_at(module, own, batch))
    return mapped(own, h.movedim(-1, 1)).movedim(1, -1)


def _affine(weight: Tensor, bias: Tensor | None, h: Tensor) -> Tensor:
    """``W h + b`` with W ``[c, out, in]``, b ``[c, out]`` and h ``[c, in, B]``."""
    if weight.shape[2] == 1:  # a product with a vector would be summed differently for one row than for many
        weight, h = F.pad(weight, (0, 15)), F.pad(h, (0, 0, 0, 15))
    return torch.bmm(weight, h) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, h)


def _group_norm(norm: nn.GroupNorm, own: dict[str, Tensor], h: Tensor) -> Tensor:
    samples = h.movedim(-1, 1)
    normal = F.group_norm(samples.flatten(0, 1), norm.num_groups, eps=norm.eps).view(samples.shape).movedim(1, -1)
    if not norm.affine:
        return normal
    gain, offset = (own[key].view(*h.shape[:2], *[1] * (h.dim() - 2)) for key in ("weight", "bias"))
    return gain * normal.contiguous() + offset


def _batch_norm(norm: nn.Module, own: dict[str, Tensor], h: Tensor) -> Tensor:
    """A channel of a row is a channel of its own; running statistics are used or not, and never changed."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    z = h.flatten(2)  # [c, channels, positions * B]
    if norm.training or norm.running_mean is None or norm.running_var is None:
        if z.shape[2] < 2:
            raise ValueError("batch norm needs more than one number for each channel, got one")
        z = z - z.mean(2, keepdim=True)
        variance = z.square().mean(2, keepdim=True)
    else:
        z = z - norm.running_mean.unsqueeze(1)
        variance = norm.running_var.unsqueeze(1)
    scale = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        return torch.addcmul(own["bias"].unsqueeze(2), z, own["weight"].unsqueeze(2) * scale).view(h.shape)
    return (z * scale).view(h.shape)


def _plain(conv: nn.Conv1d | nn.Conv2d) -> bool:
    simple = conv.groups == 1 and set(conv.dilation) == {1} and conv.padding_mode == "zeros"
    return simple and not isinstance(conv.padding, str)


def _convolution(conv: nn.Conv1d | nn.Conv2d, own: dict[str, Tensor], h: Tensor) -> Tensor:
    """A convolution as a matrix product with patches; kernels for grouped convolutions are several times slower."""
    assert not isinstance(conv.padding, str)  # see _plain
    one_dimensional = h.dim() == 4
    if one_dimensional:  # a signal is an image of height one
        h = h.unsqueeze(2)
    (vertical, horizontal), kernel, stride = (
        ((first, *size) if one_dimensional else size)
        for first, size in ((0, conv.padding), (1, conv.kernel_size), (1, conv.stride))
    )
    h = F.pad(h, (0, 0, horizontal, horizontal, vertical, vertical))
    patches = _Patches.apply(h, kernel, stride)  # [c, channels, *kernel, height, width, B]
    z = _affine(own["weight"].flatten(2), own.get("bias"), patches.flatten(4).flatten(1, 3))
    z = z.unflatten(2, patches.shape[4:])
    return z.squeeze(2) if one_dimensional else z


class _Patches(torch.autograd.Function):
    """``[c, channels, H, W, B] -> [c, channels, *kernel, height, width, B]``; torch's own adjoint of it is slow."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        ctx.shape, ctx.stride = h.shape, stride
        patches = h.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
        return patches.permute(0, 1, 5, 6, 2, 3, 4).contiguous()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        h = g.new_zeros(ctx.shape)
        (down, right), (height, width) = ctx.stride, g.shape[4:6]
        for i in range(g.shape[2]):
            for j in range(g.shape[3]):
                rows = slice(i, i + down * (height - 1) + 1, down)
                columns = slice(j, j + right * (width - 1) + 1, right)
                h[:, :, rows, columns] += g[:, :, i, j]
        return h, None, None
