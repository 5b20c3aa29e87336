"""Samples: who holds which data, and the gradients of all nodes in one call."""
