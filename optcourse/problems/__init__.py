"""Objectives whose constants are known exactly, for numpy arrays and torch tensors alike.

========================  =============================================================================
``Quadratic``             ½ Σ λ_i x_i²: every moment of SGD in closed form
``Cosine``                L Σ (1 − cos x_i): smooth, non-convex
``PseudoHuber``           Σ (√(1 + x_i²) − 1): convex, bounded gradients
``Huber``                 quadratic, then linear: worst case of gradient descent
``PolyakLojasiewicz``     x² + 3 sin² x: non-convex, yet linear convergence
``LeastSquares``          a finite sum, sampled in mini-batches, all variances exact
``SoftmaxRegression``     the same on a data set, with the cross-entropy loss
``OffsetNodes``                nodes with f + ⟨b_i, x⟩: any problem made heterogeneous, ζ² everywhere the same
``CosineNodes``           nodes with shifted cosines: non-convex, heterogeneous Hessians
``QuadraticNodes``        nodes with ½a_i(x − b_i)²: fixed points in closed form
``Rosenbrock, Beale,``    surfaces over the plane, to look at
``LongValley, Saddle,``
``BoundedSaddle,``
``Plateau``
``LastIterateTrap,``      functions on the line that gradient descent finds hardest
``BestIterateZigzag``
``HeavyBallTrap,``        convex, yet heavy ball or Newton's method cycles
``NewtonTrap``
``ALL``                   one example of each, ready to use
========================  =============================================================================

:class:`Problem` says what all of them share: ``value``, ``gradient``, ``hessian``,
``stochastic_gradient``, and the constants.
"""

import numpy as np

from optcourse.problems.base import Problem
from optcourse.problems.distributed import CosineNodes, Distributed, OffsetNodes, QuadraticNodes
from optcourse.problems.finite_sum import FiniteSum, LeastSquares, SoftmaxRegression
from optcourse.problems.single import Cosine, Huber, PolyakLojasiewicz, PseudoHuber, Quadratic
from optcourse.problems.surfaces import Beale, BoundedSaddle, LongValley, Plateau, Rosenbrock, Saddle, Surface
from optcourse.problems.worst_cases import (
    BestIterateZigzag,
    HeavyBallTrap,
    LastIterateTrap,
    NewtonTrap,
    PiecewiseQuadratic,
)

_reflection = np.eye(3) - 2 / 9 * np.outer([1, 2, 2], [1, 2, 2])

#: One or more examples of every problem; the tests verify every constant on each of them.
ALL: tuple[Problem, ...] = (
    Quadratic([0.5, 2.0, 4.0], noise_variances=[1.0, 0.5, 0.0]),
    Quadratic([0.5, 2.0, 4.0], minimizer=1.5, rotation=_reflection, noise_variances=[1.0, 0.5, 0.2], noise="sign"),
    Cosine(L=2.0, dim=3, sigma2=1.5),
    PseudoHuber(dim=2, sigma2=0.5, noise="sign"),
    Huber(knee=0.2, L=3.0, sigma2=0.1),
    PolyakLojasiewicz(sigma2=1.0, noise="sign"),
    LeastSquares(features=[[1, 2], [0, 1], [3, -1], [2, 2], [1, 0]], targets=[1, 0, 2, -1, 3]),
    LeastSquares(features=[[1, 2, 0], [0, 1, 1]], targets=[1, 2]),
    OffsetNodes(Cosine(L=1.5, dim=2, sigma2=1.0), offsets=[[1, 0], [0, 2], [-1, -2], [0, 0]]),
    OffsetNodes(LeastSquares(features=[[1, 2], [0, 1], [3, -1]], targets=[1, 0, 2]), offsets=[[1, -1], [-1, 1]]),
    CosineNodes(L=2.0, phases=[[0.0, 1.0], [0.7, -1.0], [-1.2, 2.0], [0.3, 0.1]], sigma2=1.0, noise="sign"),
    QuadraticNodes(a=[1.0, 4.0, 0.5], b=[0.0, 1.0, -3.0], sigma2=0.5),
    QuadraticNodes(a=[[1.0, 3.0], [1.0, 3.0]], b=[[0.0, 1.0], [2.0, -1.0]]),
    Rosenbrock(sigma2=1.0),
    Beale(),
    LongValley(steepness=50.0, slope=2.0, angle=0.4),
    Saddle(L=2.0, sigma2=0.3, noise="sign"),
    BoundedSaddle(L=2.0),
    Plateau(depth=2.0, width=0.5),
    SoftmaxRegression(features=[[1, 2], [0, 1], [3, -1], [2, 2]], labels=[0, 1, 0, 1]),
    BestIterateZigzag(L=2.0, steps=3),
    LastIterateTrap(L=2.0, steps=4),
    HeavyBallTrap(sigma2=0.3),
    NewtonTrap(curvature=2.0, M=0.5, sigma2=0.2, noise="sign"),
)

__all__ = [
    "ALL",
    "Beale",
    "BestIterateZigzag",
    "BoundedSaddle",
    "Cosine",
    "CosineNodes",
    "Distributed",
    "FiniteSum",
    "HeavyBallTrap",
    "Huber",
    "LastIterateTrap",
    "LeastSquares",
    "LongValley",
    "NewtonTrap",
    "OffsetNodes",
    "PiecewiseQuadratic",
    "Plateau",
    "PolyakLojasiewicz",
    "Problem",
    "PseudoHuber",
    "Quadratic",
    "QuadraticNodes",
    "Rosenbrock",
    "Saddle",
    "SoftmaxRegression",
    "Surface",
]
