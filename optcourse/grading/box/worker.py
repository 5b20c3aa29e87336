"""What runs inside the sandbox: a broker, a student's notebook in a Jupyter kernel, and a copy after every test cell.

The *broker* (this process) talks to the grader in JSON lines and runs no student code. It starts a kernel and lets it
execute the cells one after the other. After each test cell the kernel forks a *copy*, which waits and later answers
questions with the functions as they were then. No question enters the sandbox before the last output has left it, so
no cell can print one; and a copy that hangs or dies takes nothing with it.

A fork has one thread, and no children. Where the notebook has others that still run (a pool, a worker that a solution
hands its work to, OpenMP after ``torch.set_num_threads(2)``) the broker says so ("threads"). If the copy then does not
answer, or with an error, the grader asks in a fresh sandbox, which runs the cells up to that test once more, throws
their output away and puts the questions to the kernel itself ("live"): one more run of these cells per exercise.

The grader may send  {"read": the bytes of a file, in base64}  first, and is answered {"notebook"} or {"unreadable"};
then  {"cells": [{"id", "source", "snapshot"}], "limit": seconds per cell, "output": characters per cell, "live": bool},
then any number of {"ask": id, "cases": [{"expression", "setup", "data"}], "limit": seconds}.
The worker sends  {"start": id}, {"cell": id, "outputs", "error"}, {"threads": id}, {"interrupted": true},
{"died": reason}, {"snapshot": id, "redefines": [names of Python's own]}, {"done": true}, and
{"answers": id, "values": [...]} or {"answers": id, "failed": reason}. What a student is told was said before "done": no
question is in the box then.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
from typing import Any

from optcourse.grading.box.kernel import Kernel, Lines

#: Seconds until a kernel that has nothing to do makes a copy of itself.
PATIENCE = 30.0


def broker() -> None:
    """Run the notebook, pass on what it did, then let its copies answer."""
    grader_in, grader_out = Lines(os.dup(0)), Lines(os.dup(1))
    quiet = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(quiet, fd)
    copies: dict[str, tuple[socket.socket, int]] = {}
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
                copy = copies.get(name)
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
    """Execute the cells until one ends the process; returns who answers: a line to each and its process id."""
    copies: dict[str, tuple[socket.socket, int]] = {}
    live = bool(job.get("live"))
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
        if cell["snapshot"] and (not live or cell is job["cells"][-1]):
            link, said = kernel.interlocutor("live" if live else "copy"), dict[str, Any]()
            with contextlib.suppress(OSError, ValueError, RecursionError):
                said = Lines(link.fileno()).read(PATIENCE) or {}
            if said and type(pid := kernel.process.pid if live else said.get("pid")) is int and pid > 1:
                copies[cell["id"]] = link, pid
                grader.write({"snapshot": cell["id"], "redefines": said.get("redefines")})
            if not live and (cell["id"] not in copies or said.get("threads")):
                grader.write({"threads": cell["id"]})
    return copies


def ask(question: dict[str, Any], link: socket.socket, pid: int) -> dict[str, Any]:
    """The answer of the process ``pid`` at the other end of ``link``, which then has done its work."""
    try:
        lines = Lines(link.fileno())
        lines.write(question)
        answer = lines.read(question["limit"])
        return {"failed": "crashed"} if answer is None else {"values": answer.get("values")}
    except TimeoutError:
        return {"failed": "timeout"}
    except (OSError, ValueError, RecursionError):
        return {"failed": "crashed"}
    finally:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)  # and what the answer has started


if __name__ == "__main__":
    broker()
