"""Three loops: which one?

====================  =======================================  ======================================================
loop                  what learns                              when, and what it returns
====================  =======================================  ======================================================
:func:`fit`           one torch model, by any torch optimizer  one training: a :class:`History` of losses, rates, ...
``copies.train``      many copies of a model, side by side,    a grid of rates or seeds: losses and weights of each
                      by an element-wise method of ours
``simulate.descend``  points on the problems, in numpy         known constants, many seeds: what is recorded of x
====================  =======================================  ======================================================

The first two draw the same batches for the same seed. :func:`evaluate` scores one model, ``models.rows.evaluate`` many
at once; copies that talk to each other are the nodes of :mod:`optcourse.nodes`.
"""

from optcourse.training.fit import History, NonFiniteLoss, batches, evaluate, fit

__all__ = ["History", "NonFiniteLoss", "batches", "evaluate", "fit"]
