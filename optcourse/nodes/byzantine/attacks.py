r"""Byzantine nodes: what they send in place of their own vectors.

An attack is made by name and setting, ``attack = alie()``, and called ``attack(honest, byzantine, streams)`` with

- ``honest`` [n, d]: what every node would send if it were honest, the Byzantine ones included;
- ``byzantine`` [n] bool: which nodes are not (:func:`last_nodes` makes the usual choice);
- ``streams``: random numbers of the attackers, ``Streams("attack", seed, range(n))`` with a row for *every* node, so
  that all processes see the same attack. Only :func:`noise` draws any; the others do without.

It returns [n, d], what is really sent: the rows of honest nodes untouched. The attackers know everything and act
together; f is their number, xbar the mean of the n-f honest rows. ``ATTACKS`` lists the makers by name;
:func:`label_flip` attacks the data.

All attacks raise ``ValueError`` when ``honest`` is not a 2-D floating-point tensor of finite rows, when ``byzantine``
is no bool tensor [n], and when no node is honest, ``TypeError`` when ``honest`` is no tensor. Without Byzantine nodes
they return a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.special import ndtri
from torch import Tensor

from optcourse.arguments import choice, integer, number
from optcourse.nodes.byzantine.history import remembering
from optcourse.nodes.byzantine.vectors import check_vectors, lengths
from optcourse.nodes.makers import maker
from optcourse.nodes.network.checks import described
from optcourse.nodes.streams import Streams, as_streams

Attack = Callable[..., Tensor]


def last_nodes(n_nodes: int, n_byzantine: int) -> Tensor:
    """Mask [n_nodes], true for the last ``n_byzantine`` nodes.

    Raises ``ValueError`` unless n_nodes >= 1 and 0 <= n_byzantine <= n_nodes.

    >>> last_nodes(4, 1)
    tensor([False, False, False,  True])
    """
    n = integer("n_nodes", n_nodes, 1)
    return torch.arange(n) >= n - integer("n_byzantine", n_byzantine, 0, n)


@maker
def sign_flip(scale: float = 1.0) -> Attack:
    """Every attacker sends -scale times its own vector. Raises ``ValueError`` for scale < 0.

    Source: Li, Xu, Chen, Giannakis & Ling 2019, "RSA: Byzantine-robust stochastic aggregation methods".

    >>> sign_flip(3.0)(torch.tensor([[1.0], [2.0]]), last_nodes(2, 1))
    tensor([[ 1.],
            [-6.]])
    """
    scale = number("scale", scale, 0)
    return _attack(lambda honest, byzantine, streams: -scale * honest[byzantine])


@maker
def noise(scale: float = 10.0) -> Attack:
    """Every attacker sends Gaussian noise of its own, with standard deviation ``scale`` in every coordinate.

    Needs ``streams``: node i draws from the stream of node i. Raises ``ValueError`` for scale < 0 and, when called,
    for streams that have not one row for each of the n nodes, ``TypeError`` for none. Source: Blanchard, El Mhamdi,
    Guerraoui & Stainer 2017, "Machine learning with adversaries" (the Gaussian attackers of its experiments).

    >>> sent = noise()(torch.zeros(3, 2), last_nodes(3, 1), Streams("attack", 0, range(3)))
    >>> bool((sent[:2] == 0).all()), bool((sent[2] != 0).all())
    (True, True)
    """
    scale = number("scale", scale, 0)

    def lies(honest: Tensor, byzantine: Tensor, streams: Streams | None) -> Tensor:
        n, d = honest.shape
        # Everybody draws, so that a node's noise does not depend on who else is Byzantine.
        drawn = as_streams("streams", streams, n).normal(d, dtype=honest.dtype)
        return scale * drawn.to(honest.device)[byzantine]

    return _attack(lies)


@maker
def inner_product(epsilon: float = 0.1) -> Attack:
    r"""All attackers send :math:`-\epsilon\bar x`, against the honest mean.

    A small epsilon hides among honest vectors that are small against their spread; the plain mean turns round only for
    epsilon > (n-f)/f. Raises ``ValueError`` for epsilon < 0.

    Source: Xie, Koyejo & Gupta 2020, "Fall of empires: breaking Byzantine-tolerant SGD by inner product manipulation".

    >>> inner_product(2.0)(torch.tensor([[1.0], [3.0], [5.0]]), last_nodes(3, 1))[2]
    tensor([-4.])
    """
    epsilon = number("epsilon", epsilon, 0)
    return _attack(lambda honest, byzantine, streams: -epsilon * honest[~byzantine].mean(0))


@maker
def alie(z: float | None = None, sample: str = "honest") -> Attack:
    r"""All attackers send :math:`\bar x-z\,s` with s [d] the coordinates' standard deviations (root of the mean
    square, not of the unbiased variance).

    Both are those of the honest rows, for attackers who see everything; with ``sample="own"`` those of what the
    attackers would have sent honestly, which is all that they need in the paper. By default z is :func:`alie_z`, the
    largest shift that still looks ordinary. Minus as in the authors' program: against the mean where its entries are
    positive. (ByzFL adds z times the unbiased deviation of the honest rows.)

    Raises ``ValueError`` for z < 0, another sample and, when called without a z, for more than n/2 Byzantine nodes.
    Source: Baruch, Baruch & Goldberg 2019, "A little is enough: circumventing defenses for distributed learning",
    Algorithm 3.

    >>> X, liars = torch.tensor([[1.0], [3.0], [9.0], [5.0]]), last_nodes(4, 2)
    >>> alie(z=1.5)(X, liars)[3], alie(z=1.5, sample="own")(X, liars)[3]
    (tensor([0.5000]), tensor([4.]))
    """
    if z is not None:
        z = number("z", z, 0)
    own = choice("sample", sample, ("honest", "own")) == "own"

    def lies(honest: Tensor, byzantine: Tensor, streams: Streams | None) -> Tensor:
        seen, n, f = honest[byzantine if own else ~byzantine], len(honest), int(byzantine.sum())
        if z is None and f > n // 2:
            raise ValueError(f"z must be given for n_byzantine = {f} of {n} nodes: alie_z stops at half of them")
        shift = alie_z(n, f) if z is None else z
        offsets = seen.double() - seen.double().mean(0)
        deviation = lengths(offsets.T) / math.sqrt(len(seen))
        return seen.mean(0) - shift * deviation.to(seen.dtype)

    return _attack(lies)


def alie_z(n_nodes: int, n_byzantine: int) -> float:
    r"""The z of :func:`alie`: so far from the mean that enough honest nodes are expected to lie farther out.

    .. math:: z=\Phi^{-1}\Big(\frac{n-f-s}{n-f}\Big),\qquad s=\Big\lfloor\frac n2+1\Big\rfloor-f

    with Phi the standard normal distribution: s honest supporters make the attackers a majority. With few attackers
    the formula is negative, that is, no shift away from the mean has so many supporters: then z = 0. Raises
    ``ValueError`` unless 0 <= n_byzantine <= n/2, for beyond that the attackers need no supporters.

    >>> round(alie_z(50, 24), 3), alie_z(10, 1)
    (1.426, 0.0)
    """
    n = integer("n_nodes", n_nodes, 1)
    f = integer("n_byzantine", n_byzantine, 0, n // 2)
    s = n // 2 + 1 - f
    return max(0.0, float(ndtri((n - f - s) / (n - f))))


@maker
def mimic(target: int | None = None, warmup: int = 1) -> Attack:
    r"""All attackers copy one honest node: nothing to detect, but its data count f + 1 times.

    ``target`` is the number of that node. By default it is chosen in the first ``warmup`` rounds and never changes
    afterwards: z is the direction in which the honest vectors vary most, found by Oja's rule, and the victim is the
    honest node with the largest :math:`z\cdot x_i`. With mu the mean of all honest vectors so far and
    :math:`p=\sum_i(x_i-\mu)\,(x_i-\mu)\cdot z`, round t = 0, 1, ... takes

    .. math:: z \leftarrow \frac{z'}{\|z'\|},\qquad z'=\frac t{1+t}\,z+\frac1{1+t}\,\frac p{\|p\|}

    from a random z, the same in all runs. An attack without ``target`` has memory: make a new one for each run
    (``robust_sgd`` begins anew by itself, and its checkpoints hold the memory). Raises ``ValueError`` for a target < 0,
    a warmup < 1 or, with a target, other than 1; when called, for a target that is no honest node, and without one for
    another shape than before, or when the victim has become Byzantine.

    Source: Karimireddy, He & Jaggi 2022, "Byzantine-robust learning on heterogeneous datasets via bucketing", in the
    released code, whose experiments have one round of warm-up; a longer one averages over the noise of gradients.

    >>> attack, X = mimic(), torch.tensor([[1.0, 0.0], [0.0, 0.1], [9.0, 0.0], [5.0, 5.0]])
    >>> attack(X, last_nodes(4, 1))[3], attack(-X, last_nodes(4, 1))[3]
    (tensor([9., 0.]), tensor([-9., -0.]))
    """
    warmup = integer("warmup", warmup, 1)
    if target is not None:
        if warmup != 1:
            raise ValueError(f"warmup must be 1 with a target, which is there from the start, got {warmup}")
        return _mimic_given(integer("target", target, 0))
    history: list[Tensor] = []

    def lies(honest: Tensor, byzantine: Tensor, streams: Streams | None) -> Tensor:
        X, shape = honest[~byzantine].double(), list(honest.shape)
        if not history:
            z = torch.randn(X.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(X)
            history[:] = [torch.tensor([0, 0, len(honest)]), torch.zeros_like(z), z]
        numbers, mu, z = history
        t, victim, n = numbers.tolist()
        if shape != [n, len(z)]:
            raise ValueError(f"honest must have shape {[n, len(z)]} as before, got {shape}: make a new attack")
        if t < warmup:
            mu = (t * mu + X.mean(0)) / (1 + t)
            Y = (X - mu) / (X - mu).abs().max().clamp(min=torch.finfo(X.dtype).tiny)  # whose squares stay in range
            p = Y.T @ (Y @ z)
            z = _unit(t * z + (_unit(p) if p.any() else z))
            victim = int((~byzantine).nonzero()[(X @ z).argmax()])
        if byzantine[victim]:
            raise ValueError(f"byzantine must leave node {victim} honest, whom this attack copies: make a new attack")
        history[:] = [torch.tensor([min(t + 1, warmup), victim, n]), mu, z]
        return honest[victim]

    return remembering(_attack(lies), history)


def _mimic_given(target: int) -> Attack:
    def lies(honest: Tensor, byzantine: Tensor, streams: Streams | None) -> Tensor:
        if target >= len(honest) or byzantine[target]:
            raise ValueError(f"target must be one of the nodes {(~byzantine).nonzero()[:, 0].tolist()}, got {target}")
        return honest[target]

    return _attack(lies)


def _unit(v: Tensor) -> Tensor:
    return v / lengths(v[None])


def label_flip(labels: Tensor, n_classes: int) -> Tensor:
    """Labels y of a Byzantine node's data become C-1-y, any shape; its gradients are then computed honestly.

    Raises ``ValueError`` for labels that are no integers in 0..C-1, ``TypeError`` for what is no tensor. Source: as in
    the experiments of Karimireddy, He & Jaggi 2022, "Byzantine-robust learning on heterogeneous datasets via
    bucketing".

    >>> label_flip(torch.tensor([0, 1, 9]), n_classes=10)
    tensor([9, 8, 0])
    """
    C = integer("n_classes", n_classes, 1)
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor of integers, got {type(labels).__name__}")
    kind = labels.dtype
    if kind.is_floating_point or kind.is_complex or kind == torch.bool or ((labels < 0) | (labels >= C)).any():
        raise ValueError(f"labels must be integers in 0..{C - 1}, got {labels}")
    return C - 1 - labels


#: The makers of attacks on vectors by name; all can be called without arguments.
ATTACKS: dict[str, Callable[..., Attack]] = {
    "sign_flip": sign_flip,
    "noise": noise,
    "inner_product": inner_product,
    "alie": alie,
    "mimic": mimic,
}


def _attack(lies: Callable[[Tensor, Tensor, Streams | None], Tensor]) -> Attack:
    """The attack whose attackers send ``lies(honest, byzantine, streams)``: [f, d], or [d] for all."""

    def attack(honest: Tensor, byzantine: Tensor, streams: Streams | None = None) -> Tensor:
        n = len(check_vectors(honest, "honest"))
        if not isinstance(byzantine, Tensor) or byzantine.dtype != torch.bool or byzantine.shape != (n,):
            raise ValueError(f"byzantine must be a bool tensor [{n}], got {described(byzantine)}")
        byzantine = byzantine.to(honest.device)
        if byzantine.all():
            raise ValueError(f"byzantine must leave a node honest, got all {n} nodes")
        sent = honest.clone()
        if byzantine.any():
            sent[byzantine] = lies(honest, byzantine, streams)
        return sent

    return attack
