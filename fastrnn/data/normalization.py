"""How a text of characters is read: the rule of newlines, and Unicode normalization.

A text is normalized in segments. A segment begins at a character that no character before it can change: a
starter (combining class 0) that does not compose with what precedes it, before and after each step of the
form. So the segments of a text can be normalized one by one, and a text that comes in pieces gives the same
symbols however it is cut. Sources: The Unicode Standard, section 3.13 (default caseless matching); Unicode
Standard Annex #15 (normalization forms, and their concatenation). The tables are those of Python's
``unicodedata``.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

#: A mark of the encoding that a text may begin with; it is not part of the text.
BYTE_ORDER_MARK = "\ufeff"

#: How a model reads a str: ``"universal"`` leaves out a byte order mark at its beginning and reads ``\\r\\n``
#: and ``\\r`` as ``\\n``, as Python reads text files; ``"keep"`` changes nothing. Bytes are never changed.
NEWLINES = ("universal", "keep")

#: The steps of each form of normalization. With case folding they are those of a canonical and of a
#: compatibility caseless match (definitions D145 and D146), and composition at the end.
NORMALIZATIONS: dict[str, tuple[str, ...]] = {
    "nfc": ("NFC",),
    "nfkc": ("NFKC",),
    "nfc_casefold": ("NFD", "casefold", "NFC"),
    "nfkc_casefold": ("NFD", "casefold", "NFKD", "casefold", "NFKC"),
}

#: A segment with more characters than this, which no language has, is normalized in parts: the time that
#: ``unicodedata`` takes for a segment grows with the square of its length.
LONGEST_SEGMENT = 1 << 10

#: How many characters of a text are normalized at a time.
NORMALIZED_AT_ONCE = 1 << 18

#: The numbers of code points, and those with a canonical decomposition are below this one.
CODE_POINTS, DECOMPOSED = 0x110000, 0x30000

#: The vowels and final consonants of Hangul, which compose with what precedes them.
HANGUL = frozenset([*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)])

LINE_FEED, CARRIAGE_RETURN = 10, 13


def universal_newlines(text: str) -> str:
    """A str without a byte order mark at its beginning, in which each line ends with LF."""
    if text.startswith(BYTE_ORDER_MARK):
        text = text[1:]
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def utf_32(text: str, errors: str = "surrogatepass") -> NDArray[np.uint32]:
    """The code points of a str; ``errors`` is that of ``str.encode`` for lone surrogates."""
    return np.frombuffer(text.encode("utf-32-le", errors), np.uint32)


# ---- Normalization -----------------------------------------------------------------------------------


def normalized(text: str, form: str) -> str:
    """A str in a form of `NORMALIZATIONS`."""
    if len(text) <= LONGEST_SEGMENT or text.isascii():
        return _in_form(text, form)
    normalizer, size = Normalizer(form), NORMALIZED_AT_ONCE
    pieces = [normalizer.normalize(text[start : start + size]) for start in range(0, len(text), size)]
    return "".join([*pieces, normalizer.normalize("", final=True)])


class Normalizer:
    """Normalizes a text that comes in pieces.

    Attributes
    ----------
    rest
        The end of the text so far, which the next piece may change: its last segment.
    """

    def __init__(self, form: str) -> None:
        self._form = form
        self.rest = ""

    def normalize(self, piece: str, *, final: bool = False) -> str:
        """The next normalized symbols; ``final`` says that the text ends with this piece."""
        text = self.rest + piece
        if text.isascii():  # each character is a segment
            end = len(text) if final else max(0, len(text) - 1)
            self.rest = text[end:]
            return _in_form(text[:end], self._form)
        begins, is_cut = _segments(text, self._form)
        end = len(text) if final else int(begins[-1])
        self.rest = text[end:]
        cuts = [0, *(place for place in begins[is_cut].tolist() if place < end), end]
        parts = (text[cuts[i] : cuts[i + 1]] for i in range(len(cuts) - 1))
        return "".join(_in_form(part, self._form) for part in parts)


def _in_form(text: str, form: str) -> str:
    """Do the steps of a form."""
    for step in NORMALIZATIONS[form]:
        text = text.casefold() if step == "casefold" else unicodedata.normalize(step, text)  # type: ignore[arg-type]
    return text


def _segments(text: str, form: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where the segments of a text begin, its first character included, and which of them are cuts.

    A cut is where a part of a segment begins that is longer than `LONGEST_SEGMENT`.
    """
    may_begin = np.ones(len(text), bool) if text.isascii() else _may_begin(utf_32(text), form)
    may_begin[0] = True
    begins = np.flatnonzero(may_begin)
    lengths = np.diff(begins, append=len(text))
    if lengths.max() <= LONGEST_SEGMENT:
        return begins, np.zeros(len(begins), bool)
    more = [
        np.arange(begin + LONGEST_SEGMENT, begin + length, LONGEST_SEGMENT)
        for begin, length in zip(begins, lengths, strict=True)
        if length > LONGEST_SEGMENT
    ]
    cuts = np.concatenate(more)
    everywhere = np.sort(np.concatenate([begins, cuts]))
    return everywhere, np.isin(everywhere, cuts)


def _may_begin(codes: NDArray[np.uint32], form: str) -> NDArray[np.bool_]:
    """Whether each character begins a segment, whatever precedes it."""
    table = _table(form)
    found = table[codes]
    if found.min() < 0:
        for code in np.unique(codes[found < 0]).tolist():
            table[code] = _is_start(chr(code), form)
        found = table[codes]
    return found > 0


@cache
def _table(form: str) -> NDArray[np.int8]:  # noqa: ARG001  (each form has its own)
    """By code point, whether it begins a segment; -1 until it is needed for the first time."""
    return np.full(CODE_POINTS, -1, np.int8)


def _is_start(character: str, form: str) -> bool:
    """Whether no step of a form lets a character depend on what precedes it."""
    text = character
    for step in NORMALIZATIONS[form]:
        if step == "casefold":
            text = text.casefold()
            continue
        text = unicodedata.normalize(step, text)  # type: ignore[arg-type]
        first = unicodedata.normalize("NFD", text)[0]
        if unicodedata.combining(first) or ord(first) in _composing():
            return False
    return True


@cache
def _composing() -> frozenset[int]:
    """The characters that are not the first of a canonical decomposition of two: they may compose."""
    pairs = (unicodedata.decomposition(chr(code)).split() for code in range(DECOMPOSED))
    return HANGUL.union(int(pair[1], 16) for pair in pairs if len(pair) == 2 and pair[0][0] != "<")


# ---- Offsets -----------------------------------------------------------------------------------------


def offsets(text: str, newlines: str, form: str | None) -> NDArray[np.int64]:
    """The span (start, stop) in a text of each symbol that it is read as (n, 2).

    The spans ascend, and cover the text without a byte order mark that is left out. A symbol that
    normalization leaves as it is has the span of its own character. In a segment that normalization changes,
    each symbol has the span of the whole segment.
    """
    starts, stops = np.arange(len(text)), np.arange(1, len(text) + 1)
    if newlines == "universal":
        starts, stops = _read_spans(text)
        text = universal_newlines(text)
    if form is not None and normalized(text, form) != text:
        begins, ends, counts = _units(text, form)
        starts, stops = np.repeat(starts[begins], counts), np.repeat(stops[ends - 1], counts)
    return np.stack([starts, stops], axis=1).astype(np.int64)


def _read_spans(text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The starts and stops of the characters that the rule of newlines keeps."""
    codes = utf_32(text)
    second = np.zeros(len(codes), bool)  # the \n of an \r\n
    second[1:] = (codes[1:] == LINE_FEED) & (codes[:-1] == CARRIAGE_RETURN)
    kept = ~second
    kept[:1] &= not text.startswith(BYTE_ORDER_MARK)
    starts = np.flatnonzero(kept)
    return starts, starts + 1 + np.append(second[1:], False)[starts]


def _units(text: str, form: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The shortest parts of a text that normalization keeps apart: beginnings, ends, and symbols of each."""
    begins, _ = _segments(text, form)
    begun: list[int] = []
    counts: list[int] = []
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(text)], strict=True):
        segment = text[begin:end]
        found = _in_form(segment, form)
        if found == segment:
            begun += range(begin, end)
            counts += [1] * len(segment)
        else:
            begun.append(begin)
            counts.append(len(found))
    ends = [*begun[1:], len(text)]
    return np.array(begun), np.array(ends), np.array(counts)
