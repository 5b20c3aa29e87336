"""Files that are whole or absent, and arrays that are kept from one run to the next."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def folder() -> Path:
    """``$OPTCOURSE_CACHE``, or the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("OPTCOURSE_CACHE") or user_cache_dir("optcourse"))


def load(path: Path, source: str, parts: Iterable[str]) -> dict[str, np.ndarray] | None:
    """The arrays named ``parts``, or None when there is no usable file. It warns of one that is not from ``source``."""
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
    content = io.BytesIO()
    np.savez(content, source=np.array(source), **arrays)  # pyright: ignore[reportArgumentType]: none is called allow_pickle
    with contextlib.suppress(OSError):
        write(path, content.getbuffer())


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
