"""What the tests of grading share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A plausible wrong solution: ``old`` in cell ``cell`` becomes ``new``, and ``exercise`` then earns ``score``."""

    name: str
    cell: str
    old: str
    new: str
    exercise: str
    score: float
