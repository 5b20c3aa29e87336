"""Real processes from a notebook: one function, run by several fresh Python processes that can talk to each other.

>>> def square():
...     import torch.distributed as dist
...     return dist.get_rank() ** 2
>>> launch(square, processes=2)  # doctest: +SKIP
[0, 1]
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

#: Seconds that a process gets to save what it has after it was asked to stop.
GRACE = 10.0
_POLL = 0.02
#: The threads that notice when whoever started this process is gone.
WATCHES = ("optcourse-parent", "optcourse-agent")


class CannotLaunch(RuntimeError):
    """This place does not allow new processes or sockets; the simulator (one process) works all the same."""


class WorkerFailed(RuntimeError):
    """Processes raised, died or ran out of time; what the others returned is not lost.

    ``failures`` {rank: traceback or exit status}, the cause first as far as it is known, ``results`` {rank: value}.
    ``rank`` is the cause: whom the survivors found lost, who died, else who raised first; None when all that can be
    said is that several did not answer.
    """

    def __init__(self, failures: dict[int, str], results: dict[int, Any], known: bool = True) -> None:
        self.failures, self.results = failures, results
        first, n = next(iter(failures)), len(failures) + len(results)
        self.rank = first if known else None
        who = f"process {first} of {n}" if known else f"processes {', '.join(map(str, failures))} of {n}"
        super().__init__(f"{who} failed: {failures[first]}")


class Workers(contextlib.AbstractContextManager):
    """``processes`` copies of one command with the environment that ``torchrun`` would give them.

    This process holds the key-value store in which they find each other, so that no worker's death takes it away.
    The workers read from a pipe that ends when this process does: see :func:`leave_with_parent`. Use as a context
    manager: whoever still runs at its end is killed.
    """

    def __init__(self, command: Sequence[str], processes: int, output: Sequence[Any] | None = None) -> None:
        """Start them; ``output`` are files for what each prints. Raises :class:`CannotLaunch`."""
        if not dist.is_available():
            raise CannotLaunch("torch was built without torch.distributed")
        self.running: list[subprocess.Popen] = []
        try:
            self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            for rank in range(processes):
                streams = {} if output is None else {"stdout": output[rank], "stderr": subprocess.STDOUT}
                environment = {**os.environ, **self._environment(rank, processes)}
                options = {"env": environment, "stdin": subprocess.PIPE, "start_new_session": True, **streams}
                self.running.append(subprocess.Popen(command, **options))
        except (OSError, RuntimeError) as error:
            self.kill()
            raise CannotLaunch(f"no processes that can talk to each other here: {error}") from error

    def _environment(self, rank: int, processes: int) -> dict[str, str]:
        return {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "OMP_NUM_THREADS": "1",  # processes that fight for cores are several times slower
            "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),  # else a lost store shows its stack
        }

    def __exit__(self, *_: object) -> None:
        """Kill whoever still runs."""
        self.kill()

    def exits(self) -> list[int | None]:
        """The exit status of each, None while it runs, -9 when it was killed by signal 9."""
        return [process.poll() for process in self.running]

    def wait(self, seconds: float, done: Callable[[int], bool] = lambda rank: False) -> None:
        """Until all have ended or are ``done``, or all but the one whom the others found lost; at most ``seconds``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            waiting = [rank for rank, status in enumerate(self.exits()) if status is None and not done(rank)]
            if not waiting or waiting == [self.lost()]:
                return
            time.sleep(_POLL)

    def lost(self) -> int | None:
        """The rank that survivors of a failure have written down, None when nobody has."""
        from optcourse.nodes.network.heartbeat import written_down

        return written_down(self._store)

    def interrupt(self) -> None:
        """Ask all to save and stop, as Ctrl-C does, and give them ``GRACE`` seconds."""
        for process in self.running:
            process.send_signal(signal.SIGINT)
        self.wait(GRACE)

    def release(self) -> None:
        """End the pipes that the workers read from."""
        for process in self.running:
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()

    def kill(self) -> None:
        """End those that still run, frozen ones too."""
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()
        self.release()


def launch(
    function: Callable[..., Any],
    *args: Any,
    processes: int = 2,
    timeout: float = 60.0,
    backend: str = "gloo",
    **kwargs: Any,
) -> list[Any]:
    """Run ``function(*args, **kwargs)`` in fresh Python processes joined by ``torch.distributed``.

    Each calls it once; the results are returned in the order of ranks. The function may be defined in a notebook: it
    travels by value, with whatever it refers to. What the processes print is printed here when all have ended. No
    process outlives this call: after ``timeout`` seconds in total, or Ctrl-C, those that still run are killed.

    Raises :class:`WorkerFailed` with the rank and traceback when a process raises, dies or runs out of time,
    :class:`CannotLaunch` where processes or sockets are not allowed, ``ValueError`` for processes < 1 or a timeout
    outside (0, 86400].
    """
    import cloudpickle

    from optcourse.arguments import integer, real

    integer("processes", processes, 1)
    end = time.monotonic() + float(real("timeout", timeout, 0, 86400, open_low=True))
    call = cloudpickle.dumps((function, args, kwargs))
    try:
        place = tempfile.TemporaryDirectory(prefix="optcourse-launch-", ignore_cleanup_errors=True)
    except OSError as error:
        raise CannotLaunch(f"no temporary folder here: {error}") from error
    with place as name, contextlib.ExitStack() as files:
        folder = Path(name)
        (folder / "call").write_bytes(cloudpickle.dumps((sys.path, call, backend, float(timeout))))
        output = [files.enter_context((folder / f"output{rank}").open("wb")) for rank in range(processes)]
        command = [sys.executable, "-P", __file__, name]  # by path: the package would import more than a worker needs
        with Workers(command, processes, output) as workers:
            results = [folder / f"result{rank}" for rank in range(processes)]
            # A worker stays until all are done: whoever leaves first would look lost to those that still compute.
            workers.wait(end - time.monotonic(), done=lambda rank: results[rank].exists())
            statuses, lost = workers.exits(), workers.lost()
            workers.release()
            if all(path.exists() for path in results):
                workers.wait(GRACE)
        return _collect(folder, statuses, lost, timeout)


def _collect(folder: Path, statuses: list[int | None], lost: int | None, timeout: float) -> list[Any]:
    """What the workers returned, or the error."""
    import cloudpickle

    results, failures = {}, {}
    for rank, status in enumerate(statuses):
        printed = (folder / f"output{rank}").read_text(errors="replace")
        path = folder / f"result{rank}"
        if path.exists():
            try:
                fine, value = cloudpickle.loads(path.read_bytes())
            except Exception as error:
                fine, value = False, f"its result cannot be read here: {error!r}"
            if fine:
                results[rank] = value
            else:
                failures[rank] = (path.stat().st_mtime, value)
            sys.stdout.write(printed)
            continue
        if status is None:
            when, why = math.inf, f"it did not answer and was ended; the timeout is {timeout:g} s"
        else:  # killed: the others noticed afterwards
            when, why = 0.0, f"signal {-status}" if status < 0 else f"exit status {status}"
        failures[rank] = (when, f"{why}\n{printed[-2000:]}".rstrip())
    if failures:
        ordered = sorted(failures, key=lambda rank: (rank != lost, failures[rank][0]))
        known = len(failures) == 1 or ordered[0] == lost or failures[ordered[0]][0] < math.inf
        raise WorkerFailed({rank: failures[rank][1] for rank in ordered}, results, known)
    return [results[rank] for rank in range(len(statuses))]


# ------------------------------------------------------------------------------------------------ in a worker


def join(backend: str, timeout: float) -> None:
    """Join the process group that the environment describes (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ...).

    ``backend`` "gloo", or "nccl" for tensors on GPUs and gloo for those on the CPU. ``timeout`` in seconds. Raises
    ``RuntimeError`` when the others do not come.
    """
    local = os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost", "::1")
    names = {name for _, name in socket.if_nameindex()} if hasattr(socket, "if_nameindex") else set()
    if local and "lo" in names:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo asks what address the machine's name has
    if backend == "nccl":
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a lost peer: an exception, not the end of the process
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout))


def leave_with_parent(action: Callable[[], None]) -> None:
    """Call ``action`` in a thread when the pipe from the starting process ends: it is done with us, or dead."""
    pipe = os.dup(0)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)  # the function itself finds nothing to read

    def watch() -> None:
        while os.read(pipe, 1024):
            pass
        action()

    threading.Thread(target=watch, daemon=True, name=WATCHES[0]).start()


def leave_with_agent(action: Callable[[], None]) -> None:
    """Call ``action`` in a thread when the process that started this one is gone: nobody else would end it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        action()

    threading.Thread(target=watch, daemon=True, name=WATCHES[1]).start()


def _work() -> None:
    """One process of :func:`launch`."""
    import cloudpickle

    rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
    done, gone = threading.Event(), threading.Event()

    def parent_left() -> None:
        gone.set()
        if not done.is_set():
            os._exit(1)

    leave_with_parent(parent_left)
    try:
        sys.path[:], call, backend, timeout = cloudpickle.loads((folder / "call").read_bytes())
        join(backend, timeout)
        function, args, kwargs = cloudpickle.loads(call)
        fine, data = True, cloudpickle.dumps((True, function(*args, **kwargs)))
    except BaseException as error:
        trace = error.__traceback__
        here = (trace and trace.tb_next) or trace  # begin with the function, not with this file
        text = "".join(traceback.format_exception(error.with_traceback(here))).rstrip()
        fine, data = False, cloudpickle.dumps((False, text))
    sys.stdout.flush()
    sys.stderr.flush()
    done.set()
    (folder / f"{rank}.tmp").write_bytes(data)
    (folder / f"{rank}.tmp").replace(folder / f"result{rank}")
    if fine:
        gone.wait()
    os._exit(0)  # without waiting for the threads of a backend whose peers may be gone


if __name__ == "__main__":
    _work()
