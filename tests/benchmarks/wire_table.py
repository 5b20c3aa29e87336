"""Turn build/benchmarks.json into the model of communication beside a wire: ``make bench`` writes build/WIRE.md."""

import json
import sys
from pathlib import Path
from textwrap import fill

HEAD = """# The model of communication against a wire

Made by `make bench` on {processor}. {n_nodes} hosts, and a server for the star, are network namespaces, each with a
wire of its own (a veth pair) to one switch (a bridge). `tc … tbf` limits every wire in both directions; it lets
{burst:,} bytes, two packets, pass at once after a pause. The hosts play the plans of `nodes.time.collectives` with real
messages over TCP. A message occupies its sender and its receiver: the receiver says that it is ready, the sender spends
{startup:.0f} ms (a sleep stands for the way to a distant host) and sends, and goes on when all has arrived. In *star,
all at once* nobody waits for a turn.

The model: a message of b bytes takes t_s + b t_w, and a plan what the longest message of each round takes. One t_s and
one t_w for each rate, fitted to the {fitted} fastest times of the four plans (least squares on the relative error; the
star that goes all at once is not among them). There were {repeats} repetitions, in an order drawn anew for each: what
other programs on the machine add is no property of the wire, and the median shows how much it was.
"""
FIT = """
## {rate:.0f} Mbit/s

Fitted: t_s = {latency:.2f} ms, t_w = {per_byte:.0f} ns, that is {bandwidth:.1f} Mbit/s. Headers leave {payload:.1f}
Mbit/s for the content of full packets.
"""
TITLES = """
| plan | vector | fastest, ms | median, ms | model, ms | fastest / model − 1 |
|---|---:|---:|---:|---:|---:|
"""
#: Content of a packet with the headers of TCP (with timestamps) and IP.
HEADERS = 66


def size(n_bytes):
    """Bytes as kB of 1024."""
    return f"{n_bytes // 1024} kB"


def spread(rows):
    """{plan: root of the mean squared residual, and the largest} as text."""
    found = []
    for name in dict.fromkeys(row["pattern"] for row in rows):
        own = [row["residual"] for row in rows if row["pattern"] == name]
        rms = (sum(r * r for r in own) / len(own)) ** 0.5
        found.append(f"{name} {rms:.0%} (largest {max(own, key=abs):+.0%})")
    return f"Residuals, fastest / model - 1, root mean square: {', '.join(found)}."


def winners(rows):
    """At which sizes the plan that was fastest is the model's fastest."""
    rows = [row for row in rows if "at once" not in row["pattern"]]
    sizes = sorted({row["bytes"] for row in rows})
    fastest = {}
    for n_bytes in sizes:
        own = [row for row in rows if row["bytes"] == n_bytes]
        fastest[n_bytes] = [min(own, key=lambda row, key=key: row[key])["pattern"] for key in ("best", "model")]
    listed = ", ".join(f"{size(n)} {seen} ({said})" for n, (seen, said) in fastest.items())
    return f"The fastest plan (and the one of the model) by size: {listed}."


def table(results):
    """The whole page as Markdown."""
    rates = results["rates"]
    fitted = sum("at once" not in row["pattern"] for row in next(iter(rates.values()))["rows"])
    numbers = {"startup": 1e3 * results["startup"], "fitted": fitted}
    page = HEAD.format(**{**results["machine"], **results, **numbers})
    for rate, found in rates.items():
        mega = int(rate) / 1e6
        page += FIT.format(
            rate=mega,
            latency=1e3 * found["latency"],
            per_byte=1e9 * found["seconds_per_byte"],
            bandwidth=8e-6 / found["seconds_per_byte"],
            payload=mega * (1 - HEADERS / results["packet"]),
        )
        page += "\n".join(fill(line, 120) for line in (spread(found["rows"]), winners(found["rows"]))) + "\n" + TITLES
        for row in found["rows"]:
            times = [f"{1e3 * row[key]:,.1f}" for key in ("best", "median", "model")]
            page += f"| {row['pattern']} | {size(row['bytes'])} | {' | '.join(times)} | {row['residual']:+.0%} |\n"
    return page


if __name__ == "__main__":
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "build/benchmarks.json")
    results = json.loads(source.read_text()).get("wire")
    print(
        table(results) if results else "# The model of communication against a wire\n\nNot measured: see bench_wire.py."
    )
