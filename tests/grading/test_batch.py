"""A whole class from the command line: tables, gradebook, pages, resuming, regrading, interrupting."""

import csv
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny_lab
from click.testing import CliRunner

from optcourse import files
from optcourse.course.cli import main
from optcourse.grading import batch, collect, sandbox
from optcourse.grading.grade import Result
from optcourse.grading.lab import Lab
from optcourse.grading.sandbox import Limits

COMMAND = "from optcourse.course.cli import main; main()"
NO_SOLUTION = {"softmax": "def softmax(z):\n    return z / z.sum(1, keepdims=True)"}


def put(folder: Path, student: str, made) -> None:
    path = folder / "class" / student / "tiny.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made if isinstance(made, bytes) else tiny_lab.raw(made))


def command(folder: Path, *arguments: str) -> list[str]:
    options = ["--lab", "tiny", "--labs", str(folder), "--output", str(folder / "out"), "--jobs", "2"]
    return [sys.executable, "-c", COMMAND, "grade", str(folder / "class"), *options, *arguments]


def grade(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    changed = {**os.environ, **environment}
    return subprocess.run(command(folder, *arguments), capture_output=True, text=True, env=changed)


def table(path: Path, key: str) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def classroom(tmp_path_factory):
    """Four students, graded."""
    folder = tmp_path_factory.mktemp("classroom")
    tiny_lab.write_lab(folder)
    written = "Because <script>alert(1)</script> the gradient is orthogonal."
    put(folder, "ann", tiny_lab.notebook(why=written))
    put(folder, "bob", tiny_lab.notebook(**NO_SOLUTION))
    put(folder, "cyd", tiny_lab.notebook(softmax="import os\nos._exit(1)"))
    put(folder, "dan", b"")
    return folder, grade(folder)


def test_the_tables_say_what_each_student_has(classroom):
    folder, run = classroom
    assert run.returncode == 0, run.stderr
    status = table(folder / "out/status.csv", "student")
    assert {name: (row["status"], row["score"], row["max_score"], row["to_read"]) for name, row in status.items()} == {
        "ann": ("graded", "6", "6", "1"),
        "bob": ("graded", "3", "6", "0"),
        "cyd": ("crashed", "3", "6", "0"),
        "dan": ("unreadable", "", "6", "0"),
    }
    assert "the process ended in cell 'softmax'" in status["cyd"]["flags"]
    assert status["dan"]["flags"] == "the file is empty"
    grades = table(folder / "out/grades.csv", "student_id")
    assert {
        name: (row["assignment"], float(row["score"]), float(row["max_score"])) for name, row in grades.items()
    } == {
        "ann": ("tiny", 6.0, 8.0),
        "bob": ("tiny", 3.0, 8.0),
        "cyd": ("tiny", 3.0, 8.0),
    }


def test_the_table_on_the_screen(classroom):
    _, run = classroom
    for word in (
        "student",
        "status",
        "flags",
        "ann",
        "graded",
        "dan",
        "unreadable",
        "4 submissions: 1 crashed, 2 graded",
    ):
        assert word in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_the_gradebook_is_nbgraders(classroom):
    from nbgrader.api import Gradebook

    folder, _ = classroom
    with Gradebook(f"sqlite:///{folder / 'out/gradebook.db'}") as book:
        scores = {s.student.id: s.score for s in book.assignment_submissions("tiny")}
        assert scores == {"ann": 6.0, "bob": 3.0, "cyd": 3.0}
        bob = {g.name: g.auto_score for g in book.find_submission_notebook("tiny", "tiny", "bob").grades}
        assert bob == {"test-softmax": 0.0, "test-step": 2.0, "test-squares": 1.0, "why": 0.0}
        ann = {g.name: g.needs_manual_grade for g in book.find_submission_notebook("tiny", "tiny", "ann").grades}
        assert ann == {"test-softmax": False, "test-step": False, "test-squares": False, "why": True}


def test_the_page_holds_no_hidden_test_no_solution_and_nothing_that_runs(classroom):
    folder, _ = classroom
    for student in ("ann", "bob", "cyd", "dan"):
        page = (folder / "out/feedback" / student / "tiny.html").read_text(encoding="utf-8")
        for secret in (tiny_lab.SECRET, "hidden(", "HIDDEN", "BEGIN SOLUTION", "Because.\n", "MARK SCHEME", "1000 * z"):
            assert secret not in page
        assert "<script" not in page
        assert "default-src 'none'" in page
    bob = (folder / "out/feedback/bob/tiny.html").read_text(encoding="utf-8")
    assert "z.max(1" not in bob
    assert "return z / z.sum(1, keepdims=True)" in bob
    assert "3 of 6 points" in bob
    assert "&lt;script&gt;alert(1)" in (folder / "out/feedback/ann/tiny.html").read_text(encoding="utf-8")
    assert "not graded" in (folder / "out/feedback/dan/tiny.html").read_text(encoding="utf-8")


def test_the_autograded_notebook_is_nbgraders_and_runs_nothing(classroom):
    folder, _ = classroom
    notebook = json.loads((folder / "out/autograded/ann/tiny/tiny.ipynb").read_text(encoding="utf-8"))
    assert [c["metadata"]["nbgrader"]["grade_id"] for c in notebook["cells"] if "nbgrader" in c["metadata"]] == [
        "imports", "softmax", "test-softmax", "step", "test-step", "squares", "test-squares", "why",
    ]  # fmt: skip
    assert "<script" not in json.dumps(notebook)
    assert not (folder / "out/autograded/dan").exists()


def rows(folder: Path) -> dict[str, tuple]:
    """Everything that is said of each student."""
    with sqlite3.connect(folder / "out/gradebook.db") as book:
        marks = book.execute("select * from grade order by id").fetchall()
    status, grades = table(folder / "out/status.csv", "student"), table(folder / "out/grades.csv", "student_id")
    pages = {path.parent.name: path.read_bytes() for path in folder.glob("out/feedback/*/tiny.html")}
    return {name: (status[name], grades.get(name), pages[name], marks if name == "ann" else None) for name in status}


def test_a_second_run_grades_nobody_again(classroom):
    folder, _ = classroom
    before = {path: path.stat().st_mtime_ns for path in (folder / "out/results").rglob("*.json")}
    all_rows = rows(folder)
    again = grade(folder)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "out/results").rglob("*.json")} == before
    assert rows(folder) == all_rows


def test_a_mended_grader_grades_everybody_again(tmp_path, monkeypatch):
    lab = tiny_lab.write_lab(tmp_path)
    put(tmp_path, "ann", tiny_lab.notebook())
    files.write(tmp_path / "package" / "grade.py", "TOLERANCE = 1")
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(batch, "grade", lambda *_: Result("graded", 6.0, 6.0, [], 0.0))

    def kept() -> list[bool]:
        found: list[bool] = []
        submissions = collect.find([tmp_path / "class"], "tiny")
        batch.grade_class(lab, submissions, tmp_path / "out", Limits(), done=lambda *done: found.append(done[2]))
        return found

    assert (kept(), kept()) == ([False], [True])
    files.write(tmp_path / "package" / "grade.py", "TOLERANCE = 2")
    assert (kept(), kept()) == ([False], [True])


def test_regrading_one_student_changes_no_other_row(tmp_path):
    tiny_lab.write_lab(tmp_path)
    for student in ("ann", "bob", "cyd"):
        put(tmp_path, student, tiny_lab.notebook(**NO_SOLUTION))
    assert grade(tmp_path).returncode == 0
    before = rows(tmp_path)
    put(tmp_path, "bob", tiny_lab.notebook())
    put(tmp_path, "cyd", tiny_lab.notebook())
    assert grade(tmp_path, "--student", "bob").returncode == 0
    after = rows(tmp_path)
    assert after["bob"][0]["score"] == "6"
    assert float(after["bob"][1]["score"]) == 6.0
    assert {name: row[:3] for name, row in after.items() if name != "bob"} == {
        name: row[:3] for name, row in before.items() if name != "bob"
    }
    wrong = grade(tmp_path, "--student", "nobody")
    assert (wrong.returncode, "no submission of 'nobody'" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_ended_and_resumed(tmp_path, how):
    """Who ends the grader, even by force, loses what was being graded and nothing else."""
    tiny_lab.write_lab(tmp_path)
    for number in range(4):
        put(tmp_path, f"a{number}", tiny_lab.notebook())
    slow = "def softmax(z):\n    import time\n    time.sleep(3600)"
    for number in range(4):
        put(tmp_path, f"b{number}", tiny_lab.notebook(softmax=slow))
    running = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    results, status = tmp_path / "out/results/tiny", tmp_path / "out/status.csv"
    while not (status.exists() and len(table(status, "student")) == 4) and running.poll() is None:
        time.sleep(0.1)
    running.send_signal(how)
    _, errors = running.communicate()
    assert running.returncode == (130 if how == signal.SIGINT else -how), errors
    assert ("goes on from there" in errors) == (how == signal.SIGINT)
    assert "Traceback" not in errors
    assert {path.stem for path in results.glob("*.json")} == {"a0", "a1", "a2", "a3"}
    assert set(table(status, "student")) == {"a0", "a1", "a2", "a3"}
    kept = {path: path.stat().st_mtime_ns for path in results.glob("a*.json")}
    for number in range(4):
        put(tmp_path, f"b{number}", tiny_lab.notebook(**NO_SOLUTION))
    assert grade(tmp_path).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in results.glob("a*.json")} == kept
    scores = {name: float(row["score"]) for name, row in table(tmp_path / "out/grades.csv", "student_id").items()}
    assert scores == {**{f"a{n}": 6.0 for n in range(4)}, **{f"b{n}": 3.0 for n in range(4)}}


def test_a_file_that_became_unreadable_has_no_grade_any_more(tmp_path):
    tiny_lab.write_lab(tmp_path)
    put(tmp_path, "ann", tiny_lab.notebook())
    put(tmp_path, "bob", tiny_lab.notebook())
    assert grade(tmp_path).returncode == 0
    put(tmp_path, "bob", b"{")
    assert grade(tmp_path).returncode == 0
    assert table(tmp_path / "out/status.csv", "student")["bob"]["status"] == "unreadable"
    assert set(table(tmp_path / "out/grades.csv", "student_id")) == {"ann"}


def test_without_a_terminal_the_progress_is_said_in_lines(trio, monkeypatch):
    folder, _ = trio
    monkeypatch.setattr("optcourse.grading.commands.grade.EVERY", -1.0)
    where = [str(folder / "class"), "--lab", "tiny", "--labs", str(folder), "--output", str(folder / "out")]
    run = CliRunner().invoke(main, ["grade", *where, "--jobs", "1"])
    assert [line for line in run.stderr.splitlines() if "of 3 graded" in line] == [
        f"optcourse: {number} of 3 graded" for number in (1, 2, 3)
    ]


def test_without_bubblewrap_a_warning_says_what_is_not_contained(tmp_path):
    tiny_lab.write_lab(tmp_path)
    put(tmp_path, "ann", tiny_lab.notebook())
    run = grade(tmp_path, OPTCOURSE_SANDBOX="limits")
    assert run.returncode == 0
    assert table(tmp_path / "out/status.csv", "student")["ann"]["score"] == "6"
    for word in ("warning: OPTCOURSE_SANDBOX=limits: submissions", "network", "write every file", "Install bubblewrap"):
        assert word in run.stderr


def in_process(folder: Path, lab: Lab, jobs: int = 1) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Who was done, in order, and status.csv."""
    order: list[str] = []
    submissions = collect.find([folder / "class"], "tiny")
    done = lambda student, result, kept: order.append(student)  # noqa: E731
    assert batch.grade_class(lab, submissions, folder / "out", Limits(), done=done, jobs=jobs)
    return order, table(folder / "out/status.csv", "student")


@pytest.fixture
def trio(tmp_path):
    """Three students who handed in the right solutions; not graded."""
    for student in ("ann", "bob", "cyd"):
        put(tmp_path, student, tiny_lab.notebook())
    return tmp_path, tiny_lab.write_lab(tmp_path)


@pytest.mark.parametrize(("twice", "status", "score"), [(False, "graded", "6"), (True, "timeout", "3")])
def test_the_starved_are_graded_again_alone_at_the_end(trio, monkeypatch, twice, status, score):
    folder, lab = trio
    asked: list[str] = []
    running = threading.Semaphore(2)

    def fake(lab, raw, limits, flags, stopped):
        student = next(path.parent.name for path in folder.glob("class/*/*") if path.read_bytes() == raw)
        assert running.acquire(blocking=False)
        asked.append(student)
        time.sleep(0.01)
        running.release()
        result = Result("graded", 6.0, 6.0, [], 0.0)
        if student == "bob" and (twice or asked.count("bob") == 1):
            result = Result("timeout", 3.0, 6.0, ["no end in cell 'step'"], 0.0)
            result.starved = True  # pyright: ignore[reportAttributeAccessIssue]
        return result

    for student in ("ann", "bob", "cyd"):
        put(folder, student, tiny_lab.notebook(why=student))
    monkeypatch.setattr(batch, "grade", fake)
    order, rows = in_process(folder, lab, jobs=2)
    assert order[-1] == asked[-1] == "bob" and sorted(order) == ["ann", "bob", "cyd"] and len(asked) == 4
    assert (rows["bob"]["status"], rows["bob"]["score"]) == (status, score)
    assert (batch.BUSY in rows["bob"]["flags"]) == twice
    assert rows["ann"]["flags"] == rows["cyd"]["flags"] == ""
    assert ("bob" in table(folder / "out/grades.csv", "student_id")) and {r["score"] for r in rows.values()} == {
        "6",
        score,
    }


def test_a_box_that_does_not_start_costs_one_row(trio, monkeypatch):
    folder, lab = trio
    real, real_grade = sandbox.bubblewrap(), batch.grade

    def grade(lab, raw, limits, flags, stopped):
        student = next(path.parent.name for path in folder.glob("class/*/*") if path.read_bytes() == raw)
        with monkeypatch.context() as patch:
            patch.setattr(sandbox, "bubblewrap", lambda: "/nonexistent/bwrap" if student == "bob" else real)
            return real_grade(lab, raw, limits, flags, stopped)

    for student in ("ann", "bob", "cyd"):
        put(folder, student, tiny_lab.notebook(why=student))
    monkeypatch.setattr(batch, "grade", grade)
    _, rows = in_process(folder, lab)
    assert {name: (row["status"], row["score"]) for name, row in rows.items()} == {
        "ann": ("graded", "6"), "bob": ("error", ""), "cyd": ("graded", "6"),
    }  # fmt: skip
    assert "the sandbox did not start" in rows["bob"]["flags"] and "/nonexistent/bwrap" in rows["bob"]["flags"]
    monkeypatch.setattr(batch, "grade", real_grade)
    order, rows = in_process(folder, lab)
    assert order[-1] == "bob" and {row["status"] for row in rows.values()} == {"graded"}


def test_a_page_that_fails_costs_one_row(trio, monkeypatch):
    folder, lab = trio
    monkeypatch.setattr(batch, "grade", lambda *_: Result("graded", 6.0, 6.0, [], 0.0))
    page = batch.feedback.page

    def failing(lab, student, result):
        if student == "bob" and result.status == "graded":
            raise KeyError("a fault of ours")
        return page(lab, student, result)

    monkeypatch.setattr(batch.feedback, "page", failing)
    _, rows = in_process(folder, lab, jobs=2)
    assert {name: row["status"] for name, row in rows.items()} == {"ann": "graded", "bob": "error", "cyd": "graded"}
    assert "the grader failed: KeyError: 'a fault of ours'" in rows["bob"]["flags"]


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on files")
@pytest.mark.parametrize(
    ("room", "what", "then"),
    [(3000, "the result of '", "goes on from there"), (60_000, "gradebook.db", "run the same command again")],
)
def test_a_full_disk_is_said_and_the_same_command_goes_on(trio, room, what, then):
    """The disk takes no file of more than ``room`` bytes: no page, or no gradebook."""
    folder, _ = trio
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))  # noqa: E731
    run = subprocess.run(command(folder), capture_output=True, text=True, preexec_fn=full)
    assert run.returncode == 1, run.stderr
    assert what in run.stderr and "cannot be written" in run.stderr and then in run.stderr
    assert "Traceback" not in run.stderr
    done = table(folder / "out/status.csv", "student")
    assert len(done) == (0 if room == 3000 else 3)
    kept = {path: path.stat().st_mtime_ns for path in (folder / "out/results").rglob("*.json")}
    assert len(kept) == len(done)
    assert grade(folder).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {row["score"] for row in table(folder / "out/grades.csv", "student_id").values()} == {"6.0"}


def test_an_output_that_cannot_be_written_is_said_before_anything_runs(trio, monkeypatch):
    folder, lab = trio
    monkeypatch.setattr(batch, "grade", lambda *_: pytest.fail("somebody was graded"))
    with pytest.raises(batch.NotWritten, match="/proc/optcourse.* cannot be written"):
        batch.grade_class(lab, collect.find([folder / "class"], "tiny"), Path("/proc/optcourse"), Limits())
    run = grade(folder, "--output", "/proc/optcourse")
    assert (run.returncode, len(run.stderr.strip().splitlines())) == (1, 1)
    assert "/proc/optcourse cannot be written" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lab", "other"], "unknown lab 'other'"),
        (["--jobs", "0"], "--jobs"),
        (["--timeout", "0"], "--timeout"),
        (["--memory", "0"], "--memory"),
        (["--memory", "0.6"], "memory must be at least 0.5 GB for each of 2 submissions at a time, got 0.6"),
        (["--memory", "1024"], "memory must be at most the"),
        (["--jobs", "256", "--memory", "1"], "0.5 GB for each of 256 submissions at a time, got 1, or jobs at most 2"),
        (["/nonexistent"], "neither a folder nor a zip"),
        (["--labs", "/nonexistent"], "no folder of labs"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_status_2(classroom, arguments, message):
    folder, _ = classroom
    run = grade(folder, *arguments)
    assert run.returncode == 2
    assert message in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
