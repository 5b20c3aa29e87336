"""Run by ``torchrun``: every algorithm on real processes; saves the own rows of each run. ``FOLDER`` is the argument."""

import sys
from pathlib import Path

import node_cases
import torch
import torch.distributed as dist

from optcourse import nodes

STEPS = 12
RUNS = [(True, torch.float32), (True, torch.float64), (False, torch.float64)]
SIZES = (8, 7)


def run_all():
    """(name, n, exact, dtype) -> (numbers of the own nodes, their rows, bytes sent by each node)."""
    results = {}
    for n in SIZES:
        for exact, dtype in RUNS:
            for name in node_cases.cases(nodes.Network(n)):
                net = nodes.Network(n, exact=exact, timeout=60)
                x = node_cases.iterate(net, name, dtype, STEPS)
                results[name, n, exact, str(dtype)] = (net.mine, x.clone(), net.bytes_sent)
    return results


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save(run_all(), Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()
