"""What the repository promises: one list of dependencies, two commands, and a bound that cannot be edited unnoticed."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def name_and_range(requirement):
    name, limits = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[.*\])?(.*)", requirement).groups()
    return re.sub(r"[-_.]+", "-", name).lower(), limits


def test_environment_yml_says_what_pyproject_says():
    import yaml

    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(name_and_range(entry) for entry in environment if isinstance(entry, str))
    torch = dict(map(name_and_range, PROJECT["dependencies"]))["torch"]
    assert conda == {"python": PROJECT["requires-python"], "pytorch-cpu": torch, "pip": ""}
    assert environment[-1] == {"pip": ["-e .[all]"]}


def test_every_dependency_has_an_exact_version_inside_its_range():
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    exact = dict(name_and_range(line) for line in lines if line and not line.startswith("#"))
    for text in PROJECT["dependencies"] + EXTRAS["test"] + EXTRAS["grading"] + EXTRAS["site"]:
        requirement = Requirement(text)
        version = exact[name_and_range(requirement.name)[0]].removeprefix("==")
        assert version in requirement.specifier, f"{text} does not allow the tested {version}"


IMPORTED_AS = {"scikit-learn": "sklearn", "ipython": "IPython", "pyyaml": "yaml", "pyzmq": "zmq", "pepit": "PEPit"}
IMPORTED_AS |= {"markdown-it-py": "markdown_it", "pillow": "PIL"}
#: Needed without an import statement: JupyterLab, the back end that MPLBACKEND names, commands, plugins.
NOT_IMPORTED = {"jupyterlab", "matplotlib_inline", "pytest_xdist", "nbval", "nbstripout", "ruff", "pyright"}
NOT_IMPORTED |= {"myst_nb", "sphinx_book_theme", "sphinx_copybutton"}


def programs(folder):
    for path in (ROOT / folder).rglob("*.py"):
        yield path.read_text(encoding="utf-8")
    for path in (ROOT / folder).rglob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield "".join(cell["source"])


def imported(*folders):
    """The modules, by their first name, that these folders need from elsewhere."""
    found = set()
    for program in (program for folder in folders for program in programs(folder)):
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"optcourse"}


def declared(*lists):
    names = [name_and_range(text)[0] for requirements in lists for text in requirements]
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def test_every_import_of_the_course_is_declared_and_every_dependency_used():
    """PEPit, which a lecture shows and an oracle uses, is the one that may be missing."""
    core, needed = declared(PROJECT["dependencies"]), imported("optcourse", "lectures", "labs/source")
    assert needed - {"pytest"} <= core | declared(EXTRAS["grading"], EXTRAS["oracle"], EXTRAS["site"])
    assert imported("lectures", "labs/source") - {"pytest"} <= core | {"PEPit"}
    assert core - NOT_IMPORTED <= needed, "declared but never imported"


def test_every_import_of_the_tests_is_declared_and_every_test_dependency_used():
    here = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    needed, tools = imported("tests") - here, declared(EXTRAS["test"])
    assert needed <= tools | declared(PROJECT["dependencies"], EXTRAS["grading"], EXTRAS["oracle"], EXTRAS["site"])
    assert tools - NOT_IMPORTED <= needed, "declared but never imported"


def test_the_two_commands_stand_in_the_readme_and_ci_runs_one():
    readme = (ROOT / "README.md").read_text()
    assert "make lectures" in readme and "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_no_two_test_files_have_one_name():
    """They are imported by their names alone: the second would not run."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def test_make_check_is_a_part_of_make_test():
    """The same commands; what it leaves out is named, and exists."""
    check, test = (
        subprocess.run(
            [*["make", "--no-print-directory", "--dry-run", "READY="], target],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for target in ("check", "test")
    )
    left_out = re.findall(r" --ignore=(\S+)", "\n".join(check))
    assert left_out and all((ROOT / path).exists() for path in left_out)
    assert [re.sub(r" --ignore=\S+", "", command) for command in check] == test[: len(check)]


@pytest.mark.parametrize(
    ("file", "right", "wrong", "topic"),
    [
        ("sgd.py", "np.sqrt(8 * L", "np.sqrt(7 * L", "02.5"),
        ("sgd.py", "L * lr * sigma2 / (2 * mu)", "L * lr * sigma2 / (3 * mu)", "02.6"),
        ("gradient_descent.py", "4 * L * delta0 / (3 * N + 2)", "4 * L * delta0 / (3 * N + 3)", "02.5"),
        ("sampling.py", "2 * lr * sigma2_opt / mu", "lr * sigma2_opt / (4 * mu)", "02.2"),
    ],
)
def test_a_falsified_constant_breaks_a_test_that_names_the_topic(tmp_path, file, right, wrong, topic):
    """On a copy of package and tests; the first row makes the bound smaller by a factor of 0.94 only."""
    for folder in ("optcourse", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path / "optcourse" / "theory" / file
    source = target.read_text()
    assert right in source
    target.write_text(source.replace(right, wrong))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/theory"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"topic {topic}: " in result.stdout, result.stdout[-2000:]
