"""Every bound holds on its verification instance and fails there once it is divided by its slack.

One row per guarantee: topic, the bound, what the instance attains, and the slack that the docstring states.
Edit a constant in ``optcourse.theory`` and a row here names the topic whose claim broke. The rows stand beside their
instances, in ``tight_one_node``, ``tight_tilted``, ``tight_many_nodes`` and ``tight_compression``.
"""

import importlib
import inspect
import pkgutil

import pytest
import tight_compression
import tight_many_nodes
import tight_one_node
import tight_tilted

from optcourse import theory

ROUNDING = 1e-9

ROWS = [*tight_one_node.ROWS, *tight_tilted.ROWS, *tight_many_nodes.ROWS, *tight_compression.ROWS]


@pytest.mark.parametrize(
    ("topic", "function", "bound", "attained", "slack"),
    ROWS,
    ids=[f"{r[0]}-{r[1].__name__}-{i}" for i, r in enumerate(ROWS)],
)
def test_bound_holds_and_is_as_tight_as_stated(topic, function, bound, attained, slack):
    name = function.__name__
    assert attained <= bound * (1 + ROUNDING), f"topic {topic}: {name} is violated: {attained} > {bound}"
    assert attained > bound / slack * (1 - ROUNDING), (
        f"topic {topic}: {name} is looser than stated: {attained} attained, {bound} / {slack} claimed"
    )


def test_every_guarantee_has_a_row():
    """A calculator that returns a Bound cannot be added without an instance that tests its constants."""
    listed = {row[1].__name__ for row in ROWS}
    for found in pkgutil.iter_modules(theory.__path__, "optcourse.theory."):
        if found.name == "optcourse.theory.bound":  # the type itself, and the lemma that tunes steps: test_sgd.py
            continue
        for name, function in inspect.getmembers(importlib.import_module(found.name), inspect.isfunction):
            if function.__module__ == found.name and inspect.signature(function).return_annotation == "Bound":
                assert name in listed, f"{found.name}.{name} has no row in ROWS"
