"""Texts in files: any slice of any file in any encoding, and files that change."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import write_as_before
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastrnn.data import lines, streams, text_file
from fastrnn.data.lines import iter_parts
from fastrnn.data.text_file import (
    Lines,
    OpenFile,
    Separated,
    TextFile,
    checked_encoding,
    open_text,
)

#: Characters of one to four bytes, line ends and a byte order mark.
texts = st.text(st.sampled_from("ab\r\n\0é\u0439\ufeff日\U0001f600"), max_size=40)

in_a_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the entries of the index so short that characters lie across their borders."""
    monkeypatch.setattr(streams, "IN_MEMORY", 0)
    monkeypatch.setattr(text_file, "BYTES_PER_ENTRY", 5)
    monkeypatch.setattr(text_file, "SEARCHED_AT_ONCE", 3)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be small enough to be kept in memory."""
    monkeypatch.setattr(streams, "IN_MEMORY", 0)


def as_python_reads(data: bytes, encoding: str, newlines: str) -> str:
    """The text of a file as Python's reader of text files returns it."""
    reader = io.TextIOWrapper(io.BytesIO(data), encoding, newline=None if newlines == "universal" else "")
    text = reader.read()
    return text.removeprefix("\ufeff") if newlines == "universal" else text


@given(text=texts, newlines=st.sampled_from(["universal", "keep"]), data=st.data())
@in_a_folder
def test_any_slice_is_the_text_s(small: None, tmp_path: Path, text: str, newlines: str, data: st.DataObject):
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-7"]))
    path = tmp_path / "text"
    path.write_bytes(text.encode(encoding))
    expected = as_python_reads(text.encode(encoding), encoding, newlines)
    for unit, whole in (("character", expected), ("byte", path.read_bytes())):
        opened = open_text(path, unit, encoding, newlines)
        assert len(opened) == len(whole)
        for _ in range(3):
            start = data.draw(st.integers(0, len(whole)))
            stop = data.draw(st.integers(0, len(whole)))
            assert opened[start:stop] == whole[start:stop]
        assert opened[:] == whole
        opened.close()


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "koi8-r", "shift_jis", "gb18030", "iso2022_jp", "cp037"]
)
def test_other_encodings_are_read_as_python_does(small: None, tmp_path: Path, encoding: str):
    text = "".join(c for c in "aé\r\nЖ日本\nz" * 5 if c.encode(encoding, "ignore"))
    path = tmp_path / "text"
    path.write_bytes(text.encode(encoding))
    opened = open_text(path, "character", encoding)
    expected = as_python_reads(path.read_bytes(), encoding, "universal")
    assert [opened[i : i + 3] for i in range(len(opened))] == [
        expected[i : i + 3] for i in range(len(expected))
    ]
    opened.close()


@given(text=texts, newlines=st.sampled_from(["universal", "keep"]), data=st.data())
@in_a_folder
def test_lines_are_those_of_the_text(
    small: None, tmp_path: Path, text: str, newlines: str, data: st.DataObject
):
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    for unit in ("character", "byte"):
        whole = as_python_reads(text.encode(), "utf-8", newlines) if unit == "character" else text.encode()
        expected = whole.splitlines() if isinstance(whole, bytes) else whole.encode().splitlines()
        lines = Lines(open_text(path, unit, newlines=newlines))
        assert [line if unit == "byte" else line.encode() for line in lines] == expected
        assert lines.lengths.tolist() == [len(line) for line in lines]
        order = data.draw(st.permutations(range(len(expected))))
        assert lines.take(np.array(order, np.int64)) == [lines[place] for place in order]
        lines.file.close()


@given(
    text=st.text(st.sampled_from("ab,é"), max_size=30),
    separator=st.text(st.sampled_from("ab,é"), min_size=1, max_size=3),
    data=st.data(),
)
@in_a_folder
def test_separated_documents_are_those_of_the_text(
    small: None, tmp_path: Path, text: str, separator: str, data: st.DataObject
):
    path = tmp_path / "text"
    path.write_text(text)
    for unit in ("character", "byte"):
        whole, between = (text, separator) if unit == "character" else (text.encode(), separator.encode())
        expected = whole.split(between)
        if not expected[-1]:
            expected.pop()
        parts = Separated(open_text(path, unit), between)
        assert list(parts) == expected
        assert parts.lengths.tolist() == [len(part) for part in expected]
        parts.file.close()
        size = data.draw(st.integers(1, 5))
        pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines, "LONG", data.draw(st.integers(0, 4)))
            joined, begun = [], whole[:0]
            for part, is_end in iter_parts(pieces, between):
                begun += part
                if is_end:
                    joined.append(begun)
                    begun = whole[:0]
        assert joined == expected


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (b"a\nb", []),
        (b"\xef\xbb\xbfa\n", ["a byte order mark at the beginning is left out"]),
        (b"a\r\nb", [r"line ends \r\n are read as \n"]),
        (b"a\rb", [r"line ends \r are read as \n"]),
        (
            b"\xef\xbb\xbfa\rb\r\n",
            ["a byte order mark at the beginning is left out", r"line ends \r\n and \r are read as \n"],
        ),
    ],
)
def test_what_the_rule_of_newlines_changes_is_told(data: bytes, changes: list[str]):
    assert open_text(OpenFile(io.BytesIO(data), "stdin"), "character").changes == changes
    assert open_text(OpenFile(io.BytesIO(data), "stdin"), "character", newlines="keep").changes == []
    assert open_text(OpenFile(io.BytesIO(data), "stdin"), "byte").changes == []


@pytest.mark.parametrize("encoding", ["hex", "utf-9", "rot13", "", "a\0b", 8, None])
def test_what_is_no_encoding_is_named(encoding: object):
    with pytest.raises(ValueError, match="encoding=.* is not a text encoding of Python"):
        checked_encoding(encoding)


def test_what_begins_like_utf_16_is_told(tmp_path: Path):
    path = tmp_path / "text"
    path.write_bytes("hello".encode("utf-16"))
    with pytest.raises(ValueError, match="byte 0xff at offset 0; it begins as UTF-16 does;"):
        open_text(path, "character")


@given(st.binary(min_size=1, max_size=30))
@example("日本".encode()[:-1])
@example(b"1234567\xe2\x82")
@example(b"1234567\xe2\x82(")
@example(b"1234567\xf8\x80\x80\x80")
@in_a_folder
def test_what_is_not_utf_8_is_told_as_for_the_whole(small: None, tmp_path: Path, data: bytes):
    path = tmp_path / "bytes"
    path.write_bytes(data)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        told = f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; "
        with pytest.raises(ValueError, match="unit='byte'") as caught:
            open_text(path, "character")
        assert str(caught.value).startswith(told)
    else:
        opened = open_text(path, "character")
        assert opened[:] == as_python_reads(data, "utf-8", "universal")
        opened.close()


def test_a_long_file_is_read_at_its_own_borders(tmp_path: Path):
    path, text = tmp_path / "long", "aé日\U0001f600" * 150_000 + "end"
    path.write_bytes(text.encode())
    opened = open_text(path, "character")
    assert len(opened) == len(text)
    for start in (0, 1, 102_399, 299_999, 419_430, 599_990):
        assert opened[start : start + 5000] == text[start : start + 5000]
    opened.close()
    with path.open("ab") as file:
        file.write(b"\xf0\x9f")
    with pytest.raises(ValueError, match="byte 0xf0 at offset 1500003; unit='byte'"):
        open_text(path, "character")


@pytest.mark.parametrize("unit", ["character", "byte"])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"abce"),  # of the same size
        lambda path: os.truncate(path, 5),
        lambda path: os.truncate(path, 2),
        lambda path: os.truncate(path, 0),
    ],
)
def test_a_file_that_changes_is_an_error(on_disk: None, tmp_path: Path, unit: str, change):
    path = tmp_path / "text"
    path.write_bytes(b"abcd")
    os.utime(path, ns=(0, 0))
    opened = open_text(path, unit)
    change(path)
    with pytest.raises(ValueError, match="text changed while it was trained on; it must stay as it is"):
        opened[0:4]
    opened.close()


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", "éé".encode()])
def test_a_change_that_the_time_does_not_tell_shows_where_the_characters_do(
    on_disk: None, tmp_path: Path, data: bytes
):
    path = tmp_path / "text"
    path.write_bytes(b"abcd")
    opened = open_text(path, "character")
    write_as_before(path, data)
    with pytest.raises(ValueError, match="text changed while it was trained on"):
        opened[0:4]
    opened.close()


def test_a_file_that_grows_while_it_is_opened_is_an_error(
    on_disk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "text"
    path.write_bytes(b"abcd")
    version = TextFile._version

    def then_append(opened: TextFile) -> tuple[int, int]:
        found = version(opened)
        with path.open("ab") as file:
            file.write(b"e")
        return found

    monkeypatch.setattr(TextFile, "_version", then_append)
    with pytest.raises(ValueError, match="text changed while it was trained on"):
        open_text(path, "character")


def test_a_file_that_is_removed_is_read_on(on_disk: None, tmp_path: Path):
    path = tmp_path / "text"
    path.write_bytes(b"abcd")
    opened = open_text(path, "character")
    path.unlink()
    assert opened[1:3] == "bc"
    opened.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("unit", ["character", "byte"])
def test_a_pipe_is_read_whole(tmp_path: Path, unit: str):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"h\xc3\xa9llo\r\n",))
    writer.start()
    assert open_text(path, unit)[:] == ("héllo\n" if unit == "character" else b"h\xc3\xa9llo\r\n")
    writer.join()


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="there is no /proc")
def test_a_file_that_hides_its_size_is_read_whole():
    assert open_text(Path("/proc/version"), "character")[:] == Path("/proc/version").read_text()


def test_an_empty_file_is_an_empty_text(tmp_path: Path):
    path = tmp_path / "empty"
    path.touch()
    assert open_text(path, "character")[:] == ""
    assert open_text(path, "byte")[:] == b""
