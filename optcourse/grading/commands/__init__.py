"""The commands for labs: ``optcourse labs release``, ``optcourse labs check``, ``optcourse grade``."""

from optcourse.grading.commands.grade import grade
from optcourse.grading.commands.labs import labs

__all__ = ["grade", "labs"]
