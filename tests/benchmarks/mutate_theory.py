"""Does an edited constant pass the tests? ``python tests/benchmarks/mutate_theory.py``, or ``make mutants``.

Every numeric constant of ``optcourse.theory`` and of the compressors, aggregators, attacks and mixing of
``optcourse.nodes`` is edited alone: times 1.5 and plus 1 (0 becomes 1; an exponent gets the next one). The tests that
match the module run against each edit up to the first failure. An edit that passes all of them survives: either a test
is missing, or it changes nothing, and then ``equivalent_mutants.EQUIVALENT`` says why.

Every verdict is written to build/mutants.jsonl at once, so that --resume goes on after an interruption: what is killed
stays so until its module changes, survivors until the tests do. A run over all modules also writes the table
tests/benchmarks/MUTANTS.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from equivalent_mutants import EQUIVALENT
from mutant_runs import Fork, pool, prepare, quick, thorough, unedited
from mutants import ROOT, Edit, digest, digest_of_tests, edits, modules
from tqdm import tqdm

RESULTS = ROOT / "build" / "mutants.jsonl"
TABLE = Path(__file__).parent / "MUTANTS.md"
MOST_SURVIVORS = 0.02


def known(path: Path) -> dict[str, dict]:
    """The verdicts of earlier runs, the last of each edit."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def examine(module: str, chosen: list[Edit], jobs: int, hasty: bool) -> Iterator[tuple[Edit, dict]]:
    """Which test kills each edit of a module; "" for survivors. Raises ``SystemExit`` if a test fails unedited."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        quick(module, chosen, jobs, write)
    os.close(write)
    passed = []
    with os.fdopen(read) as lines:
        for line in lines:
            index, row = json.loads(line)
            if row["failed"] or hasty:
                yield chosen[index], row
            else:
                passed.append(chosen[index])
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(f"{module}: its tests fail without an edit, or cannot be collected")
    if passed:
        ((_, found),) = pool([(passed[0], Fork(partial(unedited, module), 600.0))], 1)
        if found["failed"]:
            raise SystemExit(f"{module}: without an edit {found['failed']} fails")
        yield from pool(((e, Fork(partial(thorough, e), 3 * found["cpu"] + 10)) for e in passed), jobs)


def reasons() -> dict[Edit, str]:
    """Why the edits of ``EQUIVALENT`` change nothing. Raises ``SystemExit`` where an entry does not fit one edit."""
    found, every = {}, {module: list(edits(module)) for module in {row[0] for row in EQUIVALENT}}
    for module, function, shown, reason in EQUIVALENT:
        fitting = [e for e in every[module] if (e.function, e.shown) == (function, shown)]
        if len(fitting) != 1:
            raise SystemExit(f"EQUIVALENT names {len(fitting)} edits of {module} {function}: {shown}")
        found[fitting[0]] = reason
    return found


def place(edit: Edit) -> str:
    """Markdown: the module of an edit, and the function if it stands in one."""
    return f"`{edit.module}` `{edit.function}`" if edit.function else f"`{edit.module}`"


def table(verdicts: dict[Edit, dict], why: dict[Edit, str]) -> str:
    """Markdown: how many edits of each module survive, and each survivor with its reason."""
    survivors = [edit for edit, row in verdicts.items() if not row["failed"]]
    total, alive = Counter(e.module for e in verdicts), Counter(e.module for e in survivors)
    rows = [f"| `{module}` | {n} | {alive[module]} |" for module, n in sorted(total.items())]
    named = [f"- {place(e)}: `{e.shown}`  \n  {why.get(e, '**no reason known**')}" for e in survivors]
    return (
        "# Edited constants that pass all tests\n\n"
        "Made by `make mutants`: every numeric constant that a result depends on (texts, axes, grids and tolerances"
        " below 1e-4 are left out) is edited alone (times 1.5, plus 1, the next exponent), and the"
        f" tests that match its module run. Of {len(verdicts)} edits {len(survivors)} survive"
        f" ({len(survivors) / max(len(verdicts), 1):.1%}).\n\n| module | edits | survivors |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n## What the survivors change\n\n"
        + "\n".join(named)
        + "\n"
    )


def main() -> None:
    """Edit, test, say what survives; exit status 1 if a survivor has no reason or a reason no survivor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", nargs="*", help="e.g. theory/sgd.py or theory/distributed; all by default")
    parser.add_argument("--sample", type=int, help="only so many edits, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of --sample")
    parser.add_argument("--jobs", type=int, default=1, help="edits tested at the same time")
    parser.add_argument("--resume", action="store_true", help="keep the verdicts of earlier runs that still hold")
    parser.add_argument("--hasty", action="store_true", help="call what passes the quick tests a survivor, unchecked")
    options = parser.parse_args()
    everything = modules()
    named = [m for m in everything if not options.module or any(m.startswith(name) for name in options.module)]
    if not named:
        parser.error(f"no module begins with {options.module}; there are {', '.join(everything)}")
    why = reasons()
    chosen = [edit for module in named for edit in edits(module)]
    if options.sample is not None:
        drawn = set(random.Random(options.seed).sample(range(len(chosen)), min(options.sample, len(chosen))))
        chosen = [edit for i, edit in enumerate(chosen) if i in drawn]
    os.chdir(ROOT)
    RESULTS.parent.mkdir(exist_ok=True)
    if not options.resume:
        RESULTS.unlink(missing_ok=True)
    before, verdicts = known(RESULTS), {}
    prepare()
    gc.freeze()  # else every fork copies what it collects
    with tqdm(total=len(chosen), unit="edit", smoothing=0.05) as bar, RESULTS.open("a", encoding="utf-8") as file:
        for module in named:
            now, tests = digest(module), digest_of_tests(module)
            mine = [edit for edit in chosen if edit.module == module]
            old = {edit: before.get(edit.key(now)) for edit in mine}
            verdicts |= {e: row for e, row in old.items() if row and (row["failed"] or row["tests"] == tests)}
            left = [edit for edit in mine if edit not in verdicts]
            bar.update(len(mine) - len(left))
            for edit, row in examine(module, left, options.jobs, options.hasty) if left else ():
                row |= {"key": edit.key(now), "shown": edit.shown, "tests": "hasty" if options.hasty else tests}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
                verdicts[edit] = row
                bar.update()
                if not row["failed"] and edit not in why:
                    bar.write(f"survives: {edit.module}:{edit.line} {edit.function}: {edit.shown}")
    verdicts = {edit: verdicts[edit] for edit in chosen}
    survivors = [edit for edit, row in verdicts.items() if not row["failed"]]
    unexplained = [edit for edit in survivors if edit not in why]
    wrong = [edit for edit in why if edit in verdicts and edit not in survivors]
    for edit in wrong:
        print(f"EQUIVALENT, but killed by {verdicts[edit]['failed']}: {edit.module} {edit.function}: {edit.shown}")
    print(f"{len(survivors)} of {len(chosen)} edits survive, {len(unexplained)} without a reason")
    if named == everything and options.sample is None:
        TABLE.write_text(table(verdicts, why), encoding="utf-8")
    sys.exit(bool(unexplained or wrong or len(survivors) > MOST_SURVIVORS * max(len(chosen), 50)))


if __name__ == "__main__":
    main()
