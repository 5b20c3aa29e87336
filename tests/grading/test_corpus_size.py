"""The corpus is as large as the project says: kinds of cheating, breaking and escaping, and honest work beside them."""

import importlib
from pathlib import Path

import corpus
import pytest

HERE = Path(__file__).parent
MODULES = [
    importlib.import_module(path.stem) for path in sorted(HERE.glob("test_corpus_*.py")) if path != Path(__file__)
]


def kinds():
    """Names of the hostile kinds, by the class of tests that they are graded in."""
    for module in MODULES:
        for name, tests in vars(module).items():
            if (
                isinstance(tests, type)
                and issubclass(tests, corpus.CorpusTests)
                and tests.__module__ == module.__name__
            ):
                yield from ((f"{module.__name__}.{name}", case.name) for case in tests.cases)


def test_there_are_two_hundred_hostile_kinds_of_notebooks():
    found = list(kinds())
    assert len(set(found)) == len(found) >= 200


@pytest.mark.parametrize("lab", [f"lab{number:02}" for number in range(1, 11)])
def test_every_lab_has_fifteen_honest_variants(lab):
    variants = importlib.import_module(f"variants_{lab}").VARIANTS
    assert len({variant.name for variant in variants}) == len(variants) >= 15
