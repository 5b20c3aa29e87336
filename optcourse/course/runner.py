"""Run lectures side by side: progress, failures that do not stop the others, interrupts, resume."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from optcourse import files
from optcourse.course import report
from optcourse.course.catalog import Catalog
from optcourse.course.display import Display
from optcourse.course.execution import Execution, Failure, Settings
from optcourse.course.report import Record
from optcourse.runtime import in_parallel, interrupts

OK, FAILED, INTERRUPTED = 0, 1, 130


def run(
    notebooks: list[Path],
    settings: Settings,
    *,
    output: Path,
    catalog: Catalog,
    jobs: int = 1,
    resume: bool = False,
    cell_timeout: int | None = None,
    book: bool = True,
) -> int:
    """Execute ``notebooks``, ``jobs`` at a time; write executed notebooks, verdicts and the ``book`` to ``output``.

    Lectures that the catalog wants ``after`` the others run last, and are told where the verdicts are: those of this
    run, and of earlier ones as far as ``output`` has them. With ``resume``, lectures that finished without failure are
    skipped when nothing they depend on has changed, for the last ones any verdict or other lecture. Returns the exit
    status: 0, 1 when a lecture failed, 130 when interrupted by SIGINT or SIGTERM (finished lectures are kept).
    """
    records, done, left = report.load(output), {}, [path.stem for path in notebooks]
    started: list[Execution] = []
    output.mkdir(parents=True, exist_ok=True)

    def info(interrupted: bool) -> report.RunInfo:
        return report.RunInfo(settings, files.versions(), interrupted=interrupted)

    def execute(paths: list[Path], verdicts: Path | None, *content: bytes) -> None:
        """Those that changed; ``content`` is what their results depend on besides themselves."""
        keys = {p.stem: files.resume_key(repr(settings).encode(), p.read_bytes(), *content) for p in paths}
        unchanged = [n for n in keys if resume and n in records and records[n].ok and records[n].key == keys[n]]
        for name in unchanged:
            left.remove(name)
            display.end(name, f"{name}: unchanged, skipped")
        executions = {
            path.stem: Execution(path, settings, cell_timeout=cell_timeout, verdicts=verdicts)
            for path in paths
            if path.stem not in unchanged
        }
        started.extend(executions.values())

        def lecture(name: str) -> Record | None:
            return _lecture(executions[name], keys[name], output=output, catalog=catalog, display=display)

        for name, record in in_parallel(lecture, executions, jobs, interrupted, lambda name: executions[name].kill()):
            if record is None:
                continue
            left.remove(name)
            done[name] = records[name] = record
            report.save(output, records, info(interrupted=True))
        report.write(output, records, info(interrupted=bool(left)))

    first = [path for path in notebooks if not catalog.lecture(path).after]
    last = [path for path in notebooks if catalog.lecture(path).after]
    with Display(len(notebooks)) as display, _second_signal(started), interrupts() as interrupted:
        execute(first, None)
        if last and len(left) == len(last):
            others = [p for p in sorted(last[0].parent.iterdir()) if p.suffix in (".ipynb", ".toml")]
            found = report.verdicts(output, [r for r in records.values() if r.notebook not in {p.stem for p in last}])
            execute(last, output / report.VERDICTS, repr(found).encode(), *(path.read_bytes() for path in others))

    for name in sorted(done):
        if not done[name].ok:
            display.say(_failure_block(done[name]))
    if left:
        display.say(
            f"Interrupted: {len(left)} of {len(notebooks)} lectures not finished; --resume continues with them, "
            "'optcourse book' makes the pages of what there is."
        )
        return INTERRUPTED
    failed = sum(not record.ok for record in done.values())
    display.say(f"{len(notebooks) - failed} of {len(notebooks)} lectures ok")
    written = write_book(output, catalog, notebooks[0].parent, display.say) if book else OK
    return FAILED if failed or written == FAILED else OK


def write_book(output: Path, catalog: Catalog, lectures: Path, say: Callable[[str], None]) -> int:
    """Make the pages of what is in ``output``, and ``say`` where they are; the exit status, 0 or 1."""
    info = report.last_run(output) or report.RunInfo(Settings("quick", 0, "cpu"), files.versions(), interrupted=False)
    try:
        from optcourse.course.book import build
        from optcourse.course.book.content import Course
    except ModuleNotFoundError as missing:
        say(f"no pages were made: {missing.name} is not installed; pip install 'optcourse[site]' brings it")
        return OK
    try:
        build.write(Course(lectures, catalog, report.load(output), info, output))
    except Exception as error:
        say(f"the book could not be written: {type(error).__name__}: {error}")
        return FAILED
    say(f"the book: {output / report.INDEX}")
    return OK


@contextlib.contextmanager
def _second_signal(started: list[Execution]) -> Iterator[None]:
    """What a signal after the first does: no kernel is left, whatever the first was still waiting for."""

    def stop(*_: object) -> None:
        for execution in started:
            execution.kill()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _lecture(execution: Execution, key: str, *, output: Path, catalog: Catalog, display: Display) -> Record | None:
    """Execute one lecture and keep its notebook; ``None`` when it was killed before it finished."""
    path = execution.path
    display.begin(path.stem)
    execution.on_cell = lambda index, total, section: display.cell(path.stem, index, total, section)
    outcome = execution.run()
    if execution.killed:
        return None
    try:
        report.keep(output, path.stem, outcome)
    except Exception as error:  # a full disk
        outcome = replace(outcome, failure=Failure(type(error).__name__, f"the notebook could not be written: {error}"))
    record = report.record(path, outcome, execution.settings, key, catalog)
    display.end(path.stem, _line(record))
    return record


def _line(record: Record) -> str:
    if record.failure is None:
        claims = f"{record.claims} claim{'s' if record.claims != 1 else ''}"
        claims += f", {record.undecided} undecided" if record.undecided else ""
        claims += f", {record.skipped_line}" if record.skipped else ""
        return f"{record.notebook}: ok, {record.seconds:.1f} s, {claims}"
    return f"{record.notebook}: FAILED after {record.seconds:.1f} s, {record.failure.type}"


def _failure_block(record: Record) -> str:
    """Lecture, cell, section, error type and the first lines of its message."""
    failure = record.failure
    assert failure is not None
    where = f" in cell {failure.cell!r}" if failure.cell else ""
    where += f", section {failure.section!r}" if failure.section else ""
    message = [line[:400] for line in failure.message.strip().splitlines()[:5]] or ["(no message)"]
    return f"\n{record.notebook} failed{where}\n  {failure.type}: " + "\n  ".join(message)
