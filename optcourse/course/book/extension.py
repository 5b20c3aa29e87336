"""What our book adds to Sphinx: formulas as MathML, and the style sheet and scripts of its pages."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from docutils.nodes import Element, SkipNode
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx

from optcourse.checking import MARKS

STATIC = Path(__file__).parent / "static"


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


def _inline(translator: Any, node: Element) -> None:
    translator.body.append(mathml(node.astext(), display=False))
    raise SkipNode


def _block(translator: Any, node: Element) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), display=True)}</div>')
    raise SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.connect("builder-inited", _static)
    for name in ("verdicts.css", "book.css"):
        app.add_css_file(name)
    app.add_js_file("book.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}


def _static(app: Sphinx) -> None:
    """Colours of verdicts are said once, in ``checking``; on dark paper they are mixed with white."""
    rules = [f".{mark.css} {{ --mark: {mark.colour}; color: var(--mark); }}" for mark in MARKS.values()]
    rules += [
        f'html[data-theme="dark"] .{mark.css} {{ --mark: color-mix(in srgb, {mark.colour} 45%, white); }}'
        for mark in MARKS.values()
    ]
    folder = Path(app.srcdir) / "_static"
    folder.mkdir(exist_ok=True)
    (folder / "verdicts.css").write_text("\n".join(rules) + "\n", encoding="utf-8")
