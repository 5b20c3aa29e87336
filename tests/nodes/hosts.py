"""Several hosts on one machine: network namespaces, each with a wire of its own to one switch.

A wire is a veth pair and the switch a bridge, so no two hosts share a wire, and a host may send and receive at the same
time. ``rate`` limits every wire in both directions by ``tc ... tbf``. Needs root and iproute2.
"""

import contextlib
import os
import shutil
import subprocess

#: Bytes of a packet on an Ethernet wire, and what a limited wire lets pass at once after a pause: two packets. With one
#: alone every timer that is late would lose what could not be saved up meanwhile.
PACKET, BURST = 1514, 2 * 1514
#: Bytes that may queue before a limited wire. More than any message of the tests, so that none is lost.
QUEUE = 16_000_000
#: TCP of the hosts: the oldest congestion control, which every kernel allows here, with a window that is open from the
#: first packet on. What is measured is the wire, and not how TCP gets to know it.
TCP = ("net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_slow_start_after_idle=0")
ROUTE = ("initcwnd", 10_000, "initrwnd", 10_000, "rto_min", "5s")


def _run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, words))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def inside(name, *command):
    """The command line that runs ``command`` on the host ``name``."""
    return ["ip", "netns", "exec", name, *map(str, command)]


@contextlib.contextmanager
def hosts(n, rate=None):
    """{name of a host: its address}, with ``rate`` in bits per second; gone at the end. Raises ``OSError``."""
    switch, *names = (f"oc{os.getpid()}{kind}" for kind in ("s", *(f"h{i}" for i in range(n))))
    try:
        for name in (switch, *names):
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        _run("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "switch", "up")
        addresses = {}
        for i, name in enumerate(names):
            port, addresses[name] = f"port{i}", f"10.77.0.{i + 1}"
            _run("ip", "link", "add", "wire", "netns", name, "type", "veth", "peer", "name", port, "netns", switch)
            _run("ip", "-n", switch, "link", "set", port, "master", "switch", "up")
            _run("ip", "-n", name, "address", "add", f"{addresses[name]}/24", "dev", "wire")
            _run("ip", "-n", name, "link", "set", "wire", "up")
            for place, device in ((name, "wire"), (switch, port)) if rate else ():
                limit = ("rate", f"{rate}bit", "burst", BURST, "limit", QUEUE)
                _run("tc", "-n", place, "qdisc", "add", "dev", device, "root", "tbf", *limit)
            _run(*inside(name, "sysctl", "-q", "-w", *TCP))
            _run("ip", "-n", name, "route", "replace", "10.77.0.0/24", "dev", "wire", *ROUTE)
        yield addresses
    finally:
        for name in (switch, *names):
            with contextlib.suppress(OSError):
                _run("ip", "netns", "delete", name)


def why_not(rate=None):
    """Why there can be no hosts here, None where they can."""
    missing = [name for name in ("ip", "sysctl", *(["tc"] if rate else [])) if shutil.which(name) is None]
    if missing:
        return f"no {' and no '.join(missing)} here"
    try:
        with hosts(1, rate):
            return None
    except OSError as error:
        return str(error)
