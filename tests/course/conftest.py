import pytest
from lectures_for_tests import Folder


@pytest.fixture
def folder(tmp_path) -> Folder:
    """An empty folder of lectures, and a place for their pages."""
    return Folder(tmp_path)
