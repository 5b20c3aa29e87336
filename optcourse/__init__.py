"""Optimization for deep learning, with executable theorems.

======================  ===================================================================
``runtime``             ``start``, the first line of a notebook: seeds, threads, device, style
``checking``            ``check`` a measurement against a prediction; fails when the claim fails
``problems``            objectives whose constants (L, mu, f*, sigma^2, zeta^2) are known exactly
``theory``              the bounds of the slides with explicit constants (numpy only, no torch)
``data``, ``models``    small data sets that are generated or ship with a library, small networks
``optim``               optimizers that read like the slide's equation and fit any torch training loop
``training``            three loops: one network, many copies of it, points on the problems
``landscape``           loss surfaces, curvature and sharpness of networks; paths of optimizers
``nodes``               distributed algorithms on simulated nodes or real processes, one codebase
``losses``              tilted losses and their relatives, for any torch training loop
``measure``             means, confidence intervals and fitted slopes over seeds; groups
``timing``              seconds, on a GPU too, of calls that take turns
``ranking``             who is faster over several problems: performance profiles, scores
``plotting``            the course's figure style
``alttext``             what a figure shows, in words
``sliders``             figures with sliders
``labs``, ``grading``   what test cells are made of; submissions in a sandbox, marks, feedback
``course``              the ``optcourse`` command: run lectures, collect verdicts
``arguments``           checks of arguments, said once
``files``               files that are whole or absent; what need not run again
======================  ===================================================================
"""

from optcourse.checking import ClaimBroken, check
from optcourse.runtime import Run, progress, start

__version__ = "0.4.0"  # raised whenever labs or grading change; pyproject.toml reads it here
__all__ = ["ClaimBroken", "Run", "__version__", "check", "progress", "start"]
