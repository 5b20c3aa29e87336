"""Turn build/benchmarks.json into a table of how fast landscapes are seen: ``make bench`` writes build/LANDSCAPE.md."""

import json
import sys
from pathlib import Path

HEAD = """# How fast a landscape is seen

Made by `make bench` on {processor}, one thread, torch {torch}. Contestants of one row were interleaved in one run;
ratios are medians of paired ratios of processor seconds over {rounds} rounds (and, in brackets, of the fastest rounds).

## The loss at {points} x {points} points of a plane

Speed in units of a Python loop that loads parameters into the network and evaluates it. *vmap* is
`vmap(functional_call)` with 64 points together. The *bound* sends the samples of all points through one network: the
same arithmetic without parameters of one's own.

| network | points per second | ours / loop | vmap / loop | bound / loop |
|---|---:|---:|---:|---:|
"""


def ratio(row, other):
    """``median (best)``."""
    return f"{row[f'speed to {other}']:.2f} ({row[f'best to {other}']:.2f})"


def table(results):
    """The whole page as Markdown."""
    page = HEAD.format(**results["machine"], rounds=results["rounds"], points=results["points"])
    for case, rows in results["cases"]["surfaces"].items():
        cells = [ratio(rows[name], "loop over points") for name in ("ours", "vmap", "one model")]
        page += f"| {case} | {rows['ours']['points_per_second']:,.0f} | {' | '.join(cells)} |\n"
    page += "\n## Products with the Hessian\n\nTime of one in gradients of the same 256 samples (the first, which "
    page += "builds the graph, not counted).\n\n| network | Hessian | Gauss–Newton |\n|---|---:|---:|\n"
    for case, rows in results["cases"]["products"].items():
        cells = [f"{1 / rows[name]['speed to gradient']:.2f}" for name in ("product", "Gauss-Newton product")]
        page += f"| {case} | {' | '.join(cells)} |\n"
    page += "\n## The largest eigenvalue\n\nProducts until it is right to 1e-6; products and relative error where each "
    page += "stops by itself:\nLanczos' method at a relative residual of 1e-3, power iteration at a relative change "
    page += (
        "of 1e-3.\n\n| network | Lanczos, to 1e-6 | power, to 1e-6 | Lanczos stops (error) | power stops (error) |\n"
    )
    page += "|---|---:|---:|---:|---:|\n"
    for case, rows in results["cases"]["eigenvalue"].items():
        both = rows["Lanczos"], rows["power iteration"]
        cells = [f"{row['products to 1e-6']}" for row in both]
        cells += [f"{row['products']} ({row['error']:.0e})" for row in both]
        page += f"| {case} | {' | '.join(cells)} |\n"
    return page


if __name__ == "__main__":
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "build/benchmarks.json")
    print(table(json.loads(source.read_text())["landscape"]), end="")
