"""`fastrnn tokens`: what it says of a corpus, for people and for programs."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.program import run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_bytes("\ufeffcafe\u0301 aaa\r\n\0\x1b\xa0\ufffd\ufeff\n".encode())
    return path


def described(*arguments: Any, stdin: bytes | None = None) -> dict[str, Any]:
    result = run("tokens", *arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_report_names_what_cannot_be_seen(file: Path):
    said = run("tokens", file).stdout
    assert said.startswith("symbols    16 characters\nlines      2\ndistinct   12 characters\n")
    for what in ("byte order marks: 1", "line ends CR LF: 1", "NUL characters: 1", "changed by NFC\n"):
        assert f"found      {what}" in said
    for what in (
        "replacement characters: 1",
        "other control characters: 1",
        "format characters: 1",
        "other spaces: 1",
    ):
        assert f"found      {what}" in said
    assert r"4  25.000 %  U+0061   'a'      LATIN SMALL LETTER A" in said
    assert r"1   6.250 %  U+0000   '\x00'   NULL" in said
    assert r"'\x1b'   ESCAPE" in said
    assert r"'\ufeff' ZERO WIDTH NO-BREAK SPACE" in said
    assert "COMBINING ACUTE ACCENT" in said
    assert "fewer than   2 times: 10 characters, 62.5 % of the text" in said
    assert "line ends CR:" not in said
    assert "\x1b" not in said


def test_top_limits_the_table(file: Path):
    said = run("tokens", file, "--top", 3).stdout
    table, unusual = said.split("unusual symbol")
    assert (table.count("U+"), unusual.count("U+")) == (3, 3)
    assert "and 9 more" in said
    assert run("tokens", file, "--top", 0).stdout.count("U+") == 12 + 5
    assert len(described(file, "--top", 3)["top"]) == 3
    assert len(described(file)["top"]) == 12
    (file.parent / "many").write_text("".join(map(chr, range(33, 99))))
    assert run("tokens", file.parent / "many").stdout.count("U+") == 20


def test_json_has_all(file: Path):
    found = described(file, "--lines")
    assert (found["unit"], found["symbols"], found["lines"], found["longest"]) == ("character", 14, 2, 9)
    first = {"symbol": "a", "code": "U+0061", "name": "LATIN SMALL LETTER A", "count": 4, "share": 4 / 14}
    assert found["top"][0] == first
    assert found["found"]["changed_by_NFC"] is True
    assert found["found"]["line_ends_CR"] == 0
    assert [row["code"] for row in found["unusual"]] == ["U+0000", "U+001B", "U+00A0", "U+FEFF", "U+FFFD"]
    assert found["rare"][0] == {"fewer_than": 2, "distinct": 10, "share": 10 / 14}
    assert described(file, "--normalization", "nfc")["symbols"] == 15
    assert described(file, "--newlines", "keep")["symbols"] == 18
    parts = described(file, "--separator", r"a\n")
    assert (parts["documents"], parts["longest"]) == (2, 8)


def test_inputs_are_those_of_train(file: Path, tmp_path: Path):
    data = file.read_bytes()
    (tmp_path / "b.gz").write_bytes(gzip.compress(data))
    expected = described(file)
    assert described(tmp_path / "b.gz") == described("-", stdin=data) == expected
    twice = described(tmp_path / "*.gz", file)
    assert (twice["symbols"], twice["lines"]) == (2 * expected["symbols"], 4)
    (tmp_path / "utf-16").write_bytes(data.decode().removeprefix("\ufeff").encode("utf-16"))
    assert described(tmp_path / "utf-16", "--encoding", "utf-16")["symbols"] == expected["symbols"]
    as_bytes = described(file, "--bytes")
    assert as_bytes["symbols"] == len(data)
    assert as_bytes["found"] == {}
    assert {"symbol": r"'\x1b'", "code": "0x1B", "count": 1, "share": 1 / len(data)} in as_bytes["top"]
    assert "0x1B" in run("tokens", file, "--bytes", "--top", 0).stdout
    assert described("-", stdin=b"")["top"] == []
    assert run("tokens", "-", stdin=b"").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["none"], "No such file or directory"),
        (["*.none"], "no file matches *.none"),
        ([], "Missing argument 'FILES...'"),
        (["-", "--normalization", "x"], "normalization='x' is not known"),
        (["-", "--normalization", "nfc", "--bytes"], "normalization='nfc' is for characters"),
        (["-", "--newlines", "x"], "newlines='x' is not known"),
        (["-", "--encoding", "x"], "encoding='x' is not a text encoding"),
        (["-", "--lines", "--separator", "a"], "separator='a' and lines=True exclude each other"),
        (["-", "--separator", ""], "separator='' is empty"),
        (["-"], "stdin is not UTF-8: byte 0xff at offset 1"),
    ],
)
def test_errors_are_named(options: list[str], message: str):
    result = run("tokens", *options, stdin=b"a\xff")
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert result.stdout == ""


def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    path = tmp_path / "long"
    with path.open("wb") as file:
        for _ in range(40):
            file.write("the quick brown fox jumps over the lazy dög\n".encode() * 20_000)
    code = """
import resource, sys
from fastrnn.cli.main import main
def peak(path):
    main(["tokens", path, "--lines"], standalone_mode=False)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
short = peak(sys.argv[1])
print(peak(sys.argv[2]) - short)
"""
    (tmp_path / "short").write_bytes(path.read_bytes()[: 1 << 20])
    command = [sys.executable, "-c", code, tmp_path / "short", path]
    printed = subprocess.run(command, check=True, capture_output=True).stdout
    assert int(printed.split()[-1]) < 10_000  # kB; the file has 36 MB
