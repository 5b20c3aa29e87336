"""What all tests share: one profile of hypothesis, Ctrl-C, and fixtures."""

import signal

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import HealthCheck, settings

# On a busy machine an example may take any time; that says nothing about the property.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

# A background job of a shell ignores Ctrl-C, and so would whatever it starts; tests of interruptions wait for it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def one_thread():
    """One thread of torch: small tensors do not wait for each other, and sums are rounded in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_open_figures():
    """What ran before in the same process, a doctest perhaps, may have left figures open."""
    plt.close("all")
