"""The page of all claims: what was measured, filtered and sorted in the reader's browser."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator
from typing import Any

from optcourse.checking import MARKS, number
from optcourse.course import claims, report
from optcourse.course.book.chapters import anchor
from optcourse.course.book.content import Course, table

HEAD = ("topic", "verdict", "claim", "measured, bound", "margin", "seeds")
INTRODUCTION = """# Claims

Every claim that the lectures check, with what the last run measured. A claim **holds** when the whole interval that was
measured satisfies the relation, **fails as expected** where the lecture says that it should fail here and why, and is
**undecided** where the seeds do not decide: the interval contains the bound. A **broken** claim stops its lecture.
The *margin* is the distance to the bound, negative beyond it, and of an interval that of the end which decides. For
“=” it is the tolerance less the difference from the bound; “≤” and “≥” with a tolerance have it added to their margin.
A tolerance stands after ± (after + at “≤”, after − at “≥”) where the two numbers do not agree as printed without it.
"""


def page(course: Course) -> str:
    """The page in MyST."""
    rows = [*_rows(course)]
    words = [verdict for verdict, *_ in rows]
    verdicts = [*dict.fromkeys([*MARKS, *words])]
    lectures = [lecture for lecture in course.catalog.lectures if lecture.status == "written"]
    counted = claims.counted([{"verdict": word} for word in words])
    return "\n".join(
        [
            INTRODUCTION,
            f"<p>{counted} {_settings(course)}</p>",
            '<form class="filter" role="search" aria-label="Filter the claims">',
            _select("lecture", "Lecture", [(lecture.id, f"{lecture.id} {lecture.title}") for lecture in lectures]),
            _select("verdict", "Verdict", [(word, claims.mark(word)) for word in verdicts]),
            '<label>Search <input type="search" name="text" placeholder="words of the claim"></label>',
            '<output name="count"></output></form>',
            table(HEAD, (cells for _, cells in rows), css="claims", ident="claims-table"),
        ]
    )


def _rows(course: Course) -> Iterator[tuple[str, list[str]]]:
    """The verdict and the cells of every row."""
    numbers: Counter[str] = Counter()
    numbered = [{**row, "n": _next(numbers, row["lecture"])} for row in course.verdicts]
    for row in claims.join(claims.collect(course.lectures), numbered):
        yield row["verdict"], _cells(row, course)


def _next(numbers: Counter[str], lecture: str) -> int:
    numbers[lecture] += 1
    return numbers[lecture]


def _cells(row: dict[str, Any], course: Course) -> list[str]:
    verdict, run = row["verdict"], row["verdict"] in MARKS
    css = MARKS[verdict].css if run else "not-run"
    ident = f' id="{anchor(row, row["n"])}"' if run else ""
    why = f'<br><span class="muted">{html.escape(row["why"])}</span>' if row.get("why") else ""
    numbers = (
        [html.escape(claims.compared(row)), number(row["margin"]), str(row.get("seeds") or "")] if run else [""] * 3
    )
    return [
        f"<span{ident}></span>{course.topic_link(row['topic'])}",
        f'<span class="verdict-mark {css}">{claims.mark(verdict)}</span>',
        f"{html.escape(row['claim'])}{why}",
        *(f'<span class="number">{text}</span>' for text in numbers),
    ]


def _select(name: str, label: str, options: list[tuple[str, str]]) -> str:
    listed = "".join(f'<option value="{html.escape(v)}">{html.escape(text)}</option>' for v, text in options)
    return f'<label>{label} <select name="{name}"><option value="">all</option>{listed}</select></label>'


def _settings(course: Course) -> str:
    """With which settings and versions the verdicts were made; others than the last run's are counted."""
    settings, versions = course.info.settings, course.info.versions
    made_with = ", ".join(f"{name} {version}" for name, version in versions.items())
    other = sorted(record.lecture for record in course.records.values() if record.settings != settings)
    note = f" Lectures {', '.join(other)} were run with other settings." if other else ""
    cut = " The last run was interrupted." if course.info.interrupted else ""
    return f"{report.described(settings).capitalize()}; {html.escape(made_with)}.{note}{cut}"
