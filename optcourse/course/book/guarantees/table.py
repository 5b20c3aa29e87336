"""All guarantees of ``optcourse.theory``, all their instances, and the formulas that need none."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from optcourse import theory
from optcourse.course.book.guarantees import compression, delays, descent, many_nodes, noise, tilted
from optcourse.course.book.guarantees.instance import Instance


def instances() -> list[Instance]:
    """Every instance, in the order of the modules."""
    modules = (descent, noise, tilted, many_nodes, delays, compression)
    return [instance for module in modules for instance in module.INSTANCES]


def guarantees() -> dict[str, Callable[..., Any]]:
    """``module.function`` -> every function of the theory that returns a ``Bound`` or has an instance."""
    instanced = {instance.guarantee for instance in instances()}
    return {place(f): f for f in _functions() if _returns_bound(f) or f in instanced}


def exact_formulas() -> dict[str, Callable[..., Any]]:
    """``module.function`` -> the other functions of the theory whose docstring has a statement."""
    return {place(f): f for f in _functions() if "Statement" in (f.__doc__ or "") and place(f) not in guarantees()}


def place(function: Callable[..., Any]) -> str:
    """How the handbook names a function: ``sgd.sgd_bound``."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def _returns_bound(function: Callable[..., Any]) -> bool:
    return inspect.signature(function).return_annotation == "Bound"


@functools.cache
def _functions() -> list[Callable[..., Any]]:
    """The public functions of the theory, module by module in the order in which they are written."""
    found = []
    for module in pkgutil.walk_packages(theory.__path__, "optcourse.theory."):
        members = inspect.getmembers(importlib.import_module(module.name), inspect.isfunction)
        own = [f for name, f in members if f.__module__ == module.name and not name.startswith("_")]
        found += sorted(own, key=lambda f: f.__code__.co_firstlineno)
    return found
