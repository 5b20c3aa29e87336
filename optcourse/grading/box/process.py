"""The process of a notebook's kernel: a new Python, or a fork of this one, which has half of it in memory already."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

NOTEBOOK = "from optcourse.grading.box.inside import notebook; notebook()"


def fresh(arguments: list[str], line: int, cwd: str | None, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A Python of its own, with the file ``line`` of ours and no other."""
    return subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=cwd,
        env=env,
        pass_fds=[line],
        start_new_session=True,
    )


def forked(arguments: list[str], line: int, env: dict[str, str]) -> Child:
    """The same without the start: a fork of this process, which has one thread and says nothing on files 0 to 2."""
    if pid := os.fork():
        _close_to_others()
        return Child(pid)
    try:
        os.setsid()
        os.closerange(3, line)  # the line to the grader above all
        os.closerange(line + 1, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(env)
        sys.argv[1:] = arguments
        sys.path.insert(0, "")
        # This process may have the package without what it imports itself: the notebook has all of it.
        for name in [name for name in sys.modules if name.partition(".")[0] == "optcourse"]:
            del sys.modules[name]
        exec(NOTEBOOK, {})
    finally:
        os._exit(1)  # never back to where the other one goes on


def _close_to_others() -> None:
    """Let no other process open the files of this one through ``/proc``: one is the grader's line."""
    with contextlib.suppress(AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


class Child:
    """A forked process, as :class:`subprocess.Popen` has it."""

    def __init__(self, pid: int) -> None:
        self.pid, self.status = pid, None

    def poll(self) -> int | None:
        """None while it runs."""
        return self._end(os.WNOHANG)

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Until it has ended."""
        status = self._end(0)
        assert status is not None
        return status

    def _end(self, how: int) -> int | None:
        if self.status is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | how):
            self.status = os.waitpid(self.pid, 0)[1]
        return self.status
