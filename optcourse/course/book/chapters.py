"""A lecture as a source of the book: what its notebook says and shows, for a page that computes nothing."""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from PIL import Image

from optcourse.checking import MARKS, MIME
from optcourse.course import claims
from optcourse.course.book import players
from optcourse.course.catalog import Catalog, Lecture
from optcourse.course.execution import SKIPPED, section_of_cell
from optcourse.course.report import Record

#: A code cell with more lines is folded.
LONG = 14
_WIDGET = "application/vnd.jupyter.widget-view+json"
_HEADING = re.compile(r'^(#{1,6} +)((?:<a id="[^"]+"></a>)+) *', re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(#[^)\s]*)?\)")


class Pictures:
    """The figures of the book, as files beside its pages: equal ones once."""

    def __init__(self, folder: Path, players: Path) -> None:
        """To be written to ``folder``, seen as ``figures`` from a page; ``players`` has those of the sliders."""
        self.folder, self.players, self.kept = folder, players, set[str]()
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, data: bytes, ending: str = "png") -> str:
        """The address of a picture, as a page sees it."""
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.{ending}"
        if not (self.folder / name).exists():
            (self.folder / name).write_bytes(data)
        self.kept.add(name)
        return f"{self.folder.name}/{name}"

    def forget(self) -> None:
        """Delete what no page shows any more."""
        for path in self.folder.iterdir():
            if path.name not in self.kept:
                path.unlink()


def chapter(
    notebook: NotebookNode, lecture: Lecture, record: Record | None, catalog: Catalog, pictures: Pictures
) -> NotebookNode:
    """The notebook that Sphinx reads for a lecture: executed as far as ``record`` says, as it stands without one."""
    notebook = copy.deepcopy(notebook)
    sections, started = section_of_cell(notebook), False
    cells, words = [], []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.NotebookNode()
        if cell.cell_type == "markdown":
            started |= bool(re.search(r"^## ", cell.source, flags=re.MULTILINE))
            cell.source = prose(cell.source)
        elif cell.cell_type == "code":
            if "injected-parameters" in tags:
                continue
            if not started or len(cell.source.splitlines()) > LONG:
                cell.metadata["tags"] = ["hide-input"]
            outputs = []
            for output in cell.outputs:
                if verdict := output.get("data", {}).get(MIME):
                    words.append(verdict["verdict"])
                outputs.append(_output(output, sections[cell.id], len(words), pictures))
            if record is not None and record.failure and record.failure.cell == cell.id:
                cells.append(nbformat.v4.new_markdown_cell(f'<a id="cell-{cell.id}"></a>', id="stopped-here"))
            cell.outputs = outputs
        cells.append(cell)
    top = next((i for i, cell in enumerate(cells) if cell.cell_type == "markdown"), None)
    head = _head(lecture, record, catalog, words)
    if top is None:
        cells.insert(0, nbformat.v4.new_markdown_cell(f"# {lecture.id} {lecture.title}\n\n{head}", id="how-it-went"))
    else:  # under the title of the lecture
        title, _, rest = cells[top].source.partition("\n")
        cells[top].source = f"{title}\n\n{head}\n\n{rest.strip()}"
    return source(cells)


def source(cells: list[NotebookNode]) -> NotebookNode:
    """What Sphinx reads as a page of these cells."""
    kernel = {"name": "python3", "display_name": "Python 3"}
    language = {"name": "python", "pygments_lexer": "ipython3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": language})


def card(notebook: NotebookNode, lecture: Lecture, pictures: Pictures) -> str:
    """The figure that stands for a lecture, in HTML; "" where it was not drawn."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}) and lecture.figure in ("", cell.id):
                return _output(output, lecture.title, 0, pictures).data["text/html"]
    return ""


def players_of(notebook: NotebookNode) -> list[dict[str, Any]]:
    """What the sliders of an executed notebook need in a page."""
    outputs = (output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
    return [data[players.MIME] for data in outputs if players.MIME in data]


def prose(source: str) -> str:
    """Markdown for the book: anchors stand before headings and not in them, links lead to pages."""
    source = _HEADING.sub(lambda found: f"{found[2]}\n\n{found[1]}", source)
    return _LINK.sub(lambda found: f"]({page_of(found[1])}{found[2] or ''})", source)


def page_of(address: str) -> str:
    """The page of the book for a file of the repository, as lectures and labs link to it."""
    name = address.rpartition("/")[2]
    if "benchmarks/" in address:
        return f"performance.html#{name.removesuffix('.md').lower()}"
    return re.sub(r"\.(ipynb|md)$", ".html", name)


def anchor(verdict: dict[str, Any], n: int) -> str:
    """The id of a claim's row: the topic, and the number of its check in the lecture."""
    return f"claim-{verdict['topic']}-{n}"


def _head(lecture: Lecture, record: Record | None, catalog: Catalog, words: list[str]) -> str:
    """How the lecture went, where the notebook is, who practises it."""
    stem = Path(lecture.notebook).stem
    parts = []
    if record is None:
        parts.append(
            '<div class="banner"><strong>Not run yet.</strong> The page has text and code only; '
            f"<code>optcourse run {lecture.id}</code> adds figures and verdicts.</div>"
        )
    elif failure := record.failure:
        where = f' in <a href="#cell-{html.escape(failure.cell)}">this cell</a>' if failure.cell else ""
        section = f" (section “{html.escape(failure.section)}”)" if failure.section else ""
        message = html.escape(f"{failure.type}: {failure.message}")
        parts.append(
            f'<div class="banner"><strong>This lecture stopped</strong>{where}{section}; what follows was not run.'
            f"<pre>{message}</pre></div>"
        )
    facts = []
    if record is not None:
        its = record.settings
        facts += [claims.counted([{"verdict": word} for word in words]).removesuffix(".")]
        facts += [f"{record.seconds:.0f} s ({its.profile}, seed {its.seed}, {its.device})"]
        facts.append(f'<a href="{stem}.ipynb" download>notebook</a>')
    labs = [lab for lab in catalog.labs if any(t.startswith(f"{lecture.id}.") for t in lab.topics)]
    facts += [f'<a href="{lab.id}.html">{lab.id}</a>' for lab in labs]
    parts.append(f'<p class="facts">{" · ".join(facts)}</p>')
    return "\n".join(parts)


def _output(output: NotebookNode, section: str, n: int, pictures: Pictures) -> NotebookNode:
    data = output.get("data", {})
    if output.get("text", "").startswith(SKIPPED):  # a sentence, which wraps
        return _html(f'<p class="muted skipped">{html.escape(output.text.strip())}</p>')
    if MIME in data:
        return _html(badge(data[MIME], n))
    if players.MIME in data:
        return _html(_player(data[players.MIME], pictures))
    if _WIDGET in data:
        return _html('<p class="muted">In JupyterLab there is a control here.</p>')
    if "image/png" in data:
        picture = base64.b64decode(data["image/png"])
        alt = output.metadata.get("image/png", {}).get("alt") or f"Figure of section {section}"
        return _html(figure(pictures.keep(picture), alt, *_size(picture)))
    return output


def _player(player: dict[str, Any], pictures: Pictures) -> str:
    drawn = players.frames(player, pictures.players)
    shown = {
        name: [(pictures.keep(path.read_bytes(), "webp"), alt) for path, alt in row] for name, row in drawn.items()
    }
    first = player["controls"][0]
    path, _ = drawn[first["name"]][first["start"]]
    with Image.open(path) as picture:
        return players.page(player, shown, picture.size)


def _html(text: str) -> NotebookNode:
    return nbformat.v4.new_output("display_data", {"text/html": text, "text/plain": ""})


def _size(picture: bytes) -> tuple[int, int]:
    """Width and height in points."""
    with Image.open(BytesIO(picture)) as image:
        return image.size


def figure(address: str, alt: str, width: int, height: int) -> str:
    """A figure in HTML that keeps its place while it loads."""
    return (
        f'<img class="plot" src="{address}" alt="{html.escape(alt, quote=True)}" width="{width}" height="{height}" '
        'loading="lazy">'
    )


def badge(verdict: dict[str, Any], n: int) -> str:
    """A verdict line: a badge that links to the row of the claim, the claim, its numbers."""
    mark = MARKS[verdict["verdict"]]
    why = f' <span class="muted">{html.escape(verdict["why"])}</span>' if verdict.get("why") else ""
    return (
        f'<p class="verdict {mark.css}"><a class="verdict-mark" href="claims.html#{anchor(verdict, n)}">{mark.sign} '
        f"{verdict['topic']} {verdict['verdict']}</a> {html.escape(verdict['claim'])}: "
        f'<span class="compared">{html.escape(claims.compared(verdict))}</span>{why}</p>'
    )
