"""What a run leaves behind: ``run.json`` (per lecture), ``verdicts.json`` (per claim), ``index.html`` (to read)."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from optcourse import files
from optcourse.checking import MARKS, UNDECIDED, tally
from optcourse.course import claims
from optcourse.course.catalog import Catalog, Lecture, Topic, lecture_id
from optcourse.course.execution import Failure, Outcome, Settings, cell_seconds, cells_skipped
from optcourse.course.pages import document, verdicts_of

INDEX, VERDICTS, RUN = "index.html", "verdicts.json", "run.json"


@dataclass(frozen=True)
class Record:
    """How one lecture went: times in seconds, ``over`` the cells beyond the quick profile's budget."""

    lecture: str
    notebook: str
    finished: str
    settings: Settings
    key: str
    seconds: float
    claims: int
    undecided: int = 0
    skipped: int = 0
    slowest_cell: str | None = None
    slowest_s: float = 0.0
    over: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether the lecture ran to its end."""
        return self.failure is None

    @property
    def skipped_line(self) -> str:
        """How many cells waited for a GPU in vain, in words."""
        return f"{self.skipped} cell{'s' if self.skipped != 1 else ''} skipped (no CUDA device)"


@dataclass(frozen=True)
class RunInfo:
    """The last run: its settings, the versions of what results depend on, whether it was cut short."""

    settings: Settings
    versions: dict[str, str]
    interrupted: bool


def record(notebook: Path, outcome: Outcome, settings: Settings, key: str, catalog: Catalog) -> Record:
    """The record of a lecture that has just been executed."""
    times = cell_seconds(outcome.notebook) if outcome.notebook else {}
    counts = tally(v["verdict"] for v in verdicts_of(outcome.notebook)) if outcome.notebook else tally([])
    slowest = max(times, key=times.__getitem__, default=None)
    budget = catalog.lecture(notebook).cell_budget_s
    return Record(
        lecture=lecture_id(notebook),
        notebook=notebook.stem,
        finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        settings=settings,
        key=key,
        seconds=round(outcome.seconds, 2),
        claims=sum(counts.values()),
        undecided=counts[UNDECIDED],
        skipped=len(cells_skipped(outcome.notebook, settings)) if outcome.notebook else 0,
        slowest_cell=slowest,
        slowest_s=round(times[slowest], 2) if slowest else 0.0,
        over={c: round(t, 2) for c, t in times.items() if settings.profile == "quick" and t > budget},
        failure=outcome.failure,
    )


def load(output: Path) -> dict[str, Record]:
    """The records of earlier runs by notebook stem, as far as their files are still there."""
    try:
        rows = json.loads((output / RUN).read_text(encoding="utf-8"))["lectures"]
        records = [_record(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # none, or not written by this version: then nothing can be trusted
    kept = (r for r in records if (output / f"{r.notebook}.html").exists())
    return {r.notebook: r for r in kept if not r.ok or (output / f"{r.notebook}.ipynb").exists()}


def _record(row: dict[str, Any]) -> Record:
    failure = Failure(**row["failure"]) if row["failure"] else None
    return Record(**{**row, "settings": Settings(**row["settings"]), "failure": failure})


def save(output: Path, records: dict[str, Record], info: RunInfo) -> None:
    """Write ``run.json``."""
    rows = [asdict(records[name]) for name in sorted(records)]
    files.write(output / RUN, json.dumps({**asdict(info), "lectures": rows}, indent=1) + "\n")


def outdated(output: Path, lectures: Path, *, profile: str, seed: int, now: str = "") -> dict[str, list[str]]:
    """Whose verdicts in ``output`` are not those that a run would give now: the reason, and the ids of the lectures.

    A run would differ where it was made with another ``profile`` or ``seed``, or where the notebook in the folder
    ``lectures``, the package or a version has changed since. The lecture ``now``, which is running, is left out.
    """
    found: dict[str, list[str]] = {}
    for record in sorted(load(output).values(), key=lambda record: record.notebook):
        source, its = lectures / f"{record.notebook}.ipynb", record.settings
        if record.lecture == now:
            continue
        if (its.profile, its.seed) != (profile, seed):
            why = f"are those of other settings ({_settings(its)})"
        elif not source.exists() or record.key != files.resume_key(repr(its).encode(), source.read_bytes()):
            why = "are older than the last change (of the lecture, the package or a version)"
        else:
            continue
        found.setdefault(why, []).append(record.lecture)
    return found


def verdicts(output: Path, records: Iterable[Record]) -> list[dict[str, Any]]:
    """The entries of ``verdicts.json`` for these records, from their executed notebooks."""
    rows = []
    for record in sorted(records, key=lambda record: record.notebook):
        path = output / f"{record.notebook}.ipynb"
        if path.exists():
            found = verdicts_of(nbformat.read(path, as_version=4))
            rows += [{"lecture": record.lecture, **verdict} for verdict in found]
    return rows


def write(output: Path, catalog: Catalog, records: dict[str, Record], info: RunInfo) -> None:
    """Write ``run.json``, and from the executed notebooks ``verdicts.json`` and ``index.html``."""
    rows = verdicts(output, records.values())
    save(output, records, info)
    files.write(output / VERDICTS, json.dumps(rows, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    files.write(output / INDEX, document("Optimization for Deep Learning", _index(catalog, records, rows, info)))


def _index(catalog: Catalog, records: dict[str, Record], verdicts: list[dict[str, Any]], info: RunInfo) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in info.versions.items())
    cut = '<p class="banner">The last run was interrupted; what it finished is listed here.</p>'
    return (
        "<h1>Optimization for Deep Learning</h1>"
        f"<p>Every number below was measured by running the lectures: {_settings(info.settings)}; "
        f"{html.escape(versions)}.</p>{cut if info.interrupted else ''}"
        f"<h2>Lectures</h2>{_lectures(catalog, records, info)}"
        f"<h2>Claims</h2><p>{claims.counted(verdicts)}{_summary(catalog, records)}</p>"
        f"{claims.table(verdicts, {r.lecture: f'{r.notebook}.html' for r in records.values()}, catalog)}"
        f"{_planned(catalog)}"
    )


def _summary(catalog: Catalog, records: dict[str, Record]) -> str:
    """A link to the lecture that judges all claims, where it has been run."""
    judges = {lecture.id for lecture in catalog.lectures if lecture.after}
    names = [record.notebook for record in records.values() if record.lecture in judges]
    return "".join(f' <a href="{name}.html">What follows from them, and what does not</a>.' for name in names)


def _settings(settings: Settings) -> str:
    return f"profile {settings.profile}, seed {settings.seed}, device {settings.device}"


def _lectures(catalog: Catalog, records: dict[str, Record], info: RunInfo) -> str:
    rows = [_lecture_row(catalog.lecture(Path(f"{name}.ipynb")), records[name], info) for name in sorted(records)]
    have = {record.lecture for record in records.values()}
    for lecture in catalog.lectures:
        if lecture.status == "written" and lecture.id not in have:
            rows.append(
                f'<tr><td>{lecture.id}</td><td>{html.escape(lecture.title)}</td><td colspan="4">not run</td></tr>'
            )
    head = "<tr><th></th><th>lecture</th><th>status</th><th>time</th><th>slowest cell</th><th>claims</th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _lecture_row(lecture: Lecture, record: Record, info: RunInfo) -> str:
    quick = record.settings.profile == "quick"
    status = '<span class="holds">✓ ok</span>'
    if record.failure:
        where = f" in cell <code>{html.escape(record.failure.cell)}</code>" if record.failure.cell else ""
        status = f'<span class="broken">✗ failed</span>{where}: {html.escape(record.failure.type)}'
    if record.settings != info.settings:
        status += f'<br><span class="muted">{_settings(record.settings)}</span>'
    if record.skipped:
        status += f'<br><span class="muted">{record.skipped_line}</span>'
    slow = "".join(
        f'<br><span class="over">over {lecture.cell_budget_s:g} s: {html.escape(cell)} {seconds:.1f} s</span>'
        for cell, seconds in record.over.items()
    )
    sign, css, _ = MARKS[UNDECIDED]
    open_claims = f'<br><span class="{css}">{sign} {record.undecided} {UNDECIDED}</span>' if record.undecided else ""
    return (
        f'<tr><td>{html.escape(record.lecture)}</td><td><a href="{record.notebook}.html">{html.escape(lecture.title)}'
        f'</a><br><span class="muted">{record.finished}</span></td><td>{status}</td>'
        f'<td class="number">{_against(record.seconds, lecture.budget_s, quick)}</td>'
        f"<td><code>{html.escape(record.slowest_cell or '')}</code> {record.slowest_s:.1f} s{slow}</td>"
        f'<td class="number">{record.claims}{open_claims}</td></tr>'
    )


def _against(seconds: float, budget: float, quick: bool) -> str:
    """Wall time against the budget, which holds for the quick profile only."""
    if not quick:
        return f"{seconds:.1f} s"
    text = f"{seconds:.1f} of {budget:g} s"
    return f'<span class="over">{text}, over budget</span>' if seconds > budget else text


def _planned(catalog: Catalog) -> str:
    planned = [lecture for lecture in catalog.lectures if lecture.status == "planned"]
    if not planned:
        return ""
    parts = [
        f"<details><summary>{lecture.id} {html.escape(lecture.title)}</summary><table>"
        + "".join(_planned_row(topic) for topic in catalog.topics if topic.lecture == lecture.id)
        + "</table></details>"
        for lecture in planned
    ]
    return f"<h2>Planned</h2>{''.join(parts)}"


def _planned_row(topic: Topic) -> str:
    origin = "beyond the decks" if topic.beyond else "deck " + " ".join(topic.deck)
    return (
        f'<tr><td>{topic.id}</td><td>{html.escape(topic.title)}<br><span class="muted">{html.escape(topic.shows)}'
        f"</span></td><td>{origin}<br>{html.escape(topic.paper)}</td></tr>"
    )
