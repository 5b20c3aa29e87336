"""What the processes of a box hold and have used, counted from outside through ``/proc`` (elsewhere than on Linux: 0).

Counted are processes, threads, open files, files in the box's folders, seconds of processor time, and memory: that
of the processes (what they share only once), their page tables, shared memory whether a process shows it or not, the
box's folders in memory and an allowance for every file, socket and pipe, which lie in the kernel.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from optcourse.grading.box.limits import (
    MAX_FILES,
    MAX_OPEN,
    MAX_PIPES,
    MAX_PROCESSES,
    MAX_TERMINALS,
    MAX_THREADS,
    SCRATCH,
    Limits,
)

PROC = Path("/proc")
TICKS, PAGE = os.sysconf("SC_CLK_TCK"), resource.getpagesize()
#: Bytes that the kernel may hold for a file without content, for a socket, and for a pipe.
FILE, SOCKET, PIPE = 1024, 2**18, 2**16


@dataclass(frozen=True)
class Process:
    """One line of the table: seconds of its own, seconds of its children that are no more, and pages."""

    pid: int
    parent: int
    seconds: float
    buried: float
    threads: int
    started: int
    size: int
    resident: int


def table() -> list[Process]:
    """All the processes that can be seen."""
    found = []
    for name in filter(str.isdigit, os.listdir(PROC) if PROC.is_dir() else ()):
        with contextlib.suppress(OSError, IndexError, ValueError):
            with open(f"{PROC}/{name}/stat", "rb", buffering=0) as file:  # a hundred of them, twice a second
                f = file.read().rpartition(b")")[2].split()
            own, dead = (int(f[11]) + int(f[12])) / TICKS, (int(f[13]) + int(f[14])) / TICKS
            numbers = (int(f[i]) for i in (17, 19, 20, 21))
            found.append(Process(int(name), int(f[1]), own, dead, *numbers))
    return found


def family(pid: int) -> list[Process]:
    """The children of a process, theirs, and so on."""
    children = defaultdict(list)
    for process in table():
        children[process.parent].append(process)
    found = list(children[pid])
    for member in found:
        found += children[member.pid]
    return found


def tasks() -> int:
    """How many processes and threads this user has already."""
    count = 0
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            count += len(os.listdir(folder / "task")) if folder.stat().st_uid == os.getuid() else 0
    return count


class Account:
    """Of one box: what began with the process ``pid``, which is not counted itself."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seconds: dict[tuple[int, int], float] = {}
        self.waits: dict[tuple[int, int], float] = {}
        self.most, self.looks = 0.0, 0
        self.shared: dict[int, tuple[int, dict[str, int]]] = {}

    def look(self) -> list[Process]:
        """The processes there are now; remembers what they have used."""
        here = family(self.pid)
        for process in here:
            key = (process.pid, process.started)
            self.seconds[key] = process.seconds
            with contextlib.suppress(OSError, IndexError, ValueError):
                self.waits[key] = int((PROC / str(process.pid) / "schedstat").read_text().split()[1]) / 1e9
        # Children that nobody waited for are in no parent's sum, and short ones are never seen: the larger sum is true.
        self.most = max(self.most, sum(p.seconds + p.buried for p in here), sum(self.seconds.values()))
        return here

    @property
    def used(self) -> float:
        """Seconds of processor time up to the last look."""
        return self.most

    @property
    def waited(self) -> float:
        """Seconds that its processes could have run and had no core, up to the last look."""
        return sum(self.waits.values())

    def excess(self, limits: Limits) -> str | None:
        """Look, and say which limit is exceeded, if any."""
        here = self.look()
        if len(here) > MAX_PROCESSES:
            return "too many processes"
        if sum(process.threads for process in here) > MAX_THREADS:
            return "too many threads"
        if self.used > limits.total:
            return "too much processor time"
        opened = sum(_count(process.pid) for process in here)
        if opened > MAX_OPEN:
            return "too many open files"
        self.looks += 1
        if self.looks % 5 == 1 or opened > MAX_OPEN / 5:  # which takes longer
            files = [name for process in here for name in _opened(process.pid)]
            if len({name for name in files if name.startswith("pipe:")}) > MAX_PIPES:
                return "too many pipes"
            if sum(name.endswith("/ptmx") for name in files) > MAX_TERMINALS:
                return "too many terminals"
        scratch, files = _scratch(here)
        if files > MAX_FILES:
            return "too many files"
        fixed = scratch + FILE * files + self._shared(here) + _queued(here)
        fixed += sum(_status(process.pid, "VmSwap", "VmPTE") for process in here)
        # What is quickly found out is at least what there is: who stays below the limit with that is not asked more.
        if fixed + SOCKET * opened + PAGE * sum(process.resident for process in here) <= limits.memory:
            return None
        names = {name for process in here for name in _opened(process.pid)}
        fixed += sum(SOCKET if n[0] == "s" else PIPE for n in names if n.startswith(("socket:", "pipe:")))
        exact = fixed + sum(_proportional(process.pid) for process in here)
        return "too much memory" if exact > limits.memory else None

    def _shared(self, here: list[Process]) -> int:
        """Shared memory without a name: it stays when a process lets go of the pages, so its size counts."""
        for process in here:
            if self.shared.get(process.pid, (-1, {}))[0] != process.size:
                self.shared[process.pid] = (process.size, _nameless(process.pid))
        alive = {process.pid for process in here}
        self.shared = {pid: kept for pid, kept in self.shared.items() if pid in alive}
        held: dict[str, int] = {}
        for _, sizes in self.shared.values():
            for inode, size in sizes.items():
                held[inode] = max(held.get(inode, 0), size)
        return sum(held.values())


def _count(pid: int) -> int:
    """How many files a process has open."""
    with contextlib.suppress(OSError):
        return len(os.listdir(PROC / str(pid) / "fd"))
    return 0


def _opened(pid: int) -> list[str]:
    """What each open file of a process is."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(PROC / str(pid) / "fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(entry.path))
    return found


def _nameless(pid: int) -> dict[str, int]:
    """Shared memory that has no file in any folder, by its inode: how much of it this process sees."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in (PROC / str(pid) / "maps").read_bytes().splitlines():
            if b" /dev/zero (deleted)" in line or b" /memfd:" in line or b" /SYSV" in line:
                start, _, end = line.split(b" ", 1)[0].partition(b"-")
                inode = line.split()[4].decode()
                found[inode] = found.get(inode, 0) + int(end, 16) - int(start, 16)
    return found


def _queued(here: list[Process]) -> int:
    """Bytes on their way within the box's own network, with what the kernel needs around them: their room grows."""
    for process in reversed(here):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if os.readlink(PROC / str(process.pid) / "ns/net") == os.readlink(PROC / "self/ns/net"):
                return 0  # no box, and the machine's network
            lines = [
                line
                for name in ("tcp", "tcp6")
                for line in (PROC / str(process.pid) / "net" / name).read_text().splitlines()[1:]
            ]
            return 2 * sum(int(queue, 16) for line in lines for queue in line.split()[4].split(":"))
    return 0


def _scratch(here: list[Process]) -> tuple[int, int]:
    """Bytes and files in the box's folders in memory, seen through one of its processes."""
    for process in reversed(here):
        size = files = 0
        with contextlib.suppress(OSError):
            for name in ("tmp", "dev/shm"):
                seen = os.statvfs(PROC / str(process.pid) / "root" / name)
                if seen.f_blocks * seen.f_frsize == SCRATCH:  # else it is not the box's, or not yet
                    size += (seen.f_blocks - seen.f_bfree) * seen.f_frsize
                    files += seen.f_files - seen.f_ffree
            return size, files
    return 0, 0


def _status(pid: int, *names: str) -> int:
    """Bytes that ``/proc/PID/status`` says under these names."""
    return _sum(PROC / str(pid) / "status", tuple(f"{name}:" for name in names))


def _proportional(pid: int) -> int:
    """Memory of a process in bytes, of what it shares with others only its part; shared memory is counted elsewhere."""
    path = PROC / str(pid) / "smaps_rollup"
    return _sum(path, ("Pss:",)) - _sum(path, ("Pss_Shmem:",))


def _sum(path: Path, names: tuple[str, ...]) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return sum(1024 * int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(names))
    return 0
