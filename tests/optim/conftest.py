import pytest
from optim_cases import CASES


@pytest.fixture(autouse=True)
def small_tensors(one_thread):
    """Every test here."""


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param
