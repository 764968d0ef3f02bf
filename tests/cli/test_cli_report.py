"""``fastrnn report``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers import require_library
from helpers.program import run
from helpers.report_models import random_model

import fastrnn
from fastrnn.cli import report as module

require_library("jinja2")


def lines_of(page: Path) -> list[str]:
    """The lines of the text on a page, without tags."""
    text = page.read_text(encoding="utf-8").split('<div id="text"')[1].split("<aside")[0]
    found = re.findall(r'<div dir="auto">(.*?)</div>', text)
    return [re.sub(r"<[^>]*>", "", line) for line in found]


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def save(unit: str = "character", **options: Any) -> Path:
        path = tmp_path / "model.safetensors"
        random_model(unit, backend="numpy", **options).save(path)
        return path

    return save


def test_a_file_and_stdin_have_the_same_page_as_in_python(tmp_path: Path, saved: Any):
    model, text, page = saved(), tmp_path / "t<b>.txt", tmp_path / "page.html"
    text.write_bytes(b"abc\r\nde\n")
    result = run("report", model, text, "-o", page, "--backend", "numpy", "--unknown", 0.5)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert result.stderr == f"wrote {page}\n"
    assert lines_of(page) == ["abcCR↵", "de↵"]
    title = re.search("<title>(.*?)</title>", page.read_text(encoding="utf-8"))[1]
    assert title == "What model.safetensors sees in t&lt;b&gt;.txt"
    expected = fastrnn.show(fastrnn.load(model, backend="numpy"), "abc\r\nde\n", unknown=0.5).html
    run("report", model, "-", "-o", page, "--backend", "numpy", "--unknown", 0.5, stdin=text.read_bytes())
    found = page.read_text(encoding="utf-8")
    assert found.split("</header>")[1] == expected.split("</header>")[1]


@pytest.mark.parametrize(
    ("options", "lines", "expected"),
    [
        ({}, False, ["ab↵", "↵", "c"]),
        ({}, True, ["ab", "c"]),
        ({"documents": True}, False, ["ab∎", "∎", "c∎"]),
    ],
)
def test_lines_are_texts(tmp_path: Path, saved: Any, options: Any, lines: bool, expected: list[str]):
    page = tmp_path / "page.html"
    result = run("report", saved(**options), "-", "-o", page, *["--lines"] * lines, stdin=b"ab\n\nc")
    assert result.exit_code == 0, result.stderr
    assert lines_of(page) == expected


def test_parts_between_a_separator_are_texts(tmp_path: Path):
    model, text, page = tmp_path / "m", tmp_path / "text", tmp_path / "page.html"
    text.write_text("ab%%b\na%%a")
    assert (
        run("train", text, "-o", model, "--separator", "%%", "--steps", 2, "--hidden-size", 4).exit_code == 0
    )
    for options, expected in (
        ([], ["ab∎", "b↵", "a∎", "a∎"]),
        (["--separator", r"b\n", "--unknown", "skip"], ["ab··∎", "a··a∎"]),
    ):
        assert run("report", model, text, "-o", page, *options).exit_code == 0
        assert [line.replace("%", "·") for line in lines_of(page)] == expected
    assert "exclude each other" in run("report", model, text, "--lines", "--separator", "a").stderr


def test_tokens_are_read_by_their_names(tmp_path: Path, saved: Any):
    page, model = tmp_path / "page.html", saved("token", documents=True)
    result = run("report", model, "-", "-o", page, stdin=b"the cat\nsat  on\tmat")
    assert result.exit_code == 0, result.stderr
    assert lines_of(page) == ["thecat∎", "saton" + "mat∎"]
    result = run("report", model, "-", "-o", page, stdin=b"the dog")
    assert result.exit_code == 1
    assert "stdin has 'dog', which is not among the model's 8 tokens" in result.stderr
    assert run("report", model, "-", "-o", page, "--unknown", "skip", stdin=b"the dog").exit_code == 0


def test_a_long_file_is_not_read_to_its_end(tmp_path: Path, saved: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LONGEST_READ", 50_000)
    page = tmp_path / "page.html"
    for options in ([], ["--lines"]):
        text = b"a" * 1_000_000 + b"\xff"  # it is read in pieces of 262,144 bytes
        result = run("report", saved(), "-", "-o", page, *options, stdin=text)
        assert result.exit_code == 0, result.stderr
        assert lines_of(page) == ["a" * 20_000]


def test_what_cannot_be_written_or_read_is_an_error(tmp_path: Path, saved: Any):
    model = saved()
    for arguments, message in [
        ([model, tmp_path / "none"], "No such file"),
        ([model, "-", "-o", tmp_path / "no" / "page.html"], "the folder of"),
        ([model, "-", "-o", tmp_path], "is a directory"),
        ([model, "-", "-o", tmp_path / "page", "--unknown", "maybe"], "must be 'error'"),
        ([model, "-", "-o", tmp_path / "page", "--encoding", "no"], "is not a text encoding"),
        ([model, "-", "-o", tmp_path / "page"], "the text has 'X' at position 1"),
    ]:
        result = run("report", *arguments, stdin=b"aX")
        assert result.exit_code == 1
        assert message in result.stderr
    assert not (tmp_path / "page").exists()


def test_inputs_are_not_replaced_and_a_page_may_go_to_stdout(tmp_path: Path, saved: Any):
    model, text = saved(), tmp_path / "text"
    text.write_text("abc")
    for output in (model, text):
        before = output.read_bytes()
        result = run("report", model, text, "-o", output)
        assert (result.exit_code, output.read_bytes()) == (1, before)
        assert "is the file that is read: it would be replaced" in result.stderr
    assert (
        "is not a regular file: a page would replace it"
        in run("report", model, text, "-o", "/dev/null").stderr
    )
    result = run("report", model, text, "-o", "-")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("<!DOCTYPE html>")
    assert not (tmp_path / "-").exists()
