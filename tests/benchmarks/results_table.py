"""Turn build/benchmarks.json into the table that the README links: ``make bench`` writes build/RESULTS.md."""

import json
import sys
from pathlib import Path

HEAD = """# How fast the optimizers step

Made by `make bench`, with the other libraries installed beside it, on {processor}, {threads} threads, torch
{torch}; medians of paired ratios over {rounds} rounds. The contestants of one method are interleaved in one
run; different methods may come from different runs, so compare along a row and not between rows. **Compiled**
and **eager** are ours; a ratio below 1 means ours is faster. *Fastest peer* is the fastest of torch's
variants (fused where it exists), pytorch_optimizer, timm and adamp; *eager peer* leaves out what is fused;
the *byte bound* is the time to read parameters, gradients and state, and to write parameters and state, once.

Where a table lays the parameters of all contestants *in a row*, as `torch.nn.utils.vector_to_parameters` leaves them,
ours are updated where they lie. Until an optimizer never moved a parameter, 300 tensors of 1,000 took 0.77 (SGD) and
0.58 (Adam) of the fastest peer when compiled, 0.68 and 0.27 of the eager one; the difference is what copies, and a look
at every entry of the state before a step, cost (both on the machine of the table in the repository). In a row the look
is left, and so few elements do not repay a compiled kernel there.
"""
TITLES = [
    "method",
    "peer",
    "compiled / peer",
    "eager / eager peer",
    "compiled / byte bound",
    "iteration, compiled / peer",
]


def rows(methods):
    """One list of cells per method."""
    for method, contestants in methods.items():
        compiled, eager = contestants["ours, compiled"], contestants["ours, eager"]
        peers = {name: c for name, c in contestants.items() if not name.startswith("ours")}
        fastest = min(peers, key=lambda name: peers[name]["step_ms"]) if peers else "none installed"
        numbers = [
            compiled["step_to_fastest_peer"],
            eager["step_to_fastest_eager_peer"],
            compiled["step_to_bound"],
            compiled["iteration_to_fastest_peer"],
        ]
        yield [method, fastest, *("–" if n is None else f"{n:.2f}" for n in numbers)]


def table(results):
    """The whole page as Markdown."""
    page = HEAD.format(**results["machine"], rounds=results["rounds"])
    for case, methods in results["cases"].items():
        page += f"\n## {case[0].upper()}{case[1:]}\n\n| {' | '.join(TITLES)} |\n|---|---|{'---:|' * 4}\n"
        page += "".join(f"| {' | '.join(cells)} |\n" for cells in rows(methods))
    return page


if __name__ == "__main__":
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "build/benchmarks.json")
    measured = json.loads(source.read_text())
    print("\n".join(table(measured[key]) for key in ("optim", "optim on a GPU") if key in measured), end="")
