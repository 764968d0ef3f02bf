"""The page of a report: everything is escaped and visible, nothing is loaded, and its size is bounded."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from helpers import require_library
from helpers.report_models import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import Model
from fastrnn.report.excerpt import MAX_SYMBOLS, Excerpt
from fastrnn.report.page import Names, Seen
from fastrnn.report.show import Report
from fastrnn.report.symbols import sign_of_byte, sign_of_character

require_library("jinja2")

HOSTILE = (
    "<script>alert(1)</script>\"'&<!--\0\x1b[31m\u202e\u2066\r\n\ufeff\u2028\ud800]]></script>{{ 7 * 7 }}"
)


class Page(HTMLParser):
    """The tags of a page, the text of its element ``text``, and the contents of its scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.lines: list[list[str]] = []
        self.scripts: list[str] = []
        self._depth = 0
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if ("id", "text") in attrs:
            self._depth = 1
        elif self._depth and tag == "div":
            self._depth += 1
            self.lines.append([])
        if tag == "span" and self._depth:
            self.lines[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._depth -= bool(self._depth) and tag == "div"

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts.append(data)
        if self._depth > 1:
            self.lines[-1][-1] += data


def page_of(model: Model, text: Any, **options: Any) -> Page:
    return Page(fastrnn.show(model, text, **options).html)


def test_a_hostile_text_and_names_are_shown_and_do_nothing():
    model = random_model(backend="numpy")
    excerpt = Excerpt.of(model.vocabulary, HOSTILE)
    page = Page(Report.of(model, excerpt, 0.01, Names(HOSTILE[:30], HOSTILE[:30])).html)
    plain = page_of(model, "a" * len(excerpt.texts[0]), unknown=0.01)
    assert sorted(set(page.tags)) == sorted(set(plain.tags))
    assert page.tags.count("script") == 2
    expected = HOSTILE
    for character, sign in {
        "\0": "NUL",
        "\x1b": "ESC",
        "\u202e": r"\u202e",
        "\u2066": r"\u2066",
        "\r": "CR",
        "\n": "↵",
        "\ufeff": r"\ufeff",
        "\u2028": r"\u2028",
        "\ud800": r"\ud800",
    }.items():
        expected = expected.replace(character, sign)
    assert "".join(sign for line in page.lines for sign in line) == expected
    assert len(page.lines) == 2


def test_the_page_allows_only_its_own_style_and_script():
    source = fastrnn.show(random_model(backend="numpy"), "abc").html
    (policy,) = (
        value
        for _, name, value in Page(source).attributes
        if name == "content" and value.startswith("default")
    )
    contents = re.findall(r"<style>(.*?)</style>|<script>(.*?)</script>", source, re.DOTALL)
    for content in map("".join, contents):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    for _, name, value in Page(source).attributes:
        assert name not in {"src", "style", "onclick", "onload"}
        assert name != "href" or value.startswith("#")
    assert not re.search(r"url\(|@import|https?:", source)


@pytest.mark.parametrize("unit", ["character", "byte", "token"])
@pytest.mark.parametrize("documents", [False, True])
def test_every_kind_of_model_has_a_page(unit: str, documents: bool):
    model = random_model(unit, documents=documents, backend="numpy")
    text = {"character": "ab\ncd", "byte": b"ab\ncd\xff", "token": [1, 2, 5]}[unit]
    signs = {"character": ["a", "b", "↵", "c", "d"], "byte": ["a", "b", "↵", "c", "d", "ff"]}
    expected = signs.get(unit, ["cat", "<b>", "ESC[31m"])
    page = page_of(model, [text, text])
    found = [sign for line in page.lines for sign in line]
    assert found == (expected + ["∎"] * documents) * 2
    assert len(page.lines) == (2 if unit == "token" else 4)
    for empty in (text[:0], [text[:0]] * 3, iter([])):
        source = fastrnn.show(model, empty).html
        assert documents or "The text is empty." in source


def test_the_data_is_what_the_trace_says():
    model = random_model(backend="numpy", dtype="float64")
    data = json.loads(page_of(model, "abc\nXa", unknown="skip").scripts[0])
    bits = model.surprisal("abc\na")
    assert data["bits"] == [*np.rint(1000 * bits[:4]), -1, round(1000 * bits[4])]
    shown = [data["signs"][place][0] for place in data["shown"]]
    assert shown == ["a", "b", "c", "↵", "X", "a"]
    assert len(data["top"]) == len(data["shares"]) == 5 * 6
    assert data["rank"][4] == 0
    assert data["levels"][4] == "x"


@given(st.text(max_size=40))
@settings(max_examples=25, deadline=None)
def test_any_text_is_shown(text: str):
    model = random_model(backend="numpy", hidden_size=2)
    seen = Seen.of(model, Excerpt.of(model.vocabulary, text), 1e-3)
    cells = seen.cells(seen.levels, slice(0, len(text)))
    lines = list(seen.lines(cells))
    assert [cell for line in lines for cell in line] == cells
    assert [cell.text for cell in cells] == [sign_of_character(c).text for c in text]
    assert len(lines) == len(re.findall(r".*\n|.+", text))


@given(st.characters())
@settings(deadline=None)
def test_every_sign_is_visible(character: str):
    for sign in (sign_of_character(character), *map(sign_of_byte, character.encode(errors="replace"))):
        for text in (sign.text, sign.label, sign.name):
            assert text
            assert all(unicodedata.category(c)[0] != "C" or not text.isprintable() for c in text)
            assert text.isprintable()
        assert sign.label != " "


@pytest.mark.parametrize("unit", ["character", "byte"])
def test_the_largest_page_is_below_3_megabytes(unit: str):
    """The text is random, so the model's predictions and the signs are as long as they can be."""
    model = random_model(unit, hidden_size=8, backend=require_backend("c"))
    rng = np.random.default_rng(0)
    text = rng.bytes(MAX_SYMBOLS + 5) if unit == "byte" else "\u200b\u200c" * MAX_SYMBOLS
    report = fastrnn.show(model, text, unknown=1e-3)
    assert f"the first {MAX_SYMBOLS:,} symbols" in report.html
    assert len(report.html.encode()) < 3e6


def test_the_page_has_the_same_bytes_with_any_backend_and_threads():
    require_backend("numba")
    require_backend("c")
    model = random_model(cell="gru", num_layers=2, backend="c")
    text = "abc (def)\nABC, é" * 30
    expected = fastrnn.show(model, text).html
    for backend, threads in (("numba", 1), ("numba", 2), ("c", 2)):
        other = Model.from_bytes(model.to_bytes(), backend=backend, threads=threads)
        assert fastrnn.show(other, text).html == expected


def test_a_report_is_saved_and_drawn_by_a_notebook(tmp_path: Path):
    model = random_model(backend="numpy")
    report = fastrnn.show(model, "abc <b>", unknown=0.5)
    report.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == report.html
    frame = Page(report._repr_html_())
    assert frame.tags == ["iframe"]
    assert ("iframe", "srcdoc", report.html) in frame.attributes
    assert html.escape("<b>") not in repr(report)
    with pytest.raises(IsADirectoryError):
        report.save(tmp_path)


def test_without_jinja2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ValueError, match=r"needs the package jinja2: pip install 'fastrnn\[report\]'"):
        fastrnn.show(random_model(backend="numpy"), "abc")


def test_what_is_no_model_is_an_error():
    with pytest.raises(TypeError, match="model='abc' must be a fastrnn.Model"):
        fastrnn.show("abc", "abc")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown='maybe' must be"):
        fastrnn.show(random_model(backend="numpy"), "abc", unknown="maybe")
