"""The report in a real browser, on a desk and on a phone: it loads, fits, sorts, prints, asks for nothing."""

import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from analysis.collect import read_results
from analysis.report import write_report
from lt_rebalance.studies.overrides import change_study, make_overrides
from lt_rebalance.studies.plan import compile_study
from tests.analysis.synthetic import Truth, make_store, plan_study
from tests.made_once import make_once

pytestmark = pytest.mark.slow
WIDTHS = [1280, 375, 360]
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of both protocols, with collapsed runs and with one run missing."""
    return make_once(tmp_path_factory, "browser", make_report) / "report" / "index.html"


def make_report(root: Path) -> None:
    plan = plan_study(protocols=("paper", "sound"), num_seeds=3)
    truth = Truth(collapse_rate=lambda run: 0.5 * (run.cell.method_label == "none"))
    store = make_store(root / "store", plan, truth)
    (Path(store.location) / "stages" / plan.runs[0].key / "result.json").unlink()
    write_report(read_results(store.location, allow=["gaps"]), root / "report")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium of this machine."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no browser: install chromium to run the tests that look at the report")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS, ids=lambda width: f"{width}px")
def opened(request: pytest.FixtureRequest, browser: Browser, report_page: Path) -> Iterator["Opened"]:
    """The report in a window of each width."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    opened = Opened(page)
    page.goto(report_page.as_uri(), wait_until="load")
    yield opened
    page.close()


class Opened:
    """A page, with what it complained of and asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(request.url[:80]))
        page.on("request", lambda request: self.requests.append(request.url))


def test_report_opens_without_a_complaint_or_a_request_beyond_itself(
    opened: Opened, report_page: Path
) -> None:
    opened.page.wait_for_load_state("networkidle")
    asked = [url for url in opened.requests if not url.startswith("data:")]
    assert opened.complaints == [] and asked == [report_page.as_uri()]


def test_report_fits_the_width_of_the_window(opened: Opened) -> None:
    widths = opened.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]


def test_long_name_of_a_setting_does_not_widen_the_page(browser: Browser, tmp_path: Path) -> None:
    plan = plan_study(cs=["1/2"], methods=["none", "oversample"], generators=[], num_seeds=2)
    changes = {"classifier.batch_size": 128, "classifier.learning_rate": 0.002, "classifier.beta2": 0.99}
    study = change_study(plan.study, make_overrides(changes))
    store = make_store(tmp_path / "store", compile_study(study, plan.execution), Truth())
    page = browser.new_page()
    page.goto(write_report(read_results(store.location), tmp_path / "report").as_uri())
    name = "sound+classifier.batch_size=128+classifier.learning_rate=0.002+classifier.beta2=0.99"
    assert name in page.locator("figcaption").first.inner_text()
    for width in (1280, 1024, 360):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_every_image_has_loaded(opened: Opened) -> None:
    opened.page.evaluate(
        "for (const image of document.images) image.loading = 'eager';"
        "Promise.all([...document.images].map((image) => image.decode()))"
    )
    sizes = opened.page.evaluate(
        "[...document.images].map((image) => [image.naturalWidth, image.alt.length])"
    )
    assert sizes and all(width > 0 and length > 0 for width, length in sizes)


def test_a_press_on_a_head_sorts_by_numbers_and_says_so(opened: Opened) -> None:
    table = opened.page.locator("table", has=opened.page.get_by_role("button", name="diverged")).first
    head = table.locator("th[scope=col]", has_text="complete")
    for order in ("ascending", "descending"):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        assert column_values(table, head) == sorted(column_values(table, head), reverse=order == "descending")
    assert table.locator("[aria-sort=ascending], [aria-sort=descending]").count() == 1


def test_a_filter_leaves_the_rows_that_hold_its_words(opened: Opened) -> None:
    article = opened.page.locator("#t0-leaders")
    assert article.locator("tbody tr:visible").count() > 4
    article.get_by_role("searchbox").fill("OVERSAMPLE 7/9")
    rows = article.locator("tbody tr:visible")
    assert rows.count() == 2 and all("oversample" in text for text in rows.all_inner_texts())
    article.get_by_role("searchbox").fill("")
    assert article.locator("tbody tr:visible").count() > 4


def test_all_columns_are_one_click_away_and_six_fit(opened: Opened) -> None:
    heads = opened.page.locator("#t2-differences table").first.locator("thead th:visible")
    shown = heads.all_inner_texts()
    assert len(shown) == 6 and shown[-1].startswith("verdict") and any("Holm p" in text for text in shown)
    opened.page.locator("#t2-differences").get_by_role("checkbox").check()
    assert heads.count() == 11
    opened.page.locator("#t2-differences").get_by_role("checkbox").uncheck()
    if opened.page.viewport_size["width"] >= 1280:  # type: ignore[index]  # it was made with one
        too_wide = (
            "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
        )
        assert opened.page.evaluate(f"{too_wide}.map((e) => e.ariaLabel)") == []
    most = "(table) => [...table.tHead.rows[0].cells].filter((cell) => cell.offsetParent).length"
    assert max(opened.page.locator("table").evaluate_all(f"(tables) => tables.map({most})")) <= 6


def test_a_mark_tells_its_value_when_pointed_at(opened: Opened) -> None:
    opened.page.locator("#f1-replicates-1 .mark use").first.dispatch_event("pointerover")
    told = opened.page.locator("#tip")
    assert told.is_visible() and "seed" in told.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_page_and_figures_stands_out_in_both_schemes(
    browser: Browser, report_page: Path, scheme: str
) -> None:
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]  # one of two words
    page.goto(report_page.as_uri())
    colours = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, ...['p', '#f1-replicates-1 text'].map((name) => "
        "document.querySelector(name)).map((e) => getComputedStyle(e)).map((s, i) => i ? s.fill : s.color)]"
    )
    ground, *inks = (sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in colours)
    assert (ground < 64) == (scheme == "dark") and all(abs(ground - ink) > 100 for ink in inks)
    page.close()


def test_a_head_is_sorted_from_the_keyboard(opened: Opened) -> None:
    head = opened.page.locator("th[scope=col]").first
    head.get_by_role("button").focus()
    opened.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"


def column_values(table, head) -> list[float]:  # type: ignore[no-untyped-def]
    index = head.evaluate("head => head.cellIndex")
    cells = table.locator("tbody tr").evaluate_all(
        "(rows, index) => rows.map((row) => row.cells[index].dataset.value)", index
    )
    return [float(value) for value in cells]


def test_headings_descend_one_level_at_a_time_and_heads_have_a_scope(opened: Opened) -> None:
    levels = opened.page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    assert opened.page.locator("th:not([scope])").count() == 0


def test_report_prints(browser: Browser, report_page: Path) -> None:
    page = browser.new_page()
    page.goto(report_page.as_uri())
    pdf = page.pdf(format="A4")
    page.emulate_media(media="print")
    assert pdf.startswith(b"%PDF") and not page.locator("nav").is_visible()
    # Chromium does not repeat the head of a table on the next page if it contains a button as a box.
    boxes = "all => all.map(each => getComputedStyle(each).display)"
    assert set(page.eval_on_selector_all("th button", boxes)) == {"contents"}
    page.close()
