"""Three loops: which one?

=============================  =======================  ================================  ==============================
loop                           what learns              when                              what it returns
=============================  =======================  ================================  ==============================
:func:`fit`                    one torch model, by any  one training, watched closely     :class:`History`: losses,
                               ``torch.optim`` method                                     accuracies, rates, seconds
:func:`copies.train`           many copies of a small   a grid of rates or seeds, by an   :class:`copies.Trained`:
                               model, side by side      element-wise method of ours       losses and weights of each
:mod:`simulate` (``sgd``, …)   points on the problems,  a theorem: exact constants, many  whatever is recorded of x, by
                               in numpy                 seeds, no model, no data          seed and step
=============================  =======================  ================================  ==============================

The first two draw the same batches for the same seed. :func:`evaluate` scores one model, and
:func:`optcourse.models.rows.evaluate` many; nodes that talk to each other are in :mod:`optcourse.nodes`.
"""

from optcourse.training.fit import History, NonFiniteLoss, batches, evaluate, fit

__all__ = ["History", "NonFiniteLoss", "batches", "evaluate", "fit"]
