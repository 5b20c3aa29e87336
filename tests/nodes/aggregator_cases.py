"""What the tests of the robust rules share: drawn vectors, and the name that the theory has for a rule."""

import numpy as np
import torch

from optcourse.nodes.byzantine.aggregators import AGGREGATORS

ROBUST = [name for name in AGGREGATORS if name != "mean"]


def bound_name(rule):
    """multi_krum has the constant and the breakdown point of krum."""
    return "krum" if rule == "multi_krum" else rule


def draw(seed, n, d, dtype=torch.float64):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((n, d)), dtype=dtype)
