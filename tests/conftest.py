"""Fixtures that several folders of tests share."""

import pytest
import torch


@pytest.fixture
def one_thread():
    """One thread of torch: small tensors do not wait for each other, and sums are rounded in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
