"""Hostile and broken submissions: what the student did, what the grader must say, and how a class of them is graded.

Every case starts from the right solutions (6 points). Its ``score`` is what the honest part of it earns; ``None`` means
that there is nothing to grade, which is not zero.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import pytest
import tiny_lab

from optcourse.grading import batch, collect, sandbox
from optcourse.grading.grade import Result

#: All the time that what ends may need, on a busy machine too.
LIMITS = sandbox.Limits(total=900, cell=120, exercise=120, memory=2 * 2**30, output=2000)
#: In the box nobody is root; cells that would do harm elsewhere start with this.
ONLY_IN_THE_BOX = "import os\nassert os.getuid() == 65534, 'this must not run outside of the sandbox'\n"
#: A process that a submission left behind has this in its command line.
LEFT_OVER = "31536.25"
HONEST = {"ann": (6.0, {}), "zoe": (3.0, {"step": "def step(x, g, lr):\n    return x", "squares": "squares = None"})}
WRONG = "def softmax(z):\n    return z\n"


@dataclass
class Place:
    """Where everything lies while the class is graded; absolute paths that a submission may try."""

    root: Path
    port: int = 0

    @property
    def targets(self) -> list[str]:
        """Files that no submission may read or change."""
        inside = ("source/tiny/tiny.ipynb", "class/ann/tiny.ipynb", "out/gradebook.db", "home/canary", "canary")
        return [str(self.root / path) for path in inside] + [__file__, "/etc/passwd", os.path.expanduser("~/.bashrc")]


@dataclass(frozen=True)
class Case:
    """``edit`` makes the submission: cells by name, ``extra`` cells after others, or the bytes of the file."""

    name: str
    status: str
    score: float | None
    flag: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    change: Callable[[tiny_lab.nbformat.NotebookNode], object] | None = None
    file: Callable[[Place], bytes] | None = None
    link: str = ""
    hangs: bool = False

    @property
    def endless(self) -> bool:
        """Whether it goes on until a limit ends it."""
        return self.hangs or self.status == "timeout" or "interrupted" in self.flag

    @property
    def student(self) -> str:
        """The name as the grader writes it."""
        return quote(self.name, safe=" -_.@+")

    def write(self, place: Place) -> None:
        """Hand it in."""
        path = place.root / "class" / self.name / "tiny.ipynb"
        path.parent.mkdir()
        if self.link:
            path.symlink_to(place.root / self.link)
            return
        fill = {"TARGETS": repr(place.targets), "PORT": str(place.port), "SOCKET": repr(str(place.root / "socket"))}

        def filled(text: str) -> str:
            for key, value in fill.items():
                text = text.replace(f"<{key}>", value)
            return text

        made = tiny_lab.notebook(
            {k: filled(v) for k, v in self.extra.items()}, **{k: filled(v) for k, v in self.cells.items()}
        )
        if self.change:
            self.change(made)
        path.write_bytes(self.file(place) if self.file else tiny_lab.raw(made))


def in_cell(name: str, code: str, status: str, score: float | None = 6.0, flag: str = "") -> Case:
    """``code`` in a cell of its own, before the first exercise."""
    return Case(name, status, score, flag, extra={"imports": code})


def cheat(
    name: str, code: str, status: str = "graded", score: float | None = 3.0, flag: str = "", hangs: bool = False
) -> Case:
    """A wrong softmax (honest score 3), and ``code`` after it that tries to get its points."""
    return Case(name, status, score, flag, cells={"softmax": WRONG}, extra={"softmax": code}, hangs=hangs)


def softmax(name: str, code: str, status: str = "graded", score: float | None = 3.0, flag: str = "") -> Case:
    """``code`` instead of the first exercise."""
    return Case(name, status, score, flag, cells={"softmax": code})


def checksums(folder: Path) -> dict[str, str]:
    """What lies in ``folder``, the output excepted."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "replace")
        if name == "out" or name.startswith("out/"):
            continue
        content = os.readlink(path) if path.is_symlink() else "" if not path.is_file() else path.read_bytes()
        found[name] = hashlib.sha256(os.fsencode(content)).hexdigest()
    return found


@dataclass(repr=False)
class Graded:
    """A class after grading."""

    place: Place
    results: dict[str, Result]
    finished: bool
    changed: set[str]
    connections: int

    def feedback(self, student: str) -> str:
        """The page a student gets back."""
        return (self.place.root / "out" / "feedback" / student / "tiny.html").read_text(encoding="utf-8")

    def autograded(self, student: str) -> str:
        """The notebook the instructor opens."""
        path = self.place.root / "out" / "autograded" / student / "tiny" / "tiny.ipynb"
        return path.read_text(encoding="utf-8") if path.is_file() else ""


@contextlib.contextmanager
def _listeners(place: Place) -> Iterator[list[socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        here = os.getcwd()
        os.chdir(place.root)  # the path of a socket may have 107 bytes only
        unix.bind("socket")
        os.chdir(here)
        unix.listen()
        for listener in (tcp, unix):
            listener.setblocking(False)
        place.port = tcp.getsockname()[1]
        yield [tcp, unix]


def grade_class(folder: Path, cases: list[Case], limits: sandbox.Limits = LIMITS, *, boxed: bool = True) -> Graded:
    """Two honest students and one for each case, graded by two commands.

    What never ends is graded last. Its cells get four times as long as a whole honest submission has just taken: no
    number of seconds is right on every machine. Many cases would do harm outside of the box: ``boxed`` refuses to.
    """
    assert (sandbox.bubblewrap() is not None) == boxed
    place = Place(folder)
    lab = tiny_lab.write_lab(folder)
    for name in ("class", "home", "out"):
        (folder / name).mkdir()
    for name in ("canary", "home/canary", "out/canary"):
        (folder / name).write_text("still here")
    results: dict[str, Result] = {}

    def grade(chosen: set[str], limits: sandbox.Limits) -> bool:
        return batch.grade_class(
            lab,
            [s for s in collect.find([folder / "class"], "tiny") if s.student in chosen],
            folder / "out",
            limits,
            jobs=2,
            done=lambda student, result, kept: results.update({student: result}),
        )

    with _listeners(place) as listeners, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder / "home"))
        for student, (_, cells) in HONEST.items():
            Case(student, "graded", None, cells=cells).write(place)
        for case in cases:
            case.write(place)
        before = checksums(folder)
        finished = grade({*HONEST, *(case.student for case in cases if not case.endless)}, limits)
        patience = max(3.0, 4 * max(results[student].seconds for student in HONEST))
        short = dataclasses.replace(limits, total=30 * patience + 60, cell=patience, exercise=patience)
        finished &= grade({case.student for case in cases if case.endless}, short)
        connections = 0
        for listener in listeners:
            with contextlib.suppress(BlockingIOError):
                listener.accept()
                connections += 1
        after = checksums(folder)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return Graded(place, results, finished, changed, connections)


def left_over_processes() -> list[str]:
    """Command lines of processes that a submission started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if LEFT_OVER in line and line.startswith("sleep"):
                found.append(line)
    return found


class CorpusTests:
    """What must hold for every class; a test module names its ``cases``."""

    cases: ClassVar[list[Case]] = []
    limits = LIMITS

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each test of a ``case`` runs for each of them."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases, ids=[case.name for case in self.cases])

    def test_status_and_score(self, graded: Graded, case: Case) -> None:
        self.check(graded, case)

    def test_the_batch_finishes_with_a_definite_status_for_everybody(self, graded: Graded) -> None:
        assert graded.finished
        assert set(graded.results) == {*HONEST, *(case.student for case in self.cases)}
        known = {"graded", "flagged", "timeout", "crashed", "unreadable"}
        assert {result.status for result in graded.results.values()} <= known

    def test_no_other_grade_changes(self, graded: Graded) -> None:
        for student, (score, _) in HONEST.items():
            result = graded.results[student]
            assert (result.status, result.score) == ("graded", score), result.flags

    def test_nothing_outside_of_the_output_is_touched(self, graded: Graded) -> None:
        assert graded.changed == set()
        assert (graded.place.root / "out" / "canary").read_text() == "still here"
        assert graded.connections == 0
        assert left_over_processes() == []

    def test_no_page_runs_anything_or_shows_hidden_inputs(self, graded: Graded) -> None:
        for student, result in graded.results.items():
            page, notebook = graded.feedback(student), graded.autograded(student)
            assert "<script" not in page.lower()
            assert "<img src=x" not in page.lower()
            assert tiny_lab.SECRET not in page + notebook
            assert "LEAK" not in str(result.outputs), result.outputs
            assert len(page) < 1_000_000
            assert len(notebook) < 20_000_000
            for cell in json.loads(notebook)["cells"] if notebook else ():
                outputs = cell.get("outputs", ())
                assert cell["cell_type"] == "code" or "<script" not in "".join(cell["source"]).lower()
                assert {kind for output in outputs for kind in output.get("data", ())} <= {"text/plain", "image/png"}
                assert not any("script" in str(output.get("data", {}).get("image/png")) for output in outputs)

    def check(self, graded: Graded, case: Case) -> None:
        """Status, score and flag of one case."""
        result = graded.results[case.student]
        reasons = {name: (mark.state, mark.reasons) for name, mark in result.marks.items()}
        said = (result.status, result.score, result.flags, reasons, result.errors)
        assert (result.status, result.score) == (case.status, case.score), said
        assert case.flag in "; ".join(result.flags), said
        if not case.flag and case.status == "graded":
            assert result.flags == [], said
