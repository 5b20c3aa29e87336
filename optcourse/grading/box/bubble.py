"""bubblewrap: the box around a process, and what it shows of this machine."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from optcourse.files import PACKAGE
from optcourse.grading.box import syscalls
from optcourse.grading.box.kernel import ENVIRONMENT
from optcourse.grading.box.limits import SCRATCH

#: Said on every run without a box.
NOT_CONTAINED = (
    "{why}: submissions run with limits on time, memory and file size, but they can read and "
    "write every file you can (this course's solutions and other submissions among them), use the network, stop "
    "your processes, and fill the disk. Install bubblewrap (labs/README.md), or grade on a machine where nothing is "
    "at stake."
)
#: Weaker than it should be, but a box.
NO_FILTER = (
    "the sandbox works without a filter of system calls here (it is written for x86_64 and aarch64 with bubblewrap): "
    "memory in anonymous files and shared segments is counted in part only, and keys of the kernel are not parted."
)
#: The folder of the notebook, empty at first, in its home, where fonts and sockets are.
WORK = "notebook"
#: The only person in the box.
PEOPLE = {"/etc/passwd": b"student:x:65534:65534::/tmp:/bin/sh\n", "/etc/group": b"student:x:65534:\n"}


@functools.cache
def bubblewrap() -> str | None:
    """The path of a ``bwrap`` that works on this machine, or ``None``; ``OPTCOURSE_SANDBOX=limits`` says no."""
    path = shutil.which("bwrap")
    if path is None or os.environ.get("OPTCOURSE_SANDBOX") == "limits":
        return None
    return path if strength(path) is not None else None


def weakness() -> str | None:
    """What a teacher must know about the box on this machine, if it is not as strong as it should be."""
    path = bubblewrap()
    if path is None:
        chosen = os.environ.get("OPTCOURSE_SANDBOX") == "limits"
        return NOT_CONTAINED.format(why="OPTCOURSE_SANDBOX=limits" if chosen else "bubblewrap does not work here")
    return None if "filter" in (strength(path) or ()) else NO_FILTER


@functools.cache
def strength(path: str) -> tuple[str, ...] | None:
    """What this ``bwrap`` can do beyond a plain box, the most that works; ``None`` if not even that.

    The filter alone keeps user namespaces out of the box too; bubblewrap can since its version 0.8.
    """
    filters = ("filter",) if syscalls.program() else ()
    for found in (("--disable-userns", *filters), filters, ()):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired), command(path, ["true"], found) as (line, fds):
            trial = subprocess.run(line, capture_output=True, timeout=20, check=False, env={}, cwd="/", pass_fds=fds)
            if trial.returncode == 0:
                return found
    return None


@contextlib.contextmanager
def command(bwrap: str, program: list[str], extras: tuple[str, ...]) -> Iterator[tuple[list[str], list[int]]]:
    """The command line that runs ``program`` in the box, and the files that it reads.

    bubblewrap stays in the box as its first process, and whoever is in there can read what that was called with. So
    its arguments come through a pipe.
    """
    fds: list[int] = []

    def pipe(data: bytes) -> str:
        end, other = os.pipe()
        fds.append(end)
        with open(other, "wb") as file:
            file.write(data)
        return str(end)

    def held(data: bytes) -> str:
        with tempfile.TemporaryFile() as file:  # more than a pipe holds
            file.write(data)
            file.seek(0)
            fds.append(os.dup(file.fileno()))
        return str(fds[-1])

    try:
        options = _box(sorted(set(extras) - {"filter"}))
        for path, content in PEOPLE.items():
            options += ["--ro-bind-data", pipe(content), path]
        for name, content in fonts().items():
            options += ["--file", held(content), f"/tmp/matplotlib/{name}"]
        options += ["--remount-ro", "/"]
        if "filter" in extras:
            options += ["--seccomp", pipe(syscalls.program())]
        yield [bwrap, "--args", pipe(b"".join(os.fsencode(option) + b"\0" for option in options)), *program], fds
    finally:
        for fd in fds:
            os.close(fd)


def _box(more: list[str]) -> list[str]:
    """What the box is made of."""
    prefixes = {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    # Not the whole of a prefix: an environment may have been made in the folder that holds the solutions.
    parts = ("bin", "lib", "lib64", "share", "etc", "pyvenv.cfg")
    python = {prefix / part for prefix in prefixes if not prefix.is_relative_to("/usr") for part in parts}
    shown = sorted({*python, PACKAGE, *(Path(p) for p in ("/lib", "/lib64", "/bin", "/usr"))})
    options = ["--unshare-all", "--unshare-user", *more, "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    options += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "lab"]
    # First the empty folders: what is shown below may lie in one of them.
    options += ["--proc", "/proc", "--dev", "/dev", "--size", str(SCRATCH), "--tmpfs", "/tmp"]
    options += ["--size", str(SCRATCH), "--tmpfs", "/dev/shm"]
    for path in _switches():
        options += ["--ro-bind-try", path, path]
    # The names of keys are shown to whoever is the same user outside.
    options += ["--ro-bind-try", "/dev/null", "/proc/keys", "--ro-bind-try", "/dev/null", "/proc/key-users"]
    for path in shown:
        if path.is_symlink():
            options += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            options += ["--ro-bind", str(path), str(path)]
    for path in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/fonts"):
        options += ["--ro-bind-try", path, path]
    options += ["--dir", f"/tmp/{WORK}", "--chdir", f"/tmp/{WORK}"]
    options += ["--remount-ro", "/dev"]  # this one and / are folders in memory without a size
    for name, value in environment("/tmp").items():
        options += ["--setenv", name, value]
    return options


def _switches() -> list[str]:
    """What ``/proc`` has besides processes and can be written: it is the machine's, and root's box is root to it."""
    found = []
    for entry in os.scandir("/proc") if os.path.isdir("/proc") else ():
        with contextlib.suppress(OSError):
            plain = not entry.is_symlink() and not entry.name.isdigit()
            if plain and (entry.is_dir() or entry.stat().st_mode & 0o222):
                found.append(entry.path)
    return sorted(found)


@functools.cache
def fonts() -> dict[str, bytes]:
    """matplotlib's list of this machine's fonts, by file name: else every box looks through them all, anew."""
    with tempfile.TemporaryDirectory() as home:
        program = [sys.executable, "-c", "import matplotlib.font_manager"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(program, capture_output=True, timeout=60, check=False, env=environment(home), cwd=home)
        return {path.name: path.read_bytes() for path in Path(home, "matplotlib").glob("fontlist*.json")}


def environment(home: str) -> dict[str, str]:
    """All the variables a submission sees."""
    return {
        "HOME": home,
        "USER": "student",
        "LOGNAME": "student",
        "TMPDIR": home,
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLCONFIGDIR": f"{home}/matplotlib",
        "IPYTHONDIR": f"{home}/ipython",
        "OPTCOURSE_CACHE": f"{home}/optcourse",
        **ENVIRONMENT,
    }
