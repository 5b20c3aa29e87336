"""Lectures that go well and lectures broken on purpose, executed for real in tiny notebooks."""

import json
import re
import sys

import nbformat
import pytest
from lectures_for_tests import CHECK, gone

from optcourse import files
from optcourse.course import report
from optcourse.course.execution import Execution, Outcome, Settings
from optcourse.runtime import cores


def records(folder):
    return report.load(folder.output)


def outputs(folder, name, cell_id):
    notebook = nbformat.read(folder.output / f"{name}.ipynb", as_version=4)
    return next(cell.outputs for cell in notebook.cells if cell.id == cell_id)


def test_a_lecture_receives_its_parameters_and_a_quiet_environment(folder):
    source = (
        "import os\nprint(PROFILE, SEED, DEVICE, os.environ['OPTCOURSE_PROGRESS'], os.environ['OPTCOURSE_THREADS'])"
    )
    where = "import sys\nprint(sys.executable, os.getcwd())"
    path = folder.add("01_parameters", source, where)
    assert folder.run(path, settings=Settings("full", 7, "cpu"), jobs=cores()) == 0
    assert outputs(folder, "01_parameters", "cell-1")[0].text == "full 7 cpu off 1\n"
    assert outputs(folder, "01_parameters", "cell-2")[0].text == f"{sys.executable} {folder.lectures}\n"
    assert sorted(p.name for p in folder.lectures.iterdir()) == ["01_parameters.ipynb"]


def test_broken_lectures_do_not_stop_the_others_and_are_named(folder, capfd):
    holds = CHECK.format(topic="02.4", claim="a < b", measured=1, bound=2)
    broken = CHECK.format(topic="02.5", claim="falsified on purpose", measured=3, bound=2)
    paths = [
        folder.add("01_good", holds),
        folder.add("02_broken", holds, broken, "print('never')"),
        folder.add("03_dies", "import os\nos._exit(3)"),
        folder.add("04_raises", "raise ValueError('first line\\nsecond line')"),
        folder.lectures / "05_no_notebook.ipynb",
    ]
    paths[-1].write_text("hello")
    assert folder.run(*paths) == 1
    assert folder.run(folder.add("06_hangs", "import time\ntime.sleep(3600)"), cell_timeout=2) == 1

    failures = {name: record.failure for name, record in records(folder).items()}
    assert failures["01_good"] is None
    kinds = {name: failure.type for name, failure in failures.items() if failure}
    assert kinds == {
        "02_broken": "ClaimBroken",
        "03_dies": "KernelDied",
        "04_raises": "ValueError",
        "05_no_notebook": "NotANotebook",
        "06_hangs": "CellTimeout",
    }
    assert (failures["02_broken"].cell, failures["02_broken"].section) == ("cell-2", "02.4 A bound")
    assert "2 s" in failures["06_hangs"].message

    text = capfd.readouterr().err
    assert "02_broken failed in cell 'cell-2', section '02.4 A bound'" in text
    assert "02.5" in text and "falsified on purpose" in text
    assert "ValueError: first line\n  second line" in text
    assert "\x1b" not in text  # no terminal: nothing animated
    # The notebook of a lecture that stopped shows the failing cell with its error.
    (error,) = outputs(folder, "03_dies", "cell-1")
    assert error.output_type == "error" and error.ename == "KernelDied"

    rows = json.loads((folder.output / "verdicts.json").read_text())
    assert [(r["lecture"], r["topic"], r["verdict"]) for r in rows] == [
        ("01", "02.4", "holds"),
        ("02", "02.4", "holds"),
        ("02", "02.5", "broken"),
    ]
    keys = {"topic", "claim", "measured", "relation", "bound", "margin", "seeds", "verdict"}
    assert all(keys <= row.keys() for row in rows)
    assert rows[2]["measured"] == 3.0 and rows[2]["margin"] == -1.0


def test_an_undecided_claim_stops_nothing_and_is_counted(folder, capfd):
    claim = "from optcourse import check, measure\ncheck('02.4', 'faster', measure.mean([-1.0, 2.0, 3.0]), '>', 0)"
    assert folder.run(folder.add("01_open", claim, CHECK.format(topic="02.4", claim="a", measured=1, bound=2))) == 0
    (row, _) = json.loads((folder.output / "verdicts.json").read_text())
    assert (row["verdict"], row["seeds"], row["interval"][0] < 0 < row["interval"][1]) == ("undecided", 3, True)
    assert re.search(r"01_open: ok, .* s, 2 claims, 1 undecided", capfd.readouterr().err)
    assert records(folder)["01_open"].undecided == 1


def test_cells_for_a_gpu_are_skipped_on_a_cpu_and_say_so(folder, capfd):
    said = "skipped: no CUDA device; with one: a surface (about 2 min on an H200, estimated)\n"
    guarded = f"run = optcourse.start(device=DEVICE)\nif run.gpu is None:\n    print({said[:-1]!r})\nelse:\n    1 / 0"
    tags = {"cell-2": ["gpu"]}
    path = folder.add("01_gpu", "import optcourse", guarded, f"print({said[:-1]!r})", tags=tags)
    assert folder.run(path) == 0
    assert outputs(folder, "01_gpu", "cell-2")[0].text == said
    assert outputs(folder, "01_gpu", "cell-3")[0].text == said  # a sentence elsewhere counts for nothing
    assert "0 claims, 1 cell skipped (no CUDA device)" in capfd.readouterr().err
    assert records(folder)["01_gpu"].skipped == 1


def test_cells_for_a_gpu_run_when_the_device_is_cuda(folder):
    path = folder.add("01_gpu", "print('here')", tags={"cell-1": ["gpu"]})
    assert folder.run(path, settings=Settings("quick", 0, "cuda")) == 0
    assert outputs(folder, "01_gpu", "cell-1")[0].text == "here\n"
    assert records(folder)["01_gpu"].skipped == 0


@pytest.fixture
def executed(folder, monkeypatch):
    """Once called, lectures are no longer really executed; it gives a run that says which would be."""
    names = []

    def run(execution):
        names.append(execution.path.stem)
        return Outcome(nbformat.read(execution.path, as_version=4), 0.0, None)

    def which(*paths, **options):
        names.clear()
        assert folder.run(*paths, resume=True, jobs=1, **options) == 0
        return names

    def start():
        monkeypatch.setattr(Execution, "run", run)
        return which

    return start


def test_resume_skips_exactly_what_is_unchanged_and_finished(folder, capfd, executed):
    good, bad = folder.add("01_good", "x = 1"), folder.add("02_bad", "raise ValueError('on purpose')")
    assert folder.run(good, bad) == 1
    first, again = records(folder)["01_good"], executed()
    assert again(good, bad) == ["02_bad"]
    assert "01_good: unchanged, skipped" in capfd.readouterr().err
    assert records(folder)["01_good"] == first
    assert again(good, bad) == []


@pytest.mark.parametrize("settings", [Settings("quick", 1, "cpu"), Settings("full", 0, "cpu")])
def test_resume_notices_other_settings_another_notebook_and_an_edited_package(
    folder, tmp_path, monkeypatch, executed, settings
):
    package = tmp_path / "package"
    files.write(package / "sgd.py", "CONSTANT = 2")
    monkeypatch.setattr(files, "PACKAGE", package)
    path, again = folder.add("01_good", "x = 1"), executed()
    assert (len(again(path)), len(again(path))) == (1, 0)
    assert (len(again(path, settings=settings)), len(again(path, settings=settings)), len(again(path))) == (1, 0, 1)
    folder.add("01_good", "x = 2")
    assert (len(again(path)), len(again(path))) == (1, 0)
    files.write(package / "sgd.py", "CONSTANT = 3")
    assert (len(again(path)), len(again(path))) == (1, 0)


def test_a_record_without_its_notebook_is_not_trusted(folder):
    folder.run(folder.add("01_good", "x = 1"))
    assert list(records(folder)) == ["01_good"]
    (folder.output / "01_good.ipynb").unlink()
    assert records(folder) == {}


def test_an_unreadable_run_file_is_not_trusted(folder):
    folder.output.mkdir()
    for text in ("", "{}", '{"lectures": [{"notebook": "01_x"}]}', "[1]"):
        (folder.output / "run.json").write_text(text)
        assert records(folder) == {}


def test_a_kernel_that_dies_leaves_no_process_behind(folder, tmp_path):
    child, pid = "[sys.executable, '-c', 'import time; time.sleep(3600)']", tmp_path / "pid"
    source = f"import os, pathlib, subprocess, sys\nchild = subprocess.Popen({child})\n"
    source += f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))\nos._exit(1)"
    assert folder.run(folder.add("01_child", source)) == 1
    assert gone(int(pid.read_text()))


@pytest.mark.parametrize(("setting", "threads"), [(None, 1), ("2", 2)])
def test_a_kernel_computes_in_one_thread_unless_told_otherwise(folder, monkeypatch, setting, threads):
    if setting is None:
        monkeypatch.delenv("OPTCOURSE_THREADS", raising=False)
    else:
        monkeypatch.setenv("OPTCOURSE_THREADS", setting)
    source = f"import os\nassert os.environ['OPTCOURSE_THREADS'] == os.environ['OMP_NUM_THREADS'] == '{threads}'"
    assert folder.run(folder.add("01_threads", source)) == 0
