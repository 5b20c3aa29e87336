r"""Signals at initialization in wide ReLU networks: the mean's share, and residual branches.

Weights are independent N(0, 2/fan_in) (He et al. 2015) without biases, layers wide: the second moments below are then
those of one random network up to :math:`O(1/\sqrt{\text{width}})`. A layer is h -> W relu(h), a residual block
h -> h + W relu(h), and with batch normalization h -> h + W relu(BN(h)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import integer, positive, real
from optcourse.theory.bound import Number, scalar


def relu_cosine(*, cosine: ArrayLike) -> Number:
    r"""Cosine of two inputs after a wide ReLU layer, from their cosine c before it.

    Statement: :math:`c'=\frac1\pi\big(\sqrt{1-c^2}+c\,(\pi-\arccos c)\big)`, which is 2 E relu(u) relu(v) for standard
    normal u, v with correlation c. It is never below c, and 1 is its only fixed point: depth makes all inputs
    parallel. Source: Cho & Saul 2009, "Kernel methods for deep learning", eq. (6) with n = 1.

    Raises ``ValueError`` unless cosine is in [-1, 1].

    >>> f"{relu_cosine(cosine=0.0):.4f}"  # orthogonal inputs: 1/pi
    '0.3183'
    """
    c = np.asarray(real("cosine", cosine, -1, 1), dtype=float)
    return scalar((np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / np.pi)


def mean_share(*, inputs: ArrayLike, depth: int, residual: bool = False) -> np.ndarray:
    r"""How much of a channel's second moment over ``inputs`` is its squared mean, after 0 ... depth layers.

    Statement: with K_ij the mean over channels of h_i h_j, the share is mean(K) / mean(diag K). The first, linear layer
    gives :math:`K^0_{ij}\propto x_i^\top x_j`. A ReLU layer keeps the diagonal and takes the cosines through
    :func:`relu_cosine`; a residual block adds that to K, and so doubles the diagonal. Exact for infinite width.

    ``inputs`` has shape [N, features]; the result [depth + 1]. Raises ``ValueError`` for another shape, depth < 0, or
    an input that is zero.

    >>> mean_share(inputs=[[1.0, 0.0], [0.0, 1.0]], depth=1).round(3)  # (1 + 0)/2, then (1 + 1/pi)/2
    array([0.5  , 0.659])
    """
    x = np.asarray(real("inputs", inputs), dtype=float)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"inputs must have shape [N, features], got {list(x.shape)}")
    kernel = x @ x.T
    norms = np.sqrt(np.diag(kernel))
    if not norms.all():
        raise ValueError("inputs must not contain a zero vector, which has no cosine with others")
    scale = np.outer(norms, norms) / np.square(norms).mean()
    cosine, shares = np.clip(kernel / np.outer(norms, norms), -1, 1), []
    for layer in range(integer("depth", depth, 0) + 1):
        if layer:
            after = relu_cosine(cosine=cosine)
            cosine = np.minimum((cosine + after) / 2 if residual else after, 1.0)
        shares.append((cosine * scale).mean())
    return np.array(shares)


def skip_moment(*, q0: ArrayLike, blocks: ArrayLike, normalized: bool) -> Number:
    r"""Mean square on the skip path after so many residual blocks, from ``q0`` before the first.

    Statement: :math:`q_0+l` with batch normalization, :math:`2^lq_0` without. Proof: given z, the branch W relu(z) is
    uncorrelated with the skip path and has the mean square 2 E relu(z)^2. W and -W are equally likely, so over the
    channels h and -h are, and z and -z: 2 E relu(z)^2 = E z^2. Without normalization that is E h^2, with it 1.
    Source: De & Smith 2020, "Batch normalization biases residual blocks towards the identity function", section 2.

    Raises ``ValueError`` unless q0 > 0 and blocks >= 0.

    >>> skip_moment(q0=2.0, blocks=[0, 1, 2], normalized=True), skip_moment(q0=2.0, blocks=[0, 1, 2], normalized=False)
    (array([2., 3., 4.]), array([2., 4., 8.]))
    """
    (q,), l = positive(q0=q0), np.asarray(real("blocks", blocks, 0), dtype=float)
    return scalar(q + l if normalized else q * 2.0**l)


def branch_to_skip(*, q0: ArrayLike, block: ArrayLike, normalized: bool) -> Number:
    r"""Mean square of the branch of block number ``block`` = 1, 2, ... relative to the skip path beside it.

    Statement: :math:`1/(q_0+l-1)` with batch normalization, 1 without: the step of :func:`skip_moment` over where it
    starts. Raises ``ValueError`` unless q0 > 0 and block >= 1.

    >>> branch_to_skip(q0=2.0, block=[1, 9], normalized=True)
    array([0.5, 0.1])
    """
    (q,), l = positive(q0=q0), np.asarray(real("block", block, 1), dtype=float)
    return scalar(1 / (q + l - 1) if normalized else np.ones_like(q + l))
