"""What a box says: lines of JSON, which cost the grader no more than their letters."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from typing import Any

#: Bytes that a box may say in all, in one line, and in one line that answers a question.
MAX_TALK, MAX_LINE, MAX_ANSWER = 96 * 2**20, 24 * 2**20, 64 * 2**20
#: Lists, dicts and items in one line: each takes much more memory than it has letters.
MAX_PARTS = 300_000
TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.S)
_PARSING = threading.Lock()


def parse(line: bytes) -> dict[str, Any]:
    """A line that a box said; raises ``ValueError`` for what no worker says.

    ``OverflowError`` is for what would take much more memory than it has letters; it is not built.
    """
    if line.count(b'"') > 4 * MAX_PARTS:
        raise OverflowError
    if sum(map(line.count, b",[{")) > MAX_PARTS and sum(map(TEXT.sub(b"", line).count, b",[{")) > MAX_PARTS:
        raise OverflowError
    if not line.isascii():  # one letter beyond takes four bytes for each of the others
        raise ValueError("not ASCII")
    with _PARSING if len(line) > 2**20 else contextlib.nullcontext():  # large ones one after the other
        message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message
