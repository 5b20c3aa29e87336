"""Graphs: topologies, mixing matrices and their gaps, pictures of them."""
