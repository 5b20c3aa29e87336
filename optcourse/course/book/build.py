"""The book of a run: Sphinx makes one site of executed lectures and of what is known about them."""

from __future__ import annotations

import copy
import io
import re
from pathlib import Path

import nbformat
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils
from tqdm import tqdm

from optcourse import files
from optcourse.course.book import chapters, pages, players
from optcourse.course.book.content import Course

WORK = ".book"

CONFIG = {
    "project": "Optimization for Deep Learning",
    "author": "optcourse",
    "extensions": [
        "myst_nb",
        "sphinx.ext.autodoc",
        "sphinx_copybutton",
        "optcourse.course.book.extension",
    ],
    "html_theme": "sphinx_book_theme",
    "html_title": "Optimization for Deep Learning",
    "html_math_renderer": "mathml",
    "html_copy_source": False,
    "html_show_search_summary": False,  # it fetches pages, which a browser does not do for files
    "html_context": {"default_mode": "auto"},
    "html_show_sphinx": False,
    "html_show_copyright": False,
    "html_last_updated_fmt": None,
    "html_static_path": [str(Path(__file__).parent / "static")],
    "templates_path": [],
    "html_theme_options": {
        "show_navbar_depth": 1,
        "home_page_in_toc": True,
        "navbar_persistent": [],
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
    "autodoc_typehints_format": "short",
    "autodoc_preserve_defaults": True,
    "python_use_unqualified_type_names": True,
    "autodoc_type_aliases": {"ArrayLike": "ArrayLike", "Number": "Number"},
}


def write(course: Course) -> None:
    """Write ``index.html`` and all pages to ``course.output`` from what a run left there.

    Raises ``RuntimeError`` with Sphinx's warnings where it has any: a page that says something else than its source is
    no page.
    """
    work = course.output / WORK
    source = work / "source"
    source.mkdir(parents=True, exist_ok=True)
    executed = {path.stem: nbformat.read(path, as_version=4) for _, _, path in course.chapters}
    moving = [player for notebook in executed.values() for player in chapters.players_of(notebook)]
    players.draw(moving, work / "players")
    pictures = chapters.Pictures(course.output / "figures", work / "players")
    written: set[str] = set()
    cards = {}
    for lecture, record, path in course.chapters:
        page = chapters.chapter(executed[path.stem], lecture, record, course.catalog, pictures)
        cards[path.stem] = chapters.card(executed[path.stem], lecture, pictures)
        _renew(source / path.name, nbformat.writes(page), written)
    for name, text in pages.all_of(course, cards).items():
        _renew(source / name, text, written)
    for path in source.iterdir():
        if path.is_file() and path.name not in written:
            path.unlink()
    pictures.forget()
    _sphinx(source, course.output, work)


def _renew(path: Path, text: str, written: set[str]) -> None:
    """Write a file if its content changes: Sphinx reads again what is newer than its own notes."""
    written.add(path.name)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        files.write(path, text)


def _sphinx(source: Path, output: Path, work: Path) -> None:
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            srcdir=source,
            confdir=None,
            outdir=output,
            doctreedir=work / "doctrees",
            buildername="html",
            confoverrides=copy.deepcopy(CONFIG),  # the theme writes into what it is given
            status=None,
            warning=warnings,
        )
        pages = len([*source.iterdir()])
        with tqdm(total=2 * pages, desc="the book", delay=2.0, leave=False, disable=None) as bar:

            def tick(*_: object) -> None:  # what a handler returns, Sphinx takes for the name of a template
                bar.update()

            app.connect("source-read", tick)
            app.connect("html-page-context", tick)
            app.build()
    if found := re.sub(r"\x1b\[[0-9;]*m", "", warnings.getvalue()).strip():
        raise RuntimeError(found)
