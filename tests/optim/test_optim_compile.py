"""compile=True: the same results; one clear warning and the same results where there is no compiler."""

import os
import random
import shutil
import subprocess
import sys

import pytest
import torch
from optim_cases import gap, give_gradients, parameters, twins
from torch.nn.utils import parameters_to_vector, vector_to_parameters

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
def test_large_tensors_share_kernels_whatever_their_shapes():
    """Neither equal sizes in a bundle, nor axes of length one, nor a row may need another kernel."""
    draw, bundle = random.Random(0), kernels.BUNDLE
    sizes = [20_000] * bundle + [18_000 + 1_000 * i for i in range(bundle + 1)]
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for seed in range(12):
        forms = [[(n,), (1, n), (n, 1, 1), (n // 10, 10), (10, 2, n // 20)] for n in sizes]
        a = parameters([draw.choice(shapes) for shapes in forms], torch.float32)
        b = twins(a)
        row = draw.sample(b, draw.randrange(len(b)))
        if row:
            vector_to_parameters(parameters_to_vector(row).detach(), row)
        give_gradients(a, b, seed=seed)
        versions = [p._version for p in b]
        optim.Adamax(a).step()
        with torch._dynamo.config.patch(error_on_recompile=True):
            optim.Adamax(b, compile=True).step()
        assert gap(a, b) < 1e-6
        assert all(p._version > v for p, v in zip(b, versions, strict=True))  # autograd knows that a step changed them
    assert not kernels._failures
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 4  # alone or bundled, in a row or not


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


@pytest.mark.parametrize("known", [True, False], ids=["the compiler's", "the rule's own"])
def test_only_errors_of_the_compiler_make_a_step_run_eagerly(known, monkeypatch):
    error = torch._dynamo.exc.FailOnRecompileLimitHit("too many") if known else KeyError("rule")

    def kernel(*_):
        raise error

    monkeypatch.setattr(kernels, "_failures", [])
    monkeypatch.setattr(kernels, "_kernel", lambda *_: kernel)
    a = parameters([(20_000,)])
    b = twins(a)
    give_gradients(a, b, seed=0)
    if known:
        with pytest.warns(RuntimeWarning, match="torch.compile does not work here .too many"):
            optim.Adam(b, compile=True).step()
        optim.Adam(a).step()
        assert gap(a, b) == 0
    else:
        with pytest.raises(KeyError, match="rule"):
            optim.Adam(b, compile=True).step()
