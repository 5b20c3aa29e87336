"""Data sets that are generated, ship with a library or lie in a folder of yours: nothing is ever downloaded.

==========  =================================================================================
``sets``    :class:`Dataset`; digits, MNIST-1D, moons, spirals
``cifar``   CIFAR-10 from the folder that ``OPTCOURSE_DATA`` names, where there is one
``parts``   splits, wrong labels, rare classes, shares for nodes
==========  =================================================================================
"""

from optcourse.data.cifar import cifar10, has_cifar10
from optcourse.data.parts import dirichlet_partition, imbalance, label_noise, label_partition, split
from optcourse.data.sets import Dataset, digits, mnist1d, spirals, two_moons
