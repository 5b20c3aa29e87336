"""What both commands need."""

from __future__ import annotations

from pathlib import Path

import click

from optcourse import files

FOLDER = click.Path(path_type=Path)


def notebooks(folder: Path | None, part: str, names: tuple[str, ...] = ()) -> list[Path]:
    """The notebooks of the labs called ``names``, all by default, in the ``part`` source or release."""
    try:
        folder = files.of_course("labs", folder) / part
    except FileNotFoundError as error:
        raise click.UsageError(str(error)) from None
    known = {path.stem: path for path in sorted(folder.glob("*/*.ipynb")) if path.stem == path.parent.name}
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"unknown lab {unknown[0]!r}; there are {', '.join(known) or 'none'} in {folder}")
    return [known[name] for name in names or known]


def needs_nbgrader() -> None:
    """Say how to install it where it is missing; raises ``click.UsageError``."""
    try:
        import nbgrader  # noqa: F401
    except ImportError:
        raise click.UsageError("this needs nbgrader: pip install 'optcourse[grading]'") from None
