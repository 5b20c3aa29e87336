"""The list of the class: which columns are read, whose each submission is, who is missing, who is extra."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_lab

from optcourse.grading import batch
from optcourse.grading.collect import readable, survey
from optcourse.grading.collect.roster import Roster, Table

PLAIN = "id,name,email\n111,Ann Lee,ann@uni.edu\n222,Bob Ray,bob@uni.edu\n333,Cy Wu,cy@uni.edu\n"


def roster(folder: Path, text: str | bytes) -> Roster:
    path = folder / "students.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Roster(path)


def classroom(folder: Path, *files: str, lab: str = "lab01"):
    for name in files:
        path = folder / "class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return survey([folder / "class"], lab).submissions


def rows(submissions, roster: Roster | None, *older: str) -> list[dict[str, str]]:
    """The table after everybody was graded; ``older`` students are from earlier runs."""
    plain = dict.fromkeys(batch.COLUMNS, "")
    done = [
        {**plain, "student": s.student, "status": "graded", "score": "6", "max_score": "6", "file": s.origin}
        for s in submissions
    ]
    done += [
        {**plain, "student": s, "status": "graded", "score": "1", "max_score": "6", "file": f"old/{s}"} for s in older
    ]
    return Table(submissions, roster)(sorted(done, key=lambda row: row["student"]))


def told(submissions, roster: Roster, *older: str) -> list[tuple[str, str, str]]:
    return [(row["id"], row["student"], row["status"]) for row in rows(submissions, roster, *older)]


def test_in_the_order_of_the_roster_with_the_missing_and_the_extra(tmp_path):
    found = classroom(tmp_path, "Ray Bob/lab01.ipynb", "zoe/lab01.ipynb", "333/lab01.ipynb")
    table = rows(found, roster(tmp_path, PLAIN))
    assert [(r["id"], r["name"], r["student"], r["status"], r["score"], r["flags"]) for r in table] == [
        ("111", "Ann Lee", "Ann Lee", "missing", "", ""),
        ("222", "Bob Ray", "Ray Bob", "graded", "6", ""),
        ("333", "Cy Wu", "333", "graded", "6", ""),
        ("", "zoe", "zoe", "flagged", "6", "not in the roster"),
    ]
    assert table[0]["max_score"] == "6"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        "sep=;\n" + PLAIN.replace(",", ";"),
        PLAIN.encode("utf-16"),
        "Email;Vorname;Nachname;Matrikelnummer\nann@uni.edu;Ann;Lee;111\nbob@uni.edu;Bob;Ray;222\ncy@uni.edu;Cy;Wu;333\n",
        "OrgDefinedId,Username,Last Name,First Name,End-of-Line Indicator\n#111,#ann,Lee,Ann,#\n#222,#bob,Ray,Bob,#\n#333,#cy,Wu,Cy,#\n",
        'Note,Student ID,Full name\n"two\nlines",111,"Lee, Ann"\n,222,Bob Ray\n\n,333,Cy Wu\n',
    ],
)
@pytest.mark.parametrize("who", [("Ann Lee", "bob", "Cy Wu"), ("111", "222", "333"), ("lee_ann", "RAY Bob", "wu cy")])
def test_tables_as_programs_write_them(tmp_path, text, who):
    if "bob" in who and "bob" not in (text if isinstance(text, str) else "bob"):
        who = ("Ann Lee", "Bob Ray", "Cy Wu")
    found = classroom(tmp_path, *(f"{name}/lab01.ipynb" for name in who))
    assert told(found, roster(tmp_path, text)) == [
        (id, name, "graded") for id, name in zip(("111", "222", "333"), who, strict=True)
    ]


def test_letters_of_an_old_spreadsheet(tmp_path):
    found = classroom(tmp_path, "Zoë Lee/lab01.ipynb")
    (row,) = rows(found, roster(tmp_path, "id,name\n1,Zoë Lee\n".encode("cp1252")))
    assert (row["id"], row["name"]) == ("1", "Zoë Lee")


MOODLE = "Identifier,Full name,ID number,Email address,Status,Grade\nParticipant 12,Ann Lee,s111,ann@uni.edu,Submitted,\nParticipant 13,Bob Ray,s222,bob@uni.edu,,\n"
CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,lab01 (99)\n,,,,,Manual Posting\n    Points Possible,,,,,6\n"
    '"Lee, Ann",1230,u1,annl,A,\n"Ray, Bob",1240,u2,bobr,A,\n"Student, Test",9,,x,A,\n'
)


@pytest.mark.parametrize("files", [
    ("Ann Lee_12_assignsubmission_file/lab01.ipynb", "Bob Ray_13_assignsubmission_file/lab01.ipynb"),
    ("Participant_12_assignsubmission_file/lab01.ipynb", "Participant_13_assignsubmission_file/lab01.ipynb"),
    ("s111/lab01.ipynb", "s222/lab01.ipynb"),
    ("ann_lab01.ipynb", "bob@uni.edu_lab01.ipynb"),
])  # fmt: skip
def test_moodles_worksheet(tmp_path, files):
    table = rows(classroom(tmp_path, *files), roster(tmp_path, MOODLE))
    assert [(row["id"], row["status"]) for row in table] == [("s111", "graded"), ("s222", "graded")]


def test_moodles_numbers_of_another_assignment_name_nobody(tmp_path):
    """Participant 12 is Ann in one assignment and Bob in another: where the names differ, the names count."""
    found = classroom(
        tmp_path, "Bob Ray_12_assignsubmission_file/lab01.ipynb", "Eve_13_assignsubmission_file/lab01.ipynb"
    )
    assert told(found, roster(tmp_path, MOODLE)) == [
        ("s111", "Ann Lee", "missing"),
        ("s222", "Bob Ray", "graded"),
        ("", "Eve", "flagged"),
    ]


def test_a_systems_number_is_no_students_id(tmp_path):
    found = classroom(tmp_path, "Eve_111_assignsubmission_file/lab01.ipynb")
    assert ("", "Eve", "flagged") in told(found, roster(tmp_path, PLAIN))


@pytest.mark.parametrize("files", [
    ("leeann_1230_456_lab01.ipynb", "raybob_LATE_1240_457_lab01-1.ipynb"),
    ("annl_lab01.ipynb", "bobr_lab01.ipynb"),
])  # fmt: skip
def test_canvas_gradebook(tmp_path, files):
    table = rows(classroom(tmp_path, *files), roster(tmp_path, CANVAS))
    assert [(row["id"], row["status"]) for row in table] == [("1230", "graded"), ("1240", "graded")]


def test_gradescope_names_and_numbers(tmp_path):
    (tmp_path / "class").mkdir()
    (tmp_path / "class/submission_metadata.yml").write_text(
        "---\nsubmission_9:\n  :submitters:\n  - :name: A. Lee\n    :sid: '111'\n"
    )
    table = rows(classroom(tmp_path, "submission_9/lab01.ipynb"), roster(tmp_path, PLAIN))
    assert (table[0]["id"], table[0]["student"]) == ("111", "A. Lee")


def test_what_nothing_decides_is_named_and_not_guessed(tmp_path):
    text = "id,name\n1,Ann Lee\n2,Ann Lee\n3,José Paz\n4,Jose Paz\n"
    found = classroom(tmp_path, "Ann Lee/lab01.ipynb", "José Paz/lab01.ipynb", "4/lab01.ipynb")
    table = [(row["id"], row["student"], row["status"], row["flags"]) for row in rows(found, roster(tmp_path, text))]
    assert table == [
        ("1", "Ann Lee 1", "missing", "may be 'Ann Lee'"),
        ("2", "Ann Lee 2", "missing", "may be 'Ann Lee'"),
        ("3", "Jos%C3%A9 Paz", "graded", ""),
        ("4", "4", "graded", ""),
        ("", "Ann Lee", "flagged", "may be lines 2, 3 of the roster"),
    ]


def test_two_submissions_of_one_line_are_both_flagged(tmp_path):
    found = classroom(tmp_path, "111/lab01.ipynb", "Ann Lee/lab01.ipynb", "bob/lab01.ipynb", "cy/lab01.ipynb")
    table = rows(found, roster(tmp_path, PLAIN))
    assert [(row["student"], row["flags"]) for row in table] == [
        ("111", "the same line of the roster as 'Ann Lee'"), ("Ann Lee", "the same line of the roster as '111'"), ("bob", ""), ("cy", ""),
    ]  # fmt: skip


def test_who_is_not_graded_yet_is_not_missing(tmp_path):
    found = classroom(tmp_path, "ann/lab01.ipynb", "bob/lab01.ipynb")
    table = Table(found, roster(tmp_path, PLAIN))
    assert [(row["student"], row["status"]) for row in table([])] == [("Cy Wu", "missing")]


def test_who_handed_in_earlier_is_not_missing(tmp_path):
    assert told(classroom(tmp_path, "ann/lab01.ipynb", "bob/lab01.ipynb"), roster(tmp_path, PLAIN), "Cy Wu")[2] == (
        "333",
        "Cy Wu",
        "graded",
    )


def test_a_file_that_has_another_row_now_loses_the_old_one(tmp_path):
    (first,) = classroom(tmp_path, "Ann Lee_1_assignsubmission_file/lab01.ipynb")
    both = classroom(tmp_path, "Ann Lee_2_assignsubmission_file/lab01.ipynb")
    before = rows([first], None)
    assert [row["student"] for row in Table(both)([*before, *rows(both, None)])] == ["Ann Lee_1", "Ann Lee_2"]


def test_a_name_that_is_a_formula_is_none_in_the_table(tmp_path):
    assert rows(classroom(tmp_path, "1/lab01.ipynb"), roster(tmp_path, "id,name\n1,=cmd()\n"))[0]["name"] == "'=cmd()"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "line 1: no column says who a student is; expected id, login, email, name.*'a', 'b'"),
        ("first name\nAnn\n", "line 1: no column says who"),
        ("", "line 1: no column .*there are none|line 1: no column .*there are ''"),
        ("id,name\n", "has no line with a student"),
        ("id,name\n1,Ann\n2,Bob,x\n", "line 3: 3 values, but there are 2 columns"),
        ("id,name\n1,Ann\n2,Bob\n1,Cy\n", "line 4, column 'id': '1' stands in line 2 too"),
        ("id,email\n1,a@x\n2,A@X\n", "line 3, column 'email': 'A@X' stands in line 2 too"),
        ("id,note\n1,\n,hello\n", "line 3: nothing in the columns 'id'"),
        ('id,name\n1,"Ann\n', "line 2: no table"),
        (b"PK\3\4", "is no CSV but a workbook or a zip; save it as CSV"),
        (b"\x81\x8d\xff", "is no text"),
        (b"x" * (6 * 2**20), "has 6.0 MB, more than 5"),
    ],
)
def test_a_wrong_roster_is_named_with_line_and_column(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        roster(tmp_path, text)


def test_a_roster_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        Roster(tmp_path / "none.csv")


# The command -----------------------------------------------------------------------------------------------------


def grade(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    code = "from optcourse.course.cli import main; main()"
    options = ["--lab", "tiny", "--labs", str(folder), "--output", str(folder / "out")]
    command = [sys.executable, "-c", code, "grade", str(folder / "class"), *options, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OPTCOURSE_SANDBOX": "limits"})


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graded")
    tiny_lab.write_lab(folder)
    classroom(folder, "Zoë/tiny.ipynb", "bob/tiny.ipynb", "tiny.ipynb", "__MACOSX/bob/._tiny.ipynb", lab="tiny")
    (folder / "students.csv").write_text("id,name\n1,Zoë\n2,Cy Wu\n3,bob\n", encoding="utf-8")
    return folder, grade(folder, "--roster", str(folder / "students.csv"))


def test_the_command_names_the_missing_and_what_was_left_out(graded):
    folder, run = graded
    assert run.returncode == 0, run.stderr
    table = [(row["id"], row["student"], row["status"], row["score"]) for row in read(folder / "out/status.csv")]
    assert table == [("1", "Zo%C3%AB", "unreadable", ""), ("2", "Cy Wu", "missing", ""), ("3", "bob", "unreadable", "")]
    left_out = [row["file"].rpartition("class/")[2] for row in read(folder / "out/left_out.csv")]
    assert left_out == ["__MACOSX", "tiny.ipynb"]
    assert "Zoë" in run.stdout
    assert "2 submissions: 2 unreadable; 1 missing" in run.stdout
    assert "left out, 1 in all" in run.stdout
    assert "tiny.ipynb: nothing says whose it is" in run.stdout


def test_one_student_by_number_or_name(graded):
    folder, _ = graded
    for text in ("Zoë", "Zo%C3%AB", "1"):
        run = grade(folder, "--roster", str(folder / "students.csv"), "--student", text)
        assert (run.returncode, "1 submissions: 1 unreadable" in run.stdout) == (0, True), run.stderr
    run = grade(folder, "--student", "nobody")
    assert (run.returncode, "no submission of 'nobody'" in run.stderr) == (2, True)
    assert "--student may be Zoë, bob" in " ".join(run.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timeout", "nan"], "nan is not in the range 1 to 86400 seconds"),
        (["--timeout", "0"], "0 is not in the range 1 to 86400 seconds"),
        (["--memory", "inf"], "inf is not in the range 0.5 to 1024 gigabytes"),
        (["--jobs", "0"], "0 is not in the range 1<=x<=256"),
        (["--roster", "none.csv"], "'--roster': none.csv cannot be read"),
        (["--output", "FILE/x"], "cannot be a folder"),
        (["other"], "other does not exist"),
        ([""], "'PATH...': the path is empty"),
        (["--output", "CLASS"], "holds the submissions"),
        (["--output", "CLASS/.."], "holds the submissions"),
        (["--lab", "Tiny"], "unknown lab 'Tiny' (did you mean tiny?); there are tiny in"),
    ],
)
def test_wrong_usage_names_the_option_the_value_and_the_range(graded, arguments, message):
    folder, _ = graded
    places = {"FILE": str(folder / "students.csv"), "CLASS": str(folder / "class")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    run = grade(folder, *arguments)
    assert run.returncode == 2
    assert message in " ".join(run.stderr.replace("│", " ").split()), run.stderr
    assert "Traceback" not in run.stderr


def test_a_class_without_the_lab_says_what_is_there_instead(tmp_path):
    tiny_lab.write_lab(tmp_path)
    for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
        (tmp_path / "class").mkdir(exist_ok=True)
        (tmp_path / "class" / name).touch()
    run = grade(tmp_path)
    assert run.returncode == 2
    assert (
        "holds no submission of tiny: expected STUDENT/tiny.ipynb or STUDENT_tiny.ipynb; there is a.txt, b.txt, c.txt and 1 more"
        in " ".join(run.stderr.split())
    )


def test_a_table_of_a_hundred_has_a_line_for_each(tmp_path, capsys):
    from optcourse.grading.commands import grade as commands

    with (tmp_path / "status.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, batch.COLUMNS)
        table.writeheader()
        for n in range(100):
            table.writerow(
                {
                    **dict.fromkeys(batch.COLUMNS, "1"),
                    "student": f"{'n' * 90}{n:02}",
                    "status": "flagged",
                    "flags": "f" * 500,
                }
            )
    commands._table(tmp_path, {f"{'n' * 90}{n:02}" for n in range(100)})
    lines = capsys.readouterr().out.splitlines()
    assert sum("flagged" in line and "…" in line for line in lines) == 100
    assert len(lines) < 110
    assert max(map(len, lines)) <= max(160, len(str(tmp_path)) + 70)
    assert readable("n") == "n"


def test_nothing_of_the_grader_s_own_is_graded_and_no_file_is_forgotten(tmp_path):
    tiny_lab.write_lab(tmp_path)
    home = tmp_path / "class" / "Zoë"
    home.mkdir(parents=True)
    (home / "tiny.ipynb").write_bytes(tiny_lab.raw(tiny_lab.notebook()))
    (home / "helper.py").write_text("x = 1")
    code = "from optcourse.course.cli import main; main()"
    command = [sys.executable, "-c", code, "grade", ".", "--lab", "tiny", "--labs", str(tmp_path)]
    for _ in range(2):  # the output lies where the submissions are
        run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "class")
        assert run.returncode == 0, run.stderr
    output = tmp_path / "class" / "build" / "grades"
    status, left_out = ((output / name).read_text(encoding="utf-8") for name in ("status.csv", "left_out.csv"))
    assert [line.partition(",")[0] for line in status.splitlines()] == ["student", "Zo%C3%AB"]
    beside = "Zoë/helper.py,\"another file of 'Zoë', beside the one that counts\""
    assert left_out.splitlines() == ["file,reason", beside]
    assert "tiny: Zoë" in (output / "feedback" / "Zo%C3%AB" / "tiny.html").read_text(encoding="utf-8")
