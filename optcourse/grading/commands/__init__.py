"""The commands for labs: ``optcourse labs release``, ``optcourse labs check``, ``optcourse grade``."""
