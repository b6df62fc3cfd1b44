"""The page in a real browser: quiet, alone, usable from the keyboard, narrow enough, and readable without a script."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import time
import urllib.parse
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("large_report", Path(__file__).with_name("large_report.py"))
large_report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(large_report)

DIRECTIONS = 300
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
TREE = "Accessibility.getFullAXTree"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of 3 claims, with predictions and 300 directions."""
    return large_report.write(tmp_path_factory.mktemp("run"), claims=3, directions=DIRECTIONS)


@pytest.fixture(scope="module")
def chromium():
    """One browser that logs what it says and what it asks for."""
    selenium = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install 'sensverify[dev]'")
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(chromium, page):
    """The page, freshly loaded at 1200 × 900, nothing logged yet but what loading it logs."""
    return load(chromium, page)


def load(driver, page, *, width=1200, scripts=True, fragment=""):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get("about:blank")
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get(page.as_uri() + fragment)
    return driver


def press(driver, *keys):
    """Type, one stroke at a time, into whatever has the focus."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    actions = ActionChains(driver, duration=0)
    for key in keys:
        actions.send_keys(getattr(Keys, key, key))
    actions.perform()


def focused(driver):
    return driver.switch_to.active_element


def status(driver):
    return driver.find_element("css selector", ".browser [role=status]").text


def visible_rows(driver):
    script = """const cells = (row) => [...row.cells].map((cell) => cell.dataset.value ?? cell.innerText.trim());
        return [...document.querySelectorAll(".direction")].filter((body) => body.offsetHeight)
            .map((body) => [body.dataset.group, ...cells(body.rows[0])])"""
    return driver.execute_script(script)


def tab_to(driver, selector, *, most=80):
    """Press Tab until an element that fits ``selector`` has the focus."""
    for _ in range(most):
        press(driver, "TAB")
        if driver.execute_script("return document.activeElement.matches(arguments[0])", selector):
            return focused(driver)
    raise AssertionError(f"{selector} is not reached by {most} strokes of the Tab key")


def requests(driver):
    """The addresses of everything that was asked for since the last look."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def test_the_page_loads_and_works_without_a_word_to_the_console_or_the_network(opened, page):
    search = opened.find_element("css selector", ".browser input[type=search]")
    search.send_keys("letter")
    for head in opened.find_elements("css selector", ".browser thead button"):
        head.click()
    opened.find_elements("css selector", ".direction:not([hidden]) button")[0].click()
    assert opened.get_log("browser") == []
    asked = requests(opened)
    assert [urllib.parse.unquote(url) for url in asked] == [urllib.parse.unquote(page.as_uri())]


def test_a_script_that_is_not_the_pages_own_does_not_run(opened):
    opened.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.intruder = 1'; document.body.append(s)"
    )
    assert opened.execute_script("return window.intruder") is None
    assert "Content Security Policy" in opened.get_log("browser")[0]["message"]


def test_the_list_is_searched_sorted_and_opened_from_the_keyboard_alone(opened):
    tab_to(opened, ".browser input[type=search]", most=400)
    assert status(opened) == f"{DIRECTIONS} directions, by score, highest first"
    press(opened, *large_report.RARE)
    assert status(opened) == f"1 of {DIRECTIONS} directions, by score, highest first"
    assert [row[-1] for row in visible_rows(opened)] == [f"the word {large_report.RARE.upper()}"]
    press(opened, "ESCAPE")
    assert len(visible_rows(opened)) == DIRECTIONS

    tab_to(opened, ".browser [data-sort=ratio] button")
    press(opened, "ENTER")
    ratios = [float(row[4]) for row in visible_rows(opened) if row[4]]
    assert ratios == sorted(ratios, reverse=True)
    assert visible_rows(opened)[-1][1] == "bare shuffled model"  # what was not measured comes last
    press(opened, " ")
    head = opened.find_element("css selector", "[data-sort=ratio]")
    assert head.get_attribute("aria-sort") == "ascending"
    assert focused(opened) == head.find_element("css selector", "button")
    assert [float(row[4]) for row in visible_rows(opened) if row[4]] == ratios[::-1]
    assert visible_rows(opened)[-1][1] == "bare shuffled model"
    assert status(opened) == f"{DIRECTIONS} directions, by ratio, lowest first"
    sorts = [e.get_attribute("aria-sort") for e in opened.find_elements("css selector", "[data-sort]")]
    assert sorted(sorts) == ["ascending", *["none"] * (len(sorts) - 1)]

    first = tab_to(opened, ".direction button")
    card = opened.find_element("id", first.get_attribute("aria-controls"))
    assert (first.get_attribute("aria-expanded"), card.is_displayed()) == ("false", False)
    press(opened, "ENTER")
    assert (first.get_attribute("aria-expanded"), card.is_displayed()) == ("true", True)
    press(opened, " ")
    assert (first.get_attribute("aria-expanded"), card.is_displayed()) == ("false", False)


def test_arrows_move_between_rows_and_tab_leaves_for_the_next_one(opened):
    tab_to(opened, ".browser input[type=search]", most=400)
    press(opened, "ARROW_DOWN")
    buttons = opened.find_elements("css selector", ".direction button")
    assert focused(opened) == buttons[0]
    press(opened, "ARROW_DOWN", "ARROW_DOWN", "ARROW_UP")
    assert focused(opened) == buttons[1]
    press(opened, "TAB")
    assert focused(opened) == buttons[2]
    press(opened, "END")
    assert focused(opened) == buttons[-1]
    press(opened, "HOME", "ARROW_UP")
    assert focused(opened).get_attribute("type") == "search"


def test_the_focus_is_seen_and_never_under_the_head_of_the_list(opened):
    opened.find_element("css selector", ".browser input[type=search]").click()
    press(opened, *["ARROW_DOWN"] * 31)
    for _ in range(30):
        press(opened, "ARROW_UP")
        hidden, outline = opened.execute_script(
            """const active = document.activeElement, head = document.querySelector(".directions-table thead th");
            return [head.getBoundingClientRect().bottom - active.getBoundingClientRect().top,
                getComputedStyle(active).outlineStyle]"""
        )
        assert hidden <= 0
        assert outline == "solid"


def test_a_group_is_chosen_by_arrows_and_joins_the_search(opened):
    tab_to(opened, ".browser fieldset input", most=400)
    press(opened, "ARROW_RIGHT", "ARROW_RIGHT")
    rows = visible_rows(opened)
    chosen = focused(opened).get_attribute("value")
    assert {row[0] for row in rows} == {chosen}
    assert len(rows) == DIRECTIONS // len(large_report.GROUPS)
    opened.find_element("css selector", ".browser input[type=search]").send_keys("within 3 tokens")
    narrowed = visible_rows(opened)
    assert 0 < len(narrowed) < len(rows)
    assert {row[0] for row in narrowed} == {chosen}
    assert status(opened).startswith(f"{len(narrowed)} of {DIRECTIONS} directions")


@pytest.mark.parametrize(("typed", "least"), [("␣⏎", 1), ("  ", DIRECTIONS), ("<i>&amp;</i>", 1), ("MARIANNE", 1)])
def test_marks_of_blanks_markup_and_capitals_can_be_searched(opened, typed, least):
    opened.find_element("css selector", ".browser input[type=search]").send_keys(typed)
    assert len(visible_rows(opened)) >= least


def test_a_search_for_nothing_there_says_so(opened):
    opened.find_element("css selector", ".browser input[type=search]").send_keys("nowhere to be found")
    assert visible_rows(opened) == []
    assert status(opened).startswith("no match")


def test_the_tree_for_screen_readers_names_the_parts(opened):
    opened.execute_cdp_cmd("Accessibility.enable", {})
    nodes = opened.execute_cdp_cmd(TREE, {})["nodes"]
    named = {(n["role"]["value"], n.get("name", {}).get("value")) for n in nodes if not n.get("ignored")}
    assert ("searchbox", "Search") in named
    assert ("radio", "shuffled model 60") in named
    assert ("columnheader", "Ratio") in named
    live = [n for n in nodes if n["role"].get("value") == "status"]
    assert any(p["name"] == "live" and p["value"]["value"] == "polite" for n in live for p in n["properties"])
    pictures = [name for role, name in named if role in ("image", "img") and name]
    assert any(name.startswith("predicted at least 1.885, measured 4.20 [3.90, 4.60]: inside") for name in pictures)


@pytest.mark.parametrize("scripts", [True, False])
def test_a_narrow_page_never_scrolls_sideways(chromium, page, scripts):
    driver = load(chromium, page, width=400)
    driver.find_elements("css selector", ".direction button")[0].click()
    if not scripts:
        driver.execute_script("document.documentElement.classList.remove('js')")
    for width in (400, 320, 800) if scripts else (400,):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        outer, inner = driver.execute_script(
            """const list = document.querySelector(".list"), root = document.documentElement;
            return [Math.max(root.scrollWidth, document.body.scrollWidth), list.scrollWidth - list.clientWidth]"""
        )
        assert (outer <= width, inner <= 0) == (True, True), width


def test_nothing_moves_while_the_page_loads(chromium, page):
    driver = load(chromium, page, fragment="#PR-2-2")
    time.sleep(0.2)
    script = """const done = arguments[0]; let sum = 0;
        new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput) sum += e.value })
            .observe({ type: "layout-shift", buffered: true });
        setTimeout(() => done(sum), 200)"""
    assert driver.execute_async_script(script) == 0


def test_opening_a_card_does_not_change_the_columns(opened):
    widths = "return [...document.querySelectorAll('.directions-table thead th')].map((th) => th.offsetWidth)"
    before = opened.execute_script(widths)
    opened.find_elements("css selector", ".direction button")[0].click()
    assert opened.execute_script(widths) == before


def test_a_link_to_a_direction_opens_it(chromium, page):
    driver = load(chromium, page)
    identity = driver.execute_script("return document.querySelectorAll('.direction')[120].id")
    driver = load(chromium, page, fragment=f"#{identity}")
    assert driver.find_element("css selector", ".direction.open").get_attribute("id") == identity
    top = driver.execute_script("return document.querySelector('.direction.open').getBoundingClientRect().top")
    assert 0 <= top < 900


def test_without_scripts_every_card_is_there_to_read(chromium, page):
    driver = load(chromium, page, scripts=False)
    boxes = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    document = driver.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]

    def found(selector):
        return driver.execute_cdp_cmd("DOM.querySelectorAll", {"nodeId": document, "selector": selector})["nodeIds"]

    def drawn(node):
        with contextlib.suppress(Exception):  # what is not laid out has no box, and the browser says so by an error
            return driver.execute_cdp_cmd("DOM.getBoxModel", {"nodeId": node})["model"]["height"] > 0
        return False

    assert len(found(".direction .card")) == DIRECTIONS
    assert all(map(drawn, found(".direction .card")[:: DIRECTIONS // 10]))
    assert not any(map(drawn, found(".controls")))
    assert found(".direction button") == []
    assert boxes["height"] > 100 * DIRECTIONS


def test_sixty_claims_with_plots_and_three_hundred_directions_fit_in_five_megabytes(page):
    text = page.read_bytes()
    _, plotted, *_ = text.split(b"<article")
    assert plotted.count(b"<svg") == 3
    assert len(text) + 57 * len(plotted) < 5_000_000


def size(driver, width, *, media="screen"):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.mark.parametrize("paper", [673, 699])  # A4 and letter, 16 mm of margin on either side, in pixels of CSS
def test_no_table_is_cut_by_the_edge_of_the_paper(chromium, page, paper):
    driver = load(chromium, page)
    try:
        size(driver, paper, media="print")
        script = """const right = document.documentElement.clientWidth;
            const inside = (e) => e.getBoundingClientRect().right <= right + 1;
            return [...document.querySelectorAll("table.data")].filter((t) => t.offsetHeight)
                .map((t) => [t.tHead.innerText, inside(t) && [...t.querySelectorAll("td, th")].every(inside)])"""
        tables = driver.execute_script(script)
        assert len(tables) >= 2
        assert [head for head, whole in tables if not whole] == []
    finally:
        size(driver, 1200)


OVERLAPS = """const seen = [...document.querySelectorAll(".predictions tbody td, .predictions tbody th")]
        .filter((cell) => cell.innerText.trim() && getComputedStyle(cell).position !== "absolute");
    const boxes = seen.flatMap((cell) => {
        const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        const range = document.createRange(), rects = [];
        while (walker.nextNode()) if (walker.currentNode.parentElement.checkVisibility()) {
            range.selectNodeContents(walker.currentNode); rects.push(...range.getClientRects());
        }
        return rects.filter((r) => r.width > 1 && r.height > 1).map((r) => [cell, r]);
    });
    const out = [];
    for (const [a, p] of boxes) for (const [b, q] of boxes) {
        if (a !== b && a.parentNode === b.parentNode && p.left < q.right - 1 && q.left < p.right - 1
            && p.top < q.bottom - 3 && q.top < p.bottom - 3) out.push(a.innerText + " | " + b.innerText);
    }
    return out"""


@pytest.mark.parametrize("width", [320, 400, 700, 960, 1000, 1280])
def test_what_was_predicted_is_never_printed_over_what_was_measured(chromium, page, width):
    driver = load(chromium, page, width=width)
    assert driver.execute_script(OVERLAPS) == []


def test_further_rows_of_one_prediction_are_low(chromium, page):
    driver = load(chromium, page, width=1280)
    heights = driver.execute_script(
        "return [...document.querySelectorAll('.predictions tr.further')].map((row) => row.offsetHeight)"
    )
    assert len(heights) == 2 * 4  # on the ledger, and under the claim
    assert max(heights) <= 60


def test_an_interval_stands_on_one_line_beside_a_text_that_does_not_squeeze_the_row(chromium, page):
    driver = load(chromium, page, width=400)
    heights = driver.execute_script(
        "return [...document.querySelectorAll('table.data tbody tr')].map((row) => row.offsetHeight)"
    )
    assert heights
    assert max(heights) <= 70


def open_card(driver):
    driver.find_elements("css selector", ".direction:not([hidden]) button")[0].click()
    return driver.find_element("css selector", ".direction.open .card")


@pytest.mark.parametrize("width", [400, 1200])
def test_a_card_shows_both_ends_each_presence_on_one_line_and_explains_its_marks(chromium, page, width):
    driver = load(chromium, page, width=width)
    card = open_card(driver)
    assert "most present" in card.text
    assert "least present" in card.text
    presences = card.find_elements("css selector", ".presence")
    assert [float(p.text.replace("−", "-")) < 0 for p in presences] == [False] * 6 + [True] * 4
    lines = """const range = document.createRange(); range.selectNodeContents(arguments[0]);
        return new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size"""
    assert {driver.execute_script(lines, p) for p in presences} == {1}
    widths = "const e = arguments[0]; return e.scrollWidth <= e.clientWidth"
    assert all(driver.execute_script(widths, p) for p in presences)
    legend = driver.find_element("css selector", ".browser .legend")
    assert "where it is negative" in legend.text
    colour = "return getComputedStyle(arguments[0]).backgroundColor"
    sample = legend.find_element("css selector", "mark.against")
    against = card.find_element("css selector", "mark.against")
    plain = card.find_element("css selector", "mark:not(.against)")
    hue = [driver.execute_script(colour, mark).split("(")[1].rsplit(",", 1)[0] for mark in (sample, against, plain)]
    assert hue[0] == hue[1] != hue[2]


def test_terms_are_opened_from_the_keyboard(opened):
    tab_to(opened, ".terms summary")
    press(opened, "ENTER")
    terms = opened.find_element("css selector", ".terms")
    assert terms.get_attribute("open") is not None
    assert "The cosine between a direction and an activation" in terms.text
