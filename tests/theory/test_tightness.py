"""Every bound holds on its verification instance and fails there once it is divided by its slack.

The instances are those of the handbook (``optcourse.course.book.guarantees``), which draws them: topic, guarantee, what
the instance attains as one argument is swept, and the slack that the docstring states.
Edit a constant in ``optcourse.theory`` and a value here names the topic whose claim broke.
"""

import re

import pytest

from optcourse.course.book.guarantees import docstring, table

ROUNDING = 1e-9

INSTANCES = table.instances()


@pytest.mark.parametrize(
    ("instance", "value"),
    [
        pytest.param(instance, value, id=f"{instance.topic}-{instance.name}-{i}-{value:.4g}")
        for i, instance in enumerate(INSTANCES)
        for value in instance.values
    ],
)
def test_bound_holds_and_is_as_tight_as_stated(instance, value):
    topic, name, (bound, attained) = instance.topic, instance.name, instance.point(value)
    assert attained <= bound * (1 + ROUNDING), f"topic {topic}: {name} is violated: {attained} > {bound}"
    slack = instance.claims.get(value, float("inf"))
    assert attained > bound / slack * (1 - ROUNDING), (
        f"topic {topic}: {name} is looser than stated: {attained} attained, {bound} / {slack} claimed"
    )


@pytest.mark.parametrize("instance", INSTANCES, ids=lambda instance: f"{instance.topic}-{instance.name}")
def test_a_slack_is_stated_of_values_that_are_swept(instance):
    assert instance.claims
    assert set(instance.claims) <= set(instance.values)
    assert list(instance.values) == sorted(set(instance.values))


def test_every_guarantee_has_an_instance():
    """A calculator that returns a Bound cannot be added without an instance that tests its constants."""
    listed = {instance.name for instance in INSTANCES}
    for name in table.guarantees():
        assert name.partition(".")[2] in listed, f"{name} has no Instance in INSTANCES"


#: A number, but not one that an argument equals, or part of a formula.
NUMBER = re.compile(r"(?<![=<>≤≥] )(?<!of )(?<![\w.^(*/-])\d+(?:\.\d+)?(?![\w/^%]|\.\d)")


@pytest.mark.parametrize("place", table.guarantees())
def test_the_slack_of_a_docstring_is_that_of_its_instances(place):
    """What the first sentence says is tested, parentheses apart; and of what is tested, no factor goes unsaid."""
    function = table.guarantees()[place]
    slack = re.sub(r"</?su[bp]>", "^", docstring.parse(function).parts["Slack"])
    sentence = re.sub(r"\([^()]*\)", "", re.split(r"\.(?:\s|$)", slack)[0])
    claims = {s for i in INSTANCES if i.guarantee is function for s in i.claims.values()}
    for said in map(float, NUMBER.findall(sentence)):
        assert any(abs(claim - said) <= 0.0101 for claim in claims), f"{place} states a slack of {said}: none is tested"
    everything = [1.0, *map(float, NUMBER.findall(slack))]
    for claim in claims:
        assert any(abs(claim - said) <= 0.0101 for said in everything), f"{place}: {claim} is tested, but not stated"
