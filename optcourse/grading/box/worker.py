"""What runs inside the sandbox: a broker, a student's notebook in a Jupyter kernel, and a copy after every test cell.

The *broker* (this process) talks to the grader in JSON lines and runs no student code. It starts a kernel and lets it
execute the cells one after the other. After each test cell the kernel forks a *copy*, which waits and later answers
questions with the functions as they were then. No question enters the sandbox before the last output has left it, so
no cell can print one; and a copy that hangs or dies takes nothing with it.

A fork has one thread. Where the notebook has started others that still run (a pool, a worker that a solution hands its
work to, OpenMP after ``torch.set_num_threads(2)``) a copy would wait for them for ever, so none is made: the broker
says so, and the grader asks in a fresh sandbox, which runs the cells up to that test once more, throws their output
away and then puts the questions to the kernel itself ("live"). That costs one more run of these cells per exercise.

The grader may send  {"read": the bytes of a file, in base64}  first, and is answered {"notebook"} or {"unreadable"};
then  {"cells": [{"id", "source", "snapshot"}], "limit": seconds per cell, "output": characters per cell, "live": bool},
then any number of {"ask": id, "cases": [{"expression", "setup", "data"}], "limit": seconds}.
The worker sends  {"start": id}, {"cell": id, "outputs", "error"}, {"snapshot": id}, {"threads": id},
{"interrupted": true}, {"died": reason}, {"done": true}, and
{"answers": id, "values": [...], "redefines": [names of Python's own]} or {"answers": id, "failed": reason}.
"""

from __future__ import annotations

import base64
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

from optcourse.grading.box.kernel import MAX_LINE, Kernel, Lines

#: Seconds until a kernel that has nothing to do makes a copy of itself.
PATIENCE = 30.0
#: Characters of a cell's output that leave the kernel.
MAX_OUTPUT = 200_000


# The broker ------------------------------------------------------------------------------------------------


def broker() -> None:
    """Run the notebook, pass on what it did, then let its copies answer."""
    grader_in, grader_out = Lines(os.dup(0)), Lines(os.dup(1))
    quiet = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(quiet, fd)
    copies: dict[str, tuple[socket.socket, int]] = {}
    live = False
    with Kernel(fork=True) as kernel:  # it starts while the file is read, and put together outside
        while (message := grader_in.read()) is not None:
            if "read" in message:
                grader_out.write(read(message["read"]))
            elif "cells" in message:
                kernel.output, live = message["output"], message.get("live")
                copies = run_cells(kernel, message, grader_out)
                if not live:
                    kernel.process.kill()  # atexit handlers and threads get no say
                grader_out.write({"done": True})
            else:
                name = message["ask"]
                copy = (kernel.interlocutor("live"), kernel.process.pid) if live else copies.get(name)
                grader_out.write({"answers": name, **(ask(message, *copy) if copy else {"failed": "not reached"})})


def read(raw: str) -> dict[str, Any]:
    """What the file ``raw``, in base64, holds, or why it is no notebook."""
    from optcourse.grading import reading

    try:
        return {"notebook": reading.read(base64.b64decode(raw))}
    except reading.Unreadable as error:
        return {"unreadable": str(error)}
    except Exception as error:  # of a kind that nobody thought of: the file's fault all the same
        return {"unreadable": f"the file is not a notebook ({type(error).__name__})"}


def run_cells(kernel: Kernel, job: dict[str, Any], grader: Lines) -> dict[str, tuple[socket.socket, int]]:
    """Execute the cells until one ends the process; returns the copies, a line to each and its process id."""
    copies: dict[str, tuple[socket.socket, int]] = {}
    if not kernel.start():
        grader.write({"died": "crashed"})
        return copies
    for cell in job["cells"]:
        grader.write({"start": cell["id"]})  # from here on the grader knows which cell is to blame
        ran = kernel.run(cell["source"], job["limit"])
        if ran.interrupted:
            grader.write({"interrupted": True})
        if ran.died:
            grader.write({"died": ran.died})
            return copies
        grader.write({"cell": cell["id"], "outputs": ran.outputs, "error": ran.error})
        if cell["snapshot"] and not job.get("live"):
            link = kernel.interlocutor("copy")
            with contextlib.suppress(OSError, ValueError, RecursionError):
                pid = (Lines(link.fileno()).read(PATIENCE) or {}).get("pid")
                if type(pid) is int and pid > 1:
                    copies[cell["id"]] = link, pid
            grader.write({"snapshot" if cell["id"] in copies else "threads": cell["id"]})
    return copies


def ask(question: dict[str, Any], link: socket.socket, pid: int) -> dict[str, Any]:
    """The answer of the process ``pid`` at the other end of ``link``, which then has done its work."""
    try:
        lines = Lines(link.fileno())
        lines.write(question)
        answer = lines.read(question["limit"])
        return {"failed": "crashed"} if answer is None else {key: answer.get(key) for key in ("values", "redefines")}
    except TimeoutError:
        return {"failed": "timeout"}
    except (OSError, ValueError, RecursionError):
        return {"failed": "crashed"}
    finally:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)  # and what the answer has started


# The notebook and its copies -------------------------------------------------------------------------------


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
        self.tasks, self.room = 0, [0]
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
        if (managers := sys.modules.get("matplotlib._pylab_helpers")) is not None:
            # At the end of a cell figures are drawn for a window, which is not there, and then once more to be seen.
            managers.Gcf.draw_all = _nothing

    def traced(self, etype: Any, value: Any, tb: Any, *_: Any, **__: Any) -> list[str]:
        """The lines of the notebook that an exception came through: what is kept of a traceback, and soon found."""
        found = []
        for frame, number in traceback.walk_tb(tb):
            name = frame.f_code.co_filename
            if cell := self.shell.compile.format_code_name(name):
                found += [f"{' '.join(cell)}, line {number}", f"----> {number} {linecache.getline(name, number)}"]
        return found[-20:]

    def heard(self, line: socket.socket) -> None:
        """The broker wants somebody to talk to."""
        kind, fds, _, _ = socket.recv_fds(line, 16, 1)
        if not fds:
            os._exit(1)  # the broker is gone
        with socket.socket(fileno=fds[0]) as link:
            if kind == b"live":
                self.answer(Lines(link.fileno()))
            elif self.threads():
                Lines(link.fileno()).write({"threads": True})
            elif (child := os.fork()) == 0:
                try:
                    if os.fork() == 0:  # a grandchild: the notebook may wait for children of its own
                        self.copy(line, Lines(link.fileno()))
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

    def copy(self, line: socket.socket, link: Lines) -> None:
        """Of the kernel's threads only this one is left: what is shown goes nowhere, and no lock of theirs is held."""
        os.setpgid(0, 0)  # an interrupt is for the cells that run
        quiet = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2, line.fileno()):
            os.dup2(quiet, fd)
        self.app.iopub_thread.schedule = lambda function: None
        for stream in self.streams:
            stream._buffer_lock = threading.RLock()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        link.write({"pid": os.getpid()})
        self.answer(link)

    def answer(self, link: Lines) -> None:
        """Wait for one list of cases, evaluate each, say the values.

        Names that hide one of Python's own are the notebook's affair: here they mean what they mean in Python.
        """
        from optcourse.labs.values import decode, encode

        if (question := link.read()) is None:
            return
        now = {**vars(builtins), **self.shell.user_ns}
        honest = self.pristine, {**self.pristine, **self.given}
        redefined = [name for name in self.pristine if all(now.get(name) is not names.get(name) for names in honest)]
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
        link.write({"values": values, "redefines": redefined})


def _told(error: BaseException) -> dict[str, str]:
    try:
        return {"name": type(error).__name__[:80], "message": str(error)[:2000]}
    except BaseException:
        return {"name": "Exception", "message": "it could not be shown"}


def _nothing(*_: Any, **__: Any) -> None:
    """What is left of a step."""


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


def _tasks() -> int:
    """Threads of this process, those of libraries included (Linux; elsewhere Python's own)."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


if __name__ == "__main__":
    broker()
