"""Seconds on a fake clock: of a device that works later, and of calls that take turns on a busy machine."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from optcourse import timing


class Gpu:
    """Stands for torch.cuda: kernels wait in a queue, which a clock of its own works off, in milliseconds."""

    def __init__(self):
        self.now, self.queue = 0.0, [1e6]  # something is still under way

    def synchronize(self):
        for kernel in self.queue:
            if isinstance(kernel, list):
                kernel.append(self.now)
            else:
                self.now += kernel
        self.queue.clear()

    def event(self, enable_timing):
        assert enable_timing
        at = []
        return SimpleNamespace(
            at=at, record=lambda: self.queue.append(at), elapsed_time=lambda later: later.at[0] - at[0]
        )


@pytest.fixture
def gpu(monkeypatch):
    gpu = Gpu()
    names = {"synchronize": gpu.synchronize, "Event": gpu.event, "device": lambda _: contextlib.nullcontext()}
    for name, fake in names.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return gpu


def test_a_gpu_is_timed_by_its_own_events(gpu):
    assert timing.elapsed(lambda: gpu.queue.append(7.0), "cuda") == pytest.approx(0.007)
    assert timing.elapsed(lambda: gpu.queue.append(7.0)) < 1 and gpu.queue == [7.0]  # on the CPU: the call alone


def test_calls_in_turn_are_timed_on_their_device(gpu):
    calls = [lambda ms=ms: gpu.queue.append(ms) for ms in (7.0, 9.0)]
    assert timing.in_turn(calls, repeats=3, device="cuda") == pytest.approx(np.array([[0.007, 0.009]] * 3))


def test_calls_in_turn_meet_the_same_conditions(monkeypatch):
    """A clock on which the third round is a thousand times slower: the ratio within a round is not."""
    now, called = [0.0], []
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def works(name, seconds):
        def call():
            called.append(name)
            now[0] += seconds * (1000 if (len(called) - 1) // 2 == 4 else 1)

        return call

    seconds = timing.in_turn([works("a", 3.0), works("b", 2.0)], repeats=20, warmup=2)
    assert seconds.shape == (20, 2) and seconds[:, 0] / seconds[:, 1] == pytest.approx(np.full(20, 1.5))
    others = np.delete(seconds, 2, 0)
    assert seconds[2] == pytest.approx([3000, 2000]) and others == pytest.approx(np.array([[3, 2]] * 19))
    rounds = [tuple(called[i : i + 2]) for i in range(0, len(called), 2)]
    assert len(rounds) == 22 and set(rounds) == {("a", "b"), ("b", "a")}
    for bad, message in (({"repeats": 0}, "repeats"), ({"repeats": 1, "warmup": -1}, "warmup")):
        with pytest.raises(ValueError, match=message):
            timing.in_turn([print], **bad)
    with pytest.raises(ValueError, match="calls must be at least one"):
        timing.in_turn([], repeats=1)
