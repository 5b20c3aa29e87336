"""One world: what runs in JupyterLab from top to bottom earns the same in the grader, and passes the check."""

from pathlib import Path

import nbformat
import pytest
import tiny_lab

from optcourse.grading import check, grade, sandbox
from optcourse.grading.lab import from_release

#: Code in a cell of its own, before the first exercise.
WORLDS = {
    "magics": "%matplotlib inline\n%time x = 1\n%timeit -n1 -r1 x\n%env A=1\n%who\n%clear",
    "cell magics": "%%time\ny = sum(range(10))",
    "captured output": "%%capture said\nprint('x')",
    "shell": "!echo hello\nlisted = !ls\n%cd /tmp\n%pwd",
    "script": "%%bash\necho hello > hello.txt",
    "written module": "%%writefile mine.py\ndef f(): return 7",
    "own module": "open('own.py', 'w').write('def f(): return 7')\nimport own\nassert own.f() == 7",
    "pylab": "%pylab inline\nplot([1, 2])",
    "figures": "import matplotlib.pyplot as plt\nfor _ in range(3):\n    plt.figure(); plt.plot([1, 2]); plt.show()",
    "large figure": "import matplotlib.pyplot as plt\nplt.imshow(np.random.rand(900, 900)); plt.show()",
    "kernel": "get_ipython().kernel.shell.user_ns['np']\nassert __name__ == '__main__'",
    "await": "import asyncio\nawait asyncio.sleep(0)\nassert await asyncio.gather(asyncio.sleep(0, 1)) == [1]",
    "background task": "import asyncio\ntask = asyncio.create_task(asyncio.sleep(0))",
    "threads": "import threading\nt = threading.Thread(target=print)\nt.start(); t.join()",
    "thread pool": "from concurrent.futures import ThreadPoolExecutor\n"
    "pool = ThreadPoolExecutor(2)\nassert list(pool.map(abs, [-1])) == [1]",
    "multiprocessing": "import multiprocessing as mp\nwith mp.get_context('fork').Pool(1) as p: print(p.map(abs, [-1]))",
    "subprocess": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(1)'], stdout=sys.stdout, check=True)",
    "os.system": "import os\nassert os.system('true') == 0",
    "sys.stdout": "import sys\nsys.stdout.writelines(['a'])\nsys.stdout.flush()\nsys.stdout.fileno()\n"
    "sys.stdout.isatty()\nsys.stdout.writable()\nassert sys.stdout.encoding",
    "faulthandler": "import faulthandler\nfaulthandler.enable()",
    "user": "import getpass, pathlib\ngetpass.getuser()\npathlib.Path.home()",
    "input": "try: input('name?')\nexcept Exception: name = 'nobody'",
    "exit": "import sys\nsys.exit()",
    "exception": "1 / 0",
    "warnings": "import warnings\nwarnings.simplefilter('error')",
    "logging": "import logging\nlogging.basicConfig(level=10)\nlogging.info('x')",
    "display": "from IPython.display import HTML, Markdown, display\ndisplay(HTML('<b>x</b>'), Markdown('x'))\n_ = 3",
    "last value": "5\n_ + 1\nnp.eye(2)",
    "progress": "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass",
    "redirected": "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as f: print('x')\nassert f.getvalue()",
    "temporary files": "import tempfile\nwith tempfile.TemporaryDirectory() as d: open(d + '/x', 'w').write('x')",
    "torch threads": "import torch\ntorch.set_num_threads(2)\ntorch.ones(500, 500) @ torch.ones(500, 500)",
    "signals": "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)",
    "atexit": "import atexit\natexit.register(print, 'bye')",
    "names of Python's own": "sum = 0\nstr = 'x'\nmax = 3\nlist = [1]\nfloat = bool = len = None",
    "names hidden from numpy": "from numpy import *",
    "many open files": "opened = [open(f'run{k}.txt', 'w') for k in range(300)]",
    "a folder of its own": "import os\nassert os.listdir() == []\nos.mkdir('matplotlib')\nassert os.listdir() == ['matplotlib']",
    "a child that runs": "import subprocess\nchild = subprocess.Popen(['sleep', '1000'])",
}  # fmt: skip
#: Solutions that use what a fork of the process has not: threads and children. An extra cell, and the solution.
SQUARES = "import sys, json\nfor line in sys.stdin: print(json.dumps([k * k for k in range(int(line))]), flush=True)"
OTHERS = {
    "a pool of threads": (
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\npool.submit(int).result()",
        "def squares(n):\n    return list(pool.map(lambda k: k * k, range(n)))",
    ),
    "a thread that must be alive": (
        "import threading\nworker = threading.Thread(target=threading.Event().wait, daemon=True)\nworker.start()",
        "def squares(n):\n    assert worker.is_alive()\n    return [k * k for k in range(n)]",
    ),
    "a server of forks": (
        "import multiprocessing as mp\nimport operator",
        "def squares(n):\n    with mp.get_context('forkserver').Pool(1) as pool:\n"
        "        return pool.starmap(operator.mul, [(k, k) for k in range(n)])",
    ),
    "a worker that must be alive": (
        "import multiprocessing as mp\nmine, theirs = mp.Pipe()\n"
        "def work(line):\n    while True: line.send([k * k for k in range(line.recv())])\n"
        "worker = mp.Process(target=work, args=(theirs,), daemon=True)\nworker.start()",
        "def squares(n):\n    assert worker.is_alive()\n    mine.send(n)\n    return mine.recv()",
    ),
    "a program that must run": (
        "import json, subprocess, sys\nprogram = subprocess.Popen([sys.executable, '-c', "
        f"{SQUARES!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)",
        "def squares(n):\n    assert program.poll() is None\n    program.stdin.write(f'{n}\\n')\n"
        "    program.stdin.flush()\n    return json.loads(program.stdout.readline())",
    ),
}
#: Ways to raise an error that IPython shows in a way of its own; each in the cell that defines ``softmax``.
SHOWN = {
    "a group": "def softmax(z): raise ExceptionGroup('several', [ValueError('a')])",
    "a group behind it": (
        "def softmax(z):\n    try: raise ExceptionGroup('several', [ValueError('a')])\n"
        "    except ExceptionGroup as group: raise TypeError('wrong') from group"
    ),
    "a handler": (
        "def softmax(z): raise ValueError('a')\n"
        "get_ipython().set_custom_exc((Exception,), lambda shell, kind, error, trace, tb_offset=None: print('oh'))"
    ),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    if sandbox.bubblewrap() is None:
        pytest.skip("bubblewrap does not work here; tests/grading/test_fallback.py tests the limits without it")
    return tiny_lab.write_lab(tmp_path_factory.mktemp("lab"))


@pytest.mark.parametrize("code", WORLDS.values(), ids=WORLDS)
def test_a_notebook_that_runs_in_jupyter_earns_full_marks_and_passes_the_check(lab, code):
    raw = tiny_lab.raw(tiny_lab.notebook({"imports": code}))
    result = grade.grade(lab, raw, sandbox.Limits(total=900, cell=120, exercise=120))
    assert result.score == lab.max_score, (result.flags, result.errors)
    assert not any("ended" in flag or "interrupted" in flag for flag in result.flags), result.flags
    findings, _ = check.check(lab, raw, limit=120)
    graded = [mark.state for mark in result.marks.values()]
    assert [f.state for f in findings if not f.state.endswith("answered")] == graded == ["passed"] * 3


@pytest.mark.parametrize(("extra", "squares"), OTHERS.values(), ids=OTHERS)
def test_a_solution_may_use_what_a_fork_has_not(lab, extra, squares):
    raw = tiny_lab.raw(tiny_lab.notebook({"imports": extra}, squares=squares))
    result = grade.grade(lab, raw, sandbox.Limits(total=900, cell=120, exercise=10))
    assert (result.status, result.score) == ("graded", lab.max_score), (result.flags, result.errors, result.marks)
    findings, _ = check.check(lab, raw, limit=120)
    assert [finding.state for finding in findings if not finding.state.endswith("answered")] == ["passed"] * 3


IDLE = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"


@pytest.mark.parametrize("code", [WORLDS["large figure"], IDLE, WORLDS["a child that runs"]])
def test_what_no_solution_needs_costs_no_second_box(lab, monkeypatch, code):
    boxes = []
    started = sandbox.Session.__init__
    monkeypatch.setattr(sandbox.Session, "__init__", lambda box, *given: (boxes.append(box), started(box, *given))[1])
    raw = tiny_lab.raw(tiny_lab.notebook({"imports": code}))
    assert grade.grade(lab, raw, sandbox.Limits(total=900, cell=120, exercise=120)).score == lab.max_score
    assert len(boxes) == 1


def test_who_guesses_with_a_thread_guesses_once(lab, monkeypatch):
    boxes = []
    started = sandbox.Session.__init__
    monkeypatch.setattr(sandbox.Session, "__init__", lambda box, *given: (boxes.append(box), started(box, *given))[1])
    raw = tiny_lab.raw(tiny_lab.notebook({"imports": IDLE}, squares="def squares(n): return [n]"))
    assert grade.grade(lab, raw, sandbox.Limits(total=900, cell=120, exercise=120)).score == 5.0
    assert len(boxes) == 1


def test_runs_that_threads_make_necessary_have_their_own_time(lab):
    extra, squares = OTHERS["a pool of threads"]
    extra += "\nimport time\nuntil = time.monotonic() + 12\nwhile time.monotonic() < until: pass"
    raw = tiny_lab.raw(tiny_lab.notebook({"imports": extra}, squares=squares))
    result = grade.grade(lab, raw, sandbox.Limits(total=20, cell=19, exercise=3))  # 12 + 3 + 12 seconds
    assert (result.status, result.score) == ("graded", lab.max_score), result.flags


@pytest.mark.parametrize("softmax", SHOWN.values(), ids=SHOWN)
def test_however_an_error_is_shown_it_is_one(lab, softmax):
    raw = tiny_lab.raw(tiny_lab.notebook(softmax=softmax))
    result = grade.grade(lab, raw, sandbox.Limits(total=900, cell=120, exercise=120))
    assert result.marks["test-softmax"].score == 0 and "test-softmax" in result.errors
    findings, _ = check.check(lab, raw, limit=120)
    assert [finding.state for finding in findings][:3] == ["failed", "passed", "passed"]


def test_an_error_names_the_lines_that_led_to_it_and_its_cause(lab):
    helpers = "%%writefile helpers.py\ndef deep(z):\n    return z.foo"
    timed = "%%time\ndef total(z):\n    return deep(z)"
    softmax = "from helpers import deep\n\ndef softmax(z):\n    try:\n        return total(z)\n"
    softmax += "    except AttributeError as error:\n        raise ValueError('wrapped') from error"
    made = tiny_lab.notebook({"imports": helpers}, softmax=softmax)
    made.cells.insert(3, nbformat.v4.new_code_cell(timed))
    result = grade.grade(lab, tiny_lab.raw(made), sandbox.Limits(total=900, cell=120, exercise=120))
    assert result.errors["test-softmax"]["where"].splitlines() == [
        "line 5: return total(z)",
        "line 2: # counted from the line after the %%",
        "line 2: return z.foo  # in helpers.py  # AttributeError: 'numpy.ndarray' object has no attribute 'foo'",
        'line 1: expect(softmax(np.zeros((2, 4))), np.full((2, 4), 0.25), "equal scores, equal probabilities")',
        "line 7: raise ValueError('wrapped') from error",
    ]


def test_a_syntax_error_names_a_line_and_no_file_that_nobody_knows(lab):
    raw = tiny_lab.raw(tiny_lab.notebook(softmax="x = 1\ndef softmax(z)"))
    findings, _ = check.check(lab, raw, limit=120)
    assert findings[0].why.splitlines()[0] == "SyntaxError: expected ':' (line 2)"


def test_what_failed_above_the_labs_own_cell_is_not_blamed_on_it():
    release = Path(__file__).parents[2] / "labs/release/lab01/lab01.ipynb"
    made = nbformat.read(release, as_version=4)
    next(cell for cell in made.cells if cell.id == "softmax").source = "def softmax(z)"
    _, notes = check.check(from_release(release), tiny_lab.raw(made), limit=120)
    (note,) = (note for note in notes if "is the lab's and failed" in note)
    assert "perhaps because of what failed above it: NameError: name 'softmax' is not defined" in note


def test_what_is_said_of_names_is_said_before_the_question_is_known(lab):
    """A spy in the way of the question redefines names by what it has read: the student would read it in a flag."""
    spy = (
        "import json\nread = json.loads\ndef loads(*given, **options):\n    message = read(*given, **options)\n"
        "    if 'cases' in str(message): globals().update(abs=1, all=1)\n    return message\njson.loads = loads"
    )
    for extra in (spy, f"{spy}\n{IDLE}"):
        squares = "def squares(n): raise ValueError"  # so that the process itself is asked, where there are threads
        raw = tiny_lab.raw(tiny_lab.notebook({"imports": extra}, squares=squares))
        result = grade.grade(lab, raw, sandbox.Limits(total=900, cell=120, exercise=120))
        assert (result.score, result.flags) == (5.0, [])


def test_redefined_names_are_said_once(lab):
    raw = tiny_lab.raw(tiny_lab.notebook({"imports": "sum = 0\nimport builtins\nbuiltins.print = None"}))
    result = grade.grade(lab, raw, sandbox.Limits())
    assert result.flags == ["the notebook redefines `print`, `sum`"]


def test_an_interrupt_reaches_what_a_cell_started(lab):
    raw = tiny_lab.raw(tiny_lab.notebook({"imports": "import os\nos.system('sleep 1000; sleep 1000')"}))
    limits = sandbox.Limits(total=900, cell=5, exercise=120)
    result = grade.grade(lab, raw, limits)
    assert (result.score, [flag.split(" after")[0] for flag in result.flags]) == (lab.max_score, ["interrupted"])


def test_without_a_box_nobody_is_to_blame(lab, monkeypatch):
    monkeypatch.setattr(sandbox, "WORKER", "import sys; sys.exit(1)")
    with pytest.raises(sandbox.NotStarted):
        grade.grade(lab, tiny_lab.raw(tiny_lab.notebook()), sandbox.Limits())


def test_a_box_that_ended_before_the_first_message_blames_nobody_either(lab, monkeypatch):
    monkeypatch.setattr(sandbox, "WORKER", "import sys; sys.exit(1)")
    send = sandbox.Session.send

    def late(box, message):
        box.process.wait(60)
        send(box, message)

    monkeypatch.setattr(sandbox.Session, "send", late)
    with pytest.raises(sandbox.NotStarted):
        grade.grade(lab, tiny_lab.raw(tiny_lab.notebook()), sandbox.Limits())
