"""Control groups (cgroup v2): where they can be had, the kernel counts memory, processes and processor time of a box.

Two ways lead to one. Where the folder of ``/sys/fs/cgroup`` that this process is in is ours (a container's, or that of
``systemd-run --user --scope -p Delegate=yes``), the box gets a folder below it. Else the user's systemd is asked for a
scope, if it answers. Where neither works, :mod:`optcourse.grading.box.usage` alone counts.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
from pathlib import Path

from optcourse.grading.box.limits import MAX_THREADS, Limits

ROOT, PROC = Path("/sys/fs/cgroup"), Path("/proc")
NEEDED = {"memory", "pids"}
_NUMBERS = itertools.count()


class Group:
    """The control group of one box: a folder made in ``parent``, or without one a scope of the user's systemd."""

    def __init__(self, limits: Limits, parent: Path | None) -> None:
        name = f"optcourse-{os.getpid()}-{next(_NUMBERS)}"
        self.folder = None if parent is None else parent / name
        self.unit = f"{name}.scope"
        #: What stands before a command that shall run in the group.
        self.command = [] if self.folder else _scope(self.unit, limits)
        if self.folder is None:
            return
        self.folder.mkdir()
        bounds = {"memory.max": limits.memory, "memory.swap.max": 0, "memory.oom.group": 1, "pids.max": MAX_THREADS}
        for file, value in bounds.items():
            with contextlib.suppress(FileNotFoundError):  # a machine without swap, an older kernel
                (self.folder / file).write_text(str(value))

    def enter(self) -> None:
        """Move the calling process, and so its children to come, into the folder (systemd does it for a scope)."""
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text("0")

    def find(self, pid: int) -> None:
        """The folder of a scope, once systemd has made it for the process ``pid``."""
        if self.folder is None and (place := _own(str(pid))) is not None and place.name == self.unit:
            self.folder = place

    def seconds(self) -> float:
        """Processor time that the box has used."""
        return self._value("cpu.stat", "usage_usec") / 1e6

    def excess(self) -> str | None:
        """Which limit the kernel has enforced, if any."""
        return "too much memory" if self._value("memory.events", "oom_kill") else None

    def _value(self, file: str, name: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            for line in (self.folder / file).read_text().splitlines() if self.folder else ():
                if line.startswith(f"{name} "):
                    return int(line.split()[1])
        return 0

    def close(self) -> None:
        """End what is left in the group, and remove it."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / "cgroup.kill").write_text("1")
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def new(limits: Limits) -> Group | None:
    """A group for one box, or ``None`` where the kernel or its owner grants none."""
    with contextlib.suppress(OSError):
        if (place := parent()) is not None:
            return Group(limits, place)
    return Group(limits, None) if _scopes() else None


@functools.cache
def parent() -> Path | None:
    """Where groups for boxes can be made, or ``None``; may move this process one folder down.

    Controllers are handed down by a group in which no process is. So this process moves, if it is alone there.
    """
    try:
        here = _own("self")
        if here is None or not set((here / "cgroup.controllers").read_text().split()) >= NEEDED:
            return None
        switch, alone = here / "cgroup.subtree_control", str(os.getpid())
        if set(switch.read_text().split()) >= NEEDED:
            return here if os.access(here, os.W_OK) else None
        if (here / "cgroup.procs").read_text().split() != [alone]:
            return None
        (here / "grader").mkdir(exist_ok=True)
        (here / "grader" / "cgroup.procs").write_text(alone)
        switch.write_text("+memory +pids")
        return here
    except OSError:
        return None


def _own(pid: str) -> Path | None:
    """The folder of the group that a process is in."""
    with contextlib.suppress(OSError):
        for line in (PROC / pid / "cgroup").read_text().splitlines():
            if line.startswith("0::") and (ROOT / "cgroup.controllers").is_file():
                return ROOT / line[3:].strip("/")
    return None


def _scope(unit: str, limits: Limits) -> list[str]:
    """The command that runs another in a scope, with nothing of our environment."""
    bounds = {"MemoryMax": limits.memory, "MemorySwapMax": 0, "TasksMax": MAX_THREADS}
    properties = [f"--property={name}={value}" for name, value in bounds.items()]
    return ["systemd-run", "--user", "--scope", "--quiet", "--collect", f"--unit={unit}", *properties, "env", "-i"]


@functools.cache
def _scopes() -> bool:
    """Whether the user's systemd makes scopes whose limits hold."""
    if not os.environ.get("XDG_RUNTIME_DIR") or shutil.which("systemd-run") is None or _own("self") is None:
        return False
    limits = Limits(memory=2**30)
    command = [*_scope(f"optcourse-{os.getpid()}-trial.scope", limits), "cat", "/proc/self/cgroup"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        path = next(line[3:] for line in said.splitlines() if line.startswith("0::"))
    except (OSError, subprocess.SubprocessError, StopIteration):
        return False
    # The scope is gone by now; the kind of slice it was in tells whether memory is counted there.
    above = (ROOT / path.strip("/")).parent / "cgroup.subtree_control"
    with contextlib.suppress(OSError):
        return set(above.read_text().split()) >= NEEDED
    return False
