"""The pages of the book beside the lectures, and their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from optcourse.course.book import handbook, landing, manual, reference, runs, slides, verdicts
from optcourse.course.book.content import Course

#: Caption in the sidebar -> the pages under it: file name without its ending, and what writes its MyST source.
#: A page that has nothing to say (no folder of labs, no tables) returns "" and is left out.
PAGES: dict[str, dict[str, Callable[[Course], str]]] = {
    "Practise": {"labs": manual.labs},
    "Look up": {
        "claims": verdicts.page,
        "handbook": handbook.handbook,
        "slides": slides.slides,
        "slips": slides.slips,
        "package": manual.package,
        "reference": reference.index,
        "performance": manual.performance,
        "cluster": manual.cluster,
        "run": runs.page,
    },
    "Teach": {"instructors": manual.instructors},
}


def all_of(course: Course, pictures: Mapping[str, str]) -> dict[str, str]:
    """File name -> source (MyST or a notebook) of every page but the lectures, whose cards have ``pictures``."""
    trees = {"Lectures": [path.stem for _, _, path in course.chapters]}
    found = {}
    for caption, pages in PAGES.items():
        texts = {name: text for name, write in pages.items() if (text := write(course))}
        trees[caption] = [*texts]
        found |= {f"{name}.md": text for name, text in texts.items()}
    found |= {f"{name}.md": text for name, text in reference.rooms().items()} | manual.lab_pages(course)
    return {"index.md": landing.page(course, pictures) + _trees(trees), **found}


def _trees(trees: Mapping[str, list[str]]) -> str:
    """What the sidebar lists."""
    return "".join(
        f"\n```{{toctree}}\n:caption: {caption}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"
        for caption, names in trees.items()
        if names
    )
