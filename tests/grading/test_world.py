"""One world: what runs in JupyterLab from top to bottom earns the same in the grader, and passes the check."""

import pytest
import tiny_lab

from optcourse.grading import check, grade, sandbox

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
}  # fmt: skip


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


def test_a_large_figure_costs_no_second_box(lab, monkeypatch):
    boxes = []
    started = sandbox.Session.__init__
    monkeypatch.setattr(sandbox.Session, "__init__", lambda box, *given: (boxes.append(box), started(box, *given))[1])
    raw = tiny_lab.raw(tiny_lab.notebook({"imports": WORLDS["large figure"]}))
    assert grade.grade(lab, raw, sandbox.Limits(total=900, cell=120, exercise=120)).score == lab.max_score
    assert len(boxes) == 1


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
