"""What a run leaves: executed notebooks, verdicts in order, records that are trusted only with their files."""

import json
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from optcourse import checking
from optcourse.checking import MIME
from optcourse.course import claims, report
from optcourse.course.catalog import Catalog
from optcourse.course.execution import Failure, Outcome, Settings

SETTINGS = Settings("quick", 0, "cpu")


def verdict(**changes):
    values = {"topic": "02.4", "claim": "a < b & c", "measured": 1.0, "relation": "<=", "bound": 2.0, "margin": 1.0}
    return {**values, "verdict": "holds", "seeds": 20, "why": None, **changes}


def executed(*verdicts, seconds=1.0):
    cells = [new_markdown_cell("## 02.4 Rate", id="top")]
    for number, entry in enumerate(verdicts):
        output = new_output("display_data", {MIME: entry, "text/plain": "line"})
        timing = {"papermill": {"duration": seconds}}
        cells.append(new_code_cell("check()", id=f"check-{number}", outputs=[output], metadata=timing))
    return new_notebook(cells=cells)


@pytest.fixture
def written(tmp_path):
    """A run of one good lecture that is too slow, and one that failed, in the output folder."""
    expected = verdict(relation="in", bound=[0.0, 1.0], margin=-1.0, verdict="fails as expected", why="too noisy")
    neither = verdict(measured=1.5, bound=2.0, margin=-0.5, verdict="undecided", interval=[0.5, 2.5])
    outcomes = {
        "02_sgd": Outcome(executed(verdict(), expected, neither, seconds=12.3), 75.0, None),
        "05_x": Outcome(executed(verdict(verdict="broken")), 2.0, Failure("ClaimBroken", "broke", "check-0", "02.4")),
    }
    records = {}
    for name, outcome in outcomes.items():
        report.keep(tmp_path, name, outcome)
        records[name] = report.record(Path(f"{name}.ipynb"), outcome, SETTINGS, "key", Catalog())
    report.write(tmp_path, records, report.RunInfo(SETTINGS, {"python": "3.11.7"}, True))
    return tmp_path


def test_verdicts_come_in_the_order_of_the_notebooks_and_carry_their_lecture(written):
    rows = json.loads((written / "verdicts.json").read_text())
    assert [(row["lecture"], row["verdict"]) for row in rows] == [
        ("02", "holds"),
        ("02", "fails as expected"),
        ("02", "undecided"),
        ("05", "broken"),
    ]
    assert rows[0] == {"lecture": "02", **verdict()}


def test_a_record_counts_claims_and_names_what_was_slow(written):
    found = report.load(written)
    assert found["02_sgd"].claims == 3 and found["02_sgd"].undecided == 1 and found["02_sgd"].ok
    assert found["02_sgd"].over == {f"check-{i}": 12.3 for i in range(3)} and found["02_sgd"].slowest_s == 12.3
    assert found["05_x"].failure == Failure("ClaimBroken", "broke", "check-0", "02.4")


@pytest.mark.parametrize(("profile", "device", "over"), [("quick", "cpu", 1), ("quick", "cuda", 0), ("full", "cpu", 0)])
def test_the_budget_is_for_the_quick_profile_without_a_gpu(profile, device, over):
    outcome = Outcome(executed(verdict(), seconds=12.3), 75.0, None)
    found = report.record(Path("02_sgd.ipynb"), outcome, Settings(profile, 0, device), "key", Catalog())
    assert len(found.over) == over


def test_the_last_run_is_known_by_its_settings(written, tmp_path):
    assert report.last_run(written) == report.RunInfo(SETTINGS, {"python": "3.11.7"}, True)
    assert report.last_run(tmp_path / "nowhere") is None
    (written / report.RUN).write_text("{}")
    assert report.last_run(written) is None and report.load(written) == {}


def test_a_lecture_that_could_not_be_read_leaves_no_notebook(written):
    report.keep(written, "02_sgd", Outcome(None, 0.0, Failure("NotANotebook", "it is text")))
    assert not (written / "02_sgd.ipynb").exists()


def test_every_relation_of_check_can_be_shown():
    assert claims.RELATIONS.keys() == checking._SLACK.keys()
