"""Every lab: the reference earns everything, the blank nothing, a mutant loses what it breaks and nothing else."""

import copy
import importlib
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

from optcourse.grading.grade import Result, grade
from optcourse.grading.lab import Lab, from_source, role
from optcourse.grading.release import release
from optcourse.grading.sandbox import Limits

pytest.importorskip("nbgrader")
LABS = Path(__file__).resolve().parents[2] / "labs"
NAMES = sorted(path.name for path in (LABS / "source").iterdir())
#: A test cell's hidden part, as nbgrader marks it.
HIDDEN = re.compile(r"^### BEGIN HIDDEN TESTS$.*?^### END HIDDEN TESTS$", re.M | re.S)
LIMITS = Limits(total=240, cell=60, exercise=60)
VARIANTS = {
    name: importlib.import_module(f"variants_{name}").VARIANTS
    for name in NAMES
    if (Path(__file__).parent / f"variants_{name}.py").is_file()
}
MUTANTS = [(name, mutant) for name in NAMES for mutant in importlib.import_module(f"mutants_{name}").MUTANTS]


@cache
def lab_called(name: str) -> Lab:
    return from_source(LABS / "source" / name / f"{name}.ipynb")


def submitted(lab: Lab, notebook) -> Result:
    return grade(lab, nbformat.writes(notebook).encode(), LIMITS)


def solved(lab: Lab):
    """What a perfect student hands in: the release with our solutions in its solution cells."""
    notebook, source = copy.deepcopy(lab.release), {cell.id: cell.source for cell in lab.source.cells}
    for cell in notebook.cells:
        if role(cell).get("solution"):
            cell.source = source[cell.id]
    return notebook


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_earns_every_point(name):
    lab = lab_called(name)
    result = submitted(lab, solved(lab))
    assert {exercise: mark.reasons for exercise, mark in result.marks.items() if mark.reasons} == {}
    assert (result.status, result.score, result.flags, result.errors) == ("graded", lab.max_score, [], {})
    assert set(result.written) == set(lab.written)


@pytest.mark.parametrize("name", NAMES)
def test_the_blank_release_earns_nothing(name):
    lab = lab_called(name)
    result = submitted(lab, lab.release)
    assert (result.status, result.score, result.flags, result.written) == ("graded", 0, [], {})
    assert {mark.state for mark in result.marks.values()} == {"not attempted"}


@pytest.mark.parametrize(("name", "mutant"), MUTANTS, ids=[f"{name}: {mutant.name}" for name, mutant in MUTANTS])
def test_a_mutant_loses_the_points_of_the_exercise_it_breaks_and_nothing_else(name, mutant):
    lab = lab_called(name)
    notebook = solved(lab)
    cell = next(cell for cell in notebook.cells if cell.id == mutant.cell)
    assert cell.source.count(mutant.old) == 1
    cell.source = cell.source.replace(mutant.old, mutant.new)
    scores = {exercise: mark.score for exercise, mark in submitted(lab, notebook).marks.items()}
    full = {exercise.name: exercise.points for exercise in lab.exercises}
    assert mutant.score < full[mutant.exercise]
    assert scores == {**full, mutant.exercise: mutant.score}


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name, variants in VARIANTS.items() for variant in variants],
    ids=[f"{name}: {variant.name}" for name, variants in VARIANTS.items() for variant in variants],
)
def test_a_correct_solution_in_another_style_keeps_every_point(name, variant):
    lab = lab_called(name)
    notebook = solved(lab)
    solutions = {cell.id: index for index, cell in enumerate(notebook.cells) if role(cell).get("solution")}
    assert variant.cells and variant.cells.keys() | variant.helpers.keys() <= solutions.keys()
    for cell, source in variant.cells.items():
        assert source.strip() != notebook.cells[solutions[cell]].source.strip()
        notebook.cells[solutions[cell]].source = source
    for cell in sorted(variant.helpers, key=solutions.__getitem__, reverse=True):
        notebook.cells.insert(solutions[cell], nbformat.v4.new_code_cell(variant.helpers[cell]))
    result = submitted(lab, notebook)
    assert {exercise: mark.reasons for exercise, mark in result.marks.items() if mark.reasons} == {}
    assert (result.score, result.errors) == (lab.max_score, {})


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_has_honest_variants_and_there_are_enough(name):
    lab, variants = lab_called(name), VARIANTS.get(name, [])
    touched = {cell for variant in variants for cell in variant.cells}
    assert len(variants) >= 15 and len({variant.name for variant in variants}) == len(variants)
    assert touched == {cell.id for cell in lab.release.cells if role(cell).get("solution") and cell.cell_type == "code"}


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_is_broken_by_some_mutant_and_there_are_enough(name):
    broken = [mutant.exercise for lab, mutant in MUTANTS if lab == name]
    assert len(broken) >= 6 and set(broken) == {exercise.name for exercise in lab_called(name).exercises}


@pytest.mark.parametrize("name", NAMES)
def test_the_release_is_current_and_gives_nothing_away(name):
    lab = lab_called(name)
    path = LABS / "release" / name / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    assert text == nbformat.writes(release(lab.source)) + "\n", f"run: optcourse labs release {name}"
    assert "hidden(" not in text and "HIDDEN" not in text and "BEGIN SOLUTION" not in text and "MARK SCHEME" not in text
    for cell in lab.source.cells:
        assert not role(cell).get("solution") or cell.source not in text
        for block in HIDDEN.findall(cell.source):
            assert not any(line in text for line in block.splitlines() if len(line) > 30 and "hidden" in line)


@pytest.mark.parametrize("name", NAMES)
def test_a_lab_has_what_the_course_promises(name):
    lab = lab_called(name)
    assert 5 <= len(lab.exercises) <= 8 and len(lab.written) == 1
    assert all(len(exercise.cases) >= 2 for exercise in lab.exercises), "partial credit needs several cases"
    stubs = [cell.source for cell in lab.release.cells if role(cell).get("solution") and cell.cell_type == "code"]
    assert all(re.search(r"raise NotImplementedError\(['\"](?!your code).{8,}['\"]\)", stub) for stub in stubs)
    links = set(re.findall(r"lectures/(\w+\.ipynb)", "".join(cell.source for cell in lab.release.cells)))
    assert links and all((LABS.parent / "lectures" / link).is_file() for link in links)
