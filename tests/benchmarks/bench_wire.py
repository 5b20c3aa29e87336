"""The model of communication against a wire: ``python tests/benchmarks/bench_wire.py``, or ``make bench``.

Eight hosts (and a server) are network namespaces, each with a wire of its own to one switch (tests/nodes/hosts.py),
whose rate ``tc ... tbf`` limits in both directions. They play the plans of ``nodes.time.collectives`` with real
messages over TCP, in an order drawn anew for each repetition. A message occupies its sender and its receiver, and the
sender spends ``STARTUP`` seconds before it: netem, which would delay packets, is not everywhere, and the microseconds
of a switch inside one machine are lost in those of the shaper. The time from the common start to the last host's end
is compared with the model, ``theory.distributed.communication``: a message of b bytes takes latency + b
seconds_per_byte. One latency and one bandwidth for each rate are fitted to the fastest repetitions (what other
programs add is no property of a wire) of the four plans and all sizes, least squares on the relative error. "Star,
all at once" is the star whose nodes do not wait for their turn; the same model is held against it, without being
fitted to it.

Prints the rows and writes them to build/benchmarks.json, which wire_table.py turns into a page. No assertion depends
on time. Needs root and iproute2.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_optim import processor, save

from optcourse.nodes.time.collectives import Plan, plan
from optcourse.theory.distributed.communication import communication_time

sys.path.append(str(Path(__file__).parents[1] / "nodes"))
from hosts import BURST, PACKET, hosts, inside, why_not  # pyright: ignore[reportMissingImports]

N_NODES = 8
PATTERNS = {"ring": "ring", "tree": "binomial_tree", "Rabenseifner": "rabenseifner", "star": "parameter_server"}
AT_ONCE = "star, all at once"
PATTERNS[AT_ONCE] = "parameter_server"
SIZES = (1024, 4096, 16384, 65536, 262144)
RATES = (20_000_000, 60_000_000)
#: Seconds that a host spends before each message.
STARTUP = 0.005
WORKER = str(Path(__file__).with_name("wire_worker.py"))


def steps(planned: Plan, host: int) -> list[list[Any]]:
    """What a host does in each round, as its worker reads it."""
    found = []
    for messages in planned.rounds:
        sends = next(([m.receiver, m.parts] for m in messages if m.sender == host), None)
        receives = next(([m.sender, m.parts, m.adds] for m in messages if m.receiver == host), None)
        if sends or receives:
            found.append([sends, receives])
    return found


@contextlib.contextmanager
def workers(addresses: dict[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """A connected worker on every host."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(inside(name, sys.executable, WORKER), **pipes) for name in addresses]
    try:
        for rank, worker in enumerate(running):
            tell(worker, {"rank": rank, "addresses": list(addresses.values())})
        for worker in running:
            answer(worker)
        yield running
    finally:
        for worker in running:
            worker.kill()
            worker.wait()


def tell(worker: subprocess.Popen[str], task: dict[str, Any]) -> None:
    """Hand a line to a worker."""
    assert worker.stdin
    worker.stdin.write(json.dumps(task) + "\n")
    worker.stdin.flush()


def answer(worker: subprocess.Popen[str]) -> Any:
    """The next line of a worker."""
    assert worker.stdout
    return json.loads(worker.stdout.readline())


def seconds(running: list[subprocess.Popen[str]], planned: Plan, size: int, in_turn: bool = True) -> float:
    """Time of one all-reduce of ``size`` bytes a node, from the common start to the last end; checks the sums."""
    cuts = torch.empty(size // 4).tensor_split(planned.n_parts)
    cuts = np.cumsum([len(part) for part in cuts])[:-1].tolist()
    at = time.monotonic() + 0.03
    for host, worker in enumerate(running[: planned.n_hosts]):
        task = {"bytes": size, "cuts": cuts, "steps": steps(planned, host), "zero": host == planned.n_nodes, "at": at}
        tell(worker, task | {"startup": STARTUP, "in_turn": in_turn})
    answers = [answer(worker) for worker in running[: planned.n_hosts]]
    total = planned.n_nodes * (planned.n_nodes + 1) / 2
    wrong = [reply["total"] for reply in answers if reply["total"] != [total, total]]
    if wrong:
        raise RuntimeError(f"{planned.pattern}, {size} bytes: the sum is {total}, got {wrong[0]}")
    return max(reply["done"] for reply in answers) - at


def measured(rate: int, repeats: int, rng: random.Random) -> dict[str, dict[int, list[float]]]:
    """Pattern -> size -> seconds of each repetition."""
    plans = {name: plan(pattern, N_NODES) for name, pattern in PATTERNS.items()}
    cases = [(name, size) for name in plans for size in SIZES]
    found: dict[str, dict[int, list[float]]] = {name: {size: [] for size in SIZES} for name in plans}
    with hosts(N_NODES + 1, rate) as addresses, workers(addresses) as running:
        for name in plans:
            seconds(running, plans[name], SIZES[-1])  # every connection has sent something
        for _ in range(repeats):
            for name, size in rng.sample(cases, len(cases)):
                found[name][size].append(seconds(running, plans[name], size, in_turn=name != AT_ONCE))
    return found


def fit(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """(latency, seconds per byte): both at least 0, least squares on the relative error."""
    from scipy.optimize import nnls

    costs = [[model(row, 1.0, 0.0), model(row, 0.0, 1.0)] for row in rows]
    times = np.array([row["best"] for row in rows])
    scale = np.max(costs, axis=0)  # columns of one size
    latency, per_byte = nnls(np.array(costs) / scale / times[:, None], np.ones(len(rows)))[0] / scale
    return float(latency), float(per_byte)


def model(row: dict[str, Any], latency: float, seconds_per_byte: float) -> float:
    """What the theory says about a row."""
    wire = {"latency": latency, "seconds_per_byte": seconds_per_byte}
    pattern, size = PATTERNS[row["pattern"]], row["bytes"]
    return float(communication_time(pattern=pattern, n_nodes=N_NODES, message_bytes=size, **wire))


def at_rate(rate: int, repeats: int, rng: random.Random) -> dict[str, Any]:
    """The fit and the rows of one rate."""
    rows = [
        {"pattern": name, "bytes": size, "median": statistics.median(times), "best": min(times)}
        for name, by_size in measured(rate, repeats, rng).items()
        for size, times in by_size.items()
    ]
    latency, per_byte = fit([row for row in rows if row["pattern"] != AT_ONCE])
    for row in rows:
        row["model"] = model(row, latency, per_byte)
        row["residual"] = row["best"] / row["model"] - 1
        print(
            f"{rate / 1e6:6.0f} Mbit/s {row['pattern']:17s} {row['bytes']:8,d} B  {1e3 * row['best']:9.2f} ms"
            f"  (median {1e3 * row['median']:9.2f})  model {1e3 * row['model']:9.2f} ms  {row['residual']:+.1%}",
            flush=True,
        )
    print(f"latency {1e6 * latency:.0f} us, bandwidth {8e-6 / per_byte:.2f} Mbit/s", flush=True)
    return {"latency": latency, "seconds_per_byte": per_byte, "rows": rows}


def main() -> None:
    """Parse arguments, run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="+", type=int, default=list(RATES), help="bits per second")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks.json"))
    arguments = parser.parse_args()
    reason = why_not(rate=arguments.rates[0])
    if reason:
        print(f"no wires can be made and limited here, nothing is measured: {reason}")
        return
    rng = random.Random(0)
    results: dict[str, Any] = {"machine": {"processor": processor()}, "n_nodes": N_NODES, "repeats": arguments.repeats}
    results |= {"startup": STARTUP, "burst": BURST, "packet": PACKET, "rates": {}}
    for rate in arguments.rates:
        results["rates"][str(rate)] = at_rate(rate, arguments.repeats, rng)
    save(arguments.output, results, "wire")


if __name__ == "__main__":
    main()
