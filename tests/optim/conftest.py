import pytest
import torch
from optim_cases import CASES


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param
