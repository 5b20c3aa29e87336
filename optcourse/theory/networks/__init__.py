"""Guarantees for deep networks before they have learned: how signals travel, what their landscape is like.

========================  ===========================================================
``signal``                wide random networks: lengths, correlations, gradients with depth
``signal_residual``       wide ReLU networks at the start: the mean's share, residual branches
``saddles``               how long plateaus and saddles hold, how rare random minima are
========================  ===========================================================
"""
