"""Which loop?

============  ====================================  ======================================================
loop          trains                                returns
============  ====================================  ======================================================
``fit``       one torch model, any torch optimizer  a :class:`History`: losses, accuracies, rates, seconds
``copies``    many copies of one network at once    losses and weights of all, by rate and by seed
``simulate``  numpy points on the problems          whatever is recorded, for many seeds at once
============  ====================================  ======================================================
"""

from optcourse.training.fit import History, NonFiniteLoss, batches, evaluate, fit

__all__ = ["History", "NonFiniteLoss", "batches", "evaluate", "fit"]
