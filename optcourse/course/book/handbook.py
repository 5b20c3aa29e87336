"""The theory handbook: every guarantee with its statement, its assumptions, and how near an instance comes to it."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import ModuleType
from typing import Any

from optcourse import files
from optcourse.course.book import chapters, extension
from optcourse.course.book.content import Course
from optcourse.course.book.guarantees import docstring, pictures, table
from optcourse.course.book.guarantees.docstring import Docstring
from optcourse.course.book.guarantees.pictures import Drawn

#: The folder of the figures beside the pages.
FIGURES = "guarantees"
#: Chapters whose module has a name that says too little alone.
TITLES = {
    "sgd": "SGD",
    "newton": "Newton and conjugate gradients",
    "adaptive": "Adaptive methods",
    "tilted": "The tilted risk",
    "batch": "Batch sizes",
    "compression": "Compressed communication",
    "bound": "Tuned step sizes",
    "local": "Local steps",
    "gossip": "Averaging with neighbours",
    "compressed_gossip": "Averaging with compressed messages",
    "asynchrony": "Delays",
    "byzantine": "Byzantine nodes",
    "decay": "Weight decay",
    "communication": "The time of communication",
    "gossip_exact": "Averaging with neighbours on quadratics",
    "saddles": "Plateaus and saddles",
    "signal": "Signals in wide networks",
    "signal_residual": "Signals in residual networks",
    "quadratic": "SGD on a quadratic",
}
INTRODUCTION = """# Theory handbook

<link rel="stylesheet" href="_static/handbook.css">

Every guarantee of the course, as `optcourse.theory` computes it: the statement with its constants, what it assumes,
where it is tight and how much slack it has elsewhere, its source, and the lecture that explains it. A guarantee is a
function whose arguments are all keywords; it returns a `Bound`, with the value, its summands by name and the step size.
(One, [`gd_last_iterate`](#gradient_descent.gd_last_iterate), is a lower bound on what can be guaranteed, and a number.)
In the text $\\gamma$ is the argument `lr`, $T$, $N$ or $k$ is `steps`, $\\sigma^2$ is `sigma2`, $\\zeta^2$ `zeta2`,
$G^2$ `G2`, $\\Delta_0$ `delta0`, $R$ the distance $\\|x_0-x^*\\|$ of the start from a minimizer, $\\mu$ `mu`,
$\\kappa=L/\\mu$ or, of Byzantine nodes, the constant `kappa` of a rule, $\\omega$ `omega`, $\\tau$ `local_steps` or
`delay`, $n$ `n_nodes`, $B$ `batch_size`.

**How to read a figure.** The dashed line is the bound on one problem as one argument changes; the dots are what this
problem attains, by an exact formula or step by step, without chance. Where dots lie on the line, no smaller bound is
true. Of three guarantees the dots are a better bound instead, found by search: the sum that
[`tune_step`](#bound.tune_step) makes small, and the theorem behind the two flatness bounds. The factor between dots and
line is in the caption. The tests of the course fail where a dot lies above the line, and where the factor exceeds the
one that the caption names.
"""


def handbook(course: Course) -> str:
    """The page, as MyST; "" for lectures that have none of the topics of the theory."""
    if not any(course.catalog.topic(instance.topic) for instance in table.instances()):
        return ""
    guarantees, exact = table.guarantees(), table.exact_formulas()
    drawn: dict[str, list[Drawn]] = {place: [] for place in guarantees}
    for one in pictures.everything():
        drawn[table.place(one.instance.guarantee)].append(one)
    found = {place: docstring.parse(f, {*guarantees, *exact}) for place, f in guarantees.items()}
    found |= {place: docstring.parse(f, {*guarantees, *exact}, needed=["Statement"]) for place, f in exact.items()}
    modules: dict[str, list[str]] = {}
    for place in [*sorted(guarantees, key=lambda place: drawn[place][0].instance.topic), *exact]:
        modules.setdefault(place.partition(".")[0], []).append(place)  # modules in the order of the course
    parts = [INTRODUCTION, _contents(modules, found, exact)]
    for name, places in modules.items():
        module = inspect.getmodule((guarantees | exact)[places[0]])
        assert module is not None
        parts.append(_setting(name, module, {*guarantees, *exact}))
        parts += [
            _guarantee(course, guarantees[place], found[place], drawn[place]) for place in guarantees if place in places
        ]
        if formulas := [place for place in places if place in exact]:
            parts.append(
                f"### {_title(name)}: exact formulas\n\nIdentities, edges and constants, as each says; no bounds.\n"
            )
            parts += [_formula(course, exact[place], found[place]) for place in formulas]
    return "\n\n".join(parts) + "\n"


def _contents(modules: dict[str, list[str]], found: dict[str, Docstring], exact: Iterable[str]) -> str:
    lines = ["## Guarantees and formulas\n"]
    for name, places in modules.items():
        lines.append(f"* [{_title(name)}](#theory.{name})")
        lines += [f"  * {_link(place)}: {_line(found[place].summary)}" for place in places if place not in exact]
        if formulas := [_link(place) for place in places if place in exact]:
            lines.append(f"  * exact: {', '.join(formulas)}")
    return "\n".join(lines) + "\n"


def _setting(name: str, module: ModuleType, known: Collection[str]) -> str:
    """The heading of a module, and what all its statements assume."""
    summary, *rest = (
        docstring.markdown(part, name, known) for part in re.split(r"\n\s*\n", inspect.getdoc(module) or "")
    )
    return "\n\n".join([f'<a id="theory.{name}"></a>\n\n## {_title(name)}', f"`theory.{name}`: {summary}", *rest])


def _guarantee(course: Course, function: Callable[..., Any], text: Docstring, drawn: list[Drawn]) -> str:
    place = table.place(function)
    value, step = getattr(function, "units", ("", ""))
    units = f" Its value is in {_unit(value)}, its `stepsize` in {_unit(step)}." if value else ""
    topics = dict.fromkeys(one.instance.topic for one in drawn)
    return "\n\n".join(
        [
            f'<a id="{place}"></a>\n\n### `{function.__name__}`',
            f"{text.summary} ({', '.join(_topic(course, topic) for topic in topics)})",
            _statement(text),
            *text.notes,
            _led("**Tight:**", text.parts["Tight"]),
            _led("**Slack:**", text.parts["Slack"]),
            _led("**Source:**", text.parts["Source"]),
            *([_folded("Proof", text.parts["Proof"])] if "Proof" in text.parts else []),
            f"`{_call(function)}`.{units}",
            _figures(course, place, drawn),
        ]
    )


def _formula(course: Course, function: Callable[..., Any], text: Docstring) -> str:
    place = table.place(function)
    topic = f" ({_topic(course, table.TOPICS[place])})" if place in table.TOPICS else ""
    source = [f"**Source:** {text.parts['Source']}"] if "Source" in text.parts else []
    proof = [_folded("Proof", text.parts["Proof"])] if "Proof" in text.parts else []
    lead = f'<a id="{place}"></a>\n\n**`{function.__name__}`**. {text.summary}{topic}'
    return "\n\n".join([lead, _statement(text), *text.notes, *source, *proof, f"`{_call(function)}`."])


def _statement(text: Docstring) -> str:
    condition = f", {text.condition}" if text.condition else ""
    return _led(f"**Statement**{condition}:", text.parts["Statement"])


def _figures(course: Course, place: str, drawn: list[Drawn]) -> str:
    figures = []
    for i, one in enumerate(drawn):
        address = f"{FIGURES}/{place}-{i}.png"
        files.write(course.output / address, one.png)
        image = chapters.figure(address, _alt(one), round(100 * pictures.WIDTH), round(100 * pictures.HEIGHT))
        problem = one.instance.problem
        caption = f"{_formulas(problem[0].upper() + problem[1:])}. {_gap(one)}"
        figures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="instances" id="instances-of-{place}">{"".join(figures)}</div>'


def _gap(drawn: Drawn) -> str:
    """How far the bound is above the dots, and the factors beyond which the tests fail."""
    instance, points, _ = drawn
    factors = [point.factor for point in points]
    low, high = min(factors), max(factors)
    if high < 1.0005:
        return "The bound is attained at every value."
    if high < 1.005 * low:
        return f"The bound is {low:.3g} times what is attained."
    text = f"The bound is {low:.3g} to {high:.3g} times what is attained; the tests hold it to"
    if not isinstance(instance.slack, Mapping):
        return f"{text} {instance.slack:g} everywhere."
    held: dict[float, list[str]] = {}
    for value, slack in instance.slack.items():
        held.setdefault(slack, []).append(_number(value))
    pairs = (f"{slack:g} at {', '.join(values)}" for slack, values in held.items())
    return f"{text} {'; '.join(pairs)}."


def _alt(drawn: Drawn) -> str:
    """What the figure shows, in words."""
    instance, points, _ = drawn
    axis = _plain(instance.axis)
    first, last = points[0], points[-1]
    factors = [point.factor for point in points]
    scale = (
        "on logarithmic axes" if instance.values[0] > 0 else "on logarithmic axes, that of the argument linear near 0"
    )
    where = (
        "lie on it" if max(factors) < 1.02 else f"lie below it by factors of {min(factors):.3g} to {max(factors):.3g}"
    )
    return (
        f"{instance.measured} against {axis} from {instance.values[0]:g} to {instance.values[-1]:g}, {scale}: the "
        f"bound goes from {first.bound:.3g} to {last.bound:.3g}, the {len(points)} dots {where}."
    )


def _plain(axis: str) -> str:
    """The label of an axis without its formulas."""
    return re.sub(r"[${}\\]", "", axis.replace(r"\tau", "tau").replace(r"^\star", "*"))


def _formulas(text: str) -> str:
    """Markdown's formulas as MathML in HTML; the rest is escaped."""
    pieces = re.split(r"\$(.+?)\$", text)
    return "".join(
        extension.mathml(piece, display=False) if i % 2 else html.escape(piece) for i, piece in enumerate(pieces)
    )


def _number(value: float) -> str:
    mantissa, _, power = f"{value:.3g}".partition("e")
    if not power:
        return mantissa
    return f"{'' if mantissa == '1' else mantissa + '·'}10<sup>{int(power)}</sup>"


def _topic(course: Course, topic: str) -> str:
    entry = course.catalog.topic(topic)
    if entry is None or entry.lecture not in course.pages():
        return f"topic {topic}"
    return f"topic {course.topic_link(topic)}, {html.escape(entry.title)}"


def _unit(unit: str) -> str:
    return docstring.markdown(unit) if unit != "1" else "no unit"


def _call(function: Callable[..., Any]) -> str:
    inside = ", ".join(
        name if p.default is p.empty else f"{name}={p.default!r}"
        for name, p in inspect.signature(function).parameters.items()
    )
    return f"theory.{table.place(function)}({inside})"


def _led(lead: str, text: str) -> str:
    return f"{lead}\n\n{text}" if text.startswith("$$") else f"{lead} {text}"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _title(module: str) -> str:
    return TITLES.get(module) or module.replace("_", " ").capitalize()


def _link(place: str) -> str:
    return f"[`{place.partition('.')[2]}`](#{place})"


def _line(text: str) -> str:
    return " ".join(text.split())
