"""Hostile and odd classes: each layout has exactly these rows, and every file is in one row or named as left out."""

import os
import stat
import struct
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcourse.grading.collect import LeftOut, Submission, names, places, readable, survey

NFC, NFD = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
D2L = "123-456 - Ann Lee - {}"


@dataclass(frozen=True)
class Class:
    """Files by path, or what makes them; ``rows``: student to the path that counts, or "" and a word of the reason."""

    name: str
    files: tuple[str, ...]
    rows: dict[str, str]
    left_out: tuple[str, ...] = ()
    flags: dict[str, str] | None = None
    zipped: bool = False
    make: Callable[[Path], object] | None = None


def folders(name: str, *files: str, rows: dict[str, str], **more) -> Class:
    return Class(name, files, rows, **more)


def zipped(name: str, *files: str, rows: dict[str, str], **more) -> Class:
    return Class(name, files, rows, zipped=True, **more)


MOODLE = "Ann Lee_111_assignsubmission_"
KINDS = [
    folders("Moodle", f"{MOODLE}file/lab01.ipynb", "Bob_112_assignsubmission_file/lab01.ipynb",
            rows={"Ann Lee": f"{MOODLE}file/lab01.ipynb", "Bob": "Bob_112_assignsubmission_file/lab01.ipynb"}),
    folders("Moodle, with online text", f"{MOODLE}file/lab01.ipynb", f"{MOODLE}onlinetext/onlinetext.html",
            rows={"Ann Lee": f"{MOODLE}file/lab01.ipynb"}),
    folders("Moodle, online text only", f"{MOODLE}onlinetext/onlinetext.html", "Bob_112_assignsubmission_file/lab01.ipynb",
            rows={"Ann Lee": "!not a notebook of lab01: 'onlinetext.html'", "Bob": "Bob_112_assignsubmission_file/lab01.ipynb"}),
    zipped("Moodle, flat", f"{MOODLE}file_lab01.ipynb", f"{MOODLE}onlinetext_onlinetext.html", "Bob_112_assignsubmission_file_my.ipynb",
           rows={"Ann Lee": f"{MOODLE}file_lab01.ipynb", "Bob": "Bob_112_assignsubmission_file_my.ipynb"},
           flags={"Bob": "renamed file 'my.ipynb'"}),
    folders("Moodle, groups", "Group A_12_assignsubmission_file/lab01.ipynb", "Default group_assignsubmission_file/lab01.ipynb",
            rows={"Group A": "Group A_12_assignsubmission_file/lab01.ipynb", "Default group": "Default group_assignsubmission_file/lab01.ipynb"}),
    folders("Moodle, without names", "Participant_12_assignsubmission_file/lab01.ipynb", "Participant_13_assignsubmission_file/lab01.ipynb",
            rows={f"Participant_{n}": f"Participant_{n}_assignsubmission_file/lab01.ipynb" for n in (12, 13)}),
    folders("Moodle, namesakes", f"{MOODLE}file/lab01.ipynb", "Ann Lee_222_assignsubmission_file/lab01.ipynb",
            rows={"Ann Lee_111": f"{MOODLE}file/lab01.ipynb", "Ann Lee_222": "Ann Lee_222_assignsubmission_file/lab01.ipynb"}),
    folders("Moodle, a folder within", f"{MOODLE}file/work/lab01.ipynb", rows={"Ann Lee": f"{MOODLE}file/work/lab01.ipynb"}),
    zipped("Canvas", "leeann_LATE_123_456_lab01-1.ipynb", "raybob_124_457_lab01.ipynb", "cyd_125_text.html",
           rows={"leeann": "leeann_LATE_123_456_lab01-1.ipynb", "raybob": "raybob_124_457_lab01.ipynb", "cyd": "!'text.html'"}),
    zipped("Canvas, two files of one student", "leeann_123_456_lab01.ipynb", "leeann_LATE_123_457_lab01-1.ipynb",
           rows={"leeann": "leeann_LATE_123_457_lab01-1.ipynb"}, flags={"leeann": "several files: "}),
    zipped("Canvas, namesakes", "leeann_123_456_lab01.ipynb", "leeann_124_457_lab01.ipynb",
           rows={"leeann_123": "leeann_123_456_lab01.ipynb", "leeann_124": "leeann_124_457_lab01.ipynb"}),
    zipped("Canvas, without names", "anon_aB3dE_456_lab01.ipynb", "LATE_anon_xY9zW_457_lab01.ipynb",
           rows={"anon_aB3dE": "anon_aB3dE_456_lab01.ipynb", "anon_xY9zW": "LATE_anon_xY9zW_457_lab01.ipynb"}),
    zipped("Blackboard, the last attempt counts", "Lab 1_annlee_attempt_2026-01-02-03-04-05_lab01.ipynb",
           "Lab 1_annlee_attempt_2026-01-02-03-04-05.txt", "Lab 1_annlee_attempt_2026-01-09-03-04-05_mine.ipynb",
           "Lab 1_annlee_attempt_2026-01-09-03-04-05_Lab_1.ipynb", "Lab 1_bob_attempt_2026-01-02-03-04-05.txt",
           rows={"annlee": "Lab 1_annlee_attempt_2026-01-09-03-04-05_Lab_1.ipynb", "bob": "!not a notebook of lab01"}),
    zipped("Blackboard, names with a line", *(f"lab01_{who}_lee_attempt_2026-01-02-03-04-05_lab01.ipynb" for who in ("ann", "bob")),
           rows={f"lab01_{who}_lee": f"lab01_{who}_lee_attempt_2026-01-02-03-04-05_lab01.ipynb" for who in ("ann", "bob")}),
    folders("D2L, the newest folder counts", *(f"{D2L.format(when)}/lab01.ipynb" for when in ("Oct 2, 2026 1159 AM", "Oct 2, 2026 1201 AM", "Sep 30, 2026 1159 PM")),
            "index.html", rows={"Ann Lee": f"{D2L.format('Oct 2, 2026 1159 AM')}/lab01.ipynb"}, left_out=("index.html",)),
    zipped("D2L, flat", f"{D2L.format('2 January, 2026 1234 PM')} - lab01.ipynb", "123-457 - Bob Ray - Jan 3, 2026 900 AM - my work.ipynb",
           rows={"Ann Lee": f"{D2L.format('2 January, 2026 1234 PM')} - lab01.ipynb", "Bob Ray": "123-457 - Bob Ray - Jan 3, 2026 900 AM - my work.ipynb"}),
    folders("nbgrader's exchange, inbound", *(f"ann+lab01+2026-01-0{d} 03:04:05.000000 UTC+Ab-_9/lab01.ipynb" for d in (2, 3)), "bob+lab02+2026-01-02 03:04:05 UTC/lab02.ipynb",
            rows={"ann": "ann+lab01+2026-01-03 03:04:05.000000 UTC+Ab-_9/lab01.ipynb"}, left_out=("bob+lab02+2026-01-02 03:04:05 UTC/lab02.ipynb",)),
    folders("nbgrader, submitted", "submitted/ann/lab01/lab01.ipynb", "submitted/ann/lab01/timestamp.txt", "submitted/bob/lab02/lab02.ipynb",
            rows={"ann": "submitted/ann/lab01/lab01.ipynb", "bob": "!not a notebook of lab01: 'lab02.ipynb'"}),
    folders("Google Classroom", "lab01 - Ann Lee.ipynb", "Copy of lab01 - Bob Ray.ipynb", "Cy - Copy of lab01.ipynb", "Di Wu - lab01.ipynb",
            rows={"Ann Lee": "lab01 - Ann Lee.ipynb", "Bob Ray": "Copy of lab01 - Bob Ray.ipynb", "Cy": "Cy - Copy of lab01.ipynb", "Di Wu": "Di Wu - lab01.ipynb"},
            flags={"Bob Ray": "renamed", "Cy": "renamed"}),
    folders("GitHub Classroom", "lab01-submissions/lab01-annlee/lab01.ipynb", "lab01-submissions/lab01-bob/README.md", "lab01-submissions/lab01-annlee/.git/HEAD",
            rows={"annlee": "lab01-submissions/lab01-annlee/lab01.ipynb", "bob": "!'README.md'"}),
    folders("Gradescope", "assignment_9_export/submission_123/lab01.ipynb", "assignment_9_export/submission_124/lab01.ipynb", "assignment_9_export/submission_metadata.yml",
            rows={"Ann Lee": "assignment_9_export/submission_123/lab01.ipynb", "submission_124": "assignment_9_export/submission_124/lab01.ipynb"},
            left_out=("assignment_9_export/submission_metadata.yml",),
            make=lambda root: (root / "assignment_9_export/submission_metadata.yml").write_text(
                "---\nsubmission_123:\n  :submitters:\n  - :name: Ann Lee\n    :sid: '111'\n  :created_at: 2026\n  :history:\n  - :name: Eve\n")),
    zipped("backslashes of PowerShell", "class\\ann\\lab01.ipynb", "class\\bob\\lab01.ipynb",
           rows={"ann": "class\\ann\\lab01.ipynb", "bob": "class\\bob\\lab01.ipynb"}),
    zipped("macOS", "class/ann/lab01.ipynb", "class/ann/._lab01.ipynb", "class/.DS_Store", "__MACOSX/class/ann/._lab01.ipynb", "__MACOSX/._class", "class/bob/lab01.ipynb",
           rows={"ann": "class/ann/lab01.ipynb", "bob": "class/bob/lab01.ipynb"}, left_out=("class/.DS_Store", "__MACOSX/class/ann/._lab01.ipynb", "__MACOSX/._class")),
    folders("AppleDouble, flat", "ann_lab01.ipynb", "._ann_lab01.ipynb", rows={"ann": "ann_lab01.ipynb"}, left_out=("._ann_lab01.ipynb",)),
    folders("é composed and decomposed", f"{NFC}/lab01.ipynb", f"{NFD}/lab01 (1).ipynb", rows={NFC: f"{NFC}/lab01.ipynb"}, flags={NFC: "several files"}),
    folders("capitals only", "Ann/lab01.ipynb", "ann/lab01.ipynb", "bob/lab01.ipynb",
            rows={"Ann~*": "Ann/lab01.ipynb", "ann~*": "ann/lab01.ipynb", "bob": "bob/lab01.ipynb"}, flags={"Ann~*": "a name much like 'ann'", "ann~*": "a name much like 'Ann'"}),
    folders("a space before", " aa/lab01.ipynb", "aa/lab01.ipynb", rows={" aa": " aa/lab01.ipynb", "aa": "aa/lab01.ipynb"}),
    folders("dots and spaces at the end", "aa/lab01.ipynb", "aa./lab01.ipynb", "aa /lab01.ipynb", rows={"aa": "aa/lab01.ipynb", "aa.": "aa./lab01.ipynb", "aa ": "aa /lab01.ipynb"}),
    folders("an invisible letter", "ann/lab01.ipynb", "a\u200bnn/lab01.ipynb", rows={"ann": "ann/lab01.ipynb", "a\ufffdnn": "a\u200bnn/lab01.ipynb"}),
    folders("devices of Windows", "CON/lab01.ipynb", "nul.x/lab01.ipynb", "Con/lab01.ipynb", rows={"CON~*": "CON/lab01.ipynb", "Con~*": "Con/lab01.ipynb", "nul.x": "nul.x/lab01.ipynb"}),
    folders("a stray notebook beside the students", "ann/lab01.ipynb", "bob/lab01.ipynb", "cyd/lab01.ipynb", "lab01.ipynb",
            rows={s: f"{s}/lab01.ipynb" for s in ("ann", "bob", "cyd")}, left_out=("lab01.ipynb",)),
    folders("a stray notebook, one folder around", "class/ann/lab01.ipynb", "class/bob/lab01.ipynb", "class/lab01.ipynb", "lab01.ipynb",
            rows={s: f"class/{s}/lab01.ipynb" for s in ("ann", "bob")}, left_out=("lab01.ipynb", "class/lab01.ipynb")),
    folders("the lab's own folder beside the students", "ann/lab01.ipynb", "bob/lab01.ipynb", "lab01/lab01.ipynb", "lab02/lab02.ipynb",
            rows={"ann": "ann/lab01.ipynb", "bob": "bob/lab01.ipynb"}, left_out=("lab01/lab01.ipynb", "lab02/lab02.ipynb")),
    folders("all labs of a course", "lab01/ann/lab01.ipynb", "lab01/bob/lab01.ipynb", "lab02/ann/lab02.ipynb",
            rows={"ann": "lab01/ann/lab01.ipynb", "bob": "lab01/bob/lab01.ipynb"}, left_out=("lab02/ann/lab02.ipynb",)),
    folders("sections", "A/ann/lab01.ipynb", "A/bob/lab01.ipynb", "B/ann/lab01.ipynb", "B/cy/lab01.py",
            rows={"A/ann": "A/ann/lab01.ipynb", "bob": "A/bob/lab01.ipynb", "B/ann": "B/ann/lab01.ipynb", "cy": "!'lab01.py'"}),
    folders("nobody hands in for somebody else", "ann/lab01.ipynb", "aaa/ann/lab01.ipynb", "eve/ann_lab01.ipynb", "eve/ann/lab01.ipynb", "eve/bob/lab01.ipynb", "eve/Ann_1_assignsubmission_file/lab01.ipynb",
            rows={"ann": "ann/lab01.ipynb", "aaa": "aaa/ann/lab01.ipynb", "eve": "eve/bob/lab01.ipynb"}),
    folders("names in the file", "ann/ann_lee_lab01.ipynb", "bob/lab01_bob.ipynb", "cy/Lab01 - Cy.ipynb", "di/Lab 1.ipynb", "ed/mylab.ipynb",
            rows={"ann": "ann/ann_lee_lab01.ipynb", "bob": "bob/lab01_bob.ipynb", "cy": "cy/Lab01 - Cy.ipynb", "di": "di/Lab 1.ipynb", "ed": "ed/mylab.ipynb"},
            flags={s: "renamed file" for s in ("ann", "bob", "cy", "di", "ed")}),
    folders("flat, other names", "Ann Lee - lab01.ipynb", "lab01_bob.ipynb", "Lab 1 - Cy.ipynb", "ann.ipynb", "di_lab02.ipynb", "lab01 (1).ipynb", "ed_lab01.pdf", "notes.txt",
            rows={"Ann Lee": "Ann Lee - lab01.ipynb", "bob": "lab01_bob.ipynb", "Cy": "Lab 1 - Cy.ipynb", "ed": "!'ed_lab01.pdf'"},
            left_out=("ann.ipynb", "di_lab02.ipynb", "lab01 (1).ipynb", "notes.txt")),
    folders("something else than a notebook", "ann/lab01.ipynb", "bob/lab01.py", "cy/lab01.html", "di/lab01.pdf", "ed/lab01.rar", "flo/lab01.7z", "gus/lab01",
            rows={"ann": "ann/lab01.ipynb", "bob": "!'lab01.py'", "cy": "!'lab01.html'", "di": "!'lab01.pdf'", "ed": "!'lab01.rar'", "flo": "!'lab01.7z'", "gus": "!'lab01'"}),
    folders("several notebooks of any name", "ann/lab01.ipynb", "bob/a.ipynb", "bob/b.ipynb", "cy/lab02.ipynb", rows={"ann": "ann/lab01.ipynb", "bob": "!several notebooks, and none is called lab01", "cy": "!not a notebook of lab01"}),
    folders("saved as text by a browser", "ann/lab01.ipynb.txt", "bob/lab01.ipynb.json", "cy/lab01.ipynb", rows={"ann": "ann/lab01.ipynb.txt", "bob": "bob/lab01.ipynb.json", "cy": "cy/lab01.ipynb"}, flags={"ann": "renamed", "bob": "renamed"}),
    folders("an empty folder", "ann/lab01.ipynb", rows={"ann": "ann/lab01.ipynb", "bob": "!no work in the folder"}, make=lambda root: (root / "bob").mkdir()),
    folders("only leftovers of an editor", "ann/lab01.ipynb", "bob/.ipynb_checkpoints/lab01-checkpoint.ipynb", rows={"ann": "ann/lab01.ipynb", "bob": "!no work in the folder"}),
    folders("a pipe", "ann/lab01.ipynb", "bob/notes", rows={"ann": "ann/lab01.ipynb", "bob": "!pipe"}, make=lambda root: os.mkfifo(root / "bob/lab01.ipynb")),
    folders("a link to a neighbour", "ann/lab01.ipynb", "bob/notes", rows={"ann": "ann/lab01.ipynb", "bob": "!a link"}, make=lambda root: (root / "bob/lab01.ipynb").symlink_to(root / "ann/lab01.ipynb")),
    folders("a folder that is a link", "ann/lab01.ipynb", rows={"ann": "ann/lab01.ipynb", "eve": "!a link"}, make=lambda root: (root / "eve").symlink_to(root / "ann")),
    folders("a link in a circle", "ann/lab01.ipynb", "eve/notes", rows={"ann": "ann/lab01.ipynb", "eve": "!a link"}, make=lambda root: (root / "eve/up").symlink_to(root)),
    folders("a hard link to a neighbour", "ann/lab01.ipynb", "bob/notes", rows={"ann": "ann/lab01.ipynb", "bob": "bob/lab01.ipynb"}, flags={"ann": "hard link", "bob": "hard link: it is one and the same with the file 'ann/lab01.ipynb'"},
            make=lambda root: os.link(root / "ann/lab01.ipynb", root / "bob/lab01.ipynb")),
    folders("a folder called as a notebook", "ann/lab01.ipynb", "bob/lab01.ipynb/x", rows={"ann": "ann/lab01.ipynb", "bob": "!'x'"}),
    folders("deep folders", "ann/lab01.ipynb", "eve/" + "d/" * 40 + "lab01.ipynb", rows={"ann": "ann/lab01.ipynb", "eve": "!below 12 folders"}),
    zipped("members out of the archive", "ann/lab01.ipynb", "../../bob_lab01.ipynb", "/etc/lab01.ipynb", "C:/dan/lab01.ipynb", "eve/../../lab01.ipynb", "../ann/lab01.ipynb",
           rows={"ann": "ann/lab01.ipynb", "bob": "!outside", "etc": "!outside", "dan": "!outside", "eve": "!outside"}),
    zipped("the same member twice", "ann/lab01.ipynb", "ann/lab01.ipynb", "bob/lab01.ipynb", rows={"ann": "ann/lab01.ipynb", "bob": "bob/lab01.ipynb"}, flags={"ann": "several files"}),
    zipped("a member with a zero in its name", "ann/lab01.ipynb", "ann\0x/lab01.ipynb", rows={"ann": "ann/lab01.ipynb", "ann\ufffdx": "ann\0x/lab01.ipynb"}),
    zipped("a backslash in a name, elsewhere", "ann/lab01.ipynb", "a\\b/lab01.ipynb", rows={"ann": "ann/lab01.ipynb", "a\\b": "a\\b/lab01.ipynb"}),
    zipped("a formula for a name", "=1+1/lab01.ipynb", "@x/lab01.ipynb", "%41/lab01.ipynb", rows={"=1+1": "=1+1/lab01.ipynb", "@x": "@x/lab01.ipynb", "%41": "%41/lab01.ipynb"}),
    folders("long names", f"{'x' * 200}a/lab01.ipynb", f"{'x' * 200}b/lab01.ipynb", rows={f"{'x' * 100}~{names._digest('x' * 200 + end)}": f"{'x' * 200}{end}/lab01.ipynb" for end in "ab"}),
    folders("a name like that of a row", "Ann Lee_1_assignsubmission_file/lab01.ipynb", "Ann Lee_2_assignsubmission_file/lab01.ipynb", "Ann Lee_1/lab01.ipynb",
            rows={"Ann Lee_1": "Ann Lee_1/lab01.ipynb", "Ann Lee_1~*": "Ann Lee_1_assignsubmission_file/lab01.ipynb", "Ann Lee_2": "Ann Lee_2_assignsubmission_file/lab01.ipynb"}),
]  # fmt: skip


def build(case: Class, root: Path) -> Path:
    """The class on the disk, each file with its own path in it."""
    if case.zipped:
        with zipfile.ZipFile(root / "class.zip", "w") as archive:
            for number, name in enumerate(case.files):
                info = zipfile.ZipInfo("x" * len(name))
                info.filename = info.orig_filename = name  # as it is: nothing cut off
                archive.writestr(info, f"{number} {name}")
        return root / "class.zip"
    for name in case.files:
        path = root / "class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    if case.make:
        case.make(root / "class")
    return root / "class"


def inside(origin: str, path: Path) -> str:
    """Where a file lay in the class."""
    return origin.removeprefix(f"{path}:").removeprefix(f"{path}/")


def title(row: Submission) -> str:
    """The row's name as a person reads it; what tells namesakes apart at the end is some number."""
    name, mark, _ = row.student.rpartition("~")
    return f"{readable(name)}~*" if mark and len(name) < 100 else readable(row.student)


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_everyone_has_a_row(case, tmp_path):
    path = build(case, tmp_path)
    found = survey([path], "lab01")
    rows = {title(row): row for row in found.submissions}
    assert len(rows) == len(found.submissions)
    assert len({row.student.lower() for row in found.submissions}) == len(rows)
    got = {name: inside(row.origin, path) if row.raw is not None else f"!{row.refused}" for name, row in rows.items()}
    assert got.keys() == case.rows.keys(), got
    for name, right in case.rows.items():
        assert right[1:] in got[name] if right.startswith("!") else got[name] == right, got
        flags, said = "; ".join(rows[name].flags), (case.flags or {}).get(name, "")
        assert said in flags
        if case.flags is not None and not said:
            assert flags == ""
    left = [inside(file, path) for file, *_ in found.left_out]
    assert sorted(left) == sorted(case.left_out), found.left_out
    assert all(reason for _, reason, _ in found.left_out)
    everything = Counter(row.origin for row in found.submissions if "no work" not in row.refused)
    everything.update(other for row in found.submissions for other in row.also)
    everything.update(file for file, *_ in found.left_out)
    if case.name not in ("the same member twice",):
        assert max(everything.values()) == 1
    if case.make is None and not any("/." in name for name in case.files) and case.name != "deep folders":
        assert everything.total() == len(case.files)


def test_a_class_has_at_least_forty_hostile_kinds():
    assert len({case.name for case in KINDS}) == len(KINDS) >= 40


# Archives that are odd below the names ---------------------------------------------------------------------------


def archive(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    return path


def raw_named(path: Path, name: bytes, flag: int = 0, system: int = 0) -> Path:
    """A zip with a member whose name has these bytes, and ann's."""
    archive(path, ("x" * len(name), b"{}"), ("ann/lab01.ipynb", b"{}"))
    data = path.read_bytes().replace(b"x" * len(name), name)
    for signature, place, made_by in ((b"PK\3\4", 6, None), (b"PK\1\2", 8, 5)):
        start = data.index(signature)
        data = data[: start + place] + struct.pack("<H", flag) + data[start + place + 2 :]
        if made_by:
            data = data[: start + made_by] + bytes([system]) + data[start + made_by + 1 :]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("encoding", "flag", "system"),
    [("cp437", 0, 0), ("cp850", 0, 0), ("utf-8", 0x800, 0), ("utf-8", 0, 3), ("utf-8", 0, 0)],
)
def test_letters_of_windows_and_macos(tmp_path, encoding, flag, system):
    path = raw_named(tmp_path / "class.zip", "Zoë/lab01.ipynb".encode(encoding), flag, system)
    assert [readable(row.student) for row in survey([path], "lab01").submissions] == ["Zoë", "ann"]


def test_a_list_of_members_that_is_no_text(tmp_path):
    with pytest.raises(ValueError, match="the zip's list of files is damaged"):
        survey([raw_named(tmp_path / "class.zip", b"Zo\xff/lab01.ipynb", 0x800)], "lab01")


@pytest.mark.parametrize(
    ("flag", "method", "why"), [(1, 8, "encrypted"), (0, 14, "unusual way"), (0, 99, "unusual way")]
)
def test_members_that_cannot_be_unpacked(tmp_path, flag, method, why):
    path = archive(tmp_path / "class.zip", ("bob/lab01.ipynb", b"{}"), ("ann/lab01.ipynb", b"{}"))
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        struct.pack_into("<HH", data, data.index(signature) + place, flag, method)
    path.write_bytes(data)
    ann, bob = survey([path], "lab01").submissions
    assert (ann.raw, bob.raw, why in bob.refused) == (b"{}", None, True)


def handed_in(tmp_path: Path, content: bytes, name: str = "lab01.zip") -> Submission:
    """Bob's row, who handed in this archive."""
    for student, file, data in (("ann", "lab01.ipynb", b"{}"), ("bob", name, content)):
        (tmp_path / "class" / student).mkdir(parents=True)
        (tmp_path / "class" / student / file).write_bytes(data)
    _, bob = survey([tmp_path / "class"], "lab01").submissions
    return bob


def test_a_zip_in_place_of_a_notebook_is_opened_once(tmp_path):
    inner = archive(tmp_path / "inner.zip", ("work/lab01.ipynb", b"mine"), ("work/data.csv", b"1"))
    bob = handed_in(tmp_path, inner.read_bytes())
    assert (bob.raw, bob.flags) == (b"mine", ("in an archive",))
    outer = archive(tmp_path / "outer.zip", ("inner.zip", inner.read_bytes()))
    assert (
        "no notebook of lab01 in the archive, but 'inner.zip'" in handed_in(tmp_path / "b", outer.read_bytes()).refused
    )


def test_a_zip_in_place_of_a_notebook_with_a_system_name(tmp_path):
    inner = archive(tmp_path / "inner.zip", ("lab01.ipynb", b"mine"))
    names_of = ("leeann_123_456_lab01.zip", f"{MOODLE}file_x.zip", "bob_lab01.zip")
    (tmp_path / "class").mkdir()
    for name in names_of:
        (tmp_path / "class" / name).write_bytes(inner.read_bytes())
    (tmp_path / "class/cy_lab01.ipynb").write_text("{}")
    rows = {row.student: row.raw for row in survey([tmp_path / "class"], "lab01").submissions}
    assert rows == {"leeann": b"mine", "Ann Lee": b"mine", "bob": b"mine", "cy": b"{}"}


def test_archives_that_a_student_should_not_hand_in(tmp_path):
    many = archive(tmp_path / "many.zip", *((f"{'x' * 200}{n}", b"") for n in range(5000))).read_bytes()
    good = archive(tmp_path / "good.zip", ("lab01.ipynb", b"{}")).read_bytes()
    link = zipfile.ZipInfo("lab01.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    linked = archive(tmp_path / "link.zip", (link, b"/etc/passwd")).read_bytes()
    for content, why in (
        (many, "too many members"),
        (good[:-30], "is no whole zip"),
        (b"Rar!\x1a\7\0", "is no whole zip"),
        (b"", "is no whole zip"),
        (good.replace(b"PK\1\2", b"XX\1\2"), "is damaged"),
        (b"\xff" * 40 + good[40:], "cannot be read"),
        (bytes(places.MAX_NESTED + 1), "more than 20 MB"),
        (linked, "the file is a link"),
    ):
        bob = handed_in(tmp_path / why.replace(" ", "_") / str(len(content)), content)
        assert bob.raw is None
        assert why in bob.refused, (why, bob.refused)
    bomb = archive(tmp_path / "bomb.zip", ("lab01.ipynb", bytes(10 * places.MAX_BYTES))).read_bytes()
    assert len(handed_in(tmp_path / "bomb", bomb).raw or b"") == places.MAX_BYTES + 1


def test_a_folder_that_cannot_be_opened_is_a_students_trouble(tmp_path, monkeypatch):
    for student in ("ann", "bob"):
        (tmp_path / student).mkdir()
        (tmp_path / student / "lab01.ipynb").write_text("{}")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "bob":
            raise PermissionError(13, "no")
        return scandir(path)

    monkeypatch.setattr(places.os, "scandir", refusing)
    ann, bob = survey([tmp_path], "lab01").submissions
    assert (ann.raw, bob.raw, bob.refused) == (
        b"{}",
        None,
        "the file is in a folder that cannot be opened (PermissionError)",
    )


def test_ten_thousand_files_are_read_once_each(tmp_path, monkeypatch):
    path = archive(tmp_path / "class.zip", *((f"class/s{n:05}/lab01.ipynb", b"{}") for n in range(10_000)))
    opened = []
    init = zipfile.ZipFile.__init__
    monkeypatch.setattr(zipfile.ZipFile, "__init__", lambda self, *a, **k: (opened.append(1), init(self, *a, **k))[1])
    found = survey([path], "lab01")
    assert (len(found.submissions), len(found.left_out), len(opened)) == (10_000, 0, 1)


def test_what_is_written_into_a_class_folder_is_no_submission(tmp_path):
    for where in ("ann/lab01.ipynb", "bob/lab01.ipynb", "grades/autograded/ann/lab01/lab01.ipynb"):
        (tmp_path / where).parent.mkdir(parents=True)
        (tmp_path / where).write_text("{}")
    found = survey([tmp_path], "lab01", skip=tmp_path / "grades")
    assert [row.student for row in found.submissions] == ["ann", "bob"]


# Any tree --------------------------------------------------------------------------------------------------------

WHO = st.sampled_from(["ann", "Ann", " ann", "ann.", "bob", NFC, NFD, "Ann Lee_1_assignsubmission_file", "lab01", "lab02", "con",
                       "lab01-cy", "A", "B", ".git", "__MACOSX", "submission_1", D2L.format("Jan 2, 2026 1234 PM"), "ann+lab01+2026-01-02"])  # fmt: skip
FILE = st.sampled_from(["lab01.ipynb", "lab01 (1).ipynb", "lab02.ipynb", "x.ipynb", "lab01.py", "._lab01.ipynb", "ann_lab01.ipynb",
                        "lab01_bob.ipynb", "leeann_123_456_lab01.ipynb", "notes", "lab01.zip", "lab01_ann_attempt_2026-01-02-03-04-05.txt"])  # fmt: skip


@given(st.lists(st.tuples(st.lists(WHO, max_size=3), FILE), max_size=12, unique_by=str), st.booleans())
def test_every_file_is_in_one_row_or_left_out(tmp_path_factory, tree, around):
    root = tmp_path_factory.mktemp("class")
    written = {"/".join(("class", *folders, name) if around else (*folders, name)) for folders, name in tree}
    with zipfile.ZipFile(root / "class.zip", "w") as made:
        for name in ("sure/lab01.ipynb", *written):
            made.writestr(name, name)
    found = survey([root / "class.zip"], "lab01")
    rows, left = found.submissions, found.left_out
    assert len({row.student.lower() for row in rows}) == len(rows)
    everything = [
        *(row.origin for row in rows),
        *(also for row in rows for also in row.also),
        *(file for file, *_ in left),
    ]
    assert sorted(everything) == sorted(f"{root}/class.zip:{name}" for name in {"sure/lab01.ipynb", *written})
    assert all(isinstance(out, LeftOut) and out.reason for out in left)
    for row in rows:
        assert (row.raw is None) == bool(row.refused)
        assert names.safe(row.student.replace("%", "")) == row.student.replace("%", "") or "%" in row.student
