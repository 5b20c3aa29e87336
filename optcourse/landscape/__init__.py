"""Looking at losses: the paths that optimizers take over them.

==============  ==================================================================================
``trajectory``  :func:`trajectory` of one optimizer
``animation``   :func:`draw` paths over level lines, and :func:`player` to watch them
==============  ==================================================================================
"""

from optcourse.landscape.animation import draw, player
from optcourse.landscape.trajectory import trajectory
