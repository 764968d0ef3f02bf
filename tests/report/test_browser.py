"""The page of a report in Chromium: it is safe, usable with a keyboard and a screen reader, and readable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import require_library
from helpers.report_models import random_model

import fastrnn
from fastrnn.report.excerpt import Excerpt
from fastrnn.report.page import Names
from fastrnn.report.show import Report

require_library("jinja2")
playwright = require_library("playwright.sync_api")

TEXT = 'ABC abc (def) "ghi"\n\tj, a. é\'\n' * 4
HOSTILE = (
    '<script>window.ran = 1</script><img src=x onerror="window.ran = 1">'
    "'\"`&\0\x1b]0;x\x07\u202eab\u2066\ufeff"
)

#: The sizes of two screens.
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The Chromium of the system. If it is missing, skip, or fail if FASTRNN_REQUIRE_BROWSER is set."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("FASTRNN_REQUIRE_BROWSER"):
            pytest.fail("FASTRNN_REQUIRE_BROWSER asks for Chromium: apt install chromium")
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report() -> Report:
    """A page with every part: units, passages, calibration, and a history with a text that was held out."""
    model = random_model(backend="numpy", hidden_size=8)
    model.history = [
        {"step": k, "loss": 3 / (k + 1), "validation_loss": 3.1 / (k + 1), "learning_rate": 0.1}
        for k in range(50)
    ]
    return fastrnn.show(model, TEXT)


@contextmanager
def opened(browser: Any, folder: Path, html: str, **options: Any) -> Iterator[Any]:
    """A page that was opened from a file; it may say nothing on the console, and load nothing else."""
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    page = context.new_page()
    said: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert said == []
    assert requests == [path.as_uri()]


def text_of(page: Any, element: str) -> str:
    return page.locator(element).inner_text()


def test_a_hostile_text_does_not_run(browser: Any, tmp_path: Path):
    model = random_model(backend="numpy")
    excerpt = Excerpt.of(model.vocabulary, HOSTILE + TEXT)
    html = Report.of(model, excerpt, 0.001, Names(HOSTILE, HOSTILE)).html
    with opened(browser, tmp_path, html) as page:
        assert page.evaluate("window.ran") is None
        assert page.locator("#text img, #text script").count() == 0
        assert "<script>window.ran = 1</script>" in text_of(page, "#text")
        page.evaluate(f"for (let k = 0; k < {len(HOSTILE)}; k++) document.getElementById('next').click()")
        assert page.evaluate("window.ran") is None
        assert page.locator("#position").input_value() == str(len(HOSTILE))


@pytest.mark.parametrize(("unit", "documents"), [("character", True), ("byte", False), ("token", True)])
def test_every_kind_of_model_has_a_page_without_errors(
    browser: Any, tmp_path: Path, unit: str, documents: bool
):
    model = random_model(unit, documents=documents, backend="numpy")
    text = {"character": TEXT, "byte": TEXT.encode(), "token": [0, 1, 2, 5, 2] * 30}[unit]
    with opened(browser, tmp_path, fastrnn.show(model, [text, text[:9]]).html) as page:
        assert page.locator("#text .now").count() == 1
        page.locator("#text").press("End")
        if documents:
            assert text_of(page, "#name") == "the end of a document"
    with opened(browser, tmp_path, fastrnn.show(model, text[:0]).html) as page:
        assert page.locator("#inspector").is_visible() == documents


def test_the_keyboard_moves_through_the_symbols(browser: Any, tmp_path: Path, report: Report):
    with opened(browser, tmp_path, report.html) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.locator("#text").focus()
        for key, name in [
            ("ArrowRight", "LETTER B"),
            ("ArrowRight", "LETTER C"),
            ("ArrowLeft", "LETTER B"),
            ("ArrowDown", "LETTER J"),
            ("ArrowUp", "LETTER"),
            ("End", "character LF"),
            ("ArrowRight", "character LF"),
            ("Home", "LETTER A"),
            ("ArrowLeft", "LETTER A"),
        ]:
            page.keyboard.press(key)
            assert name in text_of(page, "#name")
            assert name in page.locator("#spoken").text_content()
            assert name in page.locator("#position").get_attribute("aria-valuetext")
            assert page.locator("#expected tr").count() == 5
        page.locator("#position").focus()
        page.keyboard.press("ArrowRight")
        assert "LETTER B" in text_of(page, "#name")
        page.locator("#surprise").press("Enter")
        bits = float(text_of(page, "#score").split(" bits")[0])
        assert bits >= 6
        assert page.locator(".now").evaluate("e => e.matches('.s5, .s6, .s7')")


def test_the_pointer_shows_the_top_predictions(browser: Any, tmp_path: Path, report: Report):
    with opened(browser, tmp_path, report.html) as page:
        symbols = page.locator("#text span")
        symbols.nth(1).hover()
        assert "LETTER B" in text_of(page, "#name")
        shares = [
            float(text.split()[0]) for text in page.locator("#expected td:last-child").all_inner_texts()
        ]
        assert shares == sorted(shares, reverse=True)
        page.mouse.move(0, 0)
        assert "LETTER A" in text_of(page, "#name")
        symbols.nth(1).click()
        page.mouse.move(0, 0)
        assert "LETTER B" in text_of(page, "#name")
        link = page.locator(".passages a").first
        link.click()
        assert page.locator("#position").input_value() == link.get_attribute("data-place")


def test_the_text_can_be_coloured_by_a_unit(browser: Any, tmp_path: Path, report: Report):
    with opened(browser, tmp_path, report.html) as page:
        assert page.locator("#units article").count() > 0
        before = page.locator("#text").inner_html()
        page.locator("button.whole").first.click()
        assert page.locator("#colour").input_value() == "0"
        assert page.locator("#legend-unit").is_visible()
        assert page.locator("#text [class^=s]").count() == 0
        assert page.locator("#activation").is_visible()
        page.locator("#colour").select_option("-1")
        assert page.locator("#text").inner_html() == before
        assert page.locator("#legend-surprisal").is_visible()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_it_is_accessible(browser: Any, tmp_path: Path, report: Report, size: Any, scheme: str):
    """The rules are axe-core's. They include the contrast of all text that is shown."""
    axe = require_library("axe_playwright_python.sync_playwright").Axe()
    with opened(browser, tmp_path, report.html, viewport=size, color_scheme=scheme) as page:
        found = axe.run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
        page.evaluate("document.querySelector('#colour option').textContent = 'long '.repeat(50)")
        width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1]


CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const luminance = (colour) => {
    const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = channels(colour).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [..."1234567"].map((l) => "s" + l).concat([..."abcdfghi"].map((l) => "u" + l)).map((level) => {
    const span = document.createElement("span");
    span.className = level;
    document.querySelector("#text div").append(span);
    const { color, backgroundColor } = getComputedStyle(span);
    span.remove();
    const [light, dark] = [luminance(color), luminance(backgroundColor)].sort((a, b) => b - a);
    return [level, (light + 0.05) / (dark + 0.05), luminance(backgroundColor)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_has_contrast_and_the_order_of_its_lightness(
    browser: Any, tmp_path: Path, report: Report, scheme: str
):
    """Lightness falls with surprisal, or rises in dark mode, so the order needs no colour vision."""
    with opened(browser, tmp_path, report.html, color_scheme=scheme) as page:
        found = page.evaluate(CONTRASTS)
    assert all(contrast >= 4.5 for _, contrast, _ in found), found
    lightness = {level: value for level, _, value in found}
    for levels in ("s1 s2 s3 s4 s5 s6 s7", "ud uc ub ua", "uf ug uh ui"):
        values = [lightness[level] for level in levels.split()]
        assert values == sorted(values, reverse=scheme == "light"), levels


def test_the_whole_text_is_printed_on_white(browser: Any, tmp_path: Path, report: Report):
    with opened(browser, tmp_path, report.html, color_scheme="dark") as page:
        dark = page.evaluate("getComputedStyle(document.body).color")
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).color") != dark
        assert not page.locator("#inspector").is_visible()
        height = page.evaluate(
            "[document.getElementById('text').scrollHeight, document.getElementById('text').clientHeight]"
        )
        assert height[0] <= height[1]
        assert page.pdf().startswith(b"%PDF")


def test_without_scripts_the_text_is_coloured(browser: Any, tmp_path: Path, report: Report):
    with opened(browser, tmp_path, report.html, java_script_enabled=False) as page:
        assert page.locator("#text span").count() == len(TEXT)
        assert page.locator("noscript p").is_visible()
        assert not page.locator("#inspector").is_visible()


def test_a_notebook_s_frame_has_a_page_that_works(browser: Any, tmp_path: Path, report: Report):
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.set_content(report._repr_html_())
    frame = page.frame_locator("iframe")
    frame.locator("#text").press("ArrowRight")
    assert "LETTER B" in frame.locator("#name").inner_text()
    frame.locator(".passages a").first.click()
    assert frame.locator("#text .now").is_visible()
    context.close()
    assert said == []
