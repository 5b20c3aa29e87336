"""Files that are whole or absent, and what is kept from one run to the next."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import platform
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PACKAGE = Path(__file__).resolve().parent
BOOK = PACKAGE / "course" / "book"


def of_course(name: str, explicit: Path | None = None) -> Path:
    """The folder ``explicit``, else ``name`` in the current folder, else that of the source checkout.

    Raises ``FileNotFoundError`` when there is none.
    """
    candidates = [Path(name), PACKAGE.parent / name] if explicit is None else [explicit]
    for place in candidates:
        if place.is_dir():
            return place.resolve()
    raise FileNotFoundError(f"no folder of {name} at {', '.join(map(str, candidates))}; --{name} names it")


def versions() -> dict[str, str]:
    """The versions that results depend on."""
    found = {"python": platform.python_version()}
    for package in ("optcourse", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def resume_key(*content: bytes) -> str:
    """Changes with the content, any source file of the package and the versions used.

    The book is left out: it shows results, and none depends on it.
    """
    sources = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".mplstyle"))
    digest = hashlib.sha256(repr(versions()).encode())
    for part in (*content, *(path.read_bytes() for path in sources if BOOK not in path.parents)):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def folder() -> Path:
    """``$OPTCOURSE_CACHE``, or the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("OPTCOURSE_CACHE") or user_cache_dir("optcourse"))


def load(path: Path, source: str, parts: Iterable[str]) -> dict[str, np.ndarray] | None:
    """The arrays named ``parts``, or None when there is no usable file. It warns of one that is not from ``source``."""
    import numpy as np  # late, as below: a box needs this module, and none of its arrays

    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["source"]) != source:
                raise ValueError(f"it holds {str(file['source'])!r} instead of {source!r}")
            return {part: file[part] for part in parts}
    except OSError:  # absent or not ours to read
        return None
    except Exception as error:  # whatever is wrong with the file, writing it anew repairs it
        warnings.warn(f"{path} is not usable ({error}); generating the data again", stacklevel=3)
        return None


def save(path: Path, arrays: dict[str, np.ndarray], source: str) -> None:
    """Keep arrays for :func:`load`. Where nothing can be written, nothing happens: the next call generates again."""
    import numpy as np

    content = io.BytesIO()
    np.savez(content, source=np.array(source), **arrays)  # pyright: ignore[reportArgumentType]: none is called allow_pickle
    with contextlib.suppress(OSError):
        write(path, content.getbuffer())


@contextlib.contextmanager
def socket_folder() -> Iterator[Path | None]:
    """A fresh folder in which Unix sockets can be bound, gone afterwards; ``None`` where there is none.

    Their paths may have about a hundred bytes (scratch folders of clusters are longer), and some file systems have no
    sockets: each place is tried.
    """
    folder = _bindable()
    try:
        yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _bindable() -> Path | None:
    bases = (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp", "/dev/shm")
    for base in dict.fromkeys(filter(None, bases)) if hasattr(socket, "AF_UNIX") else ():
        folder = None
        try:
            base.encode()  # else a library that takes paths for text cannot name the socket
            folder = tempfile.mkdtemp(prefix="optcourse-", dir=base)
            with socket.socket(socket.AF_UNIX) as trial:
                trial.bind(f"{folder}/kernel-999")
            return Path(folder)
        except (OSError, UnicodeError):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
    return None


def write(path: Path, content: str | bytes | memoryview) -> None:
    """Write ``path``, whose folder is made, so that a kill at any moment leaves the old file or the whole new one.

    A link in its place is replaced, not followed. Text is UTF-8; what has no code in it becomes ``?``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(draft, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
