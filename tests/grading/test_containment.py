"""What the box shows, what it holds and what it says; what the grader does where a box fails or the machine is small."""

import contextlib
import errno
import json
import math
import os
import resource
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import tiny_lab

from optcourse.grading import sandbox
from optcourse.grading.box import groups, limits, syscalls, talk, usage
from optcourse.grading.box.limits import GB, Limits
from optcourse.grading.grade import DROPPED, MAX_KEPT, grade

needs_box = pytest.mark.skipif(sandbox.bubblewrap() is None, reason="bubblewrap does not work here")
CANARY = "canary-4711"
INSIDE = f"""
import getpass, glob, json, os, pwd, socket, sys
def text(path):
    try: return os.readlink(path) if os.path.islink(path) else open(path, "rb").read().decode(errors="replace")
    except OSError as error: return error.__class__.__name__
names = ("environ", "cmdline", "mountinfo", "maps", "cwd", "fd/*")
processes = {{place: text(place) for name in names for place in glob.glob("/proc/[0-9]*/" + name)}}
status = dict(line.split(":", 1) for line in text("/proc/self/status").splitlines())
def connects():
    with socket.socket(socket.AF_UNIX) as s:
        try: s.connect("\\0{CANARY}")
        except OSError: return False
    return True
print(json.dumps(dict(
    processes=processes, environ=dict(os.environ), who=[getpass.getuser(), pwd.getpwuid(os.getuid()).pw_name],
    host=socket.gethostname(), root=sorted(os.listdir("/")), etc=sorted(os.listdir("/etc")), keys=text("/proc/keys"),
    spaces={{name: os.readlink("/proc/self/ns/" + name) for name in ("ipc", "mnt", "net", "pid", "user", "uts")}},
    status={{name: status[name].strip() for name in ("CapEff", "CapBnd", "CapPrm", "NoNewPrivs", "Seccomp")}},
    connects=connects(), cores=sorted(os.sched_getaffinity(0)), sys=os.path.exists("/sys"),
)))
"""


def job(*sources: str, limit: float = 100) -> dict:
    cells = [{"id": f"c{i}", "source": source, "snapshot": False} for i, source in enumerate(sources)]
    return {"cells": cells, "limit": limit, "output": 10**6}


def heard(box: sandbox.Session, kind: str) -> dict:
    while kind not in (message := box.receive()):
        assert "done" not in message and "died" not in message, message
    return message


@pytest.fixture(scope="module")
def inside(tmp_path_factory):
    """What a notebook sees whose grader has secrets: variables, a folder, open files, a socket; bound to one core."""
    secret = tmp_path_factory.mktemp(CANARY) / "key"
    secret.write_text(CANARY)
    core = min(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET", CANARY)
        patch.chdir(secret.parent)
        fd = os.open(secret, os.O_RDONLY)
        os.set_inheritable(fd, True)
        stack.callback(os.close, fd)
        import socket

        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"\0{CANARY}")
        listener.listen()
        box = stack.enter_context(sandbox.session(Limits(cores=frozenset({core})), math.inf))
        box.send(job(INSIDE))
        cell = heard(box, "cell")
        return {**json.loads(cell["outputs"][0]["text"]), "core": core}


@needs_box
def test_no_process_shows_anything_of_the_grader(inside):
    assert inside["processes"]["/proc/1/environ"] == ""
    assert "--ro-bind" not in inside["processes"]["/proc/1/cmdline"]
    assert [place for place, text in inside["processes"].items() if CANARY in text] == []
    assert any("/fd/" in place for place in inside["processes"])
    assert set(inside["environ"]) - set(sandbox.environment("/tmp")) <= {
        "PWD", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM", "PAGER", "GIT_PAGER", "JPY_PARENT_PID", "LC_CTYPE",
        "PYDEVD_USE_FRAME_EVAL", "JPY_SESSION_NAME", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK", "OLDPWD",
    }  # fmt: skip


@needs_box
def test_the_box_has_names_and_an_empty_machine_of_its_own(inside):
    assert inside["who"] == ["student", "student"]
    assert inside["host"] == "lab"
    assert not inside["sys"] and "home" not in inside["root"] and "shadow" not in inside["etc"]
    for name, space in inside["spaces"].items():
        assert space != os.readlink(f"/proc/self/ns/{name}"), name
    assert not inside["connects"]
    assert inside["keys"] in ("", "PermissionError")


@needs_box
def test_no_privilege_is_left(inside):
    status = inside["status"]
    assert {int(status[name], 16) for name in ("CapEff", "CapBnd", "CapPrm")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == ("2" if sandbox.weakness() is None else status["Seccomp"])


@needs_box
def test_it_stays_on_its_cores(inside):
    assert inside["cores"] == [inside["core"]]


def test_jobs_share_no_core_while_there_are_enough(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5, 9}, raising=False)
    parts = limits.portions(2)
    assert frozenset.union(*parts) == {0, 1, 4, 5, 9} and not parts[0] & parts[1]
    assert limits.portions(1) == [frozenset({0, 1, 4, 5, 9})]
    crowd = limits.portions(7)
    assert all(len(part) == 1 for part in crowd) and frozenset.union(*crowd) == {0, 1, 4, 5, 9}
    monkeypatch.delattr(os, "sched_getaffinity")
    assert limits.portions(2) == [frozenset(), frozenset()]


@pytest.mark.skipif(not syscalls.program(), reason="no filter of system calls for this processor")
def test_the_key_ring_of_the_login_stays_with_the_grader():
    """A process in a new session ring does not find what its parent put into its own."""
    add, control = syscalls.REFUSED["add_key"][syscalls._MACHINE or 0], syscalls._KEYCTL
    code = f"""
import ctypes, os
from optcourse.grading.box.syscalls import leave_keyring
call = ctypes.CDLL(None, use_errno=True).syscall
leave_keyring()
made = call({add}, b"user", b"{CANARY}", b"seen", 4, -3)
find = lambda: call({control}, 10, -3, b"user", b"{CANARY}", 0)
if made < 0 or find() != made: print("none"); raise SystemExit
if os.fork() == 0:
    leave_keyring()
    print("found" if find() >= 0 else "hidden", flush=True); os._exit(0)
os.wait()
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    if said == "none":
        pytest.skip("this kernel gives no keys to this process")
    assert said == "hidden"


# What is counted ---------------------------------------------------------------------------------------------------

HOLD = """
import mmap, os, sys
size = 64 * 2**20
if sys.argv[1] == "memfd":
    fd = os.memfd_create("x"); os.ftruncate(fd, size); m = mmap.mmap(fd, size)
else:
    m = mmap.mmap(-1, size, flags=mmap.MAP_SHARED if sys.argv[1] == "shared" else mmap.MAP_PRIVATE)
m.write(bytes(size)); os.fork(); print("held", flush=True); input()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are counted through /proc")
@pytest.mark.parametrize("kind", ["private", "shared", "memfd"])
def test_memory_of_all_processes_is_counted_once(kind):
    shell = subprocess.Popen(
        ["sh", "-c", f'"{sys.executable}" -c "$0" {kind}; :', HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        account = usage.Account(shell.pid)
        assert account.excess(Limits(memory=64 * 2**20)) == "too much memory"
        assert account.excess(Limits(memory=120 * 2**20)) is None  # two processes that share it
        for process in usage.family(shell.pid):
            os.kill(process.pid, 9)


@needs_box
def test_processor_time_counts_in_process_groups_of_their_own_too():
    spin = "import os\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n        while True: pass\n"
    with sandbox.session(Limits(total=3), math.inf) as box:
        box.send(job(spin + "import time\ntime.sleep(1000)", limit=1000))
        with pytest.raises(sandbox.Gone, match="too much processor time"):
            while True:
                box.receive()
        assert box.cpu_seconds() >= 3


@needs_box
@pytest.mark.parametrize(
    ("source", "limits", "reason"),
    [
        ("import mmap, time\nheld = mmap.mmap(-1, 2**30)\ntime.sleep(1000)", Limits(memory=2**30), "too much memory"),
        ("import time\ntime.sleep(1000)", Limits(total=8), "timeout"),
    ],
)
def test_a_grader_that_comes_late_knows_which_cell_ended_the_box(source, limits, reason):
    """On a crowded machine it may read "start" of a cell seconds after that cell took all there is."""
    with sandbox.session(limits, time.monotonic() + limits.total) as box:
        box.send(job("pass", "pass", source, limit=1000))
        assert box.receive() == {"start": "c0"}
        time.sleep(10)
        started = []
        with pytest.raises(sandbox.Gone, match=reason):
            while True:
                started += [box.receive().get("start")]
    assert [name for name in started if name] == ["c1", "c2"]


def test_what_a_notebook_shows_is_bounded_as_a_whole(tmp_path):
    many = (
        "from IPython.display import display\nfor _ in range(12):\n    display({'image/png': 'A' * 390_000}, raw=True)"
    )
    made = tiny_lab.notebook({"imports": "print('early')", "softmax": many, "test-softmax": "print('late')"})
    result = grade(tiny_lab.write_lab(tmp_path), tiny_lab.raw(made), Limits())
    shown = [output for outputs in result.outputs.values() for output in outputs]
    texts = [output["text"] for output in shown if output["output_type"] == "stream"]
    figures = [output["data"]["image/png"] for output in shown if output["output_type"] == "display_data"]
    assert (texts, len(figures)) == (["early\n", DROPPED], MAX_KEPT // 390_000)
    assert result.score == sum(tiny_lab.POINTS.values())


@needs_box
def test_who_waits_for_a_core_is_starved_and_who_sleeps_is_not(tmp_path):
    lab = tiny_lab.write_lab(tmp_path)
    core = frozenset({max(os.sched_getaffinity(0))})
    spin = f"import os\nos.sched_setaffinity(0, {set(core)})\nwhile True: pass"
    crowd = [subprocess.Popen([sys.executable, "-c", spin], start_new_session=True) for _ in range(9)]
    try:
        for source, starved in (("while True: pass", True), ("import time\ntime.sleep(1000)", False)):
            with sandbox.session(Limits(cores=core), math.inf) as box:
                box.send(job(source, limit=6))
                heard(box, "interrupted")
                assert box.starved() == starved
            result = grade(lab, tiny_lab.raw(tiny_lab.notebook({"softmax": source})), Limits(cell=6, cores=core))
            assert (result.starved, result.status) == (starved, "flagged")
    finally:
        for process in crowd:
            process.kill()
            process.wait()


# What it says ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"[" + b"[]," * 5_000_000 + b"0]",
        b'{"a": [' + b"{}," * 3_000_000 + b"0]}",
        b'{"a": "' + b"x" * 100 + b'", "b": [' + b"0," * 5_000_000 + b"0]}",
        b'{"\\"": [' + b'"",' * 3_000_000 + b"0]}",
        b"[" * 10_000_000,
    ],
    ids=["lists", "dicts", "numbers", "texts", "depth"],
)
def test_what_would_take_more_than_its_letters_is_not_built(line):
    tracemalloc.start()
    try:
        with pytest.raises(OverflowError):
            talk.parse(line)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(line)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("line", [b"[]", b"{", "{'é'}".encode(), b"{}{}", b"", b"[" * 100_000], ids=range(6))
def test_what_is_no_message_is_refused(line):
    with pytest.raises((ValueError, RecursionError)):
        talk.parse(line)


def test_a_long_text_is_a_message():
    text = ',"[{\\' * 500_000
    assert talk.parse(json.dumps({"cell": "a", "text": text}).encode()) == {"cell": "a", "text": text}


FLOOD = '''
import math, resource
from optcourse.grading import sandbox
sandbox.WORKER = """import os
os.write(1, bytes('{"start": "a"}', 'ascii') + bytes([10]))
data = memoryview(b'[' + b'[],' * 70_000_000)
while data: data = data[os.write(1, data):]
"""
with sandbox.session(sandbox.Limits(), math.inf) as box:
    box.send({"cells": [], "limit": 1000, "output": 10})
    assert box.receive() == {"start": "a"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        box.receive()
    except sandbox.Gone as gone:
        print(gone, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
'''


@needs_box
def test_a_line_of_210_mb_costs_the_grader_next_to_nothing():
    paths = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    said = subprocess.run(
        [sys.executable, "-c", FLOOD], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    reason, _, megabytes = said.stdout.strip().rpartition(" ")
    assert reason == "too much output", said.stderr
    assert int(megabytes) < 100


# Control groups ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Folders that stand for /sys/fs/cgroup and /proc, in which this process is in the group ``class``."""
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    here = root / "class"
    here.mkdir(parents=True)
    (proc / "self").mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory pids")
    (proc / "self" / "cgroup").write_text("4:memory:/x\n0::/class\n")
    (here / "cgroup.controllers").write_text("cpu memory pids")
    (here / "cgroup.subtree_control").write_text("memory pids")
    (here / "cgroup.procs").write_text(f"{os.getpid()}\n")
    monkeypatch.setattr(groups, "ROOT", root)
    monkeypatch.setattr(groups, "PROC", proc)
    groups.parent.cache_clear()
    yield here
    groups.parent.cache_clear()


def test_a_box_gets_a_group_with_its_limits(tree):
    group = groups.new(Limits(memory=GB))
    assert group is not None and group.folder is not None and group.folder.parent == tree and group.command == []
    said = {path.name: path.read_text() for path in group.folder.iterdir()}
    assert said == {
        "memory.max": str(GB), "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": str(limits.MAX_THREADS),
    }  # fmt: skip
    group.enter()
    assert (group.folder / "cgroup.procs").read_text() == "0"
    assert group.excess() is None and group.seconds() == 0
    (group.folder / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (group.folder / "memory.events").write_text("low 0\noom 1\noom_kill 3\noom_group_kill 1\n")
    assert group.seconds() == 2.5
    assert group.excess() == "too much memory"
    group.close()
    assert (group.folder / "cgroup.kill").read_text() == "1"


def test_a_group_in_which_the_grader_is_alone_is_made_ready(tree):
    (tree / "cgroup.subtree_control").write_text("")
    assert groups.parent() == tree
    assert (tree / "grader" / "cgroup.procs").read_text() == str(os.getpid())
    assert (tree / "cgroup.subtree_control").read_text() == "+memory +pids"


@pytest.mark.parametrize(
    ("file", "content"),
    [("cgroup.controllers", "cpu pids"), ("cgroup.procs", f"1\n{os.getpid()}\n"), ("../cgroup.controllers", None)],
    ids=["no memory", "not alone", "no version 2"],
)
def test_where_no_group_can_be_had_nothing_is_moved(tree, file, content, monkeypatch):
    (tree / "cgroup.subtree_control").write_text("")
    (tree / file).unlink() if content is None else (tree / file).write_text(content)
    monkeypatch.setattr(groups, "_scopes", lambda: False)
    assert groups.new(Limits()) is None
    assert not (tree / "grader").exists()


def test_a_scope_of_systemd_has_the_limits_and_no_environment(monkeypatch):
    monkeypatch.setattr(groups, "parent", lambda: None)
    monkeypatch.setattr(groups, "_scopes", lambda: True)
    group = groups.new(Limits(memory=GB))
    assert group is not None
    for word in (f"--property=MemoryMax={GB}", "--property=MemorySwapMax=0", "--scope", f"--unit={group.unit}"):
        assert word in group.command
    assert group.command[-2:] == ["env", "-i"]


@needs_box
def test_a_real_group_ends_a_box_that_grows():
    if (group := groups.new(Limits())) is None:
        pytest.skip("no control group (version 2) can be had here: not delegated, or no systemd of the user")
    group.close()
    with sandbox.session(Limits(memory=GB), math.inf) as box:
        box.send(
            job("import os\nfor _ in range(8):\n    if os.fork() == 0: x = b'x' * 2**28\nimport time; time.sleep(999)")
        )
        with pytest.raises(sandbox.Gone, match="too much memory"):
            while True:
                box.receive()


# The memory of a class ---------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """A machine with 4 GB and 8 cores."""
    monkeypatch.setattr(limits, "machine_memory", lambda: 4.0 * GB)
    monkeypatch.setattr(limits, "cores", lambda: 8)


@pytest.mark.parametrize(
    ("jobs", "memory", "expected"),
    [(None, None, (3, 1.0)), (1, None, (1, 3.0)), (6, None, (6, 0.5)), (None, 2, (2, 1.0)), (2, 4, (2, 2.0))],
)
def test_all_boxes_together_fit(machine, jobs, memory, expected):
    many, each = limits.share(jobs, memory)
    assert (many, each) == (expected[0], int(expected[1] * GB))
    assert many * each <= (memory or 4 * limits.SHARE) * GB


@pytest.mark.parametrize(
    ("jobs", "memory", "message"),
    [
        (7, None, "jobs must be at most 6 with 4.0 GB of memory, got 7"),
        (None, 8, "memory must be at most the 4.0 GB that there are, got 8"),
        (4, 1, "memory must be at least 0.5 GB for each of 4 submissions at a time, got 1, or jobs at most 2"),
    ],
)
def test_what_does_not_fit_is_refused(machine, jobs, memory, message):
    with pytest.raises(ValueError) as caught:
        limits.share(jobs, memory)
    assert str(caught.value) == message


def test_a_container_s_limit_is_the_machine_s_memory(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:       16777216 kB\nMemFree: 1 kB\n")
    assert limits.machine_memory(tmp_path) == 16 * GB
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/a/b\n3:cpu:/a\n0::/c/d\n")
    for folder, name, value in (
        ("memory/a/b", "memory.limit_in_bytes", 2**63 - 4096),
        ("memory/a", "memory.limit_in_bytes", 6 * GB),
        ("c/d", "memory.max", "max"),
        ("c", "memory.max", 5 * GB),
    ):
        (tmp_path / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/fs/cgroup" / folder / name).write_text(f"{value}\n")
    assert limits.machine_memory(tmp_path) == 5 * GB


# No box ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["bubblewrap", "pipe", "fork"])
def test_a_box_that_does_not_start_says_so_and_leaves_nothing(monkeypatch, failing):
    def full(*_, **__):
        raise OSError(errno.EMFILE, "no more")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        if failing == "pipe":
            patch.setattr(os, "pipe", full)
        elif failing == "fork":
            patch.setattr(subprocess, "Popen", full)
        else:
            patch.setattr(sandbox, "bubblewrap", lambda: "/nonexistent/bwrap")
        with pytest.raises(sandbox.NotStarted, match="the sandbox did not start"), sandbox.session(Limits(), math.inf):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


@needs_box
def test_nothing_of_a_box_outlives_a_killed_grader(tmp_path):
    mark = "31536.75"
    code = f"""
import math
from optcourse.grading import sandbox
with sandbox.session(sandbox.Limits(), math.inf) as box:
    source = "import subprocess, time; subprocess.Popen(['sleep', '{mark}'], start_new_session=True); print(1); time.sleep(999)"
    box.send({{"cells": [{{"id": "a", "source": "", "snapshot": False}}, {{"id": "b", "source": source, "snapshot": False}}], "limit": 999, "output": 10}})
    while box.receive() != {{"start": "b"}}: pass
    print("running", flush=True)
    box.receive()
"""

    def running() -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found += [str(path)] if path.read_bytes() == f"sleep\0{mark}\0".encode() else []
        return found

    def becomes(there: bool) -> bool:
        deadline = time.monotonic() + 60
        while bool(running()) != there and time.monotonic() < deadline:
            time.sleep(0.05)
        return bool(running()) == there

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as grader:
        assert grader.stdout is not None and grader.stdout.readline() == "running\n"
        assert becomes(True)
        grader.kill()
    assert becomes(False)


def test_the_limits_bound_a_process_too():
    code = "import resource as r; print([r.getrlimit(k)[0] for k in (r.RLIMIT_DATA, r.RLIMIT_FSIZE, r.RLIMIT_CORE)])"
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=lambda: Limits(memory=GB).confine(10**5),
    )
    assert json.loads(said.stdout) == [GB, limits.SCRATCH, 0]
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] != GB
