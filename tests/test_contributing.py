"""The recipes of CONTRIBUTING are followed to the letter on a copy: they work, and a slip in them is noticed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
SECTIONS = {title: body for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)}


def blocks(title):
    """The (file, lines to append) of a recipe, in order."""
    return re.findall(r"^`([\w/.]+)`\n\n```python\n(.*?)^```$", SECTIONS[title], re.M | re.S)


def follow(title, folder, skip=(), right="", wrong=""):
    """Copy package and tests, append the blocks with ``right`` written as ``wrong``, and run the named tests."""
    for part in ("optcourse", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path, lines in blocks(title):
        if path not in skip:
            with (folder / path).open("a") as file:
                file.write("\n\n" + lines.replace(right, wrong) if right else "\n\n" + lines)
    output = ""
    for command in re.findall(r"^python (-m pytest .*)$", SECTIONS[title], re.M):
        arguments = [part.strip('"') for part in re.findall(r'"[^"]*"|\S+', command)]
        done = subprocess.run(
            [sys.executable, *arguments, "-q", "-p", "no:cacheprovider"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        output += done.stdout
        if done.returncode:
            return True, output
    return False, output


@pytest.mark.parametrize(("title", "files"), [("A bound", 5), ("An optimizer", 4)])
def test_a_recipe_works(title, files, tmp_path):
    assert len(blocks(title)) == files
    failed, output = follow(title, tmp_path)
    assert not failed, output[-3000:]
    assert len(re.findall(r"^\d+ passed", output, re.M)) == 2, output


@pytest.mark.parametrize(
    ("title", "slip", "complaint"),
    [
        ("A bound", {"skip": ("optcourse/course/book/guarantees/descent.py",)}, "one_step has no Instance"),
        ("A bound", {"right": "L * lr / 2", "wrong": "L * lr / 3"}, "topic 02.5: one_step is violated"),
        ("A bound", {"right": '@in_units("loss")\n', "wrong": ""}, "one_step returns a Bound and declares no unit"),
        ("A bound", {"right": '@in_units("loss")', "wrong": '@in_units("length")'}, "of one_step is not in length"),
        ("A bound", {"right": "L * lr / 2", "wrong": "L * lr / 1"}, "topic 02.5: one_step is looser than stated"),
        ("An optimizer", {"skip": ("tests/optim/optim_cases.py",)}, "test_every_public_optimizer_is_listed"),
        ("An optimizer", {"right": "m.sign()", "wrong": "m"}, "test_signum_follows_the_sign_of_an_average"),
    ],
)
def test_a_slip_in_a_recipe_is_noticed(title, slip, complaint, tmp_path):
    failed, output = follow(title, tmp_path, **slip)
    assert failed and complaint in output, output[-3000:]


def test_every_file_and_list_that_it_names_exists():
    paths = {path for path in re.findall(r"`([\w.]+/[\w/.]+|[\w]+\.(?:py|md))`", TEXT) if "NN" not in path}
    paths -= {"build/lectures"}  # written by the command it is named with
    assert len(paths) > 20
    missing = {path for path in paths if not (ROOT / path).exists() and not path.endswith(".json")}
    assert not missing
    listed = re.findall(r"`(\w+)`\s+(?:of|in)\s+`([\w/]+\.py)`", TEXT.replace("labNN", "lab01"))
    assert len(listed) >= 5
    for name, path in listed:
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{path} has no {name}"
