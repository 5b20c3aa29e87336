"""How fast the optimizers step: ``python tests/benchmarks/bench_optim.py``, or ``make bench``.

Every contestant of a method (ours eager and compiled; torch's for-loop, foreach and fused variants;
pytorch_optimizer, timm and adamp where they are installed) takes one step per round, in an order
drawn anew for each round. What is reported is the median over rounds of *paired ratios*: another
process that slows down a round slows down both sides of the ratio. Two ratios matter: to the fastest
contestant that is not ours, and to the bound set by moving the bytes of parameters, gradients and state
once, at the bandwidth of an in-place multiplication measured in the same rounds.

With ``--device cuda`` all that happens on a GPU, timed by its own events (skipped without one). A variant of torch's
that does not exist there (fused, for some methods) is left out, and said so.

Prints tables and writes them to build/benchmarks.json. No assertion depends on time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import platform
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from optcourse import optim, timing


def resnet50_shapes() -> list[tuple[int, ...]]:
    """The 161 parameter shapes of a ResNet-50 with 1000 classes, in the order of its layers."""
    shapes: list[tuple[int, ...]] = []

    def convolution(inputs: int, outputs: int, size: int) -> None:
        shapes.extend([(outputs, inputs, size, size), (outputs,), (outputs,)])  # weight, norm gain, norm bias

    convolution(3, 64, 7)
    width_in = 64
    for width, blocks in zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True):
        for block in range(blocks):
            convolution(width_in, width, 1)
            convolution(width, width, 3)
            convolution(width, 4 * width, 1)
            if block == 0:
                convolution(width_in, 4 * width, 1)
            width_in = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


CASES: dict[str, list[tuple[int, ...]]] = {
    "one tensor of 25M": [(5000, 5000)],
    "161 tensors of ResNet-50": resnet50_shapes(),
    "300 tensors of 1,000": [(1000,)] * 300,
    "300 tensors of 1,000, in a row": [(1000,)] * 300,
}

#: Without weight decay other libraries skip the norms that are the point of the method.
LIKE_LARS = {"momentum": 0.9, "weight_decay": 5e-4}

#: Per method: settings, number of state vectors, torch's name, and other libraries' (module, class, settings).
METHODS: dict[str, tuple[dict, int, str | None, list[tuple[str, str, dict]]]] = {
    "SGD": ({"lr": 1e-3, "momentum": 0.9}, 1, "SGD", []),
    "Adam": ({"lr": 1e-3}, 2, "Adam", []),
    "AdamW": ({"lr": 1e-3}, 2, "AdamW", []),
    "Adagrad": ({"lr": 1e-3}, 1, "Adagrad", []),
    "RMSprop": ({"lr": 1e-3}, 1, "RMSprop", []),
    "Adadelta": ({"lr": 1.0}, 2, "Adadelta", []),
    "Adamax": ({"lr": 1e-3}, 2, "Adamax", []),
    "NAdam": ({"lr": 1e-3}, 2, "NAdam", [("pytorch_optimizer", "NAdam", {})]),
    "RAdam": ({"lr": 1e-3}, 2, "RAdam", [("pytorch_optimizer", "RAdam", {})]),
    "SGDW": (
        {"lr": 1e-3},
        1,
        None,
        [("timm.optim", "SGDW", {"momentum": 0.9}), ("pytorch_optimizer", "SGDW", {"momentum": 0.9})],
    ),
    "Lion": ({"lr": 1e-4}, 1, None, [("timm.optim", "Lion", {}), ("pytorch_optimizer", "Lion", {})]),
    "LARS": ({"lr": 1.0}, 1, None, [("timm.optim", "Lars", LIKE_LARS), ("pytorch_optimizer", "LARS", LIKE_LARS)]),
    "LAMB": (
        {"lr": 1e-3},
        2,
        None,
        [("timm.optim", "Lamb", {}), ("pytorch_optimizer", "Lamb", {"weight_decay": 0.01})],
    ),
    "SGDP": ({"lr": 1e-3}, 1, None, [("adamp", "SGDP", {"momentum": 0.9}), ("timm.optim", "SGDP", {"momentum": 0.9})]),
    "AdamP": ({"lr": 1e-3}, 2, None, [("adamp", "AdamP", {}), ("timm.optim", "AdamP", {})]),
    "Muon": ({"lr": 1e-3}, 1, "Muon", []),
}
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")

#: Elements: 100 MB, and for a GPU, whose cache may hold half of that, 1 GB.
LARGER_THAN_A_CACHE = {"cpu": 25_000_000, "cuda": 250_000_000}


def contestants(method: str) -> dict[str, Callable]:
    """Every implementation at hand: label -> function of the parameters."""
    settings, _, in_torch, others = METHODS[method]
    ours, found = getattr(optim, method), {}
    found["ours, compiled"] = lambda ps: ours(ps, compile=True, **settings)
    found["ours, eager"] = lambda ps: ours(ps, **settings)
    if in_torch and hasattr(torch.optim, in_torch):
        theirs = getattr(torch.optim, in_torch)
        variants = [] if in_torch == "Muon" else [("for-loop", {"foreach": False}), ("foreach", {"foreach": True})]
        variants += [("fused", {"fused": True})] if in_torch in FUSED else []
        for label, variant in variants or [("only", {})]:
            found[f"torch, {label}"] = lambda ps, variant=variant: theirs(ps, **settings, **variant)
    for module, name, more in others:
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
        found[module.split(".")[0]] = lambda ps, cls=cls, more=more: cls(ps, lr=settings["lr"], **more)
    return found


class Contestant:
    """One implementation with parameters of its own."""

    def __init__(
        self, make: Callable, shapes: list[tuple[int, ...]], in_a_row: bool = False, device: str = "cpu"
    ) -> None:
        generator, self.device = torch.Generator().manual_seed(0), device
        self.params = [torch.nn.Parameter(0.1 * torch.randn(s, generator=generator).to(device)) for s in shapes]
        if in_a_row:  # the user's choice, which optimizers may use
            vector_to_parameters(parameters_to_vector(self.params).detach(), self.params)
        self.targets = [torch.randn(s, generator=generator).to(device) for s in shapes]
        self.optimizer = make(self.params)

    def backward(self) -> None:
        """Fresh gradients of a loss that is cheap, so that the optimizer is what the iteration measures."""
        self.optimizer.zero_grad(set_to_none=True)
        products = [(p * target).sum() for p, target in zip(self.params, self.targets, strict=True)]
        torch.stack(products).sum().backward()

    def round(self) -> tuple[float, float]:
        """Seconds of ``step()`` alone, and of the whole iteration."""
        backward = timing.elapsed(self.backward, self.device)
        step = timing.elapsed(self.optimizer.step, self.device)
        return step, backward + step


def seconds_per_byte(x: torch.Tensor, repeats: int = 3) -> float:
    """Of an in-place pass that reads and writes every element, the pattern of an optimizer's step."""
    times = [timing.elapsed(lambda: x.mul_(1.0), x.device) for _ in range(repeats)]
    return min(times) / (2 * x.numel() * x.element_size())


def compare(
    method: str, shapes: list[tuple[int, ...]], rounds: int, rng: random.Random, in_a_row: bool, device: str = "cpu"
) -> dict[str, dict]:
    """Milliseconds and paired ratios of every contestant that can step on ``device``."""
    field = {}
    for label, make in contestants(method).items():
        try:
            field[label] = Contestant(make, shapes, in_a_row, device)
            for _ in range(3):  # compile, allocate
                field[label].round()
        except (RuntimeError, NotImplementedError) as error:
            if label.startswith("ours"):
                raise
            field.pop(label, None)
            print(f"{method}: no {label} on {device}: {str(error).splitlines()[0]}")
    elements = sum(math.prod(s) for s in shapes)
    stream = torch.ones(max(elements, LARGER_THAN_A_CACHE[device]), device=device)
    moved = elements * 4 * (3 + 2 * METHODS[method][1])  # read x, g, state; write x, state
    steps: dict[str, list[float]] = {label: [] for label in field}
    wholes: dict[str, list[float]] = {label: [] for label in field}
    bounds = []
    for _ in range(rounds):
        order = list(field)
        rng.shuffle(order)
        for label in order:
            step, whole = field[label].round()
            steps[label].append(step)
            wholes[label].append(whole)
        bounds.append(moved * seconds_per_byte(stream))

    def ratios(times: dict[str, list[float]], peers: list[str]) -> dict[str, float | None]:
        if not peers:
            return dict.fromkeys(times)
        fastest = min(peers, key=lambda label: statistics.median(times[label]))
        paired = {label: [a / b for a, b in zip(ts, times[fastest], strict=True)] for label, ts in times.items()}
        return {label: statistics.median(values) for label, values in paired.items()}

    peers = [label for label in field if not label.startswith("ours")]
    eager_peers = [label for label in peers if label != "torch, fused"]
    per_step, per_iteration = ratios(steps, peers), ratios(wholes, peers)
    per_eager = ratios(steps, eager_peers)
    return {
        label: {
            "step_ms": 1e3 * statistics.median(steps[label]),
            "iteration_ms": 1e3 * statistics.median(wholes[label]),
            "step_to_fastest_peer": per_step[label],
            "step_to_fastest_eager_peer": per_eager[label],
            "iteration_to_fastest_peer": per_iteration[label],
            "step_to_bound": statistics.median(a / b for a, b in zip(steps[label], bounds, strict=True)),
        }
        for label in field
    }


COLUMNS = {
    "step_ms": "step, ms",
    "step_to_fastest_peer": "/ fastest peer",
    "step_to_fastest_eager_peer": "/ eager peer",
    "step_to_bound": "/ byte bound",
    "iteration_ms": "iteration, ms",
    "iteration_to_fastest_peer": "/ fastest peer",
}


def show(case: str, method: str, rows: dict[str, dict]) -> None:
    """One table; a dash where no peer is installed."""
    print(f"\n{case}: {method}\n{'':18}" + "".join(f"{title:>16}" for title in COLUMNS.values()))
    for label, row in rows.items():
        cells = ("—" if row[column] is None else f"{row[column]:.3g}" for column in COLUMNS)
        print(f"{label:18}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def processor() -> str:
    """The machine's own name for its processor, where it tells."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def save(path: Path, results: dict, key: str = "optim") -> None:
    """Into the file that all benchmarks of the course share, under their own key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    everything = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**everything, key: results}, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    """Parse arguments, run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=15, help="rounds per method (ten times more on small tensors)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on_gpu = arguments.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print("skipped: no CUDA device; with one: our optimizers against torch's foreach and fused ones on it")
        return
    name = torch.cuda.get_device_name() if on_gpu else processor()
    machine = {"processor": name, "threads": arguments.threads, "torch": torch.__version__}
    results: dict = {"machine": machine, "rounds": arguments.rounds, "cases": {}}
    rng = random.Random(0)
    for case in arguments.cases:
        results["cases"][case] = {}
        for method in arguments.methods:
            shapes = [s for s in CASES[case] if method != "Muon" or len(s) > 1]
            if method == "Muon" and (not shapes or len(shapes) != len([s for s in shapes if len(s) == 2])):
                continue  # torch's Muon takes matrices only
            rounds = arguments.rounds * (10 if sum(map(math.prod, shapes)) < 1_000_000 else 1)
            rows = compare(method, shapes, rounds, rng, case.endswith("in a row"), arguments.device)
            results["cases"][case][method] = rows
            show(case, method, rows)
            save(arguments.output, results, "optim on a GPU" if on_gpu else "optim")


if __name__ == "__main__":
    main()
