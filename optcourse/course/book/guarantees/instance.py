"""What an instance is: a guarantee, a problem that comes near it, and one argument that is swept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, SupportsFloat

#: What a guarantee bounds, by the unit of its value; an instance may say it better.
QUANTITIES = {
    "loss^2/length^2": "average squared gradient",
    "loss": "gap to the minimum",
    "length": "distance",
    "length^2": "squared distance",
    "loss/length^2": "curvature",
}


class Point(NamedTuple):
    """The bound on an instance, and what the instance attains there."""

    bound: float
    attained: float

    @property
    def factor(self) -> float:
        """How many times as large as the attained value the bound is."""
        return self.bound / self.attained


@dataclass(frozen=True)
class Instance:
    """A problem on which ``guarantee`` and what it bounds are computed for each of ``values`` of one argument.

    ``at`` maps a value to the bound and the attained number. ``slack`` is the factor by which the docstring says the
    guarantee exceeds the instance at most: one for all values, or by value where it is said of these only. ``problem``
    says in Markdown what is computed, ``axis`` names the argument as the label of an axis does, ``quantity`` what is
    bounded where the unit does not tell.
    """

    topic: str
    guarantee: Callable[..., Any]
    problem: str
    axis: str
    values: tuple[float, ...]
    at: Callable[..., tuple[SupportsFloat, SupportsFloat]]
    slack: float | Mapping[Any, float]
    quantity: str = ""

    @property
    def name(self) -> str:
        """Of the guarantee."""
        return self.guarantee.__name__

    @property
    def claims(self) -> Mapping[Any, float]:
        """Value -> stated slack, where one is stated."""
        return self.slack if isinstance(self.slack, Mapping) else dict.fromkeys(self.values, self.slack)

    @property
    def measured(self) -> str:
        """What is bounded, with its unit."""
        unit = getattr(self.guarantee, "units", ("", ""))[0]
        name = self.quantity or QUANTITIES[unit]
        return name if unit in ("", "1") else f"{name} ({unit.replace('^2', '²').replace('loss^0.5', '√loss')})"

    def point(self, value: float) -> Point:
        """Bound and attained value."""
        bound, attained = self.at(value)
        return Point(float(bound), float(attained))
