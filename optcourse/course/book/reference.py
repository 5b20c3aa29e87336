"""The API reference: a page for each room of the package, from its docstrings."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

from optcourse.course.book.content import Course

#: What readers import; what runs the course and grades it has commands instead.
ROOMS = ("theory", "problems", "optim", "landscape", "training", "models", "nodes", "labs", "sliders", "data", "losses")
ROOMS += ("measure", "ranking", "plotting", "checking", "runtime")


def rooms() -> dict[str, str]:
    """The page of each room by its name."""
    return {f"api_{room}": f"# optcourse.{room}\n\n````{{eval-rst}}\n{_rest(_load(room))}\n````\n" for room in ROOMS}


def index(course: Course) -> str:
    """The page that lists them, in MyST."""
    rows = "\n".join(f"* [`optcourse.{room}`](api_{room}.html): {_summary(_load(room))}" for room in ROOMS)
    tree = "\n".join(f"api_{room}" for room in ROOMS)
    return (
        "# Reference\n\nThe package, room by room. A docstring gives shapes, units, the errors that are raised and the "
        f"source of what is computed.\n\n{rows}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"
    )


def _rest(module: ModuleType) -> str:
    """reST that documents what a module offers, once, grouped by the module in which it is written."""
    groups: dict[str, list[str]] = {module.__name__: []}
    offered = _offered(module)
    inner = {thing.__name__: thing for _, thing in offered if isinstance(thing, ModuleType)}
    for name, thing in offered:
        if not isinstance(thing, ModuleType):
            groups.setdefault(thing.__module__, []).append(f".. {_directive(thing)}:: {module.__name__}.{name}\n")
    for place, room in inner.items():  # what the room does not offer under its own name too
        known = [thing for _, thing in offered]
        own = [(name, thing) for name, thing in _offered(room, own=True) if thing not in known]
        groups.setdefault(place, []).extend(f".. {_directive(thing)}:: {place}.{name}\n" for name, thing in own)
    parts = []
    for written, directives in groups.items():
        if written == module.__name__ or written in inner:
            parts.append(f".. automodule:: {written}\n   :no-members:\n")
        else:
            parts.append(f"{_summary(importlib.import_module(written))}\n")
        if written != module.__name__:
            parts.insert(-1, _heading(written.removeprefix("optcourse.")))
        parts += directives
    return "\n".join(parts)


def _offered(module: ModuleType, *, own: bool = False) -> list[tuple[str, Any]]:
    """What a reader imports from a module: functions, classes and modules; with ``own`` only what it defines."""
    inside = f"{module.__name__}."
    found = []
    for name, thing in vars(module).items():
        if name.startswith("_"):
            continue
        if isinstance(thing, ModuleType):
            if not own and thing.__name__.startswith(inside) and _offered(thing, own=True):
                found.append((name, thing))
        elif (inspect.isfunction(thing) or inspect.isclass(thing)) and (
            thing.__module__ == module.__name__ or (not own and thing.__module__.startswith(inside))
        ):
            found.append((name, thing))
    return sorted(found, key=lambda pair: isinstance(pair[1], ModuleType))


def _directive(thing: Any) -> str:
    return "autoclass" if inspect.isclass(thing) else "autofunction"


def _heading(title: str) -> str:
    return f"\n{title}\n{'-' * len(title)}\n"


def _load(room: str) -> ModuleType:
    return importlib.import_module(f"optcourse.{room}")


def _summary(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().split("\n", 1)[0]
