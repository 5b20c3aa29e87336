"""A lecture that judges the others runs after them, reads their verdicts, and is stale when one of them changes."""

import json
from pathlib import Path

import nbformat
import pytest
from lectures_for_tests import CHECK

from optcourse.course import catalog, report
from optcourse.course.catalog import Catalog, Lecture

JUDGE = Lecture("20", "The judge", "20_judge.ipynb", "written", after="all")
READ = (
    "import json, os\n"
    "rows = json.load(open(os.environ['OPTCOURSE_VERDICTS']))\n"
    "print([(row['claim'], row['measured']) for row in rows if row['lecture'] != '20'])"
)


def verdict_of(folder):
    notebook = nbformat.read(folder.output / "20_judge.ipynb", as_version=4)
    return "".join(o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "stream")


def holds(measured):
    return CHECK.format(topic="02.4", claim="a < b", measured=measured, bound=2)


def test_it_runs_last_and_again_when_a_verdict_changes(folder, capfd):
    table = Catalog(lectures=(JUDGE,))
    alone = folder.add("02_other", "import os\nassert 'OPTCOURSE_VERDICTS' not in os.environ", holds(1))
    judge = folder.add("20_judge", READ, CHECK.format(topic="20.3", claim="it judges", measured=1, bound=2))
    paths = [judge, alone]
    assert folder.run(*paths, catalog=table) == 0
    assert "('a < b', 1.0)" in verdict_of(folder)
    rows = json.loads((folder.output / report.VERDICTS).read_text())
    assert [row["claim"] for row in rows] == ["a < b", "it judges"]
    assert json.loads((folder.output / report.RUN).read_text())["interrupted"] is False

    capfd.readouterr()
    assert folder.run(*paths, catalog=table, resume=True) == 0
    assert capfd.readouterr().err.count("unchanged, skipped") == 2

    folder.add("02_other", holds(1.5))
    assert folder.run(*paths, catalog=table, resume=True) == 0
    assert "skipped" not in capfd.readouterr().err and "('a < b', 1.5)" in verdict_of(folder)

    assert folder.run(judge, catalog=table) == 0  # alone: it reads what is there
    assert "('a < b', 1.5)" in verdict_of(folder)


def test_a_lecture_that_fails_is_judged_too(folder):
    broken = CHECK.format(topic="02.4", claim="c < b", measured=3, bound=2)
    paths = [folder.add("02_other", holds(1), broken), folder.add("20_judge", READ)]
    assert folder.run(*paths, catalog=Catalog(lectures=(JUDGE,))) == 1
    assert "('c < b', 3.0)" in verdict_of(folder)


def test_verdicts_that_a_run_of_now_would_not_give_are_named(folder):
    paths = [folder.add(name, holds(1)) for name in ("02_other", "03_third", "04_left")]
    table = Catalog(lectures=(JUDGE,))
    assert folder.run(*paths, folder.add("20_judge", READ), catalog=table) == 0

    def outdated(**settings):
        return report.outdated(folder.output, folder.lectures, now="20", **{"profile": "quick", "seed": 0, **settings})

    assert outdated() == {}
    folder.add("03_third", holds(1.5))  # the claim is the same, and its number is not
    paths[2].unlink()
    ((why, lectures),) = outdated().items()
    assert "older than the last change" in why and lectures == ["03", "04"]
    for other in ({"seed": 7}, {"profile": "full"}):
        ((why, lectures),) = outdated(**other).items()
        assert "profile quick, seed 0" in why and lectures == ["02", "03", "04"]
    assert report.outdated(folder.output / "none", folder.lectures, profile="quick", seed=0) == {}


@pytest.mark.parametrize("value", ['"02"', "1"])
def test_the_catalog_knows_only_all(tmp_path, value):
    entry = f'[[lecture]]\nid = "20"\ntitle = "x"\nnotebook = "20_x.ipynb"\nstatus = "written"\nafter = {value}\n'
    (tmp_path / "topics.toml").write_text(entry)
    with pytest.raises(ValueError, match="after"):
        catalog.load(tmp_path / "topics.toml")


def test_the_last_lecture_of_the_course_is_the_judge():
    table = catalog.load(Path(__file__).parents[2] / "lectures" / "topics.toml")
    assert [lecture.id for lecture in table.lectures if lecture.after] == [table.lectures[-1].id]
