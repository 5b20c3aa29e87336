"""A non-convex problem on nodes whose constants are known."""

import numpy as np


class Cosines:
    """f_i = 1 - cos(x - phase_i): non-convex, L = 1, with f* and zeta2 in closed form."""

    def __init__(self, phases):
        self.phases = np.asarray(phases)
        center = np.exp(1j * self.phases).mean()
        z = np.exp(-1j * self.phases) - center.conj()
        self.minimum = 1 - abs(center)
        self.zeta2 = (np.mean(abs(z) ** 2) + abs(np.mean(z**2))) / 2

    def gradients(self, x):
        return np.sin(x - self.phases)

    def delta0(self, x):
        return np.mean(1 - np.cos(x - self.phases)) - self.minimum

    def squared_gradient(self, x):
        """||grad f||^2 at the mean of the nodes (the last axis)."""
        return self.gradients(x.mean(-1, keepdims=True)).mean(-1) ** 2
