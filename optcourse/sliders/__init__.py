"""Figures behind the sliders of the lectures: plain functions of numbers, drawn alike with and without sliders.

================  =====================================================================
``panel``         :func:`with_sliders`: controls above a figure
``motion``        :func:`momentum_figure`, :func:`damping_figure`, :func:`schedule_figure`, :func:`newton_figure`
``strip``         :func:`strip_figure`: every optimizer on the same valley and the same digits
``networks``      :func:`norms_figure`, :func:`signal_figure`
``averaging``     :func:`lookahead_figure`
``batches``       :func:`batch_figure`
``collectives``   :func:`collectives_figure`, :func:`traffic_figure`
``sharpness``     :func:`wells_figure`, :func:`cycle_figure`
``tilted``        :func:`tilt_figure`
``ranking``       :func:`profile_figure`
``federated``     :func:`local_steps_figure`
``graphs``        :func:`gossip_figure`
``unreliable``    :func:`delay_figure`, :func:`attack_figure`
================  =====================================================================

Each checks its arguments, draws with ``optcourse.plotting`` what ``optcourse.theory``, ``optcourse.landscape``,
``optcourse.training.simulate`` and ``optcourse.nodes`` compute (or autograd), and returns the figure.

>>> import matplotlib.pyplot as plt
>>> fig = momentum_figure(lr=1.0, momentum=0.5, kappa=25.0)
>>> fig.axes[1].get_title()
'factor per step 0.911, gradient descent 0.960'
>>> plt.close(fig)
"""

from optcourse.sliders.averaging import CURVATURES, lookahead_figure
from optcourse.sliders.batches import batch_figure
from optcourse.sliders.collectives import COMPRESSORS, collectives_figure, traffic_figure
from optcourse.sliders.federated import NODES, local_steps_figure
from optcourse.sliders.graphs import gossip_figure
from optcourse.sliders.motion import (
    MOTIONS,
    SCHEDULES,
    START,
    damping_figure,
    momentum_figure,
    motion_of,
    newton_figure,
    schedule_figure,
)
from optcourse.sliders.networks import TABLE, norms_figure, signal_figure
from optcourse.sliders.panel import with_sliders
from optcourse.sliders.ranking import profile_figure
from optcourse.sliders.sharpness import cycle_figure, wells_figure
from optcourse.sliders.strip import Track, strip_figure, track
from optcourse.sliders.tilted import tilt_figure
from optcourse.sliders.unreliable import LIES, attack_figure, delay_figure
