"""A failing test of a theorem says which topic of the course has stopped holding."""

import pytest
from hypothesis.errors import HypothesisException


def pytest_configure(config):
    config.addinivalue_line("markers", "topic(*ids): the syllabus topics whose claims the test guards")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    topics = [topic for mark in item.iter_markers("topic") for topic in mark.args]
    failed = report.failed and not isinstance(
        call.excinfo.value, HypothesisException
    )  # those say nothing about a claim
    if failed and topics:
        report.sections.append(("topic", f"topic {', '.join(topics)}: a claim of optcourse.theory stopped holding"))
    return report
