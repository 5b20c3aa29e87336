"""Which files are whose: folders, flat files, archives, renamings, links, odd names."""

import os
import stat
import zipfile
from pathlib import Path

import pytest

from optcourse.grading.collect import find
from optcourse.grading.submission import MAX_BYTES


def put(folder: Path, *names: str) -> Path:
    """Files that hold their own names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def found(*paths: Path) -> dict[str, str | None]:
    """Student to the file that counts."""
    return {s.student: s.raw.decode() if s.raw is not None else None for s in find(list(paths), "lab01")}


def test_a_folder_for_each_student(tmp_path):
    put(tmp_path, "ann/lab01.ipynb", "ann/lab02.ipynb", "bob/lab01/lab01.ipynb", "notes.txt", "lab01.ipynb")
    assert found(tmp_path) == {"ann": "ann/lab01.ipynb", "bob": "bob/lab01/lab01.ipynb"}
    assert all(s.flags == () for s in find([tmp_path], "lab01"))


def test_flat_files(tmp_path):
    put(tmp_path, "ann_lab01.ipynb", "b_o_b_lab01.ipynb", "ann_lab02.ipynb", "ann_lab011.ipynb")
    assert found(tmp_path) == {"ann": "ann_lab01.ipynb", "b_o_b": "b_o_b_lab01.ipynb"}


def test_folders_around_the_class(tmp_path):
    put(tmp_path / "a", "week 1/class/ann/lab01.ipynb", "week 1/class/bob/lab01.ipynb")
    put(tmp_path / "b", "class/ann_lab01.ipynb", "class/bob_lab01.ipynb")
    put(tmp_path / "c", "class/ann/lab01/lab01.ipynb")
    assert list(found(tmp_path / "a")) == list(found(tmp_path / "b")) == ["ann", "bob"]
    assert list(found(tmp_path / "c")) == ["ann"]


@pytest.mark.parametrize(
    "name",
    [
        "lab01 (1)",
        "lab01(2)",
        "Copy of lab01",
        "lab01-copy1",
        "lab01_final",
        "LAB01",
        "lab01 - Copy",
        "lab01-1",
        "lab01_v2",
    ],
)
def test_renamed_files_are_recognized_and_flagged(tmp_path, name):
    put(tmp_path, f"ann/{name}.ipynb")
    (submission,) = find([tmp_path], "lab01")
    assert (submission.student, submission.flags) == ("ann", (f"renamed file '{name}.ipynb'",))


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("Ann Lee_12345_assignsubmission_file_/lab01.ipynb", "Ann Lee"),
        ("Ann Lee_12345_assignsubmission_file_lab01.ipynb", "Ann Lee"),
        ("leeann_12345_67890_lab01.ipynb", "leeann"),
        ("leeann_LATE_12345_67890_lab01-2.ipynb", "leeann"),
    ],
)
def test_names_of_learning_management_systems(tmp_path, name, student):
    assert list(found(put(tmp_path, name))) == [student]


def test_nobody_hands_in_for_somebody_else(tmp_path):
    put(tmp_path, "ann/lab01.ipynb", "aaa/ann/lab01.ipynb", "eve/ann_lab01.ipynb", "eve/ann/lab01.ipynb")
    students = {s.student: s for s in find([tmp_path], "lab01")}
    assert students.keys() == {"ann", "aaa", "eve"}
    assert (students["ann"].raw, students["ann"].flags) == (b"ann/lab01.ipynb", ())


def test_of_several_files_the_exact_name_counts(tmp_path):
    put(tmp_path, "ann/lab01 (2).ipynb", "ann/lab01.ipynb", "ann/old/lab01.ipynb")
    (submission,) = find([tmp_path], "lab01")
    assert (submission.raw, submission.flags) == (
        b"ann/lab01.ipynb",
        ("several files: 'ann/lab01.ipynb' counts, not 'ann/old/lab01.ipynb', 'ann/lab01 (2).ipynb'",),
    )


def test_a_student_without_the_notebook_gets_a_status(tmp_path):
    put(tmp_path, "ann/lab01.ipynb", "bob/solution.py")
    ann, bob = find([tmp_path], "lab01")
    assert (ann.raw, bob.student, bob.raw) == (b"ann/lab01.ipynb", "bob", None)
    assert "not a notebook of lab01" in bob.refused


def test_links_are_refused(tmp_path):
    put(tmp_path, "class/ann/lab01.ipynb", "secret/lab01.ipynb")
    for student in ("eve", "mal"):
        (tmp_path / "class" / student).mkdir()
    (tmp_path / "class/eve/lab01.ipynb").symlink_to(tmp_path / "class/ann/lab01.ipynb")
    (tmp_path / "class/mal/lab01.ipynb").symlink_to("/etc/passwd")
    (tmp_path / "class/zed").symlink_to(tmp_path / "secret")
    assert found(tmp_path / "class") == {"ann": "class/ann/lab01.ipynb", "eve": None, "mal": None, "zed": None}
    assert {s.refused for s in find([tmp_path / "class"], "lab01")} == {"", "the file is a link"}
    with pytest.raises(ValueError, match="is a link"):
        find([tmp_path / "class/zed"], "lab01")


def test_what_is_no_file_is_refused(tmp_path):
    put(tmp_path, "ann/lab01.ipynb", "bob/lab01.ipynb/x", "eve/x")
    os.mkfifo(tmp_path / "eve/lab01.ipynb")
    assert found(tmp_path) == {"ann": "ann/lab01.ipynb", "bob": None, "eve": None}


def test_names_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path)
    for name in (b"\xff\xfe", b"-rf *", b"a;b\nc", "Zoë".encode()):
        os.mkdir(os.path.join(folder, name))
        with open(os.path.join(folder, name, b"lab01.ipynb"), "wb") as file:
            file.write(b"x")
    students = set(found(tmp_path))
    assert students == {"%FF%FE", "%2Drf %2A", "a%3Bb%0Ac", "Zo%C3%AB"}
    for submission in find([tmp_path], "lab01"):
        submission.origin.encode()


def archive(path: Path, *members: str | zipfile.ZipInfo, content: bytes | None = None) -> Path:
    """A zip with these members, each holding its own name or ``content``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in members:
            name = member if isinstance(member, str) else member.filename
            file.writestr(member, name.encode() if content is None else content)
    return path


def test_archives(tmp_path):
    folders = archive(tmp_path / "a.zip", "class/ann/lab01.ipynb", "class/bob/lab01.ipynb", "__MACOSX/ann/lab01.ipynb")
    flat = archive(tmp_path / "b.zip", "ann_1234_5678_lab01.ipynb", "bob_1234_5679_lab01.ipynb")
    assert found(folders) == {"ann": "class/ann/lab01.ipynb", "bob": "class/bob/lab01.ipynb"}
    assert list(found(flat)) == ["ann", "bob"]


def test_members_outside_of_the_archive_are_refused_and_written_nowhere(tmp_path):
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    names = ("ann/lab01.ipynb", "../../bob_lab01.ipynb", "/tmp/zed/lab01.ipynb", "eve/../../lab01.ipynb")
    assert found(archive(inside / "a.zip", *names)) == {"ann": "ann/lab01.ipynb", "bob": None, "eve": None, "tmp": None}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.zip"]


def test_links_in_an_archive_are_refused(tmp_path):
    link = zipfile.ZipInfo("eve/lab01.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert found(archive(tmp_path / "a.zip", link, "ann/lab01.ipynb")) == {"ann": "ann/lab01.ipynb", "eve": None}


def test_an_archive_that_unpacks_to_gigabytes_is_read_to_the_limit(tmp_path):
    path = archive(tmp_path / "a.zip", "eve/lab01.ipynb", content=bytes(20 * MAX_BYTES))
    assert path.stat().st_size < 2**20
    (submission,) = find([path], "lab01")
    assert len(submission.raw or b"") == MAX_BYTES + 1


def test_broken_archives(tmp_path):
    path = archive(tmp_path / "a.zip", "ann/lab01.ipynb", "bob/lab01.ipynb")
    data = bytearray(path.read_bytes())
    data[len("PK\3\4") + 30 : 60] = b"\xff" * 26
    path.write_bytes(data)
    students = {s.student: s.refused for s in find([path], "lab01")}
    assert "cannot be read" in students["ann"]
    assert students["bob"] == ""
    (tmp_path / "b.zip").write_bytes(b"PK\3\4" + b"\0" * 100)
    with pytest.raises(ValueError, match="neither a folder nor a zip"):
        find([tmp_path / "b.zip"], "lab01")


@pytest.mark.parametrize("name", ["ann/lab02.ipynb", "readme.txt", "lab01.ipynb", "ann/lab01.py", "ann/lab01"])
def test_nothing_to_grade(tmp_path, name):
    with pytest.raises(ValueError, match="holds no submission of lab01"):
        find([put(tmp_path, name)], "lab01")


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="neither a folder nor a zip"):
        find([tmp_path / "none"], "lab01")


def test_namesakes_stay_two_students(tmp_path):
    put(tmp_path, "Ann Lee_101_assignsubmission_file_/lab01.ipynb", "Ann Lee_102_assignsubmission_file_/lab01.ipynb")
    put(
        tmp_path,
        "team_1_2/lab01.ipynb",
        "team_1_3/lab01.ipynb",
        f"{'x' * 130}a/lab01.ipynb",
        f"{'x' * 130}b/lab01.ipynb",
    )
    assert len(found(tmp_path)) == 6


def test_no_file_name_takes_for_ever(tmp_path):
    """A pattern that tries every way to read a name of 120 letters would not come back."""
    put(
        tmp_path,
        f"ann/lab01{'1' * 120}x.ipynb",
        f"lab01{'-1' * 60}x{'-1' * 40}.ipynb",
        f"x{'_late' * 40}_lab01 (.ipynb",
    )
    with pytest.raises(ValueError, match="holds no submission"):
        find([put(tmp_path / "b", f"ann/lab01{'1' * 120}x.ipynb")], "lab01")
    assert find([tmp_path], "lab01")


def test_a_damaged_member_of_a_zip_is_one_students_trouble(tmp_path):
    path = archive(tmp_path / "a.zip", "ann/lab01.ipynb", "bob/lab01.ipynb")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for student in ("ann", "bob"):
            made.writestr(f"{student}/lab01.ipynb", os.urandom(2000))
        place = made.getinfo("bob/lab01.ipynb").header_offset + 200
    raw = bytearray(path.read_bytes())
    raw[place : place + 50] = b"\xff" * 50
    path.write_bytes(raw)
    students = {s.student: s for s in find([path], "lab01")}
    assert students["ann"].raw is not None and students["bob"].raw is None
    assert "cannot be read" in students["bob"].refused
