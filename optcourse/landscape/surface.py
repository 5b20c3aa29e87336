r"""The loss on a plane through the parameters of a network: f(θ + α d₁ + β d₂) on a grid of (α, β).

>>> import torch
>>> from optcourse.models import softmax_regression
>>> model, x = softmax_regression(2, 3), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
>>> directions = random_directions(model, seed=0)
>>> plane = surface(model, torch.nn.functional.cross_entropy, (x, torch.tensor([0, 2])), directions, points=5)
>>> plane.values.shape, plane.minima
((5, 5), 0)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor, nn

from optcourse.arguments import choice, integer, real
from optcourse.landscape.objective import evaluation, objective
from optcourse.models.rows import Loss, apply, flat_parameters, losses_of
from optcourse.plotting import Region
from optcourse.runtime import progress

SALT = int.from_bytes(b"plane")
#: Bytes of the largest array of a batched evaluation, by type of device: on a processor about what a cache holds.
MEMORY = {"cpu": 2**22, "other": 2**28}
#: At most so many points together; more do not help.
MOST = {"cpu": 256, "other": 4096}


@dataclass(frozen=True)
class Plane:
    """Losses on a plane: ``values[i, j]`` is the loss at ``center + alphas[i] d_1 + betas[j] d_2``.

    It has a ``value`` and a ``region``, as the surfaces of :mod:`optcourse.problems` do, so that
    :func:`optcourse.plotting.contour`, :func:`optcourse.landscape.draw` and the player take it as it is.
    """

    alphas: np.ndarray
    betas: np.ndarray
    values: np.ndarray
    #: Where the directions start, ``[d]``, and the two of them, ``[2, d]``.
    center: Tensor
    directions: Tensor
    #: ``"batched"``, or ``"one by one"`` and why.
    way: str

    @property
    def region(self) -> Region:
        """The ranges of α and β."""
        return (self.alphas[0], self.alphas[-1]), (self.betas[0], self.betas[-1])

    def value(self, points: ArrayLike) -> np.ndarray:
        """The loss at (α, β) ``[..., 2]``, linear between the points of the grid; its maximum where it overflowed."""
        if not np.isfinite(self.values).any():
            raise ValueError("the plane holds no finite loss")
        finite = np.where(np.isfinite(self.values), self.values, self.values[np.isfinite(self.values)].max())
        return RegularGridInterpolator((self.alphas, self.betas), finite)(np.asarray(points, dtype=float))

    def coordinates(self, parameters: Tensor) -> np.ndarray:
        """:func:`coordinates` in this plane."""
        return coordinates(parameters, self.center, self.directions)

    @property
    def minima(self) -> int:
        """The number of points inside the grid that are strictly lower than all their eight neighbours."""
        z = self.values
        rows, columns = z.shape
        around = [(i, j) for i, j in itertools.product(range(3), range(3)) if (i, j) != (1, 1)]
        neighbours = [z[i : rows - 2 + i, j : columns - 2 + j] for i, j in around]
        return int((z[1:-1, 1:-1] < np.min(neighbours, axis=0)).sum())

    @property
    def curvatures(self) -> np.ndarray:
        """Both eigenvalues, the smaller first, ``[p - 2, p - 2, 2]``, of the Hessian by finite differences."""
        z = np.where(np.isfinite(self.values), self.values, np.nan)
        h, k = (np.diff(axis[:2])[0] for axis in (self.alphas, self.betas))
        H = np.empty((z.shape[0] - 2, z.shape[1] - 2, 2, 2))
        H[..., 0, 0] = (z[2:, 1:-1] - 2 * z[1:-1, 1:-1] + z[:-2, 1:-1]) / h**2
        H[..., 1, 1] = (z[1:-1, 2:] - 2 * z[1:-1, 1:-1] + z[1:-1, :-2]) / k**2
        H[..., 0, 1] = H[..., 1, 0] = (z[2:, 2:] - z[2:, :-2] - z[:-2, 2:] + z[:-2, :-2]) / (4 * h * k)
        return np.linalg.eigvalsh(H) if np.isfinite(H).all() else np.full(H.shape[:-1], np.nan)

    @property
    def roughness(self) -> float:
        """Negative curvature in units of positive: rms(λ⁻) / rms(λ⁺) over the grid, λ⁻ = min(λ, 0) of the smaller
        eigenvalue and λ⁺ = max(λ, 0) of the larger one. 0 for a convex quadratic, and small for what else is convex;
        NaN where the loss overflowed."""
        low, high = np.moveaxis(self.curvatures, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):  # a concave plane is infinitely rough, a flat one NaN
            return float(np.sqrt(np.square(np.minimum(low, 0)).mean() / np.square(np.maximum(high, 0)).mean()))


def surface(
    model: nn.Module,
    loss: Loss,
    data: tuple[Tensor, Tensor],
    directions: Tensor | Sequence[Tensor],
    *,
    span: float | Region = 1.0,
    points: int = 51,
    batch_norm: str = "train",
) -> Plane:
    """The loss on the plane through the parameters of ``model`` along two ``directions`` ``[2, d]``.

    ``loss(scores, y)`` is a mean over ``data = (x, y)``. α and β take ``points`` equidistant values each, in
    [−span, span] or in the two intervals of ``span = ((a0, a1), (b0, b1))``. Everything is in evaluation mode, except
    that ``batch_norm="train"`` lets batch norm use the statistics of x at every point of the plane (training sees
    this function); ``"eval"`` keeps the running ones, which were made for the center.

    Many points are evaluated together, as rows of :mod:`optcourse.models.rows`; a module that cannot be evaluated so,
    or whose loss at the center comes out differently so, goes point by point. ``way`` of the result says which.
    Parameters, buffers and modes stay as they are, also when the evaluation is interrupted.

    Raises ``ValueError`` for directions of another shape, not finite or on one line, x and y of different lengths,
    an empty span, fewer than three points, and a model without parameters.
    """
    f, center = objective(model, loss, data), flat_parameters(model)
    D = _directions(directions, center)
    integer("points", points, 3)
    (a0, a1), (b0, b1) = _region(span)
    alphas, betas = np.linspace(a0, a1, points), np.linspace(b0, b1, points)
    grid = torch.cartesian_prod(*(torch.as_tensor(axis).to(center) for axis in (alphas, betas)))

    with evaluation(model, batch_norm), torch.no_grad():
        at_center, size = _largest(model, f, center)
        together, way = _batched(model, loss, data, center, at_center)
        where = "cpu" if center.device.type == "cpu" else "other"
        chunk = max(1, min(MOST[where], MEMORY[where] // (size * center.element_size()))) if together else 1
        evaluate = together or (lambda w: f(w[0])[None])
        w, found = center.new_empty(chunk, len(center)), []  # one array for all chunks: pages of a new one cost more
        for ab in progress(grid.split(chunk), desc="loss surface"):
            at = torch.addcmul(center, ab[:, :1], D[0], out=w[: len(ab)]).addcmul_(ab[:, 1:], D[1])
            found.append(evaluate(at))
    values = torch.cat(found).double().cpu().view(points, points).numpy()
    return Plane(alphas, betas, values, center, D, way)


def _batched(
    model: nn.Module, loss: Loss, data: tuple[Tensor, Tensor], center: Tensor, at_center: Tensor
) -> tuple[Callable[[Tensor], Tensor] | None, str]:
    """Losses at the rows of a matrix, unless that fails or differs from the loss at the center; and the way it goes."""
    x, y = data

    def together(w: Tensor) -> Tensor:
        return losses_of(loss, apply(model, w, x.expand(len(w), *x.shape)), y.expand(len(w), *y.shape))

    try:
        found = together(center[None])[0]
    except Exception as error:  # whatever a module may raise where it meets rows
        return None, f"one by one: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    eps = torch.finfo(center.dtype).eps ** 0.5
    if found.shape != at_center.shape or not torch.allclose(found, at_center, rtol=eps, atol=eps, equal_nan=True):
        return None, f"one by one: together, the loss at the center would be {found} and not {at_center.item()}"
    return together, "batched"


def _largest(model: nn.Module, f: Callable[[Tensor], Tensor], center: Tensor) -> tuple[Tensor, int]:
    """The loss at the center, and the numbers in the largest array of a point: parameters, activations, patches."""
    sizes = [len(center)]

    def look(module: nn.Module, _: tuple, output: object) -> None:
        if isinstance(output, Tensor):
            patches = 1
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                patches = module.weight[0].numel() / module.out_channels
            sizes.append(int(output.numel() * max(1, patches)))

    handles = [module.register_forward_hook(look) for module in model.modules()]
    try:
        return f(center), max(sizes)
    finally:
        for handle in handles:
            handle.remove()


# ------------------------------------------------------------------------------------ directions


def random_directions(model: nn.Module, seed: int = 0) -> Tensor:
    """Two directions ``[2, d]`` of independent standard normal numbers, in the order of ``model.parameters()``."""
    return torch.stack([torch.cat([u.flatten() for _, u in pairs]) for pairs in _drawn(model, seed)])


def filter_normalized(model: nn.Module, seed: int = 0, *, vectors: str = "zero") -> Tensor:
    r"""Two random directions ``[2, d]`` in which every filter is as long as the model's: d ← d ‖θ‖ / ‖d‖.

    A filter is what makes one output: one entry along the first axis of a weight. So the plane does not change when a
    layer before a norm (or before another one, with ReLU between) is rescaled, and neither do distances in it.
    Parameters with at most one axis (biases, gains of norm layers) have no filters: ``vectors="zero"`` leaves them
    where they are, ``"normalized"`` takes each as one filter.

    Source: Li, Xu, Taylor, Studer and Goldstein, Visualizing the Loss Landscape of Neural Nets (NeurIPS 2018),
    section 4.
    """
    choice("vectors", vectors, ("zero", "normalized"))

    def normalized(p: Tensor, u: Tensor) -> Tensor:
        if p.dim() <= 1:
            return torch.zeros_like(u) if vectors == "zero" else u * p.norm() / u.norm()
        lengths = (t.flatten(1).norm(dim=1, keepdim=True) for t in (p, u))
        own, drawn = lengths
        return u.flatten(1) * (own / drawn)

    return torch.stack([torch.cat([normalized(p, u).flatten() for p, u in pairs]) for pairs in _drawn(model, seed)])


def pca_directions(trajectory: Tensor | Sequence[Tensor]) -> tuple[Tensor, float]:
    """Two orthonormal directions ``[2, d]`` of the plane through the last of the points ``[k, d]`` that is nearest to
    all of them, and the share of the squared distances from the last point that lies in this plane.

    On both axes the first point has a coordinate >= 0. Raises ``ValueError`` for points that are not finite or that lie
    on one line.

    Source: Li et al. 2018, section 7 (they, too, take differences from the last point).
    """
    points = torch.stack(list(trajectory)) if not isinstance(trajectory, Tensor) else trajectory
    if points.dim() != 2 or len(points) < 3 or not torch.isfinite(points).all():
        raise ValueError(f"trajectory must hold at least three finite points [k, d], got shape {list(points.shape)}")
    away = (points - points[-1]).double()
    _, S, Vt = torch.linalg.svd(away, full_matrices=False)
    if len(S) < 2 or not S[1] > 1e-6 * S[0]:
        raise ValueError("trajectory must not lie on one line: it spans no plane")
    signs = torch.where(Vt[:2] @ away[0] < 0, -1.0, 1.0)
    return (signs[:, None] * Vt[:2]).to(points), float(S[:2].square().sum() / S.square().sum())


def coordinates(parameters: Tensor, center: Tensor, directions: Tensor) -> np.ndarray:
    """(α, β) ``[..., 2]`` of the point ``center + α d_1 + β d_2`` that is next to parameters ``[..., d]``."""
    D = directions.double()
    away = parameters.to(D) - center.to(D)
    return torch.linalg.solve(D @ D.T, (away @ D.T).unsqueeze(-1)).squeeze(-1).cpu().numpy()


def _drawn(model: nn.Module, seed: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Twice the parameters, each with normal numbers of its shape, the same for every dtype and device."""
    generator = torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1) ^ SALT)
    parameters = [p.detach() for p in model.parameters()]
    for _ in range(2):
        yield [(p, torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)) for p in parameters]


def _directions(directions: Tensor | Sequence[Tensor], center: Tensor) -> Tensor:
    D = directions if isinstance(directions, Tensor) else torch.stack(list(directions))
    if D.shape != (2, len(center)) or not torch.isfinite(D).all():
        raise ValueError(f"directions must be finite and of shape {[2, len(center)]}, got shape {list(D.shape)}")
    gram = D.double() @ D.double().T
    if not torch.linalg.det(gram) > 1e-12 * gram[0, 0] * gram[1, 1]:
        raise ValueError("directions must span a plane, got two on one line (or zero)")
    return D.detach().to(center)


def _region(span: float | Region) -> Region:
    if np.ndim(span) == 0:
        half = real("span", span, 0.0, open_low=True)
        return (-half, half), (-half, half)
    ranges = np.asarray(real("span", span))
    if ranges.shape != (2, 2) or not (ranges[:, 0] < ranges[:, 1]).all():
        raise ValueError(f"span must be a number > 0 or ((a0, a1), (b0, b1)) with a0 < a1 and b0 < b1, got {span!r}")
    (a0, a1), (b0, b1) = ranges.tolist()
    return (a0, a1), (b0, b1)
