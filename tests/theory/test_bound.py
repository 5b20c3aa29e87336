"""What every calculator of bounds returns: terms of one shape, and conditions that are conditions."""

import numpy as np
import pytest

from optcourse.theory.bound import Bound

pytestmark = pytest.mark.topic("02.4", "11.2")


def test_the_terms_of_a_sweep_have_the_shape_of_their_sum():
    swept = Bound.where(True, "", {"a": 1.0, "b": np.array([1.0, 2.0])})
    assert {name: np.shape(term) for name, term in swept.terms.items()} == {"a": (2,), "b": (2,)}
    half = Bound.where([[True], [False]], "more", {"a": 1.0, "b": np.array([1.0, 2.0])})
    np.testing.assert_array_equal(half.value, [[2.0, 3.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(half.terms["a"], [[1.0, 1.0], [np.nan, np.nan]])
    assert isinstance(Bound.where(True, "", {"a": np.float64(1.0)}).terms["a"], float)


@pytest.mark.parametrize("condition", ["no", np.nan, 1, [1.0, 0.0], None])
def test_a_condition_is_boolean(condition):
    with pytest.raises(TypeError, match="^condition must be boolean, got"):
        Bound.where(condition, "", {"a": 1.0})
