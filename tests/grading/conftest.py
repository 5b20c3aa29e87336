"""The class of each corpus, graded once."""

import pytest
from corpus import Graded, grade_class

from optcourse.grading import sandbox


@pytest.fixture(scope="class")
def graded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graded:
    """The ``cases`` of a test class, handed in together with honest work, in one batch."""
    if sandbox.bubblewrap() is None:
        pytest.skip("bubblewrap does not work here; tests/grading/test_fallback.py tests the limits without it")
    return grade_class(tmp_path_factory.mktemp("class"), request.cls.cases, request.cls.limits)
