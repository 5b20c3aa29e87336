"""Submissions that hide, patch or dress up names and values, to be taken for right; and what each of them earns."""

from corpus import WRONG, Case, CorpusTests, cheat, softmax

YES = "lambda *_, **__: True"
UNIFORM = "np.full((5, 3), 1 / 3)"


def hides(name: str, code: str, flag: str, score: float | None = 3.0) -> Case:
    """A wrong softmax, and a name of Python's own that means something else."""
    return cheat(name, code, "flagged", score, f"the notebook redefines {flag}")


NAMES = [
    hides("name bool", f"bool = {YES}", "`bool`"),
    hides("name float is a constant", "float = lambda *_: 1.0", "`float`"),
    hides("class str that is equal", "class str(str):\n    def __eq__(self, o): return True\n    __hash__ = None", "`str`"),
    hides("names abs, max and sum give zero", "abs = max = sum = lambda *_, **__: 0.0", "`abs`, `max`, `sum`"),
    hides("name len", "len = lambda *_: 11", "`len`"),
    hides("names of type checks", f"isinstance = issubclass = callable = {YES}", "`callable`, `isinstance`, `issubclass`"),
    hides("builtins isinstance patched", "import builtins\nold = isinstance\nbuiltins.isinstance = lambda *a: old(*a)",
          "`isinstance`"),
    hides("builtins sorted patched", "import builtins\nbuiltins.sorted = lambda *_, **__: []", "`sorted`"),
    hides("builtins through a module", "np.__builtins__['divmod'] = lambda *_: (0, 0)", "`divmod`"),
    hides("builtins through globals", "(lambda: 0).__globals__['__builtins__'].__dict__['hash'] = lambda *_: 1", "`hash`"),
    hides("name in user_ns of the shell", "get_ipython().user_ns['round'] = lambda *_: 0", "`round`"),
    hides("name by exec", "exec('pow = lambda *_: 0')", "`pow`"),
    hides("name by import", "from operator import add as sum", "`sum`"),
    hides("name by a loop", "for any in [lambda *_: True]: pass", "`any`"),
    hides("name by a walrus", "(all := lambda *_: True)", "`all`"),
]  # fmt: skip
PATCHES = [
    cheat("own globals with a magic dict", "class D(dict):\n    def __getitem__(self, k): return 0.25\n"
          "get_ipython().user_global_ns = D(globals())"),
    cheat("module attribute linalg patched", "np.linalg.norm = lambda *_, **__: 0.0"),
    cheat("numpy asarray patched", f"np.asarray = np.ascontiguousarray = np.array = lambda *_, **__: {UNIFORM}", score=2.0),
    cheat("values module replaced", "import sys, types\nm = types.ModuleType('v')\n"
          "m.encode = m.decode = lambda *_: 1\nsys.modules['optcourse.labs.values'] = m", score=0.0),
    cheat("hidden in cells replaced", "import optcourse.labs.cells as c\nc.Case.wrong = c.digest = lambda *_: None"),
    cheat("difference replaced", "import optcourse.labs.values as v\nv.difference = lambda *_: None"),
    cheat("dtypes widened", "import optcourse.labs.values as v\nv.DTYPES += ('object',)\nv.MAX_BYTES = 10**12"),
    cheat("import hook", "import sys\nclass F:\n    def find_spec(self, *a): return None\nsys.meta_path.insert(0, F())"),
    cheat("profile hook", "import sys\nsys.setprofile(lambda *_: None)"),
    cheat("cell transformer", "get_ipython().input_transformers_post.append("
          "lambda lines: [line.replace('expect', 'print') for line in lines])"),
    cheat("hook after every cell", "def f(*_): get_ipython().user_ns['softmax'] = lambda z: 'LEAK'\n"
          "get_ipython().events.register('post_run_cell', f)"),
    cheat("finalizer", "class E:\n    def __del__(self): globals().update(softmax=lambda z: z * 0)\nE()"),
    cheat("frames searched for the answer", "import sys\ndef softmax(z):\n    f = sys._getframe()\n    while f:\n"
          "        for k in ('expected', 'answer', 'case'):\n            v = f.f_locals.get(k)\n"
          "            if k == 'case' and 'expected' in v: return v['expected']\n        f = f.f_back\n    return z"),
    cheat("heap searched for the answer", "import gc\ndef softmax(z):\n    for o in gc.get_objects():\n"
          "        if type(o) is dict and 'expected' in o: return o['expected']\n    return z"),
    cheat("question's data changed", "def softmax(z):\n    z *= 0\n    z += 1 / 3\n    return z"),
    cheat("tolerance passed", "def softmax(z, tol=1e9): return z"),
]  # fmt: skip
VALUES = [
    softmax("float that is equal", "class F(float):\n    __eq__ = __le__ = lambda *_: True\n    __sub__ = lambda *_: 0.0\n"
            "    __hash__ = None\ndef softmax(z): return F(1)"),
    softmax("text that claims to be an array", "def softmax(z): return {'$kind': 'array', 'dtype': 'float64',"
            " 'shape': [5, 3], 'data': 'AAAA'}"),
    softmax("dict with the key of values", "def softmax(z): return {'$kind': 'other', 'type': 'ndarray'}"),
    softmax("array with another shape attribute", "class A(np.ndarray):\n    shape = (5, 3)\n"
            "def softmax(z): return np.zeros(15).view(A)"),
    softmax("masked array", "def softmax(z): return np.ma.masked_all(z.shape)"),
    softmax("complex array with nan", "def softmax(z): return z * (np.nan + 1j)"),
    softmax("infinities", "def softmax(z): return np.full(z.shape, np.inf)"),
    softmax("broadcast row", "def softmax(z): return np.full((1, 3), 1 / 3)"),
    softmax("array of an axis more", "def softmax(z): return np.full((1, *z.shape), 1 / 3)"),
    softmax("transposed", "def softmax(z): return np.zeros(z.T.shape)"),
    softmax("texts of numbers", "def softmax(z): return [['0.3333'] * 3] * 5"),
    softmax("truths", "def softmax(z): return np.ones(z.shape, bool)"),
    softmax("structured array", "def softmax(z): return np.zeros(5, [('a', float, 3)])"),
    softmax("dates", "def softmax(z): return np.zeros(z.shape, 'datetime64[s]')"),
    softmax("tensor for an array", "import torch\ndef softmax(z): return torch.zeros(z.shape)"),
    softmax("object with the array interface", "class A:\n    __array_interface__ = np.zeros((5, 3)).__array_interface__\n"
            "def softmax(z): return A()"),
    softmax("class that lies about its class", "class A:\n    __class__ = np.ndarray\ndef softmax(z): return A()"),
    softmax("exception whose text raises", "class E(Exception):\n    def __str__(self): raise SystemExit\n"
            "def softmax(z): raise E"),
    softmax("exception group of itself", "def softmax(z): raise BaseExceptionGroup('x', [KeyboardInterrupt()])"),
    softmax("generator that exits", "def softmax(z):\n    yield 1\n    raise SystemExit"),
    softmax("coroutine", "async def softmax(z): return z"),
    softmax("partial", "import functools\ndef softmax(z): return functools.partial(np.exp, z)"),
]  # fmt: skip


class TestNames(CorpusTests):
    cases = NAMES


class TestPatches(CorpusTests):
    cases = PATCHES


class TestValues(CorpusTests):
    cases = VALUES


def test_the_kinds_are_many_and_distinct():
    cases = [*NAMES, *PATCHES, *VALUES]
    assert len({case.name for case in cases}) == len(cases) >= 40
    assert WRONG in {cell for case in NAMES for cell in case.cells.values()}
