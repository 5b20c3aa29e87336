"""What both commands need."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import click

from optcourse import files
from optcourse.grading.collect.names import is_lab


class _Place(click.Path):
    """A path; not the empty one that a shell makes of a variable without a value, which would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Place(path_type=Path)


def notebooks(folder: Path | None, part: str, names: tuple[str, ...] = ()) -> list[Path]:
    """The notebooks of the labs called ``names``, all by default, in the ``part`` source or release."""
    try:
        folder = files.of_course("labs", folder) / part
    except FileNotFoundError as error:
        raise click.UsageError(str(error)) from None
    known = {path.stem: path for path in sorted(folder.glob("*/*.ipynb")) if path.stem == path.parent.name}
    if unknown := [name for name in names if name not in known]:
        alike = [lab for lab in known if is_lab(unknown[0], lab) or is_lab(f"lab{unknown[0]}", lab)]
        alike = alike or difflib.get_close_matches(unknown[0], known, n=1)
        perhaps = f" (did you mean {alike[0]}?)" if alike else ""
        there = ", ".join(known) or "none"
        raise click.UsageError(f"unknown lab {unknown[0]!r}{perhaps}; there are {there} in {folder}")
    return [known[name] for name in names or known]


def needs_nbgrader() -> None:
    """Say how to install it where it is missing; raises ``click.UsageError``."""
    try:
        import nbgrader  # noqa: F401
    except ImportError:
        raise click.UsageError("this needs nbgrader: pip install 'optcourse[grading]'") from None
