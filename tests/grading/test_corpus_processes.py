"""Submissions that do not end, take all they can, or attack the processes around them."""

import dataclasses

from corpus import LEFT_OVER, LIMITS, ONLY_IN_THE_BOX, Case, CorpusTests, cheat, in_cell, softmax

SWALLOW = "import time\nwhile True:\n    try:\n        while True: time.sleep(0.1)\n    except BaseException: pass\n"
FORGE_KERNEL = """
import gc
import optcourse.grading.box.inside as inside
inside._Inside.answer = lambda self, link, **about: (link.write(about), link.read(), link.write({"values": [{"value": 1}] * 2}))
worker._Inside.threads = lambda self: False
for thing in gc.get_objects():
    if isinstance(thing, dict) and "snapshot" in thing and "source" in thing:
        thing["source"] = "pass"
"""
TAKE_OVER = """
import glob, os, re
for folder in glob.glob("/proc/[0-9]*"):
    for name in ("environ", "cmdline", "maps"):
        try:
            text = open(f"{folder}/{name}", "rb").read()
            if b"expected" in text or b"source/tiny" in text: print("LEAK", folder, name)
        except OSError: pass
    if folder == f"/proc/{os.getpid()}": continue
    try:
        memory = open(f"{folder}/mem", "r+b", buffering=0)
        for line in open(f"{folder}/maps"):
            if "[heap]" in line:
                start, end = (int(n, 16) for n in re.match(r"(\\w+)-(\\w+)", line).groups())
                memory.seek(start); memory.write(bytes(end - start))
    except OSError: pass
"""
FORKS = (
    "import os, time\nfor _ in range(150):\n    if os.fork() == 0:\n        time.sleep(50); os._exit(0)\ntime.sleep(50)"
)
DOUBLING = "import os, time\nfor _ in range(9): os.fork()\ntime.sleep(50)"
BIG_CHILDREN = """
import os, time
for _ in range(12):
    if os.fork() == 0:
        x = b"x" * 300_000_000
        time.sleep(50); os._exit(0)
time.sleep(50)
"""
LEFT = f"""
import os, subprocess
for environment in (None, {{}}):
    subprocess.Popen(["sleep", "{LEFT_OVER}"], start_new_session=True, env=environment)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvpe("sleep", ["sleep", "{LEFT_OVER}"], {{"PATH": "/usr/bin:/bin"}})
    os._exit(0)
"""
KILL_PARENT = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"

CASES = [
    in_cell("loop in a cell", "while True: pass", "flagged", flag="interrupted after"),
    softmax("loop in a function", "def softmax(z):\n    while True: pass", "timeout", flag="no end in exercise"),
    in_cell("loop that swallows interrupts", SWALLOW, "timeout", flag="no end in cell 'extra-"),
    in_cell(
        "signals ignored",
        "import signal\nfor s in (2, 14, 15): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        "timeout",
        flag="no end in cell",
    ),
    in_cell("memory bomb", "x = []\nwhile True: x.append(np.empty(10**8))", "graded"),
    softmax("memory bomb in a function", "def softmax(z):\n    x = []\n    while True: x.append(np.empty(10**8))"),
    in_cell(
        "limits raised",
        "import resource\nfor k in range(16):\n    try: resource.setrlimit(k, (-1, -1))\n    except ValueError: pass\n"
        "x = bytearray(3 * 2**30)\nprint('LEAK')",
        "graded",
    ),
    in_cell("os._exit", "import os\nos._exit(0)", "crashed", flag="the process ended in cell"),
    softmax("os._exit in a function", "import os\ndef softmax(z): os._exit(0)", "crashed"),
    in_cell("kill the parent", ONLY_IN_THE_BOX + KILL_PARENT, "crashed", flag="the process ended in cell"),
    softmax(
        "kill the parent in a function",
        f"{ONLY_IN_THE_BOX}\ndef softmax(z):\n    os.kill(os.getppid(), 9)",
        "crashed",
    ),
    in_cell("kill everything", ONLY_IN_THE_BOX + "os.kill(-1, 9)", "crashed"),
    in_cell("stop the parent", ONLY_IN_THE_BOX + "os.kill(os.getppid(), 19)", "timeout", flag="no end in cell"),
    in_cell("sys.exit", "import sys\nsys.exit(1)", "graded"),
    in_cell("input", "input('name? ')", "graded"),
    in_cell(
        "left-over threads",
        "import threading, time\ndef chatter():\n    while True:\n        print('still here'); time.sleep(0.01)\n"
        "for _ in range(20): threading.Thread(target=chatter).start()",
        "graded",
    ),
    in_cell("left-over processes", ONLY_IN_THE_BOX + LEFT, "graded"),
    in_cell("exit handlers", "import atexit, time\natexit.register(time.sleep, 100)\nexit()", "graded"),
    in_cell("all files closed", "import os\nos.closerange(0, 256)", "crashed"),
    in_cell(
        "deep recursion",
        "import sys\nsys.setrecursionlimit(10**9)\nf = lambda: (lambda: f())()\nclass A:\n"
        "    def __repr__(self): return repr([self])\nrepr(A())",
        "crashed",
    ),
    cheat("worker replaced", FORGE_KERNEL, "crashed", 0.0),
    cheat("memory of the other processes", ONLY_IN_THE_BOX + TAKE_OVER),
    cheat(
        "patched os",
        "import os, socket\nos.write = lambda fd, data: len(data)\nos.read = lambda fd, n: b''\nos.fork = lambda: 0\n"
        "os.kill = os._exit = lambda *_: None\nsocket.socket.send = None",
        "crashed",
        None,
    ),
    in_cell("GUI back end", "import matplotlib.pyplot as p\np.switch_backend('tkagg')\np.figure(); p.show()", "graded"),
    in_cell("working directory", "import os\nos.mkdir('x'); os.chdir('x'); os.rmdir('../x')", "graded"),
    Case("hidden inputs printed", "graded", 6.0, cells={
        "step": "seen = []\ndef step(x, g, lr):\n    print(x); print(seen); seen.append(x)\n"
        "    open('/tmp/seen', 'a').write(str(x))\n    return x - lr * g",
        "squares": "import glob\nprint([open(p).read() for p in glob.glob('/tmp/seen')])\n"
        "def squares(n): return [k * k for k in range(n)]",
    }),
]  # fmt: skip
BOMBS = [
    in_cell("many forks", ONLY_IN_THE_BOX + FORKS, "crashed", flag="too many processes in cell 'extra-"),
    in_cell("fork bomb", ONLY_IN_THE_BOX + DOUBLING, "crashed", flag="too many processes in cell 'extra-"),
    in_cell("children with memory", ONLY_IN_THE_BOX + BIG_CHILDREN, "crashed", flag="too much memory in cell 'extra-"),
]


class TestBombs(CorpusTests):
    cases = BOMBS
    limits = dataclasses.replace(LIMITS, memory=2**30)


class TestProcesses(CorpusTests):
    cases = CASES
