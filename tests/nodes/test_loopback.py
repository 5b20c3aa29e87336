"""Counted bytes are those that cross the loopback interface, in a network namespace with no other traffic."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PRIVATE = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent"]


def private_network():
    if not shutil.which("bwrap"):
        return False
    return subprocess.run([*PRIVATE, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not private_network(), reason="needs bubblewrap for a loopback interface of its own")
@pytest.mark.parametrize("processes", [2, 3])
def test_counted_bytes_cross_the_loopback_interface(processes, tmp_path):
    result = tmp_path / "bytes.json"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", "29500"]
    command = [*PRIVATE, *torchrun, str(HERE / "loopback_worker.py"), str(result)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, (crossed, counted, by_nodes) in json.loads(result.read_text()).items():
        assert 1.0 <= crossed / counted <= 1.02, f"{name}: {crossed / counted:.4f} of what the processes counted"
        if name != "mean, exact":  # one node a process: then both counts are the same, but exact gathers
            assert counted == pytest.approx(by_nodes, rel=0, abs=20 * processes), name  # each call rounds to a byte
