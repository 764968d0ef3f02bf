"""Texts in files: they have slices like a str or bytes, and a slice reads only the bytes that it needs.

An index finds the bytes of a character. One pass over the file makes it: it has an entry for every 8,192
bytes, which holds the number of characters before them and the state of the decoder there. A file that cannot
be read twice, such as a pipe, is copied (`fastrnn.data.streams`).
"""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.decoding import Decoder
from fastrnn.data.normalization import BYTE_ORDER_MARK, CARRIAGE_RETURN, LINE_FEED
from fastrnn.data.streams import IN_MEMORY, in_parts, open_in_parts
from fastrnn.data.vocabulary import Text, code_points

#: Bytes of a file for each entry of its index.
BYTES_PER_ENTRY = 1 << 13

#: How many bytes are decoded at a time when a file is read once, from its beginning to its end.
CHUNK = 1 << 18

#: How many symbols of a file are searched for line ends at a time.
SEARCHED_AT_ONCE = 1 << 16

#: What to do if a file to train on is not in its encoding, in Python and on the command line.
ADVICE = "; unit='byte' (--bytes) reads it as bytes, encoding=… (--encoding …) in another encoding"

#: The first bytes of a file in UTF-16, in both byte orders.
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class TextFile:
    """A file that has a length in symbols and slices that are str or bytes.

    The file stays open until `close`, and must not change before.

    Parameters
    ----------
    file
        A file that is open for reading bytes, and seekable.
    name
        The name of the file in errors.
    unit
        ``"character"`` or ``"byte"``.
    encoding
        The encoding, if the unit is the character.
    newlines
        ``"universal"``: a byte order mark at the beginning is left out, and CR LF and CR are read as
        LF. ``"keep"``: characters are read unchanged. Bytes are always unchanged.
    normalization
        How characters are then normalized, one of `fastrnn.data.normalization.NORMALIZATIONS`, or ``None``.

    Attributes
    ----------
    changes
        What ``newlines`` changed, as messages for the log.

    Raises
    ------
    ValueError
        The file is not in its encoding. A slice raises it if the file has changed.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        unit: str,
        encoding: str = "utf-8",
        newlines: str = "universal",
        normalization: str | None = None,
    ) -> None:
        self._file = file
        self._name = name
        self._unit = unit
        self._encoding = encoding
        self._normalization = normalization
        self._universal = newlines == "universal"
        self._as_it_was = self._version()
        self.changes: list[str] = []
        #: The symbols that were read last, and the places where they begin and end.
        self._held: Any = "" if unit == "character" else b""
        self._held_from = self._held_to = 0
        #: 1 if there is a byte order mark that is left out, else 0.
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
        """Many slices. It is faster if they are in the order of the file."""
        mark, found = self._mark, []
        for start, stop in zip(starts, stops, strict=True):
            if not (self._held_from <= start + mark and stop + mark <= self._held_to) and stop > start:
                self._hold(start + mark, stop + mark)
            before = self._held_from - mark
            found.append(self._held[start - before : stop - before] if stop > start else self._held[:0])
        return found

    def changed(self) -> ValueError:
        """The error that says that the file has changed."""
        return ValueError(
            f"{self._name} changed while it was trained on; it must stay as it is until training ends"
        )

    def close(self) -> None:
        """Close the file. After this it has no slices."""
        self._file.close()

    def _version(self) -> tuple[int, int]:
        """The file's size and the time of its last write, which tell whether it has changed."""
        if isinstance(self._file, io.BytesIO):
            return self._file.getbuffer().nbytes, 0
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``, or up to the end of the file."""
        self._file.seek(start)
        data = self._file.read(stop - start)
        if self._version() != self._as_it_was:
            raise self.changed()
        return data

    def _hold(self, start: int, stop: int) -> None:
        """Read the bytes of the entries in which these symbols begin."""
        first = int(self._begun[:-1].searchsorted(start, "right")) - 1
        last = int(self._begun.searchsorted(stop, "left"))
        data = self._read(first * BYTES_PER_ENTRY, last * BYTES_PER_ENTRY)
        try:
            self._held = self._decoded(data, first, last)
        except UnicodeDecodeError as error:
            raise self.changed() from error
        self._held_from, self._held_to = self._begun[[first, last]].tolist()
        if len(self._held) != self._held_to - self._held_from:
            self._held, self._held_to = self._held[:0], self._held_from
            raise self.changed()

    def _decoded(self, data: bytes, first: int, last: int) -> Text:
        """Decode the bytes of the entries from ``first`` up to ``last``."""
        if self._unit == "byte":
            return data
        self._decoder.setstate(self._states[first])
        return self._decoder.decode(data, final=last == len(self._states))

    # ---- The index; places in it count the byte order mark -------------------------------------------

    def _index_bytes(self) -> None:
        self._length, _ = self._as_it_was
        #: How many symbols begin before each entry of the index; the last entry is for the whole file.
        self._begun = np.minimum(
            np.arange(1 - (-self._length // BYTES_PER_ENTRY)) * BYTES_PER_ENTRY, self._length
        )

    def _index_characters(self) -> None:
        """Decode the whole file once, and note the state of the decoder before each entry of the index."""
        newlines = "universal" if self._universal else "keep"
        self._decoder = Decoder(self._encoding, newlines, self._normalization)
        size, _ = self._as_it_was
        begun = np.zeros(1 - (-size // BYTES_PER_ENTRY), np.int64)
        same: dict[Any, Any] = {}  # equal states are one object
        states, first, offset = [], "", 0
        for number in range(len(begun) - 1):
            state = self._decoder.getstate()
            states.append(same.setdefault(state, state))
            chunk = self._file.read(min(BYTES_PER_ENTRY, size - offset))
            try:
                text = self._decoder.decode(chunk, final=offset + len(chunk) == size)
            except UnicodeDecodeError as error:
                raise not_decodable(
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
        if self._universal:
            ends = self._decoder.newlines or ()
            self.changes = changes_in_words(bool(self._mark), (ends,) if isinstance(ends, str) else ends)


def changes_in_words(mark: bool, ends: Collection[str]) -> list[str]:
    """What the rule of newlines changed, in words for the log.

    ``mark`` is whether a byte order mark was left out; ``ends`` has the line ends that the text has.
    """
    replaced = " and ".join(ascii(end)[1:-1] for end in ("\r\n", "\r") if end in ends)
    told = ["a byte order mark at the beginning is left out"] if mark else []
    return [*told, f"line ends {replaced} are read as \\n"] if replaced else told


class Lines(Sequence[Text]):
    """The lines of a file without their ends; a line is read when it is needed.

    A line ends with LF, CR LF or CR. The last line may end with the file.
    """

    def __init__(self, file: TextFile) -> None:
        self.file = file
        #: The place where each line begins, and its number of symbols.
        self.starts, self.lengths = self._found_in(file)

    def _found_in(self, file: TextFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _find_lines(file)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: Any) -> Any:
        (line,) = self.take(np.array([range(len(self))[place]]))
        return line

    def take(self, places: NDArray[np.int64]) -> list[Any]:
        """The lines with these numbers, counted from 0."""
        starts = self.starts[places]
        return self.file.slices(starts.tolist(), (starts + self.lengths[places]).tolist())


class Separated(Lines):
    """The parts of a file between the occurrences of a separator; a part is read when it is needed.

    After a separator at the end of the file there is no part.
    """

    def __init__(self, file: TextFile, separator: str | bytes) -> None:
        self._separator = separator
        super().__init__(file)

    def _found_in(self, file: TextFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        ends = np.fromiter(_find(self._separator, file), np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends + len(self._separator)])
        ends = np.append(ends, len(file))
        if starts[-1] == len(file):
            starts, ends = starts[:-1], ends[:-1]
        return starts, ends - starts


def _find(separator: Any, file: TextFile) -> Iterator[int]:
    """Yield the places of a separator in a file, none of which overlap."""
    start, more = 0, len(separator) - 1
    while start < len(file):
        part: Any = file[start : start + SEARCHED_AT_ONCE + more]
        stop, place = min(start + SEARCHED_AT_ONCE, len(file)), part.find(separator)
        behind = stop
        while place >= 0:
            yield start + place
            behind = start + place + len(separator)
            place = part.find(separator, place + len(separator))
        start = max(stop, behind)


def _find_lines(file: TextFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the lines of a file begin, and their lengths without their ends."""
    places, kinds = [], []
    for start in range(0, len(file), SEARCHED_AT_ONCE):
        codes = code_points(file[start : start + SEARCHED_AT_ONCE])
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
    if starts[-1] == len(file):  # the file ends with a line end
        starts, ends = starts[:-1], ends[:-1]
    return starts, ends - starts


class OpenFile(NamedTuple):
    """A file that is open for reading bytes, and its name in errors."""

    file: BinaryIO
    name: str


def open_text(
    source: os.PathLike[str] | OpenFile,
    unit: str,
    encoding: str = "utf-8",
    newlines: str = "universal",
    normalization: str | None = None,
) -> TextFile:
    """Open the text of a file; `fastrnn.data.streams` says which files are copied."""
    name = source.name if isinstance(source, OpenFile) else os.fspath(source)
    file = in_parts(source.file) if isinstance(source, OpenFile) else open_in_parts(source)
    try:
        return TextFile(file, name, unit, encoding, newlines, normalization)
    except BaseException:
        file.close()
        raise


def iter_pieces(
    file: BinaryIO,
    name: str,
    unit: str,
    encoding: str = "utf-8",
    newlines: str = "universal",
    normalization: str | None = None,
) -> Iterator[Any]:
    """Yield a file's text in pieces, each read when it is needed. The file need not be seekable.

    Raises
    ------
    ValueError
        The unit is the character, and the file is not in its encoding.
    """
    decoder = Decoder(checked_encoding(encoding), newlines, normalization)
    offset, is_first, is_end = 0, newlines == "universal", False
    while not is_end:
        chunk = file.read(CHUNK)
        is_end = not chunk
        try:
            piece: Any = chunk if unit == "byte" else decoder.decode(chunk, final=is_end)
        except UnicodeDecodeError as error:
            begins = offset + len(chunk) - len(error.object)
            raise not_decodable(error, name, encoding, begins) from error
        offset += len(chunk)
        if piece and is_first and unit == "character":
            piece, is_first = piece.removeprefix(BYTE_ORDER_MARK), False
        if piece:
            yield piece


def decode_utf8(data: bytes, name: str = "the text") -> str:
    """Decode UTF-8, or raise a ``ValueError`` with the text's name and the position."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise not_decodable(error, name, "utf-8", 0) from error


def checked_encoding(encoding: Any) -> str:
    """Return the name of an encoding of text that Python knows, or raise a ``ValueError``."""
    try:
        b"a".decode(encoding)
    except UnicodeDecodeError:  # one byte is not a character in this encoding, such as UTF-16
        pass
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"encoding={encoding!r} is not a text encoding of Python; it must be a name such as 'utf-8', "
            "'utf-16', 'latin-1' or 'cp1252'"
        ) from error
    return codecs.lookup(encoding).name


def not_decodable(
    error: UnicodeDecodeError, name: str, encoding: str, offset: int, advice: str = ""
) -> ValueError:
    """The error to show; ``offset`` is the place in the file of the first byte that was decoded."""
    byte, place = error.object[error.start], offset + error.start
    shown = "UTF-8" if encoding == "utf-8" else encoding
    looks = "; it begins as UTF-16 does" if place == 0 and error.object[:2] in UTF_16_MARKS else ""
    return ValueError(f"{name} is not {shown}: byte 0x{byte:02x} at offset {place}{looks}{advice}")
