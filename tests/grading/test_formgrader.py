"""The gradebook in nbgrader's formgrader, in a real browser: a mark that a person types, and answers that attack them."""

import csv
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import browser
import nbformat
import pytest
import tiny_lab
from test_pages import png, text

pytestmark = pytest.mark.skipif(
    browser.CHROMIUM is None or browser.DRIVER is None,
    reason="Chromium or chromedriver is missing (Debian, Ubuntu: apt install chromium chromium-driver)",
)

LABS = Path(__file__).parents[2] / "labs"
COMMAND = "from optcourse.course.cli import main; main()"
#: Every way found to run a script or to fetch something from a text. The address leads to the test.
ATTACK = """Because.
<script>window.canary = 1; fetch('http://canary.example/a')</script><img src="http://canary.example/b"
onerror="window.canary = 2"><img src=x onerror="window.canary = 3"> <svg onload="window.canary = 4"></svg>
<iframe srcdoc="<script>parent.canary = 5</script>"></iframe><iframe src="http://canary.example/c"></iframe>
<meta http-equiv="refresh" content="0;url=http://canary.example/d"><link rel=stylesheet href=//canary.example/e.css>
<style>body{background:url(http://canary.example/f)}</style><form id=why action=//canary.example><input></form>
<object data="http://canary.example/g"></object><video src="http://canary.example/h" onerror="window.canary = 6">

![x](http://canary.example/i.png) ![x][r] [link](javascript:window.canary=7) <javascript:window.canary=8>

[r]: http://canary.example/j.png

$\\href{javascript:window.canary=9}{x}$ $$<img src=x onerror="window.canary = 10">$$

```mermaid
graph TD
A["<img src=x onerror='window.canary = 11'>"]
```

# why
# submission_id
"""
OUTPUT = """from IPython.display import HTML, SVG, Javascript, Markdown, display
attack = "<img src=x onerror='window.canary = 12'><script>window.canary = 13; fetch('http://canary.example/k')</script>"
svg = "<svg xmlns='http://www.w3.org/2000/svg' onload='window.canary = 14'/>"
for kind in (HTML(attack), SVG(svg), Javascript("window.canary = 15"), Markdown(attack)):
    display(kind)
print(attack)
raise ValueError(attack)
"""


class Canary(threading.Thread):
    """Hears whoever asks for anything at the address that the answers lead to."""

    def __init__(self):
        super().__init__(daemon=True)
        self.server, self.heard = socket.create_server(("127.0.0.1", 0)), []
        self.port = self.server.getsockname()[1]

    def run(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    self.heard.append(connection.recv(1000).partition(b"\r\n")[0])
                except OSError as error:
                    self.heard.append(repr(error).encode())


def grade(root, *arguments):
    options = ["--lab", "tiny", "--labs", str(root / "labs"), "--output", str(root / "build" / "grades")]
    command = [sys.executable, "-c", COMMAND, "grade", str(root / "class"), *options, *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    with (root / "build" / "grades" / "grades.csv").open(newline="") as file:
        return {row["student_id"]: row for row in csv.DictReader(file)}


def hand_in(root, student, answer, picture=False, **cells):
    made = tiny_lab.notebook({"squares": cells.pop("extra")} if "extra" in cells else None, **cells, why=answer)
    if picture:
        cell = next(cell for cell in made.cells if cell.id == "why")
        cell["attachments"] = {"plot.png": {"image/png": text(png(30, 20))}}
    path = root / "class" / student / "tiny.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny_lab.raw(made))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A course as in the checkout: labs, and the grades of a class in build."""
    root = tmp_path_factory.mktemp("course")
    tiny_lab.write_lab(root / "labs")
    shutil.copy(LABS / "nbgrader_config.py", root / "labs")
    hand_in(root, "ann", "Because of the picture: ![plot](attachment:plot.png) *really*", picture=True)
    hand_in(root, "mallory", ATTACK, extra=OUTPUT)
    grade(root)
    return root


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    """JupyterLab, started as labs/README.md says; its address."""
    (line,) = re.findall(r"^OPTCOURSE_GRADES=.*jupyter lab.*$", (LABS / "README.md").read_text(), re.M)
    setting, *command = shlex.split(line)
    name, _, value = setting.partition("=")
    home, port = tmp_path_factory.mktemp("home"), browser.free_port()
    folders = {f"JUPYTER_{kind}_DIR": str(home / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    path = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", "")))
    environment = {**os.environ, **folders, "PATH": path, "HOME": str(home), name: value}
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    options += ["--ServerApp.port_retries=0", "--IdentityProvider.token=secret", "--ServerApp.disable_check_xsrf=False"]
    with browser.ended([*command, *options], home / "log", cwd=root / "labs", env=environment) as process:

        def answers():
            assert process.poll() is None, (home / "log").read_text()
            return socket.create_connection(("127.0.0.1", port), 1).close() is None

        browser.until(answers, "jupyter lab")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def canary():
    thread = Canary()
    thread.start()
    yield thread
    thread.server.close()


@pytest.fixture(scope="module")
def window(server, canary, tmp_path_factory):
    """A browser that is logged in, and that finds the canary under its name and no other machine at all."""
    rules = f"MAP canary.example 127.0.0.1:{canary.port}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with browser.chromium(tmp_path_factory.mktemp("browser"), f"--host-resolver-rules={rules}") as opened:
        opened.get(f"{server}/formgrader/?token=secret")
        yield opened


def submissions(root):
    """The page of each student in the formgrader."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{root}/build/grades/gradebook.db") as book:
        return {s.student.id: s.id for s in book.notebook_submissions("tiny", "tiny")}


def test_a_mark_typed_in_the_formgrader_is_in_the_next_grades(root, server, window):
    window.get(f"{server}/formgrader/?token=secret")
    browser.click_link(window, "Manual Grading")
    browser.click_link(window, "tiny")
    browser.click_link(window, "tiny")  # of this assignment, the notebook
    browser.click_link(window, "Submission #1")
    pages = submissions(root)
    student = next(name for name, page in pages.items() if page in window.current_url)
    browser.enter(window, "input#why.score, [id='why'].score", "1.5")
    database = f"sqlite:///{root}/build/grades/gradebook.db"
    from nbgrader.api import Gradebook

    def saved():
        with Gradebook(database) as book:
            notebook = book.find_submission_notebook("tiny", "tiny", student)
            return any(grade.manual_score == 1.5 and not grade.needs_manual_grade for grade in notebook.grades)

    browser.until(saved, "the mark in the gradebook")
    before = {name: float(row["score"]) for name, row in grade(root).items()}
    assert before[student] == 6.0 + 1.5
    again = {name: float(row["score"]) for name, row in grade(root, "--student", student).items()}
    assert again == before
    window.get(f"{server}/formgrader/submissions/{pages[student]}/")
    shown = browser.until(
        lambda: window.execute_script("return document.querySelector('input.score#why').value"), "the mark"
    )
    assert shown == "1.5"


def test_the_answer_and_its_picture_are_there_for_whoever_marks(root, server, window):
    window.get(f"{server}/formgrader/submissions/{submissions(root)['ann']}/")
    answer = "document.querySelector('input.score#why').closest('.nbgrader_cell')"
    words = browser.until(lambda: window.execute_script(f"return {answer}.innerText"), "the answer")
    assert "Because of the picture:" in words
    assert "really" in words
    sizes = f"return [...{answer}.querySelectorAll('img')].map(i => [i.naturalWidth, i.naturalHeight])"
    assert window.execute_script(sizes) == [[30, 20]]


SETTLED = "return document.readyState == 'complete' && [...document.images].every(i => i.complete)"


def attacked(window, address):
    """Open a page, let it do what it does, click on what a stranger wrote: what ran, and where the window is."""
    window.get(address)
    browser.until(lambda: window.execute_script(SETTLED), "the page")
    window.execute_script(
        "for (const a of document.querySelectorAll('#notebook a')) if (!/^http/.test(a.href)) a.click()"
    )
    browser.until(lambda: window.execute_script(SETTLED), "the page")
    return window.execute_script("return window.canary || null"), window.current_url.partition("#")[0]


def test_a_hostile_answer_runs_and_fetches_nothing(root, server, window, canary):
    address = f"{server}/formgrader/submissions/{submissions(root)['mallory']}/"
    canary.heard.clear()
    assert attacked(window, address) == (None, address)
    assert canary.heard == []
    for wanted in ("script", "iframe", "svg", "object", "form", "video", "meta[http-equiv=refresh]", "style"):
        assert window.execute_script(f"return document.querySelectorAll('.rendered_html {wanted}').length") == 0
    words = window.execute_script(
        "return document.querySelector('input.score#why').closest('.nbgrader_cell').innerText"
    )
    assert "Because." in words
    assert "window.canary = 1" in words
    # The same text, not disarmed: were this not seen, the test above would see nothing either.
    path = root / "build" / "grades" / "autograded" / "mallory" / "tiny" / "tiny.ipynb"
    kept = path.read_text()
    made = json.loads(kept)
    for cell in made["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "why":
            cell["source"] = ATTACK.replace('<meta http-equiv="refresh"', "<meta")
    try:
        nbformat.write(nbformat.from_dict(made), path)
        window.get(address)
        browser.until(lambda: canary.heard and window.execute_script("return window.canary"), "an attack that is seen")
    finally:
        path.write_text(kept)


def test_a_feedback_page_runs_and_fetches_nothing(root, window, canary):
    canary.heard.clear()
    address = (root / "build" / "grades" / "feedback" / "mallory" / "tiny.html").as_uri()
    assert attacked(window, address) == (None, address)
    assert canary.heard == []
    assert window.execute_script("return document.scripts.length") == 0
    assert window.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
