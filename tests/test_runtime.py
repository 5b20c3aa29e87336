"""The first line of a notebook: seeds, threads, device; and what the rest of the package may import."""

import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import optcourse


def test_one_seed_gives_one_result():
    def draw():
        return np.random.rand(), torch.rand(1).item()

    optcourse.start(seed=3, device="cpu")
    first = draw()
    optcourse.start(seed=3, device="cpu")
    assert draw() == first
    optcourse.start(seed=4, device="cpu")
    assert draw() != first


def test_each_key_has_a_stream_of_its_own_that_does_not_depend_on_order():
    run = optcourse.start(seed=1, device="cpu")
    a, b = run.rng("a").random(), run.rng("b").random()
    np.random.rand(100)
    assert (run.rng("b").random(), run.rng("a").random()) == (b, a) and a != b
    assert run.rng("a", 1).random() != run.rng("a", 2).random()
    t = torch.rand(1, generator=run.torch_generator("a"))
    assert t == torch.rand(1, generator=run.torch_generator("a"))


def test_text_keys_do_not_depend_on_the_process():
    code = "import optcourse; print(optcourse.Run('quick', 0, None).rng('key').random())"
    values = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(values) == 1


def test_profile_picks():
    assert optcourse.start(profile="quick", device="cpu").pick(quick=1, full=2) == 1
    assert optcourse.start(profile="full", device="cpu").pick(quick=1, full=2) == 2


def test_a_cell_for_a_gpu_gets_the_device_or_a_rehearsal_on_the_cpu(monkeypatch):
    monkeypatch.delenv("OPTCOURSE_REHEARSE", raising=False)
    run = optcourse.start(device="cpu")
    assert run.gpu is None and run.pick(quick=1, full=2, rehearsal=3) == 1
    assert optcourse.Run("quick", 0, torch.device("cuda")).gpu == torch.device("cuda")
    monkeypatch.setenv("OPTCOURSE_REHEARSE", "1")
    for device in ("cpu", "auto", "cuda"):
        run = optcourse.start(profile="full", device=device)
        assert run.gpu == run.device == torch.device("cpu") and run.rehearsal
    assert run.pick(quick=1, full=2, rehearsal=0) == 0 and run.pick(quick=1, full=2) == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"profile": "fast"}, ValueError, "profile must be one of 'quick', 'full', got 'fast'"),
        ({"device": "tpu"}, ValueError, "device must be one of 'auto', 'cpu', 'cuda', got 'tpu'"),
        ({"seed": -1}, ValueError, "seed must be in 0..4294967295, got -1"),
        ({"seed": 1.5}, TypeError, "seed must be an integer, got 1.5"),
        ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        optcourse.start(**{"device": "cpu"} | options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_is_refused_and_auto_is_the_cpu():
    with pytest.raises(ValueError, match="device must be 'auto' or 'cpu' on this machine, got 'cuda'"):
        optcourse.start(device="cuda")
    assert optcourse.start(device="auto").device == torch.device("cpu")


def test_threads_follow_the_environment(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OPTCOURSE_THREADS", "2")
    optcourse.start(device="cpu")
    assert torch.get_num_threads() == 2
    monkeypatch.delenv("OPTCOURSE_THREADS")
    optcourse.start(device="cpu")
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_importing_the_package_imports_no_torch():
    code = "import sys, optcourse, optcourse.theory; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_networks_and_optimizers_leave_the_compiler_of_torch_unloaded():
    """It takes a second and more, of every lecture and of every process that a lecture starts."""
    code = (
        "import sys, torch; from optcourse import models, optim; from optcourse.models import tokens; "
        "from optcourse.training import fit; "
        "nets = models.mlp(4, 3), models.cnn2d(4, 3), models.softmax_regression(4, 3), tokens.vit(4, 3); "
        "x, y = torch.randn(8, 16), torch.zeros(8, dtype=torch.int64); "
        "model = nets[1]; fit(model, (x, y), optim.Adam(model.parameters()), steps=2, batch_size=4); "
        "print({'sympy', 'torch._dynamo'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_progress_passes_everything_on(monkeypatch):
    for setting in ("off", "on"):
        monkeypatch.setenv("OPTCOURSE_PROGRESS", setting)
        assert list(optcourse.progress(range(3), desc="steps")) == [0, 1, 2]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_is_noted_and_the_second_does_what_it_did_before(signum):
    def stop(*_):
        raise SystemExit

    before = signal.signal(signum, stop)
    try:
        with optcourse.runtime.interrupts() as interrupted:
            assert not interrupted.is_set()
            signal.raise_signal(signum)
            assert interrupted.is_set()
            with pytest.raises(SystemExit):
                signal.raise_signal(signum)
        with optcourse.runtime.interrupts() as interrupted:
            pass
        with pytest.raises(SystemExit):
            signal.raise_signal(signum)
        assert not interrupted.is_set()
    finally:
        signal.signal(signum, before)


def test_outside_of_the_main_thread_no_signal_is_handled():
    entered = []

    def enter():
        with optcourse.runtime.interrupts() as interrupted:
            entered.append(interrupted.is_set())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [False]


def test_side_by_side_everything_comes_once_and_after_an_interrupt_nothing_new_starts():
    never = threading.Event()
    assert dict(optcourse.runtime.in_parallel(lambda k: k * k, range(5), 2, never, never.wait)) == {
        k: k * k for k in range(5)
    }
    interrupted, ended, started = threading.Event(), threading.Event(), []

    def work(key):
        started.append(key)
        interrupted.set()
        ended.wait()
        return key

    come = list(optcourse.runtime.in_parallel(work, "abc", 1, interrupted, lambda key: key == "a" and ended.set()))
    assert (come, started) == ([("a", "a")], ["a"])
