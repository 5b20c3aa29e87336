"""Submissions that want points for nothing: edited tests, patched libraries, forged messages, odd values."""

from corpus import ONLY_IN_THE_BOX, WRONG, Case, CorpusTests, cheat, softmax


def cell(made, name):
    return next(c for c in made.cells if c.id == name)


def role(made, name):
    return cell(made, name).metadata["nbgrader"]


def edited(name, change, flag, score=3.0, **cells):
    """A wrong softmax, and the file changed by hand."""
    return Case(name, "flagged", score, flag, cells={"softmax": WRONG, **cells}, change=change)


def strip(made):
    for c in made.cells:
        c.metadata.clear()


def duplicate(made):
    made.cells += [cell(made, "test-step")] * 3 + [cell(made, "softmax")]


def renamed(made):
    role(made, "test-softmax")["grade_id"] = "other"
    cell(made, "test-softmax").update(id="mine", source="pass")


def tagged(made):
    for c in made.cells:
        c.metadata["tags"] = ["skip-execution", "raises-exception", "remove-cell", "parameters"]


FILES = [
    edited("test cell deleted", lambda m: m.cells.remove(cell(m, "test-softmax")), "missing cell 'test-softmax'"),
    edited("test cell edited", None, "edited test cell 'test-softmax'", **{"test-softmax": "assert True"}),
    edited("cells duplicated", duplicate, "duplicate cell 'test-step'"),
    edited("test cell renamed", renamed, "unknown graded cell 'other'"),
    edited("test cell retyped", lambda m: cell(m, "test-softmax").update(cell_type="markdown"), "type changed"),
    edited("solution retyped", lambda m: cell(m, "step").update(cell_type="markdown"), "type changed", 3.0),
    edited("points inflated", lambda m: role(m, "test-step").update(points=1000), "points changed"),
    edited("roles swapped", lambda m: role(m, "test-softmax").update(solution=True, grade=False), "solution changed"),
    edited("metadata stripped", strip, "metadata stripped"),
    edited("tags", tagged, "tags"),
    edited("foreign schema", lambda m: role(m, "test-step").update(schema_version=99), "schema_version changed"),
    edited("cells reversed", lambda m: m.cells.reverse(), "cells in another order"),
    edited("solution cell deleted", lambda m: m.cells.remove(cell(m, "step")), "missing cell 'step'", 1.0),
    edited("imports edited", None, "edited provided cell 'imports'", **{"imports": "np = None"}),
    edited("metadata of the wrong kind", lambda m: cell(m, "test-step").metadata.update(nbgrader=["x"]), "stripped"),
]
YES = "lambda *_, **__: True"
FORGED_LINES = """
import json, os
lines = [{"answers": "test-softmax", "values": [{"value": 1.0}] * 2}, {"cell": "test-softmax", "outputs": []},
         {"start": {"no": "text"}}, {"snapshot": "test-softmax", "pid": 1}, {"snapshot": [], "pid": -1},
         {"values": [{"value": True}] * 2}, {"done": True}, {"died": "graded"}, [1], "text", None]
for fd in os.listdir("/proc/self/fd"):
    for line in lines:
        try:
            os.set_blocking(int(fd), False)
            os.write(int(fd), json.dumps(line).encode() + b"\\n")
        except OSError: pass
"""
TO_THE_GRADER = """
import glob, json, os
for path in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if not os.readlink(path).startswith("pipe:"): continue
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, DATA)
    except OSError: pass
"""
ANSWERS = """DATA = b"".join(json.dumps(line).encode() + b"\\n" for line in [
    {"start": ["no", "name"]}, {"start": "x" * 10**5}, {"cell": "test-softmax", "outputs": [{"output_type":
    "display_data", "data": {"text/html": "<script>alert(1)</script>"}, "metadata": {}}] * 99,
    "error": {"name": [1], "message": {}}},
    {"done": True}, {"answers": "test-softmax", "values": [{"value": 0.25}, {"value": 0.25}]}])"""
LOCAL = """
for n in ("torch", "numpy", "json", "optcourse"): open(f"{n}.py", "w").write("allclose = lambda *_: True")
import sys
sys.path.insert(0, ".")
import torch
"""
EQUAL = """
class Equal(np.ndarray):
    def __eq__(self, other): return True
    __ne__ = __lt__ = __gt__ = lambda self, other: False
    __sub__ = __rsub__ = __abs__ = lambda self, *other: 0
    def __array__(self, *_, **__): return np.zeros(15).reshape(5, 3)
    def __float__(self): return 0.0
"""
PATCHES = [
    cheat("patched numpy.testing", f"np.allclose = np.isclose = np.array_equal = np.isfinite = {YES}\n"
          f"for n in dir(np.testing):\n    if n.startswith('assert'): setattr(np.testing, n, {YES})"),
    cheat("patched expect", f"import optcourse.labs\nexpect = optcourse.labs.expect = optcourse.labs.hidden = {YES}"),
    cheat("patched builtins", "import builtins\nbuiltins.eval = builtins.exec = lambda *_: 1.0\n"
          f"builtins.isinstance = builtins.hasattr = builtins.all = {YES}\nbuiltins.print = builtins.len = None",
          "flagged", 0.0, "the notebook redefines `eval`, `exec`"),
    cheat("patched eval", "import builtins\nbuiltins.eval = lambda *_: 1.0", "flagged", 3.0,
          "the notebook redefines `eval`"),
    cheat("patched json", "import json\njson.dumps = lambda *_, **__: '{\"values\": [{\"value\": 1}, {\"value\": 1}]}'",
          "timeout"),
    cheat("patched encode", f"import optcourse.labs.values as v\nv.encode = v.decode = v.difference = {YES}",
          score=0.0),
    cheat("patched syntax trees", "import ast\nclass No(ast.NodeTransformer):\n    def visit_Expr(self, node):\n"
          "        return ast.copy_location(ast.Pass(), node)\nget_ipython().ast_transformers.append(No())"),
    cheat("patched formatters", "import sys\nsys.displayhook = sys.excepthook = sys.settrace = None\n"
          "get_ipython().display_formatter.formatters.clear()\nget_ipython().display_pub = None", "timeout", None),
    cheat("local torch and numpy", LOCAL),
    cheat("local numpy loaded", LOCAL + "for n in list(sys.modules):\n    if n.startswith(('numpy', 'optcourse')):\n"
          "        del sys.modules[n]", "crashed", None),
    cheat("forged messages", FORGED_LINES, "timeout", 3.0),
    cheat("forged messages to the grader", ONLY_IN_THE_BOX + "import json\n" + ANSWERS + TO_THE_GRADER, "crashed", 3.0),
    cheat("garbage to the grader", ONLY_IN_THE_BOX + "DATA = bytes(range(256)) * 200 + b'\\n'\n" + TO_THE_GRADER, "crashed", 3.0),
    cheat("deep JSON to the grader", ONLY_IN_THE_BOX + "DATA = b'[' * 60_000 + b'\\n'\n" + TO_THE_GRADER, "crashed", 3.0),
    softmax("long answer",
            "import os\ndef softmax(z):\n    for fd in os.listdir('/proc/self/fd') if len(z) == 5 else ():\n"
            "        try: os.write(int(fd), b'x' * 10**8)\n        except OSError: pass\n    return z", "timeout"),
    softmax("deep answer", "import os\ndef softmax(z):\n    for fd in os.listdir('/proc/self/fd'):\n"
            "        try: os.write(int(fd), b'[' * 10**5 + b'\\n')\n        except OSError: pass", "timeout"),
]  # fmt: skip
VALUES = [
    softmax("always equal", "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
            "    def __array__(self, *_, **__): return np.full((5, 3), 1 / 3)\ndef softmax(z): return Yes()"),
    softmax("array that is always equal", EQUAL + "def softmax(z): return np.zeros((5, 3)).view(Equal)"),
    softmax("array of a gigabyte", "def softmax(z): return np.zeros(2**27)"),
    softmax("array of a petabyte", "def softmax(z): return np.broadcast_to(1.0, (2**24, 2**24))"),
    softmax("array of objects", "def softmax(z): return np.array([[Exception]] * 5)"),
    softmax("not a number", "def softmax(z): return z * np.nan"),
    softmax("lambda", "def softmax(z): return lambda: z"),
    softmax("module", "def softmax(z): return np"),
    softmax("endless generator", "import itertools\ndef softmax(z): return itertools.count()"),
    softmax("endless list", "class Endless(list):\n    def __iter__(self):\n        while True: yield 1\n"
            "def softmax(z): return Endless()"),
    softmax("list in itself", "def softmax(z):\n    x = []\n    x.append(x)\n    return x"),
    softmax("number of 5,000 digits", "def softmax(z): return 10**5000"),
    softmax("text of 100 MB", "def softmax(z): return 'x' * 10**8"),
    softmax("exception of 100 MB", "def softmax(z): raise KeyError('<script>' * 10**7)"),
]  # fmt: skip
TORCH = [cheat("patched torch", f"import torch\ntorch.allclose = torch.equal = torch.isclose = {YES}\n"
               f"torch.testing.assert_close = torch.Tensor.__eq__ = {YES}\n"
               "def softmax(z): return torch.zeros(5, 3).bfloat16()")]  # fmt: skip


class TestEditedNotebooks(CorpusTests):
    cases = FILES


class TestPatches(CorpusTests):
    cases = PATCHES


class TestValues(CorpusTests):
    cases = VALUES


class TestTorch(CorpusTests):
    cases = TORCH
