"""Runs: real processes, checkpoints, and the ``optcourse nodes`` command."""
