"""Run by ``torchrun`` in a network of its own: bytes counted by the package against those of the loopback interface."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from optcourse import nodes
from optcourse.nodes import compressors

ROUNDS, SIZE = 20, 100_000


def loopback_bytes():
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    raise RuntimeError("no loopback interface")


def measure(call, exact):
    """(bytes on the interface, bytes that the processes counted, bytes that the nodes counted) of some rounds."""
    net = nodes.Network(dist.get_world_size(), exact=exact)
    x = torch.randn(net.rows, SIZE, generator=torch.Generator().manual_seed(net.rank))
    call(net, x)  # connections are made, buffers are there
    dist.barrier()
    before, wire, counted = loopback_bytes(), net.wire_bytes, float(net.bytes_sent.sum())
    dist.barrier()
    for _ in range(ROUNDS):
        call(net, x)
    dist.barrier()
    on_wire = torch.tensor(float(net.wire_bytes - wire))
    dist.all_reduce(on_wire)
    return loopback_bytes() - before, on_wire.item(), float(net.bytes_sent.sum()) - counted


if __name__ == "__main__":
    dist.init_process_group("gloo")
    ring = nodes.mixing_matrix(nodes.topology("ring", dist.get_world_size()))
    calls = {
        "mean": lambda net, x: net.mean(x),
        "gather": lambda net, x: net.gather(x),
        "mix": lambda net, x: net.mix(ring, x),
        "top-k": lambda net, x: net.mean(compressors.top_k(SIZE // 8)(x)),
        "sign": lambda net, x: net.mix(ring, compressors.scaled_sign()(x.repeat(1, 16))),
    }
    results = {name: measure(call, exact=False) for name, call in calls.items()}
    results["mean, exact"] = measure(calls["mean"], exact=True)
    if dist.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(results))
    dist.barrier()
    dist.destroy_process_group()
