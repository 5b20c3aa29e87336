"""Run by ``torchrun``: every algorithm on real processes; saves the own rows of each run in the folder ``argv[1]``."""

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
    torch.set_num_threads(1)  # sums over several threads may be rounded in another order
    results = {}
    for n in SIZES:
        for exact, dtype in RUNS:
            for name in node_cases.cases(nodes.Network(n)):
                net = nodes.Network(n, exact=exact, timeout=60)
                x = node_cases.iterate(net, name, dtype, STEPS)
                results[name, n, exact, str(dtype)] = (net.mine, x.clone(), net.bytes_sent)
            for name in ("psgd", "dsgd", "error_feedback"):
                net = nodes.Network(n, exact=exact, timeout=60)
                grad, x = node_cases.digits_gradient(net, dtype)
                rule, options = node_cases.cases(net)[name]
                iterates = rule(net, grad, x, 0.1, **options)
                for _ in range(STEPS):
                    x = next(iterates)
                results[f"{name} on digits", n, exact, str(dtype)] = (net.mine, x.clone(), net.bytes_sent)
    return results


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save(run_all(), Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()
