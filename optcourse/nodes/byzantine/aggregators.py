r"""Robust aggregation: one vector from the n vectors that the nodes sent, f = ``n_byzantine`` of which may be anything.

Every rule is called ``rule(X, n_byzantine)`` with X of shape [n, d], a row per node, and returns a vector [d] in the
dtype of X; no rule knows *which* rows are Byzantine. ``AGGREGATORS`` lists the rules by the names that
:func:`optcourse.theory.distributed.byzantine.kappa` knows as well: it bounds how far each ends from the honest mean.

Rules that need distances between rows take them from one Gram matrix, n^2 numbers instead of n d in every later step.

All rules raise ``ValueError`` when X is not a dense 2-D floating-point tensor with at least one entry, when a row is
not finite (the message names the node), and unless n_byzantine is in 0..f with f the rule's
:func:`~optcourse.theory.distributed.byzantine.breakdown`; ``TypeError`` when X is no tensor (but a list or an array),
and when n_byzantine is no integer.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from optcourse.arguments import choice, integer, number
from optcourse.nodes.byzantine.history import remembering
from optcourse.nodes.byzantine.subsets import mda, meamed, monna
from optcourse.nodes.byzantine.vectors import (
    centred_gram,
    check_rule,
    check_vectors,
    coordinate_median,
    distances,
    lengths,
    sorted_columns,
)
from optcourse.nodes.byzantine.wrappers import Aggregator, bucketing, nearest_neighbour_mixing
from optcourse.nodes.makers import maker

__all__ = ["AGGREGATORS", "Aggregator", "bucketing", "mda", "meamed", "monna", "nearest_neighbour_mixing"]


def mean(X: Tensor, n_byzantine: int) -> Tensor:
    """The average of all rows, [d]: what a single Byzantine node moves anywhere.

    The one rule whose breakdown point, 0, is not enforced, so that its failure can be shown: n_byzantine in 0..n.

    >>> mean(torch.tensor([[0.0], [1.0], [1000.0]]), n_byzantine=1)
    tensor([333.6667])
    """
    integer("n_byzantine", n_byzantine, 0, len(check_vectors(X)))
    return X.mean(0)


def median(X: Tensor, n_byzantine: int) -> Tensor:
    """The median of every coordinate, [d]; for even n the average of the two middle values (torch takes the lower).

    Source: Yin, Chen, Ramchandran & Bartlett 2018, "Byzantine-robust distributed learning", Definition 1.

    >>> median(torch.tensor([[0.0], [1.0], [3.0], [1000.0]]), n_byzantine=1)
    tensor([2.])
    """
    check_rule(X, n_byzantine, "median")
    return coordinate_median(X)


def trimmed_mean(X: Tensor, n_byzantine: int) -> Tensor:
    """In every coordinate the average without the f largest and the f smallest values, [d].

    Source: Yin, Chen, Ramchandran & Bartlett 2018, Definition 2, with f/n as the trimmed fraction.

    >>> trimmed_mean(torch.tensor([[0.0], [1.0], [3.0], [1000.0]]), n_byzantine=1)
    tensor([2.])
    """
    f = check_rule(X, n_byzantine, "trimmed_mean")
    return sorted_columns(X)[f : len(X) - f].mean(0)


def krum(X: Tensor, n_byzantine: int, neighbours: str = "honest") -> Tensor:
    r"""The row with the least score, [d]: the sum of squared distances to its nearest rows; the first one of a tie.

    ``neighbours="honest"`` counts the n-f nearest rows, itself included (as many as there are honest nodes);
    ``"paper"`` the n-f-2 nearest others, which asks for 2f + 2 < n: ``krum_paper`` in ``AGGREGATORS``.

    Source: Blanchard, El Mhamdi, Guerraoui & Stainer 2017, "Machine learning with adversaries", Section 4.

    >>> krum(torch.tensor([[0.0], [1.0], [1.5], [1000.0]]), n_byzantine=1)
    tensor([1.])
    """
    return multi_krum(X, n_byzantine, 1, neighbours)


def multi_krum(X: Tensor, n_byzantine: int, m: int | None = None, neighbours: str = "honest") -> Tensor:
    r"""The average of the m rows with the least scores of :func:`krum`, [d]; m in 1..n-f, by default n-f.

    The constant of :func:`krum` holds for every such m: the m least scores have at most the honest average, and the
    square root in Minkowski's inequality is concave.

    Source: Blanchard, El Mhamdi, Guerraoui & Stainer 2017, Section 5. Raises ``ValueError`` for an m out of range.

    >>> multi_krum(torch.tensor([[0.0], [1.0], [1.5], [1000.0]]), n_byzantine=1, m=2)
    tensor([1.2500])
    """
    paper = choice("neighbours", neighbours, ("honest", "paper")) == "paper"
    f = check_rule(X, n_byzantine, "krum_paper" if paper else "krum")
    n = len(X)
    m = n - f if m is None else integer("m", m, 1, n - f)
    if paper and n < 3:
        raise ValueError(f"neighbours must be 'honest' for fewer than 3 rows, got 'paper' and {n} rows")
    counted = n - f - 1 if paper else n - f  # the row itself, at distance 0, is one of them
    # Sorted, so that a sum does not depend on the order of the nodes.
    scores = distances(centred_gram(X)[2]).sort(1).values[:, :counted].sum(1)
    return X[scores.argsort(stable=True)[:m]].mean(0)


def geometric_median(X: Tensor, n_byzantine: int, tolerance: float = 1e-8, iterations: int = 1000) -> Tensor:
    r"""The point with the least sum of distances to the rows, :math:`\arg\min_z\sum_i\|x_i-z\|`, [d].

    A row is returned as it is when it is the minimizer: when the unit vectors from it to the others add up to at most
    the number of rows at its place. Otherwise Weiszfeld's iteration, z <- mean of the rows with weights 1/||x_i - z||,
    descends from the best row; it stays below the values at all rows, so none of these distances becomes zero. It
    stops when the average unit vector is shorter than ``tolerance``, or after ``iterations`` steps; stopped by the
    first, the sum of distances is at most a factor 1/(1 - 2 tolerance) above the least.

    Source: Vardi & Zhang 2000, "The multivariate L1-median and associated data depth", for the step that leaves a row;
    Pillutla, Kakade & Harchaoui 2022, "Robust aggregation for federated learning", for the use.
    Raises ``ValueError`` unless 0 < tolerance < 1/2 and iterations >= 1.

    >>> geometric_median(torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]]), n_byzantine=1)
    tensor([0., 0.])
    """
    check_rule(X, n_byzantine, "geometric_median")
    number("tolerance", tolerance, 0, 0.5, open_low=True, open_high=True)
    center, Y, gram, _ = centred_gram(X)
    # n numbers per iteration: too little work for an accelerator.
    w = _weiszfeld(gram.detach().cpu(), tolerance, integer("iterations", iterations, 1)).to(X.device)
    row = int(w.argmax())
    return X[row].clone() if w[row] == 1 else (center + w @ Y).to(X.dtype)


def centered_clipping(
    X: Tensor, n_byzantine: int, center: Tensor | None = None, radius: float | str = "median", iterations: int = 3
) -> Tensor:
    r"""v <- v + mean_i clip(x_i - v) repeated, [d]; clip shortens what is longer than ``radius`` tau to length tau.

    .. math:: v \leftarrow v+\frac1n\sum_i(x_i-v)\min\Big(1,\frac{\tau}{\|x_i-v\|}\Big)

    ``center`` [d] is the first v; by default the coordinate-wise median, in every call anew. The published rule goes on
    from what it gave in the round before, :func:`clipping_from_last`, and has a fixed radius. ``radius`` is a length in
    the units of X, or ``"median"``, which is ours: in every step the median of the distances ||x_i - v||, which f < n/2
    attackers cannot push beyond the largest honest distance. The theory's kappa is for the radius
    :func:`~optcourse.theory.distributed.byzantine.clipping_radius`, which a server cannot know.

    Source: Karimireddy, He & Jaggi 2021, "Learning from history for Byzantine robust optimization", Algorithm 2.
    Raises ``ValueError`` for a center of another shape or not finite, a radius that is not > 0, iterations < 1;
    ``TypeError`` for a center or a radius that is not made of numbers.

    >>> centered_clipping(torch.tensor([[0.0], [1.0], [2.0], [1000.0]]), 1, torch.zeros(1), radius=2.0, iterations=1)
    tensor([1.2500])
    """
    check_rule(X, n_byzantine, "centered_clipping")
    if isinstance(radius, str):
        choice("radius", radius, ("median",))
    else:
        radius = number("radius", radius, 0, open_low=True)
    try:
        v = coordinate_median(X) if center is None else torch.as_tensor(center, device=X.device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"center must be numbers of shape {list(X.shape[1:])}, got {center!r}") from None
    if v.shape != X.shape[1:] or not v.isfinite().all():
        raise ValueError(f"center must be finite with shape {list(X.shape[1:])}, got shape {list(v.shape)}: {center}")
    v = v.double()
    for _ in range(integer("iterations", iterations, 1)):
        offsets = X.double() - v
        far = lengths(offsets)
        tau = coordinate_median(far[:, None]) if isinstance(radius, str) else radius
        v = v + torch.where(far > tau, tau / far, 1) @ offsets / len(X)
    return v.to(X.dtype)


@maker
def clipping_from_last(radius: float | str = "median", iterations: int = 1) -> Aggregator:
    r"""Centered clipping with memory: every call starts at the vector that the last one gave, and the first one at 0.

    The rule has memory: make a new one for each run (``robust_sgd`` begins anew by itself, and its checkpoints hold the
    vector). It takes and raises what :func:`centered_clipping` does, here and in the call; rows of another length than
    before are refused as well. The kept center and the one iteration are the paper's (the released code of its
    successor on bucketing has three). Its radius is fixed, and fits the gradients of its networks: 10, with momentum
    beta and sums of gradients 10/(1-beta). The default ``"median"`` is ours, without a proof.

    Source: Karimireddy, He & Jaggi 2021, "Learning from history for Byzantine robust optimization", Algorithm 2.

    >>> rule = clipping_from_last(radius=2.0)
    >>> [float(rule(torch.tensor([[4.0], [4.0], [-4.0]]), n_byzantine=1)) for _ in range(4)]
    [0.6666666865348816, 1.3333333730697632, 2.0, 2.6666667461395264]
    """
    history: list[Tensor] = []

    def rule(X: Tensor, n_byzantine: int) -> Tensor:
        d = check_vectors(X).shape[1]
        if history and len(history[0]) != d:
            raise ValueError(f"X must have rows of {len(history[0])} numbers as before, got {d}: make a new rule")
        center = history[0] if history else X.new_zeros(d)
        history[:] = [centered_clipping(X, n_byzantine, center, radius, iterations)]
        return history[0]

    centered_clipping(torch.zeros(1, 1), 0, None, radius, iterations)  # refuses bad settings now
    return remembering(rule, history)


def squared_distances(X: Tensor) -> Tensor:
    r"""All ||x_i - x_j||^2 as float64 [n, n], from one Gram matrix; exactly 0 on the diagonal.

    Distances below 1e-7 of the rows' distance from the coordinate-wise median count as 0: the Gram matrix cannot tell
    them apart. Raises ``ValueError`` naming the node whose square overflows float64 in units of the typical row.

    >>> squared_distances(torch.tensor([[0.0], [1.0], [3.0]]))
    tensor([[0., 1., 9.],
            [1., 0., 4.],
            [9., 4., 0.]], dtype=torch.float64)
    """
    _, _, gram, unit = centred_gram(check_vectors(X))
    return distances(gram) * unit * unit


#: The rules by name; the names of ``optcourse.theory.distributed.byzantine.RULES``, and ``multi_krum``.
AGGREGATORS: dict[str, Aggregator] = {
    "mean": mean,
    "trimmed_mean": trimmed_mean,
    "median": median,
    "geometric_median": geometric_median,
    "krum": krum,
    "krum_paper": partial(krum, neighbours="paper"),
    "multi_krum": multi_krum,
    "centered_clipping": centered_clipping,
    "mda": mda,
    "monna": monna,
    "meamed": meamed,
}


def _weiszfeld(gram: Tensor, tolerance: float, iterations: int) -> Tensor:
    """Weights w [n], of sum 1, of the geometric median sum_i w_i y_i of rows with Gram matrix y_i . y_j."""
    n, squares = len(gram), gram.diagonal()
    D2 = distances(gram)
    # Row k of U weighs the rows in the sum of unit vectors from y_k to the rows elsewhere, of length force[k].
    U = torch.where(D2 > 0, D2.rsqrt(), 0)
    U -= torch.diag(U.sum(1))
    force = ((U @ gram) * U).sum(1).clamp(min=0).sqrt()
    here = (D2 == 0).sum(1)
    minimizer = force <= here * (1 + 1e-9)
    k = int(torch.where(minimizer.any() & ~minimizer, torch.inf, D2.sqrt().sum(1)).argmin())
    w = torch.nn.functional.one_hot(torch.tensor(k), n).to(gram)
    if minimizer[k]:
        return w
    # The full step, to the weighted mean of the rows elsewhere, could end beside a worse row and slowly leave it.
    w += U[k] / -U[k, k] * (1 - here[k] / force[k])
    products, lengths2, mix = gram.numpy(), squares.numpy(), w.numpy()  # torch takes much longer for so few numbers
    for _ in range(iterations):
        # Of y_i . y_j, not of squared distances: those of a far row would swamp the near ones.
        inner = products @ mix
        pull = 1 / np.sqrt(np.maximum(lengths2 - 2 * inner + mix @ inner, np.finfo(float).tiny))
        total = pull.sum()
        change = pull / total - mix
        mix = mix + change
        if total * np.sqrt(max(change @ products @ change, 0.0)) <= tolerance * n:
            break
    return torch.from_numpy(mix)
