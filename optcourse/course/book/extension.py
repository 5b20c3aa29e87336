"""What our book adds to Sphinx: formulas as MathML, and the style sheet and scripts of its pages."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

from docutils.nodes import Element, SkipNode
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx

from optcourse import files

#: Signs of a formula within a line that fits on a phone for certain.
SHORT = 24


def mathml(latex: str, *, display: bool) -> str:
    """One formula as MathML; its source, marked as such, where it cannot be converted.

    Browsers do not break formulas: one with more than ``SHORT`` signs can scroll alone, and not the text around it.
    """
    try:
        formula = convert(latex, display=display)
        signs = re.sub(r"<[^>]*>|\s", "", formula)
        return formula if display or len(html.unescape(signs)) <= SHORT else f'<span class="long">{formula}</span>'
    except LatexError:
        tag = "div" if display else "span"
        return f'<{tag}><code class="tex">{html.escape(latex)}</code></{tag}>'


def convert(latex: str, *, display: bool) -> str:
    """One formula as MathML, in the dialect that JupyterLab accepts. Raises ``LatexError``."""
    # As in JupyterLab, formulas are not numbered unless they carry a \tag.
    latex = re.sub(r"\\(begin|end)\{(equation|align|gather|multline)\}", r"\\\1{\2*}", latex)
    latex = re.sub(r"\\(begin|end)\{split\}", r"\\\1{aligned}", latex)
    outside = re.sub(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", "", latex, flags=re.DOTALL)
    if display and re.search(r"\\\\|(?<!\\)&", outside):  # rows without an environment, as Sphinx allows them
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    macros = {"substack": r"\begin{matrix}#1\end{matrix}"}
    converter = LatexToMathML(allow_unreliable_rendering=True, fancy_error=False, macros=macros)
    return converter.convert_with_local_state(latex.strip(), displaystyle=display)


def _inline(translator: Any, node: Element) -> None:
    translator.body.append(mathml(node.astext(), display=False))
    raise SkipNode


def _block(translator: Any, node: Element) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), display=True)}</div>')
    raise SkipNode


def _docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings as reST: ``name : meaning`` under *Parameters* becomes a field, |x| an absolute value."""
    lines[:] = _bars(_fields(lines))


def _fields(lines: list[str]) -> Iterator[str]:
    """The list under *Parameters*, up to the first blank line after it, as ``:param name: meaning``."""
    inside = False
    for i, line in enumerate(lines):
        if line.strip("-") == "" and line and i and lines[i - 1] == "Parameters":
            inside = True
        elif not (line == "Parameters" and lines[i + 1 : i + 2] and not lines[i + 1].strip("-")):
            inside &= bool(line)
            found = re.match(r"([\w*]+(?:, [\w*]+)*) : (.*)", line) if inside else None
            yield f":param {found[1]}: {found[2]}" if found else line


def _bars(lines: Iterable[str]) -> Iterator[str]:
    """Bars outside of code and formulas, which reST would take for the name of a text, escaped."""
    formula: int | None = None  # how far a formula's directive is indented, while we are in it
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith(".. math::"):
            formula = indent
        elif formula is not None and line.strip() and indent <= formula:
            formula = None
        if formula is not None or line.lstrip().startswith((">>>", "...")):
            yield line
        else:
            parts = re.split(r"(`[^`]*`)", line)
            yield "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.connect("autodoc-process-docstring", _docstring)
    app.add_css_file("book.css")
    app.add_js_file("book.js", loading_method="defer")
    own = (path.read_bytes() for path in sorted(files.BOOK.rglob("*.py")))
    key = int(files.resume_key(*own)[:12], 16)  # pages that another version of the package wrote are written again
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1", "env_version": key}
