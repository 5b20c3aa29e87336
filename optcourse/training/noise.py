"""How noisy a network's gradient is: the batch size at which noise and gradient count alike.

>>> from optcourse.models import mlp
>>> from optcourse.models.rows import flat_parameters
>>> net, x, y = mlp(4, 3, width=5, depth=1), torch.randn(50, 4), torch.zeros(50, dtype=torch.int64)
>>> bool(noise_scale(net, flat_parameters(net), x, y).value > 0)
True
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optcourse.measure import Estimate
from optcourse.models.rows import Loss, losses_of, scores
from optcourse.theory import batch


def per_sample_gradients(model: nn.Module, w: Tensor, x: Tensor, y: Tensor, loss: Loss = F.cross_entropy) -> Tensor:
    """The gradient of every sample's loss at the parameters w ``[d]``: ``[N, d]``, samples ``x [N, ...]``.

    Each sample is a batch of one with its own copy of the parameters, see :mod:`optcourse.models.rows`. Their mean is
    the gradient of the batch if ``loss`` is a plain mean over samples: one that divides by something of the batch
    (class weights, a count of valid targets) divides by that of each sample here. Raises ``ValueError`` for w of
    another shape, samples and labels of different lengths, w and x of different precision, and what
    :func:`optcourse.models.rows.check_rows` refuses.
    """
    if w.dim() != 1 or len(x) != len(y):
        raise ValueError(
            f"w must have shape [d], and x and y one length, got {list(w.shape)}, and {len(x)} and {len(y)}"
        )
    if x.is_floating_point() and x.dtype != w.dtype:
        raise ValueError(f"w and x must have one precision, got {w.dtype} and {x.dtype}")
    with torch.enable_grad():
        at = w.detach().expand(len(x), -1).clone().requires_grad_()
        found = losses_of(loss, scores(model, at, x.unsqueeze(1)), y.unsqueeze(1))
        return torch.autograd.grad(found.sum(), at)[0]


def noise_scale(
    model: nn.Module, w: Tensor, x: Tensor, y: Tensor, loss: Loss = F.cross_entropy, *, confidence: float = 0.95
) -> Estimate:
    r"""The simple noise scale :math:`tr\Sigma/\|G\|^2` at the parameters w ``[d]``, with an interval over the samples.

    The samples are taken as independent draws: G and Sigma are mean and covariance of the gradient of *any* sample.
    See :func:`optcourse.theory.batch.noise_scale_from_gradients`, also for when N samples do not suffice to tell G from
    zero and the interval is infinite. The interval is approximate, and too short where few samples have most of the
    gradient (on the digits 256 samples cover 85 to 93 % for 95 %). Of ``model`` only the shape is used.

    Raises ``ValueError`` as :func:`per_sample_gradients`, and for fewer than three samples or no gradient at all.
    """
    gradients = per_sample_gradients(model, w, x, y, loss)
    return batch.noise_scale_from_gradients(gradients=gradients.double().cpu().numpy(), confidence=confidence)
