"""The book as a reader meets it: from a file, in Chromium, at a desk and on a phone, by mouse, keyboard and ear."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from reader import PATIENCE, ROOT
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

DESK, PHONE = (1400, 1000), (390, 844)
#: One page of each kind; every lecture has the same parts.
KINDS = [
    "index",
    "04_momentum",
    "01_training_problem",
    "claims",
    "labs",
    "lab01",
    "slides",
    "slips",
    "handbook",
    "performance",
]
KINDS += ["instructors", "cluster", "run", "reference", "api_optim", "search", "genindex"]


def size(browser, width, height):
    """A screen of that size, as a phone has it: windows are never so narrow."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def theme(browser, mode):
    """Light or dark, at once: in between colours are neither."""
    still = "const s = document.createElement('style'); s.textContent = '* { transition: none !important }'"
    browser.execute_script(f"{still}; document.head.append(s)")
    browser.execute_script(
        "localStorage.setItem('mode', arguments[0]); localStorage.setItem('theme', arguments[0])", mode
    )
    browser.execute_script("document.documentElement.dataset.theme = arguments[0]", mode)


def visit(browser, book, page, screen=DESK):
    """Open a page; the addresses that it asked for, and what it logged."""
    browser.get("about:blank")  # what was open before asks for nothing any more
    browser.get_log("browser"), browser.get_log("performance")
    size(browser, *screen)
    browser.get(page if page.startswith("file:") else (book / page).as_uri())
    WebDriverWait(browser, PATIENCE).until(lambda b: b.execute_script("return document.readyState") == "complete")
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return asked, browser.get_log("browser")


def until(browser, condition, message):
    return WebDriverWait(browser, PATIENCE).until(condition, message)


def test_every_page_loads_alone_and_without_a_complaint(browser, book):
    names = sorted(path.name for path in book.glob("*.html"))
    assert {f"{kind}.html" for kind in KINDS} <= set(names)
    for name in names:
        asked, logged = visit(browser, book, name)
        outside = [address for address in asked if not address.startswith(("file:", "data:", "blob:", "chrome"))]
        assert outside == [], name
        assert [entry for entry in logged if entry["level"] in ("SEVERE", "WARNING")] == [], name


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_a_phone(browser, book, kind):
    visit(browser, book, f"{kind}.html", PHONE)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= PHONE[0], f"{kind} is {wide} px wide"


def test_no_text_scrolls_on_a_phone(browser, book):
    """A long formula does, by itself: the words around it stay where they are."""
    wide = """return [...document.querySelectorAll('.bd-article :is(p, li, dd, blockquote)')].filter(e => e.clientWidth
      && e.scrollWidth > e.clientWidth + 1 && !e.closest('table, .scroll')).map(e => e.textContent.slice(0, 60))"""
    formulas = 0
    for path in sorted(book.glob("*.html")):
        visit(browser, book, path.name, PHONE)
        assert browser.execute_script(wide) == [], path.name
        formulas += browser.execute_script(
            "return [...document.querySelectorAll('.long')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        )
    assert formulas > 10


def test_the_search_finds_the_heavy_ball(browser, book):
    visit(browser, book, (book / "search.html").as_uri() + "?q=heavy+ball")
    links = until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li a"), "no result")
    assert any("04_momentum.html" in link.get_attribute("href") for link in links)


@pytest.fixture
def player(browser, book):
    """The first sliders of lecture 04 on a phone."""
    visit(browser, book, "04_momentum.html", PHONE)
    figure = browser.find_element(By.CSS_SELECTOR, "figure.player")
    browser.execute_script("arguments[0].scrollIntoView()", figure)
    return figure


def shown(figure):
    picture = figure.find_element(By.TAG_NAME, "img")
    return picture.get_attribute("src"), picture.get_attribute("alt")


def test_a_key_moves_a_slider_and_its_figure(browser, player):
    first, second = player.find_elements(By.CSS_SELECTOR, "input[type=range]")[:2]
    begun, before = shown(player), [first.get_attribute("aria-valuetext"), second.get_attribute("aria-valuetext")]
    first.send_keys(Keys.ARROW_RIGHT)
    moved = shown(player)
    assert moved[0] != begun[0] and moved[1] != begun[1]
    assert first.get_attribute("aria-valuetext") != before[0]
    assert player.find_element(By.TAG_NAME, "output").text == first.get_attribute("aria-valuetext")
    width = "return arguments[0].querySelector('img').naturalWidth > 100"
    until(browser, lambda b: b.execute_script(width, player), "the figure does not load")
    second.send_keys(Keys.ARROW_LEFT)  # the first returns to where it began
    assert first.get_attribute("aria-valuetext") == before[0] and second.get_attribute("aria-valuetext") != before[1]
    second.send_keys(Keys.ARROW_RIGHT)
    assert shown(player) == begun


def test_every_position_of_every_slider_has_its_figure(book, browser, player):
    for figure in browser.find_elements(By.CSS_SELECTOR, "figure.player"):
        for control in json.loads(figure.get_attribute("data-frames")).values():
            assert len(control["frames"]) == len(control["texts"]) >= 2
            assert all((book / address).stat().st_size > 1000 and text for address, text in control["frames"])
            assert len({address for address, _ in control["frames"]}) > 1


def test_a_page_with_all_its_figures_is_no_burden(book, browser, player):
    addresses = set(browser.execute_script("return [...document.images].map(image => image.getAttribute('src'))"))
    for figure in browser.find_elements(By.CSS_SELECTOR, "figure.player"):
        for control in json.loads(figure.get_attribute("data-frames")).values():
            addresses |= {address for address, _ in control["frames"]}
    files = [book / "04_momentum.html", *(book / a for a in addresses if a and not a.startswith("data:"))]
    assert sum(path.stat().st_size for path in files) < 4e6


def rows(browser):
    script = (
        "return [...document.querySelectorAll('#claims-table tbody tr')].filter(r => !r.hidden).map(r => r.innerText)"
    )
    return browser.execute_script(script)


def test_the_claims_can_be_filtered_searched_and_sorted(browser, book):
    visit(browser, book, "claims.html")
    everything = rows(browser)
    form = browser.find_element(By.CSS_SELECTOR, "form.filter")
    form.find_element(By.CSS_SELECTOR, "select[name=lecture] option[value='04']").click()
    fourth = rows(browser)
    assert 50 < len(fourth) < len(everything) and all(row.startswith("04.") for row in fourth)
    form.find_element(By.CSS_SELECTOR, "option[value='fails as expected']").click()
    failing = rows(browser)
    assert 0 < len(failing) < len(fourth) and all("fails as expected" in row for row in failing)
    assert form.find_element(By.TAG_NAME, "output").text == f"{len(failing)} of {len(everything)} claims"
    form.find_element(By.CSS_SELECTOR, "select[name=verdict] option[value='']").click()
    form.find_element(By.NAME, "text").send_keys("nesterov")
    found = rows(browser)
    assert 0 < len(found) < len(fourth) and all("nesterov" in row.lower() for row in found)
    # The view is in the address.
    visit(browser, book, browser.current_url)
    assert rows(browser) == found


def test_the_claims_are_sorted_by_what_was_measured_and_blanks_come_last(browser, book):
    visit(browser, book, "claims.html")
    heads = browser.find_elements(By.CSS_SELECTOR, "#claims-table th button")
    for column in (3, 4, 5):
        for order in ("ascending", "descending"):
            heads[column].click()
            assert browser.execute_script("return arguments[0].parentNode.ariaSort", heads[column]) == order
            cells = [row.split("\t")[column].strip() for row in rows(browser)]
            filled = [cell for cell in cells if cell]
            assert cells == filled + [""] * (len(cells) - len(filled))
            values = [float(cell.split()[0]) for cell in filled]
            assert values == sorted(values, reverse=order == "descending") and len({*values}) > 1
    assert "" in cells  # of the seeds


def test_the_stripes_of_the_claims_alternate_after_filtering_and_nothing_found_is_said(browser, book):
    visit(browser, book, (book / "claims.html").as_uri() + "?text=nesterov")
    colours = browser.execute_script(
        "return [...document.querySelectorAll('#claims-table tbody tr')].filter(r => !r.hidden)"
        ".map(r => getComputedStyle(r).backgroundColor)"
    )
    assert len({*colours}) == 2 and all(a != b for a, b in pairwise(colours))
    visit(browser, book, (book / "claims.html").as_uri() + "?text=nosuchword")
    said = browser.find_element(By.CSS_SELECTOR, "form.filter output").text
    assert rows(browser) == [] and said.startswith("0 of ") and "None matches" in said
    names = [o.get_attribute("value") for o in browser.find_elements(By.CSS_SELECTOR, "select[name=verdict] option")]
    assert {"holds", "fails as expected", "undecided", "broken"} <= {*names}


@pytest.mark.parametrize("page", ["claims", "slips"])
def test_the_cells_of_these_tables_are_in_sight_on_a_phone(browser, book, page):
    visit(browser, book, f"{page}.html", PHONE)
    cells = browser.execute_script(
        "return [...document.querySelectorAll('.bd-article tbody tr:not([hidden]) td')].slice(0, 400)"
        ".map(c => c.getBoundingClientRect()).map(r => [r.left, r.right])"
    )
    assert len(cells) > 20 and all(0 <= left <= right <= PHONE[0] for left, right in cells)


def test_what_goes_on_beyond_the_edge_fades_there_until_it_is_scrolled_to(browser, book):
    visit(browser, book, "04_momentum.html", PHONE)
    find = "[...document.querySelectorAll('.bd-article div.math, .bd-article pre')].filter(e => e.checkVisibility())"
    beyond = f"return {find}.filter(e => e.scrollWidth > e.clientWidth + 2).length"
    fading = f"return {find}.filter(e => getComputedStyle(e).maskImage !== 'none').length"
    until(browser, lambda b: b.execute_script(fading) == b.execute_script(beyond) > 0, "the edges do not fade")
    browser.execute_script(f"{find}.forEach(e => e.scrollLeft = 1e6)")
    until(browser, lambda b: b.execute_script(fading) == 0, "an end fades")


def test_the_labels_of_a_slider_keep_to_their_place(browser, book):
    for screen in (DESK, PHONE):
        visit(browser, book, "04_momentum.html", screen)
        spread = browser.execute_script(
            "return [...document.querySelectorAll('figure.player output')].map(o => {"
            " const texts = JSON.parse(o.closest('figure').dataset.frames)[o.previousElementSibling.name].texts;"
            " const label = o.closest('label'), track = o.previousElementSibling;"
            " const widths = texts.map(t => { o.value = t; return track.offsetWidth; });"
            " return [o.scrollWidth - o.offsetWidth, Math.max(...texts.map(t => { o.value = t;"
            " return o.getBoundingClientRect().right; })) - label.getBoundingClientRect().right,"
            " Math.max(...widths) - Math.min(...widths)]; })"
        )
        assert spread and all(max(numbers) <= 1 for numbers in spread)


def test_visible_code_fits_at_a_desk(browser, book):
    visit(browser, book, "04_momentum.html")
    script = "return [...document.querySelectorAll('.cell_input pre')].filter(e => e.checkVisibility())"
    wide = browser.execute_script(f"{script}.map(e => e.scrollWidth - e.clientWidth)")
    assert len(wide) > 10 and max(wide) <= 0


def test_the_links_to_the_neighbours_are_whole_on_a_phone(browser, book):
    for name in ("13_large_batches", "15_compressed_communication"):
        visit(browser, book, f"{name}.html", PHONE)
        ends = browser.execute_script(
            "return [...document.querySelectorAll('.prev-next-area a')].map(a => [a.scrollWidth - a.clientWidth,"
            " a.getBoundingClientRect().right])"
        )
        assert len(ends) == 2 and all(beyond <= 0 and right <= PHONE[0] for beyond, right in ends)


def test_the_badge_of_a_verdict_leads_to_its_row(browser, book):
    visit(browser, book, "04_momentum.html")
    badge = browser.find_element(By.CSS_SELECTOR, "p.verdict a")
    claim = browser.find_element(By.CSS_SELECTOR, "p.verdict").text
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", badge)
    badge.click()
    until(browser, lambda b: "claims.html#claim-" in b.current_url, "the badge leads nowhere")
    row = browser.execute_script("return document.querySelector(':target').closest('tr').innerText")
    assert row.split("\t")[2].split("\n")[0] in claim


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_serious_fault_of_accessibility(browser, book, kind, mode):
    import axe_core_python

    visit(browser, book, f"{kind}.html")
    theme(browser, mode)
    browser.execute_script((Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    run = "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(r => done(r.violations))"
    browser.set_script_timeout(PATIENCE)
    faults = [fault for fault in browser.execute_async_script(run) if fault["impact"] in ("serious", "critical")]
    assert [
        (f["id"], len(f["nodes"]), f["nodes"][0]["html"][:200], f["nodes"][0]["failureSummary"]) for f in faults
    ] == []


def test_the_readme_names_the_pages():
    assert "build/lectures/index.html" in (ROOT / "README.md").read_text(encoding="utf-8")
