"""All guarantees of ``optcourse.theory``, and all their instances."""

from __future__ import annotations

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
    """``module.function`` -> every function of the theory that returns a ``Bound``."""
    found = {}
    for module in pkgutil.walk_packages(theory.__path__, "optcourse.theory."):
        for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            if function.__module__ == module.name and inspect.signature(function).return_annotation == "Bound":
                found[f"{module.name.rpartition('.')[2]}.{name}"] = function
    return found
