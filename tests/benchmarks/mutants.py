"""Edits of constants, and the tests that match a module: what ``mutate_theory.py`` runs."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What is edited: whole rooms, or single modules.
EDITED = (
    "theory",
    "nodes/byzantine",
    "nodes/messages/compressors.py",
    "nodes/messages/factors.py",
    "nodes/network/averaging.py",
    "nodes/network/mixing.py",
)
#: Test files that look at a module through another one, and import nothing from it; and the tables over all guarantees.
MORE_TESTS = {
    "theory/bound.py": ["theory/test_compression.py", "theory/test_large_batches.py"],
    "theory/distributed/gossip_exact.py": ["theory/test_gossip.py"],
    "theory/distributed/compressors.py": ["theory/test_compression.py", "theory/test_compressed_gossip.py"],
    "nodes/byzantine/history.py": ["nodes/test_attacks.py"],
    "nodes/byzantine/vectors.py": ["nodes/test_aggregators.py", "nodes/test_aggregator_values.py"],
    "nodes/network/averaging.py": ["nodes/test_network.py"],
    "nodes/network/mixing.py": ["nodes/test_network.py"],
}
TABLES = [
    ["theory/test_scaling.py", "theory/test_conditions.py", "theory/test_statements.py"],
    ["theory/test_tightness.py"],
]
#: What the last of them looks at.
INSTANCES = ROOT / "optcourse" / "course" / "book" / "guarantees"
#: Smaller constants absorb rounding: 1.5 times as much of it means the same.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Edit:
    """One constant, replaced: bytes ``start`` to ``end`` of the module become ``new``."""

    module: str
    function: str
    line: int
    start: int
    end: int
    new: str
    shown: str

    def source(self) -> bytes:
        """The module with the edit."""
        source = (ROOT / "optcourse" / self.module).read_bytes()
        return source[: self.start] + self.new.encode() + source[self.end :]

    def key(self, digest: str) -> str:
        """The same in every run, until the module changes."""
        return f"{self.module}:{digest}:{self.start}:{self.new}"


def modules() -> list[str]:
    """Paths of all edited modules, relative to the package."""
    package = ROOT / "optcourse"
    found = [
        p
        for name in EDITED
        for p in ([package / name] if name.endswith(".py") else sorted((package / name).rglob("*.py")))
    ]
    return [str(p.relative_to(package)) for p in found if p.name != "__init__.py"]


def edits(module: str) -> Iterator[Edit]:
    """All edits of one module, from top to bottom."""
    source = (ROOT / "optcourse" / module).read_bytes()
    starts = [0]
    for text in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    lines = source.decode().splitlines()
    for node, function, exponent in _constants(ast.parse(source), "", False):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        old = source[start:end].decode()
        for new in _replacements(node.value, old, exponent):
            column = node.col_offset
            raw = lines[node.lineno - 1].encode()
            shown = (raw[:column] + new.encode() + raw[column + end - start :]).decode().strip()
            yield Edit(module, function, node.lineno, start, end, new, shown)


def _constants(node: ast.AST, function: str, exponent: bool) -> Iterator[tuple[ast.Constant, str, bool]]:
    """Numbers with the function around them, and whether they stand in an exponent.

    Left out: what messages say, axes, and how wide and fine a grid is (what is found there, tests look at).
    """
    if isinstance(node, ast.Constant):
        if type(node.value) in (int, float):
            yield node, function, exponent
        return
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert):
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    if isinstance(node, ast.keyword) and node.arg == "axis":
        return
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("linspace", "geomspace", "leggauss"):
        return
    for child in ast.iter_child_nodes(node):
        power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and child is node.right
        yield from _constants(child, function, power or (exponent and isinstance(node, ast.BinOp | ast.UnaryOp)))


def _replacements(value: float, old: str, exponent: bool) -> list[str]:
    if value == 0:
        return ["1"]
    if exponent:
        return [f"({old} + 1)"]
    if abs(value) < TOLERANCE:
        return [repr(value + 1)]
    return [repr(value * 1.5), *([] if value == 2 else [repr(value + 1)])]  # of 2 both are 3


def tests_of(module: str) -> list[list[str]]:
    """The doctests of a module with the test files of its room, and the tables over guarantees if it has some.

    Of the room the files that bear the module's name, import it or one of its functions, or stand in ``MORE_TESTS``.
    """
    room, path = module.split("/")[0], ROOT / "optcourse" / module
    tree = ast.parse(path.read_bytes())
    names = {path.stem} | {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    importing = [p for p in sorted((ROOT / "tests" / room).glob("test_*.py")) if names & _imported(p)]
    found = [f"tests/{room}/test_{path.stem}.py", *(str(p.relative_to(ROOT)) for p in importing)]
    found += [f"tests/{file}" for file in MORE_TESTS.get(module, [])]
    found += ["tests/theory/test_ranges.py" if room == "theory" else "tests/nodes/test_node_ranges.py"]
    own = [f"optcourse/{module}", *(file for file in dict.fromkeys(found) if (ROOT / file).exists())]
    guarantees = "-> Bound:" in path.read_text(encoding="utf-8")
    return [own, *([f"tests/{file}" for file in files] for files in TABLES if guarantees)]


@cache
def _imported(file: Path) -> set[str]:
    """What a test file imports from the package: the last part of each name, and of the module that it is from."""
    found = (node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.ImportFrom))
    ours = [node for node in found if node.module and node.module.startswith("optcourse")]
    return {name.split(".")[-1] for node in ours for name in (node.module, *(alias.name for alias in node.names))}


def digest(module: str) -> str:
    """Of the source of a module."""
    return _digest([f"optcourse/{module}"])


def digest_of_tests(module: str) -> str:
    """Of the files with tests, and of those that they may import."""
    beside = (p for p in (ROOT / "tests" / module.split("/")[0]).glob("*.py") if not p.name.startswith("test_"))
    read = sorted(str(p.relative_to(ROOT)) for p in chain(beside, INSTANCES.glob("*.py")))
    return _digest([*chain.from_iterable(tests_of(module)), *read])


def _digest(files: list[str]) -> str:
    return hashlib.sha256(b"".join((ROOT / file).read_bytes() for file in files)).hexdigest()[:12]
