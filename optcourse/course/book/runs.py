"""The page about the last run: how each lecture went, how long it took, what it skipped."""

from __future__ import annotations

import html

from optcourse.checking import MARKS, UNDECIDED
from optcourse.course import report
from optcourse.course.book.content import Course, table
from optcourse.course.catalog import Lecture
from optcourse.course.report import Record

HEAD = ("", "lecture", "status", "time", "slowest cell", "claims")


def page(course: Course) -> str:
    """The page in MyST."""
    info = course.info
    versions = ", ".join(f"{name} {number}" for name, number in info.versions.items())
    cut = "The last run was interrupted; what it finished is listed here." if info.interrupted else ""
    rows = [
        _row(lecture, record, course, f"{path.stem}.html")
        if record is not None
        else [lecture.id, _link(lecture, f"{path.stem}.html"), '<span class="muted">not run yet</span>', "", "", ""]
        for lecture, record, path in course.chapters
    ]
    return (
        "# The last run\n\n"
        f"{report.described(info.settings).capitalize()}; {html.escape(versions)}. {cut}\n\n{table(HEAD, rows)}\n"
    )


def _row(lecture: Lecture, record: Record, course: Course, address: str) -> list[str]:
    status = ["✓ ok"]
    if record.failure:
        where = f" in cell <code>{html.escape(record.failure.cell)}</code>" if record.failure.cell else ""
        status = [f'<span class="broken">✗ failed</span>{where}: {html.escape(record.failure.type)}']
    if record.settings != course.info.settings:
        status.append(f'<span class="muted">{report.described(record.settings)}</span>')
    if record.skipped:
        status.append(f'<span class="muted">{record.skipped_line}</span>')
    slowest = [f"<code>{html.escape(record.slowest_cell or '–')}</code> {record.slowest_s:.1f} s"] + [
        f'<span class="over">over {lecture.cell_budget_s:g} s: {html.escape(cell)} {seconds:.1f} s</span>'
        for cell, seconds in record.over.items()
    ]
    mark = MARKS[UNDECIDED]
    undecided = f'<span class="{mark.css}">{mark.sign} {record.undecided} {UNDECIDED}</span>'
    return [
        html.escape(record.lecture),
        f'{_link(lecture, address)}<br><span class="muted">{html.escape(record.finished)}</span>',
        "<br>".join(status),
        _against(record.seconds, lecture.budget_s) if record.settings.budgeted else f"{record.seconds:.1f} s",
        "<br>".join(slowest),
        f"{record.claims}<br>{undecided}" if record.undecided else f"{record.claims}",
    ]


def _link(lecture: Lecture, address: str) -> str:
    return f'<a href="{address}">{html.escape(lecture.title)}</a>'


def _against(seconds: float, budget: float) -> str:
    """Wall time against the budget, which holds for the quick profile on a processor."""
    text = f"{seconds:.1f} of {budget:g} s"
    return f'<span class="over">{text}, over budget</span>' if seconds > budget else text
