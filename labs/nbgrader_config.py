"""Lets nbgrader's own tools (the formgrader, its Python API, its exporters) open what ``optcourse grade`` wrote.

Start them in this folder. ``OPTCOURSE_GRADES`` names the output folder of ``optcourse grade``; without it they see
the labs themselves. Do not run ``nbgrader autograde``: it executes submissions without a sandbox.
"""

import os
from pathlib import Path

c = get_config()  # noqa: F821 (nbgrader provides it)

c.CourseDirectory.course_id = "optcourse"
c.CourseDirectory.root = str(Path(os.environ.get("OPTCOURSE_GRADES") or Path(__file__).parent).resolve())
