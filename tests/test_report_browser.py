"""report.html in a real browser: what a reader does with it, at a desk and on a phone, without a network and without an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.utils.compare.studies import HOSTILE, make_gallery, make_study
from utils.compare.page.report_data import build_report_data
from utils.compare.report import html_page

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")

CHROMIUM = next((p for p in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")) if p.exists()), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium in /usr/bin; apt-get install chromium")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDE, PHONE = 1440, 390


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    study = make_study(folder, names=tuple(f"class {i}" for i in range(20)))
    path = folder / "report.html"
    path.write_text(html_page(study, build_report_data(study), make_gallery(study)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


class Opened:
    """The page in a window of its own, with all it said and asked for."""

    def __init__(self, browser: Any, report: Path, width: int, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.context.set_default_timeout(20000)  # milliseconds; a loaded machine is slow
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())

    def names(self) -> list[str]:
        return [text.split("\n")[0] for text in self.page.locator("#grid tbody th").all_inner_texts()]

    def column(self, label: str) -> list[str]:
        head = self.page.locator("#grid thead tr:last-child th").all_text_contents()
        at = next(i for i, text in enumerate(head) if text.startswith(label))
        return self.page.locator(f"#grid tbody tr > :nth-child({at + 1})").all_inner_texts()

    def close(self) -> None:
        """The reader leaves; nothing may have gone wrong meanwhile."""
        requests = [url for url in self.asked if not url.startswith(("file://", "data:image/jpeg"))]
        self.context.close()
        assert not self.said
        assert not requests


@pytest.fixture(params=[WIDE, PHONE])
def opened(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Opened]:
    window = Opened(browser, report, request.param)
    yield window
    window.close()


@pytest.fixture
def wide(browser: Any, report: Path) -> Iterator[Opened]:
    window = Opened(browser, report, WIDE)
    yield window
    window.close()


def choose(page: Any, group: str, name: str) -> None:
    page.locator(f"#{group}").get_by_role("radio", name=name, exact=True).check()


def numbers(texts: list[str]) -> list[float]:
    found = [re.match(r"[+−]?[\d.]+", t.strip()) for t in texts]
    return [float(m[0].replace("−", "-")) for m in found if m]


def test_everything_is_there_and_nothing_sticks_out(opened: Opened) -> None:
    page = opened.page
    assert page.locator("h1").text_content() == "yolov5n-ca is better than yolov5n by 1.31\u00a0AP; one is worse; no verdict on two"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert len(opened.names()) == 8
    assert page.locator("#forest .forest-row:not(.axis) svg[role=img]").count() == 7
    assert page.locator("#pareto svg[role=group]").count() == 3
    assert page.locator("#chart path").count() == 14  # of seven variants a band and a line
    assert not [part for part in ("#grid", "#forest", "#pareto", "#chart", "#heat") if "NaN" in page.locator(part).inner_html()]
    assert "undefined" not in page.locator("main").inner_text()


def test_heads_keep_their_words_and_bars_hide_what_lies_under_them(opened: Opened) -> None:
    page = opened.page
    breaks = """[...document.querySelectorAll('.focus-table thead th')].map(n => {
        const range = document.createRange(), words = n.textContent.trim();
        range.selectNodeContents(n);
        return [words, range.getClientRects().length, words.split(/\\s+/).length];
    }).filter(([, lines, words]) => lines > words)"""
    assert page.evaluate(breaks) == []
    for bar in (".bar", ".switch"):
        assert re.fullmatch(r"rgb\(.*\)", page.evaluate(f"getComputedStyle(document.querySelector('{bar}')).backgroundColor"))  # no alpha
    for anchor in page.locator("nav a").all():
        anchor.click()
        page.wait_for_function(
            """(id) => { const top = document.querySelector(id + ' h2').getBoundingClientRect().top;
            return top > document.querySelector('#switch').getBoundingClientRect().bottom - 1 && top < innerHeight; }""",
            arg=anchor.get_attribute("href"),
        )


def axis_labels(page: Any, chart: str, anchor: str) -> list[float]:
    """The numbers beside an axis: its texts are centred below the horizontal one, and end at the vertical one."""
    texts = page.locator(f"{chart} text[text-anchor={anchor}]").all_text_contents()
    return [float(t.replace("−", "-")) for t in texts if re.fullmatch(r"[−+]?[\d.]+", t)]


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_axes_have_whole_epochs_and_nothing_below_zero(browser: Any, tmp_path: Path, epochs: int) -> None:
    study = make_study(tmp_path, epochs=epochs, level=0.002)
    (tmp_path / "report.html").write_text(html_page(study, build_report_data(study), make_gallery(study, 1)), encoding="utf-8")
    window = Opened(browser, tmp_path / "report.html", WIDE)
    page = window.page
    for late in (False, True):
        page.get_by_label("second half of the epochs only").set_checked(late)
        across = axis_labels(page, "#chart", "middle")
        assert across
        assert all(x == int(x) for x in across)
        assert "NaN" not in page.locator("#chart").inner_html()
    for chart in ("#chart", "#pareto"):
        assert min(axis_labels(page, chart, "middle") + axis_labels(page, chart, "end")) >= 0
    window.close()


def test_hostile_names_do_nothing(wide: Opened) -> None:
    assert HOSTILE in wide.names()
    assert wide.page.locator("img[src=x]").count() == 0
    wide.page.evaluate("document.body.append(Object.assign(document.createElement('img'), {src: 'https://example.org/x.png'}))")
    wide.page.wait_for_timeout(100)
    assert any("Content Security Policy" in text for text in wide.said)
    wide.said.clear()
    wide.asked[:] = [url for url in wide.asked if "example.org" not in url]


def test_sorting_by_mouse_and_by_keyboard(wide: Opened) -> None:
    page = wide.page
    first = wide.names()
    head = page.locator("#grid th", has=page.get_by_role("button", name="Difference"))
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    gaps = numbers(wide.column("Difference"))
    assert gaps == sorted(gaps, reverse=True)
    assert wide.column("Difference")[-1] == "–"  # what has none comes last, whichever way
    page.keyboard.press("Enter")  # the button kept the focus through the redrawing
    assert head.get_attribute("aria-sort") == "ascending"
    gaps = numbers(wide.column("Difference"))
    assert gaps == sorted(gaps)
    assert wide.column("Difference")[-1] == "–"
    page.get_by_role("button", name="Variant").press("Enter")
    assert [n.lower() for n in wide.names()] == sorted(n.lower() for n in first)


def test_sorting_on_a_phone(browser: Any, report: Path) -> None:
    phone = Opened(browser, report, PHONE)
    phone.page.get_by_label("Sort by").select_option("parameters")
    phone.page.get_by_role("button", name="Largest first").click()
    assert phone.names()[0] == "yolov5n"
    phone.page.get_by_role("button", name="Smallest first").click()
    assert phone.names()[0] == "yolov5n-ca-control"
    phone.close()


def test_filtering(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("Find").fill("CA control")
    assert opened.names() == ["yolov5n-ca-control"]
    assert page.locator("#count").inner_text() == "1 of 8 variants"
    page.get_by_label("Find").fill("replace 6")  # what a variant changes is searched, too
    assert set(opened.names()) == {"yolov5n-ca", "yolov5n-bot", HOSTILE}
    page.locator("#only").select_option("worse")
    assert opened.names() == ["yolov5n-bot"]
    page.get_by_label("Find").fill("")
    page.locator("#only").select_option("")
    assert len(opened.names()) == 8


def test_an_empty_search_says_so_and_ends_by_a_button(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("Find").fill("swin")
    assert opened.names() == []
    assert page.locator("#grid .nothing td").inner_text().startswith("No variant has this name")
    page.get_by_role("button", name="Show all variants").click()
    assert len(opened.names()) == 8
    assert page.get_by_label("Find").input_value() == ""
    assert page.get_by_label("Find").evaluate("node => node === document.activeElement")


def test_another_metric_changes_table_forest_and_charts(opened: Opened) -> None:
    page = opened.page
    before = page.locator("#forest").inner_text()
    choose(page, "metrics", "AP50")
    assert page.locator("#metric-title").text_content() == "Average precision at IoU 0.50"
    assert "+1.41" in page.locator("#grid tr[data-variant='1']").inner_text()
    assert page.locator("#forest").inner_text() != before
    assert page.locator("#pareto h3").first.inner_text() == "AP50 against parameters"
    choose(page, "metrics", "AP S")  # no small objects at all
    assert "no difference available" in page.locator("#forest").text_content()
    assert "Not measured." in page.locator("#pareto").inner_text()
    choose(page, "metrics", "AP")
    assert page.locator("#forest").inner_text() == before


def test_columns_are_chosen(wide: Opened) -> None:
    heads = wide.page.locator("#grid thead tr:last-child th")
    assert heads.count() == 10
    choose(wide.page, "columns", "All")
    assert heads.count() == 20
    assert wide.column("F1")[0] == "96.72 ± 0.51"
    assert wide.column("Tensors")[1].split("\n") == ["349/349", "98 % of parameters"]
    assert wide.column("Training time")[1].split("\n") == ["7 min", "× 1.08"]


def test_curves_and_classes(opened: Opened) -> None:
    page = opened.page
    legend = page.locator("#legend").get_by_role("button")
    legend.first.click()
    assert legend.first.get_attribute("aria-pressed") == "false"
    assert page.locator("#chart path").count() == 12
    page.locator("#series").select_option("val/box_loss")
    assert "Box loss, validation" in page.locator("#chart svg").get_attribute("aria-label")
    page.get_by_label("second half of the epochs only").check()
    assert page.locator("#chart text", has_text="15").count() >= 1
    assert page.locator("#heat tbody tr").count() == 12
    page.get_by_role("button", name="Show all 20 classes").click()
    assert page.locator("#heat tbody tr").count() == 20


def test_errors_and_energy_have_their_differences(opened: Opened) -> None:
    page = opened.page
    rows = page.locator("#errors tbody tr")
    assert rows.count() == 7  # the variant that failed has none
    assert "+1.91 (+1.01 to +2.81)*" in rows.nth(1).inner_text()
    assert page.locator("#errors thead th").all_inner_texts()[1:3] == ["Classification", "Localisation"]
    page.get_by_role("link", name="Errors").click()
    assert page.locator(".focus-table tbody tr").nth(1).inner_text().split("\t")[-1] == "+3.0 (−1.0 to +7.0)"
    assert page.locator(".focus-table meter").first.is_visible() == (page.viewport_size["width"] == WIDE)


def test_images_side_by_side_and_one_over_another(opened: Opened) -> None:
    page = opened.page
    seen = page.locator(".scene:not([hidden]) .tile:not([hidden])")
    assert seen.count() == 8  # the truth and seven variants
    first = seen.nth(1).locator("img").get_attribute("src")
    choose(page, "views", "LayerCAM")
    assert seen.nth(1).locator("img").get_attribute("src") != first
    page.get_by_label("Next image").press("Enter")
    assert page.locator(".scene:not([hidden]) h3").inner_text().startswith(HOSTILE)
    assert page.locator("#scene-count").inner_text() == "2 of 3"
    tile = seen.nth(3).get_by_role("button")
    tile.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    assert page.locator("#left").input_value() == "0"
    assert page.locator("#right").input_value() == "2"
    assert dialog.locator("img").nth(1).get_attribute("src") == seen.nth(3).locator("img").get_attribute("src")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    assert "100%" in dialog.locator(".wipe").get_attribute("style")
    page.locator("#right").select_option("1")
    assert dialog.locator("img").nth(1).get_attribute("src") == seen.nth(2).locator("img").get_attribute("src")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert tile.evaluate("node => node === document.activeElement")


def test_every_control_is_reached_by_the_keyboard_and_has_a_name(wide: Opened) -> None:
    page = wide.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    nameless = """[...document.querySelectorAll('button, input, select, a')].filter(n => n.offsetParent && !(n.getAttribute('aria-label')
        || n.textContent.trim() || n.labels && n.labels.length)).map(n => n.outerHTML)"""
    assert page.evaluate(nameless) == []
    assert page.evaluate("[...document.querySelectorAll('[tabindex]')].every(n => n.tabIndex === 0)")
    page.locator("#pareto .pick").first.focus()
    assert page.locator("#tip").inner_text().startswith("yolov5n\nAP ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_are_legible_and_can_be_switched(browser: Any, report: Path, scheme: str) -> None:
    window = Opened(browser, report, WIDE, scheme)
    page = window.page
    background = "getComputedStyle(document.body).backgroundColor"
    dark = {"light": False, "dark": True}[scheme]
    assert (brightness(page.evaluate(background)) < 0.2) == dark
    assert not illegible(page)
    page.locator("#theme").click()
    assert (brightness(page.evaluate(background)) < 0.2) != dark
    assert not illegible(page)
    window.close()


def brightness(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` (WCAG 2.2)."""
    parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def illegible(page: Any) -> list[str]:
    """Texts of less contrast than 4.5 : 1 to the nearest opaque background (WCAG 2.2, level AA)."""
    pairs = page.evaluate("""[...document.querySelectorAll('h1, h2, p, li, td, th, label, span, small, summary, dt, dd, button, a, b')]
        .filter(n => n.offsetParent && [...n.childNodes].some(c => c.nodeType === 3 && c.textContent.trim())).map(n => {
            let at = n, back = 'rgba(0, 0, 0, 0)';
            while (at && /, 0\\)$/.test(back)) { back = getComputedStyle(at).backgroundColor; at = at.parentElement; }
            return [getComputedStyle(n).color, back, n.className + ' ' + n.textContent.trim().slice(0, 40)];
        })""")
    plain = [(c, b, t) for c, b, t in pairs if c.startswith("rgb(") and b.startswith("rgb(")]
    assert len(plain) > 100
    return [f"{text}: {colour} on {back}" for colour, back, text in plain if contrast(colour, back) < 4.5]


def contrast(one: str, other: str) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


def test_print_shows_every_image_and_no_control(wide: Opened) -> None:
    wide.page.emulate_media(media="print")
    assert wide.page.locator(".scene:visible").count() == 3
    assert wide.page.get_by_text("momentum", exact=True).is_visible()  # hyper-parameters, folded on the screen
    assert not wide.page.locator("#theme, #controls, #gallery-controls").filter(visible=True).count()
    assert brightness(wide.page.evaluate("getComputedStyle(document.body).backgroundColor")) == pytest.approx(1)
