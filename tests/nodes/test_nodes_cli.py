"""``optcourse nodes``: results, usage errors, interrupts, lost processes, and going on after them; torchrun too."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from waiting import HANG, wait_for

from optcourse.course.cli import main
from optcourse.nodes import ALGORITHMS
from optcourse.nodes.run.checkpoint_files import complete_rounds
from optcourse.nodes.run.recipes import RECIPES

COMMAND = [sys.executable, "-c", "from optcourse.course.cli import main; main()", "nodes", "run"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TORCHRUN += ["-m", "optcourse.nodes", "run"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPTCOURSE_THREADS": "1"}
#: Long enough that a signal meets it in the middle; exact, so that every number of processes gives the same bits.
LONG = ["local_sgd", "--nodes", "5", "--exact", "--timeout", "8", "--save-every", "20", "--steps"]


def optcourse(*arguments):
    """Exit status of the command in this process."""
    return main.main(["nodes", *map(str, arguments)], standalone_mode=False)


def result(folder):
    """The result file, without what depends on the machine and the number of processes."""
    content = json.loads((folder / "result.json").read_text())
    content.pop("processes")
    for row in (content, *content["history"]):
        del row["real_seconds"], row["wire_bytes"]
    return content


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of 400 rounds in the simulator."""
    folder = tmp_path_factory.mktemp("whole")
    assert optcourse("run", *LONG, 400, "--output", folder) == 0
    return result(folder)


def start(command, output, *options):
    line = [*command, *LONG, "100000", "--output", str(output), *options]
    return subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_rows(process, output, round=40):
    wait_for(lambda: any(int(path.name[5:13]) >= round for path in output.glob("rows/round*.pt")), process)


def computed(pid):
    """Seconds of the processor that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def child(pid, rank):
    """The process of ``rank`` among the descendants of ``pid``."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for number in (task / "children").read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
                return int(number)
    raise AssertionError(f"no process of rank {rank}")


def go_on(text, output, whole):
    """Run the command that the message names, to the end of round 400 and in the simulator; compare."""
    line = shlex.split(re.search(r"go on with\n +(.*)", text)[1])
    line = line[line.index("run") :]
    assert "--resume" in line and line[line.index("--output") + 1] == str(output)
    line[line.index("--steps") + 1] = "400"
    if "--processes" in line:
        line[line.index("--processes") + 1] = "1"
    assert optcourse(*line) == 0
    resumed = result(output)
    assert resumed["history"][-1] == whole["history"][-1] and resumed["bytes_sent"] == whole["bytes_sent"]


def test_the_list_names_every_algorithm(capsys):
    assert optcourse("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(RECIPES)
    assert all(len(line) <= 100 and len(line.split()) > 2 for line in lines)
    assert set(RECIPES) >= set(ALGORITHMS)


@pytest.mark.parametrize("algorithm", RECIPES)
def test_every_algorithm_runs_with_its_defaults(algorithm, tmp_path):
    steps = 480 if algorithm == "async_sgd" else 60  # there a step is the gradient of one node
    assert optcourse("run", algorithm, "--nodes", 8, "--steps", steps, "--output", tmp_path) == 0
    content = json.loads((tmp_path / "result.json").read_text())
    first, last = content["history"][0], content["history"][-1]
    assert first["round"] == 0 and last["round"] == steps
    assert last["loss"] < 0.7 * first["loss"] and last["test_accuracy"] > 0.4  # 0.1 is guessing
    assert content["bytes_per_node"] > 0 and last["simulated_seconds"] > 0
    assert content["settings"]["lr"] == RECIPES[algorithm].lr


@pytest.mark.parametrize(
    "options",
    [
        "dsgd --data mnist1d --model cnn --split label --topology one_peer_exponential",
        "choco --split dirichlet --alpha 0.1 --compressor random_k -k 30 --topology torus --nodes 9 --dtype float64",
        "error_feedback --compressor low_rank --rank 1 --model cnn",
        "robust_sgd --aggregator krum --attack label_flip --n-byzantine 2",
        "local_sgd --nodes 1 --local-steps 3",
        "push_sum --topology exponential --schedule warmup",
    ],
)
def test_options_reach_what_they_name(options, tmp_path):
    assert optcourse("run", *options.split(), "--steps", 4, "--output", tmp_path) == 0
    settings = json.loads((tmp_path / "result.json").read_text())["settings"]
    words = options.split()[1:]
    for name, value in zip(words[::2], words[1::2], strict=True):
        assert str(settings[name.lstrip("-").replace("-", "_")]) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("sgd", "algorithm must be one of .*, got 'sgd'"),
        ("psgd --nodes 0", "nodes must be at least 1, got 0"),
        ("psgd --nodes 5000", r"n_nodes must be in 1\.\.1347, got 5000"),
        ("psgd --lr -1", r"lr must be in \(0, inf\), got -1"),
        ("psgd --local-steps 3", "local_steps has no effect on psgd"),
        ("choco --levels 3", "levels has no effect on choco"),
        ("psgd --alpha 3", "alpha has no effect"),
        ("dsgd --topology hypercube --nodes 6", r"n of a hypercube must be 2\^p"),
        ("robust_sgd --n-byzantine 4", r"n_byzantine must be in 0\.\.3"),
        ("psgd --processes 9", "nodes must be at least the number of processes, 9, got 8"),
        ("psgd --topology moebius", "Invalid value for '--topology'"),
        ("psgd --resume", "there are no rows of 8 nodes in"),
        ("choco -k 999999", r"k must be in 1\.\."),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(options, message, tmp_path, capfd):
    assert optcourse("run", *options.split(), "--output", tmp_path) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(message, line), line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_nccl_without_a_gpu_is_wrong_usage(tmp_path, capfd):
    assert optcourse("run", "psgd", "--backend", "nccl", "--output", tmp_path) == 2
    assert "backend nccl needs a GPU per process: 1 processes, 0 GPUs" in capfd.readouterr().err


def test_a_run_that_diverges_says_where_and_fails(tmp_path, capfd):
    assert optcourse("run", "psgd", "--lr", "1e30", "--output", tmp_path) == 1
    assert re.search(r"messages must be finite: node \d sent NaN or infinity in round \d", capfd.readouterr().err)


def test_a_run_goes_on_with_more_steps_but_not_with_another_seed(whole, tmp_path, capfd):
    assert optcourse("run", *LONG, 30, "--output", tmp_path) == 0
    assert optcourse("run", *LONG, 400, "--output", tmp_path, "--resume", "--seed", "1") == 2
    assert "belong to another run: seed was 0 and is now 1" in capfd.readouterr().err
    assert optcourse("run", *LONG, 400, "--output", tmp_path, "--resume") == 0
    assert result(tmp_path)["history"][-1] == whole["history"][-1]


def test_local_processes_equal_the_simulator_and_a_killed_one_is_named(whole, tmp_path):
    process = start(COMMAND, tmp_path, "--processes", "2")
    wait_for_rows(process, tmp_path)
    os.kill(child(process.pid, 0), signal.SIGKILL)
    _, text = process.communicate(timeout=HANG)
    assert process.returncode == 3, text
    first, second, *_ = text.splitlines()
    assert re.search(r"^optcourse: process 0 failed in round \d+: ", first)
    assert f"the rows after {complete_rounds(tmp_path / 'rows', 5)[-1]} rounds are saved in" in second
    go_on(text, tmp_path, whole)


def test_an_interrupted_run_is_saved_by_all_processes(whole, tmp_path):
    """Processes in different rounds, between two saves: nothing is lost but the round that one of them had begun."""
    process = start(COMMAND, tmp_path, "--processes", "3", "--save-every", "100000")
    wait_for_rows(process, tmp_path, round=1)
    worker = child(process.pid, 0)
    enough = computed(worker) + 0.3
    wait_for(lambda: computed(worker) > enough, process)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=HANG)
    assert process.returncode == 130, text
    said = int(re.match(r"optcourse: interrupted; the rows after (\d+) rounds are saved in", text)[1])
    assert said == complete_rounds(tmp_path / "rows", 5)[-1]
    newest = [int(path.name[5:13]) for path in (tmp_path / "rows").iterdir()]
    assert 1 < said < 400 and max(newest) - said <= 5  # they average every fifth round
    go_on(text, tmp_path, whole)


def test_torchrun_trains_and_a_killed_process_is_named(whole, tmp_path):
    process = start(TORCHRUN, tmp_path)
    wait_for_rows(process, tmp_path)
    os.kill(child(process.pid, 1), signal.SIGKILL)
    _, text = process.communicate(timeout=HANG)
    assert process.returncode != 0
    assert re.search(r"^optcourse: process 1 failed in round \d+: ", text, re.MULTILINE)
    assert re.search(r"^optcourse: the rows after \d+ rounds are saved in", text, re.MULTILINE)
    assert "torchrun --standalone --nproc-per-node 2 -m optcourse.nodes run local_sgd" in text
    line = [*TORCHRUN, *LONG, "400", "--output", str(tmp_path), "--resume"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert result(tmp_path)["history"][-1] == whole["history"][-1]
    assert "test accuracy" in done.stdout


def test_whoever_forgets_to_resume_is_told_and_loses_nothing(tmp_path, capsys):
    for _ in range(2):
        assert optcourse("run", "psgd", "--nodes", 2, "--steps", 3, "--output", tmp_path) == 0
    rows = tmp_path / "rows"
    assert capsys.readouterr().err == (
        f"optcourse: this run starts anew: the rows after 3 rounds in {rows}, from which --resume would have gone on, "
        f"are now in {rows / 'before'}; to do that, move them back\n"
    )
    assert complete_rounds(rows, 2) == complete_rounds(rows / "before", 2) == [1, 3]
