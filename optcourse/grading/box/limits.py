"""What one submission may use, and how many of them this machine can hold at a time."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass, field
from pathlib import Path

from optcourse.runtime import cores

GB = 2**30
#: Address space beyond the memory: libraries map files and reserve room without using it.
RESERVED = 8 * GB
#: Pipes and terminals of a submission: what a user may have is little, and all submissions share it.
MAX_PIPES, MAX_TERMINALS = 128, 64
#: Files that one process may have open: what a process usually may.
OPEN = 1024
#: Room for files in the sandbox, in bytes: once in /tmp, once in /dev/shm.
SCRATCH = 256 * 2**20
#: What the processes of one submission may be and hold together.
MAX_PROCESSES, MAX_THREADS, MAX_FILES, MAX_OPEN = 100, 500, 20_000, 10_000
#: The most that a submission gets unasked, the least that one can be graded with, and what one should have, in GB.
MOST, LEAST, USUAL = 4.0, 0.5, 1.0
#: How much of the machine's memory is for submissions; the rest is the grader's and everybody else's.
SHARE = 0.75


@dataclass(frozen=True)
class Limits:
    """What one submission may use: seconds in all, seconds per cell and per exercise, bytes, characters per cell.

    ``memory`` is for all of its processes and files together, and ``total`` bounds its seconds of processor time as
    well as those on the clock. ``cores`` are the only ones it may run on, where there are any.
    """

    total: float = 300.0
    cell: float = 30.0
    exercise: float = 15.0
    memory: int = 4 * GB
    output: int = 20_000
    cores: frozenset[int] = field(default=frozenset(), repr=False, compare=False)

    def confine(self, tasks: int) -> None:
        """Bound this process and its children; ``tasks`` is how many the user may have (not counted for root)."""
        if self.cores:
            with contextlib.suppress(OSError):  # taken from this machine meanwhile
                os.sched_setaffinity(0, self.cores)
        seconds = int(self.total) + 30
        bounds = {
            resource.RLIMIT_DATA: self.memory,
            resource.RLIMIT_AS: self.memory + RESERVED,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: SCRATCH,
            resource.RLIMIT_CPU: seconds,
            resource.RLIMIT_NOFILE: OPEN,
            resource.RLIMIT_NPROC: tasks,
            getattr(resource, "RLIMIT_MSGQUEUE", None): 2**16,
            getattr(resource, "RLIMIT_SIGPENDING", None): 1000,
            getattr(resource, "RLIMIT_RTPRIO", None): 0,
        }
        for which, most in bounds.items():
            if which is not None:
                with contextlib.suppress(ValueError, OSError):  # lower already
                    resource.setrlimit(which, (most, most))


def share(jobs: int | None = None, memory: float | None = None) -> tuple[int, int]:
    """How many submissions at a time, and bytes for each, when all together have ``memory`` GB.

    By default one a core, at most 8, with 4 GB each, or as many and as much as three quarters of the machine's memory
    (or its container's) hold. Raises ``ValueError`` for what does not fit.
    """
    machine = machine_memory() / GB
    if memory is not None and memory > machine:
        raise ValueError(f"memory must be at most the {machine:.1f} GB that there are, got {memory:g}")
    if memory is not None and memory < LEAST * (jobs or 1):
        few = f", or jobs at most {int(memory / LEAST)}" if memory >= LEAST else ""
        raise ValueError(
            f"memory must be at least {LEAST:g} GB for each of {jobs or 1} submissions at a time, got {memory:g}{few}"
        )
    room = SHARE * machine if memory is None else memory
    if jobs is None:
        jobs = max(1, min(8, cores(), int(room / USUAL)))
    elif room < LEAST * jobs:
        raise ValueError(
            f"jobs must be at most {max(1, int(room / LEAST))} with {machine:.1f} GB of memory, got {jobs}"
        )
    each = room / jobs
    return jobs, int(GB * (each if memory is not None else min(MOST, each)))


def portions(jobs: int) -> list[frozenset[int]]:
    """The cores of each of ``jobs`` submissions at a time, so that none takes another's while there are enough.

    Empty sets where a process cannot be bound to cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [frozenset()] * jobs
    mine = sorted(os.sched_getaffinity(0))
    return [frozenset(mine[job % len(mine) :: jobs]) for job in range(jobs)]


def machine_memory(root: Path = Path("/")) -> float:
    """Bytes of memory of this machine, or of the container that this process is in."""
    found = [float("inf")]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        found += [1024 * float(line.split()[1]) for line in lines if line.startswith("MemTotal:")]
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            base = root / "sys/fs/cgroup" / ("memory" if kinds else "")
            name = "memory.limit_in_bytes" if kinds else "memory.max"
            place = base / path.lstrip("/")
            for folder in (place, *place.parents):
                with contextlib.suppress(OSError, ValueError):  # absent, or "max"
                    found.append(float((folder / name).read_text()))
                if folder == base:
                    break
    return min(found) if min(found) < float("inf") else MOST * GB
