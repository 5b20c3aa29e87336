"""The form of the lectures: stripped, named cells, every topic complete, nothing written twice."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from optcourse.course import catalog

LECTURES = Path(__file__).parents[1] / "lectures"
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in sorted(LECTURES.glob("*.ipynb"))}
TABLE = catalog.load(LECTURES / "topics.toml")
WRITTEN = [lecture for lecture in TABLE.lectures if lecture.status == "written"]
TOPICS = [topic for topic in TABLE.topics if topic.lecture in {lecture.id for lecture in WRITTEN}]
PARAMETERS = (
    'import os\n\nPROFILE = os.environ.get("OPTCOURSE_PROFILE", "quick")\nSEED = 0\nDEVICE = "auto"',
    "run = optcourse.start(profile=PROFILE, seed=SEED, device=DEVICE)",
)

notebooks = pytest.mark.parametrize("notebook", NOTEBOOKS.values(), ids=NOTEBOOKS)
topics = pytest.mark.parametrize("topic", TOPICS, ids=[topic.id for topic in TOPICS])


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def section(topic):
    """The cells from the heading with the topic's anchor to the next topic, or to the end."""
    lecture = next(lecture for lecture in WRITTEN if lecture.id == topic.lecture)
    cells = NOTEBOOKS[Path(lecture.notebook).stem].cells
    heading = rf'^## <a id="{re.escape(topic.id)}"></a>{re.escape(topic.id)} \S'
    starts = [
        i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and re.search(heading, cell.source, re.M)
    ]
    assert len(starts) == 1, f"{topic.id}: {len(starts)} headings with its anchor"
    rest = cells[starts[0] :]
    ends = [
        i
        for i, cell in enumerate(rest[1:], 1)
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.M)
    ]
    return rest[: ends[0]] if ends else rest


def test_the_written_lectures_are_the_notebooks():
    assert {Path(lecture.notebook).stem for lecture in WRITTEN} == set(NOTEBOOKS)


def first_line(path):
    return nbformat.read(path, as_version=4).cells[0].source.partition("\n")[0]


def test_titles_are_those_of_the_table():
    assert [first_line(LECTURES / lecture.notebook) for lecture in WRITTEN] == [
        f"# {x.id} · {x.title}" for x in WRITTEN
    ]
    for lab in TABLE.labs:
        for kind in ("source", "release"):
            path = LECTURES.parent / "labs" / kind / lab.id / f"{lab.id}.ipynb"
            if path.exists():  # students have no sources
                assert first_line(path) == f"# Lab {lab.id[3:]} · {lab.title}"


@notebooks
def test_claims_are_plain_text(notebook):
    """Pages, tables and reports show them as they are: no code span, formula, emphasis, link."""
    for cell in code(notebook):
        for call in (node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)):
            if getattr(call.func, "attr", getattr(call.func, "id", "")) == "check":
                shown = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "why")]
                texts = [n.value for part in shown for n in ast.walk(part) if isinstance(n, ast.Constant)]
                assert not re.search(r"[`$]|\*\*|\]\(", " ".join(map(str, texts))), (cell.id, texts)


def test_notebooks_are_committed_stripped():
    paths = [str(path) for path in LECTURES.glob("*.ipynb")]
    command = [sys.executable, "-m", "nbstripout", "--keep-id", "--verify", *paths]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"run 'make format': {result.stdout}{result.stderr}"


@notebooks
def test_format_and_kernel(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"


@notebooks
def test_cell_ids_are_unique_and_say_something(notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert [
        i for i in ids if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", i) or re.fullmatch(r"[0-9a-f]{8}", i)
    ] == []


@notebooks
def test_first_cells_are_parameters_and_start(notebook):
    first, second = code(notebook)[:2]
    assert first.metadata.tags == ["parameters"] and first.source == PARAMETERS[0]
    assert PARAMETERS[1] in second.source.splitlines()


@notebooks
def test_code_cells_are_short_and_quiet(notebook):
    for cell in code(notebook):
        assert cell.source.count("\n") < 45, f"{cell.id} is long: does it belong in optcourse?"
        assert not re.search(r";\s*$", cell.source, re.M), f"{cell.id}: trailing semicolon"


def pieces(notebook):
    """Where, name and statements of every code cell and of every function and class in it, without docstrings."""
    for cell in code(notebook)[2:]:
        tree = ast.parse(cell.source)
        yield cell.id, "", tree.body
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield cell.id, node.name, node.body[1:] if ast.get_docstring(node, clean=False) else node.body


def shape(statements):
    """What is left of code when its variables and constants are called anything else: a copy has the same."""
    names, parts = {}, []
    for node in (node for statement in statements for node in ast.walk(statement)):
        name = getattr(node, "id", getattr(node, "arg", None))
        parts.append((type(node).__name__, getattr(node, "attr", ""), names.setdefault(name, len(names))))
    return tuple(parts)


def test_no_code_is_copied_between_notebooks():
    seen = {}
    for stem, notebook in NOTEBOOKS.items():
        for cell, name, statements in pieces(notebook):
            if len(form := shape(statements)) >= 40:  # some two lines
                where, other = f"{stem}:{cell} {name}", seen.setdefault(form, (stem, cell, name))
                assert other[0] == stem, f"{where} repeats {' '.join(other)}: does it belong in optcourse?"


#: Harnesses that lectures still write for themselves; those of the nodes (15, 17, 19) are one and the same.
OWN_HARNESS = {"train"}


def test_no_function_is_written_again_in_every_other_lecture():
    homes = {}
    for stem, notebook in NOTEBOOKS.items():
        for _, name, statements in pieces(notebook):
            if len(statements) >= 3 and name:
                homes.setdefault(name, set()).add(stem)
    again = {name: sorted(stems) for name, stems in homes.items() if len(stems) >= 3 and name not in OWN_HARNESS}
    assert again == {}, "does it belong in optcourse?"


@topics
def test_topic_has_claim_derivation_prediction_experiment_and_check(topic):
    cells = section(topic)
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    program = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for part in ("Claim", "Derivation", "Predict"):
        assert re.search(rf"\*\*{part}\b", text), f"{topic.id} has no {part}"
    assert re.search(r"plt\.show\(\)|display\(", program), f"{topic.id} shows nothing"
    assert re.search(rf'check\(\s*"{re.escape(topic.id)}"', program), f"{topic.id} checks nothing"


@topics
def test_claim_names_its_decks(topic):
    claim = next(cell.source for cell in section(topic) if "**Claim" in cell.source)
    cited = re.sub(r"[^A-E]", " ", " ".join(re.findall(r"[Dd]ecks?\b[^*]*|\b[A-E] \"[^\"]*\"", claim)))
    assert set(topic.deck) <= set(cited.split()), f"{topic.id}: decks {topic.deck}, the claim cites {cited.split()}"


@notebooks
def test_checks_stand_in_the_section_of_their_topic(notebook):
    current = None
    for cell in notebook.cells:
        if anchor := re.search(r'^## <a id="(\d\d\.\d)">', cell.source, re.M):
            current = anchor[1]
        if cell.cell_type == "code":
            assert set(re.findall(r'check\(\s*"([^"]+)"', cell.source)) <= {current}, cell.id


@pytest.mark.parametrize("lab", TABLE.labs, ids=[lab.id for lab in TABLE.labs])
def test_labs_and_the_lectures_they_practise_name_each_other(lab):
    release = (LECTURES.parent / "labs" / "release" / lab.id / f"{lab.id}.ipynb").read_text(encoding="utf-8")
    for lecture in {TABLE.topic(topic).lecture for topic in lab.topics}:
        (name,) = (name for name in NOTEBOOKS if name.startswith(lecture))
        text = "".join(cell.source for cell in NOTEBOOKS[name].cells)
        assert f"(../labs/release/{lab.id}/{lab.id}.ipynb)" in text, f"{name} does not name {lab.id}"
        assert f"lectures/{name}.ipynb#" in release, f"{lab.id} does not link to a section of {name}"


@pytest.mark.parametrize("lecture", WRITTEN, ids=[lecture.id for lecture in WRITTEN])
def test_budgets_are_recorded(lecture):
    assert 0 < lecture.cell_budget_s <= 10 and 0 < lecture.budget_s <= 60


@notebooks
def test_no_cell_is_longer_than_a_reader_takes_in(notebook):
    assert {cell.id: n for cell in code(notebook) if (n := len(cell.source.splitlines())) > 30} == {}
