"""``optcourse nodes run``: wrong usage and failures are short messages that hold, and earlier rows survive them."""

import errno
import json
import re

import pytest
import torch

from optcourse import files
from optcourse.course.cli import main
from optcourse.nodes import Network
from optcourse.nodes.run import experiment, recipes
from optcourse.nodes.run.checkpoint import Keeper
from optcourse.nodes.run.recipes import Setup
from optcourse.nodes.time.clock import constant
from optcourse.nodes.time.schedule import asynchronous_schedule


def run(options, folder):
    """Exit status of the command in this process."""
    return main.main(["nodes", "run", *options.split(), "--output", str(folder)], standalone_mode=False)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A folder with the rows of a run."""
    folder = tmp_path_factory.mktemp("earlier")
    assert run("powersgd --steps 6 --nodes 4", folder) == 0
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("powersgd --rank 1000", r"rank must be in 1\.\.32, got 1000"),
        ("powersgd --rank 0", "rank must be at least 1, got 0"),
        ("choco --compressor low_rank --rank 0", "rank must be at least 1, got 0"),
        ("choco --consensus-lr nan", r"consensus_lr must be in \(0, 1\], got nan"),
        ("choco --consensus-lr 2", r"consensus_lr must be in \(0, 1\], got 2\.0"),
        ("local_sgd --local-steps 0", "local_steps must be at least 1, got 0"),
        ("robust_sgd --aggregator mean --n-byzantine 8", r"n_byzantine must be in 0\.\.7, got 8"),
        ("d2 --topology one_peer_exponential", "topology must be one graph for d2, got the schedule"),
        ("choco --topology one_peer_exponential", "topology must be one graph for choco, got the schedule"),
        ("relay_sum --topology one_peer_exponential", "topology must be one graph for relay_sum, got the schedule"),
        ("d2 --topology exponential", "W must be symmetric"),  # what only the algorithm itself finds
        ("psgd --timeout inf", r"timeout must be in \[1, 86400\], got inf"),
        ("psgd --timeout nan", r"timeout must be in \[1, 86400\], got nan"),
        ("psgd --timeout 1e-9", r"timeout must be in \[1, 86400\], got 1e-09"),
        ("psgd --timeout 1e10", r"timeout must be in \[1, 86400\], got 1"),
        ("psgd --batch-size 1000000000", r"batch_size must be in 1\.\.1347, got 1000000000"),
        ("psgd --bandwidth 1e-320", r"bandwidth must be in \[1e-06, inf\), got 1e-320"),
        ("psgd --split label --nodes 1300", r"n_nodes must be at most \d+ for 2 classes per node, got 1300: class"),
        ("powersgd --nodes 4 --resume --steps 5", "steps must be at least 6, the rounds that are done already, got 5"),
    ],
)
def test_wrong_usage_is_status_2_and_deletes_nothing(options, message, earlier, capfd):
    before = sorted((earlier / "rows").iterdir()), (earlier / "result.json").read_text()
    assert run(options, earlier) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert (sorted((earlier / "rows").iterdir()), (earlier / "result.json").read_text()) == before and before[0]


def test_the_rows_of_a_run_that_diverged_are_named_without_useless_advice(tmp_path, capfd):
    assert run("psgd --lr 1e30", tmp_path) == 1
    cause, saved = capfd.readouterr().err.splitlines()
    assert "messages must be finite" in cause
    assert re.search(r"the rows after \d+ rounds? are saved in \S+$", saved) and "go on" not in cause + saved


def test_a_disk_that_is_full_is_named_and_the_run_goes_on(tmp_path, capfd, monkeypatch):
    write, size = files.write, []

    def fill(path, content):
        size.append(path)
        if len(size) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", fill)
        assert run("psgd --nodes 4 --steps 20 --save-every 4", tmp_path) == 1
    cause, command, saved = capfd.readouterr().err.splitlines()
    assert re.search(r"rows cannot be written to .*: No space left on device; when that is mended, go on with$", cause)
    assert command.endswith("--resume") and "the rows after 8 rounds are saved in" in saved
    assert run("psgd --nodes 4 --steps 20 --save-every 4 --resume", tmp_path) == 0
    assert json.loads((tmp_path / "result.json").read_text())["round"] == 20


def test_an_unexpected_error_saves_the_rows_too(tmp_path, capfd, monkeypatch):
    gradient = recipes.flat_gradient

    def breaking(*arguments):
        grad, calls = gradient(*arguments), []

        def broken(*x):
            calls.append(1)
            if len(calls) > 5:
                raise MemoryError("not so much")
            return grad(*x)

        return broken

    monkeypatch.setattr(recipes, "flat_gradient", breaking)
    assert run("psgd --nodes 4 --save-every 1000", tmp_path) == 1
    cause, command, saved = capfd.readouterr().err.splitlines()
    assert "process 0: MemoryError: not so much; when that is mended, go on with" in cause
    assert command.endswith("--resume") and "the rows after 5 rounds are saved in" in saved


def test_nothing_is_said_about_the_rows_of_another_run(earlier, capfd, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment.Experiment, "observe", interrupt)
    assert run("powersgd --steps 6 --nodes 4 --seed 3", earlier) == 130
    (line,) = capfd.readouterr().err.splitlines()
    assert line == "optcourse: interrupted; no round of this run was saved by all processes"


@pytest.mark.parametrize("stop", [16, 20])
def test_an_evaluation_that_was_interrupted_is_made_up_for(stop, tmp_path, monkeypatch):
    setup = Setup("psgd", nodes=4, steps=20)
    observe = experiment.Experiment.observe

    def interrupted(self, x):
        if self.net.round == stop - 1:
            raise KeyboardInterrupt
        return observe(self, x)

    def train(keep, resume=False):
        net = Network(4, clock=setup.clock())
        result = experiment.train(setup, net, Keeper(tmp_path, net) if keep else None, resume)
        return [{**row, "real_seconds": 0} for row in (result, *result["history"])]

    with monkeypatch.context() as patch:
        patch.setattr(experiment.Experiment, "observe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(True)
    resumed, whole = train(True, resume=True), train(False)
    assert resumed[1:] == whole[1:]
    assert (resumed[0]["round"], resumed[0]["loss"]) == (20, whole[0]["loss"])


def test_rows_without_a_history_are_refused(tmp_path):
    setup = Setup("psgd", nodes=4, steps=3)
    net = Network(4, clock=setup.clock())
    keeper = Keeper(tmp_path, net)
    work = experiment.Experiment(setup, net)
    *_, _ = keeper.watch(work.iterates(keeper.begin(work.start)), 2)
    net = Network(4, clock=setup.clock())
    with pytest.raises(ValueError, match="cannot be continued: they carry no history"):
        experiment.train(setup, net, Keeper(tmp_path, net), resume=True)


def test_a_long_schedule_can_show_how_far_it_is():
    shown = []

    def show(steps, name):
        shown.append((name, len(steps)))
        return steps

    assert asynchronous_schedule(constant(1.0, 2), 2, 7, show=show) == asynchronous_schedule(constant(1.0, 2), 2, 7)
    work = experiment.Experiment(Setup("async_sgd", nodes=2, steps=9), Network(2), show=show)
    assert shown == [("schedule", 7), ("schedule", 9)] and len(work.options["schedule"]) == 9


def test_a_schedule_is_that_of_all_rounds_and_its_run_ends_where_it_said(tmp_path, capfd):
    setup = Setup("psgd", nodes=4, steps=20, schedule="cosine")
    work = experiment.Experiment(setup, Network(4))
    x = next(work.iterates(work.start))
    rates = [setup.rate()(k) for k in range(20)]
    assert rates[0] == setup.lr and rates == sorted(rates, reverse=True) and rates[-1] < 0.01 * setup.lr
    plain = experiment.Experiment(Setup("psgd", nodes=4, steps=20), Network(4))
    assert torch.equal(x, next(plain.iterates(plain.start)))  # the first round has the full rate
    assert run("psgd --nodes 4 --steps 6 --schedule cosine", tmp_path) == 0
    assert run("psgd --nodes 4 --steps 8 --schedule cosine --resume", tmp_path) == 2
    assert "steps was 6 and is now 8" in capfd.readouterr().err
