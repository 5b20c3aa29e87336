"""The pages of the book beside the lectures, and their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from optcourse.course.book.content import Course
from optcourse.course.book.handbook import handbook

#: Caption in the sidebar -> the pages under it: file name without its ending, and what writes its MyST source.
#: A page that has nothing to say (no labs folder, no tables) returns "" and is left out.
PAGES: dict[str, dict[str, Callable[[Course], str]]] = {
    "Look up": {"handbook": handbook},
    "Teach": {},
}


def all_of(course: Course) -> dict[str, str]:
    """File name -> MyST source of every page but the lectures; ``index.md`` lists them."""
    trees = {"Lectures": [Path(name).stem for name in sorted(r.notebook for r in course.catalog.lectures)]}
    found = {}
    for caption, pages in PAGES.items():
        texts = {name: text for name, write in pages.items() if (text := write(course))}
        trees[caption] = [*texts]
        found |= {f"{name}.md": text for name, text in texts.items()}
    return {"index.md": _tree(trees), **found}


def _tree(trees: dict[str, list[str]]) -> str:
    parts = ["# Optimization for Deep Learning\n"]
    for caption, names in trees.items():
        if names:
            listed = "\n".join(names)
            parts.append(f"```{{toctree}}\n:caption: {caption}\n:hidden:\n\n{listed}\n```\n")
    return "\n".join(parts)
