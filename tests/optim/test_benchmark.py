"""The benchmark of the optimizers on tiny tensors: who takes part, and who is left out where it cannot step."""

import importlib.util
import random
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).parents[1] / "benchmarks" / "bench_optim.py"


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_optim", SOURCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(module.LARGER_THAN_A_CACHE, "cpu", 1000)
    return module


def failing(params):
    raise RuntimeError("`fused=True` requires all the params to be on another device\nand more")


def test_a_variant_that_a_device_lacks_is_left_out_and_ours_never(bench, monkeypatch, capsys):
    def eager(params):
        return torch.optim.SGD(params, lr=0.1)

    field = {"ours, eager": eager, "torch, foreach": eager, "torch, fused": failing}
    monkeypatch.setattr(bench, "contestants", lambda method: field)
    rows = bench.compare("SGD", [(3, 2), (4,)], 2, random.Random(0), False)
    assert list(rows) == ["ours, eager", "torch, foreach"] and rows["torch, foreach"]["step_to_fastest_peer"] == 1
    assert "SGD: no torch, fused on cpu: `fused=True` requires" in capsys.readouterr().out
    field["ours, eager"] = failing
    with pytest.raises(RuntimeError, match="requires all the params"):
        bench.compare("SGD", [(3, 2)], 2, random.Random(0), False)


@pytest.mark.parametrize("method", ["SGD", "Adam", "AdamW"])
def test_torchs_foreach_and_fused_optimizers_meet_ours(bench, method):
    assert {"ours, compiled", "ours, eager", "torch, foreach", "torch, fused"} <= set(bench.contestants(method))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_it_says_what_it_would_measure(bench, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["bench", "--device", "cuda", "--output", str(tmp_path / "b.json")])
    bench.main()
    assert capsys.readouterr().out.startswith("skipped: no CUDA device; with one: ")
    assert not any(tmp_path.iterdir())
