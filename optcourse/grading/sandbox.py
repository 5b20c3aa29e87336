"""A student's code in a box: bubblewrap where it works, process limits where it does not.

In the box there is no network, no other process, no file but Python, this package (read-only) and an empty
temporary folder in memory; what its processes hold and use is counted (:mod:`optcourse.grading.box`). Without
bubblewrap the same worker runs in a session of its own, in an empty folder, with the same limits on memory, file size
and time; what that leaves open says :data:`NOT_CONTAINED`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optcourse.grading.box.inside  # noqa: F401
from optcourse.files import PACKAGE
from optcourse.grading.box import groups, syscalls, worker
from optcourse.grading.box.bubble import NOT_CONTAINED, WORK, bubblewrap, command, environment, strength, weakness
from optcourse.grading.box.limits import MAX_PROCESSES, MAX_THREADS, Limits
from optcourse.grading.box.talk import MAX_ANSWER, MAX_LINE, MAX_TALK, parse
from optcourse.grading.box.usage import Account, family, tasks

__all__ = [
    "NOT_CONTAINED", "Gone", "Limits", "NotStarted", "Refused", "Session", "bubblewrap", "descendants", "environment",
    "session", "weakness",
]  # fmt: skip

#: The package without what it imports itself: the broker needs nothing of it, and every submission would wait for it.
#: (It and the notebook's process are imported here, too, so that their bytecode lies on the disk: a box writes none.)
WORKER = (
    "import sys, types; sys.modules['optcourse'] = package = types.ModuleType('optcourse'); "
    f"package.__path__ = [{str(PACKAGE)!r}]; from {worker.__name__} import broker; broker()"
)
#: Seconds between two looks at the processes of a box.
LOOK = 0.4
#: Seconds to read what a box had said when it was killed.
LAST_WORDS = 5.0


class Gone(Exception):
    """The sandbox ended, said too much, or its time is over; the reason is the argument."""


class Refused(Exception):
    """The file is no notebook; the argument says why."""


class NotStarted(RuntimeError):
    """There is no box: nothing of a student's was to blame."""


class Session:
    """One worker process: messages out, messages in, and nothing left of it afterwards."""

    def __init__(self, limits: Limits, deadline: float, stopped: threading.Event) -> None:
        self.limits, self.deadline, self.stopped = limits, deadline, stopped
        self.heard, self.most, self.buffer, self.looked = 0, MAX_LINE, bytearray(), 0.0
        self.home = self.group = self.ended = None
        try:
            self.process = self._start(limits)
        except (OSError, subprocess.SubprocessError) as error:  # no bubblewrap any more, no memory, no files
            self._remove()
            raise NotStarted(f"the sandbox did not start: {error}") from None
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.account = Account(self.process.pid)
        self._mark()

    def _start(self, limits: Limits) -> subprocess.Popen[bytes]:
        bwrap = bubblewrap()
        self.home = None if bwrap else tempfile.mkdtemp(prefix="lab-")
        if self.home:
            os.mkdir(os.path.join(self.home, WORK))
        self.group = groups.new(limits)
        enter = self.group.enter if self.group else lambda: None
        most = tasks() + 8 * (MAX_PROCESSES + MAX_THREADS)  # what is counted is a user's, and others are graded, too

        def confine() -> None:
            enter()
            limits.confine(most)
            syscalls.leave_keyring()

        program = [sys.executable, "-c", WORKER]
        with contextlib.ExitStack() as stack:
            if bwrap:
                line, fds = stack.enter_context(command(bwrap, program, strength(bwrap) or ()))
            else:
                line, fds = [sys.executable, "-c", _SHIELD, *program], []
            before = self.group.command if self.group and bwrap else []
            return subprocess.Popen(
                [*before, *line],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Of bubblewrap itself, which stays readable in the box: nothing of ours (systemd-run needs it).
                env=None if before else {} if bwrap else environment(str(self.home)),
                cwd=os.path.join(self.home, WORK) if self.home else "/",
                start_new_session=True,
                pass_fds=fds,
                preexec_fn=confine,
            )

    def send(self, message: dict[str, Any]) -> None:
        """One message to the worker. Raises what :meth:`receive` does."""
        self.most = MAX_LINE if "cells" in message else MAX_ANSWER
        self._mark()
        data = memoryview(json.dumps(message).encode() + b"\n")
        fd = self.stdin.fileno()
        os.set_blocking(fd, False)
        while data:
            self._wait(self.deadline, write=fd)
            try:
                data = data[os.write(fd, data) :]
            except BrokenPipeError:
                raise self._end() from None

    def receive(self, patience: float = math.inf) -> dict[str, Any]:
        """The next message from the worker, in at most ``patience`` seconds.

        Raises :class:`Gone`, and :class:`NotStarted` when the box ended before anything could run in it.
        """
        deadline, fd, searched = min(self.deadline, time.monotonic() + patience), self.stdout.fileno(), 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            self._wait(deadline, read=fd)
            piece = os.read(fd, 1 << 20)
            self.heard += len(piece)
            if not piece:
                raise self._end()
            if self.heard > MAX_TALK or searched > self.most:
                raise Gone("too much output")
            self.buffer += piece
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        try:
            message = parse(line)
        except OverflowError:
            raise Gone("too much output") from None
        except (ValueError, RecursionError):
            raise Gone("crashed") from None
        if self.ended and message.keys() & {"done", "answers"}:  # too late
            raise Gone(self.ended)
        if "start" in message and not self.ended:
            self._mark()
        return message

    def read(self, raw: bytes) -> dict[str, Any]:
        """The notebook in a file, as :func:`optcourse.grading.reading.read` gives it; it is read in the box.

        To be called before any cell runs. Raises :class:`Refused` with the reason, :class:`Gone` when reading takes
        more than the limits.
        """
        self.send({"read": base64.b64encode(raw).decode("ascii")})
        reply = self.receive(self.limits.cell)
        notebook = reply.get("notebook")
        if not isinstance(notebook, dict):
            raise Refused(str(reply.get("unreadable"))[:500])
        return notebook

    def cpu_seconds(self) -> float:
        """Seconds of processor time that all its processes have used."""
        self.account.look()
        return max(self.account.used, self.group.seconds() if self.group else 0.0)

    def starved(self) -> bool:
        """Whether since the last question or cell it could have worked and had no core to do it on.

        That is: it used less than half of one core, and waited for one during a quarter of the time or more.
        """
        used, clock = self.cpu_seconds() - self.marked[1], time.monotonic() - self.marked[0]
        return used < clock / 2 and self.account.waited - self.marked[2] > clock / 4

    def _mark(self) -> None:
        self.marked = (time.monotonic(), self.account.used, self.account.waited)

    def _end(self) -> Exception:
        """Why the box ended."""
        if self.ended:
            return Gone(self.ended)
        if self.group and (reason := self.group.excess()):
            return Gone(reason)
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(5)
            if self.heard == 0 and status in (1, 126, 127):  # bubblewrap's, Python's and the kernel's own refusals
                assert self.process.stderr is not None
                os.set_blocking(self.process.stderr.fileno(), False)
                said = (self.process.stderr.read(4096) or b"").decode(errors="replace").strip()[-500:]
                return NotStarted(f"the sandbox did not start (status {status}): {said}")
        return Gone("crashed")

    def _wait(self, deadline: float, read: int | None = None, write: int | None = None) -> None:
        """Until a file is ready; meanwhile see that the box does not grow.

        A box that has to end is killed, and what it has said is still heard: we may have been late, and the last
        "start" tells which cell is to blame.
        """
        while True:
            if self.stopped.is_set():
                raise Gone("timeout")
            if not self.ended and (now := time.monotonic()) > min(self.looked + LOOK, self.deadline):
                self.ended = "timeout" if now > self.deadline else self._excess()
                self.looked = time.monotonic()
                if self.ended:
                    self._kill()
                    self.deadline = time.monotonic() + LAST_WORDS
            rest = max(0.0, (self.deadline if self.ended else deadline) - time.monotonic())
            ready = select.select([] if read is None else [read], [] if write is None else [write], [], min(rest, LOOK))
            if any(ready):
                return
            if rest == 0:
                raise Gone(self.ended or "timeout")

    def _excess(self) -> str | None:
        reason = self.account.excess(self.limits)
        if self.group:
            self.group.find(self.process.pid)
            reason = reason or self.group.excess()
        return reason

    def _kill(self) -> None:
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

    def close(self) -> None:
        """Kill everything that runs in the box."""
        self._kill()
        self.process.wait()
        for stream in (self.stdin, self.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                stream.close() if stream else None
        self._remove()

    def _remove(self) -> None:
        if self.group:
            self.group.close()
        if self.home:
            _end_strays(self.home)
            shutil.rmtree(self.home, ignore_errors=True)


#: Stands between the grader and the worker where there is no box: "kill my parent" ends this, not the grader, and
#: orphans become its children (36 is PR_SET_CHILD_SUBREAPER), so that they are found and ended with it. It ends with
#: the grader (1 is PR_SET_PDEATHSIG), and the worker with it.
_SHIELD = """
import contextlib, ctypes, os, signal, subprocess, sys
def follow():
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
follow()
with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[1:], preexec_fn=follow)
os.closerange(0, 3)
signal.pause()
"""


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on (Linux only; elsewhere none)."""
    return [process.pid for process in family(pid)]


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
