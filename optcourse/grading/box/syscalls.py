"""What the kernel refuses to a box: a filter of system calls for bubblewrap, and a key ring of its own.

Most of what a box must not do needs a privilege that it has not. This list is the rest: what anybody may do, no honest
notebook does, and the limits cannot count or the namespaces do not part (keys, memory without a process, the address
space of a neighbour, sockets to the machine around a virtual machine, cores of other submissions).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

#: The kernel's word for each processor that is known, by ``platform.machine()``.
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: The number of each call on them.
REFUSED = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "fanotify_init": (300, 262),
    "sched_setaffinity": (203, 122),
    "unshare": (272, 97),
    "setns": (308, 268),
}
#: "There is no such call": libraries that ask have another way.
UNKNOWN = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "clone3": (435, 435),
    "inotify_init": (253, 26),
    "inotify_init1": (294, 26),
}
CLONE, SOCKET, SETSOCKOPT = (56, 220), (41, 198), (54, 208)
#: How much a socket may hold: it seems to be set, and stays what the kernel gives to everybody.
BUFFERS = (7, 8, 32, 33)
NEW_USER = 0x10000000
#: Unix, IPv4, IPv6 and netlink; vsock, among others, knows no network namespace.
FAMILIES = (1, 2, 10, 16)

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000


_MACHINE = list(ARCHITECTURES).index(platform.machine()) if platform.machine() in ARCHITECTURES else None


def program() -> bytes:
    """The filter in the kernel's language (classic BPF); empty on a processor whose calls are not listed."""
    if _MACHINE is None:
        return b""

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("<HBBI", code, yes, no, value)

    def fail(number: int) -> bytes:
        return step(RETURN, FAIL | number)

    allow = step(RETURN, ALLOW)
    # The number of the call lies at 0, the kind of processor at 4, the lower half of the first argument at 16.
    steps = [step(LOAD, 4), step(EQUAL, ARCHITECTURES[platform.machine()], 1), fail(errno.ENOSYS), step(LOAD, 0)]
    steps += [step(AT_LEAST, 0x40000000, 0, 1), fail(errno.ENOSYS)]  # the other numbers of x86
    for calls, number in ((REFUSED, errno.EPERM), (UNKNOWN, errno.ENOSYS)):
        for call in calls.values():
            steps += [step(EQUAL, call[_MACHINE], 0, 1), fail(number)]
    steps += [
        step(EQUAL, CLONE[_MACHINE], 0, 4),
        step(LOAD, 16),
        step(ANY_BIT, NEW_USER, 0, 1),
        fail(errno.EPERM),
        allow,
    ]
    # The third argument lies at 32. A socket's level, the second, is 1, whatever is set there otherwise.
    steps += [step(EQUAL, SETSOCKOPT[_MACHINE], 0, 6 + len(BUFFERS)), step(LOAD, 24), step(EQUAL, 1, 1), allow]
    steps += [step(LOAD, 32)]
    steps += [step(EQUAL, option, len(BUFFERS) - place) for place, option in enumerate(BUFFERS)]
    steps += [allow, fail(0)]
    steps += [step(EQUAL, SOCKET[_MACHINE], 0, 2 + len(FAMILIES)), step(LOAD, 16)]
    steps += [step(EQUAL, family, len(FAMILIES) - place) for place, family in enumerate(FAMILIES)]
    return b"".join((*steps, fail(errno.EAFNOSUPPORT), allow))


_LIBRARY = ctypes.CDLL(None)
_KEYCTL = None if _MACHINE is None else REFUSED["keyctl"][_MACHINE]


def leave_keyring() -> None:
    """Give this process a session key ring of its own, empty; the one of the login stays with the others."""
    if _KEYCTL is not None:
        _LIBRARY.syscall(_KEYCTL, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING, without a name
