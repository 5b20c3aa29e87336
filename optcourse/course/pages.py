"""An executed notebook as one HTML page that needs no network: formulas become MathML, styles are inline."""

from __future__ import annotations

import copy
import html
import logging
import re
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import pass_context
from math_core import LatexError, LatexToMathML
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from optcourse import files
from optcourse.checking import MARKS, MIME
from optcourse.course import claims
from optcourse.course.catalog import Catalog, lecture_id
from optcourse.course.execution import Failure, Outcome, section_of_cell

_WIDGET = "application/vnd.jupyter.widget-view+json"
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8") + "".join(
    f".{mark.css} {{ color: {mark.colour}; }}\n" for mark in MARKS.values()
)


def write(output: Path, name: str, outcome: Outcome, catalog: Catalog) -> None:
    """Write ``name.ipynb`` (executed) and ``name.html``; a failed lecture gets the page as far as it came."""
    if outcome.notebook is None:
        (output / f"{name}.ipynb").unlink(missing_ok=True)
        body = ""
    else:
        files.write(output / f"{name}.ipynb", nbformat.writes(outcome.notebook))
        body = f"<p>{claims.counted(verdicts_of(outcome.notebook))}</p>{notebook_html(outcome.notebook)}"
    lecture = catalog.lecture(Path(f"{name}.ipynb"))
    sections = "".join(
        f'<li><a href="#{topic.id}">{topic.id} {html.escape(topic.title)}</a></li>'
        for topic in catalog.topics
        if topic.lecture == lecture_id(Path(f"{name}.ipynb"))
    )
    navigation = f'<nav><a href="index.html">All lectures</a><ol class="plain">{sections}</ol></nav>'
    banner = _banner(outcome.failure) if outcome.failure else ""
    title = f"{lecture.id} {lecture.title}" if lecture.id.isdecimal() else lecture.title
    files.write(output / f"{name}.html", document(title, f"{navigation}{banner}<main>{body}</main>"))


def verdicts_of(notebook: NotebookNode) -> list[dict[str, Any]]:
    """The verdict that each ``check`` left in an executed notebook, in order."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return [dict(output.data[MIME]) for output in outputs if MIME in output.get("data", {})]


def document(title: str, body: str) -> str:
    """A complete HTML page in the course's style."""
    code = HtmlFormatter(style="default").get_style_defs(".highlight")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{code}</style></head>\n<body>{body}</body></html>\n"
    )


def notebook_html(notebook: NotebookNode) -> str:
    """The cells as HTML. Figures get the section's heading as alternative text."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    sections = section_of_cell(notebook)
    for cell in notebook.cells:
        cell.metadata.setdefault("alt", f"Figure of section {sections[cell.id]}")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if _WIDGET in data:  # a page cannot compute; the static figure beside it stays
                output.data = {"text/html": '<p class="muted">In JupyterLab there is a control here.</p>'}
            if "text/latex" in data:  # typeset what SymPy prints like the formulas of the text
                data.setdefault("text/markdown", data["text/latex"])
    body, _ = _Exporter(log=logging.getLogger("optcourse.pages")).from_notebook_node(notebook)
    return body


def mathml(latex: str, *, display: bool) -> str:
    """One formula as MathML; its source, marked as such, where it cannot be converted."""
    try:
        return convert(latex, display=display)
    except LatexError:
        tag = "div" if display else "span"
        return f'<{tag}><code class="tex">{html.escape(latex)}</code></{tag}>'


def convert(latex: str, *, display: bool) -> str:
    """One formula as MathML, in the dialect that JupyterLab accepts. Raises ``LatexError``."""
    # As in JupyterLab, formulas are not numbered unless they carry a \tag.
    latex = re.sub(r"\\(begin|end)\{(equation|align|gather|multline)\}", r"\\\1{\2*}", latex)
    latex = re.sub(r"\\(begin|end)\{split\}", r"\\\1{aligned}", latex)
    macros = {"substack": r"\begin{matrix}#1\end{matrix}"}
    converter = LatexToMathML(allow_unreliable_rendering=True, fancy_error=False, macros=macros)
    return converter.convert_with_local_state(latex.strip(), displaystyle=display)


def _banner(failure: Failure) -> str:
    where = f' in <a href="#cell-id={html.escape(failure.cell)}">this cell</a>' if failure.cell else ""
    message = html.escape(f"{failure.type}: {failure.message}")
    return f'<div class="banner"><strong>This lecture stopped</strong>{where}.<pre>{message}</pre></div>'


class _Renderer(IPythonRenderer):
    """Markdown with formulas as MathML."""

    def block_math(self, body: str) -> str:
        return mathml(body, display=True)

    def inline_math(self, body: str) -> str:
        return mathml(body, display=False)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)


class _Exporter(HTMLExporter):
    """nbconvert's plainest template (no scripts, no style sheets of its own) with our Markdown."""

    template_name = "basic"
    exclude_input_prompt = True
    exclude_output_prompt = True

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        renderer = _Renderer(escape=False, attachments=context.get("cell", {}).get("attachments", {}))
        return MarkdownWithMath(renderer=renderer).render(source)
