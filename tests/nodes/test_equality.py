"""``torchrun`` with 2 and 4 gloo processes against the simulator: the same bits, or 1e-12 with plain collectives."""

import os
import subprocess
import sys
from pathlib import Path

import equality_worker
import pytest
import torch

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def simulated():
    return equality_worker.run_all()


@pytest.mark.parametrize("processes", [2, 4])
def test_real_processes_equal_the_simulator(processes, simulated, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += [str(HERE / "equality_worker.py"), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]
    wrong = []
    for key, (_, expected, n_bytes) in simulated.items():
        name, n, exact, dtype = key
        rows = torch.cat([part[key][1] for part in parts])
        assert torch.cat([part[key][0] for part in parts]).tolist() == list(range(n))
        same = torch.equal(rows, expected) if exact else torch.allclose(rows, expected, rtol=0, atol=1e-12)
        if not same:
            wrong.append(f"{name}, n = {n}, exact = {exact}, {dtype}: {(rows - expected).abs().max():.3g} apart")
        if any(not torch.equal(part[key][2], n_bytes) for part in parts):
            wrong.append(f"{name}, n = {n}: the nodes' bytes differ from the simulator's")
    assert not wrong, "\n".join(wrong)
