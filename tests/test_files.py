"""A file is whole or absent, whatever happens while it is written."""

import os

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
