"""compile=True: the same results; one clear warning and the same results where there is no compiler."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from optim_cases import gap, give_gradients, parameters, twins

from optcourse import optim
from optcourse.optim.engine import kernels

compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(compiler is None, reason="no C++ compiler")


@needs_compiler
@pytest.mark.parametrize("name", ["Adam", "LAMB"])
def test_compiled_equals_eager_without_compiling_again(name):
    a = parameters([(400, 350), (300, 450), (60_000,), (50_000,), (7,)], torch.float32)
    b = twins(a)
    eager, compiled = getattr(optim, name)(a), getattr(optim, name)(b, compile=True)
    schedule = [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in (eager, compiled)]
    for seed in range(4):
        if seed == 2:
            compilations = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        give_gradients(a, b, seed=seed)
        for run in (eager, compiled, *schedule):
            run.step()
    assert not kernels._failures
    assert compilations > 0 and torch._dynamo.utils.counters["stats"]["unique_graphs"] == compilations
    assert gap(a, b) < 1e-5
    assert compiled.state_dict()["state"][0].keys() == eager.state_dict()["state"][0].keys()


@needs_compiler
def test_large_tensors_share_kernels_whatever_their_sizes():
    """Bundles of several tensors: equal sizes in the first bundle must not bind the sizes of the next."""
    sizes = [150_000] * kernels.BUNDLE + [140_000 + 1_000 * i for i in range(kernels.BUNDLE + 1)]
    a = parameters([(size,) for size in sizes], torch.float32)
    b = twins(a)
    eager, compiled = optim.Adamax(a), optim.Adamax(b, compile=True)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for seed in range(3):
        give_gradients(a, b, seed=seed)
        eager.step()
        compiled.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 2  # one bundle, one single tensor
    assert gap(a, b) < 1e-6


def test_small_parameters_do_not_wait_for_a_compiler(monkeypatch):
    def no_kernel(*_):
        raise AssertionError("compiled a kernel for a handful of numbers")

    monkeypatch.setattr(kernels, "_kernel", no_kernel)
    p = parameters([(50, 50)])
    give_gradients(p, seed=0)
    optim.Adam(p, compile=True).step()


WITHOUT_COMPILER = """
import warnings, torch
from optcourse import optim
p, q = (torch.nn.Parameter(torch.ones(200_000)) for _ in range(2))
runs = optim.Adam([p], compile=True), optim.Lion([p], compile=True), optim.Adam([q]), optim.Lion([q])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        p.grad = torch.ones_like(p)
        q.grad = torch.ones_like(q)
        for run in runs:
            run.step()
messages = [str(w.message) for w in caught if "optcourse" in w.filename or "compile=True" in str(w.message)]
print(len(messages), torch.equal(p, q), messages[0])
"""


def test_without_a_compiler_it_warns_once_and_runs(tmp_path):
    environment = {**os.environ, "CXX": "/nonexistent/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", WITHOUT_COMPILER], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("1 True compile=True: torch.compile does not work here")
    assert "C++ compiler" in result.stdout
