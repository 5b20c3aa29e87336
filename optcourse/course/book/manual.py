"""Pages whose text is kept elsewhere: labs, performance, clusters, plans for instructors."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

from optcourse.course.book.chapters import prose
from optcourse.course.book.content import Course, text

#: The tables of ``make bench`` and ``make mutants``, in the order of the page.
TABLES = ("RESULTS", "NODES", "WIRE", "LANDSCAPE", "MUTANTS")


def instructors(course: Course) -> str:
    """Plans, grading, how to adapt a lecture."""
    return text("instructors")


def package(course: Course) -> str:
    """The command and the package, with examples that a test runs."""
    return text("package")


def labs(course: Course) -> str:
    """What to do in a lab, how to check it, and what each one asks."""
    releases = sorted((course.root / "labs" / "release").glob("lab*/lab*.ipynb"))
    if not releases:
        return ""
    titles = {lab.id: lab for lab in course.catalog.labs}
    parts = [text("labs")]
    for path in releases:
        lab = titles.get(path.stem)
        if lab is None:
            continue
        asked = "\n".join(f"* {line}" for line in _exercises(path))
        topics = " ".join(course.topic_link(topic) for topic in lab.topics)
        parts.append(
            f'<a id="{lab.id}"></a>\n\n## {lab.id}: {lab.title}\n\nPractises {topics}.\n\n{asked}\n\n'
            f"`optcourse labs check {lab.id} {lab.id}.ipynb`\n"
        )
    return "\n".join(parts)


def _exercises(path: Path) -> list[str]:
    """The headings of a lab's exercises."""
    cells = nbformat.read(path, as_version=4).cells
    headings = (re.findall(r"^##+ +(.+)$", c.source, flags=re.MULTILINE) for c in cells if c.cell_type == "markdown")
    return [re.sub(r"<[^>]*>", "", line).strip() for lines in headings for line in lines]


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
