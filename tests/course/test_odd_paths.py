"""Long, odd and missing paths, and processes that do not want to end: the real command with a tiny lecture."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
import pytest
from lectures_for_tests import PATIENCE, gone

from optcourse import files
from optcourse.course import execution
from optcourse.course.execution import Execution, Settings

PACKAGE = Path(execution.__file__).parents[1]
COMMAND = [
    sys.executable,
    "-c",
    "from optcourse.course.cli import main; main()",
    "run",
    "--device",
    "cpu",
    "--jobs",
    "1",
]
#: Where the kernel's sockets, its connection file and papermill's copies lie: names that one of them could misread.
ODD = {
    "100 letters": "x" * 100,
    "300 letters": "/".join(["y" * 100] * 3),
    "81 letters, all but the socket's name": "z" * (81 - len(tempfile.gettempdir())),
    "spaces": "a folder  of mine ",
    "quotes": 'it\'s "quoted" `here` $HOME',
    "question mark": "q?a=1&b",
    "hash": "c#1",
    "percent": "50%20off%s%",
    "braces": "{SEED} {nothing} {}",
    "unicode": "Übung δ 最优化",
    "newline": "two\nlines",
    "backslash": "a\\b",
    "asterisk": "*[a-z]*",
    "leading dash": "-f",
}


def start(folder, *, lectures=None, output=None, cwd=None, **environment):
    where = ["--lectures", str(lectures or folder.lectures), "--output", str(output or folder.output), "--no-book"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "errors": "replace"}
    return subprocess.Popen([*COMMAND, *where], cwd=cwd, env={**os.environ, **environment}, **pipes)


def finished(process):
    try:
        _, text = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, text


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


def kernels_of(mark):
    """Processes whose environment holds ``mark``, other than the command itself."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                mark.encode() in (process / "environ").read_bytes()
                and b"ipykernel" in (process / "cmdline").read_bytes()
            ):
                found.append(int(process.name))
    return found


@pytest.fixture
def tiny(folder):
    """A folder with a lecture that says where its kernel's temporary files go."""
    folder.add(
        "01_tiny", "import os, tempfile\nwith tempfile.TemporaryFile() as file:\n    print(os.environ.get('TMPDIR'))"
    )
    return folder


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_folders_with_long_or_odd_names_serve(folder, tmp_path, name):
    scratch, output, folder.lectures = (tmp_path / kind / name for kind in ("scratch", "pages", "lectures"))
    scratch.mkdir(parents=True)
    folder.lectures.mkdir(parents=True)
    folder.add("01_tiny", "import os\nprint(os.getcwd())\nprint(os.environ.get('TMPDIR'))")
    status, text = finished(start(folder, output=output, TMPDIR=str(scratch)))
    assert (status, "01_tiny: ok" in text) == (0, True), text
    assert list(scratch.iterdir()) == []
    made = ["01_tiny.ipynb", "run.json", "verdicts.json"]
    assert sorted(path.name for path in output.iterdir()) == made
    page = nbformat.read(output / "01_tiny.ipynb", as_version=4)
    assert page.cells[-1].outputs[0].text == f"{folder.lectures}\n{scratch}\n"


def test_a_temporary_folder_whose_name_is_no_text_serves_or_is_named(tiny, tmp_path):
    """Papermill writes its path into the notebook."""
    scratch = tmp_path / os.fsdecode(b"\xff\xfe")
    scratch.mkdir()
    status, text = finished(start(tiny, TMPDIR=str(scratch)))
    assert status == 1 and "UnicodeEncodeError" in text and "Traceback" not in text, text


@pytest.mark.parametrize("kind", ["relative", "missing", "a file", "empty"])
def test_a_temporary_folder_that_is_none_is_replaced_by_the_systems(tiny, tmp_path, kind):
    (tmp_path / "file").touch()
    (tmp_path / "here").mkdir()
    value = {"relative": "here", "missing": str(tmp_path / "no"), "a file": str(tmp_path / "file"), "empty": ""}[kind]
    status, text = finished(start(tiny, cwd=tmp_path, TMPDIR=value))
    assert (status, "01_tiny: ok" in text) == (0, True), text
    assert list((tmp_path / "here").iterdir()) == []


def test_where_nothing_can_be_written_the_run_says_so(tiny, monkeypatch, capfd):
    def none(**_):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.setattr(execution, "TemporaryDirectory", none)
    assert tiny.run(*tiny.lectures.glob("*.ipynb")) == 1
    text = capfd.readouterr().err
    assert "FileNotFoundError" in text and "No usable temporary directory found in ['/tmp', '/var/tmp']" in text


def test_a_checkout_may_lie_in_a_folder_with_spaces_and_quotes(tiny, tmp_path):
    checkout = tmp_path / "it's my course"
    shutil.copytree(PACKAGE, checkout / "optcourse", ignore=shutil.ignore_patterns("__pycache__"))
    tiny.add("02_where", "import optcourse\nprint(optcourse.__file__)")
    status, text = finished(start(tiny, cwd=checkout, PYTHONPATH=str(checkout)))
    assert (status, "02_where: ok" in text) == (0, True), text
    page = nbformat.read(tiny.output / "02_where.ipynb", as_version=4)
    assert page.cells[-1].outputs[0].text == f"{checkout / 'optcourse' / '__init__.py'}\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Unix sockets")
def test_sockets_lie_in_the_first_place_where_they_can_be_bound_and_nothing_is_left(tmp_path, monkeypatch):
    deep, near = tmp_path / ("d" * 100), Path(tempfile.mkdtemp(dir="/tmp"))
    deep.mkdir()
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(near))
        with files.socket_folder() as folder:
            assert folder is not None and folder.parent == near
        monkeypatch.setattr(tempfile, "tempdir", str(near))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
        with files.socket_folder() as folder:
            assert folder is not None and folder.parent == near
        assert list(near.iterdir()) == list(deep.iterdir()) == []
    finally:
        near.rmdir()


def test_without_such_a_place_the_kernel_listens_on_this_machine_only(tiny, monkeypatch):
    monkeypatch.setattr(execution, "socket_folder", contextlib.nullcontext)
    tiny.add(
        "02_transport",
        "from ipykernel.kernelapp import IPKernelApp as App\nprint(App.instance().transport, App.instance().ip)",
    )
    assert tiny.run(*sorted(tiny.lectures.glob("*.ipynb"))) == 0
    page = nbformat.read(tiny.output / "02_transport.ipynb", as_version=4)
    assert page.cells[-1].outputs[0].text == "tcp 127.0.0.1\n"


# Ends that always come -----------------------------------------------------------------------------------------

#: Lectures that do not want to end; each writes its process id first.
STUBBORN = {
    "a loop": ("while True:\n    pass", signal.SIGINT),
    "deaf to both": (
        "for n in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(n, signal.SIG_IGN)\nwhile True:\n    pass",
        signal.SIGTERM,
    ),
    "catches everything": (
        "while True:\n    try:\n        time.sleep(3600)\n    except BaseException:\n        pass",
        signal.SIGINT,
    ),
    "a loop in C": ("sum(range(10**14))", signal.SIGTERM),
    "stopped": ("os.kill(os.getpid(), signal.SIGSTOP)", signal.SIGINT),
}


@pytest.mark.parametrize("kind", STUBBORN)
def test_a_signal_ends_a_run_whatever_its_kernel_does(folder, tmp_path, kind):
    body, signum = STUBBORN[kind]
    marker = tmp_path / "pid"
    folder.add(
        "01_x",
        f"import os, signal, time, pathlib\npathlib.Path({str(marker)!r}).write_text(f'{{os.getpid()}} ')\n{body}",
    )
    process = start(folder)
    wait_for(lambda: marker.exists() and marker.read_text().endswith(" "))
    process.send_signal(signum)
    status, text = finished(process)
    assert status == 130 and "1 of 1 lectures not finished" in text, text
    assert gone(int(marker.read_text()))


def test_a_signal_ends_a_run_whose_kernel_hangs_before_it_is_one(tiny, tmp_path):
    (tmp_path / "site").mkdir()
    hang = "import os, sys, time\nif 'ipykernel_launcher' in ' '.join(sys.orig_argv):\n    open(" + repr(
        str(tmp_path / "pid")
    )
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"{hang}, 'w').write(str(os.getpid()) + ' ')\n    time.sleep(3600)\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    process = start(tiny, PYTHONPATH=path)
    marker = tmp_path / "pid"
    wait_for(lambda: marker.exists() and marker.read_text().endswith(" "))
    process.send_signal(signal.SIGTERM)
    status, text = finished(process)
    assert status == 130 and "1 of 1 lectures not finished" in text, text
    assert gone(int(marker.read_text()))


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.5, 1.2])
def test_a_signal_in_the_first_seconds_leaves_no_kernel(tiny, tmp_path, delay):
    """Wherever it strikes: while modules are imported, a process starts, the kernel says hello, a page is written."""
    process = start(tiny, OPTCOURSE_TEST_MARK=str(tmp_path))
    wait_for(lambda: tiny.output.is_dir() or process.poll() is not None)  # the run made its folder: it has begun
    time.sleep(delay)
    process.send_signal(signal.SIGTERM)
    status, text = finished(process)
    assert status in (0, 130) or "1 of 1 lectures ok" in text, text  # it may strike when all is done
    assert all(gone(pid) for pid in kernels_of(str(tmp_path)))


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_at_once_leave_no_kernel(folder, tmp_path, second):
    marker = tmp_path / "pid"
    folder.add(
        "01_x", f"import os, pathlib\npathlib.Path({str(marker)!r}).write_text(f'{{os.getpid()}} ')\nsum(range(10**14))"
    )
    process = start(folder)
    wait_for(lambda: marker.exists() and marker.read_text().endswith(" "))
    process.send_signal(signal.SIGINT)
    process.send_signal(second)
    status, text = finished(process)
    assert status == 130, text
    assert gone(int(marker.read_text()))


def test_machinery_that_is_stuck_is_left_behind(folder, monkeypatch):
    path = folder.add("01_x", "x = 1")
    reached, never = [], threading.Event()

    def stuck(*_, **__):
        reached.append(True)
        never.wait()

    monkeypatch.setattr(execution.papermill, "execute_notebook", stuck)
    monkeypatch.setattr(execution, "GRACE", 0.1)
    one = Execution(path, Settings("quick", 0, "cpu"))
    thread = threading.Thread(target=one.run)
    thread.start()
    wait_for(lambda: reached)
    one.kill()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    never.set()
