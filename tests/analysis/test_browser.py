"""The report in a real browser, on a desk and on a phone: it loads, fits, sorts, prints, asks for nothing."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from analysis.collect import read_results
from analysis.report import write_report
from tests.analysis.synthetic import Truth, make_store, plan_study

pytestmark = pytest.mark.slow
WIDTHS = [1280, 375, 360]
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of both protocols, with collapsed runs and with one run missing."""
    root = tmp_path_factory.mktemp("browser")
    plan = plan_study(protocols=("paper", "sound"), num_seeds=3)
    truth = Truth(collapse_rate=lambda run: 0.5 * (run.cell.method_label == "none"))
    store = make_store(root / "store", plan, truth)
    (Path(store.location) / "stages" / plan.runs[0].key / "result.json").unlink()
    return write_report(read_results(store.location, allow=["gaps"]), root / "report")


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
    table = opened.page.locator("table", has=opened.page.get_by_role("button", name="planned")).first
    head = table.locator("th[scope=col]", has_text="complete")
    for order in ("ascending", "descending"):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        assert column_values(table, head) == sorted(column_values(table, head), reverse=order == "descending")
    assert table.locator("[aria-sort=ascending], [aria-sort=descending]").count() == 1


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
    page.close()
