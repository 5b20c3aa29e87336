import pytest
import torch
from optim_cases import CASES


@pytest.fixture(autouse=True)
def small_tensors(one_thread):
    """Every test here."""


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


@pytest.fixture
def exact_counters():
    """torch keeps NAdam's running product in the default dtype: let it be double for the double comparison."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
