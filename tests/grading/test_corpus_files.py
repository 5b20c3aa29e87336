"""Submissions that are no notebooks, say too much, or go for files and the network."""

import json

import tiny_lab
from corpus import ONLY_IN_THE_BOX, Case, CorpusTests, in_cell


def broken(name, content, flag, status="unreadable", score=None):
    """A file with these bytes."""
    return Case(name, status, score, flag, file=lambda place: content() if callable(content) else content)


def with_cells(cells):
    return lambda: json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def other_lab():
    made = tiny_lab.notebook()
    for cell in made.cells:
        cell.id = f"other-{cell.id}"
        cell.source = f"# {cell.source}"
        if "nbgrader" in cell.metadata:
            cell.metadata["nbgrader"]["grade_id"] = cell.id
    return tiny_lab.raw(made)


def many_cells(count):
    made = tiny_lab.notebook()
    made.cells += [tiny_lab.nbformat.v4.new_code_cell("1") for _ in range(count)]
    return lambda: tiny_lab.raw(made)


def old_format():
    return tiny_lab.nbformat.writes(tiny_lab.nbformat.convert(tiny_lab.notebook(), 3), version=3).encode()


def kernel(made):
    made.metadata["kernelspec"] = {"name": "../../bin/sh", "language": "bash", "display_name": "<script>"}


def scripts(made):
    made.metadata["title"] = "x"
    text = "<script>alert(1)</script><img src=x onerror=alert(2)> <a href='javascript:alert(3)'>"
    next(c for c in made.cells if c.id == "why").source = text
    made.cells.insert(0, tiny_lab.nbformat.v4.new_markdown_cell(text))


SCRIPT_OUTPUT = """
from IPython.display import HTML, Javascript, display
print("<script>alert(1)</script>")
display(HTML("<script>alert(2)</script>"), Javascript("alert(3)"))
display({"image/png": "'><script>alert(4)</script>", "text/plain": "<script>"}, raw=True)
raise ValueError("<script>alert(5)</script>")
"""
BROKEN = [
    broken("corrupt JSON", b'{"cells": [{"cell_type": "co', "not a notebook"),
    broken("zero bytes", b"", "the file is empty"),
    broken("binary", b"\x80\x04\x95" + bytes(range(256)) * 100, "not a notebook"),
    broken("not UTF-8", tiny_lab.raw(tiny_lab.notebook()).replace(b"Tiny", b"\xff\xfe"), "not a notebook"),
    broken("lone surrogates", lambda: tiny_lab.raw(tiny_lab.notebook(softmax="x = '\udc80\ud800'")), "", "graded", 3.0),
    broken("deep JSON", b'{"cells":' + b"[" * 100_000, "nested too deeply"),
    broken("list of numbers", b"[1, 2, 3]", "not a notebook"),
    broken("cells of the wrong kind", with_cells([1, None, "x"]), "not a notebook"),
    broken("source of the wrong kind", with_cells([{"cell_type": "code", "source": {}}]), "none of its 1 cells"),
    broken("empty notebook", with_cells([]), "no cell of this lab", "flagged", 0.0),
    broken("another lab", other_lab, "no cell of this lab", "flagged", 0.0),
    broken("huge notebook", lambda: tiny_lab.raw(tiny_lab.notebook(softmax="#" * 30_000_000)), "20 MB"),
    broken("thousands of cells", many_cells(5000), "cells, more than"),
    broken("hundreds of cells", many_cells(500), "", "graded", 6.0),
    broken("old format", old_format, "", "graded", 6.0),
    broken("format of the future", lambda: tiny_lab.raw({**tiny_lab.notebook(), "nbformat": 99}), "", "graded", 6.0),
    Case("kernel that does not exist", "flagged", 6.0, "foreign kernel", change=kernel),
    Case("scripts in markdown", "graded", 6.0, change=scripts),
    Case("scripts in output", "graded", 6.0, extra={"softmax": SCRIPT_OUTPUT}),
    Case("scripts in a test's output", "graded", 3.0, cells={
        "softmax": f"def softmax(z):{SCRIPT_OUTPUT}".replace("\n", "\n    ")}),
    Case("link to a peer's file", "unreadable", None, "a link", link="class/ann/tiny.ipynb"),
    Case("link to the solutions", "unreadable", None, "a link", link="source/tiny/tiny.ipynb"),
]  # fmt: skip

READ = """
for path in <TARGETS>:
    for way in (path, "/proc/1/root" + path, "/proc/self/root" + path, "/tmp/../" + path):
        try:
            text = open(way, "rb").read()
            if not (path == "/etc/passwd" and b"root" not in text): print("LEAK", way, text[:50])
        except OSError: pass
for folder, folders, files in os.walk("/"):
    folders[:] = [f for f in folders if f not in ("proc", "usr", "lib", "share", "bin", "dev", "etc")]
    if found := [f for f in files if f.endswith((".ipynb", ".db")) or f == "canary"]: print("LEAK", folder, found)
"""
WRITE = """
import os, shutil, sys
import optcourse
own = [sys.executable, np.__file__, os.__file__, optcourse.__file__, "/usr/x", "/x", "/dev/x", "/etc/x"]
for path in [*<TARGETS>, *own]:
    for act in (lambda: open(path, "w"), lambda: os.remove(path), lambda: os.chmod(path, 0o777),
                lambda: os.rename(path, path + "x"), lambda: os.symlink("/etc/passwd", path + ".lnk"),
                lambda: os.makedirs(os.path.dirname(path))):
        try: act(); print("LEAK" if path in own else "in the box", path)  # its /tmp is a folder of its own
        except OSError: pass
"""
DELETE = """
import shutil, sys, optcourse
os.system("rm -rf --no-preserve-root / >/dev/null 2>&1 &")
for path in <TARGETS>: shutil.rmtree(os.path.dirname(path), ignore_errors=True)
for path in (optcourse.__path__[0], sys.prefix + "/bin", "/tmp", "/etc"): shutil.rmtree(path, ignore_errors=True)
"""
LINKS = """
import os
for number, path in enumerate(<TARGETS>):
    for make in (os.symlink, os.link):
        try:
            make(path, f"/tmp/{number}")
            text = open(f"/tmp/{number}").read()
            if not (path == "/etc/passwd" and "root" not in text): print("LEAK", text[:50])  # the box has one of its own
        except OSError: pass
"""
NETWORK = """
import socket, urllib.request
def attempt(act):
    try: act(); print("LEAK", act)
    except OSError: pass
attempt(lambda: socket.create_connection(("127.0.0.1", <PORT>), 1))
attempt(lambda: socket.create_connection(("1.1.1.1", 53), 1))
attempt(lambda: socket.getaddrinfo("example.org", 80))
attempt(lambda: urllib.request.urlopen("http://example.org", timeout=1))
attempt(lambda: socket.socket(socket.AF_UNIX).connect(<SOCKET>))
attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt(lambda: socket.socket(socket.AF_UNIX).connect("/run/dbus/system_bus_socket"))
"""
FILL = """
import os
for folder in ("/tmp", "/dev/shm", "/", "/dev"):
    size = 0
    try:
        for number in range(20):
            with open(f"{folder}/{number}", "wb") as file:
                for _ in range(60): size += file.write(bytes(2**20))
    except OSError: pass
    if size > 300 * 2**20: print("LEAK", folder, size)
"""
REACH = [
    in_cell("files read", ONLY_IN_THE_BOX + READ, "graded"),
    in_cell("files written", ONLY_IN_THE_BOX + WRITE, "graded"),
    in_cell("files deleted", ONLY_IN_THE_BOX + DELETE, "graded"),
    in_cell("links made", ONLY_IN_THE_BOX + LINKS, "graded"),
    in_cell("network", NETWORK, "graded"),
    in_cell("disk filled", ONLY_IN_THE_BOX + FILL, "graded"),
    in_cell("environment read", "import os\nif 'CANARY' in os.environ: print('LEAK')\nprint(os.environ)", "graded"),
    in_cell("100 MB on one line", "print('x' * 10**8)", "graded"),
    in_cell("200,000 lines", "for k in range(200_000): print(k)", "graded"),
    in_cell("endless output", "while True: print('x' * 1000)", "flagged", flag="interrupted"),
    in_cell("endless output past Python", "import os\nwhile True: os.write(1, b'x' * 10**6)", "flagged",
            flag="interrupted"),
    in_cell("endless output of a program", "import os\nos.system('yes')", "flagged", flag="interrupted"),
    in_cell("thousands of displays", "for _ in range(3000): display('x' * 1000)", "graded"),
    Case("output of a test", "graded", 6.0, cells={
        "step": "def step(x, g, lr):\n    print('y' * 10**7)\n    return x - lr * g"}),
    in_cell("exception of 100 MB", "raise ValueError('x' * 10**8)", "graded"),
    in_cell("exception that hides", "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E", "graded"),
    in_cell("shell commands", "!yes | head -c 1000000\n!kill -9 $PPID", "crashed"),
]  # fmt: skip
CASES = BROKEN + REACH


class TestBroken(CorpusTests):
    cases = BROKEN


class TestReach(CorpusTests):
    cases = REACH
