"""How fast a landscape is seen: ``python tests/benchmarks/bench_landscape.py``, or ``make bench``.

Surfaces: the loss of course networks at 51 x 51 points. Contestants: ours; a Python loop that loads parameters into the
module and evaluates it (what the published code does); ``vmap(functional_call)`` on as many points together as ours
takes. The *bound* sends the samples of all points through one set of parameters: the arithmetic, without the memory
traffic of parameters of one's own. Curvature: products with the Hessian in gradients (forward and backward pass), and
what the largest eigenvalue costs by Lanczos' method and by power iteration with the usual stopping rule (a relative
change below 1e-3).

Contestants take turns in an order drawn anew for each round; reported are medians of paired ratios, as in
bench_optim.py, of seconds of the processor on one thread. Prints tables and writes them to build/benchmarks.json. No
assertion depends on time.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_optim import processor, save
from torch import Tensor, nn
from torch.func import functional_call, vmap

from optcourse import data, landscape, models
from optcourse.models.rows import apply, flat_parameters, places, split
from optcourse.training import fit

LOOP, BOUND = "loop over points", "one model"
Make = Callable[[], nn.Module]


def deep(**options: object) -> Make:
    return lambda: models.cnn2d(8, channels=(4,), strides=(2,), blocks=16, norm="batch", **options)


#: name -> (network, samples)
NETWORKS: dict[str, tuple[Make, int]] = {
    "plain CNN, 16 blocks, 4 channels, batch norm": (deep(), 32),
    "residual CNN, 16 blocks, 4 channels, batch norm": (deep(residual=True), 32),
    "the same, 64 samples": (deep(residual=True), 64),
    "MLP 64-32-32-32-10, batch norm": (lambda: models.mlp(64, 10, width=32, depth=3, norm="batch"), 64),
    "MLP 64-100-100-10": (lambda: models.mlp(64, 10), 64),
    "CNN, 16 and 32 channels": (lambda: models.cnn2d(8), 64),
}


def surface_contestants(make: Make, samples: int, points: int) -> dict[str, Callable[[], Tensor]]:
    """Label -> all losses ``[points * points]``."""
    model, digits = make().train(), data.digits(seed=0)
    x, y = digits.x_train[:samples], digits.y_train[:samples]
    D, center, parameters = landscape.filter_normalized(model), flat_parameters(model), list(model.parameters())
    t = torch.linspace(-1, 1, points)
    grid = torch.cartesian_prod(t, t)

    def ours() -> Tensor:
        plane = landscape.surface(model, F.cross_entropy, (x, y), D, points=points)
        assert plane.way == "batched"
        return torch.as_tensor(plane.values).flatten()

    own = [p.detach().clone() for p in parameters]
    steps = [[part[0] for part in split(parameters, u[None])] for u in D]

    @torch.no_grad()
    def loop() -> Tensor:
        found = []
        for a, b in grid.tolist():
            for p, home, u, v in zip(parameters, own, *steps, strict=True):
                p.copy_(home + a * u + b * v)
            found.append(F.cross_entropy(model(x), y).item())
        for p, home in zip(parameters, own, strict=True):
            p.copy_(home)
        return torch.tensor(found)

    bare = make()
    for norm in (m for m in bare.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.track_running_stats, norm.running_mean, norm.running_var, norm.num_batches_tracked = (False, *[None] * 3)
    names = places(bare)

    def one(ab: Tensor) -> Tensor:
        values = [home + ab[0] * u + ab[1] * v for home, u, v in zip(own, *steps, strict=True)]
        return F.cross_entropy(functional_call(bare, {name: values[i] for name, i in names.items()}, (x,)), y)

    @torch.no_grad()
    def mapped() -> Tensor:
        return vmap(one, chunk_size=64)(grid)

    @torch.no_grad()
    def bound() -> Tensor:
        many = x.repeat(64, *[1] * (x.dim() - 1))
        rows = [apply(bare, center[None], many[None]) for _ in range(len(grid) // 64)]
        return torch.stack(rows)

    return {"ours": ours, LOOP: loop, "vmap": mapped, BOUND: bound}


def compare(field: dict[str, Callable[[], object]], rounds: int, rng: random.Random, against: str) -> dict[str, dict]:
    """Milliseconds, and the speed in units of another contestant's, paired."""
    times: dict[str, list[float]] = {label: [] for label in field}
    for _ in range(rounds):
        for label in rng.sample(list(field), len(field)):
            start = time.process_time()
            field[label]()
            times[label].append(time.process_time() - start)
    return {
        label: {
            "ms": 1e3 * statistics.median(own),
            f"speed to {against}": statistics.median(b / a for a, b in zip(own, times[against], strict=True)),
            f"best to {against}": min(times[against]) / min(own),
        }
        for label, own in times.items()
    }


def bench_surfaces(arguments: argparse.Namespace, rng: random.Random) -> dict[str, dict]:
    """Planes of all networks."""
    results = {}
    for name, (make, samples) in NETWORKS.items():
        field = surface_contestants(make, samples, arguments.points)
        values = {label: run() for label, run in field.items()}  # and all are warm then
        rows = compare(field, arguments.rounds, rng, LOOP)
        for label, row in rows.items():
            row["points_per_second"] = 1e3 * arguments.points**2 / row["ms"]
            if label != BOUND:
                row["largest difference"] = ((values[label] / values[LOOP]) - 1).abs().max().item()
        results[name] = rows
        show(name, rows)
    return results


def trained(make: Make) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    digits, model = data.digits(seed=0), make()
    batch = digits.x_train[:256], digits.y_train[:256]
    fit(model, batch, torch.optim.Adam(model.parameters(), lr=3e-3), steps=100, batch_size=64)
    return model, batch


def bench_products(arguments: argparse.Namespace, rng: random.Random) -> dict[str, dict]:
    """One product, and one gradient, of 256 samples."""
    results = {}
    for name, (make, _) in NETWORKS.items():
        if name.startswith("the same"):
            continue
        model, batch = trained(make)
        product, v = (
            landscape.hessian_vector_product(model, F.cross_entropy, batch),
            torch.randn(models.n_parameters(model)),
        )

        def gradient(model: nn.Module = model, batch: tuple = batch) -> object:
            return torch.autograd.grad(F.cross_entropy(model(batch[0]), batch[1]), list(model.parameters()))

        gauss_newton = landscape.gauss_newton_product(model, F.cross_entropy, batch)
        field = {
            "product": lambda product=product, v=v: product(v),
            "Gauss-Newton product": lambda product=gauss_newton, v=v: product(v),
            "gradient": gradient,
        }
        for run in field.values():
            run()
        results[name] = compare(field, 10 * arguments.rounds, rng, "gradient")
        show(name, results[name])
    return results


def power_iteration(
    product: Callable[[Tensor], Tensor], d: int, enough: Callable[[float, float], bool]
) -> tuple[float, int]:
    """Rayleigh quotients until ``enough(before, now)``; the last one and the products."""
    v, before = torch.randn(d, generator=torch.Generator().manual_seed(0), dtype=torch.float64), float("nan")
    v = v / v.norm()
    products, now = 0, float("nan")
    while products < 2000 and (products < 2 or not enough(before, now)):
        z = product(v)
        before, now, products = now, float(v @ z), products + 1
        v = z / z.norm()
    return now, products


def bench_eigenvalue(arguments: argparse.Namespace, rng: random.Random) -> dict[str, dict]:
    """Products until the largest eigenvalue is right to 1e-6, and what the stopping rules do."""
    results = {}
    for name, (make, _) in NETWORKS.items():
        if name.startswith("the same"):
            continue
        model, (x, y) = trained(make)
        product = landscape.hessian_vector_product(model.double(), F.cross_entropy, (x.double(), y))
        d = models.n_parameters(model)
        exact = float(landscape.eigenvalues(product, d, tolerance=1e-10).values[0])
        start = torch.randn(d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        steps = landscape.lanczos(product, start, 300)
        reached = next(len(s.diagonal) for s in steps if abs(s.ritz()[0][-1] / exact - 1) <= 1e-6)
        began = time.process_time()
        ours = landscape.eigenvalues(product, d, tolerance=1e-3)
        middle = time.process_time()
        theirs, count = power_iteration(product, d, lambda a, b: abs(b - a) / (abs(b) + 1e-6) < 1e-3)
        end = time.process_time()
        _, needed = power_iteration(product, d, lambda _, b, exact=exact: abs(b / exact - 1) <= 1e-6)
        results[name] = {
            "Lanczos": {
                "products to 1e-6": reached,
                "products": ours.products,
                "error": abs(ours.values[0] / exact - 1),
                "seconds": middle - began,
            },
            "power iteration": {
                "products to 1e-6": needed,
                "products": count,
                "error": abs(theirs / exact - 1),
                "seconds": end - middle,
            },
        }
        show(f"{name}: largest eigenvalue {exact:.4g}", results[name])
    return results


def show(case: str, rows: dict[str, dict]) -> None:
    """One table."""
    columns = list(next(iter(rows.values())))
    print(f"\n{case}\n{'':22}" + "".join(f"{column:>26}" for column in columns))
    for label, row in rows.items():
        print(f"{label:22}" + "".join(f"{row[c]:>26.3g}" if c in row else f"{'—':>26}" for c in columns), flush=True)


#: Key in the results -> what measures it.
CASES: dict[str, Callable[[argparse.Namespace, random.Random], dict[str, dict]]] = {
    "surfaces": bench_surfaces,
    "products": bench_products,
    "eigenvalue": bench_eigenvalue,
}


def main() -> None:
    """Parse arguments, run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--points", type=int, default=51, help="of each axis")
    parser.add_argument("--rounds", type=int, default=5, help="ten times more for products")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = {"processor": processor(), "torch": torch.__version__}
    results: dict = {"machine": machine, "points": arguments.points, "rounds": arguments.rounds, "cases": {}}
    for case in arguments.cases:
        results["cases"][case] = CASES[case](arguments, random.Random(0))
        save(arguments.output, results, "landscape")


if __name__ == "__main__":
    main()
