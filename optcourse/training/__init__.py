"""Three loops, and a look at the noise that drives them: which one?

============  ===================  ==================================  ======================================
loop          what learns          when                                what it returns
============  ===================  ==================================  ======================================
``fit``       one torch model, by  one training, watched closely       :class:`History`: losses, accuracies,
              any torch optimizer                                      rates, seconds
``copies``    many copies of a     a grid of rates or seeds, by an     :class:`copies.Trained`: losses and
              small model          element-wise method of ours         weights of each
``simulate``  points on the        a theorem: exact constants, many    whatever is recorded of x, by seed and
              problems, in numpy   seeds, no model, no data            step
``contest``   copies, by many      who needs fewer steps, at equal     held-out losses by method, rate and
              methods at once      budgets of tuning                   seed
``noise``     nothing: gradients   how large a batch is worth its      the noise scale, an
              of one model         price                               ``Estimate`` with its interval
============  ===================  ==================================  ======================================

The first two draw the same batches for the same seed. :func:`evaluate` scores one model, ``models.rows.evaluate`` many
at once; copies that talk to each other are the nodes of :mod:`optcourse.nodes`.
"""

from optcourse.training.fit import History, NonFiniteLoss, batches, evaluate, fit
