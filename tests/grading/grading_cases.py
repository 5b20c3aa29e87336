"""What the tests of grading share."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mutant:
    """A plausible wrong solution: ``old`` in cell ``cell`` becomes ``new``, and ``exercise`` then earns ``score``."""

    name: str
    cell: str
    old: str
    new: str
    exercise: str
    score: float


@dataclass(frozen=True)
class Variant:
    """A correct solution in another legitimate style: ``cells`` maps a solution cell's id to its new source.

    ``helpers`` are cells of the student's own, keyed by the id of the solution cell that they stand before.
    """

    name: str
    cells: dict[str, str]
    helpers: dict[str, str] = field(default_factory=dict)
