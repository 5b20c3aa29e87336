"""What strangers wrote and drew, made harmless to look at: text, pictures, Markdown, cells of a table."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from optcourse.grading.submission import Cell

#: Colours and titles for a terminal, with their arguments.
ANSI = re.compile(r"\x1b(?:\[[0-?]{0,99}[ -/]{0,9}[@-~]|\][^\x07\x1b]{0,9999}(?:\x07|\x1b\\))")
#: What has no picture of its own, or turns the letters after it round so that a text reads as another.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    r"""``text`` with control characters, and those that turn the direction of reading, as ``\x1b``, ``\u202e``."""
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n").replace("\r", "\n"))


def plain(text: str) -> str:
    """What a terminal would show in the end: without colours, and of a progress bar its last state."""
    lines = ANSI.sub("", text).replace("\r\n", "\n").split("\n")
    return visible("\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines))


@dataclass(frozen=True)
class Picture:
    """A picture that a browser can show without harm."""

    mime: str
    data: bytes
    width: int
    height: int


#: Of one picture; a small file can unpack to gigabytes.
MAX_PIXELS = 20_000_000


def picture(encoded: Any) -> Picture | None:
    """The PNG, JPEG or GIF in this base64 text, known by its content; ``None`` for what is too large or neither."""
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
        size, mime = _size(data)
    except (AttributeError, TypeError, ValueError, IndexError, binascii.Error):
        return None
    width, height = size
    return Picture(mime, data, width, height) if 0 < width * height <= MAX_PIXELS else None


def _size(data: bytes) -> tuple[tuple[int, int], str]:
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")), "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return (int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")), "image/gif"
    place = 2 if data.startswith(b"\xff\xd8\xff") else len(data)
    while data[place] == 0xFF:  # one segment of a JPEG after the other, until one says the size
        if 0xC0 <= data[place + 1] <= 0xCF and data[place + 1] not in (0xC4, 0xC8, 0xCC):
            sides = data[place + 5 : place + 9]
            return (int.from_bytes(sides[2:], "big"), int.from_bytes(sides[:2], "big")), "image/jpeg"
        place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    raise ValueError("no picture that browsers know")


def attached(cell: Cell) -> dict[str, Picture]:
    """The pictures pasted into a text, by the names that the text calls them."""
    pictures = {
        name: next(filter(None, map(picture, kinds.values())), None) for name, kinds in cell.attachments.items()
    }
    return {name: shown for name, shown in pictures.items() if shown}


class Budget:
    """How much of a submission is shown, in the order it comes: ``figures`` bytes of pictures, ``text`` characters."""

    def __init__(self, figures: int, text: int) -> None:
        self.figures, self.text, self.pixels, self.left_out = figures, text, 5 * MAX_PIXELS, 0

    def take(self, text: str, most: int = 20_000) -> str:
        """``text``, or its beginning and how much is missing."""
        kept = text[: max(0, min(most, self.text))]
        self.text -= len(kept)
        return kept if len(kept) == len(text) else f"{kept}\n… {len(text) - len(kept):,} more characters"

    def fits(self, shown: Picture) -> bool:
        """Whether there is room for this picture, which is then taken."""
        room = len(shown.data) <= self.figures and shown.width * shown.height <= self.pixels
        if room:
            self.figures -= len(shown.data)
            self.pixels -= shown.width * shown.height
        return room

    def outputs(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What a cell displayed, in the notebook format, as it may be shown, and how many figures may not."""
        self.left_out = 0
        shown = [kept for kept in map(self._output, outputs) if kept]
        if self.left_out:
            figures = "1 figure is" if self.left_out == 1 else f"{self.left_out} figures are"
            note = f"({figures} not shown: too large, too many, or no PNG)\n"
            shown.append({"output_type": "stream", "name": "stderr", "text": note})
        return shown

    def _output(self, output: dict[str, Any]) -> dict[str, Any] | None:
        data = data if isinstance(data := output.get("data"), dict) else {}
        text = output.get("text", data.get("text/plain"))
        if "image/png" in data:
            shown = picture(data["image/png"])
            if not shown or shown.mime != "image/png" or not self.fits(shown):
                self.left_out += 1
                return None
            kept = {"image/png": base64.b64encode(shown.data).decode()}
            return {"output_type": "display_data", "data": kept, "metadata": {}}
        if not isinstance(text, str) or not text.strip():
            return None
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return {"output_type": "stream", "name": name, "text": self.take(plain(text))}


# Markdown --------------------------------------------------------------------------------------------------------

#: A pasted picture, as an editor writes it or as a student resizes it. (Every repetition has a bound: a stranger
#: chooses the text, and searching must not take longer than reading.)
PASTED = re.compile(
    r"""!\[(?P<text>[^\[\]]{0,500})\]\(\s{0,9}<?attachment:(?P<name>[^()<>"']{1,200}?)>?"""
    r"""\s{0,9}(?:"[^"\n]{0,200}"|'[^'\n]{0,200}')?\s{0,9}\)"""
    r"""|<img\s(?:[^<>]{0,200}\s)?src\s{0,9}=\s{0,9}["']?attachment:(?P<source>[^"'<>]{1,200}?)["']?"""
    r"""(?:\s[^<>]{0,200})?/?>""",
    re.I,
)
#: A link may lead to another machine, to a person or down the page. On this machine an address may do something when
#: it is opened: Jupyter's own, for one.
HOST = (
    r"(?![\w.-]{0,200}localhost\b)[a-z][\w-]{0,62}(?:\.[\w-]{1,63}){1,9}(?![^\s/?#]{0,200}@)"
    r"""(?=[/?#]|:\d|[).,;:!*_'"]{0,5}(?:\s|$))"""
)
REST = r"""[^\s()<>"'\\`\[\]]{0,2000}"""
#: What opens a tag, a picture, an address, a link or the target of one; a diagram; TeX that makes links and styles.
ARMED = (
    (re.compile(r"<(?=[a-z/!?])", re.I), "< "),
    (re.compile(r"!\["), "! ["),
    (re.compile(rf"(https?:)//(?!{HOST})", re.I), r"\1 //"),
    (re.compile(rf"""\]\((?!(?:https?://{HOST}|mailto:|\#){REST}(?:[ ]"[^"\n]{{0,200}}")?\))""", re.I), "] ("),
    (re.compile(rf"\]:(?![ ]{{0,9}}https?://{HOST}{REST}[ ]{{0,9}}$)", re.I | re.M), "] :"),
    (re.compile(r"^([ \t>*+\-\d.)]{0,40}(?:`{3,9}|~{3,9})[ \t]{0,9})mermaid", re.I | re.M), r"\1text mermaid"),
    (re.compile(r"\\(?=(?:href|url|class|style|cssId|data|require|includegraphics|csname|mmlToken)\b)"), r"\\ "),
)


def disarmed(source: str, pictures: dict[str, Picture]) -> tuple[str, dict[str, dict[str, str]]]:
    """Markdown that shows the same words and its own pictures, and nothing else: no tag, no request, no script.

    Whoever opens it (the formgrader, JupyterLab) would run or fetch what a stranger wrote, with the reader's rights.
    Returns the text and the attachments, which get names of ours: a missing one is an error page in the formgrader.
    """
    source, names = visible(source), list(pictures)
    parts, shown, end = [], [], 0
    for found in PASTED.finditer(source):
        name = (found["name"] or found["source"]).strip()
        name = name if name in names else unquote(name)
        if name in names:
            shown.append(name)
            words = re.sub(r"[^\w .,-]", " ", found["text"] or "picture")
            before = re.sub(r"(\S)$", r"\1 ", source[end : found.start()])  # else an address may go on into the picture
            parts += [_broken(before), f"![{words}](attachment:{_own(names, name)})"]
            end = found.end()
    parts.append(_broken(source[end:]))
    parts += [f"\n\n![picture](attachment:{_own(names, name)})" for name in names if name not in shown]
    kept = {_own(names, name): picture for name, picture in pictures.items()}
    return "".join(parts), {n: {p.mime: base64.b64encode(p.data).decode()} for n, p in kept.items()}


def _own(names: list[str], name: str) -> str:
    return f"picture-{names.index(name) + 1}"


def _broken(text: str) -> str:
    for pattern, harmless in ARMED:
        text = pattern.sub(harmless, text)
    return f"{text} " if text.endswith("\\") else text


# Tables ----------------------------------------------------------------------------------------------------------

#: Where a spreadsheet would begin a formula: at the start of a cell, and after what some take for the end of one.
FORMULA = re.compile(r"""^(?=[\t\r\n]|[\s'"]*[=+\-@＝＋－＠])|(?<=[;,|\t\r\n])(\s{0,9})(?=[=+\-@＝＋－＠])""")
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def spreadsheet_safe(text: str) -> str:
    """``text`` as a cell of a CSV file that no spreadsheet takes for a formula; plain numbers stay what they are.

    An apostrophe stands before a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or an end of line.
    """
    return text if NUMBER.fullmatch(text) else FORMULA.sub(r"\1'", text)
