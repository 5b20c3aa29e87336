"""The form of the lectures: stripped, named cells, every topic complete, nothing written twice."""

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


@notebooks
def test_gpu_cells_begin_with_a_guard(notebook):
    for cell in code(notebook):
        if "gpu" in cell.metadata.get("tags", []):
            assert re.match(r"(if|assert) .*cuda", cell.source), f"{cell.id} has no availability guard"


def test_no_code_is_copied_between_notebooks():
    seen = {}
    for name, notebook in NOTEBOOKS.items():
        for cell in code(notebook)[2:]:
            if cell.source.count("\n") >= 5:
                other = seen.setdefault(cell.source, f"{name}:{cell.id}")
                assert other == f"{name}:{cell.id}", f"{name}:{cell.id} repeats {other}"


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


@pytest.mark.parametrize("lecture", WRITTEN, ids=[lecture.id for lecture in WRITTEN])
def test_budgets_are_recorded(lecture):
    assert 0 < lecture.cell_budget_s <= 10 and 0 < lecture.budget_s <= 60
