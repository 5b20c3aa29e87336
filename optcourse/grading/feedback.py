"""What a student gets back: one page of HTML, without hidden tests and without anything that runs."""

from __future__ import annotations

import base64
import binascii
from html import escape
from typing import Any

from optcourse.grading.grade import Mark, Result
from optcourse.grading.lab import Lab

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: left; }
td.points { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f6f6f4; padding: .7rem; overflow-x: auto; font-size: 14px; }
pre.error { background: #fdecea; } img { max-width: 100%; } .note { color: #555; }
.passed { color: #0a6640; } .partial, .flag { color: #8a5a00; } .failed, .timeout, .crashed { color: #a3231b; }
"""
#: No scripts, no requests: whatever a submission contains, the page only shows it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
EXPLAINED = {
    "passed": "all checks passed",
    "partial": "some checks passed",
    "failed": "no check passed",
    "not attempted": "the stub was not changed",
    "timeout": "your code did not end in time",
    "crashed": "your code ended the process it ran in",
    "not run": "this exercise was not reached: an earlier cell hung or ended the process",
}


def page(lab: Lab, student: str, result: Result) -> str:
    """The feedback of one submission."""
    score = "not graded" if result.score is None else f"{result.score:g} of {result.max_score:g} points"
    rows = "".join(_row(mark) for mark in result.marks.values())
    written = "".join(_written_row(lab, name, result) for name in lab.written) if result.marks else ""
    flags = "".join(f"<li>{escape(flag)}</li>" for flag in result.flags)
    parts = [
        f"<h1>{escape(lab.name)}: {escape(student)}</h1>",
        f"<p><strong>{escape(score)}</strong> ({escape(result.status)})</p>",
        f"<table><tr><th>exercise</th><th>result</th><th>points</th></tr>{rows}{written}</table>" if rows else "",
        f"<p class='flag'>Noted while grading:</p><ul class='flag'>{flags}</ul>" if flags else "",
        *(_exercise(lab, name, mark, result) for name, mark in result.marks.items()),
        *(_answer(lab, name, text) for name, text in result.written.items()),
    ]
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    title = f"<title>{escape(lab.name)}: {escape(student)}</title><style>{STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}{title}</head><body>{"".join(parts)}</body></html>\n'


def _row(mark: Mark) -> str:
    count = f" ({sum(mark.passed)} of {len(mark.passed)} checks)" if mark.state == "partial" else ""
    state = f"<td class='{escape(mark.state.split()[0])}'>{escape(EXPLAINED.get(mark.state, mark.state))}{count}</td>"
    return f"<tr><td>{escape(mark.title)}</td>{state}<td class='points'>{mark.score:g} / {mark.points:g}</td></tr>"


def _written_row(lab: Lab, name: str, result: Result) -> str:
    state = "read by a person" if name in result.written else "not answered"
    return f"<tr><td>Written question</td><td>{state}</td><td class='points'>… / {lab.written[name]:g}</td></tr>"


def _exercise(lab: Lab, name: str, mark: Mark, result: Result) -> str:
    exercise = next(e for e in lab.exercises if e.name == name)
    parts = [f"<h2>{escape(mark.title)}</h2>"]
    for cell in result.cells:
        if cell.name in exercise.solutions:
            parts.append(f"<pre>{escape(cell.source)}</pre>")
            parts += _shown(result, cell.name)
    if mark.state != "not attempted":
        parts += [f"<p class='note'>The visible test</p>{part}" for part in _shown(result, name)]
    return "".join(parts)


def _shown(result: Result, name: str) -> list[str]:
    """Outputs and error of one cell."""
    parts = [html for output in result.outputs.get(name, []) if (html := _output(output))]
    if error := result.errors.get(name):
        text = f"{error.get('name', '')}: {error.get('message', '')}\n{error.get('where', '')}".strip()
        parts.append(f"<pre class='error'>{escape(text)}</pre>")
    return parts


def _output(output: dict[str, Any]) -> str:
    data = data if isinstance(data := output.get("data"), dict) else {}
    image, text = data.get("image/png"), output.get("text", data.get("text/plain"))
    if isinstance(image, str) and _is_png(image):
        return f'<p><img alt="figure" src="data:image/png;base64,{"".join(image.split())}"></p>'
    return f"<pre>{escape(text[:20_000])}</pre>" if isinstance(text, str) and text.strip() else ""


def _is_png(text: str) -> bool:
    try:
        return base64.b64decode("".join(text.split()), validate=True).startswith(b"\x89PNG\r\n\x1a\n")
    except (binascii.Error, ValueError):
        return False


def _answer(lab: Lab, name: str, text: str) -> str:
    return f"<h2>Written question ({lab.written[name]:g} points)</h2><pre>{escape(text)}</pre>"
