"""Texts in files: sliced as a str or bytes is, and read only as far as a slice asks.

A character's place among the bytes of a file is found with an index, a number for every few thousand
bytes, that one pass over the file makes. What cannot be read twice, such as a pipe, is read whole.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastrnn.vocabulary import Text

#: Bytes that the pass over a file reads at once; a multiple of `STRETCH`.
CHUNK = 1 << 18

#: Bytes of a file for each entry of its index.
STRETCH = 1 << 13

#: Symbols of a line that comes in pieces.
LONG = 1 << 18

#: The bytes that continue a character of UTF-8, of which there are at most three.
_CONTINUATION = bytes(range(0x80, 0xC0))

#: What helps where a file to train on is not UTF-8, in Python and on the command line.
ADVICE = "; unit='byte' (--bytes) reads it as bytes"


class TextFile:
    """A file on a disk that has a length in symbols and slices that are str or bytes.

    It stays open until it is closed, and must stay as it is for so long.

    Parameters
    ----------
    file
        Open for reading bytes, and seekable.
    name
        What errors call it.
    unit
        ``"character"`` (UTF-8) or ``"byte"``.

    Raises
    ------
    ValueError
        It is not UTF-8; and from a slice, where the file has changed.
    """

    def __init__(self, file: BinaryIO, name: str, unit: str) -> None:
        self._file = file
        self._name = name
        self._unit = unit
        self._as_it_was = self._version()
        self._length, _ = self._as_it_was
        if unit == "character":
            #: How many characters begin before each stretch, and in all.
            self._index = self._begun_before_stretches()
            self._length = int(self._index[-1])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Text:
        start, stop, _ = part.indices(len(self))
        try:
            text = self._bytes(start, stop) if self._unit == "byte" else self._characters(start, stop)
        except UnicodeDecodeError as error:
            raise self.changed() from error
        if len(text) != max(0, stop - start) or self._version() != self._as_it_was:
            raise self.changed()
        return text

    def changed(self) -> ValueError:
        """The error that the file is not what it was."""
        return ValueError(
            f"{self._name} changed while it was trained on; it must stay as it is until training ends"
        )

    def close(self) -> None:
        """Close the file; there are no more slices."""
        self._file.close()

    def _version(self) -> tuple[int, int]:
        """What changes when the file does: its size, and when it was written."""
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _bytes(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(stop - start)

    def _characters(self, start: int, stop: int) -> str:
        """Decode the stretches in which these characters begin, and cut them out."""
        first = int(np.searchsorted(self._index, start, "right")) - 1
        last = int(np.searchsorted(self._index, stop, "left"))
        data = self._bytes(first * STRETCH, last * STRETCH + 3)
        text, _ = codecs.utf_8_decode(data.lstrip(_CONTINUATION), "strict", False)
        begun = int(self._index[first])
        return text[start - begun : stop - begun]

    def _begun_before_stretches(self) -> NDArray[np.int64]:
        """Read the whole file, require that it is UTF-8, and count the characters that begin."""
        size, _ = self._as_it_was
        begun = np.zeros(1 - (-size // STRETCH), np.int64)
        rest, offset = b"", 0
        while chunk := self._file.read(CHUNK):
            if offset + len(chunk) > size:
                raise self.changed()
            found = _characters_begun(chunk)
            first = 1 + offset // STRETCH
            begun[first : first + len(found)] = found
            rest = self._undecoded(rest + chunk, offset - len(rest), final=False)
            offset += len(chunk)
        self._undecoded(rest, offset - len(rest), final=True)
        return np.cumsum(begun, out=begun)

    def _undecoded(self, data: bytes, offset: int, *, final: bool) -> bytes:
        """The bytes at the end of some that are only the beginning of a character."""
        if data.isascii():
            return b""
        try:
            _, used = codecs.utf_8_decode(data, "strict", final)
        except UnicodeDecodeError as error:
            raise _not_utf8(error, self._name, offset, ADVICE) from error
        return data[used:]


def _characters_begun(chunk: bytes) -> list[int]:
    """How many characters begin in each stretch of some bytes of UTF-8."""
    begins = np.frombuffer(chunk, np.int8) >= -64  # not 10xxxxxx
    return [int(np.count_nonzero(begins[i : i + STRETCH])) for i in range(0, len(begins), STRETCH)]


def open_text(path: os.PathLike[str], unit: str) -> Text | TextFile:
    """A file's text, with its line ends as they are; what is no file on a disk is read whole."""
    name = os.fspath(path)
    file = Path(path).open("rb")  # noqa: SIM115  (a TextFile keeps it open)
    try:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size:  # one of /proc has a size of 0
            return TextFile(file, name, unit)
        data = file.read()
    except BaseException:
        file.close()
        raise
    file.close()
    return data if unit == "byte" else decode_utf8(data, name, ADVICE)


def iter_pieces(file: BinaryIO, name: str, unit: str) -> Iterator[Any]:
    """A file's text in pieces, read when they are asked for, from a file that need not be seekable.

    Raises
    ------
    ValueError
        It is to be characters, and is not UTF-8.
    """
    decoder, offset, is_end = codecs.getincrementaldecoder("utf-8")(), 0, False
    while not is_end:
        chunk = file.read(CHUNK)
        is_end = not chunk
        try:
            piece = chunk if unit == "byte" else decoder.decode(chunk, is_end)
        except UnicodeDecodeError as error:
            begins = offset + len(chunk) - len(error.object)
            raise _not_utf8(error, name, begins, "") from error
        offset += len(chunk)
        if piece:
            yield piece


def iter_lines(pieces: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """The lines of a text that comes in pieces, without their ends, LF, CR LF or CR.

    A line of more than `LONG` symbols comes in pieces itself: with each is whether the line ends with it.
    """
    rest: Any = None
    is_within = is_after_return = False
    for piece in pieces:
        feed: Any = "\n" if isinstance(piece, str) else b"\n"
        carriage_return: Any = "\r" if isinstance(piece, str) else b"\r"
        more = piece.removeprefix(feed) if is_after_return else piece
        is_after_return = piece.endswith(carriage_return)
        if carriage_return in more:
            more = more.replace(carriage_return + feed, feed).replace(carriage_return, feed)
        *lines, rest = (rest + more if rest else more).split(feed)
        for line in lines:
            yield line, True
        is_within &= not lines
        if len(rest) > LONG:
            yield rest, False
            rest, is_within = rest[:0], True
    if rest or is_within:
        yield rest, True


def without_line_end(line: Any) -> Any:
    """A line of an open file without its end, LF, CR LF or CR."""
    feed, carriage_return = ("\n", "\r") if isinstance(line, str) else (b"\n", b"\r")
    return line.removesuffix(feed).removesuffix(carriage_return)


def decode_utf8(data: bytes, name: str, advice: str) -> str:
    """Decode UTF-8, or raise a ``ValueError`` that names the file and the place, and gives advice."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(error, name, 0, advice) from error


def _not_utf8(error: UnicodeDecodeError, name: str, offset: int, advice: str) -> ValueError:
    """The error for people; ``offset`` is where the bytes that were decoded begin."""
    byte, place = error.object[error.start], offset + error.start
    return ValueError(f"{name} is not UTF-8: byte 0x{byte:02x} at offset {place}{advice}")
