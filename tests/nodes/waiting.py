"""How the tests wait for other processes: a busy machine may take as long as it likes, only a hang is an error."""

import time

import pytest

from optcourse.nodes.run.launch import launch

#: Seconds after which something hangs.
HANG = 600.0


def wait_for(condition, process=None):
    """Return when ``condition()`` holds; an error when the process that should bring it about has ended."""
    end = time.monotonic() + HANG
    while not condition():
        assert process is None or process.poll() is None, f"the process ended: {process.communicate()}"
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def startup():
    """Seconds that two processes of ``launch`` take to start and end at this moment."""
    begin = time.monotonic()
    launch(int, timeout=HANG)
    return time.monotonic() - begin
