"""Looking at losses: the paths that optimizers take over them.

==============  ========================================================================================
``trajectory``  :func:`trajectory` of one optimizer
``animation``   :func:`draw` paths over level lines, and :func:`player` to watch them
``newton``      Newton's method from many starts, the critical points where it ends, conjugate gradients
==============  ========================================================================================
"""

from optcourse.landscape.animation import draw, player
from optcourse.landscape.newton import conjugate_gradients, critical_points, derivatives, newton
from optcourse.landscape.trajectory import trajectory
