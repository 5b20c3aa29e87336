"""The thread that ticks: how a process ends whose store is slow to answer."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from waiting import HANG

from optcourse.nodes.network.heartbeat import Heartbeat

#: A process whose tick is inside the store for a second and a half more than the end of Python takes to begin, and
#: whose end takes longer than that: on a busy machine both happen without any help.
SCRIPT = """
import atexit, sys, threading, time, types
from datetime import timedelta
from optcourse.nodes.network.heartbeat import Heartbeat
from optcourse.nodes.run.launch import join
from optcourse.nodes.run.process import leave

class Late(Heartbeat):
    entered = threading.Event()

    def _beat(self, store):
        if store is self._ticking:
            self.entered.set()
            try:
                store.wait(["nobody sets this"], timedelta(seconds=2.5))
            except RuntimeError:
                pass
        super()._beat(store)

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(3)

atexit.register(print, "ended by Python")
join("gloo", 30.0)
Late.start(0, 1, 30.0)
sys.modules["slow"] = types.ModuleType("slow")  # of its own: the thread keeps what is in this one
sys.modules["slow"].end = Slow()
assert Late.entered.wait(60)
"""


@pytest.mark.parametrize("end", ["sys.exit(5)", "leave(5)", "leave(0)"], ids=["script", "failed", "succeeded"])
def test_a_store_that_answers_late_does_not_abort_the_end(end):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ours = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT + end]
    done = subprocess.run(command, env={**os.environ, **ours}, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == (0 if "0" in end else 5), done.stderr
    assert ("ended by Python" in done.stdout) == end.startswith("sys")  # one of several processes ends at once


def test_a_search_that_is_under_way_is_waited_for():
    heart = object.__new__(Heartbeat)
    threading.Thread.__init__(heart)
    search = threading.Thread(target=time.sleep, args=(0.5,), daemon=True)
    heart.timeout, heart._left, heart._searches = 30.0, threading.Event(), [search]
    search.start()
    heart.leave()
    assert heart._left.is_set() and not search.is_alive()
