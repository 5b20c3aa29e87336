"""What a run leaves behind: executed notebooks, ``run.json`` (per lecture), ``verdicts.json`` (per claim)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from optcourse import files
from optcourse.checking import MIME, UNDECIDED, tally
from optcourse.course.catalog import Catalog, lecture_id
from optcourse.course.execution import Failure, Outcome, Settings, cell_seconds, cells_skipped

INDEX, VERDICTS, RUN = "index.html", "verdicts.json", "run.json"


@dataclass(frozen=True)
class Record:
    """How one lecture went: times in seconds, ``over`` the cells beyond the budget, if there is one."""

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
        skipped=len(cells_skipped(outcome.notebook)) if outcome.notebook else 0,
        slowest_cell=slowest,
        slowest_s=round(times[slowest], 2) if slowest else 0.0,
        over={c: round(t, 2) for c, t in times.items() if settings.budgeted and t > budget},
        failure=outcome.failure,
    )


def keep(output: Path, name: str, outcome: Outcome) -> None:
    """Write ``name.ipynb``, executed as far as it came; nothing is left where it could not be read."""
    if outcome.notebook is None:
        (output / f"{name}.ipynb").unlink(missing_ok=True)
    else:
        files.write(output / f"{name}.ipynb", nbformat.writes(outcome.notebook))


def verdicts_of(notebook: NotebookNode) -> list[dict[str, Any]]:
    """The verdict that each ``check`` left in an executed notebook, in order."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return [dict(output.data[MIME]) for output in outputs if MIME in output.get("data", {})]


def load(output: Path) -> dict[str, Record]:
    """The records of earlier runs by notebook stem, as far as their files are still there."""
    try:
        rows = json.loads((output / RUN).read_text(encoding="utf-8"))["lectures"]
        records = [_record(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # none, or not written by this version: then nothing can be trusted
    return {r.notebook: r for r in records if not r.ok or (output / f"{r.notebook}.ipynb").exists()}


def last_run(output: Path) -> RunInfo | None:
    """What ``run.json`` says of the last run as a whole; ``None`` where there is none."""
    try:
        table = json.loads((output / RUN).read_text(encoding="utf-8"))
        return RunInfo(Settings(**table["settings"]), table["versions"], table["interrupted"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
            why = f"are those of other settings ({described(its)})"
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


def write(output: Path, records: dict[str, Record], info: RunInfo) -> None:
    """Write ``run.json``, and from the executed notebooks ``verdicts.json``."""
    rows = verdicts(output, records.values())
    save(output, records, info)
    files.write(output / VERDICTS, json.dumps(rows, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def described(settings: Settings) -> str:
    """Settings in words."""
    return f"profile {settings.profile}, seed {settings.seed}, device {settings.device}"
