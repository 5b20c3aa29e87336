"""Looking at losses: paths over them, planes through them, curvature, and how much they can rise nearby.

==============  ========================================================================================
``trajectory``  :func:`trajectory` of one optimizer
``animation``   :func:`draw` paths over level lines, and :func:`player` to watch them
``newton``      Newton's method from many starts, the critical points where it ends, conjugate gradients
``objective``   the loss of a network as a function of its parameters, in a mode that is explicit
``surface``     :func:`surface`, the loss on a plane through a network's parameters; directions
``drawing``     :func:`draw_planes` as hills and level lines
``hessian``     Hessian-vector products, and from them eigenvalues, the spectral density, the trace
``sharpness``   :func:`sharpness`, the highest loss in a ball around the parameters
==============  ========================================================================================
"""

from optcourse.landscape.animation import draw, player
from optcourse.landscape.drawing import draw_planes
from optcourse.landscape.hessian import (
    eigenvalues,
    gauss_newton_product,
    hessian_vector_product,
    hutchinson_trace,
    lanczos,
    spectral_density,
)
from optcourse.landscape.newton import conjugate_gradients, critical_points, derivatives, newton
from optcourse.landscape.sharpness import sharpness
from optcourse.landscape.surface import (
    Plane,
    coordinates,
    filter_normalized,
    pca_directions,
    random_directions,
    surface,
)
from optcourse.landscape.trajectory import trajectory
