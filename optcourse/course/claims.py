"""All claims of the course on one page: what the lectures check, and what the last run found.

The claims are read from the notebooks without running them, so that one which has not been run is *not run yet*
instead of missing; their verdicts are those of ``verdicts.json``.
"""

from __future__ import annotations

import ast
import functools
import html
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat

from optcourse.checking import BROKEN, FAILS, GIVEN, HOLDS, MARKS, UNDECIDED, number, tally
from optcourse.course.catalog import Catalog
from optcourse.measure import Estimate

RELATIONS = {"<=": "≤", ">=": "≥", "<": "<", ">": ">", "==": "=", "!=": "≠", "in": "in"}
#: Where the tolerance of a relation lies, seen from the bound.
TOLERATED = {"==": "±", "<=": "+", ">=": "−"}
#: What stands where a claim is completed by a number or a name when it runs.
HOLE = "{…}"
#: What stands in place of a verdict: the lecture was not run; or it was, and its own condition left the claim out (a
#: missing optional package, another profile).
NOT_RUN, LEFT_OUT = "not run yet", "left out"
HEAD = ("topic", "verdict", "claim", "measured, bound", "margin", "seeds")
#: The tables of ``summary.toml``, and the keys that every entry has.
TABLES = {
    "slip": {"topic", "deck", "slide", "printed", "derived", "quote"},
    "advice": {"topic", "text", "claim"},
    "answer": {"topics", "deck", "statement", "text"},
}


@dataclass(frozen=True)
class Claim:
    """One ``check`` in a notebook: its topic, and its text with :data:`HOLE` for what is filled in when it runs.

    ``conditional`` says that it stands under an ``if`` or ``try``, and need not run.
    """

    topic: str
    text: str
    conditional: bool = False

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """What its text can become."""
        return re.compile(".*".join(re.escape(part) for part in self.text.split(HOLE)), re.DOTALL)

    def matches(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry of ``verdicts.json`` is the verdict of this claim."""
        return entry["topic"] == self.topic and self.pattern.fullmatch(entry["claim"]) is not None


def collect(lectures: Path) -> list[Claim]:
    """The claims of all lectures of a folder, in order, without those of cells for a GPU, which most runs skip."""
    found = []
    for path in sorted(lectures.glob("[0-9][0-9]_*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and "gpu" not in cell.metadata.get("tags", []):
                found += _claims_of(cell.source)
    return found


def _claims_of(source: str) -> list[Claim]:
    """The calls ``check("NN.k", claim, …)``; a name stands for the text that it was given last."""
    tree, names, found = ast.parse(source), {}, []
    branches = [node for node in ast.walk(tree) if isinstance(node, (ast.If, ast.Try))]
    conditional = {id(node) for branch in branches for node in ast.walk(branch)}
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Assign, ast.Call))]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        if isinstance(node, ast.Assign):
            names |= {target.id: _text(node.value, names) for target in node.targets if isinstance(target, ast.Name)}
        elif getattr(node.func, "attr", getattr(node.func, "id", "")) == "check" and len(node.args) > 1:
            topic, text = (_text(argument, names) for argument in node.args[:2])
            found += [Claim(topic, text, id(node) in conditional)] if re.fullmatch(r"\d\d\.\d", topic) else []
    return found


def _text(node: ast.expr, names: Mapping[str, str]) -> str:
    """The string that an expression makes, as far as that is known before it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, names) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, names) + _text(node.right, names)
    return names.get(node.id, HOLE) if isinstance(node, ast.Name) else HOLE


def verdicts_path(lectures: Path) -> Path:
    """The last run's verdicts: at ``$OPTCOURSE_VERDICTS``, which ``optcourse run`` sets, or in the usual place."""
    return Path(os.environ.get("OPTCOURSE_VERDICTS") or lectures.parent / "build" / "lectures" / "verdicts.json")


def last_run(path: Path, *, now: str = "") -> list[dict[str, Any]]:
    """The entries of a ``verdicts.json``, none without such a file.

    Those of the lecture ``now``, which is running, are replaced by what it has checked so far.
    Raises ``ValueError`` for a file that is no list of verdicts.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        if not isinstance(rows, list):
            raise TypeError("it holds no list")
        tally(row["verdict"] for row in rows)
        found = [row for row in rows if row["lecture"] != now and {"topic", "claim"} <= row.keys()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a list of verdicts: {error}") from None
    given = {(v.topic, v.claim): v for v in GIVEN if now and v.topic.startswith(now + ".")}  # a cell may run twice
    return found + [{"lecture": now, **asdict(verdict)} for verdict in given.values()]


def join(claims: Iterable[Claim], verdicts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every verdict, and every claim without one as an entry whose verdict is :data:`NOT_RUN` or :data:`LEFT_OUT`."""
    rows = [dict(entry) for entry in verdicts]
    run = {row["topic"] for row in rows}
    for claim in claims:
        if not any(map(claim.matches, rows)):
            word = LEFT_OUT if claim.conditional and claim.topic in run else NOT_RUN
            rows.append({"topic": claim.topic, "claim": claim.text, "verdict": word})
    return sorted(rows, key=lambda row: row["topic"])


def how_many(rows: Iterable[Mapping[str, Any]], yes: Iterable[str], maybe: Iterable[str]) -> Estimate:
    """How many rows have a verdict in ``yes``, as an interval: up to all of those in ``maybe`` could join them.

    The ends are certain, no seeds stand behind them; :func:`optcourse.check` is *undecided* where they disagree.

    >>> how_many([{"verdict": "broken"}, {"verdict": "not run yet"}], ["broken"], ["not run yet"]).high
    2
    """
    words = [row["verdict"] for row in rows]
    sure, open_ = (sum(word in group for word in words) for group in ({*yes}, {*maybe}))
    return Estimate(value=sure, low=sure, high=sure + open_, stderr=0, seeds=0)


def counted(rows: Iterable[Mapping[str, Any]]) -> str:
    """One sentence in HTML: how many claims there are, and how many of each verdict."""
    words = [row["verdict"] for row in rows]
    counts = tally(word for word in words if word in MARKS)
    plural = {HOLDS: "hold", FAILS: "fail as expected"}
    parts = [
        f'<span class="{MARKS[v].css}">{MARKS[v].sign} {n} {v if n == 1 else plural.get(v, v)}</span>'
        for v, n in counts.items()
    ]
    parts += [f'<span class="muted">– {n} {v}</span>' for v in (NOT_RUN, LEFT_OUT) if (n := words.count(v))]
    return f"{len(words)} claim{'s' if len(words) != 1 else ''}: {', '.join(parts)}."


def mark(verdict: str) -> str:
    """A verdict with its sign."""
    return f"{MARKS[verdict].sign if verdict in MARKS else '–'} {verdict}"


def compared(verdict: Mapping[str, Any]) -> str:
    """What was measured, and the bound that it was compared with; its tolerance where the numbers need it.

    >>> compared({"measured": 2247.0, "relation": "==", "bound": 2246.5, "tol": 1.0})
    '2247 = 2246 ± 1'
    """
    relation, tol = verdict["relation"], verdict.get("tol", 0.0)
    measured, bound = number(verdict["measured"], verdict.get("interval")), number(verdict["bound"])
    low, high = verdict.get("interval") or [verdict["measured"]] * 2
    beyond = {"==": True, "<=": high > verdict["bound"], ">=": low < verdict["bound"]} if tol else {}
    allowed = f" {TOLERATED[relation]} {number(tol)}" if beyond.get(relation) and measured != bound else ""
    return f"{measured} {RELATIONS[relation]} {bound}{allowed}"


def table(rows: Iterable[Mapping[str, Any]], pages: Mapping[str, str], catalog: Catalog) -> str:
    """Topic, verdict, claim and numbers as an HTML table; ``pages`` has the address of each lecture's page."""
    lines = []
    for row in rows:
        run, topic = row["verdict"] in MARKS, catalog.topic(row["topic"])
        title = f' title="{html.escape(topic.title)}"' if topic else ""
        numbers = "", "", ""
        if run:
            numbers = html.escape(compared(row)), number(row["margin"]), str(row.get("seeds") or "")
        why = f'<br><span class="muted">{html.escape(row["why"])}</span>' if row.get("why") else ""
        anchor = html.escape(link(row["topic"], pages))
        lines.append(
            f'<tr><td><a href="{anchor}"{title}>{html.escape(row["topic"])}</a></td>'
            f'<td class="{MARKS[row["verdict"]].css if run else "muted"}">{mark(row["verdict"])}</td>'
            f"<td>{html.escape(row['claim'])}{why}</td>"
            + "".join(f'<td class="number">{value}</td>' for value in numbers)
            + "</tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>' if lines else ""


def page(rows: Iterable[Mapping[str, Any]], pages: Mapping[str, str], catalog: Catalog) -> str:
    """All claims as HTML, the lectures folded."""
    rows = [*rows]
    parts = [f"<p>{counted(rows)}</p>"]
    for lecture in catalog.lectures:
        if own := [row for row in rows if row["topic"].split(".")[0] == lecture.id]:
            title = f"{lecture.id} {html.escape(lecture.title)}"
            parts.append(f"<details><summary>{title}: {counted(own)}</summary>{table(own, pages, catalog)}</details>")
    return "".join(parts)


def addresses(catalog: Catalog) -> dict[str, str]:
    """The page of each lecture as seen from another one: HTML in a run of ``optcourse``, else the notebook."""
    ending = ".html" if os.environ.get("OPTCOURSE_VERDICTS") else ".ipynb"
    return {lecture.id: Path(lecture.notebook).stem + ending for lecture in catalog.lectures}


def link(topic: str, pages: Mapping[str, str]) -> str:
    """The address of a topic's section."""
    return f"{pages.get(topic.split('.')[0], '')}#{topic}"


# ---------------------------------------------------------------------------- what the decks say


def summary(path: Path, catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
    """Slips of the decks, advice and answers to the decks' summaries from a ``summary.toml``.

    Raises ``ValueError`` that names the entry: wrong or missing keys, a topic or deck that does not exist, a duplicate.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as TOML: {error}") from None
    if unknown := found.keys() - TABLES.keys():
        raise ValueError(f"{path}: unknown table {', '.join(sorted(unknown))}; allowed are {', '.join(TABLES)}")
    for kind, keys in TABLES.items():
        seen = set()
        for i, entry in enumerate(found.setdefault(kind, []), 1):
            name = f"{path}: {kind} {i}"
            if entry.keys() != keys:
                raise ValueError(f"{name}: the keys must be {', '.join(sorted(keys))}, got {', '.join(sorted(entry))}")
            for topic in entry.get("topics", [entry.get("topic")]):
                if catalog.topic(topic) is None:
                    raise ValueError(f"{name}: there is no topic {topic!r}")
            if not set(entry.get("deck", "A")) <= set("ABCDE"):
                raise ValueError(f"{name}: deck must list letters A to E, got {entry['deck']!r}")
            text = entry.get("printed") or entry["text"]
            if text in seen:
                raise ValueError(f"{name}: duplicate of an earlier entry: {text!r}")
            seen.add(text)
    return found


def standing(advice: Mapping[str, Any], claims: Iterable[Claim], rows: Iterable[Mapping[str, Any]]) -> str:
    """The verdict of the check behind a sentence of advice, the weakest of them where it ran several times.

    ``LookupError`` if no claim of the topic has a text that begins with ``advice["claim"]``.
    """
    behind = [c for c in claims if c.topic == advice["topic"] and c.text.startswith(advice["claim"])]
    words = {row["verdict"] for row in rows if any(claim.matches(row) for claim in behind)}
    if not words:
        raise LookupError(f"no check of topic {advice['topic']} has a claim that begins with {advice['claim']!r}")
    return next(word for word in (BROKEN, NOT_RUN, UNDECIDED, LEFT_OUT, HOLDS, FAILS) if word in words)


def linked(topics: Iterable[str], pages: Mapping[str, str]) -> str:
    """Topics as Markdown links."""
    return " ".join(f"[{topic}]({link(topic, pages)})" for topic in topics)


def markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table; formulas in it are typeset."""
    head = [*head]
    body = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in body)
