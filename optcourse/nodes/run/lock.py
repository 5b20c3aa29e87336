"""One run per output folder: two that write rows with the same names would mix them."""

from __future__ import annotations

import errno
import os
import socket
import time
import uuid
from pathlib import Path
from typing import IO

from optcourse.nodes.network.wire import Wire

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: Seconds in which whoever has locked the file writes the name of the run into it.
_PATIENCE = 2.0


class Lock:
    """The folder ``output`` belongs to this run until the last of its processes that use it has ended, however it ends.

    All processes make one at the same time. It is a lock of the operating system (``flock``) on ``output/lock``, so
    that no dead run keeps it; where there is none, nothing is locked. Raises ``OSError`` when the folder cannot be
    written, and ``ValueError`` when another run is using it: in *every* process, one of the two.
    """

    def __init__(self, output: Path, wire: Wire) -> None:
        self.output, (self.run, *_) = output, wire.everyone(uuid.uuid4().hex)
        self.file: IO[str] | None = None
        wire.all_could(self._take() if wire.rank == 0 else None)
        wire.all_could(self._take() if wire.rank != 0 else None)

    def release(self) -> None:
        """Let others have the folder: this process writes no more."""
        if self.file is not None:
            self.file.close()

    def _take(self) -> Exception | None:
        """Lock the file for this run; returns what went wrong."""
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            self.file = (self.output / "lock").open("a+", encoding="utf-8")
            end = time.monotonic() + _PATIENCE
            while True:
                if _locked(self.file, alone=True):
                    self.file.truncate(0)
                    self.file.write(f"{self.run}\nprocess {os.getpid()} on {socket.gethostname()}\n")
                    self.file.flush()
                    _locked(self.file, alone=False)
                    return None
                self.file.seek(0)
                run, where, *_ = [*self.file.read().splitlines(), "", ""]
                if run == self.run and _locked(self.file, alone=False):
                    return None
                if time.monotonic() > end:
                    return ValueError(f"another run ({where}) is writing to {self.output}: name another output")
                time.sleep(0.05)
        except OSError as error:
            why = error.strerror or error
            return OSError(f"output must be a folder that can be written, got {str(self.output)!r}: {why}")


def _locked(file: IO[str], *, alone: bool) -> bool:
    """Whether this process has the lock now, alone or with others of its run; also where nothing can be locked."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
