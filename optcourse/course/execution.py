"""One notebook in one kernel: parameters, time limits, failures that name the cell, a kernel that can be killed."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from papermill.execute import remove_error_markers
from traitlets import Type

from optcourse.files import socket_folder

#: Seconds a single cell may take before it counts as hanging.
CELL_TIMEOUT = {"cpu": {"quick": 120, "full": 3600}, "cuda": {"quick": 900, "full": 21_600}}
#: How the sentence begins that a cell for a GPU prints where there is none.
SKIPPED = "skipped: no CUDA device"
#: Seconds after which a client that waits for a message looks by itself whether there is one.
LOOK_AGAIN = 1.0
#: Seconds that the machinery around a killed kernel has to end. What is still stuck then is left behind.
GRACE = 10.0

# They log each failure that is reported below in a sentence, and the reader left behind by a killed kernel.
for library in ("papermill", "asyncio"):
    logging.getLogger(library).setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Settings:
    """What a notebook receives as parameters; ``device`` is resolved, ``"cpu"`` or ``"cuda"``."""

    profile: str
    seed: int
    device: str

    @property
    def budgeted(self) -> bool:
        """Whether times are compared with the lecture's budget: it is for a laptop, and knows no cells for a GPU."""
        return self.profile == "quick" and self.device == "cpu"


@dataclass(frozen=True)
class Failure:
    """Where and why a lecture stopped; ``cell`` is a cell id, ``None`` when no cell was reached."""

    type: str
    message: str
    cell: str | None = None
    section: str = ""


@dataclass(frozen=True)
class Outcome:
    """The executed notebook (as far as it came, ``None`` when it could not be read) and how it went."""

    notebook: NotebookNode | None
    seconds: float
    failure: Failure | None


@dataclass(eq=False)
class Execution:
    """A notebook to be executed: :meth:`run` in one thread, :meth:`kill` from another at any time.

    ``cell_timeout`` in seconds overrides the limit of the profile; ``on_cell(index, total, section)`` is
    called when a cell starts. Each kernel computes in one thread, or in ``OPTCOURSE_THREADS``, and is told in
    ``OPTCOURSE_VERDICTS`` where the ``verdicts`` of other lectures are, if it may read them.
    """

    path: Path
    settings: Settings
    cell_timeout: int | None = None
    verdicts: Path | None = None
    on_cell: Callable[[int, int, str], None] = lambda index, total, section: None
    killed: bool = field(default=False, init=False)
    _pid: int | None = field(default=None, init=False)
    _manager: AsyncKernelManager | None = field(default=None, init=False)

    def run(self) -> Outcome:
        """Execute the notebook. What goes wrong in it is returned as a :class:`Failure`, not raised.

        It ends soon after :meth:`kill`, whatever hangs: the work is done in a thread that can be left behind.
        """
        outcome = Outcome(None, 0.0, Failure("Interrupted", "it did not end when it was stopped"))

        def work() -> None:
            nonlocal outcome
            try:
                outcome = self._run()
            except Exception as error:  # a full disk, no temporary folder
                outcome = Outcome(None, 0.0, Failure(type(error).__name__, str(error)))

        thread = threading.Thread(target=work, name=self.path.stem, daemon=True)
        thread.start()
        while thread.is_alive() and not self.killed:
            thread.join(0.1)
        thread.join(GRACE)
        return outcome

    def _run(self) -> Outcome:
        start = time.monotonic()
        try:
            text = self.path.read_text(encoding="utf-8")
            sections = section_of_cell(nbformat.reads(text, as_version=4))
        except Exception as error:
            return Outcome(None, 0.0, Failure("NotANotebook", f"{self.path.name} is not a notebook: {error}"))
        with TemporaryDirectory(prefix="optcourse-", ignore_cleanup_errors=True) as folder, socket_folder() as near:
            source, target = Path(folder, "source.ipynb"), Path(folder, "executed.ipynb")
            source.write_text(text, encoding="utf-8")
            failure = self._execute(source, target, sections, near)
            seconds = time.monotonic() - start
            whole = target.exists() and target.stat().st_size > 0
            notebook = nbformat.read(target if whole else source, as_version=4)
        return Outcome(self._finish(notebook, failure), seconds, failure)

    def kill(self) -> None:
        """Kill the kernel and everything it started; a kernel not yet started will not start."""
        self.killed = True
        self._kill_group()

    def _kill_group(self) -> None:
        if self._pid is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self._pid, signal.SIGKILL)  # every kernel leads a process group of its own
            else:
                os.kill(self._pid, signal.SIGTERM)

    def _execute(self, source: Path, target: Path, sections: dict[str, str], sockets: Path | None) -> Failure | None:
        current: str | None = None

        def on_cell_start(cell: NotebookNode, cell_index: int) -> None:
            nonlocal current
            current = cell.id
            self.on_cell(cell_index, len(sections), sections.get(cell.id, ""))

        def failure(kind: str, message: str) -> Failure:
            return Failure(kind, message, current, sections.get(current or "", ""))

        settings = self.settings
        timeout = self.cell_timeout or CELL_TIMEOUT[settings.device][settings.profile]
        # Papermill reads its paths as format strings.
        paths = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, target)]
        try:
            papermill.execute_notebook(
                *paths,
                parameters={"PROFILE": settings.profile, "SEED": settings.seed, "DEVICE": settings.device},
                kernel_name="python3",
                language="python",
                progress_bar=False,
                execution_timeout=timeout,
                kernel_manager_class=self._kernel_manager(target.parent, sockets),
                on_cell_start=on_cell_start,
                # Not papermill's cwd, which would change the directory of this process under other threads.
                resources={"metadata": {"path": str(self.path.parent)}},
                coalesce_streams=True,
            )
        except PapermillExecutionError as error:
            return failure(error.ename, error.evalue)
        except DeadKernelError:
            return failure("KernelDied", "the kernel died in this cell (out of memory, killed, or an exit in C code)")
        except CellTimeoutError:
            return failure("CellTimeout", f"the cell ran longer than {timeout} s and was stopped")
        except Exception as error:
            return failure(type(error).__name__, str(error))
        finally:
            self._kill_group()  # whatever the kernel left behind
            if self._manager is not None:
                # Else the garbage collector closes it, at any moment, and waits for ever for messages to a kernel
                # that is gone.
                self._manager.context.destroy(linger=0)
        return None

    def _finish(self, notebook: NotebookNode, failure: Failure | None) -> NotebookNode:
        """Make the executed notebook say where it stopped."""
        notebook = remove_error_markers(notebook)
        for key in ("input_path", "output_path"):
            notebook.metadata.get("papermill", {}).pop(key, None)
        for cell in notebook.cells:
            if not failure or cell.id != failure.cell or cell.cell_type != "code":
                continue
            if not any(output.output_type == "error" for output in cell.outputs):
                kind, message = failure.type, failure.message
                trace = [f"{kind}: {message}"]
                cell.outputs.append(nbformat.v4.new_output("error", ename=kind, evalue=message, traceback=trace))
        return notebook

    def _kernel_manager(self, folder: Path, sockets: Path | None) -> type[AsyncKernelManager]:
        """A manager class whose kernels are this interpreter's, whatever kernels the user has installed.

        Their sockets are in the folder ``sockets``: nothing listens on a network port, unless there is no such folder.
        """
        execution = self
        threads = os.environ.get("OPTCOURSE_THREADS", "1")
        environment = {
            "OPTCOURSE_PROGRESS": "off",
            "OPTCOURSE_PLAYERS": "1",
            "OPTCOURSE_THREADS": threads,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            **{f"{library}_NUM_THREADS": threads for library in ("OMP", "OPENBLAS", "MKL")},
            **({"OPTCOURSE_VERDICTS": str(self.verdicts.resolve())} if self.verdicts else {}),
        }

        class LectureKernel(AsyncKernelManager):
            def __init__(self, **options: Any) -> None:
                options |= {"connection_file": str(folder / "connection.json"), "client_factory": LectureClient}
                place = {"transport": "ipc", "ip": str(sockets / "kernel")} if sockets else {}
                super().__init__(**options, **place)
                execution._manager = self

            @property
            def kernel_spec(self) -> KernelSpec:
                return KernelSpec(**get_kernel_dict())

            async def start_kernel(self, **options: Any) -> None:
                if execution.killed:
                    raise RuntimeError("interrupted before the kernel started")
                # What the code prints travels in messages; the kernel's own output is chatter.
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                await super().start_kernel(**options, **quiet, env={**os.environ, **environment})
                assert isinstance(self.provisioner, LocalProvisioner)
                execution._pid = self.provisioner.pid
                if execution.killed:  # the interrupt came while the kernel was starting
                    execution._kill_group()

        return LectureKernel


class PatientChannel(AsyncZMQSocketChannel):
    """A channel that hears of a message late, and not never.

    A client that sends while it waits for a reply (nbclient does, for a widget that shows output) can miss the one
    signal that the reply is there: https://github.com/jupyter/nbclient/issues/312. The cell then seems to run until
    its time is over.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the next message; raise ``Empty`` after ``timeout`` seconds."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return await super().get_msg(min(left, LOOK_AGAIN))
            except Empty:
                if left <= LOOK_AGAIN:
                    raise


class LectureClient(AsyncKernelClient):
    """A client whose channel for replies is a :class:`PatientChannel`."""

    shell_channel_class = Type(PatientChannel)


def section_of_cell(notebook: NotebookNode) -> dict[str, str]:
    """Cell id -> text of the last Markdown heading at or above it."""
    sections, heading = {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in re.findall(r"^#{1,6}\s+(.+)$", cell.source, flags=re.MULTILINE):
                heading = re.sub(r"<[^>]*>", "", line).strip()
        sections[cell.get("id", "")] = heading
    return sections


def cells_skipped(notebook: NotebookNode) -> list[str]:
    """The ids of the executed cells for a GPU whose guard said that there is none."""
    cells = [cell for cell in notebook.cells if "gpu" in cell.metadata.get("tags", []) and cell.cell_type == "code"]
    return [c.id for c in cells if any(o.get("text", "").startswith(SKIPPED) for o in c.outputs)]


def cell_seconds(notebook: NotebookNode) -> dict[str, float]:
    """Cell id -> wall time in seconds of every executed code cell."""
    durations = {c.id: c.metadata.get("papermill", {}).get("duration") for c in notebook.cells if c.cell_type == "code"}
    return {cell: float(seconds) for cell, seconds in durations.items() if seconds is not None}
