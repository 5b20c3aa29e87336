r"""Curvature without the Hessian: products H v, and from them eigenvalues, the spectral density and the trace.

>>> H = torch.diag(torch.tensor([5.0, 1.0, -2.0], dtype=torch.float64))
>>> eigenvalues(lambda v: H @ v, d=3, k=2).values.round(6)
array([5., 1.])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel  # of attention's kernels one has second derivatives

from optcourse.arguments import choice, integer, real
from optcourse.landscape.objective import evaluation, objective
from optcourse.measure import Estimate, mean
from optcourse.models.rows import Loss, apply_one, flat_parameters, targets
from optcourse.runtime import progress

#: v [d] -> A v [d] for a symmetric matrix A.
Product = Callable[[Tensor], Tensor]
WHICH = ("largest", "smallest", "magnitude")
#: Products at a time on a CPU: what these need fits a cache.
TOGETHER = 32


def hessian_vector_product(
    model: nn.Module, loss: Loss, data: tuple[Tensor, Tensor], *, batch_norm: str = "train"
) -> Product:
    r"""``v -> H v``, the Hessian :math:`H = \nabla^2 f` of the loss at the present parameters, for any module and loss.

    The gradient is computed here, once, and kept as a graph; each product differentiates :math:`\langle \nabla f, v
    \rangle` (Pearlmutter 1994), at the price of about two gradients. v ``[d]``, in the order of ``model.parameters()``;
    ``[k, d]`` gives k products, so ``product(torch.eye(d))`` is H. Result in the type and on the device of v, computed
    in those of the model. Parameters that change later do not change the product. Modes as in
    :func:`optcourse.landscape.surface`: evaluation, and ``batch_norm`` says which statistics.

    Raises ``ValueError`` for v of another length, x and y of different lengths, and a model without parameters, and
    ``ArithmeticError`` where u'Hv and v'Hu differ: torch's fused ``weight_norm`` has wrong second derivatives.
    """
    f, w = objective(model, loss, data), flat_parameters(model).requires_grad_()
    with evaluation(model, batch_norm), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        (gradient,) = torch.autograd.grad(f(w), w, create_graph=True)

    def product(v: Tensor) -> Tensor:
        if v.dim() == 2 and len(v) > TOGETHER and w.device.type == "cpu":
            return torch.cat([product(part) for part in v.split(TOGETHER)])
        u = _vector(v, w)
        if not gradient.requires_grad:  # a linear function
            return torch.zeros_like(v)
        (result,) = torch.autograd.grad(gradient, w, u, retain_graph=True, is_grads_batched=v.dim() == 2)
        return result.to(v)

    u, v = torch.randn(2, len(w), generator=_generator(0), dtype=torch.float64).to(w)
    Hu, Hv = product(u), product(v)
    if (u @ Hv - v @ Hu).abs() > torch.finfo(w.dtype).eps ** 0.5 * Hu.norm() * v.norm():
        raise ArithmeticError("this Hessian is not symmetric: torch's second derivatives of some layer must be wrong")
    return product


def gauss_newton_product(
    model: nn.Module, loss: Loss, data: tuple[Tensor, Tensor], *, batch_norm: str = "train"
) -> Product:
    r"""``v -> G v``, the Gauss–Newton matrix :math:`G = J^\top \nabla^2_s \ell \, J` with the scores' Jacobian J.

    It is H without the curvature of the network, and positive semidefinite for a loss that is convex in the scores.
    Arguments and errors as for :func:`hessian_vector_product`.

    Source: Schraudolph, Fast curvature matrix-vector products for second-order gradient descent (Neural Comp. 2002).
    """
    f, w, (x, y) = objective(model, loss, data), flat_parameters(model).requires_grad_(), data
    with evaluation(model, batch_norm), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        f(w)  # refuses what hessian_vector_product does
        scores = apply_one(model, w, x)
        s = scores.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(s, targets(y, loss)), s, create_graph=True)
        dual = torch.zeros_like(scores).requires_grad_()
        (Jt_dual,) = torch.autograd.grad(scores, w, dual, create_graph=True)  # linear in dual: its derivative is J

    def product(v: Tensor) -> Tensor:
        if v.dim() == 2 and len(v) > TOGETHER and w.device.type == "cpu":
            return torch.cat([product(part) for part in v.split(TOGETHER)])
        u, batched = _vector(v, w), v.dim() == 2
        if not slope.requires_grad:
            return torch.zeros_like(v)
        (Jv,) = torch.autograd.grad(Jt_dual, dual, u, retain_graph=True, is_grads_batched=batched)
        (HJv,) = torch.autograd.grad(slope, s, Jv, retain_graph=True, is_grads_batched=batched)
        (result,) = torch.autograd.grad(scores, w, HJv, retain_graph=True, is_grads_batched=batched)
        return result.to(v)

    return product


def _vector(v: Tensor, w: Tensor) -> Tensor:
    if v.dim() not in (1, 2) or v.shape[-1] != len(w):
        raise ValueError(f"v must have shape [{len(w)}] or [k, {len(w)}], got {list(v.shape)}")
    return v.to(w)


# ------------------------------------------------------------------------------------------ Lanczos


class Tridiagonal(NamedTuple):
    """What m products tell of A: Q A Qᵀ is tridiagonal, with ``diagonal`` α ``[m]`` and β ``[m]`` beside it.

    The last β is the norm of what is left over, and ``Q`` ``[m, d]`` has orthonormal rows.
    """

    diagonal: np.ndarray
    beside: np.ndarray
    Q: Tensor

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values in ascending order ``[m]``, their vectors in columns ``[m, m]``, and their residuals ``[m]``.

        Within its residual ‖A u − θ u‖ = β_m |s_m| of each Ritz value θ there is an eigenvalue of A.
        """
        values, S = eigh_tridiagonal(self.diagonal, self.beside[:-1])
        return values, S, self.beside[-1] * np.abs(S[-1])


def lanczos(product: Product, start: Tensor, steps: int) -> Iterator[Tridiagonal]:
    r"""Lanczos' method from ``start`` ``[d]``: what is known after 1, 2, ... products, at most ``steps``.

    .. math::
        \beta_k q_{k+1} = A q_k - \alpha_k q_k - \beta_{k-1} q_{k-1}, \qquad \alpha_k = \langle q_k, A q_k \rangle

    In exact arithmetic the q are orthonormal; with rounding they are not for long, and eigenvalues that were found
    come back as ghosts. So each is made orthogonal to all others once more. In float64; memory: steps · d numbers.
    """
    start = start.double()
    integer("steps", steps, 1)
    if start.dim() != 1 or not 0 < start.norm() < torch.inf:
        raise ValueError(f"start must be a finite vector that is not zero, got shape {list(start.shape)}")
    Q = start.new_empty(min(steps, len(start)), len(start))
    q, alphas, betas = start / start.norm(), [], []
    for k in range(len(Q)):
        Q[k] = q
        z = product(q).to(q)
        if not torch.isfinite(z).all():
            raise ValueError(f"product must return finite numbers, got NaN or infinity in product {k + 1}")
        alphas.append(float(q @ z))
        z = z - alphas[k] * q - (betas[k - 1] * Q[k - 1] if k else 0)
        z = z - Q[: k + 1].T @ (Q[: k + 1] @ z)
        betas.append(float(z.norm()))
        ended = betas[k] <= 1e-13 * (np.abs(alphas).max() + np.max(betas))  # A maps the space of the q into itself
        betas[k] = 0.0 if ended or k + 1 == len(start) else betas[k]
        yield Tridiagonal(np.array(alphas), np.array(betas), Q[: k + 1])
        if ended:
            return
        q = z / betas[k]


class Eigenpairs(NamedTuple):
    """``values`` ``[k]``, the most extreme first, their ``vectors`` ``[k, d]`` of length 1, ``residuals`` ``[k]``:
    an eigenvalue lies at most so far from each value; and the number of ``products`` that it took."""

    values: np.ndarray
    vectors: Tensor
    residuals: np.ndarray
    products: int


def eigenvalues(
    product: Product,
    d: int,
    k: int = 1,
    which: str = "largest",
    *,
    tolerance: float = 1e-6,
    steps: int = 300,
    seed: int = 0,
) -> Eigenpairs:
    """The k eigenvalues of a symmetric matrix ``[d, d]`` at one end of its spectrum, by Lanczos' method.

    ``which`` end: ``"largest"``, ``"smallest"`` (both with their sign), or ``"magnitude"``. Stops when the k residuals
    are at most ``tolerance`` times the largest Ritz value's modulus; errors of eigenvalues are then usually about
    its square. Of an eigenvalue that occurs several times one copy is found. Raises ``ArithmeticError`` where
    ``steps`` products do not suffice, ``ValueError`` for k > d and other arguments out of range.
    """
    integer("d", d, 1)
    integer("k", k, 1, d)
    choice("which", which, WHICH)
    real("tolerance", tolerance, 0.0, open_low=True)
    start = torch.randn(d, generator=_generator(seed), dtype=torch.float64)
    order = {"largest": lambda t: -t, "smallest": lambda t: t, "magnitude": lambda t: -np.abs(t)}[which]
    most = min(d, integer("steps", steps, k))
    m, residual = 0, np.inf
    for found in progress(lanczos(product, start, most), desc="Lanczos", total=most):
        m = len(found.diagonal)
        if m < k or (m > 50 and m % 10 and m < most and found.beside[-1]):  # now and then is enough
            continue
        values, S, residuals = found.ritz()
        best = np.argsort(order(values))[:k]
        residual = residuals[best].max()
        if residual <= tolerance * np.abs(values).max():
            vectors = torch.as_tensor(S[:, best].T.copy()).to(found.Q) @ found.Q
            return Eigenpairs(values[best], vectors, residuals[best], m)
    raise ArithmeticError(
        f"after {m} products a residual of {residual:.2g} is left, more than tolerance={tolerance!r} allows: "
        "raise steps or tolerance; infinite is where fewer than k different eigenvalues were met"
    )


# ------------------------------------------------------------------------------------- the whole spectrum


def hutchinson_trace(product: Product, d: int, probes: int = 10, seed: int = 0) -> Estimate:
    r"""The trace from :math:`E\, v^\top A v` over random signs v, with Student's interval over the ``probes`` >= 2.

    The variance of one probe is :math:`2(\|A\|_F^2 - \sum_i a_{ii}^2)`. Source: Hutchinson, A stochastic estimator of
    the trace of the influence matrix (1990).
    """
    integer("probes", probes, 2)
    return mean([float(v @ product(v).to(v)) for v in progress(_signs(d, probes, seed), desc="trace", total=probes)])


@dataclass(frozen=True)
class Density:
    """A spectral density as point masses, ``weights`` (their sum is 1) at ``nodes``.

    ``error`` estimates the expected Wasserstein-1 distance from the true density: from above, up to the ends of the
    spectrum, for which the outermost nodes stand.
    """

    nodes: np.ndarray
    weights: np.ndarray
    error: float

    def smooth(self, t: ArrayLike, width: float) -> np.ndarray:
        """The density at t with every point mass a Gaussian of standard deviation ``width``."""
        real("width", width, 0.0, open_low=True)
        z = (np.asarray(t, dtype=float)[..., None] - self.nodes) / width
        return (np.exp(-(z**2) / 2) @ self.weights) / (width * np.sqrt(2 * np.pi))

    def cumulative(self, t: ArrayLike) -> np.ndarray:
        """The share of eigenvalues <= t."""
        order = np.argsort(self.nodes)
        total = np.concatenate([[0.0], np.cumsum(self.weights[order])])
        return total[np.searchsorted(self.nodes[order], np.asarray(t, dtype=float), side="right")]


def spectral_density(product: Product, d: int, probes: int = 10, steps: int = 40, seed: int = 0) -> Density:
    r"""The density of the eigenvalues by stochastic Lanczos quadrature: ``probes`` times ``steps`` products.

    From random signs v (‖v‖² = d) m steps of Lanczos' method give the nodes and weights of Gauss' quadrature of the
    spectral measure :math:`\mu_v = \sum_i \langle v, u_i \rangle^2 \delta_{\lambda_i} / d`: nodes are Ritz values,
    weights squared first entries of their vectors. The mean over probes estimates :math:`\sum_i \delta_{\lambda_i}/d`.

    ``error``: with the spectrum in [a, b] and F the share of eigenvalues <= t, the Wasserstein-1 distance is in
    expectation at most

    .. math::
        \frac{\pi (b-a)}{4m} + \int_a^b \sqrt{\frac{2 F(t)(1-F(t))}{d \cdot \text{probes}}} dt
        \le (b-a) \Big( \frac{\pi}{4m} + \frac{1}{\sqrt{2 d \cdot \text{probes}}} \Big).

    The quadrature is exact for polynomials of degree 2m−1, which approximate a function of slope 1 within
    :math:`\pi(b-a)/(8m)` (Favard), on both sides. The second term: with P_t the projection onto eigenvectors up to t,
    :math:`v^\top P_t v / d` has variance :math:`2(\|P_t\|_F^2 - \sum_i (P_t)_{ii}^2)/d^2 \le 2F(1-F)/d`.

    Source: Golub and Welsch, Calculation of Gauss quadrature rules (1969); Ghorbani, Krishnan and Xiao, An
    Investigation into Neural Net Optimization via Hessian Eigenvalue Density (ICML 2019).
    """
    integer("d", d, 1)
    integer("probes", probes, 1)
    integer("steps", steps, 1)
    nodes, weights = [], []
    with progress(range(probes), desc="spectral density") as bar:
        for _, v in zip(bar, _signs(d, probes, seed), strict=True):
            *_, found = lanczos(product, v, steps)
            values, S, _ = found.ritz()
            nodes.append(values)
            weights.append(S[0] ** 2 / probes)
    x, p = np.concatenate(nodes), np.concatenate(weights)
    t = np.sort(x)
    F = Density(x, p, 0.0).cumulative(t[:-1])
    deviation = np.sqrt(np.maximum(2 * F * (1 - F), 0) / (d * probes))
    error = 0.0 if steps >= d else np.pi * np.ptp(t) / (4 * steps)
    return Density(x, p, float(error + deviation @ np.diff(t)))


def _signs(d: int, probes: int, seed: int) -> Iterator[Tensor]:
    generator = _generator(seed)
    for _ in range(probes):
        yield 2 * torch.randint(2, (d,), generator=generator).double() - 1


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1))
