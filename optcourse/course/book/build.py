"""The book of a run: Sphinx makes one site of executed lectures and of what is known about them."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path

import nbformat
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from optcourse import files
from optcourse.course.book import chapters, pages
from optcourse.course.book.content import Course
from optcourse.course.book.extension import STATIC

WORK = ".book"

CONFIG = {
    "project": "Optimization for Deep Learning",
    "author": "optcourse",
    "extensions": [
        "myst_nb",
        "sphinx.ext.autodoc",
        "sphinx.ext.napoleon",
        "sphinx_copybutton",
        "optcourse.course.book.extension",
    ],
    "html_theme": "sphinx_book_theme",
    "html_title": "Optimization for Deep Learning",
    "html_math_renderer": "mathml",
    "html_copy_source": False,
    "html_show_sphinx": False,
    "html_show_copyright": False,
    "html_last_updated_fmt": None,
    "html_static_path": [],
    "templates_path": [],
    "html_theme_options": {
        "show_navbar_depth": 1,
        "home_page_in_toc": True,
        "use_download_button": False,
        "use_fullscreen_button": False,
        "show_toc_level": 2,
        "pygments_light_style": "a11y-high-contrast-light",
        "pygments_dark_style": "a11y-high-contrast-dark",
    },
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_render_markdown_format": "myst",
    "myst_enable_extensions": ["dollarmath", "amsmath", "html_image"],
    "myst_all_links_external": True,
    "suppress_warnings": ["mystnb.unknown_mime_type"],
    "exclude_patterns": ["_static"],
}


def write(course: Course) -> None:
    """Write ``index.html`` and all pages to ``course.output`` from what a run left there.

    Raises ``RuntimeError`` with Sphinx's warnings where it has any: a page that says something else than its source is
    no page.
    """
    output, catalog = course.output, course.catalog
    work = output / WORK
    source = work / "source"
    source.mkdir(parents=True, exist_ok=True)
    written = {"index.md"}
    pictures = chapters.Pictures(output / "figures")
    for lecture in catalog.lectures:
        stem = Path(lecture.notebook).stem
        record, path = course.records.get(stem), output / lecture.notebook
        if record is None or not path.exists():
            path = course.lectures / lecture.notebook
        if not path.exists():
            continue
        page = chapters.chapter(nbformat.read(path, as_version=4), lecture, record, catalog, pictures)
        _renew(source / lecture.notebook, nbformat.writes(page), written)
    for name, text in pages.all_of(course).items():
        _renew(source / name, text, written)
    for path in source.iterdir():
        if path.is_file() and path.name not in written:
            path.unlink()
    pictures.forget()
    _sphinx(source, output, work)


def _renew(path: Path, text: str, written: set[str]) -> None:
    """Write a file if its content changes: Sphinx reads again what is newer than its own notes."""
    written.add(path.name)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        files.write(path, text)


def _sphinx(source: Path, output: Path, work: Path) -> None:
    warnings = io.StringIO()
    static = source / "_static"
    static.mkdir(exist_ok=True)
    for path in STATIC.iterdir():
        shutil.copyfile(path, static / path.name)
    with patch_docutils(), docutils_namespace(), contextlib.redirect_stderr(io.StringIO()):
        app = Sphinx(
            srcdir=source,
            confdir=None,
            outdir=output,
            doctreedir=work / "doctrees",
            buildername="html",
            confoverrides={**CONFIG, "html_static_path": [str(static)]},
            status=None,
            warning=warnings,
        )
        app.build()
    if text := warnings.getvalue().strip():
        raise RuntimeError(text)
