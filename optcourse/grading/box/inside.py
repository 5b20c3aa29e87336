"""The notebook's process in the box, a Jupyter kernel, and its copies, which answer questions.

:mod:`optcourse.grading.box.worker` starts it and says what is asked when.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import json
import linecache
import os
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

from optcourse.grading.box.kernel import MAX_LINE, Lines

#: Characters of a cell's output that leave the kernel.
MAX_OUTPUT = 200_000


def notebook() -> None:
    """A Jupyter kernel, as JupyterLab starts it; arguments: its connection file, and the line to the broker."""
    file, line = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    sys.argv = ["ipykernel_launcher.py", "-f", file]
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # no debugger listens here, and it takes long to load
    gc.disable()
    from ipykernel.kernelapp import IPKernelApp
    from tornado.ioloop import IOLoop

    app = IPKernelApp.instance()
    # A large figure that is sent without copying it starts threads, for good: no copy of this process could be made.
    app.initialize(["-f", file, "--HistoryManager.enabled=False", f"--Session.copy_threshold={2**40}"])
    del sys.modules["debugpy"]
    inside = _Inside(app)
    gc.freeze()  # nothing of this is garbage, and looking for it takes time in every copy, too
    gc.enable()
    IOLoop.current().add_handler(line.fileno(), lambda *_: inside.heard(line), IOLoop.READ)
    app.start()


class _Inside:
    """What the kernel process keeps for the broker: Python's own names as they were, and who ran at the start."""

    def __init__(self, app: Any) -> None:
        self.app, self.shell = app, app.shell
        self.pristine, self.given = dict(vars(builtins)), dict[str, Any]()
        self.tasks, self.room, self.folder = 0, [0], os.getcwd()
        app.kernel.raw_input = app.kernel.getpass = _nobody
        self.shell.InteractiveTB.structured_traceback = self.traced
        self.shell.ask_exit = lambda: None  # exit() ends a cell; the next one runs, as after sys.exit()
        self.streams: tuple[Any, Any] = sys.stdout, sys.stderr
        for stream in self.streams:
            _cap(stream, self.room)
        self.shell.events.register("pre_run_cell", self.begin)

    def begin(self, *_: Any) -> None:
        """A cell begins."""
        self.room[0] = MAX_OUTPUT
        if not self.tasks:
            self.tasks, self.given = _tasks(), dict(self.shell.user_ns)  # IPython has an open() of its own

    def traced(self, etype: Any, value: Any, tb: Any, *_: Any, **__: Any) -> list[str]:
        """The student's lines that an exception and its causes came through: what is kept of a traceback."""
        found, chain = list[str](), [(value, tb)]
        while (cause := _cause(chain[-1][0])) is not None and len(chain) < 10:
            chain.append((cause, cause.__traceback__))
        for error, trace in reversed(chain):
            for frame, number in traceback.walk_tb(trace):
                name, place = frame.f_code.co_filename, None
                if self.shell.compile.format_code_name(name):
                    place = ""
                elif name.startswith("<timed"):
                    place = "  # counted from the line after the %%"
                elif os.path.dirname(name) == self.folder:
                    place = f"  # in {os.path.basename(name)}"
                if place is not None:
                    found.append(f"----> {number} {linecache.getline(name, number).rstrip()}{place}")
            if error is not value and found:
                told = _told(error)
                found[-1] += f"  # {told['name']}: {' '.join(told['message'].split())[:200]}"
        return ["Cell In[]:", *found[-10:]]

    def heard(self, line: socket.socket) -> None:
        """The broker wants somebody to talk to."""
        kind, fds, _, _ = socket.recv_fds(line, 16, 1)
        if not fds:
            os._exit(1)  # the broker is gone
        with socket.socket(fileno=fds[0]) as link:
            more = kind != b"live" and (self.threads() or _children())
            if kind == b"live":
                self.answer(Lines(link.fileno()))
            elif (child := os.fork()) == 0:
                try:
                    if os.fork() == 0:  # a grandchild: the notebook may wait for children of its own
                        self.copy(line, Lines(link.fileno()), more)
                finally:
                    os._exit(0)
            else:
                with contextlib.suppress(OSError):
                    os.waitpid(child, 0)

    def threads(self) -> bool:
        """Whether threads run that a fork would lack; one that has just been joined may need a moment to vanish."""
        for _ in range(10):
            idle = sum(type(thread).__module__ == "tqdm._monitor" for thread in threading.enumerate())
            if _tasks() - idle <= self.tasks:
                return False
            time.sleep(0.02)
        return True

    def copy(self, line: socket.socket, link: Lines, more: bool) -> None:
        """Of the kernel's threads only this one is left: what is shown goes nowhere, and no lock of theirs is held."""
        os.setpgid(0, 0)  # an interrupt is for the cells that run
        quiet = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2, line.fileno()):
            os.dup2(quiet, fd)
        self.app.iopub_thread.schedule = lambda function: None
        for stream in self.streams:
            stream._buffer_lock = threading.RLock()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.answer(link, pid=os.getpid(), threads=more)

    def answer(self, link: Lines, **about: Any) -> None:
        """Say ``about`` this process what a student may be told, wait for one list of cases, say the values.

        Names that hide one of Python's own are the notebook's affair: here they mean what they mean in Python.
        """
        from optcourse.labs.values import decode, encode

        now = {**vars(builtins), **self.shell.user_ns}
        honest = self.pristine, {**self.pristine, **self.given}
        redefined = [name for name in self.pristine if all(now.get(name) is not names.get(name) for names in honest)]
        link.write({**about, "redefines": redefined})
        if (question := link.read()) is None:
            return
        builtins.__dict__.update(self.pristine)
        names = {name: value for name, value in self.shell.user_ns.items() if name not in self.pristine}
        values, room = [], MAX_LINE * 3 // 4
        for case in question["cases"]:
            try:
                data = {name: decode(value) for name, value in case["data"].items()}
                space = {**names, **data, "__builtins__": builtins}
                exec(case["setup"], space)
                value = encode(eval(case["expression"], space))
                room -= len(json.dumps(value))
                values.append({"value": value if room > 0 else encode(object)})
            except BaseException as error:
                values.append({"error": _told(error)})
        link.write({"values": values})


def _told(error: BaseException) -> dict[str, str]:
    try:
        return {"name": type(error).__name__[:80], "message": str(error)[:2000]}
    except BaseException:
        return {"name": "Exception", "message": "it could not be shown"}


def _nobody(*_: Any, **__: Any) -> str:
    raise EOFError("input() has nobody to ask: this notebook is run from top to bottom, and no one sits before it")


def _cap(stream: Any, room: list[int]) -> None:
    """Let no more leave ``stream`` than there is ``room`` in this cell: text that nobody keeps costs memory."""
    write = stream.write

    def capped(text: str) -> int:
        if isinstance(text, str):
            piece, room[0] = text[: max(0, room[0])], room[0] - len(text)
            if piece or not text:
                write(piece)
            return len(text)
        return write(text)  # and its complaint

    stream.write = capped


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _children() -> bool:
    """Whether this process has started others, which are not a copy's (Linux; elsewhere unknown)."""
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as file:
                if file.read().strip():
                    return True
    return False


def _tasks() -> int:
    """Threads of this process, those of libraries included (Linux; elsewhere Python's own)."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()
