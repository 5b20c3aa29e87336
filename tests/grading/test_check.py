"""``optcourse labs check``: what a student is told, about right, wrong, endless and broken notebooks."""

import functools
import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import pytest
import tiny_lab
from click.testing import CliRunner

from optcourse.course.cli import main
from optcourse.grading import check, grade, lab, sandbox
from optcourse.grading.box import kernel

pytest.importorskip("nbgrader")
COMMAND = [sys.executable, "-c", "from optcourse.course.cli import main; main()", "labs", "check"]
PATIENCE = 300
PASSED = {"softmax", "step", "squares"}
THEIRS = "optcourse"  # no line of ours may be in what a student reads


def other() -> nbformat.NotebookNode:
    """Another lab, of the same form."""
    made = tiny_lab.source()
    for cell in made.cells:
        if cell.metadata.get("nbgrader"):
            cell.metadata["nbgrader"]["grade_id"] = f"other-{cell.id}"
        cell.id = f"other-{cell.id}"
        cell.source = cell.source.replace("Exercise ", "Task ").replace("Tiny", "Other")
    return made


@pytest.fixture(scope="module")
def labs(tmp_path_factory):
    """The releases of two labs, and nothing else: a student has no sources."""
    from optcourse.grading.release import release

    folder = tmp_path_factory.mktemp("labs")
    for name, made in {"tiny": tiny_lab.source(), "other": other()}.items():
        path = folder / "release" / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(release(made), path)
    return folder


@pytest.fixture
def checked(labs, tmp_path, monkeypatch):
    """Run the command on a file; the result."""

    def run(made, *options, name="tiny.ipynb", lab="tiny"):
        monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # where it is set, ipykernel's streams are others
        path = tmp_path / name
        path.write_bytes(made if isinstance(made, bytes) else tiny_lab.raw(made))
        return CliRunner().invoke(main, ["labs", "check", lab, str(path), "--labs", str(labs), *options])

    return run


def states(text: str) -> dict[str, str]:
    found = re.findall(r"^. (?:Exercise )?(.+) \([\d.]+ points\): (.+)$", text, re.M)
    return dict(found)


# Right -------------------------------------------------------------------------------------------------------


def test_right_work_passes_and_nothing_else_is_said(labs, tmp_path):
    path = tmp_path / "tiny.ipynb"
    path.write_bytes(tiny_lab.raw(tiny_lab.notebook()))
    run = subprocess.run([*COMMAND, "tiny", path, "--labs", labs], capture_output=True, text=True, timeout=PATIENCE)
    assert (run.returncode, run.stderr) == (0, "")  # no warning of a library
    assert run.stdout == (
        "✓ Exercise softmax (3 points): passed\n✓ Exercise step (2 points): passed\n"
        "✓ Exercise squares (1 points): passed\n– Written question (2 points): not answered\n"
    )


#: What runs in a notebook from top to bottom passes, and earns full marks: the same cells, the same kernel.
WORLDS = {
    "magics": {"softmax": "%matplotlib inline\n" + tiny_lab.SOLUTIONS["softmax"]},
    "a cell of its own": {"extra": {"imports": "import statistics\nmine = statistics.mean"}},
    "own module": {
        "extra": {"imports": "%%writefile mine.py\ntwo = 2"},
        "step": "import mine\n" + tiny_lab.SOLUTIONS["step"],
    },
    "threads": {
        "squares": "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\npool.submit(int).result()\n"
        + tiny_lab.SOLUTIONS["squares"]
    },
    "shell and streams": {
        "softmax": "import subprocess, sys\n!echo hello\nsys.stdout.writelines(['a'])\nsubprocess.run(['true'], stdout=sys.stdout)\n"
        + tiny_lab.SOLUTIONS["softmax"]
    },
    "await": {"step": "import asyncio\nawait asyncio.sleep(0)\n" + tiny_lab.SOLUTIONS["step"]},
}


@pytest.mark.parametrize("kind", WORLDS)
def test_what_passes_here_earns_full_marks_in_the_grader(checked, tmp_path, kind):
    if sandbox.bubblewrap() is None:
        pytest.skip("bubblewrap does not work here")
    made = tiny_lab.notebook(**WORLDS[kind])
    result = checked(made)
    assert result.exit_code == 0, result.output
    mark = grade.grade(tiny_lab.write_lab(tmp_path / "labs"), tiny_lab.raw(made), sandbox.Limits())
    assert (mark.score, mark.errors) == (6.0, {})


def test_limits_and_environment_are_the_graders():
    assert check.LIMIT == sandbox.Limits().cell
    box = sandbox.environment("/tmp")
    assert {key: box[key] for key in kernel.ENVIRONMENT} == kernel.ENVIRONMENT


def test_the_notebook_runs_alone_in_an_empty_folder(checked, tmp_path):
    (tmp_path / "data.csv").write_text("1")
    made = tiny_lab.notebook({"imports": "import os\nassert os.listdir() == [], os.listdir()"})
    result = checked(made)
    assert result.exit_code == 0 and "note" not in result.output, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "tiny.ipynb"]


# Wrong: what was failed, and what is said ------------------------------------------------------------------------

STEP = tiny_lab.SOLUTIONS["step"]
LOOP = "def step(x, g, lr):\n    while True:\n        x = x"
#: cells, options, which exercises pass, what is said, and what is not.
FAULTS = {
    "a wrong value keeps its lines": (
        {"step": "def step(x, g, lr):\n    return x + lr * g"},
        [],
        PASSED - {"step"},
        ["step (2 points): failed\n    a step along the negative gradient\n      expected: 0.0\n      actual:   2.0"],
        ["NotAsExpected"],
    ),
    "a loop in the test": (
        {"step": LOOP},
        ["--timeout", "2"],
        PASSED - {"step"},
        [
            "the test that begins",
            "below 'Exercise step'",
            "did not end in 2 s",
            "a loop that never ends",
            "it was in line ",
            "--timeout",
        ],
        ["KeyboardInterrupt"],
    ),
    "a loop in the cell": (
        {"step": f"{STEP}\nwhile True:\n    pass"},
        ["--timeout", "2"],
        PASSED,
        ["the cell that begins 'def step(x, g, lr):', below 'Exercise step'", "did not end in 2 s", "while True"],
        ["KeyboardInterrupt"],
    ),
    "a loop deaf to interrupts": (
        {"step": "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass"},
        ["--timeout", "2"],
        PASSED - {"step"},
        ["did not end in 2 s and could not be interrupted"],
        ["KeyboardInterrupt", "Traceback"],
    ),
    "an exit in C": (
        {"step": "import os\nos._exit(3)"},
        [],
        PASSED - {"step"},
        ["the cell that begins 'import os', below 'Exercise step' ended the process"],
        ["Traceback"],
    ),
    "two cells that end the process": (
        {"step": "import os\nos._exit(3)", "softmax": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"},
        [],
        {"squares"},
        ["'import os', below 'Exercise step' ended", "'import os, signal', below 'Exercise softmax' ended"],
        ["Traceback"],
    ),
    "a syntax error": (
        {"step": "def step(x, g, lr)\n    return x"},
        [],
        PASSED - {"step"},
        ["SyntaxError: expected ':'"],
        ["NameError"],
    ),
    "tabs and spaces": (
        {"step": "def step(x, g, lr):\n\tif True:\n        return x"},
        [],
        PASSED - {"step"},
        ["TabError"],
        [],
    ),
    "a name that is not there": (
        {"step": "def step(x, g, lr):\n    return x - rate * g"},
        [],
        PASSED - {"step"},
        ["NameError: name 'rate' is not defined\n      in line 2: return x - rate * g"],
        [THEIRS],
    ),
    "an exception of the student's own": (
        {"step": "class Mine(Exception):\n    pass\ndef step(x, g, lr):\n    raise Mine('first\\nsecond')"},
        [],
        PASSED - {"step"},
        ["Mine: first\n    second"],
        [THEIRS],
    ),
    "an exception without a message": (
        {"step": "def step(x, g, lr):\n    assert x is None"},
        [],
        PASSED - {"step"},
        ["failed\n    AssertionError\n      in line 2: assert x is None"],
        ["AssertionError:"],
    ),
    "an exception that cannot be shown": (
        {
            "step": "class Odd(Exception):\n    def __str__(self):\n        raise ValueError\ndef step(x, g, lr):\n    raise Odd"
        },
        [],
        PASSED - {"step"},
        ["failed\n    ValueError"],
        [],
    ),
    "an exception in colours": (
        {"step": "def step(x, g, lr):\n    raise ValueError('\\x1b[31mred\\x1b[0m')"},
        [],
        PASSED - {"step"},
        ["ValueError: red\n"],
        ["\x1b"],
    ),
    "a warning made an error": (
        {
            "step": "import warnings\ndef step(x, g, lr):\n    warnings.simplefilter('error')\n    warnings.warn('careful')"
        },
        [],
        PASSED - {"step"},
        ["UserWarning: careful"],
        [],
    ),
    "endless recursion": (
        {"step": "def step(x, g, lr):\n    return step(x, g, lr)"},
        [],
        PASSED - {"step"},
        ["RecursionError: maximum recursion depth exceeded"],
        [],
    ),
    "exit()": ({"step": f"{STEP}\nexit()"}, [], None, [], ["Traceback"]),
    "sys.exit": ({"step": f"import sys\n{STEP}\nsys.exit(1)"}, [], PASSED, ["the test passed: SystemExit: 1"], []),
    "input": (
        {"step": "lr = input('rate? ')\n" + STEP},
        [],
        PASSED - {"step"},
        ["EOFError: input() has nobody to ask"],
        [THEIRS],
    ),
    "a flood of output": ({"step": "for i in range(10**5):\n    print('x' * 200)\n" + STEP}, [], PASSED, [], ["xxx"]),
    "out of memory": (
        {"step": "def step(x, g, lr):\n    return np.zeros(10**16)"},
        [],
        PASSED - {"step"},
        ["MemoryError"],
        [THEIRS],
    ),
    "numpy overwritten": (
        {"step": f"np = None\n{STEP}"},
        [],
        {"softmax", "step", "squares"},
        [],
        [THEIRS],
    ),
    "expect overwritten": (
        {"softmax": f"expect = None\n{tiny_lab.SOLUTIONS['softmax']}"},
        [],
        set(),
        ["TypeError: 'NoneType' object is not callable"],
        [],
    ),
    "a stub not written yet": (
        {"step": "def helper():\n    raise NotImplementedError('think')\ndef step(x, g, lr):\n    return helper()"},
        [],
        PASSED - {"step"},
        ["failed\n    not written yet: think"],
        ["NotImplementedError"],
    ),
    "an error in an own cell": (
        {"extra": {"step": "undefined_name"}},
        [],
        PASSED,
        ["the cell that begins 'undefined_name', below 'Exercise step' failed, the test passed: NameError"],
        [],
    ),
    "an own cell whose error is the reason": (
        {"step": "pass", "extra": {"step": "def step(x, g, lr:\n    return x"}},
        [],
        PASSED - {"step"},
        ["SyntaxError: '(' was never closed"],
        [],
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_said_in_the_exercise_where_it_lies(checked, kind):
    cells, options, passed, said, unsaid = FAULTS[kind]
    result = checked(tiny_lab.notebook(**cells), *options)
    found = states(result.output)
    assert set(found) == {*PASSED, "Written question"}, result.output
    if passed is not None:
        assert {name for name, state in found.items() if state == "passed"} == passed, result.output
        assert result.exit_code == (0 if passed == PASSED else 1)
    for text in said:
        assert text in result.output, result.output
    for text in (*unsaid, "Traceback (most recent"):
        assert text not in result.output, result.output


def test_the_blank_lab_is_not_attempted_and_a_part_of_it_is_not_written_yet(checked, labs):
    blank = (labs / "release" / "tiny" / "tiny.ipynb").read_bytes()
    result = checked(blank)
    assert result.exit_code == 1
    assert states(result.output) == {**dict.fromkeys(PASSED, "not attempted"), "Written question": "not answered"}
    assert "think" not in result.output


def test_a_solution_below_an_untouched_stub_is_a_solution(checked, labs):
    made = nbformat.reads((labs / "release" / "tiny" / "tiny.ipynb").read_text(), as_version=4)
    place = next(i for i, cell in enumerate(made.cells) if cell.id == "step")
    made.cells.insert(place + 1, nbformat.v4.new_code_cell(STEP))
    made.cells.insert(place + 1, nbformat.v4.new_code_cell("rates = [0.1]"))
    result = checked(made)
    assert states(result.output)["step"] == "passed" and states(result.output)["softmax"] == "not attempted"


def test_an_answer_is_seen(checked):
    result = checked(tiny_lab.notebook(why="Because."))
    assert result.exit_code == 0 and states(result.output)["Written question"] == "answered"


@pytest.mark.parametrize("broken", ["the lab's import", "a missing package"])
def test_a_cell_of_the_lab_that_fails_is_named_first(labs, checked, tmp_path, broken):
    from optcourse.grading.release import release

    made = release(tiny_lab.source())
    lines = {"the lab's import": "1 / 0", "a missing package": "import no_such_package"}[broken]
    next(cell for cell in made.cells if cell.id == "imports").source = lines
    folder = tmp_path / "broken labs"
    (folder / "release" / "tiny").mkdir(parents=True)
    nbformat.write(made, folder / "release" / "tiny" / "tiny.ipynb")
    result = checked(tiny_lab.notebook(), "--labs", str(folder))
    notes = [line for line in result.output.splitlines() if line.startswith("note: ")]
    assert "is the lab's and failed, which may be why others did" in notes[0], result.output
    assert ("ZeroDivisionError" if "1 / 0" in lines else "No module named 'no_such_package'") in notes[0]


# Files beside the notebook ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data = open('data.csv').read()", "data.csv"),
        ("data = np.loadtxt('data.csv')", "data.csv"),
        ("import helpers", "helpers.py"),
        ("from package import thing", "package"),
        ("open('FOLDER/data.csv').read()", "FOLDER"),
    ],
)
def test_what_the_grader_does_not_have_is_named(checked, tmp_path, source, name):
    (tmp_path / "data.csv").write_text("1.0")
    (tmp_path / "helpers.py").touch()
    (tmp_path / "package").mkdir()
    source, name = source.replace("FOLDER", str(tmp_path)), name.replace("FOLDER", str(tmp_path))
    result = checked(tiny_lab.notebook({"imports": source}))
    assert f"note: the notebook needs {name!r}, which the grader does not have" in result.output, result.output


# Not this lab's notebook -----------------------------------------------------------------------------------------


def test_another_labs_notebook_is_named_in_one_line(checked, labs):
    result = checked((labs / "release" / "other" / "other.ipynb").read_bytes(), name="my.ipynb")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert "this is other, not tiny: optcourse labs check other " in line and line.endswith("my.ipynb")


def test_another_labs_notebook_is_known_without_metadata_and_ids(checked, labs):
    made = nbformat.reads((labs / "release" / "other" / "other.ipynb").read_text(), as_version=4)
    for cell in made.cells:
        cell.metadata, cell.id = {}, cell.id[::-1]
    assert "this is other, not tiny" in checked(made).stderr


@pytest.mark.parametrize("name", ["mylab.ipynb", "tiny (1).ipynb", "Tiny.ipynb"])
def test_the_name_to_hand_in_is_said(checked, name):
    result = checked(tiny_lab.notebook(), name=name)
    assert result.exit_code == 0
    assert f"note: hand it in as tiny.ipynb; the grader may not know {name!r} for tiny" in result.output


NOTEBOOK = tiny_lab.raw(tiny_lab.notebook())
#: Files that are no notebook, and what is said.
FILES = {
    "empty": (b"", "the file is empty"),
    "white space": (b" \n\n", "the file is empty"),
    "cut off": (NOTEBOOK[: len(NOTEBOOK) // 2], "cut off in the middle"),
    "merge conflict": (
        b"<<<<<<< HEAD\n" + NOTEBOOK + b"\n=======\n" + NOTEBOOK + b"\n>>>>>>> mine\n",
        "merge conflict",
    ),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a picture (PNG)"),
    "PDF": (b"%PDF-1.7 ...", "a PDF"),
    "web page": (b"<!DOCTYPE html><html><body>lab01</body></html>", "a web page"),
    "script": (b"import numpy as np\n\ndef step(x, g, lr):\n    return x\n", "a Python script"),
    "zip": (b"PK\x03\x04" + bytes(50), "a zip archive"),
    "other JSON": (b"[1, 2]", "JSON of another kind"),
    "no cells": (b'{"nbformat": 4}', "it has no cells"),
    "binary": (bytes(range(256)) * 10, "it is no text"),
    "nested": (b"[" * 100_000, "nested too deeply"),
    "a comma too many": (NOTEBOOK.replace(b'"cells": [', b'"cells": [,', 1), "damaged at line 1"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_notebook_is_told_in_one_line(checked, kind):
    content, said = FILES[kind]
    result = checked(content)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert said in line and "tiny.ipynb: " in line, line
    assert not re.search(r"JSONDecodeError|Traceback|Error:", line)


def test_a_folder_a_missing_file_and_an_unknown_lab_are_told_in_one_line(labs, tmp_path):
    (tmp_path / "lab02.ipynb").touch()
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    invoke = functools.partial(CliRunner().invoke, main)
    for arguments, said in (
        (
            ["tiny", tmp_path],
            f"{tmp_path} is a folder, it holds lab02.ipynb; name the notebook: {tmp_path / 'tiny.ipynb'}",
        ),
        (["tiny", tmp_path / "empty"], "is a folder, and no notebook is in it"),
        (["tiny", tmp_path / "no.ipynb"], f"there is no file {tmp_path / 'no.ipynb'}; beside it lie lab02.ipynb"),
        (["tiny", tmp_path / "pipe"], "is no ordinary file"),
        (["lab99", tmp_path / "lab02.ipynb"], "unknown lab 'lab99'; there are other, tiny in "),
        (["tiny", tmp_path / "lab02.ipynb", "--timeout", "0"], "--timeout"),
    ):
        result = invoke(["labs", "check", *map(str, arguments), "--labs", str(labs)])
        assert (result.exit_code, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert said in line


# The process -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "body", ["time.sleep(3600)", "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass"]
)
def test_an_interrupted_check_leaves_no_kernel(labs, tmp_path, signum, body):
    marker, path = tmp_path / "pid", tmp_path / "tiny.ipynb"
    code = f"import os, pathlib, signal, time\npathlib.Path({str(marker)!r}).write_text(f'{{os.getpid()}} ')\n{body}"
    path.write_bytes(tiny_lab.raw(tiny_lab.notebook(step=code)))
    process = subprocess.Popen(
        [*COMMAND, "tiny", path, "--labs", labs], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + PATIENCE
    while not (marker.exists() and marker.read_text().endswith(" ")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signum)
    out, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, said) == (130, "", "\noptcourse: interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


@pytest.mark.parametrize(
    "name", ["x" * 100, "/".join(["y" * 100] * 3), 'it\'s "quoted" {x} ?#% Übung\n'], ids=["100", "300", "odd"]
)
def test_a_temporary_folder_and_a_notebook_with_long_or_odd_names_serve(labs, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    path = folder / "tiny.ipynb"
    path.write_bytes(NOTEBOOK)
    run = subprocess.run(
        [*COMMAND, "tiny", path, "--labs", labs],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert (run.returncode, run.stderr) == (0, ""), run.stderr
    assert [path.name for path in folder.iterdir()] == ["tiny.ipynb"]


def test_without_unix_sockets_the_same_is_found(checked, monkeypatch):
    """As on Windows."""
    monkeypatch.setattr(check, "Kernel", check.Elsewhere)
    assert checked(tiny_lab.notebook()).exit_code == 0
    made = tiny_lab.notebook(softmax="import os\nos._exit(1)", step=LOOP, squares="def squares(n):\n    return 1 / 0")
    result = checked(made, "--timeout", "2")
    assert set(states(result.output).values()) == {"failed", "not answered"}
    for said in ("ended the process", "did not end in 2 s", "ZeroDivisionError: division by zero\n      in line 2"):
        assert said in result.output, result.output


def test_each_cell_is_announced(labs):
    made, seen = tiny_lab.notebook(), []
    check.check(
        lab.from_release(labs / "release" / "tiny" / "tiny.ipynb"),
        tiny_lab.raw(made),
        on_cell=lambda *a: seen.append(a),
    )
    assert seen[0] == (0, 7, "Tiny lab") and seen[-1] == (6, 7, "Exercise squares")
    assert [index for index, _, _ in seen] == list(range(7))


def test_a_student_needs_no_nbgrader(labs, tmp_path):
    path = tmp_path / "tiny.ipynb"
    path.write_bytes(NOTEBOOK)
    program = "import sys; sys.modules['nbgrader'] = None; from optcourse.course.cli import main; main()"
    command = [sys.executable, "-c", program, "labs", "check", "tiny", path, "--labs", labs]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (run.returncode, run.stderr) == (0, "")
