"""Pages whose text is kept elsewhere: labs, performance, clusters, plans for instructors."""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from optcourse import files
from optcourse.course.book import chapters
from optcourse.course.book.chapters import prose
from optcourse.course.book.content import Course, table, text
from optcourse.course.catalog import Lab
from optcourse.grading import lab as grading

#: Where the course has what students get, and where the book has a copy of it.
RELEASE, COPIES = "labs/release", "labs"
#: The tables of ``make bench`` and ``make mutants``, in the order of the page.
TABLES = ("RESULTS", "NODES", "WIRE", "LANDSCAPE", "MUTANTS")


def instructors(course: Course) -> str:
    """Plans, grading, how to adapt a lecture."""
    return text("instructors")


def package(course: Course) -> str:
    """The command and the package, with examples that a test runs."""
    return text("package")


def labs(course: Course) -> str:
    """How a lab goes, and what each of them practises and is worth; "" for a course without labs."""
    found = _labs(course)
    if not found:
        return ""
    rows = [
        (
            f'<a href="{entry.id}.html">{entry.id} {html.escape(entry.title)}</a>',
            " ".join(course.topic_link(topic) for topic in entry.topics),
            str(len(lab.exercises)),
            f"{lab.max_score:g} + {sum(lab.written.values()):g}",
        )
        for entry, lab in found
    ]
    listed = table(("lab", "practises", "exercises", "points"), rows, css="labs")
    tree = "\n".join(entry.id for entry, _ in found)
    return f"{text('labs')}\n{listed}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"


def lab_pages(course: Course) -> dict[str, str]:
    """The page of each lab by its file name; a copy of the students' notebook is written beside the pages."""
    found = {}
    for entry, lab in _labs(course):
        name = f"{entry.id}.ipynb"
        files.write(course.output / COPIES / name, _release(course, entry).read_text(encoding="utf-8"))
        found[name] = nbformat.writes(_lab_page(course, entry, lab))
    return found


def _labs(course: Course) -> list[tuple[Lab, grading.Lab]]:
    """The labs of the course's tables, as the notebooks that students get: without solutions and hidden tests."""
    paths = ((entry, _release(course, entry)) for entry in course.catalog.labs)
    return [(entry, grading.from_release(path)) for entry, path in paths if path.exists()]


def _release(course: Course, entry: Lab) -> Path:
    return course.root / RELEASE / entry.id / f"{entry.id}.ipynb"


def _lab_page(course: Course, entry: Lab, lab: grading.Lab) -> NotebookNode:
    """What a lab asks, in the words of its notebook: the functions to write in sight, all other code folded."""
    cells = []
    for cell in lab.release.cells:
        if cell.cell_type == "code":
            folded = {} if grading.role(cell).get("solution") else {"tags": ["hide-input"]}
            cells.append(nbformat.v4.new_code_cell(cell.source, id=cell.id, metadata=folded))
        elif not grading.is_written(cell):
            cells.append(nbformat.v4.new_markdown_cell(prose(cell.source), id=cell.id))
    title, _, rest = cells[0].source.partition("\n")
    cells[0].source = f"{title}\n\n{_lab_head(course, entry, lab)}\n\n{rest.strip()}"
    return chapters.source(cells)


def _lab_head(course: Course, entry: Lab, lab: grading.Lab) -> str:
    """What a lab is worth, which lectures it belongs to, how to get and to check it."""
    titles = {lecture.id: f"{lecture.id} {lecture.title}" for lecture in course.catalog.lectures}
    pages, belongs = course.pages(), []
    for lecture in dict.fromkeys(topic.partition(".")[0] for topic in entry.topics):
        topics = ", ".join(course.topic_link(topic) for topic in entry.topics if topic.startswith(f"{lecture}."))
        name = html.escape(titles[lecture])
        belongs.append(
            f'<a href="{pages[lecture]}">{name}</a> ({topics})' if lecture in pages else f"{name} ({topics})"
        )
    facts = [f"{lab.max_score:g} points for {len(lab.exercises)} exercises"]
    facts += [f"{sum(lab.written.values()):g} for an answer in words"] if lab.written else []
    return "\n".join(
        [
            f'<p class="facts">{", ".join(facts)} · <a href="labs.html">how labs go</a></p>\n',
            f"* **Belongs to** {', '.join(belongs)}.",
            f"* **Get it**: copy `{RELEASE}/{entry.id}/{entry.id}.ipynb` of the course's folder, or download "
            f'<a href="{COPIES}/{entry.id}.ipynb" download>the same notebook</a>.',
            f"* **Check it**, where your copy is: `optcourse labs check {entry.id} {entry.id}.ipynb` says for each "
            "exercise whether it passed, failed (and why) or was not attempted.",
        ]
    )


def performance(course: Course) -> str:
    """The tables that ``make bench`` and ``make mutants`` wrote."""
    folder, parts = course.root / "tests" / "benchmarks", []
    for name in TABLES:
        path = folder / f"{name}.md"
        if path.exists():
            parts.append(f'<a id="{name.lower()}"></a>\n\n' + deeper(prose(path.read_text(encoding="utf-8"))))
    head = "# Performance\n\nMeasured as ratios within one run, on the machine that each table names."
    return "\n\n".join([head, *parts]) if parts else ""


def cluster(course: Course) -> str:
    """From a laptop to a cluster."""
    path = course.lectures / "cluster.md"
    return prose(path.read_text(encoding="utf-8")) if path.exists() else ""


def deeper(source: str) -> str:
    """Markdown with every heading one level further down; code blocks as they are."""
    blocks = re.split(r"(^```.*?^```$)", source, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        block if block.startswith("```") else re.sub(r"^(#+ )", r"#\1", block, flags=re.MULTILINE) for block in blocks
    )
