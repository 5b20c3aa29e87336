"""What labs/README.md promises: options, files, numbers and examples are those of the program; sentences have tests."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import nbformat
import pytest
import tiny_lab
from click.testing import CliRunner

from optcourse.course.cli import main
from optcourse.grading import batch, check, sandbox
from optcourse.grading.box import kernel
from optcourse.grading.box import limits as bounds
from optcourse.grading.commands import grade as commands
from optcourse.grading.lab import from_source

pytest.importorskip("nbgrader")
ROOT = Path(__file__).parents[2]
LABS = ROOT / "labs"
TEXT = (LABS / "README.md").read_text(encoding="utf-8")
FLOWING = " ".join(TEXT.split())
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.M | re.S)
CHECK, BATCH, VALUES = "test_check.py", "test_batch.py", "test_values.py"
PAGES, MATCHING, CONTAINMENT = "test_pages.py", "test_matching.py", "test_containment.py"


def table(heading: str) -> list[list[str]]:
    """The cells of the first table whose head begins so."""
    lines = TEXT[TEXT.index(heading) :].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return [row for row in rows[1:] if not set(row[0]) <= set("-")]


def commands_shown():
    for path in (
        LABS / "README.md",
        ROOT / "README.md",
        *(ROOT / "optcourse" / "course" / "book" / "texts").glob("*.md"),
    ):
        for block in re.findall(r"^```\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
            for line in block.splitlines():
                if re.match(r"optcourse (labs|grade) ", line) and "|" not in line:
                    yield line


@pytest.mark.parametrize("line", sorted(set(commands_shown())))
def test_a_command_that_is_shown_can_be_typed(line):
    _, *words = shlex.split(line, comments=True)
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # raises what a wrong argument or option raises


# The options -----------------------------------------------------------------------------------------------------

GRADE = {option: param for param in main.commands["grade"].params for option in param.opts if option[:2] == "--"}
OPTIONS = {re.match(r"`(--\w+)", first)[1]: text for first, text in table("| option |")}


def test_the_table_of_options_is_complete():
    assert OPTIONS.keys() == GRADE.keys()


def test_the_defaults_in_the_table_are_the_programs():
    said = {
        "--timeout": "seconds per submission, 300;",
        "--memory": "three quarters of this machine's (or container's), at most 4 for each. At least 0.5 for each",
        "--output": "`build/grades`",
    }
    context = click.Context(main.commands["grade"])
    defaults = {option: GRADE[option].get_default(context) for option in said}
    assert (defaults["--timeout"], defaults["--output"]) == (300.0, "build/grades")
    assert not isinstance(defaults["--memory"], float)  # it is what the machine has
    assert (bounds.SHARE, bounds.MOST, bounds.LEAST) == (0.75, 4.0, 0.5)
    assert all(words in OPTIONS[option] for option, words in said.items())
    assert GRADE["--lab"].required and "(required)" in OPTIONS["--lab"]
    assert GRADE["--student"].multiple and "may be repeated" in OPTIONS["--student"]
    timeout = next(p for p in main.commands["labs"].commands["check"].params if p.name == "timeout")
    assert timeout.default == check.LIMIT == 30 and "did not end in 30 s (`--timeout S`)" in FLOWING


@pytest.mark.parametrize(("timeout", "cell", "exercise"), [(300, 30, 15), (1000, 30, 15), (60, 10, 6), (6, 1, 0.6)])
def test_a_cell_gets_a_sixth_and_an_exercise_a_tenth(tmp_path, monkeypatch, timeout, cell, exercise):
    assert "a cell gets a sixth of it, at most 30, and the hidden tests of an exercise a tenth, at most 15" in FLOWING
    tiny_lab.write_lab(tmp_path)
    (tmp_path / "class" / "ann").mkdir(parents=True)
    (tmp_path / "class" / "ann" / "tiny.ipynb").write_bytes(tiny_lab.raw(tiny_lab.notebook()))
    seen = []

    def stop(*arguments, **_):
        seen.extend(argument for argument in arguments if isinstance(argument, sandbox.Limits))
        raise click.UsageError("seen")

    monkeypatch.setattr(batch, "grade_class", stop)
    where = [str(tmp_path / "class"), "--labs", str(tmp_path), "--output", str(tmp_path / "out")]
    CliRunner().invoke(main, ["grade", *where, "--lab", "tiny", "--timeout", str(timeout)])
    assert [(limits.total, limits.cell, limits.exercise) for limits in seen] == [(timeout, cell, exercise)]


def test_the_numbers_of_the_box_are_the_programs():
    assert f"it can write {bounds.SCRATCH // 2**20} MB each in `/tmp` and `/dev/shm`" in FLOWING
    assert f"more than {bounds.MAX_PROCESSES} processes, {bounds.MAX_THREADS} threads" in FLOWING
    assert f"{bounds.MAX_OPEN:,} open or {bounds.MAX_FILES:,} files ({bounds.OPEN:,} open in one process)" in FLOWING
    assert f"(at most {['no', 'one', 'two', 'three', 'four', 'five'][kernel.ATTEMPTS]} runs)" in FLOWING


# What comes out --------------------------------------------------------------------------------------------------


def test_the_statuses_are_those_that_exist():
    named = {status for first, _ in table("| status | |") for status in re.findall(r"`(\w+)`", first)}
    assert named >= {"graded", "flagged", *commands.BAD, "missing"}


def test_the_columns_of_the_status_table_are_named():
    (row,) = (text for first, text in table("| | |\n|---|---|\n| `status.csv`") if first == "`status.csv`")
    assert re.search(r"`([\w, ]+)`", row)[1].split(", ") == list(batch.COLUMNS)


@pytest.fixture(scope="module")
def classroom(tmp_path_factory):
    """The written question answered by ada, and the class graded."""
    if sandbox.bubblewrap() is None:
        pytest.skip("bubblewrap does not work here")
    folder = tmp_path_factory.mktemp("classroom")
    tiny_lab.write_lab(folder)
    (folder / "class" / "ada").mkdir(parents=True)
    (folder / "class" / "ada" / "tiny.ipynb").write_bytes(tiny_lab.raw(tiny_lab.notebook(why="Because.")))

    def run():
        where = [folder / "class", "--lab", "tiny", "--labs", folder, "--output", folder / "build" / "grades"]
        program = "from optcourse.course.cli import main; main()"
        result = subprocess.run([sys.executable, "-c", program, "grade", *where], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return folder / "build" / "grades"

    return folder, run


def test_every_file_that_is_named_is_written(classroom):
    _, run = classroom
    output = run()
    for first, _ in table("| | |\n|---|---|\n| `status.csv`"):
        path = first.strip("`").replace("STUDENT", "ada").replace("LAB", "tiny")
        assert (output / path).is_file() or "left_out" in path, path


def test_marks_given_in_python_are_in_the_grades_of_the_next_run(classroom):
    folder, run = classroom
    output = run()
    graded = (output / "results" / "tiny" / "ada.json").stat().st_mtime_ns
    (snippet,) = (code for language, code in BLOCKS if language == "python" and "Gradebook" in code)
    assert 'lab, student, points = "lab01", "ada", 2.5' in snippet
    snippet = snippet.replace('"lab01"', '"tiny"').replace("2.5", "1.5")
    done = subprocess.run([sys.executable, "-c", snippet], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run()
    with (output / "grades.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (float(row["score"]), float(row["max_score"])) == (7.5, 8.0)
    assert (output / "results" / "tiny" / "ada.json").stat().st_mtime_ns == graded, "nobody is graded again"


def test_releases_are_made_and_compared(tmp_path):
    tiny_lab.write_lab(tmp_path)
    release = ["labs", "release", "tiny", "--labs", str(tmp_path)]
    path = tmp_path / "release" / "tiny" / "tiny.ipynb"
    result = CliRunner().invoke(main, [*release, "--dry-run"])
    assert result.exit_code == 1 and not path.exists()
    assert CliRunner().invoke(main, release).exit_code == 0 and path.is_file()
    assert CliRunner().invoke(main, [*release, "--dry-run"]).exit_code == 0


# Writing a lab ---------------------------------------------------------------------------------------------------


def test_the_example_of_an_exercise_is_one(tmp_path):
    solution, tests = (code for language, code in BLOCKS if language == "python" and "###" in code)
    made = tiny_lab.source()
    made.cells = [cell for cell in made.cells if cell.id in ("title", "imports", "step", "test-step")]
    for cell in made.cells:
        cell.source = {"step": solution, "test-step": tests}.get(cell.id, cell.source)
        if cell.id == "test-step":
            cell.metadata["nbgrader"]["points"] = 3.0
    path = tmp_path / "lab.ipynb"
    nbformat.write(made, path)
    lab = from_source(path)
    assert [(case.expression, case.points) for case in lab.exercises[0].cases] == [
        ("step(x, g, 0.1)", 2),
        ("step(x, g, 0.0)", 1),
    ]
    stub = next(cell.source for cell in lab.release.cells if cell.id == "step")
    assert re.search(r"raise NotImplementedError\(.the gradient points uphill.\)", stub)
    made.cells[-1].metadata["nbgrader"]["points"] = 4.0
    nbformat.write(made, path)
    with pytest.raises(ValueError, match="is worth 4 points, its hidden tests 3"):
        from_source(path)


# The plan --------------------------------------------------------------------------------------------------------


def numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"\b\d\d\b", text)}


def test_the_labs_of_the_table_exist_and_each_is_given_after_its_lectures():
    needs = {first: numbers(lectures) for first, _, lectures in table("| | lab | exercises practise")}
    assert sorted(f"lab{name}" for name in needs) == sorted(path.name for path in (LABS / "source").iterdir())
    given: set[int] = set()
    labs = []
    for _, lectures, lab, _ in table("| week | lectures |"):
        given |= numbers(lectures)
        labs.append(lab)
        assert needs[lab] <= given, f"lab {lab} needs lectures {sorted(needs[lab] - given)}"
    assert labs == list(needs) and given == set(range(1, 21))


# Sentences, and the tests that show them -------------------------------------------------------------------------

PROMISES = {
    "says for each exercise passed, failed (and why) or not attempted": (
        CHECK,
        "test_a_fault_is_said_in_the_exercise_where_it_lies",
    ),
    "as the grader does, in a fresh kernel": (CHECK, "test_what_passes_here_earns_full_marks_in_the_grader"),
    "and an empty folder": (CHECK, "test_the_notebook_runs_alone_in_an_empty_folder"),
    "the lab that the file belongs to if it is another": (CHECK, "test_another_labs_notebook_is_named_in_one_line"),
    "files beside the notebook, which the grader will not have": (CHECK, "test_what_the_grader_does_not_have_is_named"),
    "2 the file is no notebook of this lab": (CHECK, "test_a_file_that_is_no_notebook_is_told_in_one_line"),
    "130 interrupted, and no kernel is left": (CHECK, "test_an_interrupted_check_leaves_no_kernel"),
    "`optcourse grade` says so and falls back to limits": (
        BATCH,
        "test_without_bubblewrap_a_warning_says_what_is_not_contained",
    ),
    "Links are refused": ("test_collect.py", "test_links_are_refused"),
    "Of several versions in an export the newest counts, flagged; in a folder the file with the lab's own name": (
        "test_collect.py",
        "test_renamed_files_are_recognized_and_flagged",
    ),
    "Every file is in a row or, with the reason, in `left_out.csv`": (
        "test_corpus_classes.py",
        "test_every_file_is_in_one_row_or_left_out",
    ),
    "an export of Moodle, Canvas, Blackboard, D2L, Gradescope": ("test_corpus_classes.py", "test_everyone_has_a_row"),
    "A zip in a folder is opened once": ("test_corpus_classes.py", "test_a_zip_in_place_of_a_notebook_is_opened_once"),
    "who handed in nothing is `missing`, who is not in it is flagged": (
        "test_roster.py",
        "test_in_the_order_of_the_roster_with_the_missing_and_the_extra",
    ),
    "for all submissions at a time together": (CONTAINMENT, "test_all_boxes_together_fit"),
    "what was being graded is lost and nothing else": (BATCH, "test_ended_and_resumed"),
    "or could not write": (BATCH, "test_a_full_disk_is_said_and_the_same_command_goes_on"),
    "below 5 MB, and it says what it leaves out": (PAGES, "test_the_page_stays_small_and_says_what_it_leaves_out"),
    "a solution in a cell of its own, above or below the stub, earns its points": (
        MATCHING,
        "test_every_point_and_a_flag",
    ),
    "Cells run in the student's order": (MATCHING, "test_an_order_of_ones_own_runs_in_that_order"),
    "the last one before its test counts": (MATCHING, "test_the_last_definition_before_the_test_counts"),
    "A notebook that redefines Python's own names (`sum`) is flagged": (
        "test_world.py",
        "test_redefined_names_are_said_once",
    ),
    "No cell of `status.csv` and `grades.csv` begins a formula": (PAGES, "test_grades_csv_is_safe_and_whole"),
    "A text in a cell below the question counts as the answer": (
        MATCHING,
        "test_an_answer_in_a_cell_of_its_own_counts",
    ),
    "PNG, JPEG and GIF pictures stay with it": (MATCHING, "test_a_pasted_picture_is_part_of_the_answer"),
    "the mark counts, the formgrader lists it again": (PAGES, "test_a_mark_stays_and_a_changed_answer_is_named"),
    "*Nbgrader → Formgrader → Manual Grading*": (
        "test_formgrader.py",
        "test_a_mark_typed_in_the_formgrader_is_in_the_next_grades",
    ),
    "A gradebook that is locked, damaged or of another nbgrader is named": (
        PAGES,
        "test_a_damaged_gradebook_is_named_and_left_alone",
    ),
    "no environment variables of yours": (CONTAINMENT, "test_no_process_shows_anything_of_the_grader"),
    "no capabilities, no user namespaces": (CONTAINMENT, "test_no_privilege_is_left"),
    "a key ring of its own": (CONTAINMENT, "test_the_key_ring_of_the_login_stays_with_the_grader"),
    "that of all its processes together": (CONTAINMENT, "test_memory_of_all_processes_is_counted_once"),
    "cores of its own while there are enough": (CONTAINMENT, "test_jobs_share_no_core_while_there_are_enough"),
    "graded again at the end, alone": (BATCH, "test_the_starved_are_graded_again_alone_at_the_end"),
    "pictures from elsewhere and links other than http(s), mailto and # are disarmed": (
        PAGES,
        "test_no_markdown_of_a_stranger_opens_fetches_or_runs_anything",
    ),
    "it grades what is new or changed": (BATCH, "test_a_second_run_grades_nobody_again"),
    "Press Ctrl-C, later run the same command": (BATCH, "test_ended_and_resumed"),
    "No other student's row changes": (BATCH, "test_regrading_one_student_changes_no_other_row"),
    "no hidden tests, no solutions, no scripts": (
        BATCH,
        "test_the_page_holds_no_hidden_test_no_solution_and_nothing_that_runs",
    ),
    "2 wrong usage": (BATCH, "test_wrong_usage_is_one_line_and_exit_status_2"),
    "The tests demand that the reference earns everything": ("test_labs.py", "test_the_reference_earns_every_point"),
    "the blank release nothing": ("test_labs.py", "test_the_blank_release_earns_nothing"),
    "each wrong solution loses points in its own exercise only": (
        "test_labs.py",
        "test_a_mutant_loses_the_points_of_the_exercise_it_breaks_and_nothing_else",
    ),
    "They must be data": (VALUES, "test_what_is_no_data_becomes_a_note_that_equals_nothing"),
    "an expression in `value` that is evaluated outside": (VALUES, "test_then_makes_a_verdict_of_the_value_outside"),
    "`OPTCOURSE_SANDBOX=limits` chooses this": (
        "test_fallback.py",
        "test_the_environment_variable_switches_the_box_off",
    ),
    "not nbgrader. Passing": (CHECK, "test_a_student_needs_no_nbgrader"),
}


@pytest.mark.parametrize("sentence", PROMISES)
def test_a_promise_is_made_and_tested(sentence):
    file, name = PROMISES[sentence]
    assert sentence in FLOWING
    assert f"\ndef {name}(" in (Path(__file__).parent / file).read_text()
