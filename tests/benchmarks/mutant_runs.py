"""Run tests against edited modules, in forks; nothing on the disk is edited.

Quick: pytest has collected the tests of a module; a fork for each edit gives the function around it its edited code (or
binds all names of the module anew), and runs the tests, shortest first. A failure is a failure. What passes there
(numbers that were computed when the test files were imported do not know of the edit) is run thoroughly: a fork of a
process without the package, whose import system reads the edited module from memory, collects and runs all tests.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path

from mutants import ROOT, Edit, tests_of

#: What a fork finds imported: all that tests need but the package.
PRELOADED = (
    "pytest torch numpy scipy.optimize scipy.stats scipy.integrate sympy mpmath networkx matplotlib.pyplot hypothesis "
    "_hypothesis_pytestplugin nbformat"
)
MEMORY = 16 << 30
#: Rewritten asserts would load the module past the import system, and other plugins cost time.
QUIET = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
QUIET += ["--hypothesis-profile=mutants"]


def prepare() -> None:
    """Import what every fork needs; let hypothesis draw the same examples in every run, and not shrink them."""
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


# ------------------------------------------------------------------------------------------ forks


@dataclass
class Fork:
    """A process that calls ``work``, which returns a dictionary, for at most ``cpu`` seconds of its time."""

    work: Callable[[], dict]
    cpu: float
    pid: int = 0
    pipe: int = 0
    deadline: float = 0.0
    said: bytes = field(default=b"")

    def start(self) -> Fork:
        """Fork; the child is the leader of a group of its own, and silent."""
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
        try:
            found = self.work()
        except BaseException:
            found = {"failed": traceback.format_exc()[-300:]}
        with os.fdopen(end, "w") as pipe:
            json.dump(found, pipe)
        os._exit(0)

    def finished(self) -> dict | None:
        """None while it runs; then what ``work`` returned. Beyond its time it is ended, with what it has started."""
        while chunk := _read(self.pipe):
            self.said += chunk
        pid, _, used = os.wait4(self.pid, os.WNOHANG)
        if not pid and time.monotonic() < self.deadline:
            return None
        if not pid:
            os.killpg(self.pid, signal.SIGKILL)
            _, _, used = os.wait4(self.pid, 0)
        while chunk := _read(self.pipe):
            self.said += chunk
        os.close(self.pipe)
        try:
            found = json.loads(self.said)
        except ValueError:  # it was ended, or the interpreter fell
            found = {"failed": "time"}
        return found | {"cpu": round(used.ru_utime + used.ru_stime, 2)}

    def end(self) -> None:
        """Stop it, with what it has started."""
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return b""


def pool(work: Iterable[tuple[Edit, Fork]], jobs: int) -> Iterator[tuple[Edit, dict]]:
    """The results of all forks, ``jobs`` at a time, as they come."""
    running: list[tuple[Edit, Fork]] = []
    waiting = iter(work)
    pending = next(waiting, None)
    try:
        while running or pending:
            while pending and len(running) < jobs:
                running.append((pending[0], pending[1].start()))
                pending = next(waiting, None)
            time.sleep(0.005)
            for edit, fork in list(running):
                if (found := fork.finished()) is not None:
                    running.remove((edit, fork))
                    yield edit, found
    finally:
        for _, fork in running:
            fork.end()


# ------------------------------------------------------------------------------------------ thoroughly


class Watcher:
    """A pytest plugin: which test fails first."""

    failed = ""

    def pytest_runtest_logreport(self, report):
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


def _name(module: str) -> str:
    return ".".join(("optcourse", *Path(module).with_suffix("").parts))


def thorough(edit: Edit) -> dict:
    """The first failure of all tests, collected with the edited module."""
    path, name = ROOT / "optcourse" / edit.module, _name(edit.module)
    loader = Edited(name, str(path))
    loader.text = edit.source()

    class Finder:
        @staticmethod
        def find_spec(fullname, path_=None, target=None):
            return spec_from_file_location(fullname, path, loader=loader) if fullname == name else None

    sys.meta_path.insert(0, Finder)
    return _run(tests_of(edit.module))


def unedited(module: str) -> dict:
    """The same without an edit."""
    return _run(tests_of(module))


def _run(groups: list[list[str]]) -> dict:
    pytest = importlib.import_module("pytest")
    for files in groups:
        watcher = Watcher()
        code = int(pytest.main([*QUIET, *files], plugins=[watcher]))
        if code:
            return {"failed": watcher.failed or f"exit status {code} of pytest"}
    return {"failed": ""}


# ------------------------------------------------------------------------------------------ quickly


class Quick:
    """A pytest plugin that runs the collected tests once for each edit; ``say`` gets each edit and what it found."""

    def __init__(self, edits: list[Edit], jobs: int, say: Callable[[Edit, dict], None]):
        self.edits, self.jobs, self.say = edits, jobs, say

    def pytest_runtestloop(self, session):
        """Instead of pytest's own loop."""
        module = self.edits[0].module

        def timed(whole: bool) -> dict:
            seconds: dict[str, float] = {}
            if whole:
                rebind(module, (ROOT / "optcourse" / module).read_bytes())
            for i, item in enumerate(session.items):
                start = time.process_time()
                self._test(item, session.items[i + 1 : i + 2])
                seconds[item.nodeid] = time.process_time() - start
                if session.testsfailed:
                    return {"failed": item.nodeid}
            return {"failed": "", "seconds": seconds}

        for whole in (True, False):  # do the tests stand a module whose names are all bound anew?
            ((_, found),) = pool([(self.edits[0], Fork(partial(timed, whole), 600.0))], 1)
            if not found["failed"]:
                break
        else:
            raise SystemExit(f"{module}: the tests fail without an edit: {found['failed']}")
        items = sorted(session.items, key=lambda item: found["seconds"][item.nodeid])

        def edited(edit: Edit) -> dict:
            if not patch(edit):
                if not whole:
                    return {"failed": ""}
                rebind(module, edit.source())
            for i, item in enumerate(items):
                self._test(item, items[i + 1 : i + 2])
                if session.testsfailed:
                    return {"failed": item.nodeid}
            return {"failed": ""}

        forks = ((edit, Fork(partial(edited, edit), 3 * found["cpu"] + 5)) for edit in self.edits)
        for edit, row in pool(forks, self.jobs):
            self.say(edit, row)
        return True

    @staticmethod
    def _test(item, following) -> None:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following[0] if following else None)


def rebind(module: str, source: bytes) -> None:
    """Runs a source in the namespace of the imported module: for edits outside of functions."""
    there = sys.modules[_name(module)]
    exec(compile(source, there.__file__, "exec"), vars(there))


def patch(edit: Edit) -> bool:
    """Gives the function around the edit its edited code and defaults, in place; False where there is none."""
    module = sys.modules[_name(edit.module)]
    namespace = dict(vars(module))
    exec(compile(edit.source(), module.__file__, "exec"), namespace)
    owner, _, rest = edit.function.partition(".")
    old, new = getattr(module, owner, None), namespace.get(owner)
    if isinstance(old, type) and rest:
        old, new = (vars(c).get(rest.split(".")[0]) for c in (old, new))
        old, new = (getattr(f, "fget", getattr(f, "__func__", f)) for f in (old, new))  # of properties, class methods
    if not all(hasattr(f, "__code__") and not f.__closure__ for f in (old, new)):
        return False
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    return True


def quick(module: str, edits: list[Edit], jobs: int, pipe: int) -> None:
    """All edits of a module, a line of JSON for each in the pipe; ends the process."""
    status = 1
    try:
        with os.fdopen(pipe, "w") as out:

            def say(edit: Edit, row: dict) -> None:
                out.write(json.dumps([edits.index(edit), row]) + "\n")
                out.flush()

            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            files = [file for group in tests_of(module)[:2] for file in group]
            pytest = importlib.import_module("pytest")
            status = int(pytest.main([*QUIET, *files], plugins=[Quick(edits, jobs, say)]))
    finally:
        os._exit(status)
