"""A headless Chromium of its own for the tests of pages that strangers' answers are on."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

#: Seconds to wait for what must happen, on a busy machine too.
PATIENCE = 240
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of ``condition``; it may fail before."""
    end, error = time.monotonic() + PATIENCE, None
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (OSError, WebDriverException) as caught:
            error = caught
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {PATIENCE} s ({error})")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def click_link(window: webdriver.Chrome, words: str) -> None:
    """Follow the link that says this, as soon as that is possible."""
    until(lambda: window.find_element(By.LINK_TEXT, words).click() is None, f"a click on the link {words!r}")


def enter(window: webdriver.Chrome, css: str, text: str) -> None:
    """Put ``text`` into a field and leave it."""
    until(lambda: window.find_element(By.CSS_SELECTOR, css).clear() is None, f"clearing {css}")
    window.find_element(By.CSS_SELECTOR, css).send_keys(text, Keys.TAB)


@contextlib.contextmanager
def ended(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs meanwhile, and whose end is waited for."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def chromium(folder: Path, *arguments: str) -> Iterator[webdriver.Chrome]:
    """A window with a profile of its own in ``folder``, in which nobody answers what a page asks."""
    assert CHROMIUM and DRIVER
    options = webdriver.ChromeOptions()
    options.binary_location, options.unhandled_prompt_behavior = CHROMIUM, "ignore"
    fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000")
    for argument in (*fixed, f"--user-data-dir={folder / 'profile'}", *arguments):
        options.add_argument(argument)
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    window.set_page_load_timeout(PATIENCE)
    try:
        yield window
    finally:
        window.quit()
