"""The first line of every notebook: seeds, threads, device, profile and figure style.

>>> import optcourse
>>> run = optcourse.start(profile="quick", seed=0, device="cpu")
>>> run.pick(quick=20, full=200)
20
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np

from optcourse.arguments import choice, integer

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

K = TypeVar("K")
T = TypeVar("T")

PROFILES = ("quick", "full")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Run:
    """What a notebook needs to know about this execution."""

    profile: str
    seed: int
    device: torch.device
    rehearsal: bool = False

    @property
    def gpu(self) -> torch.device | None:
        """Where a cell tagged ``gpu`` runs: the CUDA device, ``None`` without one, and in rehearsal the CPU.

        Such a cell begins with ``if run.gpu is None:`` and one ``print`` of the form "skipped: no CUDA device; with
        one: a surface (about 2 min on an H200, estimated)", which the runner counts and the page shows. It takes its
        sizes from ``pick(…, rehearsal=…)``, and no cell that runs without a GPU depends on it.
        """
        return self.device if self.rehearsal or self.device.type == "cuda" else None

    def pick(self, *, quick: T, full: T, rehearsal: T | None = None) -> T:
        """The value for the current profile: ``quick`` for a laptop, ``full`` for patience.

        ``rehearsal`` is the miniature that replaces both where a test executes a ``gpu`` cell on the CPU.
        """
        if self.rehearsal and rehearsal is not None:
            return rehearsal
        return quick if self.profile == "quick" else full

    def rng(self, *key: str | int) -> np.random.Generator:
        """A numpy generator of its own for each ``key``, so that cells may run in any order.

        Text keys enter through CRC-32: Python's own ``hash`` differs from process to process.
        """
        words = [zlib.crc32(k.encode()) if isinstance(k, str) else integer("key", k, 0) for k in key]
        return np.random.default_rng([self.seed, *words])

    def torch_generator(self, *key: str | int) -> torch.Generator:
        """The same as :meth:`rng` for torch (a CPU generator)."""
        import torch

        return torch.Generator().manual_seed(int(self.rng(*key).integers(2**63)))


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_device(device: str) -> torch.device:
    """``"auto"`` is CUDA where there is one, else the CPU; ``"cuda"`` without CUDA is an error."""
    import torch

    choice("device", device, DEVICES)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be 'auto' or 'cpu' on this machine, got 'cuda': torch sees no CUDA device")
    return torch.device(device)


def start(*, profile: str = "quick", seed: int = 0, device: str = "auto", threads: int | None = None) -> Run:
    """Seed Python, numpy and torch, set threads and the figure style, and resolve the device.

    ``profile`` is ``"quick"`` (laptop, CI) or ``"full"``; ``seed`` an integer in 0..2**32 - 1;
    ``device`` ``"auto"``, ``"cpu"`` or ``"cuda"``; ``threads`` the number of torch and BLAS threads
    (default: ``OPTCOURSE_THREADS``, else one: the course's models are too small to gain from more,
    lectures that run side by side do not fight for cores, and sums are rounded alike everywhere).
    ``OPTCOURSE_REHEARSE=1`` makes it a rehearsal: everything on the CPU, cells for a GPU in miniature.

    Raises ``ValueError`` or ``TypeError`` that names the argument.
    """
    import threadpoolctl
    import torch

    from optcourse import alttext, plotting

    choice("profile", profile, PROFILES)
    integer("seed", seed, 0, 2**32 - 1)
    rehearsal = os.environ.get("OPTCOURSE_REHEARSE") == "1"
    resolved = resolve_device("cpu" if rehearsal else device)
    if threads is None:
        threads = int(os.environ.get("OPTCOURSE_THREADS", "1"))
    torch.set_num_threads(integer("threads", threads, 1))
    threadpoolctl.threadpool_limits(threads)  # numpy's and scipy's BLAS

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    plotting.use_style()
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        alttext.with_pictures(shell)
    return Run(profile=profile, seed=seed, device=resolved, rehearsal=rehearsal)


def progress(iterable: Iterable[T], *, desc: str, total: int | None = None, delay: float = 2.0) -> tqdm[T]:
    """A progress bar that appears after two seconds (``delay``; 0 for a single long step) and leaves nothing
    behind. Also a context manager around one long step.

    ``optcourse run`` shows bars of its own and switches these off (``OPTCOURSE_PROGRESS=off``).
    """
    from tqdm.auto import tqdm

    options: dict[str, Any] = {"desc": desc, "total": total, "delay": delay, "leave": False}
    return tqdm(iterable, disable=os.environ.get("OPTCOURSE_PROGRESS") == "off", **options)


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets, instead of stopping this process where it stands; a second one stops it.

    Outside of the main thread, where no signal arrives, the event stays as it is.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def restore(*_: object) -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    def first(*_: object) -> None:
        event.set()
        restore()

    for signum in before:
        signal.signal(signum, first)
    try:
        yield event
    finally:
        restore()


def in_parallel(
    work: Callable[[K], T], keys: Iterable[K], jobs: int, interrupted: threading.Event, end: Callable[[K], None]
) -> Iterator[tuple[K, T]]:
    """Yield each key with ``work(key)`` as it is done, in ``jobs`` threads.

    Once ``interrupted`` is set nothing more is started, and ``end(key)`` is called for what still runs.
    """
    with ThreadPoolExecutor(jobs) as pool:
        key_of = {pool.submit(work, key): key for key in keys}
        pending = set(key_of)
        while pending:
            # A signal handler only runs between two waits, so the waits are short.
            finished, pending = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
            if interrupted.is_set():
                for future in pending:
                    future.cancel()
                    end(key_of[future])
            for future in finished:
                if not future.cancelled():
                    yield key_of[future], future.result()


def exit_status(command: Callable[[], int | None], *, speaks: bool = True) -> int:
    """Of a click command outside its standalone mode; a usage error is one line on standard error and 2."""
    try:
        return command() or 0
    except click.ClickException as error:
        said, status = " ".join(error.format_message().split()), 2
    except click.Abort:
        said, status = "interrupted", 130
    if speaks:
        click.echo(f"optcourse: {said}", err=True)
    return status
