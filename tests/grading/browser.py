"""A headless Chromium, driven as the WebDriver standard says: no more of it than the tests of pages need."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Seconds to wait for what must happen, on a busy machine too.
PATIENCE = 240
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of ``condition``; it may fail before."""
    end, error = time.monotonic() + PATIENCE, None
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (OSError, Failed) as caught:
            error = caught
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {PATIENCE} s ({error})")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Failed(Exception):
    """What the browser could not do."""


class Browser:
    """One window."""

    def __init__(self, root: str) -> None:
        self.root = root

    def _ask(self, method: str, path: str, data: Any = None) -> Any:
        body = None if method != "POST" else json.dumps(data or {}).encode()
        request = urllib.request.Request(self.root + path, body, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise Failed(error.read().decode(errors="replace")[:500]) from None

    def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self._ask("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        """Where it is."""
        return self._ask("GET", "/url")

    def run(self, script: str) -> Any:
        """What JavaScript in the page returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def _find(self, css: str) -> str:
        return self._ask("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css: str) -> None:
        """Click on the first such element, as soon as that is possible."""
        until(lambda: self._ask("POST", f"/element/{self._find(css)}/click") is None, f"a click on {css}")

    def click_link(self, words: str) -> None:
        """Follow the link that says this."""
        find = {"using": "link text", "value": words}
        until(
            lambda: self._ask("POST", f"/element/{self._ask('POST', '/element', find)[ELEMENT]}/click") is None,
            f"a click on the link {words!r}",
        )

    def type(self, css: str, text: str) -> None:
        """Put ``text`` into a field and leave it."""
        where = f"/element/{until(lambda: self._find(css), css)}"
        until(lambda: self._ask("POST", f"{where}/clear") is None, f"clearing {css}")
        self._ask("POST", f"{where}/value", {"text": f"{text}\ue004"})


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
def chromium(folder: Path, *arguments: str) -> Iterator[Browser]:
    """A window with a profile of its own in ``folder``."""
    assert CHROMIUM and DRIVER
    port = free_port()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000"]
    chosen = {"binary": CHROMIUM, "args": [*options, f"--user-data-dir={folder / 'profile'}", *arguments]}
    wanted = {"alwaysMatch": {"goog:chromeOptions": chosen, "unhandledPromptBehavior": "ignore"}}
    with ended([DRIVER, f"--port={port}"], folder / "chromedriver.log"):
        driver = Browser(f"http://127.0.0.1:{port}")
        until(lambda: driver._ask("GET", "/status")["ready"], "chromedriver")
        session = driver._ask("POST", "/session", {"capabilities": wanted})["sessionId"]
        browser = Browser(f"{driver.root}/session/{session}")
        try:
            yield browser
        finally:
            browser._ask("DELETE", "")
