"""Rate calculators: every guarantee of the slides as a function with explicit constants.

========================  ===========================================================
``bound``                 the ``Bound`` type and the step-tuning lemma
``sgd``                   SGD and mini-batch SGD: non-convex, Polyak-Lojasiewicz, convex
``batch``                 noise scale, and steps against examples on a quadratic
``sampling``              arbitrary sampling: variance and expected smoothness
``gradient_descent``      the same without noise: convex, strongly convex, PL, non-convex
``quadratic``             exact moments of SGD on quadratics, and their noise floor
``newton``                Newton's method near a minimizer, conjugate gradients for its step
``momentum``              heavy ball and Nesterov: rates, stability, noise, a counterexample
``adaptive``              AdaGrad's regret, Adam's bias, RAdam, Adam's non-convergence
``decay``                 weight decay against the penalty, norms of scale-invariant weights
``lookahead``             Lookahead on noisy quadratics: rate, noise floor, stability edge
``sharpness``             SAM's perturbation and cycle, wells under noise, the flatness bound
``tilted``                the tilted risk: limits, weights, smoothness, bounds on quantiles
``networks``              deep networks at their start: signals with depth, saddles
``distributed``           many nodes: communication, compression, local steps, gossip,
                          delays, Byzantine nodes
========================  ===========================================================

numpy and scipy only: no torch, no training. All arguments are keywords. Where a plot would sweep, an
argument may be a numpy array. The ranges of arguments stand in the docstring of the module or of the function;
outside them a ``ValueError`` (``TypeError`` for what is no number) names argument, value and range. So does one
where the condition of a statement fails; in a sweep the failed points are NaN, see :class:`Bound`.
"""

from optcourse.theory import (
    adaptive,
    batch,
    decay,
    gradient_descent,
    lookahead,
    momentum,
    newton,
    quadratic,
    sampling,
    sgd,
    sharpness,
    tilted,
)
from optcourse.theory.bound import Bound, transient, tune_step
from optcourse.theory.distributed import (
    asynchrony,
    byzantine,
    communication,
    compressed_gossip,
    compression,
    compression_failures,
    gossip,
    local,
)
from optcourse.theory.networks import saddles, signal, signal_residual
