"""How fast nodes step: ``python tests/benchmarks/bench_nodes.py``, or ``make bench``.

Gradients: n nodes, each with parameters and a batch of 16 of its own. Contestants take turns in an order drawn anew
for each round, and what is reported are medians of *paired ratios*, as in bench_optim.py. The ratio that matters is
to the shared-weights bound: one plain forward and backward pass of all n * 16 samples through *one* model, which
reads one set of parameters where nodes have n, and writes one gradient. What n sets cost in memory traffic alone is
measured beside it, by a copy of all parameters: each is read once, and as many numbers are written.

Prints tables and writes them to build/benchmarks.json. No assertion depends on time.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_optim import processor, save
from torch import nn
from torch.func import functional_call, vmap
from torch.profiler import profile

from optcourse import data, models, nodes
from optcourse.models.rows import flat_parameters
from optcourse.nodes.samples.gradients import flat_gradient

BATCH = 16
NODES = (1, 8, 32, 128, 512)
MODELS: dict[str, Callable[[], nn.Module]] = {
    "digits MLP 64-128-10": lambda: models.mlp(64, 10, width=128, depth=1),
    "digits CNN, 8 and 16 channels": lambda: models.cnn2d(8, 10, channels=(8, 16)),
}
BOUND, LOOP, COPY = "shared weights", "loop over modules", "copy of x"


def gradient_contestants(make: Callable[[], nn.Module], n: int, compiled: bool) -> dict[str, Callable[[], object]]:
    """Label -> one gradient of every node."""
    model, digits, generator = make(), data.digits(seed=0), torch.Generator().manual_seed(0)
    index = torch.randint(len(digits.y_train), (n, BATCH), generator=generator)
    X, Y = digits.x_train[index], digits.y_train[index]
    start = flat_parameters(model)
    x = start + 0.01 * torch.randn(n, len(start), generator=generator)
    names, parameters = zip(*model.named_parameters(), strict=True)
    sizes = [p.numel() for p in parameters]
    copies = [copy.deepcopy(model) for _ in range(n)]
    for node, row in zip(copies, x, strict=True):
        nn.utils.vector_to_parameters(row, node.parameters())

    def shared() -> object:
        return torch.autograd.grad(F.cross_entropy(model(X.flatten(0, 1)), Y.flatten()), parameters)

    def loop() -> object:
        for node, inputs, targets in zip(copies, X, Y, strict=True):
            node.zero_grad(set_to_none=True)
            F.cross_entropy(node(inputs), targets).backward()

    def single(row: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        views = (piece.view(p.shape) for piece, p in zip(row.split(sizes), parameters, strict=True))
        return F.cross_entropy(functional_call(model, dict(zip(names, views, strict=True)), (inputs,)), targets)

    plain, ours = vmap(torch.func.grad(single)), flat_gradient(model, F.cross_entropy, (X, Y))
    found = {BOUND: shared, LOOP: loop, COPY: x.clone, "vmap(grad)": lambda: plain(x, X, Y)}
    found["ours, eager"] = lambda: ours(x)
    if compiled:
        fast = flat_gradient(model, F.cross_entropy, (X, Y), compile=True)
        found["ours, compiled"] = lambda: fast(x)
    return found


def peak_bytes(step: Callable[[], object]) -> int:
    """The most memory that a step holds at a time, its result included, counted from every allocation of torch."""
    with profile(profile_memory=True) as record:
        kept = step()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    del kept
    return max(accumulate(changes, initial=0))


def compare(
    field: dict[str, Callable[[], object]], rounds: int, rng: random.Random, per_step: int, others: tuple[str, ...]
) -> dict[str, dict]:
    """Speed of every contestant in steps of one node per second, and its paired ratios to ``others``."""
    for step in field.values():
        step()  # compile
    peaks = {label: peak_bytes(step) for label, step in field.items()}
    times: dict[str, list[float]] = {label: [] for label in field}
    for _ in range(rounds):
        order = list(field)
        rng.shuffle(order)
        for label in order:
            field[label]()  # a training loop finds the caches as it left them, not as another contestant did
            start = time.perf_counter()
            field[label]()
            times[label].append(time.perf_counter() - start)
    rows = {}
    for label, own in times.items():
        ratios = {
            f"to {other}": statistics.median(b / a for a, b in zip(own, times[other], strict=True)) for other in others
        }
        best = {f"best to {other}": min(times[other]) / min(own) for other in others}
        speed = per_step / statistics.median(own)
        rows[label] = {"node_steps_per_second": speed, **ratios, **best, "peak_bytes": peaks[label]}
    return rows


def bench_gradients(arguments: argparse.Namespace, rng: random.Random) -> dict[str, dict]:
    """``name, n = ... -> contestants``; speeds are node-steps per second."""
    results = {}
    for name in arguments.models:
        for n in arguments.nodes:
            field = gradient_contestants(MODELS[name], n, not arguments.eager)
            rounds = max(15, min(100, arguments.budget // n))
            rows = compare(field, rounds, rng, n, (BOUND, LOOP))
            for row in rows.values():
                row["result_bytes"] = 4 * n * models.n_parameters(MODELS[name]())
            results[f"{name}, n = {n}"] = rows
            show(f"{name}, n = {n}", rows)
    return results


def show(case: str, rows: dict[str, dict]) -> None:
    """One table."""
    print(f"\n{case}")
    for label, row in rows.items():
        cells = ("—" if value is None else f"{value:.3g}" for value in row.values())
        print(f"{label:20}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def bench_mixing(arguments: argparse.Namespace, rng: random.Random) -> dict[str, dict]:
    """Ways to mix 10,000 numbers a node on a ring: what ``net.mix`` does, a dense product, neighbour by neighbour."""
    results = {}
    for n in (16, 32, 64, 128, 512):
        W = nodes.mixing_matrix(nodes.topology("ring", n), dtype=torch.float32)
        x = torch.randn(n, 10_000, generator=torch.Generator().manual_seed(0))
        net, exact = nodes.Network(n), nodes.Network(n, exact=True)
        field = {
            "net.mix": lambda net=net, W=W, x=x: net.mix(W, x),
            "dense product": lambda W=W, x=x: W @ x,
            "net.mix, exact": lambda net=exact, W=W, x=x: net.mix(W, x),
        }
        results[f"ring, n = {n}"] = compare(field, 40, rng, n, ("dense product",))
        show(f"ring, n = {n}", results[f"ring, n = {n}"])
    return results


def bench_memory(arguments: argparse.Namespace, rng: random.Random) -> dict[str, dict]:
    """What one step of an algorithm allocates at a time, its new state included, in copies of the state [n, d]."""
    results = {}
    for n, d in ((32, 10_000), (512, 10_000)):
        centers = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
        W = nodes.mixing_matrix(nodes.topology("ring", n), dtype=torch.float32)
        rows = {}
        for name, own in {"psgd": {}, "local_sgd": {"local_steps": 2}, "dsgd": {"W": W}}.items():
            iterates = nodes.ALGORITHMS[name](
                nodes.Network(n), lambda x, c=centers: x - c, torch.zeros(n, d), 0.1, **own
            )
            nodes.last_iterate(iterates, 4)
            peaks = [peak_bytes(lambda iterates=iterates: next(iterates)) for _ in range(4)]
            rows[name] = {"copies": max(peaks) / (centers.element_size() * centers.numel())}
        results[f"n = {n}"] = rows
        show(f"memory of a step, n = {n}, d = {d:,}", rows)
    return results


def bench_rounds(arguments: argparse.Namespace, rng: random.Random) -> dict[str, dict]:
    """Rounds of 10,000 nodes with ten numbers each, on a quadratic of their own with noise of their own."""
    n, d = 10_000, 10
    centers = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    W = nodes.mixing_matrix(nodes.topology("ring", n), sparse=True)
    options = {"psgd": {}, "local_sgd": {"local_steps": 5}, "dsgd": {"W": W}, "gradient_tracking": {"W": W}}
    rows = {}
    for name, own in options.items():
        net = nodes.Network(n)
        streams = net.streams("data")
        iterates = nodes.ALGORITHMS[name](
            net, lambda x, s=streams: x - centers + s.normal(d), torch.zeros(n, d), 0.1, **own
        )
        next(iterates)  # plans the mixing, and draws numbers for the next 400 rounds
        start = time.perf_counter()
        rounds = 800  # of which two draw as much again
        for _ in range(rounds):
            next(iterates)
        rows[name] = {"rounds_per_second": rounds / (time.perf_counter() - start)}
    show(f"rounds per second, n = {n:,}, d = {d}", rows)
    return {f"n = {n}, d = {d}": rows}


#: Key in the results -> what measures it.
CASES: dict[str, Callable[[argparse.Namespace, random.Random], dict[str, dict]]] = {
    "gradients": bench_gradients,
    "mixing": bench_mixing,
    "memory": bench_memory,
    "rounds": bench_rounds,
}


def main() -> None:
    """Parse arguments, run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--nodes", nargs="+", type=int, default=list(NODES))
    parser.add_argument("--budget", type=int, default=4000, help="node-steps per contestant; at least 15 rounds")
    parser.add_argument("--eager", action="store_true", help="leave out the compiled contestants")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = {"processor": processor(), "threads": arguments.threads, "torch": torch.__version__}
    results: dict = {"machine": machine, "batch": BATCH, "cases": {}}
    for case in arguments.cases:
        results["cases"][case] = CASES[case](arguments, random.Random(0))
        save(arguments.output, results, "nodes")


if __name__ == "__main__":
    main()
