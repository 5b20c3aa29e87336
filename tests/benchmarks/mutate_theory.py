"""Does an edited constant pass the tests? ``python tests/benchmarks/mutate_theory.py``, or ``make mutants``.

Every numeric constant of ``optcourse.theory`` and of the compressors, aggregators, attacks and mixing of
``optcourse.nodes`` is edited alone: times 1.5 and plus 1 (0 becomes 1; an exponent gets the next one). The tests that
match the module run against each edit, shortest first, up to the first failure. An edit that passes all of them
survives: either a test is missing, or it changes nothing, and then ``equivalent_mutants.EQUIVALENT`` says why.

Nothing on the disk is edited: each edit lives in a fork of a process that has imported pytest and torch already, whose
import system reads the edited module from memory. Every verdict is written to build/mutants.jsonl at once, so that
--resume goes on after an interruption: what is killed stays so until its module changes, survivors until tests do.
A run over all modules, on two quiet cores about an hour, also writes the table tests/benchmarks/MUTANTS.md.
"""

from __future__ import annotations

import argparse
import ast
import gc
import hashlib
import importlib
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import chain
from pathlib import Path

from equivalent_mutants import EQUIVALENT
from tqdm import tqdm

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "mutants.jsonl"
TABLE = Path(__file__).parent / "MUTANTS.md"
MOST_SURVIVORS = 0.02
#: What is edited: whole rooms, or single modules.
EDITED = (
    "theory",
    "nodes/byzantine",
    "nodes/messages/compressors.py",
    "nodes/messages/factors.py",
    "nodes/network/mixing.py",
)
#: Test files of a module that do not bear its name; and the tables over all guarantees.
MORE_TESTS = {
    "theory/batch.py": ["theory/test_large_batches.py"],
    "theory/bound.py": ["theory/test_sgd.py", "theory/test_compression.py", "theory/test_large_batches.py"],
    "theory/sharpness.py": ["theory/test_flatness.py", "theory/test_flatness_bound.py"],
    "theory/distributed/gossip_exact.py": ["theory/test_gossip.py"],
    "theory/distributed/compressors.py": ["theory/test_compression.py", "theory/test_compressed_gossip.py"],
    "nodes/byzantine/aggregators.py": [
        f"nodes/test_aggregator{rest}.py" for rest in ("_constants", "_values", "_wrappers")
    ],
    "nodes/byzantine/vectors.py": ["nodes/test_aggregators.py", "nodes/test_aggregator_values.py"],
    "nodes/messages/compressors.py": ["nodes/test_quantizers.py", "nodes/test_sparse_compressors.py"],
    "nodes/messages/factors.py": ["nodes/test_low_rank.py"],
    "nodes/network/mixing.py": ["nodes/test_mixing_matrices.py", "nodes/test_graphs.py"],
}
TABLES = [
    ["theory/test_scaling.py", "theory/test_conditions.py", "theory/test_statements.py"],
    ["theory/test_tightness.py"],
]
PRELOADED = (
    "pytest torch numpy scipy.optimize scipy.stats scipy.integrate sympy mpmath networkx matplotlib.pyplot hypothesis "
    "_hypothesis_pytestplugin"
)
MEMORY = 16 << 30
#: Rewritten asserts would load the module past the import hook, and other plugins cost time.
QUIET = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
QUIET += ["--hypothesis-profile=mutants"]
#: Smaller constants absorb rounding: 1.5 times as much of it means the same.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Edit:
    """One constant, replaced: bytes ``start`` to ``end`` of the module become ``new``."""

    module: str
    function: str
    line: int
    start: int
    end: int
    new: str
    shown: str

    def key(self, digest: str) -> str:
        """The same in every run, until the module changes."""
        return f"{self.module}:{digest}:{self.start}:{self.new}"


def modules() -> list[str]:
    """Paths of all edited modules, relative to the package."""
    package = ROOT / "optcourse"
    found = [
        p
        for name in EDITED
        for p in ([package / name] if name.endswith(".py") else sorted((package / name).rglob("*.py")))
    ]
    return [str(p.relative_to(package)) for p in found if p.name != "__init__.py"]


def edits(module: str) -> Iterator[Edit]:
    """All edits of one module, from top to bottom."""
    source = (ROOT / "optcourse" / module).read_bytes()
    starts = [0]
    for text in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    lines = source.decode().splitlines()
    for node, function, exponent in _constants(ast.parse(source), "", False):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        old = source[start:end].decode()
        for new in _replacements(node.value, old, exponent):
            column = node.col_offset
            raw = lines[node.lineno - 1].encode()
            shown = (raw[:column] + new.encode() + raw[column + end - start :]).decode().strip()
            yield Edit(module, function, node.lineno, start, end, new, shown)


def _constants(node: ast.AST, function: str, exponent: bool) -> Iterator[tuple[ast.Constant, str, bool]]:
    """Numbers with the function around them, and whether they stand in an exponent; not those of messages."""
    if isinstance(node, ast.Constant):
        if type(node.value) in (int, float):
            yield node, function, exponent
        return
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert):
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    for child in ast.iter_child_nodes(node):
        power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and child is node.right
        yield from _constants(child, function, power or (exponent and isinstance(node, ast.BinOp | ast.UnaryOp)))


def _replacements(value: float, old: str, exponent: bool) -> list[str]:
    if value == 0:
        return ["1"]
    if exponent:
        return [f"({old} + 1)"]
    if abs(value) < TOLERANCE:
        return [repr(value + 1)]
    return [repr(value * 1.5), *([] if value == 2 else [repr(value + 1)])]  # of 2 both are 3


def tests_of(module: str) -> list[list[str]]:
    """The doctests of a module with the test files that match it, and the tables over guarantees if it has some."""
    room, name = module.split("/")[0], Path(module).stem
    own = [f"tests/{file}" for file in (f"{room}/test_{name}.py", *MORE_TESTS.get(module, []))]
    own = [f"optcourse/{module}", *(file for file in own if (ROOT / file).exists())]
    guarantees = "-> Bound:" in (ROOT / "optcourse" / module).read_text(encoding="utf-8")
    ranges = ["tests/theory/test_ranges.py"] if room == "theory" else []
    return [own + ranges, *([f"tests/{file}" for file in files] for files in TABLES if guarantees)]


# ------------------------------------------------------------------------------------------ one run of pytest


class Watcher:
    """A pytest plugin: shortest tests first, and which one fails first."""

    def __init__(self, seconds: dict[str, float]):
        self.before, self.seconds, self.failed = seconds, {}, ""

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self.before.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        self._note(report)

    def pytest_collectreport(self, report):
        self._note(report)

    def _note(self, report) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid or "collection"


class Edited(SourceFileLoader):
    """Loads an edited source instead of the file."""

    text = b""

    def get_code(self, fullname):
        """The code of the edited source."""
        return compile(self.text, self.path, "exec")


def install(edit: Edit) -> None:
    """Let the import system read the edited module, in this process."""
    path = ROOT / "optcourse" / edit.module
    name = ".".join(("optcourse", *Path(edit.module).with_suffix("").parts))
    source = path.read_bytes()
    loader = Edited(name, str(path))
    loader.text = source[: edit.start] + edit.new.encode() + source[edit.end :]

    class Finder:
        @staticmethod
        def find_spec(fullname, path_=None, target=None):
            return spec_from_file_location(fullname, path, loader=loader) if fullname == name else None

    sys.meta_path.insert(0, Finder)


@dataclass
class Run:
    """A fork that runs tests: ``edit`` None for the unedited module."""

    edit: Edit | None
    tests: list[list[str]]
    seconds: dict[str, float]
    cpu: float
    pid: int = 0
    pipe: int = 0
    deadline: float = 0.0
    said: bytes = field(default=b"")

    def start(self) -> Run:
        """Fork, and run pytest in the child; what it found comes through a pipe."""
        self.pipe, end = os.pipe()
        os.set_blocking(self.pipe, False)
        self.deadline = time.monotonic() + 20 * self.cpu
        self.pid = os.fork()
        if self.pid:
            os.close(end)
            return self
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(self.cpu) + 1, int(self.cpu) + 2))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        if self.edit:
            install(self.edit)
        watcher, code = Watcher(self.seconds), 3
        try:
            for files in self.tests:
                code = int(importlib.import_module("pytest").main([*QUIET, *files], plugins=[watcher]))
                if code:
                    break
        finally:
            with os.fdopen(end, "w") as pipe:
                json.dump({"failed": watcher.failed, "seconds": watcher.seconds if not self.edit else {}}, pipe)
            os._exit(min(code, 100))
        return self

    def finished(self) -> dict | None:
        """None while it runs; then its verdict. One that exceeds its time is ended, with what it has started."""
        while chunk := _read(self.pipe):
            self.said += chunk
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        late = not pid and time.monotonic() > self.deadline
        if late:
            os.killpg(self.pid, signal.SIGKILL)
            pid, status, used = os.wait4(self.pid, 0)
        if not pid:
            return None
        while chunk := _read(self.pipe):
            self.said += chunk
        os.close(self.pipe)
        code = os.waitstatus_to_exitcode(status)
        said = json.loads(self.said or "{}")
        by = "time" if late or code in (-signal.SIGXCPU, -signal.SIGKILL) else said.get("failed") or f"exit {code}"
        return {
            "survived": code == 0,
            "by": "" if code == 0 else by,
            "cpu": round(used.ru_utime + used.ru_stime, 2),
            **said,
        }


def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return b""


def baseline(module: str) -> tuple[dict[str, float], float]:
    """Seconds of every test, and the CPU limit of an edit. Raises ``SystemExit`` if the tests fail unedited."""
    run = Run(None, tests_of(module), {}, 600.0).start()
    while (found := run.finished()) is None:
        time.sleep(0.02)
    if not found["survived"]:
        raise SystemExit(f"{module}: the tests fail without an edit: {found['by']}")
    return found["seconds"], 4 * found["cpu"] + 10


# ------------------------------------------------------------------------------------------ all runs


def digest(module: str) -> str:
    """Of the source of a module."""
    return _digest([f"optcourse/{module}"])


def digest_of_tests(module: str) -> str:
    """Of the files with tests, and of those that they may import."""
    beside = (p for p in (ROOT / "tests" / module.split("/")[0]).glob("*.py") if not p.name.startswith("test_"))
    return _digest([*chain.from_iterable(tests_of(module)), *sorted(str(p.relative_to(ROOT)) for p in beside)])


def _digest(files: list[str]) -> str:
    return hashlib.sha256(b"".join((ROOT / file).read_bytes() for file in files)).hexdigest()[:12]


def known(path: Path) -> dict[str, dict]:
    """The verdicts of earlier runs, the last of each edit."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def examine(chosen: list[Edit], jobs: int, path: Path) -> Iterator[tuple[Edit, dict]]:
    """Runs all edits, ``jobs`` at a time; each verdict is on the disk before it is yielded."""
    running: list[Run] = []
    waiting = _prepared(chosen)
    pending = next(waiting, None)
    with path.open("a", encoding="utf-8") as file:
        try:
            while running or pending:
                while pending and len(running) < jobs:
                    running.append(pending.start())
                    pending = next(waiting, None)
                time.sleep(0.01)
                for run in list(running):
                    if (found := run.finished()) is not None:
                        running.remove(run)
                        said = {"shown": run.edit.shown, "tests": digest_of_tests(run.edit.module)}
                        row = {"key": run.edit.key(digest(run.edit.module)), **found, **said}
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
                        file.flush()
                        yield run.edit, row
        finally:
            for run in running:
                os.killpg(run.pid, signal.SIGKILL)
                os.waitpid(run.pid, 0)


def _prepared(chosen: list[Edit]) -> Iterator[Run]:
    module, seconds, cpu = "", {}, 0.0
    for edit in chosen:
        if edit.module != module:
            module = edit.module
            seconds, cpu = baseline(module)
        yield Run(edit, tests_of(module), seconds, cpu)


def reasons() -> dict[Edit, str]:
    """Why the edits of ``EQUIVALENT`` change nothing. Raises ``SystemExit`` where an entry does not fit one edit."""
    found, every = {}, {module: list(edits(module)) for module in {row[0] for row in EQUIVALENT}}
    for module, function, shown, reason in EQUIVALENT:
        fitting = [e for e in every[module] if (e.function, e.shown) == (function, shown)]
        if len(fitting) != 1:
            raise SystemExit(f"EQUIVALENT names {len(fitting)} edits of {module} {function}: {shown}")
        found[fitting[0]] = reason
    return found


def table(verdicts: dict[Edit, dict], why: dict[Edit, str]) -> str:
    """Markdown: how many edits of each module survive, and each survivor with its reason."""
    survivors = [edit for edit, row in verdicts.items() if row["survived"]]
    total, alive = Counter(e.module for e in verdicts), Counter(e.module for e in survivors)
    rows = [f"| `{module}` | {n} | {alive[module]} |" for module, n in sorted(total.items())]
    named = [f"- `{e.module}` `{e.function}`: `{e.shown}`  \n  {why.get(e, '**no reason known**')}" for e in survivors]
    return (
        "# Edited constants that pass all tests\n\n"
        "Made by `make mutants`: every numeric constant is edited alone (times 1.5, plus 1, the next exponent), and the"
        f" tests that match its module run. Of {len(verdicts)} edits {len(survivors)} survive"
        f" ({len(survivors) / max(len(verdicts), 1):.1%}).\n\n| module | edits | survivors |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n## What the survivors change\n\n"
        + "\n".join(named)
        + "\n"
    )


def main() -> None:
    """Edit, test, say what survives; exit status 1 if a survivor has no reason or a reason no survivor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", nargs="*", help="e.g. theory/sgd.py or theory/distributed; all by default")
    parser.add_argument("--sample", type=int, help="only so many edits, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of --sample")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--resume", action="store_true", help="keep what earlier runs have killed")
    options = parser.parse_args()
    everything = modules()
    named = [m for m in everything if not options.module or any(m.startswith(name) for name in options.module)]
    if not named:
        parser.error(f"no module begins with {options.module}; there are {', '.join(everything)}")
    why = reasons()
    chosen = [edit for module in named for edit in edits(module)]
    if options.sample is not None:
        drawn = set(random.Random(options.seed).sample(range(len(chosen)), min(options.sample, len(chosen))))
        chosen = [edit for i, edit in enumerate(chosen) if i in drawn]
    os.chdir(ROOT)
    RESULTS.parent.mkdir(exist_ok=True)
    if not options.resume:
        RESULTS.unlink(missing_ok=True)
    before = known(RESULTS)
    verdicts = {}
    for module in named:
        now, tests = digest(module), digest_of_tests(module)
        for edit in chosen:
            row = before.get(edit.key(now)) if edit.module == module else None
            if row and (not row["survived"] or row["tests"] == tests):
                verdicts[edit] = row
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in PRELOADED.split():
        importlib.import_module(name)
    hypothesis = importlib.import_module("hypothesis")
    hypothesis.settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    gc.freeze()  # else every fork copies what it collects
    left = [edit for edit in chosen if edit not in verdicts]
    with tqdm(total=len(chosen), initial=len(verdicts), unit="edit", smoothing=0.05) as bar:
        for edit, row in examine(left, options.jobs, RESULTS):
            verdicts[edit] = row
            bar.update()
            if row["survived"] and edit not in why:
                bar.write(f"survives: {edit.module}:{edit.line} {edit.function}: {edit.shown}")
    verdicts = {edit: verdicts[edit] for edit in chosen}
    survivors = [edit for edit, row in verdicts.items() if row["survived"]]
    unexplained = [edit for edit in survivors if edit not in why]
    wrong = [edit for edit in why if edit in verdicts and edit not in survivors]
    for edit in wrong:
        print(f"EQUIVALENT, but killed by {verdicts[edit]['by']}: {edit.module} {edit.function}: {edit.shown}")
    print(f"{len(survivors)} of {len(chosen)} edits survive, {len(unexplained)} without a reason")
    if named == everything and options.sample is None:
        TABLE.write_text(table(verdicts, why), encoding="utf-8")
    sys.exit(bool(unexplained or wrong or len(survivors) > MOST_SURVIVORS * max(len(chosen), 50)))


if __name__ == "__main__":
    main()
