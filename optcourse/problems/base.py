"""What every problem shares: shapes, constants, noise, and one formula for numpy and torch."""

from __future__ import annotations

import sys
from typing import Any, TypedDict

import numpy as np

from optcourse.arguments import choice, integer, nonnegative, real

NOISES = ("gaussian", "sign")


def namespace(x: Any) -> Any:
    """The module whose functions apply to ``x``: ``torch`` for a tensor, else ``numpy``.

    A tensor can only exist when torch has been imported, so this never imports it.
    """
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, torch.Tensor) else np


def as_like(constant: Any, x: Any) -> Any:
    """``constant`` as an array or tensor with the dtype (and device) of ``x``."""
    if namespace(x) is np:
        return np.asarray(constant, dtype=x.dtype)
    return sys.modules["torch"].as_tensor(constant, dtype=x.dtype, device=x.device)


def diagonal(h: Any) -> Any:
    """Diagonal matrices ``[..., d, d]`` from their diagonals ``[..., d]``."""
    return h[..., None] * as_like(np.eye(h.shape[-1]), h)


def floating(x: Any) -> Any:
    """``x`` as an array or tensor of floating point numbers; integers become float64."""
    if namespace(x) is not np and not x.is_complex():
        return x if x.is_floating_point() else x.double()
    try:
        array = np.asarray(x)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"x must be an array or a tensor of real numbers, got {x!r}")
    return array if array.dtype.kind == "f" else array.astype(float)


def vector(name: str, value: Any, dim: int | None = None, low: float = -np.inf) -> np.ndarray:
    """A float64 copy of ``value``, one number per coordinate; with ``dim`` a single number is repeated."""
    v = np.array(real(name, value, low), dtype=float)
    if dim is not None and v.ndim == 0:
        v = np.full(dim, v)
    if v.ndim != 1 or v.size == 0 or (dim is not None and v.size != dim):
        expected = "a non-empty vector" if dim is None else f"a number or a vector of {dim} numbers"
        raise ValueError(f"{name} must be {expected}, got shape {v.shape}")
    return v


class Noise(TypedDict, total=False):
    """Keyword arguments of every problem with additive gradient noise (see :class:`Problem`)."""

    sigma2: float
    noise_variances: Any
    noise: str


class Problem:
    """A function f on R^d with exactly known constants and a gradient oracle with exactly known noise.

    Points are numpy arrays or torch tensors ``[..., d]``; leading axes are independent copies
    (seeds, nodes), so a hundred seeds run in one step. Results keep type, dtype and device.

    ==============  =====================================================================================
    ``dim``         number d of coordinates
    ``L``           smallest constant with ‖∇f(x)−∇f(y)‖ ≤ L‖x−y‖ on all of R^d; None: only local (``local_L``)
    ``convex``      whether f is convex
    ``mu``          convex f: strong convexity (0: none); otherwise the best Polyak–Łojasiewicz constant,
                    ‖∇f‖² ≥ 2μ(f−f*) everywhere, or None where there is no positive one
    ``fstar``       infimum f*; None: f is unbounded below, or f* has no closed form
    ``minimizer``   a point ``[d]`` where f = f* (one of them where there are several); None: there is none
    ``sigma2``      E‖g−∇f(x)‖² of one sample given x, total over coordinates; None: it depends on x
    ``G2``          smallest bound on E‖g‖² over all x for one sample; None: unbounded or not known exactly
    ``zeta2``       sup over x of (1/n)Σ‖∇f_i(x)−∇f(x)‖²; None: not distributed, or infinite
    ==============  =====================================================================================

    Noise is additive, with independent coordinates. ``sigma2`` is spread evenly over them, or
    ``noise_variances`` gives one variance for each. ``noise="gaussian"``, or ``"sign"``: each
    coordinate of one sample is ±(its standard deviation) with probability ½.
    """

    L: float | None = None
    convex: bool = False
    mu: float | None = None
    fstar: float | None = None
    minimizer: np.ndarray | None = None
    sigma2: float | None
    G2: float | None = None
    zeta2: float | None = None

    def __init__(self, dim: int, *, sigma2: float = 0.0, noise_variances: Any = None, noise: str = "gaussian") -> None:
        """Set the dimension and the noise. Raises ``ValueError`` or ``TypeError`` naming the argument."""
        self.dim = integer("dim", dim, 1)
        nonnegative(sigma2=sigma2)
        if noise_variances is None:
            self.noise_variances = np.full(dim, real("sigma2", sigma2) / dim)
        elif sigma2:
            raise ValueError(f"sigma2 must be 0 when noise_variances is given, got {sigma2!r}")
        else:
            self.noise_variances = vector("noise_variances", noise_variances, dim, low=0.0)
        self.sigma2 = float(self.noise_variances.sum())
        self.noise = choice("noise", noise, NOISES)

    def value(self, x: Any) -> Any:
        """f(x): ``[..., d] -> [...]``. Raises ``ValueError`` when the last dimension of x is not d."""
        return self._value(self._point(x))

    def gradient(self, x: Any) -> Any:
        """∇f(x): ``[..., d] -> [..., d]``. Raises ``ValueError`` when the last dimension of x is not d."""
        return self._gradient(self._point(x))

    def hessian(self, x: Any) -> Any:
        """∇²f(x): ``[..., d] -> [..., d, d]``. Raises ``ValueError`` when the last dimension of x is not d."""
        return self._hessian(self._point(x))

    def stochastic_gradient(self, x: Any, rng: np.random.Generator, batch_size: int = 1) -> Any:
        """Mean of ``batch_size`` independent samples ∇f(x) + noise: ``[..., d] -> [..., d]``.

        Unbiased, with conditional variance exactly ``sigma2 / batch_size``; every copy in the
        leading axes has its own noise. The random numbers come from the numpy generator ``rng``
        also when x is a tensor.
        """
        x = self._point(x)
        return self._gradient(x) + self._sample_noise(x, rng, batch_size)

    def delta0(self, x0: Any) -> Any:
        """Δ0 = f(x0) − f*: ``[..., d] -> [...]``. Raises ``ValueError`` when f* is unknown or −∞."""
        if self.fstar is None:
            raise ValueError(
                f"x0 has no known distance to f*: {type(self).__name__} is unbounded below or has no closed f*"
            )
        return self.value(x0) - self.fstar

    def _value(self, x: Any) -> Any:
        raise NotImplementedError

    def _gradient(self, x: Any) -> Any:
        raise NotImplementedError

    def _hessian(self, x: Any) -> Any:
        raise NotImplementedError

    def _point(self, x: Any) -> Any:
        x = floating(x)
        if x.ndim == 0 or x.shape[-1] != self.dim:
            raise ValueError(
                f"x must have last dimension {self.dim} (the dim of {type(self).__name__}), got shape {tuple(x.shape)}"
            )
        return x

    def _sample_noise(self, x: Any, rng: np.random.Generator, batch_size: int) -> Any:
        """The mean of ``batch_size`` noise samples, one such mean for each row of x."""
        integer("batch_size", batch_size, 1)
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, got {rng!r}")
        if self.noise == "gaussian":
            mean = rng.standard_normal(tuple(x.shape)) / np.sqrt(batch_size)
        else:
            mean = 2 * rng.binomial(batch_size, 0.5, tuple(x.shape)) / batch_size - 1
        return as_like(np.sqrt(self.noise_variances) * mean, x)

    def __repr__(self) -> str:
        """Class, dimension and the constants that are known."""
        constants = {name: getattr(self, name) for name in ("L", "mu", "fstar", "sigma2", "zeta2")}
        known = "".join(f", {name}={value:.6g}" for name, value in constants.items() if value is not None)
        return f"{type(self).__name__}(dim={self.dim}{known})"
