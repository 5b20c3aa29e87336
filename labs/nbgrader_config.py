"""Lets nbgrader's own tools (the formgrader, its Python API, its exporters) open what ``optcourse grade`` wrote.

Start them in this folder. ``OPTCOURSE_GRADES`` names the output folder of ``optcourse grade``; without it they see
the labs themselves. Do not run ``nbgrader autograde``: it executes submissions without a sandbox.
"""

import os
from pathlib import Path

from sqlalchemy import URL

c = get_config()  # noqa: F821 (nbgrader provides it)

root = Path(os.environ.get("OPTCOURSE_GRADES") or Path(__file__).parent).resolve()
c.CourseDirectory.course_id = "optcourse"
c.CourseDirectory.root = str(root)
# The formgrader lists the assignments that have a source, wherever the grades are.
c.CourseDirectory.source_directory = os.path.relpath(Path(__file__).resolve().parent / "source", root)
c.CourseDirectory.db_url = URL.create("sqlite", database=str(root / "gradebook.db")).render_as_string()
# A heading of a student must not take the name of a grade's field: points would go to another question.
c.HTMLExporter.exclude_anchor_links = True
