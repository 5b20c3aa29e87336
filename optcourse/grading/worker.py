"""What runs inside the sandbox: a broker, a student's notebook, and a snapshot of it after every test cell.

The *broker* (this process) talks to the grader in JSON lines and runs no student code. It forks the *notebook*, which
executes the cells one after the other. After each test cell the notebook forks a *snapshot*: a copy that waits
and later answers questions with the functions as they were then. No question enters the sandbox before the last
output has left it, so no cell can print one; and a snapshot that hangs or dies takes nothing with it.

The grader sends  {"cells": [{"id", "source", "snapshot"}], "limit": seconds per cell, "output": characters per cell},
then any number of {"ask": id, "cases": [{"expression", "setup", "data"}], "limit": seconds}.
The worker sends  {"start": id}, {"cell": id, "outputs", "error"}, {"snapshot": id}, {"interrupted": true},
{"died": reason}, {"done": true}, and {"answers": id, "values": [...]} or {"answers": id, "failed": reason}.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

#: Longest line the broker passes on, in bytes.
MAX_LINE = 64 * 2**20
#: Seconds a cell has to react to an interrupt before its process is killed.
GRACE = 3.0


class Lines:
    """JSON lines over a socket or a pipe, with a time limit for each."""

    def __init__(self, fd: int) -> None:
        self.fd, self.buffer = fd, bytearray()

    def read(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next message; ``None`` at the end; ``TimeoutError`` after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        searched = 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            rest = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self.fd], [], [], rest)[0]:
                raise TimeoutError
            piece = os.read(self.fd, 1 << 20)
            if not piece or len(self.buffer) > MAX_LINE:
                return None
            self.buffer += piece
        line, self.buffer = self.buffer[:end], self.buffer[end + 1 :]
        message = json.loads(line)
        return message if isinstance(message, dict) else {}

    def write(self, message: dict[str, Any]) -> None:
        """Send one message."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[os.write(self.fd, data) :]


# The broker ------------------------------------------------------------------------------------------------


def broker() -> None:
    """Fork the notebook, pass its messages on, then let snapshots answer."""
    grader_in, grader_out = Lines(os.dup(0)), Lines(os.dup(1))
    quiet = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(quiet, fd)
    job = grader_in.read()
    if job is None:
        return
    links = {cell["id"]: socket.socketpair() for cell in job["cells"] if cell["snapshot"]}
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        for fd in (grader_in.fd, grader_out.fd, ours.fileno(), *(link[0].fileno() for link in links.values())):
            os.close(fd)
        notebook(job, Lines(theirs.fileno()), {name: link[1] for name, link in links.items()})
        os._exit(0)
    theirs.close()
    for link in links.values():
        link[1].close()
    snapshots = run_cells(pid, Lines(ours.fileno()), grader_out, job["limit"])
    grader_out.write({"done": True})
    while (question := grader_in.read()) is not None:
        name = question["ask"]
        link = Lines(links[name][0].fileno())
        try:
            if name not in snapshots:
                raise LookupError
            link.write(question)
            answer = link.read(question["limit"])
            reply = {"failed": "crashed"} if answer is None else {"values": answer.get("values")}
        except TimeoutError:
            reply = {"failed": "timeout"}
        except LookupError:
            reply = {"failed": "not reached"}
        except (OSError, ValueError, RecursionError):
            reply = {"failed": "crashed"}
        if name in snapshots:
            with contextlib.suppress(OSError):
                os.kill(snapshots[name], signal.SIGKILL)
        grader_out.write({"answers": name, **reply})


def run_cells(pid: int, kernel: Lines, grader: Lines, limit: float) -> dict[str, int]:
    """Pass on what the notebook says until it ends or hangs; returns the snapshots' process ids."""
    snapshots: dict[str, int] = {}
    interrupted = False
    while True:
        try:
            message = kernel.read(GRACE if interrupted else limit)
        except TimeoutError:
            if interrupted:
                grader.write({"died": "timeout"})
                break
            os.kill(pid, signal.SIGINT)
            grader.write({"interrupted": True})
            interrupted = True
            continue
        except (ValueError, RecursionError):
            message = None
        if message is None:
            grader.write({"died": "crashed"})
            break
        if message.get("done"):
            break
        interrupted = interrupted and "start" not in message
        if isinstance(message.get("snapshot"), str) and type(message.get("pid")) is int and message["pid"] > 1:
            snapshots[message["snapshot"]] = message["pid"]
        grader.write(message)
        if "start" in message:
            kernel.write({"go": True})
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return snapshots


# The notebook and its snapshots ----------------------------------------------------------------------------


def notebook(job: dict[str, Any], broker: Lines, links: dict[str, socket.socket]) -> None:
    """Execute the cells; fork a snapshot after each test cell."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shell = make_shell()
    for cell in job["cells"]:
        broker.write({"start": cell["id"]})
        broker.read()  # from here on the grader knows which cell is to blame
        outputs, error = run_cell(shell, cell["source"], job["output"])
        broker.write({"cell": cell["id"], "outputs": outputs, "error": error})
        if cell["snapshot"]:
            pid = os.fork()
            link = links.pop(cell["id"])
            if pid == 0:
                for other in links.values():
                    other.close()
                answer(shell, Lines(link.fileno()))
                os._exit(0)
            link.close()
            broker.write({"snapshot": cell["id"], "pid": pid})
    broker.write({"done": True})
    signal.pause()  # the broker ends this process; atexit handlers and threads get no say


def make_shell() -> Any:
    """An IPython shell without history, colours or a terminal; figures become PNGs."""
    import builtins

    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Results(DisplayHook):
        """The value of a cell's last line goes where displayed figures go."""

        def write_output_prompt(self) -> None:
            pass

        def write_format_data(self, format_dict: dict, md_dict: dict | None = None) -> None:
            shell.display_pub.publish(format_dict, md_dict)

        def finish_displayhook(self) -> None:
            pass

    def no_input(*_: Any, **__: Any) -> str:
        raise EOFError("input() has nobody to ask while a notebook is graded")

    builtins.input = no_input
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "NoColor"
    shell = InteractiveShell.instance(config=config)
    shell.display_pub = CapturingDisplayPublisher()
    shell.displayhook = shell.display_trap.hook = Results(shell=shell, cache_size=0)
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: None
    shell.user_ns["__name__"] = "__main__"
    return shell


class Capped:
    """A text stream that keeps the first characters and counts the rest."""

    encoding, errors = "utf-8", "replace"

    def __init__(self, limit: int) -> None:
        self.limit, self.kept, self.dropped, self.parts = limit, 0, 0, []

    def write(self, text: str) -> int:
        """Keep what still fits."""
        piece = str(text)[: max(0, self.limit - self.kept)]
        self.parts.append(piece)
        self.kept += len(piece)
        self.dropped += len(text) - len(piece)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """It is none."""
        return False

    def text(self) -> str:
        """What was kept, and a note of what was not."""
        note = f"\n… {self.dropped:,} more characters were dropped\n" if self.dropped else ""
        return "".join(self.parts).encode("utf-8", "replace").decode() + note


def run_cell(shell: Any, source: str, limit: int) -> tuple[list[dict], dict | None]:
    """Outputs in the notebook format, and the error if there was one."""
    shell.display_pub.outputs.clear()
    before, streams = (sys.stdout, sys.stderr), (Capped(limit), Capped(limit))
    sys.stdout, sys.stderr = streams
    try:
        result = shell.run_cell(source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
    except BaseException as escaped:  # what IPython lets through, KeyboardInterrupt among it
        error = escaped
    finally:
        sys.stdout, sys.stderr = before
    outputs: list[dict[str, Any]] = [
        {"output_type": "stream", "name": name, "text": stream.text()}
        for name, stream in zip(("stdout", "stderr"), streams, strict=True)
        if stream.kept
    ]
    for data in (item["data"] for item in shell.display_pub.outputs):
        kept = {kind: data[kind] for kind in ("text/plain", "image/png") if isinstance(data.get(kind), str)}
        if sum(map(len, kept.values())) < 20 * limit:
            outputs.append({"output_type": "display_data", "data": kept, "metadata": {}})
    return outputs[:50], describe(error)


def describe(error: BaseException | None) -> dict[str, str] | None:
    """Name and message of an exception, and the lines of the cell it came through."""
    if error is None:
        return None
    import traceback

    try:
        name, message = type(error).__name__, str(error)
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "ipython-input" in f.filename]
    except BaseException:
        return {"name": "Exception", "message": "it could not be shown", "where": ""}
    where = "\n".join(f"line {frame.lineno}: {frame.line}" for frame in frames[-5:])
    return {"name": name[:80], "message": message[:2000], "where": where[:1000]}


def answer(shell: Any, link: Lines) -> None:
    """A snapshot: wait for one list of cases, evaluate each, say the values."""
    from optcourse.labs.values import decode, encode

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    question = link.read()
    if question is None:
        return
    values = []
    sys.stdout = sys.stderr = Capped(0)
    for case in question["cases"]:
        try:
            space = {**shell.user_ns, **{name: decode(value) for name, value in case["data"].items()}}
            exec(case["setup"], space)
            values.append({"value": encode(eval(case["expression"], space))})
        except BaseException as error:
            values.append({"error": describe(error)})
    link.write({"values": values})


if __name__ == "__main__":
    broker()
