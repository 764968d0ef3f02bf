"""Texts in files: sliced as a str or bytes is, and read only as far as a slice asks.

A character's place among the bytes of a file is found with an index, made by one pass over the file: how many
characters come before each few thousand bytes, and the state of the decoder there. What cannot be read
twice, such as a pipe, is kept in memory as it came.
"""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.vocabulary import BYTE_ORDER_MARK, Text, code_points

#: Bytes of a file for each entry of its index.
STRETCH = 1 << 13

#: Bytes of a file that are decoded at once where it is read once, from its beginning to its end.
CHUNK = 1 << 18

#: Symbols of a file that are searched for line ends at once.
PIECE = 1 << 16

#: Symbols of a line that comes in pieces.
LONG = 1 << 18

#: The largest file that is kept in memory, in bytes: its lines are quicker to find there.
IN_MEMORY = 1 << 21

#: What helps where a file to train on is not in its encoding, in Python and on the command line.
ADVICE = "; unit='byte' (--bytes) reads it as bytes, encoding=… (--encoding …) in another encoding"

LINE_FEED, CARRIAGE_RETURN = 10, 13

#: What a file in UTF-16 begins with, in either byte order.
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class TextFile:
    """A file that has a length in symbols and slices that are str or bytes.

    It stays open until it is closed, and must stay as it is for so long.

    Parameters
    ----------
    file
        Open for reading bytes, and seekable.
    name
        What errors call it.
    unit
        ``"character"`` or ``"byte"``.
    encoding
        Of characters.
    newlines
        ``"universal"``: a byte order mark at the beginning is left out, and CR LF and CR are read as
        LF. ``"keep"``: characters are read as they are. Bytes always are.

    Attributes
    ----------
    changes
        What ``newlines`` changed, in words for the log.

    Raises
    ------
    ValueError
        It is not in its encoding; and from a slice, where the file has changed.
    """

    def __init__(
        self, file: BinaryIO, name: str, unit: str, encoding: str = "utf-8", newlines: str = "universal"
    ) -> None:
        self._file = file
        self._name = name
        self._unit = unit
        self._encoding = encoding
        self._universal = newlines == "universal"
        self._as_it_was = self._version()
        self.changes: list[str] = []
        #: The last symbols that were read, and the places of the first and behind the last.
        self._held: Any = "" if unit == "character" else b""
        self._held_from = self._held_to = 0
        #: Whether there is a byte order mark that is left out.
        self._mark = 0
        self._index_bytes() if unit == "byte" else self._index_characters()
        if isinstance(file, io.BytesIO) and len(self) and self._as_it_was[0] <= IN_MEMORY:
            self._hold(0, len(self))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Text:
        start, stop, _ = part.indices(len(self))
        found: list[Text] = self.slices([start], [max(start, stop)])
        return found[0]

    def slices(self, starts: Sequence[int], stops: Sequence[int]) -> list[Any]:
        """Many slices; those that follow each other in the file are quicker."""
        mark, found = self._mark, []
        for start, stop in zip(starts, stops, strict=True):
            if not (self._held_from <= start + mark and stop + mark <= self._held_to) and stop > start:
                self._hold(start + mark, stop + mark)
            before = self._held_from - mark
            found.append(self._held[start - before : stop - before] if stop > start else self._held[:0])
        return found

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
        if isinstance(self._file, io.BytesIO):
            return self._file.getbuffer().nbytes, 0
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop`` or the end."""
        self._file.seek(start)
        data = self._file.read(stop - start)
        if self._version() != self._as_it_was:
            raise self.changed()
        return data

    def _hold(self, start: int, stop: int) -> None:
        """Read the stretches in which these symbols begin."""
        first = int(self._begun[:-1].searchsorted(start, "right")) - 1
        last = int(self._begun.searchsorted(stop, "left"))
        data = self._read(first * STRETCH, last * STRETCH)
        try:
            self._held = self._decoded(data, first, last)
        except UnicodeDecodeError as error:
            raise self.changed() from error
        self._held_from, self._held_to = self._begun[[first, last]].tolist()
        if len(self._held) != self._held_to - self._held_from:
            self._held, self._held_to = self._held[:0], self._held_from
            raise self.changed()

    def _decoded(self, data: bytes, first: int, last: int) -> Text:
        """Some stretches as symbols."""
        if self._unit == "byte":
            return data
        self._decoder.setstate(self._states[first])
        return self._decoder.decode(data, final=last == len(self._states))

    # ---- The index; places in it count the byte order mark -------------------------------------------

    def _index_bytes(self) -> None:
        self._length, _ = self._as_it_was
        #: How many symbols begin before each stretch, and in all.
        self._begun = np.minimum(np.arange(1 - (-self._length // STRETCH)) * STRETCH, self._length)

    def _index_characters(self) -> None:
        """Decode the whole file once, and note at each stretch what the decoder had read so far."""
        self._decoder = _new_decoder(self._encoding, "universal" if self._universal else "keep")
        size, _ = self._as_it_was
        begun = np.zeros(1 - (-size // STRETCH), np.int64)
        same: dict[Any, Any] = {}  # equal states are one object
        states, first, offset = [], "", 0
        for number in range(len(begun) - 1):
            state = self._decoder.getstate()
            states.append(same.setdefault(state, state))
            chunk = self._file.read(min(STRETCH, size - offset))
            try:
                text = self._decoder.decode(chunk, final=offset + len(chunk) == size)
            except UnicodeDecodeError as error:
                raise _not_decodable(
                    error, self._name, self._encoding, offset - len(state[0]), ADVICE
                ) from error
            begun[number + 1] = len(text)
            offset += len(chunk)
            first = first or text[:1]
        if offset != size or self._file.read(1):
            raise self.changed()
        self._begun = np.cumsum(begun, out=begun)
        self._states = states
        self._mark = int(self._universal and first == BYTE_ORDER_MARK)
        self._length = int(begun[-1]) - self._mark
        self.changes = _changes(self._mark, self._decoder.newlines) if self._universal else []


def _new_decoder(encoding: str, newlines: str) -> io.IncrementalNewlineDecoder:
    """A decoder of pieces of a text that reads newlines by their rule."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    return io.IncrementalNewlineDecoder(decoder, translate=newlines == "universal")


def _changes(mark: int, newlines: Any) -> list[str]:
    """What the rule of newlines and byte order marks changed, in words."""
    found = (newlines,) if isinstance(newlines, str) else newlines or ()
    ends = " and ".join(ascii(end)[1:-1] for end in ("\r\n", "\r") if end in found)
    told = ["a byte order mark at the beginning is left out"] if mark else []
    return [*told, f"line ends {ends} are read as \\n"] if ends else told


class Lines(Sequence[Text]):
    """The lines of a file, without their ends, read when they are asked for.

    A line ends with LF, CR LF or CR, and the last one with the file.
    """

    def __init__(self, file: TextFile) -> None:
        self.file = file
        #: Where each line begins, and how many symbols it has.
        self.starts, self.lengths = _find_lines(file)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: Any) -> Any:
        (line,) = self.take(np.array([range(len(self))[place]]))
        return line

    def take(self, places: NDArray[np.int64]) -> list[Any]:
        """Some of the lines, by their numbers from 0."""
        starts = self.starts[places]
        return self.file.slices(starts.tolist(), (starts + self.lengths[places]).tolist())


def _find_lines(file: TextFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the lines of a file begin, and their lengths without their ends."""
    places, kinds = [], []
    for start in range(0, len(file), PIECE):
        codes = code_points(file[start : start + PIECE])
        found = np.flatnonzero((codes == LINE_FEED) | (codes == CARRIAGE_RETURN))
        places.append(found + start)
        kinds.append(codes[found] == LINE_FEED)
    ends = np.concatenate([np.empty(0, np.int64), *places])
    feeds = np.concatenate([np.empty(0, bool), *kinds])
    second = np.zeros(len(ends), bool)  # the \n of an \r\n
    second[1:] = feeds[1:] & ~feeds[:-1] & (np.diff(ends) == 1)
    behind = ends + 1
    behind[:-1] += second[1:]
    starts = np.concatenate([np.zeros(1, np.int64), behind[~second]])
    ends = np.append(ends[~second], len(file))
    if starts[-1] == len(file):  # nothing is behind the last line end
        starts, ends = starts[:-1], ends[:-1]
    return starts, ends - starts


class OpenFile(NamedTuple):
    """A file that is open for reading bytes, and what errors call it."""

    file: BinaryIO
    name: str


def open_text(
    source: os.PathLike[str] | OpenFile, unit: str, encoding: str = "utf-8", newlines: str = "universal"
) -> TextFile:
    """The text of a file; what is small, was open before or is no file on a disk is kept in memory."""
    if isinstance(source, OpenFile):
        return TextFile(io.BytesIO(source.file.read()), source.name, unit, encoding, newlines)
    file: BinaryIO = Path(source).open("rb")  # noqa: SIM115  (a TextFile keeps it open)
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size <= IN_MEMORY:  # one of /proc has a size of 0
            with file:
                file = io.BytesIO(file.read())
        return TextFile(file, os.fspath(source), unit, encoding, newlines)
    except BaseException:
        file.close()
        raise


def iter_pieces(
    file: BinaryIO, name: str, unit: str, encoding: str = "utf-8", newlines: str = "universal"
) -> Iterator[Any]:
    """A file's text in pieces, read when they are asked for, from a file that need not be seekable.

    Raises
    ------
    ValueError
        It is to be characters, and is not in its encoding.
    """
    decoder = _new_decoder(checked_encoding(encoding), newlines)
    offset, is_first, is_end = 0, newlines == "universal", False
    while not is_end:
        chunk = file.read(CHUNK)
        is_end = not chunk
        try:
            piece: Any = chunk if unit == "byte" else decoder.decode(chunk, final=is_end)
        except UnicodeDecodeError as error:
            begins = offset + len(chunk) - len(error.object)
            raise _not_decodable(error, name, encoding, begins) from error
        offset += len(chunk)
        if piece and is_first and unit == "character":
            piece, is_first = piece.removeprefix(BYTE_ORDER_MARK), False
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


def lines_of(file: Iterable[Any]) -> Iterator[Any]:
    """The lines of an open file without their ends, LF, CR LF or CR, read when they are asked for."""
    begun: list[Any] = []
    for piece, is_end in iter_lines(file):
        begun.append(piece)
        if is_end:
            yield begun[0][:0].join(begun)
            begun = []


def decode_utf8(data: bytes, name: str = "the text") -> str:
    """Decode UTF-8, or raise a ``ValueError`` that names the text and the place."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _not_decodable(error, name, "utf-8", 0) from error


def checked_encoding(encoding: Any) -> str:
    """Return the name of an encoding of text that Python knows, or raise a ``ValueError``."""
    try:
        b"a".decode(encoding)
    except UnicodeDecodeError:  # it has more than one byte for each character
        pass
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"encoding={encoding!r} is none that Python reads text in; it is a name such as 'utf-8', "
            "'utf-16', 'latin-1' or 'cp1252'"
        ) from error
    return codecs.lookup(encoding).name


def _not_decodable(
    error: UnicodeDecodeError, name: str, encoding: str, offset: int, advice: str = ""
) -> ValueError:
    """The error for people; ``offset`` is where the bytes that were decoded begin."""
    byte, place = error.object[error.start], offset + error.start
    shown = "UTF-8" if encoding == "utf-8" else encoding
    looks = "; it begins as UTF-16 does" if place == 0 and error.object[:2] in UTF_16_MARKS else ""
    return ValueError(f"{name} is not {shown}: byte 0x{byte:02x} at offset {place}{looks}{advice}")
