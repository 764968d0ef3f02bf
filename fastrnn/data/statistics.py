"""What is in a corpus: how often each symbol occurs, the documents, and what a reader may not expect.

A text is read once, in pieces, so the memory that this takes does not grow with it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.normalization import BYTE_ORDER_MARK, LINE_FEED, Normalizer
from fastrnn.data.vocabulary import count_symbols

#: How many symbols of documents are counted at a time.
COUNTED_AT_ONCE = 1 << 16

#: Splits the pieces of a text into documents: pieces of them, and whether a document ends there.
Split = Callable[[Iterable[Any]], Iterator[tuple[Any, bool]]]


@dataclass
class Statistics:
    """Counts of some texts; `add` adds a text.

    Parameters
    ----------
    unit
        ``"character"`` or ``"byte"``.
    newlines, normalization
        How characters are read, as in `fastrnn.train`.
    split
        Splits a text into documents; ``None`` if the texts are one running text.

    Attributes
    ----------
    counts
        int64: how often each code point or byte occurs, as the text is read.
    documents
        The number of documents; of a running text, of lines.
    longest
        The symbols of the longest document.
    marks, pairs, returns
        The byte order marks at the beginning of texts, and the line ends CR LF and CR, before they are read
        by the rule of newlines.
    is_nfc
        Whether the text is in Unicode's normalization form C before it is normalized.
    """

    unit: str
    newlines: str = "universal"
    normalization: str | None = None
    split: Split | None = None
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    documents: int = 0
    longest: int = 0
    marks: int = 0
    pairs: int = 0
    returns: int = 0
    is_nfc: bool = True

    def add(self, pieces: Iterable[Any]) -> None:
        """Add a text that comes in pieces, whose newlines were not changed."""
        read = pieces if self.unit == "byte" else self._read(pieces)
        if self.split is None:
            self._add_running(read)
            return
        length, some, size = 0, [], 0
        for piece, is_end in self.split(read):
            some.append(piece)
            length += len(piece)
            if is_end:
                self.documents += 1
                self.longest, size, length = max(self.longest, length), size + length, 0
            if size + length > COUNTED_AT_ONCE:
                self._count(some[0][:0].join(some))
                some, size = [], 0
        if some:
            self._count(some[0][:0].join(some))

    def _add_running(self, pieces: Iterable[Any]) -> None:
        """Count the symbols and the lines of a text."""
        before, last = int(self.counts[LINE_FEED]) if len(self.counts) > LINE_FEED else 0, None
        for piece in pieces:
            self._count(piece)
            last = piece[-1:] or last
        if last is not None:
            ends = int(self.counts[LINE_FEED]) - before if len(self.counts) > LINE_FEED else 0
            self.documents += ends + (last not in {"\n", b"\n"})

    def _count(self, piece: Any) -> None:
        found = count_symbols([piece])
        longer, shorter = (found, self.counts) if len(found) > len(self.counts) else (self.counts, found)
        longer[: len(shorter)] += shorter
        self.counts = longer

    def _read(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the pieces of a text as a model reads it, and note what it does not show."""
        universal = self.newlines == "universal"
        newlines = io.IncrementalNewlineDecoder(None, translate=universal)
        normalizer = None if self.normalization is None else Normalizer(self.normalization)
        composer = Normalizer("nfc")
        is_first = True
        for piece, is_last in _with_last(pieces):
            text = piece
            if is_first and text:
                is_mark, is_first = text.startswith(BYTE_ORDER_MARK), False
                self.marks += is_mark
                text = text[1:] if is_mark and universal else text
            self._note_ends(text)
            text = newlines.decode(text, final=is_last)
            given = composer.rest + text
            composed = composer.normalize(text, final=is_last)
            self.is_nfc &= composed == given[: len(given) - len(composer.rest)]
            yield text if normalizer is None else normalizer.normalize(text, final=is_last)

    def _note_ends(self, text: str) -> None:
        """Count the line ends that are not LF; no piece ends within a CR LF."""
        if "\r" in text:
            pairs = text.count("\r\n")
            self.pairs += pairs
            self.returns += text.count("\r") - pairs


def _with_last(pieces: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield pieces and whether each is the last, which is empty."""
    for piece in pieces:
        yield piece, False
    yield "", True
