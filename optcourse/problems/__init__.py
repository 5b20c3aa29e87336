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
``Plateau, TwoWells``
``LastIterateTrap,``      functions on the line that gradient descent finds hardest
``BestIterateZigzag``
``HeavyBallTrap,``        convex, yet heavy ball or Newton's method cycles
``NewtonTrap``
========================  =============================================================================

:class:`Problem` says what all of them share: ``value``, ``gradient``, ``hessian``,
``stochastic_gradient``, and the constants.
"""

from optcourse.problems.base import Problem
from optcourse.problems.distributed import CosineNodes, Distributed, OffsetNodes, QuadraticNodes
from optcourse.problems.finite_sum import FiniteSum, LeastSquares, SoftmaxRegression
from optcourse.problems.single import Cosine, Huber, PolyakLojasiewicz, PseudoHuber, Quadratic
from optcourse.problems.surfaces import Beale, BoundedSaddle, LongValley, Plateau, Rosenbrock, Saddle, Surface, TwoWells
from optcourse.problems.worst_cases import (
    BestIterateZigzag,
    HeavyBallTrap,
    LastIterateTrap,
    NewtonTrap,
    PiecewiseQuadratic,
)
