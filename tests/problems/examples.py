"""One or more examples of every problem; the tests verify every constant on each of them."""

import numpy as np

from optcourse.problems import (
    Beale,
    BestIterateZigzag,
    BoundedSaddle,
    Cosine,
    CosineNodes,
    HeavyBallTrap,
    Huber,
    LastIterateTrap,
    LeastSquares,
    LongValley,
    NewtonTrap,
    OffsetNodes,
    Plateau,
    PolyakLojasiewicz,
    PseudoHuber,
    Quadratic,
    QuadraticNodes,
    Rosenbrock,
    Saddle,
    SoftmaxRegression,
    TwoWells,
)

_reflection = np.eye(3) - 2 / 9 * np.outer([1, 2, 2], [1, 2, 2])

ALL = (
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
    TwoWells(sigma2=0.4),
    SoftmaxRegression(features=[[1, 2], [0, 1], [3, -1], [2, 2]], labels=[0, 1, 0, 1]),
    BestIterateZigzag(L=2.0, steps=3),
    LastIterateTrap(L=2.0, steps=4),
    HeavyBallTrap(sigma2=0.3),
    NewtonTrap(curvature=2.0, M=0.5, sigma2=0.2, noise="sign"),
)
