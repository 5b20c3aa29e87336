"""What the repository promises: one list of dependencies, two commands, and a bound that cannot be edited unnoticed."""

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
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]:
        requirement = Requirement(text)
        version = exact[name_and_range(requirement.name)[0]].removeprefix("==")
        assert version in requirement.specifier, f"{text} does not allow the tested {version}"


IMPORTED_AS = {"scikit-learn": "sklearn", "math-core": "math_core", "ipython": "IPython"}
#: Needed without an import: the page that students work in, the widgets of tqdm's bars, the kernel's test runner.
NOT_IMPORTED = {"jupyterlab", "ipywidgets"}


def test_every_dependency_is_used_and_every_import_declared():
    sources = [path.read_text() for path in (ROOT / "optcourse").rglob("*.py")]
    sources += [path.read_text() for path in (ROOT / "lectures").glob("*.ipynb")]
    imported = set(re.findall(r"^(?:\s*|.*\"\s*)(?:import|from) (\w+)", "\n".join(sources), re.M))
    declared = {name_and_range(text)[0] for text in PROJECT["dependencies"]}
    modules = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in declared - NOT_IMPORTED}
    assert modules - imported == set(), "declared but never imported"


def test_the_two_commands_stand_in_the_readme_and_ci_runs_one():
    readme = (ROOT / "README.md").read_text()
    assert "make lectures" in readme and "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text()


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
