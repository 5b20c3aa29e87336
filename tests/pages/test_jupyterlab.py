"""JupyterLab as ``make lab`` opens it: the start page, a lecture that runs, a slider that moves its figure."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from reader import PATIENCE, ROOT
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from optcourse.course import catalog

LECTURE = "lectures/04_momentum.ipynb"


def recipe():
    """What ``make lab`` runs after the installation."""
    made = subprocess.run(["make", "--dry-run", "lab"], cwd=ROOT, capture_output=True, text=True).stdout
    (line,) = [line for line in made.splitlines() if "jupyter lab " in line]
    return [part for part in line.split() if part.startswith("--")]


def test_the_start_page_leads_to_every_lecture_and_lab():
    cells = json.loads((ROOT / "start.ipynb").read_text(encoding="utf-8"))["cells"]
    links = re.findall(r"\]\(([^)]+)\)", "".join("".join(cell["source"]) for cell in cells))
    assert all((ROOT / link).exists() for link in links)
    table = catalog.load(ROOT / "lectures" / "topics.toml")
    assert links == [
        *(f"lectures/{lecture.notebook}" for lecture in table.lectures),
        *(f"labs/release/{lab.id}/{lab.id}.ipynb" for lab in table.labs),
    ]
    text = "".join("".join(cell["source"]) for cell in cells)
    for lecture in table.lectures:
        assert f"| {lecture.id} | [{lecture.title}](" in text and f" | {', '.join(lecture.needs) or '–'} |" in text


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the course, with the options of ``make lab``; its address."""
    home, root = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "start.ipynb", root)
    shutil.copytree(ROOT / "lectures", root / "lectures")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--expose-app-in-browser"]
    options += ["--IdentityProvider.token=", f"--ServerApp.root_dir={root}", *recipe()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "OPTCOURSE_PROFILE": "quick"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], cwd=root, env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(PATIENCE * 2):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=PATIENCE).read()
                break
            except OSError:
                assert process.poll() is None, (home / "log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def until(browser, script, what, patience=PATIENCE):
    """The first true value of a script in the page."""
    return WebDriverWait(browser, patience).until(lambda b: b.execute_script(script), what)


def test_a_lecture_runs_and_its_slider_moves_the_figure(browser, lab):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.set_window_size(1400, 1000)
    browser.get(lab)
    until(browser, "return !!window.jupyterapp?.shell?.currentWidget", "JupyterLab does not start")
    until(browser, "return document.body.innerText.includes('start here')", "the start page is not shown")
    assert "Jupyter news" not in browser.find_element(By.TAG_NAME, "body").text
    browser.execute_script(f"jupyterapp.commands.execute('docmanager:open', {{path: '{LECTURE}'}})")
    here = "const panel = jupyterapp.shell.currentWidget; const cells = panel?.content?.widgets ?? []"
    until(browser, f"{here}; return panel?.context?.path == '{LECTURE}' && cells.length > 50", "04 does not open")
    until(browser, f"{here}; return panel.sessionContext?.session?.kernel?.status == 'idle'", "no kernel")
    browser.execute_script("jupyterapp.commands.execute('runmenu:run-all')")
    code = f"{here}; const code = cells.filter(cell => cell.model.type == 'code')"
    ended = f"{code}; return code.every(cell => cell.model.executionCount || !cell.model.sharedModel.source.trim())"
    failed = f"{code}; return code.some(cell => [...Array(cell.model.outputs.length).keys()].some("
    failed += "i => cell.model.outputs.get(i).type == 'error'))"
    until(browser, ended, "the lecture does not end", 4 * PATIENCE)
    assert not browser.execute_script(failed)

    # Cells far from the screen are not drawn: go to the one with the sliders.
    find = f"{here}; const k = cells.findIndex(cell => cell.model.id == 's04-4-slider')"
    browser.execute_script(f"{find}; panel.content.activeCellIndex = k; return panel.content.scrollToItem(k, 'start')")
    source = f"{find}; const image = cells[k].node.querySelector('img'); return image?.complete && image.src"
    before = until(browser, source, "the figure of the sliders is not shown")
    handle = f"{find}; return cells[k].node.querySelector('.noUi-handle')"
    until(browser, handle, "no slider").send_keys(Keys.ARROW_LEFT)
    until(browser, f"{source.replace('return image', f'return image?.src != {before!r} && image')}", "it does not move")
    browser.get("about:blank")
