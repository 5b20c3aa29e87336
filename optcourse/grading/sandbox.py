"""A student's code in a box: bubblewrap where it works, process limits where it does not.

In the box there is no network, no other process, no file but Python, this package (read-only) and an empty
temporary folder in memory. Without bubblewrap the same worker runs in a session of its own, in an empty folder,
with the same limits on memory, file size and time; what that leaves open says :data:`NOT_CONTAINED`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
#: The package without what it imports itself: the broker needs nothing of it, and every submission would wait for it.
WORKER = (
    "import sys, types; sys.modules['optcourse'] = package = types.ModuleType('optcourse'); "
    f"package.__path__ = [{str(PACKAGE)!r}]; from optcourse.grading.worker import broker; broker()"
)
NOT_CONTAINED = (
    "bubblewrap does not work here: submissions run with limits on time, memory and file size, but they can read and "
    "write every file you can (this course's solutions and other submissions among them), use the network, stop "
    "your processes, and fill the disk. Install bubblewrap (labs/README.md), or grade on a machine where nothing is "
    "at stake."
)
#: What a whole submission may say, in bytes.
MAX_TALK = 256 * 2**20
#: Address space beyond the memory: libraries map files and reserve room without using it.
RESERVED = 8 * 2**30
#: Room for files in the sandbox, in bytes.
SCRATCH = 256 * 2**20
#: What the processes of one submission may be and hold together: how many, and how much of ``Limits.memory``.
MAX_PROCESSES, MAX_SHARE = 100, 1.5
#: Seconds between two looks at them.
LOOK = 0.4


@dataclass(frozen=True)
class Limits:
    """What one submission may use: seconds in all, seconds per cell and per exercise, bytes, characters per cell."""

    total: float = 300.0
    cell: float = 30.0
    exercise: float = 15.0
    memory: int = 4 * 2**30
    output: int = 20_000


@functools.cache
def bubblewrap() -> str | None:
    """The path of a ``bwrap`` that works on this machine, or ``None``; ``OPTCOURSE_SANDBOX=limits`` says no."""
    path = shutil.which("bwrap")
    if path is None or os.environ.get("OPTCOURSE_SANDBOX") == "limits":
        return None
    try:
        trial = subprocess.run([*_box(path), "true"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if trial.returncode == 0 else None


def _box(bwrap: str) -> list[str]:
    """The command line up to the program that shall run inside."""
    prefixes = {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    # Not the whole of a prefix: an environment may have been made in the folder that holds the solutions.
    parts = ("bin", "lib", "lib64", "share", "etc", "pyvenv.cfg")
    python = {prefix / part for prefix in prefixes if not prefix.is_relative_to("/usr") for part in parts}
    shown = sorted({*python, PACKAGE, *(Path(p) for p in ("/lib", "/lib64", "/bin", "/usr"))})
    command = [bwrap, "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    command += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "lab"]
    # First the empty folders: what is shown below may lie in one of them.
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(SCRATCH), "--tmpfs", "/tmp"]
    command += ["--size", str(SCRATCH), "--tmpfs", "/dev/shm"]
    for path in shown:
        if path.is_symlink():
            command += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            command += ["--ro-bind", str(path), str(path)]
    for path in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/fonts"):
        command += ["--ro-bind-try", path, path]
    # These two are folders in memory without a size.
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
    for name, value in environment("/tmp").items():
        command += ["--setenv", name, value]
    return command


def environment(home: str) -> dict[str, str]:
    """All the variables a submission sees."""
    return {
        "HOME": home,
        "TMPDIR": home,
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": f"{home}/matplotlib",
        "IPYTHONDIR": f"{home}/ipython",
        "OPTCOURSE_PROGRESS": "off",
        "OPTCOURSE_CACHE": f"{home}/optcourse",
        "CUDA_VISIBLE_DEVICES": "",
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPTCOURSE_THREADS"), "1"),
    }


class Gone(Exception):
    """The sandbox ended, said too much, or its time is over; the reason is the argument."""


class Session:
    """One worker process: messages out, messages in, and nothing left of it afterwards."""

    def __init__(self, limits: Limits, deadline: float, stopped: threading.Event) -> None:
        self.limits, self.deadline, self.stopped = limits, deadline, stopped
        self.heard, self.buffer, self.looked = 0, bytearray(), 0.0
        bwrap = bubblewrap()
        self.home = None if bwrap else tempfile.mkdtemp(prefix="lab-")
        program = [sys.executable, "-c", WORKER]
        command = [*_box(bwrap), *program] if bwrap else [sys.executable, "-c", _SHIELD, *program]

        tasks = _tasks() + 2 * MAX_PROCESSES
        seconds = int(limits.total) + 30

        def confine() -> None:
            resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
            resource.setrlimit(resource.RLIMIT_AS, (limits.memory + RESERVED, limits.memory + RESERVED))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (SCRATCH, SCRATCH))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))

        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=None if bwrap else environment(str(self.home)),
            cwd=self.home,
            start_new_session=True,
            preexec_fn=confine,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def send(self, message: dict[str, Any]) -> None:
        """One message to the worker."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        fd = self.stdin.fileno()
        os.set_blocking(fd, False)
        while data:
            self._wait(self.deadline, write=fd)
            try:
                data = data[os.write(fd, data) :]
            except BrokenPipeError:
                raise Gone("crashed") from None

    def receive(self, patience: float = math.inf) -> dict[str, Any]:
        """The next message from the worker, in at most ``patience`` seconds; raises :class:`Gone`."""
        deadline, fd, searched = min(self.deadline, time.monotonic() + patience), self.stdout.fileno(), 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            self._wait(deadline, read=fd)
            piece = os.read(fd, 1 << 20)
            self.heard += len(piece)
            if not piece or self.heard > MAX_TALK:
                raise Gone("crashed")
            self.buffer += piece
        line, self.buffer = self.buffer[:end], self.buffer[end + 1 :]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise Gone("crashed") from None
        if not isinstance(message, dict):
            raise Gone("crashed")
        return message

    def _wait(self, deadline: float, read: int | None = None, write: int | None = None) -> None:
        """Until a file is ready; meanwhile see that the box does not grow."""
        while True:
            rest = deadline - time.monotonic()
            if self.stopped.is_set() or rest <= 0:
                raise Gone("timeout")
            if time.monotonic() > self.looked + LOOK:
                self._look()
                self.looked = time.monotonic()
            ready = select.select([] if read is None else [read], [] if write is None else [write], [], min(rest, LOOK))
            if any(ready):
                return

    def _look(self) -> None:
        family = descendants(self.process.pid)
        if len(family) > MAX_PROCESSES:
            raise Gone("too many processes")
        most = self.limits.memory * MAX_SHARE
        if sum(map(_resident, family)) > most and sum(map(_proportional, family)) > most:
            raise Gone("too much memory")

    def close(self) -> None:
        """Kill everything that runs in the box."""
        if self.home:
            for _ in range(20):  # a process may fork while we look
                if not (family := descendants(self.process.pid)):
                    break
                for pid in family:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for stream in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                stream.close()
        if self.home:
            _end_strays(self.home)
            shutil.rmtree(self.home, ignore_errors=True)


#: Stands between the grader and the worker where there is no box: "kill my parent" ends this, not the grader, and
#: orphans become its children (36 is PR_SET_CHILD_SUBREAPER), so that they are found and ended with it.
_SHIELD = """
import contextlib, ctypes, os, signal, subprocess, sys
with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[1:])
os.closerange(0, 3)
signal.pause()
"""


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on (Linux only; elsewhere none)."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[1]
            children[int(parent)].append(int(folder.name))
    found = [pid]
    for member in found:
        found += children[member]
    return found[1:]


def _tasks() -> int:
    """How many processes and threads this user has already: RLIMIT_NPROC counts them all."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            count += len(os.listdir(folder / "task")) if folder.stat().st_uid == os.getuid() else 0
    return count


def _resident(pid: int) -> int:
    """Memory in use by a process, in bytes, what it shares with others included."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _proportional(pid: int) -> int:
    """Memory in use by a process, in bytes; of what it shares with others only its part."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return 0


def _end_strays(home: str) -> None:
    """Kill processes that left the session, known by the home folder in their environment (Linux only)."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"HOME={home}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


@contextlib.contextmanager
def session(limits: Limits, deadline: float, stopped: threading.Event | None = None) -> Iterator[Session]:
    """A worker that is certainly gone afterwards; it ends too when ``stopped`` is set."""
    worker = Session(limits, deadline, stopped or threading.Event())
    try:
        yield worker
    finally:
        worker.close()
