"""A file is whole or absent, whatever happens while it is written; a key that changes with all it depends on."""

import os
from pathlib import Path

import pytest

from optcourse import files


@pytest.mark.parametrize("content", ["new", b"new", memoryview(b"new")])
def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch, content):
    target = tmp_path / "made" / "page.html"
    files.write(target, content)
    assert target.read_text() == "new" and target.stat().st_mode & 0o777 == 0o644

    def killed(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write(target, "newer")
    assert target.read_text() == "new" and list(target.parent.iterdir()) == [target]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    files.write(tmp_path / "link", "half a pair \ud800")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "link").read_text() == "half a pair ?" and not (tmp_path / "link").is_symlink()


def test_a_key_changes_with_content_sources_and_versions(tmp_path, monkeypatch):
    package = tmp_path / "package"
    files.write(package / "theory" / "sgd.py", "CONSTANT = 2")
    files.write(package / "course.mplstyle", "lines.linewidth: 1")
    monkeypatch.setattr(files, "PACKAGE", package)
    key = files.resume_key(b"a", b"b")
    files.write(package / "notes.txt", "no source")
    assert files.resume_key(b"a", b"b") == key
    seen = {key, files.resume_key(b"ab", b""), files.resume_key(b"a")}
    files.write(package / "theory" / "sgd.py", "CONSTANT = 3")
    seen.add(files.resume_key(b"a", b"b"))
    files.write(package / "course.mplstyle", "lines.linewidth: 2")
    seen.add(files.resume_key(b"a", b"b"))
    monkeypatch.setattr(files, "versions", lambda: {"torch": "3.0"})
    assert len(seen | {files.resume_key(b"a", b"b")}) == 6


def test_versions_name_what_results_depend_on():
    assert list(files.versions()) == ["python", "optcourse", "torch", "numpy"]
    assert "not installed" not in files.versions().values()


def test_a_folder_of_the_course(tmp_path, monkeypatch):
    checkout = Path(files.__file__).parents[1]
    monkeypatch.chdir(tmp_path)
    assert files.of_course("lectures") == checkout / "lectures"
    (tmp_path / "lectures").mkdir()
    assert files.of_course("lectures") == tmp_path / "lectures"
    assert files.of_course("labs", checkout / "labs" / "source") == checkout / "labs" / "source"
    with pytest.raises(FileNotFoundError, match=r"no folder of labs at .*nowhere; --labs names it"):
        files.of_course("labs", tmp_path / "nowhere")
