"""The book of the course, with lecture 04 run, and a headless Chromium to read it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
#: Seconds to wait for what must happen, on a busy machine too.
PATIENCE = 240
COMMAND = [sys.executable, "-c", "from optcourse.course.cli import main; main()"]


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """The folder of the pages: lecture 04 with its figures, the others not run yet; or ``$OPTCOURSE_BOOK``."""
    if made := os.environ.get("OPTCOURSE_BOOK"):
        return Path(made).resolve()
    output = tmp_path_factory.mktemp("book")
    command = [*COMMAND, "run", "04", "--device", "cpu", "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return output


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A window that keeps what its pages log."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("Chromium or chromedriver is missing (Debian, Ubuntu: apt install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()
