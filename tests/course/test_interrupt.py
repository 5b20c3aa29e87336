"""Ctrl-C and SIGTERM in the middle of a run, and going on from there."""

import json
import signal
import subprocess
import sys
import time

import pytest
from lectures_for_tests import PATIENCE, gone

from optcourse.course import report

COMMAND = [sys.executable, "-c", "from optcourse.course.cli import main; main()", "run"]


def start(folder, *options):
    where = [
        "--lectures",
        str(folder.lectures),
        "--output",
        str(folder.output),
        "--device",
        "cpu",
        "--jobs",
        "1",
        "--no-book",
    ]
    return subprocess.Popen(COMMAND + where + list(options), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_is_finished_and_resumes(folder, tmp_path, signum):
    marker, switch = tmp_path / "pid", tmp_path / "quick"
    folder.add("01_first", "from optcourse import check\ncheck('02.4', 'a < b', 1, '<=', 2)")
    folder.add(
        "02_second",
        "import os, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        f"pathlib.Path({str(marker)!r}).write_text(f'{{os.getpid()}} {{child.pid}}\\n')\n"
        f"time.sleep(0 if pathlib.Path({str(switch)!r}).exists() else 3600)",
    )
    process = start(folder)
    wait_for(lambda: marker.exists() and marker.read_text().endswith("\n"))
    process.send_signal(signum)
    _, text = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "--resume continues" in text and "1 of 2 lectures not finished" in text
    assert all(gone(int(pid)) for pid in marker.read_text().split())

    assert sorted(p.name for p in folder.output.iterdir()) == [
        "01_first.ipynb",
        "run.json",
        "verdicts.json",
    ]
    assert [row["lecture"] for row in json.loads((folder.output / "verdicts.json").read_text())] == ["01"]
    assert report.last_run(folder.output).interrupted

    switch.touch()
    process = start(folder, "--resume")
    _, text = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "01_first: unchanged, skipped" in text and "02_second: ok" in text
    assert not report.last_run(folder.output).interrupted
    assert len(json.loads((folder.output / "run.json").read_text())["lectures"]) == 2


def test_a_lecture_that_waits_for_its_turn_is_not_started_after_an_interrupt(folder, tmp_path):
    started = tmp_path / "started"
    folder.add("01_slow", f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(3600)")
    folder.add("02_next", f"import pathlib\npathlib.Path({str(tmp_path / 'next')!r}).touch()")
    process = start(folder)
    wait_for(started.exists)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "2 of 2 lectures not finished" in text
    assert not (tmp_path / "next").exists()
