"""Every guarantee scales as its unit says: f -> c f and x -> s x change it by the powers of c and s that it declares.

A wrong exponent of L, R, sigma2 or the step size breaks this, whatever the constants are.
"""

import numpy as np
import pytest
from generic import at, guarantees, in_other_units, point, powers

GUARANTEES = guarantees()
pytestmark = pytest.mark.topic("02.4", "02.5")


def test_units_are_powers_of_loss_and_length():
    assert powers("loss^2/length^3") == (2, -3) and powers("1") == (0, 0) and powers("1/loss") == (-1, 0)
    assert powers("loss^0.5") == (0.5, 0) and in_other_units(3.0, "length^2/loss", 2.0, 10.0) == 150.0


@pytest.mark.parametrize("name", GUARANTEES)
def test_a_guarantee_scales_as_its_unit_says(name):
    function = GUARANTEES[name]
    assert hasattr(function, "units"), f"{name} returns a Bound and declares no unit: optcourse.theory.bound.in_units"
    of_value, of_step = function.units
    plain = at(function)
    assert all(np.all(np.asarray(term) != 0) for term in plain.terms.values()), f"a term of {name} vanishes"
    for loss, length in ((3.7, 1.0), (1.0, 0.6), (0.23, 4.1)):
        scaled = {arg: in_other_units(value, unit, loss, length) for arg, (unit, value) in point(function).items()}
        found = function(**scaled)
        for part, before in {"value": plain.value, **plain.terms}.items():
            after = found.value if part == "value" else found.terms[part]
            expected = in_other_units(before, of_value, loss, length)
            assert after == pytest.approx(expected, rel=1e-9), f"{part} of {name} is not in {of_value}"
        if plain.stepsize is not None and not np.isnan(plain.stepsize).any():
            expected = in_other_units(plain.stepsize, of_step, loss, length)
            np.testing.assert_allclose(found.stepsize, expected, rtol=1e-9, err_msg=f"stepsize of {name}")
