"""Texts in files: any slice of any file, at whatever borders, and files that are not what they were."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastrnn import files
from fastrnn.files import TextFile, open_text

#: Characters of one to four bytes, line ends and a byte order mark.
texts = st.text(st.sampled_from("ab\r\n\0é\u0439\ufeff日\U0001f600"), min_size=1, max_size=40)

in_a_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and stretches of a few bytes, so that characters lie across their borders."""
    monkeypatch.setattr(files, "STRETCH", 4)
    monkeypatch.setattr(files, "CHUNK", 8)


@given(text=texts, data=st.data())
@in_a_folder
def test_any_slice_is_the_text_s(small: None, tmp_path: Path, text: str, data: st.DataObject):
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    for unit, expected in (("character", text), ("byte", text.encode())):
        opened = open_text(path, unit)
        assert isinstance(opened, TextFile)
        assert len(opened) == len(expected)
        start = data.draw(st.integers(0, len(expected)))
        stop = data.draw(st.integers(start, len(expected)))
        assert opened[start:stop] == expected[start:stop]
        assert opened[:] == expected
        opened.close()


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
        expected = data.decode()
    except UnicodeDecodeError as error:
        told = f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; unit='byte'"
        with pytest.raises(ValueError, match="UTF-8") as caught:
            open_text(path, "character")
        assert str(caught.value).startswith(told)
    else:
        opened = open_text(path, "character")
        assert opened[:] == expected
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


def write_as_before(path: Path, data: bytes) -> None:
    """Write a file so that its time does not tell."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


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
def test_a_file_that_changes_is_an_error(tmp_path: Path, unit: str, change):
    path = tmp_path / "text"
    path.write_bytes(b"abcd")
    os.utime(path, ns=(0, 0))
    opened = open_text(path, unit)
    assert len(opened[0:4]) == 4
    change(path)
    with pytest.raises(ValueError, match="text changed while it was trained on; it must stay as it is"):
        opened[0:4]
    opened.close()


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", "éé".encode()])
def test_a_change_that_the_time_does_not_tell_shows_where_the_characters_do(tmp_path: Path, data: bytes):
    path = tmp_path / "text"
    path.write_bytes(b"abcd")
    opened = open_text(path, "character")
    write_as_before(path, data)
    with pytest.raises(ValueError, match="text changed while it was trained on"):
        opened[0:4]
    opened.close()


def test_a_file_that_grows_while_it_is_opened_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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


def test_a_file_that_is_removed_is_read_on(tmp_path: Path):
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
    assert open_text(path, unit) == ("héllo\r\n" if unit == "character" else b"h\xc3\xa9llo\r\n")
    writer.join()


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="there is no /proc")
def test_a_file_that_hides_its_size_is_read_whole():
    assert open_text(Path("/proc/version"), "character") == Path("/proc/version").read_text()


def test_an_empty_file_is_an_empty_text(tmp_path: Path):
    path = tmp_path / "empty"
    path.touch()
    assert open_text(path, "character") == ""
    assert open_text(path, "byte") == b""
