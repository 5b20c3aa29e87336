"""A real Jupyter kernel, driven without a notebook server: what runs a notebook in the box and in ``labs check``.

The process is ipykernel's own (:func:`optcourse.grading.box.inside.notebook` starts it), so whatever runs in JupyterLab
runs here: magics, plots, threads, ``await``, subprocesses, ``sys.stdout`` in all its parts. It listens on Unix
sockets in a folder, needs no network, and speaks Jupyter's protocol. Whatever it says is data of a stranger: it is
cut to a bounded size here, and nothing of it is trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optcourse import files
from optcourse.grading.box import process

#: Longest line that is passed on, in bytes.
MAX_LINE = 64 * 2**20
#: Seconds a cell has to react to an interrupt before its process is killed.
GRACE = 5.0
#: Outputs that are kept of a cell, and how much larger than a text a figure may be.
MAX_OUTPUTS, FIGURE = 50, 20
#: How often a notebook is run whose cells end their process: each time without the cell that did.
ATTEMPTS = 4
#: What the environment of a kernel is, in the box and outside.
ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OPTCOURSE_PROGRESS": "off",
    "CUDA_VISIBLE_DEVICES": "",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPTCOURSE_THREADS"), "1"),
}


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


@dataclass
class Ran:
    """What a cell did. ``died`` ("crashed", or "timeout" where it ignored an interrupt): the process is gone.

    ``outputs`` are in the notebook format, streams and figures; ``error`` has "name", "message" and "where".
    """

    outputs: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None
    interrupted: bool = False
    died: str | None = None


class Kernel(contextlib.AbstractContextManager):
    """One kernel process; to be closed, or used in a ``with`` statement.

    ``output`` is the number of characters kept of each stream of a cell. The process runs in ``cwd`` with the
    environment ``env``, or is a ``fork`` of this one. Raises ``ValueError`` where no Unix socket can be made.
    """

    def __init__(
        self, *, output: int = 20_000, cwd: str | None = None, env: dict[str, str] | None = None, fork: bool = False
    ) -> None:
        self.output = output
        self.ends = contextlib.ExitStack()
        if (folder := self.ends.enter_context(files.socket_folder())) is None:
            raise ValueError("TMPDIR: the kernel needs a folder in which Unix sockets can be made; none was found")
        self.folder = folder
        ports = {f"{name}_port": i for i, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)}
        file = Path(self.folder, "kernel.json")
        file.write_text(json.dumps({**ports, "ip": f"{self.folder}/kernel", "transport": "ipc", "key": ""}))
        mine, theirs = socket.socketpair()
        self.line = mine
        arguments, number = [str(file), str(theirs.fileno())], theirs.fileno()
        # The broker imports nothing of the student's, a notebook does: as in Jupyter, its folder is on the path.
        env = {**(os.environ if env is None else env), "PYTHONSAFEPATH": "", "IPYTHONDIR": f"{self.folder}/ipython"}
        import zmq  # which both will need, if it is a fork

        self.process = process.forked(arguments, number, env) if fork else process.fresh(arguments, number, cwd, env)
        theirs.close()
        self.zmq, self.context = zmq, zmq.Context()
        self.shell, self.iopub = self.context.socket(zmq.DEALER), self.context.socket(zmq.SUB)
        for channel, number in ((self.shell, 1), (self.iopub, 2)):
            channel.linger, channel.rcvhwm = 0, 0
            channel.connect(f"ipc://{self.folder}/kernel-{number}")
        self.iopub.subscribe(b"")
        self.ready = False

    def __exit__(self, *_: object) -> None:
        """End the process, without a last word of its own, and remove its folder."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.line.close()
        self.context.destroy(linger=0)
        self.ends.close()

    def close(self) -> None:
        """What leaving a ``with`` statement does."""
        self.__exit__()

    def start(self) -> bool:
        """Wait until the process listens; whether it does."""
        while not self.ready:
            # Its answer may be there before we are heard as a subscriber: then ask once more.
            request, heard, deadline = self._send("kernel_info_request", {}), set[str](), time.monotonic() + 0.2
            while "shell" not in heard or (len(heard) < 2 and time.monotonic() < deadline):
                if self.process.poll() is not None:
                    return False
                for channel, _, content in self._receive(request, max(deadline, time.monotonic() + 0.02)):
                    heard |= {channel} if channel == "shell" or content.get("execution_state") == "idle" else set()
                    deadline = time.monotonic() + 0.02
            self.ready = len(heard) == 2
        return True

    def run(self, source: str, limit: float) -> Ran:
        """Execute one cell; after ``limit`` seconds it is interrupted, and killed if that does not help."""
        ran = Ran()
        if not self.start():
            return Ran(died="crashed")
        outputs = _Outputs(self.output)
        content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False}
        request = self._send("execute_request", {**content, "user_expressions": {}, "stop_on_error": False})
        deadline, replied, idle, reply = time.monotonic() + limit, False, False, dict[str, Any]()
        while not (replied and idle):
            for channel, kind, content in self._receive(request, min(deadline, time.monotonic() + 0.2)):
                if channel == "shell":
                    replied, deadline, reply = True, min(deadline, time.monotonic() + GRACE), content
                elif kind == "status":
                    idle = idle or content.get("execution_state") == "idle"
                elif kind == "error":
                    ran.error = described(content)
                else:
                    outputs.add(kind, content)
            if self.process.poll() is not None and not self._waiting():
                ran.died = "crashed"
                break
            if time.monotonic() < deadline:
                continue
            if replied or ran.interrupted:
                ran.died = None if replied else "timeout"
                break
            self.interrupt()
            ran.interrupted, deadline = True, time.monotonic() + GRACE
        if ran.died == "timeout":
            self.process.kill()
        if ran.error is None and reply.get("status") == "error":  # shown in a way of its own: a group of exceptions
            ran.error = described(reply)
        ran.outputs = outputs.kept()
        return ran

    def interlocutor(self, kind: str) -> socket.socket:
        """A line to somebody in there who knows what the cells defined so far and will answer one question.

        ``kind`` is "copy", a fork of the process that says "pid" first, or says "threads" where the process has
        threads of its own and a fork would lack them; or "live", the process itself.
        """
        mine, theirs = socket.socketpair()
        with theirs, contextlib.suppress(OSError):
            socket.send_fds(self.line, [kind.encode()], [theirs.fileno()])
        return mine

    def interrupt(self) -> None:
        """What the stop button of a notebook does."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGINT)  # what a cell started too, as Jupyter does

    # Jupyter's protocol, as much of it as is needed -----------------------------------------------------------

    def _send(self, kind: str, content: dict[str, Any]) -> str:
        number = uuid.uuid4().hex
        header = {"msg_id": number, "session": "grader", "username": "", "date": "2000-01-01T00:00:00Z"}
        parts = ({**header, "msg_type": kind, "version": "5.3"}, {}, {}, content)
        self.shell.send_multipart([b"<IDS|MSG>", b"", *(json.dumps(part).encode() for part in parts)])
        return number

    def _waiting(self) -> bool:
        return bool(self.shell.poll(0) or self.iopub.poll(0))

    def _receive(self, request: str, deadline: float) -> list[tuple[str, str, dict[str, Any]]]:
        """What came about ``request``, at the latest at ``deadline``: channel, type, content."""
        poller = self.zmq.Poller()
        poller.register(self.shell, self.zmq.POLLIN)
        poller.register(self.iopub, self.zmq.POLLIN)
        found = []
        for channel, _ in poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            parts: list[bytes] = channel.recv_multipart()
            try:
                parts = parts[parts.index(b"<IDS|MSG>") + 2 :]
                header, parent, _, content = (json.loads(part) for part in parts[:4])
                if parent["msg_id"] == request:
                    name = "shell" if channel is self.shell else "iopub"
                    found.append((name, str(header["msg_type"]), dict(content)))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # no message of a kernel: the notebook wrote to the socket
        return found


class _Outputs:
    """The outputs of a cell in the notebook format, as many and as long as are kept."""

    def __init__(self, limit: int) -> None:
        self.limit, self.all, self.dropped, self.wait = limit, [], {}, False

    def add(self, kind: str, content: dict[str, Any]) -> None:
        """Keep what still fits."""
        waited, self.wait = self.wait, kind == "clear_output" and bool(content.get("wait"))
        if waited or (kind == "clear_output" and not self.wait):
            self.all, self.dropped = [], {}
        if kind == "stream" and isinstance(text := content.get("text"), str):
            self._stream("stderr" if content.get("name") == "stderr" else "stdout", text)
        elif kind in ("display_data", "execute_result", "update_display_data"):
            self._display(kind, content)

    def _stream(self, name: str, text: str) -> None:
        mine = [output for output in self.all if output.get("name") == name]
        piece = text[: max(0, self.limit - sum(len(output["text"]) for output in mine))]
        self.dropped[name] = self.dropped.get(name, 0) + len(text) - len(piece)
        if piece and self.all and self.all[-1].get("name") == name:
            self.all[-1]["text"] += piece
        elif piece and len(self.all) < MAX_OUTPUTS:
            self.all.append({"output_type": "stream", "name": name, "text": piece})

    def _display(self, kind: str, content: dict[str, Any]) -> None:
        data, transient = (
            found if isinstance(found := content.get(key), dict) else {} for key in ("data", "transient")
        )
        kept = {kind: data[kind] for kind in ("text/plain", "image/png") if isinstance(data.get(kind), str)}
        label = transient.get("display_id")
        if not kept or sum(map(len, kept.values())) > FIGURE * self.limit:
            return
        shown = [output for output in self.all if label is not None and output.get("label") == label]
        for output in shown:
            output["data"] = kept
        if kind != "update_display_data" and len(self.all) < MAX_OUTPUTS:
            self.all.append({"output_type": "display_data", "data": kept, "metadata": {}, "label": label})

    def kept(self) -> list[dict[str, Any]]:
        """What a notebook would hold."""
        for output in self.all:
            output.pop("label", None)
        for name, count in self.dropped.items():
            last = next((output for output in reversed(self.all) if output.get("name") == name), None)
            if count and last:
                last["text"] += f"\n… {count:,} more characters, or many more, were dropped\n"
        return self.all


def described(content: dict[str, Any]) -> dict[str, str]:
    """Name and message of an exception, and the lines of the cells it came through."""
    name, message = (str(content.get(key, ""))[:2000] for key in ("ename", "evalue"))
    message = re.sub(r" \(\d+\.py, (line \d+)\)$", r" (\1)", message)  # a cell has no file that anybody knows
    lines, inside, where = content.get("traceback"), False, []
    text = "\n".join(str(line)[:20_000] for line in lines[:50]) if isinstance(lines, list) else ""
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        if re.match(r"\s*(Cell|File|Input) ", line):
            inside = bool(re.match(r"\s*(Cell|Input) I", line))
        elif inside and (found := re.match(r"-+> *(\d+) ?(.*)", line)):
            where.append(f"line {found[1]}: {found[2].strip()}")
    return {"name": name[:80], "message": message, "where": "\n".join(where[-5:])[:1000]}
