"""The tool that edits constants: which edits there are, and that the list of those without effect is up to date."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import mutants
import mutate_theory
from equivalent_mutants import EQUIVALENT


def test_every_edit_replaces_one_constant_by_another():
    edits = [edit for module in mutants.modules() for edit in mutants.edits(module)]
    assert len(edits) > 1500 and len(set(edits)) == len(edits)
    for edit in edits[::17]:
        compile(edit.source(), edit.module, "exec")
        assert edit.new in edit.shown
    shown = {edit.shown for edit in edits if edit.function == "gd_optimal_step"}
    assert shown == {"return scalar(3.0 / (L + mu))"}
    shown = {edit.shown for edit in edits if edit.function == "hb_radius"}
    assert shown == {f"return _radius({one} + beta - lr * lam, beta)" for one in (1.5, 2)}


def test_every_module_has_tests_of_its_own():
    for module in mutants.modules():
        own, *tables = mutants.tests_of(module)
        assert len(own) >= 3, module
        assert all((mutants.ROOT / file).exists() for group in (own, *tables) for file in group)


def test_files_that_import_a_module_or_its_functions_are_run():
    """One bears another name, one imports the module, one its functions from a third place; the others stay out."""
    compressors, subsets = (mutants.tests_of(f"nodes/{m}.py")[0] for m in ("messages/compressors", "byzantine/subsets"))
    assert {f"tests/nodes/test_{name}.py" for name in ("compressors", "columns", "quantizers")} <= set(compressors)
    assert "tests/nodes/test_subset_rules.py" in subsets and "tests/nodes/test_columns.py" not in subsets
    assert "tests/nodes/test_equality.py" not in compressors and len(set(compressors)) == len(compressors)


def test_a_survivor_outside_of_functions_has_no_empty_name():
    first = next(edit for edit in mutants.edits("theory/batch.py") if not edit.function)
    page = mutate_theory.table({first: {"failed": ""}}, {first: "why"})
    assert f"- `theory/batch.py`: `{first.shown}`" in page and "``" not in page


def test_every_edit_without_effect_still_exists():
    assert len(mutate_theory.reasons()) == len(EQUIVALENT)
    assert all(len(row) == 4 and row[3] for row in EQUIVALENT)


def test_an_entry_that_fits_no_edit_is_refused(monkeypatch):
    monkeypatch.setattr(mutate_theory, "EQUIVALENT", [("theory/sgd.py", "sgd_step", "return 2", "no such line")])
    with pytest.raises(SystemExit, match="names 0 edits of theory/sgd.py sgd_step"):
        mutate_theory.reasons()
