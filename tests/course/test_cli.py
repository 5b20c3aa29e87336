"""The command line: wrong usage is one line, exit status 2, and nothing written."""

import json

import pytest
import torch
from click.testing import CliRunner

import optcourse
from optcourse.course import cli, runner
from optcourse.course.cli import main


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_version_and_help():
    assert optcourse.__version__ in invoke("--version").output
    for arguments in ((), ("--help",), ("run", "--help"), ("verdicts", "--help")):
        result = invoke(*arguments)
        assert result.exit_code == 0 and "Usage" in result.output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["7"], "'7'"),
        (["no_such_lecture"], "'no_such_lecture'"),
        (["--profile", "fast"], "'fast'"),
        (["--device", "tpu"], "'tpu'"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**32)], "--seed"),
        (["--seed", "one"], "--seed"),
        (["--jobs", "0"], "--jobs"),
        (["--jobs", "1.5"], "--jobs"),
        (["--colour"], "--colour"),
        (["--lectures", "nowhere"], "nowhere"),
        (["--output", "lectures"], "--output"),
        (["--output", "lectures/01_x.ipynb/pages"], "--output"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(folder, tmp_path, monkeypatch, arguments, named):
    folder.add("01_x", "x = 1")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert named in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == "" and sorted(tmp_path.rglob("*")) == before


def test_cuda_without_cuda_is_wrong_usage(folder, monkeypatch):
    folder.add("01_x", "x = 1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = invoke("run", "--device", "cuda", "--lectures", folder.lectures, "--output", folder.output)
    assert result.exit_code == 2 and "no CUDA device" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not folder.output.exists()


def test_a_wrong_table_of_topics_is_one_line(folder):
    folder.add("01_x", "x = 1")
    (folder.lectures / "topics.toml").write_text("[[lesson]]")
    result = invoke("run", "--lectures", folder.lectures, "--output", folder.output)
    assert result.exit_code == 2 and "topics.toml" in result.stderr and not folder.output.exists()


def test_an_unknown_command_is_one_line():
    result = invoke("walk")
    assert result.exit_code == 2 and "walk" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_options_reach_the_run(folder, monkeypatch):
    seen = {}

    def run(notebooks, settings, **options):
        seen.update(options, names=[path.stem for path in notebooks], settings=settings)
        return 1

    folder.add("01_x", "x = 1")
    folder.add("02_y", "x = 1")
    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(cli, "cores", lambda: 6)
    where = ["--lectures", folder.lectures, "--output", folder.output]
    assert invoke("run", "2", *where, "--profile", "full", "--seed", "3", "--device", "cpu", "--resume").exit_code == 1
    assert seen["names"] == ["02_y"] and seen["settings"] == runner.Settings("full", 3, "cpu")
    assert (seen["jobs"], seen["resume"], seen["output"]) == (4, True, folder.output)
    invoke("run", *where, "--jobs", "2")
    assert seen["names"] == ["01_x", "02_y"] and (seen["jobs"], seen["resume"]) == (2, False)


ROW = {"topic": "02.4", "claim": "a [b] holds", "measured": 1.0, "relation": "<=", "bound": 2.0, "margin": 1.0}


def verdicts_file(folder, *verdicts):
    path = folder / "verdicts.json"
    interval = {"undecided": [0.5, 2.5]}
    rows = [{**ROW, "lecture": "02", "seeds": 20, "verdict": v, "interval": interval.get(v)} for v in verdicts]
    path.write_text(json.dumps(rows))
    return path


def test_verdicts_prints_every_claim(tmp_path):
    path = verdicts_file(tmp_path, "holds", "fails as expected", "undecided")
    for arguments in ([path], [tmp_path], ["--output", tmp_path]):
        result = invoke("verdicts", *arguments)
        assert result.exit_code == 0
        assert "a [b] holds" in result.stdout and "1 ≤ 2" in " ".join(result.stdout.replace("│", " ").split())
        assert "3 claims: 1 holds, 1 fails as expected, 1 undecided, 0 broken" in result.stdout
        assert "? undecided" in result.stdout and "1 [0.5, 2.5]" in result.stdout
    assert json.loads(invoke("verdicts", path, "--json").stdout) == json.loads(path.read_text())


def test_verdicts_fails_when_a_claim_is_broken(tmp_path):
    path = verdicts_file(tmp_path, "holds", "broken")
    assert invoke("verdicts", path).exit_code == 1
    assert invoke("verdicts", path, "--json").exit_code == 1


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"a": 1}', '[{"verdict": "maybe"}]', "\x00"])
def test_verdicts_without_verdicts_is_one_line(tmp_path, content):
    path = tmp_path / "verdicts.json"
    if content is not None:
        path.write_text(content)
    result = invoke("verdicts", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(path) in result.stderr and len(result.stderr.strip().splitlines()) == 1
