"""The parts of a guarantee's docstring (Statement, Proof, Tight, Slack, Source), as Markdown with formulas."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

PARTS = ("Statement", "Proof", "Tight", "Slack", "Source")
#: A proof may be left to the source.
NEEDED = ("Statement", "Tight", "Slack", "Source")

#: Characters of a formula that stays within a line: of a statement, and elsewhere.
SHORT, LONG = 45, 70

_MARKER = re.compile(rf"(?:^|(?<=\s))({'|'.join(PARTS)})(?:, ([^:\n]+))?:(?=\s)")
_ROLE = re.compile(r":(math|func|meth|class|mod):`~?(.+?)`|``(.+?)``", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\w*)])\*(\w[^*]{0,40}?\w|\w)\*(?![\w*])")

#: How docstrings write symbols, and how they are printed.
_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ"}
_GREEK |= {"kappa": "κ", "lambda": "λ", "mu": "μ", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "omega": "ω"}
_GREEK |= {"lr": "γ", "sigma2": "σ²", "zeta2": "ζ²", "delta0": "Δ₀", "xbar": "x̄", "infinity": "∞"}
_WORDS = re.compile(rf"(?<![A-Za-z0-9])({'|'.join(sorted(_GREEK, key=len, reverse=True))})(?![A-Za-z0-9])")
_SIGNS = {"<=": "≤", ">=": "≥", "->": "→", "+-": "±", "||": "‖", " ... ": " … ", "sqrt(": "√("}
_SIGNS |= {" * ": " · ", "grad ": "∇", "hess ": "∇²", "sum_": "Σ_"}
_SCRIPT = re.compile(
    r"(?P<base>‖|(?<![A-Za-z0-9])(?:[A-Za-zα-ωΔ]|x̄|Σ|mean|max|min|log))_"
    r"(?P<sub>\{[^{}]*\}|[A-Za-zα-ω0-9]{1,2}(?![A-Za-z0-9_]))"
    r"|\^(?P<sup>\{[^{}]*\}|\([^()]*\)|-?[0-9.]*[0-9]|[A-Za-zα-ω](?![A-Za-z0-9]))"
)
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#$~|])")


@dataclass(frozen=True)
class Docstring:
    """``summary`` is the first line; ``condition`` under which the ``parts`` are said; ``notes`` is all the rest."""

    summary: str
    parts: dict[str, str]
    condition: str = ""
    notes: list[str] = field(default_factory=list)


def parse(function: Callable[..., Any], known: Collection[str] = (), *, needed: Collection[str] = NEEDED) -> Docstring:
    """The docstring of a function of the theory; ``known`` names of guarantees (``module.function``) become links.

    Raises ``ValueError`` that names the function and each part of ``needed`` that its docstring lacks.
    """
    module = function.__module__.rpartition(".")[2]
    text = (inspect.getdoc(function) or "").partition(">>>")[0].strip()
    summary, *paragraphs = re.split(r"\n\s*\n", text)
    parts: dict[str, str] = {}
    notes, condition, part, goes_on = [], "", "", False
    for paragraph in paragraphs:
        if paragraph.startswith(".. math::"):  # belongs to the sentence around it
            if part:
                parts[part] += "\n\n" + markdown(paragraph, module, known)
            else:
                notes.append(markdown(paragraph, module, known))
            goes_on = True
            continue
        if paragraph.startswith("====") and part:
            parts[part] += "\n\n" + _table(paragraph, module, known)
            continue
        first, *rest = _MARKER.split(_hidden(paragraph))
        if first.strip():
            first = markdown(_shown(first).strip(), module, known)
            if goes_on and part:
                parts[part] += f"\n\n{first}"
            else:
                notes.append(first)
        elif not rest:
            continue
        for name, when, words in zip(*(rest[i::3] for i in range(3)), strict=True):
            parts[name] = markdown(_shown(words).strip(), module, known)
            condition = condition or (markdown(_shown(when), module, known) if when else "")
        part, goes_on = (rest[-3] if rest else ""), False
    if lacking := [name for name in needed if not parts.get(name)]:
        raise ValueError(f"{module}.{function.__name__}: its docstring has no {', '.join(lacking)}")
    parts = {name: _displayed(words, SHORT if name == "Statement" else LONG) for name, words in parts.items()}
    return Docstring(markdown(summary, module, known), parts, condition, [_displayed(note, LONG) for note in notes])


def markdown(text: str, module: str = "", known: Collection[str] = ()) -> str:
    """reST as our docstrings use it: formulas between dollars, names as code, the rest as prose of the book."""
    if text.startswith(".. math::"):
        formula = inspect.cleandoc(text.removeprefix(".. math::"))
        aligned = "&" in formula or r"\\" in formula
        body = rf"\begin{{aligned}}{formula}\end{{aligned}}" if aligned else formula
        return f"$$\n{body}\n$$"
    found, end = [], 0
    for role in _ROLE.finditer(text):
        found += [_prose(text[end : role.start()]), _inline(role, module, known)]
        end = role.end()
    return "".join([*found, _prose(text[end:])])


def _table(text: str, module: str, known: Collection[str]) -> str:
    """A simple table of reST; a row whose first cell is empty goes on with the one before."""
    rule, *lines = text.split("\n")
    columns = [slice(*column.span()) for column in re.finditer("=+", rule)]
    columns[-1] = slice(columns[-1].start, None)
    rows: list[list[str]] = []
    for line in lines:
        cells = [line[column].strip() for column in columns]
        if line.startswith("===="):
            continue
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{cell} {more}".strip() for cell, more in zip(rows[-1], cells, strict=True)]
    printed = [[markdown(cell, module, known) for cell in row] for row in rows]
    printed.insert(1, ["---"] * len(columns))
    return "\n".join(f"| {' | '.join(row)} |" for row in printed)


def _displayed(text: str, longest: int) -> str:
    """Formulas of more characters on lines of their own: those within a line do not break on narrow screens."""

    def display(formula: re.Match[str]) -> str:
        return f"\n\n$$\n{formula[1]}{formula[2]}\n$$\n\n" if len(formula[1]) > longest else formula[0]

    return re.sub(r"(?<![$\\])\$([^$\n]+)\$([.,;:]?)[ \n]*", display, text).strip()


def _inline(role: re.Match[str], module: str, known: Collection[str]) -> str:
    if role[1] == "math":
        return f"${' '.join(role[2].split())}$"
    name = role[2] or role[3]
    *_, last = name.split(".")
    place = ".".join(name.split(".")[-2:]) if "." in name else f"{module}.{name}"
    return f"[`{last}`](#{place})" if place in known else f"`{name}`"


def _prose(text: str) -> str:
    """Plain text with its formulas in ASCII: printed signs, raised and lowered letters, nothing that Markdown takes."""
    pieces = _EMPHASIS.split(text.replace(r"\|", "|"))
    return "".join(f"*{_typeset(piece)}*" if i % 2 else _typeset(piece) for i, piece in enumerate(pieces))


def _typeset(text: str) -> str:
    text = _WORDS.sub(lambda word: _GREEK[word[1]], text)
    for ascii_, sign in _SIGNS.items():
        text = text.replace(ascii_, sign)
    return _scripts(text)


def _scripts(text: str) -> str:
    found, end = [], 0
    for script in _SCRIPT.finditer(text):
        tag, inner = ("sub", script["sub"]) if script["sub"] else ("sup", script["sup"])
        inner = inner[1:-1] if inner[0] in "{(" else inner
        found += [
            _escape(text[end : script.start()]),
            _escape(script["base"] or ""),
            f"<{tag}>{_scripts(inner)}</{tag}>",
        ]
        end = script.end()
    return "".join([*found, _escape(text[end:])])


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _hidden(text: str) -> str:
    """Colons and breaks of formulas hidden, so that only a marker's own are found."""
    return _ROLE.sub(lambda role: role[0].replace(":", "\0").replace("\n", "\1"), text)


def _shown(text: str) -> str:
    return text.replace("\0", ":").replace("\1", "\n")
