"""The block that the lectures run behind really blocks, in a kernel as in any Python process."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

OFFLINE = Path(__file__).parent / "offline"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(OFFLINE)}


def python(code):
    return subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)",
        "import socket; socket.socket().connect(('192.0.2.1', 80))",
        "import socket; socket.socket().connect_ex(('192.0.2.1', 80))",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import urllib.request; urllib.request.urlopen('http://example.org', timeout=5)",
    ],
)
def test_outside_addresses_are_refused(code):
    result = python(code)
    assert result.returncode == 1 and "the network is blocked in this test" in result.stderr


def test_the_machine_itself_stays_reachable():
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0));"
        "socket.create_connection(('localhost', s.getsockname()[1]), timeout=5); print('connected')"
    )
    assert python(code).stdout == "connected\n"


def test_a_lecture_that_downloads_fails_and_one_that_does_not_passes(tmp_path):
    """The lectures' own conftest, on two notebooks of one cell."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "offline").symlink_to(OFFLINE)
    lectures = tmp_path / "lectures"
    lectures.mkdir()
    (lectures / "conftest.py").write_text((Path(__file__).parents[1] / "lectures" / "conftest.py").read_text())
    for name, source in {
        "downloads": "import urllib.request\nurllib.request.urlopen('http://example.org', timeout=5)",
        "computes": "1 + 1",
    }.items():
        cells = [nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), lectures / f"{name}.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "-q",
        "-p",
        "no:cacheprovider",
        ".",
    ]
    result = subprocess.run(command, cwd=lectures, capture_output=True, text=True)
    assert "1 failed, 1 passed" in result.stdout, result.stdout
    assert "the network is blocked in this test" in result.stdout
