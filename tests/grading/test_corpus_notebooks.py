"""Notebook files that lie about their cells: forged roles, borrowed names, other orders, too much of everything."""

import base64
import copy
import gzip
import json

import nbformat
import tiny_lab
from corpus import WRONG, Case, CorpusTests

from optcourse.grading.release import release

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
RIGHT = tiny_lab.SOLUTIONS["softmax"]
#: A test cell of one's own that always passes.
MINE = "print('all tests passed')"


def cell(made, name):
    return next(c for c in made.cells if c.id == name)


def place(made, name):
    return made.cells.index(cell(made, name))


def below(made, name, *cells):
    at = place(made, name) + 1
    made.cells[at:at] = cells


def code(text, name="own", **nbgrader):
    new = nbformat.v4.new_code_cell(text)
    new.id = name
    if nbgrader:
        new.metadata["nbgrader"] = {"schema_version": 3, "grade_id": name, **nbgrader}
    return new


def lies(name, change, score=3.0, flag="", status=None, right=False):
    """A wrong softmax (or a right one) in a notebook that ``change`` has made a lie of."""
    status = status or ("flagged" if flag else "graded")
    return Case(name, status, score, flag, cells={} if right else {"softmax": WRONG}, change=change)


def of_file(name, content, status="unreadable", score=None, flag="not a notebook"):
    return Case(name, status, score, flag, file=lambda place: content())


def raw(change=lambda made: None, **cells):
    made = tiny_lab.notebook(**cells)
    change(made)
    return tiny_lab.raw(made)


# Roles ----------------------------------------------------------------------------------------------------------


def role(name, **values):
    return lambda made: cell(made, name).metadata["nbgrader"].update(values)


def borrowed(name, of):
    """A cell with the grade id of another."""

    def change(made):
        cell(made, name).metadata["nbgrader"] = copy.deepcopy(cell(made, of).metadata["nbgrader"])

    return change


def swapped(made):
    a, b = cell(made, "test-softmax"), cell(made, "test-squares")
    a.metadata, b.metadata = b.metadata, a.metadata
    a.id, b.id = b.id, a.id


def solution_as_test(made):
    cell(made, "softmax").metadata["nbgrader"] |= {"grade": True, "solution": False, "locked": True, "points": 100}


def marked_as_solution(made):
    cell(made, "test-softmax").metadata["nbgrader"] |= {"grade": False, "solution": True, "locked": False}
    cell(made, "test-softmax").source = MINE


def without_a_role(made):
    cell(made, "test-softmax").metadata = {}
    cell(made, "test-softmax").update(id="mine", source=MINE)


def second_test(made):
    below(made, "test-softmax", code(MINE, "test-softmax", grade=True, locked=True, solution=False, points=3.0))


def on_top(made):
    made.cells.insert(0, code(MINE, "test-softmax", grade=True, locked=True, solution=False, points=3.0))


def easy_tests(made):
    for name in ("softmax", "step", "squares"):
        cell(made, f"test-{name}").source = MINE


def all_are_tests(made):
    for c in made.cells:
        c.metadata["nbgrader"] = {"grade": True, "solution": False, "locked": True, "points": 1e9, "grade_id": c.id}


def all_are_one(made):
    for c in made.cells:
        c.id = "softmax"
        c.metadata["nbgrader"] = {"grade": False, "solution": True, "grade_id": "softmax"}


def turned_into_texts(made):
    for name in ("softmax", "step", "squares"):
        cell(made, f"test-{name}").cell_type = "markdown"


def all_are_raw(made):
    for c in made.cells:
        c.cell_type = "raw"


def the_provided_cell_is_a_solution(made):
    cell(made, "imports").metadata["nbgrader"] |= {"solution": True, "locked": False}
    cell(made, "imports").source = "import numpy as np\n\ndef expect(*_):\n    pass"


def expect_below_the_imports(made):
    below(made, "imports", code("def expect(*_):\n    pass\n\ndef hidden(*_, **__):\n    pass"))


def skip_tags(made):
    for c in made.cells:
        c.metadata["tags"] = ["skip-execution", "raises-exception", "remove-cell", "<script>", "parameters"]


def other_exercises_solution(made):
    """The right step under the name of softmax, and nothing right for softmax."""
    cell(made, "softmax").source = tiny_lab.SOLUTIONS["step"]
    cell(made, "step").source = WRONG


ROLES = [
    lies("solution marked as a test", solution_as_test, flag="cell 'softmax': grade changed"),
    lies("test marked as a solution", marked_as_solution, flag="edited test cell 'test-softmax'"),
    lies("test without its role", without_a_role, flag="missing cell 'test-softmax'"),
    lies("two cells are one test", second_test, flag="duplicate cell 'test-softmax'"),
    lies("test of one's own before the lab", on_top, flag="duplicate cell 'test-softmax'"),
    lies("tests of one's own", easy_tests, flag="edited test cell 'test-squares'"),
    lies("tests changed places", swapped, flag="edited test cell"),
    lies("test with more points", role("test-step", points=1e6), flag="points changed"),
    lies("test with no number of points", role("test-step", points="all"), flag="points changed"),
    lies("test with fewer points than none", role("test-softmax", points=-3), flag="points changed"),
    lies("solution with the grade id of a test", borrowed("softmax", "test-step"), flag="duplicate cell 'test-step'"),
    lies("solution with the grade id of another", borrowed("softmax", "step"), flag="duplicate cell 'step'"),
    lies("test with the grade id of a solution", borrowed("test-softmax", "softmax"), flag="duplicate cell 'softmax'"),
    lies("answer with the grade id of a test", borrowed("why", "test-softmax"), flag="duplicate cell 'test-softmax'"),
    lies("every cell a test", all_are_tests, flag="cell 'softmax': grade changed"),
    lies("every cell the same", all_are_one, score=6.0, flag="duplicate cell 'softmax'", right=True),
    lies("tests turned into texts", turned_into_texts, flag="cell 'test-softmax': type changed"),
    lies("every cell raw", all_are_raw, flag="type changed"),
    lies("provided cell as a solution", the_provided_cell_is_a_solution, flag="edited provided cell 'imports'"),
    lies("expect redefined", expect_below_the_imports),
    lies("tags that skip execution", skip_tags, flag="tags"),
    lies("solutions under each other's names", other_exercises_solution, flag="solved in a cell of its own"),
    lies("unknown graded cells", lambda made: made.cells.extend(
        code("1", f"more-{n}", grade=True, solution=False, points=9.0) for n in range(60)), flag="unknown graded cell"),
    lies("role with a grade id of no text", role("softmax", grade_id={"a": ["b"]}), flag="grade_id changed"),
]  # fmt: skip


# Order and definitions ------------------------------------------------------------------------------------------


def right_for_a_while(made):
    """The tests run on right functions that are replaced afterwards."""
    made.cells.insert(place(made, "softmax"), code(RIGHT))
    test = made.cells.pop(place(made, "test-softmax"))
    made.cells.insert(place(made, "softmax"), test)


def backwards(made):
    made.cells.reverse()


def redefined_after_the_test(made):
    below(made, "test-softmax", code("def softmax(z):\n    return None"))


def redefined_at_the_end(made):
    made.cells.append(code("del softmax, step, squares"))


def hundred_definitions(made):
    below(made, "softmax", *(code(f"def softmax(z):\n    return {n}", f"d{n}") for n in range(100)))


def conditional(made):
    below(made, "softmax", code("if True:\n    def softmax(z):\n        return z"))


def wrapped(made):
    cell(made, "test-softmax").source = f"def test_softmax():\n    {cell(made, 'test-softmax').source}"


def the_labs_cells_in_one_line(made):
    text = "; ".join(c.source for c in made.cells if c.id.startswith("test-"))
    made.cells.insert(2, code(text))


def two_copies(made):
    again = copy.deepcopy(made.cells)
    for c in again:
        c.id = f"{c.id}-2"
    made.cells += again


def stubs_pasted_below(made):
    stubs = (c for c in release(tiny_lab.source()).cells if c.id in tiny_lab.SOLUTIONS)
    made.cells += [code(c.source, f"{c.id}-again") for c in stubs]


def name_of_another_cell(made):
    """Cell ids of the form that the grader gives to a student's own cells."""
    for n in range(12):
        made.cells.insert(2, code(f"print({n})", f"extra-{n}", grade=False, solution=True))


ORDER = [
    lies("a right function only during the tests", right_for_a_while, score=6.0, flag="defined again after its test"),
    lies("backwards", backwards, score=6.0, flag="cells in another order", right=True),
    lies("redefined after its test", redefined_after_the_test, score=6.0, flag="defined again", right=True),
    lies("deleted at the end", redefined_at_the_end, score=6.0, right=True),
    lies("a hundred definitions", hundred_definitions, right=True),
    lies("definition under a condition", conditional, right=True),
    lies("test wrapped in a function", wrapped, flag="edited test cell 'test-softmax'"),
    lies("all tests in one line at the top", the_labs_cells_in_one_line),
    lies("every cell twice", two_copies, flag="duplicate cell 'softmax'"),
    lies("stubs pasted at the end", stubs_pasted_below, score=6.0, flag="metadata stripped", right=True),
    lies("own cells named as the grader names them", name_of_another_cell, flag="unknown graded cell 'extra-0'"),
]


# Too much -------------------------------------------------------------------------------------------------------


def attached(kind, data, name="x.png", text="![](attachment:x.png)"):
    def change(made):
        cell(made, "why").update(source=text, attachments={name: {kind: data}})

    return change


def with_fields(**fields):
    return lambda: json.dumps({**json.loads(raw()), **fields}).encode()


def inserted(text):
    return lambda: raw().replace(b'"metadata": {', b'"metadata": {' + text, 1)


SCRIPT = base64.b64encode(b"<script>alert(1)</script>").decode()
PICTURE = base64.b64encode(PNG).decode()
MUCH = [
    lies("two thousand cells, all empty", lambda made: made.cells.extend(
        code("", f"e{n}") for n in range(2000 - len(made.cells)))),
    lies("a thousand texts", lambda made: made.cells.extend(
        nbformat.v4.new_markdown_cell("# x\n" * 50) for _ in range(1000)), flag="the answer 'why' is in a cell of its own"),
    lies("200,000 statements", lambda made: made.cells.extend(code("a\n" * 99_000, f"s{n}") for n in range(2))),
    lies("a statement that binds 30,000 names", lambda made: made.cells.append(
        code("".join(f"a{n}," for n in range(30_000)) + "=range(30_000)"))),
    lies("code nested too deeply", lambda made: made.cells.append(code("(" * 90_000 + ")" * 90_000))),
    lies("script as a picture", attached("image/png", SCRIPT), flag="no picture"),
    lies("drawing that runs", attached("image/svg+xml", "<svg onload=alert(1)>"), flag="no picture"),
    lies("attachment of HTML", attached("text/html", "<script>alert(1)</script>"), flag="no picture"),
    lies("picture whose name is markup", attached("image/png", PICTURE, '"><img src=x onerror=alert(1)>')),
    lies("picture with a path as its name", attached("image/png", PICTURE, "../../../../etc/passwd")),
    lies("picture with a script behind it", attached("image/png", base64.b64encode(
        PNG + b"<script>alert(1)</script>").decode())),
    lies("sixteen million letters of pictures", lambda made: cell(made, "why").update(attachments={
        f"{n}.png": {"image/png": base64.b64encode(PNG + bytes(3_000_000)).decode()} for n in range(4)}),
        flag="pictures were left out"),
    lies("a thousand attachments", lambda made: cell(made, "why").update(attachments={
        f"{n}.png": {"image/png": PICTURE} for n in range(1000)}), flag="1,000 attachments in one cell"),
    of_file("bomb of empty objects", inserted(b'"z": [' + b"{}," * 900_000 + b"{}],"), "graded", 6.0, ""),
    of_file("larger bomb of empty objects", lambda: b'{"z": [' + b"{}," * 6_000_000 + b"{}]}", flag="parts"),
    of_file("bomb of names", lambda: b"{" + b",".join(b'"%d":0' % n for n in range(1_500_000)) + b"}", flag="no cells"),
    of_file("number of a million digits", inserted(b'"z": ' + b"9" * 10**6 + b",")),
    of_file("two lists of cells", lambda: raw().replace(b'"cells": [', b'"cells": [], "cells": [', 1), "flagged", 6.0,
            "stands twice"),
    of_file("format of a billion", with_fields(nbformat=1e9), "graded", 6.0, ""),
    of_file("format that is no number", with_fields(nbformat=float("nan"), nbformat_minor=[]), "graded", 6.0, ""),
    of_file("kernel of another language", with_fields(metadata={"kernelspec": {"name": "ir", "language": "R"}}),
            "flagged", 6.0, "foreign kernel 'ir'"),
    of_file("UTF-16", lambda: raw().decode().encode("utf-16"), "flagged", 6.0, "saved as utf-16"),
    of_file("compressed", lambda: gzip.compress(raw()), flag="compressed with gzip"),
    of_file("compressed a thousandfold", lambda: gzip.compress(bytes(15 * 2**20)), flag="compressed with gzip"),
    of_file("a web page with a notebook in it", lambda: b"<html><script>" + raw(), flag="a web page"),
    of_file("a merge conflict", lambda: raw().replace(b"{", b"{\n<<<<<<< HEAD\n", 1), flag="merge conflict"),
    of_file("a script", lambda: b"import os\nos.system('true')\n", flag="a Python script"),
    of_file("a picture", lambda: PNG, flag="a picture"),
    of_file("a name that is not text", lambda: raw(lambda made: [c.update(id=[["x"]]) for c in made.cells]), "graded",
            6.0, ""),
]  # fmt: skip


class TestRoles(CorpusTests):
    cases = ROLES


class TestOrder(CorpusTests):
    cases = ORDER


class TestMuch(CorpusTests):
    cases = MUCH
