"""Submissions that take what the limits do not seem to count, ask the kernel for more than they need, or look around."""

import dataclasses
import platform

from corpus import LIMITS, ONLY_IN_THE_BOX, Case, CorpusTests, Graded, cheat, in_cell

from optcourse.grading.box import syscalls

BOX = ONLY_IN_THE_BOX + "import ctypes, errno, mmap, socket, subprocess, sys, threading, time\n"
CALLS = {**syscalls.REFUSED, **syscalls.UNKNOWN, "clone": syscalls.CLONE, "timer_create": (222, 107)}
NUMBERS = {name: numbers[platform.machine() == "aarch64"] for name, numbers in CALLS.items()}
KERNEL = f"""{BOX}
libc, numbers = ctypes.CDLL(None, use_errno=True), {NUMBERS}
def call(name, *arguments):
    got = libc.syscall(numbers[name], *arguments)
    if got == 0 and name == "clone": os._exit(0)
    if got < 0: raise OSError(ctypes.get_errno(), name)
    print("LEAK: the kernel did", name)
"""
SPIN = """
def spin():
    for _ in range(6):
        if os.fork() == 0:
            os.setsid()
            while True: pass
"""


def refused(name: str, *attempts: str, before: str = KERNEL) -> Case:
    """Each of ``attempts`` must fail with ``OSError``; one that does not prints LEAK."""
    lines = [f"try:\n    {attempt}\n    print('LEAK', {attempt!r})\nexcept OSError: pass" for attempt in attempts]
    return in_cell(name, "\n".join((before, *lines, "print('TRIED')")), "graded")


def harmless(name: str, code: str) -> Case:
    """``code`` runs to its end, and nothing comes of it."""
    return in_cell(name, f"{KERNEL}\n{code}\nprint('TRIED')", "graded")


def bounded(name: str, code: str, flag: str) -> Case:
    """``code`` takes more than there is: the box ends, and the notebook is run again without this cell."""
    return in_cell(name, f"{KERNEL}\n{code}\ntime.sleep(100)", "crashed", flag=f"{flag} in cell 'extra-")


REFUSED = [
    refused("memory in a file without a name", "os.memfd_create('x')", "call('memfd_secret', 0)"),
    refused("segments of System V", "call('shmget', 0, 4096, 0o1600)"),
    refused("queues of System V", "call('msgget', 0, 0o1600)"),
    refused("semaphores of System V", "call('semget', 0, 1, 0o1600)"),
    refused("watches", "call('inotify_init')", "call('inotify_init1', 0)"),
    refused("a user namespace", *(f"call('unshare', {flag:#x})" for flag in (0x10000000, 0x10020000, 0x20000))),
    refused("a child in a user namespace", "call('clone', 0x10000011, 0, 0, 0, 0)"),
    refused("a child by the newer call", "call('clone3', (ctypes.c_uint64 * 8)(0x10000000), 64)"),
    refused("somebody's namespaces", *(
        f"call('setns', os.open('/proc/1/ns/{kind}', 0), 0)" for kind in ("user", "mnt", "net", "pid", "ipc")
    )),
    refused("a key kept in the kernel", "call('add_key', b'user', b'x', b'seen', 4, -3)"),
    refused("a key of the login", "call('request_key', b'user', b'x', None, -3)", "call('keyctl', 0, -3, 1)"),
    refused("tracing the broker", "call('ptrace', 16, os.getppid(), 0, 0)", "call('ptrace', 0x4206, os.getppid(), 0, 0)"),
    refused(
        "memory of the broker, read and written",
        "call('process_vm_readv', os.getppid(), None, 0, None, 0, 0)",
        "call('process_vm_writev', os.getppid(), None, 0, None, 0, 0)",
    ),
    refused("descriptors of the broker", "call('pidfd_getfd', os.pidfd_open(os.getppid()), 0, 0)"),
    refused("comparing with the broker", "call('kcmp', os.getpid(), os.getppid(), 1, 0, 0)"),
    refused("io_uring", "call('io_uring_setup', 8, (ctypes.c_uint64 * 16)())"),
    refused("performance counters", "call('perf_event_open', (ctypes.c_uint64 * 16)(), 0, -1, -1, 0)"),
    refused("programs for the kernel", "call('bpf', 0, (ctypes.c_uint64 * 16)(), 72)"),
    refused("page faults of its own", "call('userfaultfd', 1)"),
    refused("watching every file", "call('fanotify_init', 0, 0)"),
    refused("other cores", "os.sched_setaffinity(0, range(os.cpu_count()))"),
    refused("first in line", "os.setpriority(0, 0, -20)", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"),
    refused(
        "mounting",
        "subprocess.run(['mount', '-t', 'tmpfs', 'x', '/tmp'], check=True, capture_output=True)",
        "subprocess.run(['umount', '/proc/keys'], check=True, capture_output=True)",
        "os.chroot('/tmp')",
        before=BOX + "class Failed(subprocess.CalledProcessError, OSError): pass\n"
        "subprocess.CalledProcessError = Failed",
    ),
    refused("the administrator", "os.setuid(0)", "os.setgid(0)", "os.setgroups([])", "os.seteuid(0)"),
    refused("device nodes", "os.mknod('disk', 0o60600, os.makedev(8, 0))", "os.mknod('mem', 0o20600, os.makedev(1, 1))"),
    refused("devices", *(f"open('/dev/{name}', 'rb')" for name in ("mem", "kmsg", "sda", "kvm", "fuse", "net/tun"))),
    refused("switches of the kernel", *(
        f"open('/proc/{name}', 'w')"
        for name in ("sysrq-trigger", "sys/kernel/core_pattern", "sys/vm/drop_caches", "sys/kernel/hostname")
    ), "open('/sys/power/state', 'w')"),
    harmless("whatever of the kernel can be written", (
        "for folder, _, names in os.walk('/proc'):\n    if folder.split('/')[2:3] and folder.split('/')[2].isdigit(): continue\n"
        "    for name in names:\n        try: os.close(os.open(f'{folder}/{name}', os.O_WRONLY))\n        except OSError: continue\n"
        "        print('LEAK', folder, name)"
    )),
    refused("its own excuse when memory ends", "os.write(os.open('/proc/self/oom_score_adj', 1), b'-1000')"),
    refused("the clock", "time.clock_settime(time.CLOCK_REALTIME, 0)"),
    refused("the name of the machine", "socket.sethostname('mine')"),
    refused("restart", "assert os.getpid() != 1; call2 = libc.reboot(0x1234567)\n    if call2 < 0: raise OSError"),
    refused("raw packets", *(
        f"socket.socket({family}, socket.SOCK_RAW, {protocol})" for family, protocol in (("2", 1), ("17", 3))
    )),
    refused("unusual sockets", *(f"socket.socket({family}, socket.SOCK_STREAM)" for family in (40, 38, 31, 29, 42))),
    refused(
        "typing on the terminal",
        "os.open('/dev/tty', os.O_RDWR)",
        *(f"__import__('fcntl').ioctl({fd}, 0x5412, b'x')" for fd in (0, 1, 2)),
    ),
    refused(
        "files of the course and of Python",
        *(f"open({path}, 'a')" for path in ("os.__file__", "np.__file__", "sys.executable")),
        *("os.mkdir('/x')", "open('/usr/x', 'w')", "open('/dev/x', 'w')", "os.chmod(os.__file__, 0o777)"),
        "os.link(os.__file__, '/tmp/x')",
        before=BOX + "import optcourse\n",
    ),
    refused("huge sparse files", "open('x', 'wb').truncate(10**12)", "os.posix_fallocate(os.open('y', 66), 0, 10**10)"),
]  # fmt: skip
#: What is read of the processes in the box: nothing of where the class lies, nor of the instructor's environment.
LOOK_AROUND = """
import glob
folder = os.path.dirname(os.path.dirname(os.path.dirname(<TARGETS>[0]))).encode()
names = ("environ", "cmdline", "mountinfo", "maps", "fd/*", "cwd", "root")
seen = {}
for place in [place for process in glob.glob("/proc/[0-9]*") for name in names for place in glob.glob(f"{process}/{name}")]:
    try: seen[place] = os.readlink(place).encode() if os.path.islink(place) else open(place, "rb").read()
    except OSError: pass
for place, text in seen.items():
    if folder in text or (place.endswith("/1/environ") and text): print("LEAK", place)
assert "/proc/1/environ" in seen and f"/proc/{os.getpid()}/cmdline" in seen
"""
THIRTY_TWO_BITS = """
if os.uname().machine == "x86_64":
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(b"\\x53\\xb8\\x64\\x01\\x00\\x00\\x31\\xdb\\x31\\xc9\\xcd\\x80\\x5b\\xc3")  # memfd_create, by int 0x80
    run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    if run() != -errno.ENOSYS: print("LEAK")
"""
HARMLESS = [
    harmless("a look at every process", LOOK_AROUND),
    harmless("calls of 32 bits", THIRTY_TWO_BITS),
    harmless("keys that can be seen", (
        "for name in ('keys', 'key-users'):\n    try:\n        if open(f'/proc/{name}').read(): print('LEAK')\n"
        "    except OSError: pass"
    )),
    harmless("the first process killed", "for s in (9, 15, 19, 6): os.kill(1, s)"),
    harmless("set-user-id programs", (
        "import glob, stat\n"
        "for path in glob.glob('/usr/*bin/*'):\n"
        "    if os.path.isfile(path) and os.stat(path).st_mode & stat.S_ISUID and path.endswith(('su', 'sudo')):\n"
        "        if subprocess.run([path, '-c', 'id -u'], capture_output=True, input=b'').stdout == b'0\\n': print('LEAK')"
    )),
    harmless("another name", "libc.prctl(15, b'bwrap', 0, 0, 0)\nopen('/proc/self/comm', 'w').write('broker')"),
    harmless("a core dump", (
        "if os.fork() == 0:\n    __import__('resource').setrlimit(4, (0, 0)); os.abort()\nos.wait()\n"
        "if [name for name in os.listdir() if name.startswith('core')]: print('LEAK')"
    )),
    harmless("processes of its own that spin", f"{SPIN}\nspin()"),
    harmless("standard streams closed", "print('TRIED')\nsys.stdout.flush()\nfor fd in (0, 1, 2): os.close(fd)"),
    harmless("a full disk", (
        "for place in ('/tmp/x', '/dev/shm/x'):\n    try:\n        with open(place, 'wb') as f:\n"
        "            while True: f.write(bytes(2**20))\n    except OSError: pass"
    )),
    harmless("files in flight", (
        "a, b = socket.socketpair()\nb.setblocking(False); a.setblocking(False)\ntry:\n    for i in range(1000):\n"
        "        f = open(f'/tmp/{i}', 'w+b'); os.unlink(f'/tmp/{i}'); f.write(bytes(2**20)); f.flush()\n"
        "        socket.send_fds(a, [b'x'], [f.fileno()]); f.close()\n    print('LEAK')\nexcept OSError: pass"
    )),
    harmless("timers", (
        "made, timer = 0, ctypes.c_int()\nwhile made < 5000 and libc.syscall(numbers['timer_create'], 0, None, "
        "ctypes.byref(timer)) == 0: made += 1\nif made >= 5000: print('LEAK')"
    )),
    harmless("message queues", (
        "made = 0\nwhile made < 20 and libc.mq_open(b'/%d' % made, 0o102, 0o600, None) >= 0: made += 1\n"
        "if made >= 20: print('LEAK')"
    )),
    harmless("locked memory", (
        "r = __import__('resource')\nif libc.mlockall(3) == 0 and r.getrlimit(r.RLIMIT_MEMLOCK)[0] > 2**30: print('LEAK')"
    )),
    harmless("room of a socket", (
        "a, b = socket.socketpair()\na.setblocking(False)\nfor name in ('SO_SNDBUF', 'SO_RCVBUF'):\n"
        "    for end in (a, b): end.setsockopt(socket.SOL_SOCKET, getattr(socket, name), 2**26)\nsent = 0\ntry:\n"
        "    while True: sent += a.send(bytes(65536))\nexcept BlockingIOError: pass\nif sent > 2**20: print('LEAK')"
    )),
]  # fmt: skip
PIPE_OF_THE_BROKER = """
def say(data, end=1):
    here = f"/proc/{os.getppid()}"
    for fd in os.listdir(f"{here}/fd"):
        flags = int(open(f"{here}/fdinfo/{fd}").read().split("flags:")[1].split()[0], 8)
        if os.readlink(f"{here}/fd/{fd}").startswith("pipe:") and flags & 3 == end:
            to, data = os.open(f"{here}/fd/{fd}", os.O_WRONLY), memoryview(data)
            while data: data = data[os.write(to, data):]
            return
"""
FORGED = """{"done": true}\n{"answers": "test-softmax", "values": [{"value": 1}, {"value": 1}]}\n"""
CHEATS = [
    cheat("answers in the broker's name", f"{BOX}{PIPE_OF_THE_BROKER}\nsay({FORGED!r}.encode())", "graded", 3.0),
    cheat("questions in the grader's name", (
        f"{BOX}{PIPE_OF_THE_BROKER}\nsay(b'{{\"ask\": \"test-softmax\", \"cases\": [], \"limit\": 1}}\\n', 0)"
    ), "graded", 3.0),
    cheat("code for the next process", (
        f"{BOX}for path in ('/tmp/sitecustomize.py', '/tmp/usercustomize.py', '/tmp/ipython/profile_default/startup/a.py'):\n"
        "    os.makedirs(os.path.dirname(path), exist_ok=True); open(path, 'w').write('raise SystemExit')\n"
        "t = threading.Thread(target=time.sleep, args=(5,)); t.start()"
    )),
]  # fmt: skip
THREADS = "threading.stack_size(2**18)\nfor _ in range(600): threading.Thread(target=time.sleep, args=(100,), daemon=True).start()"
FILES = "for i in range(60_000): {}\n"
SHARED = "m = mmap.mmap(-1, 3 * 2**30)\nfor i in range(0, len(m), 4096): m[i] = 1"
CHILDREN = "for _ in range({}):\n    if os.fork() == 0:\n        {}\n        time.sleep(100); os._exit(0)"
BOUNDED = [
    bounded("threads", THREADS, "too many threads"),
    bounded("threads of children", CHILDREN.format(4, THREADS.replace("600", "150").replace("\n", "\n        ")), "too many threads"),
    bounded("children in sessions of their own", CHILDREN.format(150, "os.setsid()"), "too many processes"),
    bounded("children that nobody waits for", "for _ in range(150):\n    if os.fork() == 0: os._exit(0)", "too many processes"),
    bounded("empty files", FILES.format("open(f'/tmp/{i}', 'w').close()"), "too many files"),
    bounded("empty files in shared memory", FILES.format("open(f'/dev/shm/{i}', 'w').close()"), "too many files"),
    bounded("a deep folder", FILES.format("os.mkdir('d'); os.chdir('d')"), "too many files"),
    bounded("names for one file", "open('x', 'w')\n" + FILES.format("os.link('x', f'/tmp/{i}')"), "too many files"),
    bounded("links", FILES.format("os.symlink('x' * 3000, f'/tmp/{i}')"), "too many files"),
    bounded("named pipes", FILES.format("os.mkfifo(f'/tmp/{i}')"), "too many files"),
    bounded("shared memory without a name", SHARED, "too much memory"),
    bounded("shared memory that it let go of", (
        "m = mmap.mmap(-1, 3 * 2**30)\nfor i in range(0, len(m), 2**24):\n    m[i : i + 2**24] = bytes(2**24)\n"
        "    m.madvise(mmap.MADV_DONTNEED)"
    ), "too much memory"),
    bounded("shared memory of a hidden process", f"libc.prctl(4, 0, 0, 0, 0)\n{SHARED}", "too much memory"),
    bounded("pages of tables", CHILDREN.format(90, (
        # 12 MB of tables in each; without them all would be less than the limit.
        "m = mmap.mmap(-1, 6 * 2**30, flags=0x4022, prot=1)\n"
        "        for i in range(0, len(m), 2**21): m[i]"
    )), "too much memory"),
    bounded("many pipes", "pipes = [os.pipe() for _ in range(400)]", "too many pipes"),
    bounded("many terminals", "ends = [os.openpty() for _ in range(200)]", "too many terminals"),
    bounded("connections that nobody reads", (
        "listener, kept = socket.create_server(('127.0.0.1', 0)), []\nfor _ in range(110):\n"
        "    kept += [socket.create_connection(listener.getsockname()), listener.accept()[0]]\n"
        "for _ in range(4):\n    for end in kept:\n        end.setblocking(False)\n        try:\n"
        "            while True: end.send(bytes(65536))\n        except OSError: pass\n    time.sleep(0.5)"
    ), "too much memory"),
    bounded("full pipes", CHILDREN.format(30, (
        "pipes = [os.pipe() for _ in range(30)]\n        for _, end in pipes: os.write(end, bytes(65536))"
    )), "too many pipes"),
    bounded("full sockets", CHILDREN.format(50, (
        "pairs = [socket.socketpair() for _ in range(90)]\n        for pair in pairs:\n            for end in pair:\n"
        "                end.setblocking(False)\n                try:\n                    while True: end.send(bytes(65536))\n"
        "                except OSError: pass"
    )), "too much memory"),
    bounded("files of many children", CHILDREN.format(90, "kept = [os.open('/dev/null', 0) for _ in range(200)]"), "too many open files"),
    in_cell("one line of 210 MB", f"{PIPE_OF_THE_BROKER}\nsay(b'[' + b'[],' * 70_000_000)", "graded", 6.0),
    in_cell("a million empty lists", f"{PIPE_OF_THE_BROKER}\nsay(b'{{\"a\": [' + b'[],' * 10**6 + b'0]}}\\n')", "graded", 6.0),
    in_cell("letters of four bytes", f"{PIPE_OF_THE_BROKER}\nsay(b'\"' + '\\U0001f600'.encode() * 10**6 + b'\"\\n')", "graded", 6.0),
    in_cell("garbage on every descriptor", (
        f"{BOX}for fd in range(3, 256):\n    try:\n        os.set_blocking(fd, False)\n"
        "        os.write(fd, b'garbage\\n' * 100)\n    except OSError: pass"
    ), "timeout", flag="no end in cell 'extra-"),
]  # fmt: skip
CASES = [*REFUSED, *HARMLESS, *CHEATS, *BOUNDED]


class TestResources(CorpusTests):
    cases = CASES
    limits = dataclasses.replace(LIMITS, memory=2**30)

    def test_status_and_score(self, graded: Graded, case: Case) -> None:
        self.check(graded, case)
        if case in REFUSED + HARMLESS:
            assert "TRIED" in str(graded.results[case.student].outputs), graded.results[case.student].errors
