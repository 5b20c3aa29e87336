"""Without bubblewrap: what the limits alone contain, and the warning that says what they do not."""

import math
import sys
import threading

import pytest
from corpus import HONEST, LIMITS, grade_class, in_cell, left_over_processes, softmax
from test_corpus_processes import CASES as PROCESSES

from optcourse.grading import sandbox

#: Those of the corpus that need no box. (The cells that count on one refuse to run here.)
NAMES = {
    "loop in a cell", "loop in a function", "loop that swallows interrupts", "signals ignored", "memory bomb",
    "memory bomb in a function", "os._exit", "os._exit in a function", "sys.exit", "input", "left-over threads",
    "exit handlers", "all files closed", "deep recursion", "patched os",
}  # fmt: skip
LEFT = """
import os, subprocess, time
for environment in (None, {}):
    subprocess.Popen(["/bin/sleep", "31536.25"], start_new_session=True, env=environment)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sleep", ["sleep", "31536.25"], {})
    os._exit(0)
time.sleep(0.2)
"""
FORKS = """
import os, time
for _ in range(150):
    if os.fork() == 0:
        time.sleep(50); os._exit(0)
time.sleep(50)
"""
KILL = (
    "import os\nparent = os.getppid()\nassert b'worker import broker' in open(f'/proc/{parent}/cmdline', 'rb').read()\n"
)
CASES = [
    *(case for case in PROCESSES if case.name in NAMES),
    in_cell("kill the parent", f"{KILL}os.kill(parent, 9)", "crashed", flag="the process ended in cell"),
    in_cell("left-over processes", LEFT, "graded"),
    in_cell("many forks", FORKS, "crashed", flag="too many processes"),
    in_cell("100 MB on one line", "print('x' * 10**8)", "graded"),
    in_cell("endless output", "while True: print('x' * 1000)", "flagged", flag="interrupted"),
    in_cell("large file", "with open('x', 'wb') as f:\n    f.truncate(10**9)", "graded"),
    softmax("text of 100 MB", "def softmax(z): return 'x' * 10**8"),
]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "bubblewrap", lambda: None)
        made = grade_class(tmp_path_factory.mktemp("limits"), CASES, boxed=False)
    assert made.finished and made.changed == set()
    return made.results


def test_honest_work_gets_its_points(graded):
    for student, (score, _) in HONEST.items():
        assert (graded[student].status, graded[student].score) == ("graded", score)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_status_and_score(graded, case):
    result = graded[case.student]
    assert (result.status, result.score) == (case.status, case.score), (result.flags, result.errors)
    assert case.flag in "; ".join(result.flags)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stray processes are found through /proc")
def test_no_process_is_left(graded):
    assert left_over_processes() == []


def test_all_the_names_are_cases():
    assert {case.name for case in PROCESSES} >= NAMES


def test_the_environment_variable_switches_the_box_off(monkeypatch):
    monkeypatch.setenv("OPTCOURSE_SANDBOX", "limits")
    assert sandbox.bubblewrap.__wrapped__() is None


def test_a_session_ends_when_it_is_told_to(monkeypatch):
    monkeypatch.setattr(sandbox, "bubblewrap", lambda: None)
    stopped, never = threading.Event(), math.inf
    with sandbox.session(LIMITS, never, stopped) as box:
        box.send({"cells": [{"id": "a", "source": "while True: pass", "snapshot": False}], "limit": 1e6, "output": 10})
        assert box.receive() == {"start": "a"}
        threading.Timer(0.5, stopped.set).start()
        with pytest.raises(sandbox.Gone):
            box.receive()
        inside = sandbox.descendants(box.process.pid)
        assert inside
    assert sandbox.descendants(box.process.pid) == []
