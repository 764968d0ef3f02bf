"""Texts become streams: B parallel rows of symbol ids, from which training cuts its windows.

A text is one running text, or a list of documents. Documents become one plain sequence in which the
vocabulary's boundary ends each of them and comes before the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import checks
from fastrnn.vocabulary import UNITS, Text, Vocabulary, unit_of

#: What `fastrnn.train` takes: a text, a file's path, or documents.
Source = Text | os.PathLike[str] | Iterable[Text]


@dataclass(frozen=True)
class Corpus:
    """Texts of one unit: a single running text, or documents."""

    texts: list[Text]
    unit: str
    documents: bool

    @property
    def size(self) -> int:
        """The number of symbols, boundaries not counted."""
        return sum(map(len, self.texts))

    def split(self, held_out: float) -> tuple[Corpus, Corpus]:
        """Split off the last part: of the symbols of a running text, or of the documents."""
        if self.documents:
            count = int(len(self.texts) * (1 - held_out))
            first, last = self.texts[:count], self.texts[count:]
        else:
            (text,) = self.texts
            count = int(len(text) * (1 - held_out))
            first, last = [text[:count]], [text[count:]]
        return Corpus(first, self.unit, self.documents), Corpus(last, self.unit, self.documents)

    def vocabulary(self) -> Vocabulary:
        """The vocabulary of these texts."""
        return Vocabulary.of(self.texts, unit=self.unit, boundary=self.documents)

    def sequence(self, vocabulary: Vocabulary) -> NDArray[np.int32]:
        """All texts as one sequence of ids, with boundaries around documents."""
        if not self.documents:
            return vocabulary.encode(self.texts[0])
        boundary = np.array([vocabulary.boundary_id], np.int32)
        pieces = [boundary]
        for text in self.texts:
            pieces += [vocabulary.encode(text), boundary]
        return np.concatenate(pieces)


def read_corpus(source: Source, unit: str | None = None) -> Corpus:
    """Read what `fastrnn.train` is given.

    Raises
    ------
    TypeError
        The source is none of a str, bytes, a path or an iterable of texts, or mixes str and bytes.
    ValueError
        A file is not UTF-8, ``unit`` is unknown or is given without a file.
    OSError
        A file cannot be read.
    """
    if isinstance(source, os.PathLike):
        text = read_text(source, checks.one_of("unit", unit or "character", UNITS))
        return Corpus([text], unit_of(text), documents=False)
    if unit is not None:
        raise ValueError(f"unit={unit!r} is for a file; a str is characters and bytes are bytes")
    if isinstance(source, str | bytes | bytearray | memoryview):
        return Corpus([_plain(source)], unit_of(source), documents=False)
    if not isinstance(source, Iterable):
        raise TypeError(
            f"text is {type(source).__name__}; it must be a str, bytes, a path or an iterable of texts"
        )
    texts = [_plain(text) for text in source]
    units = {unit_of(text) for text in texts} or {"character"}
    if len(units) > 1:
        raise TypeError("the documents must be all str or all bytes, and are mixed")
    return Corpus(texts, units.pop(), documents=True)


def _plain(text: Any) -> Text:
    """A text as str or bytes; anything else is a ``TypeError``."""
    return text if unit_of(text) == "character" else bytes(text)


def read_text(path: os.PathLike[str], unit: str) -> Text:
    """Read a whole file as bytes or as UTF-8, with its line ends as they are."""
    data = Path(path).read_bytes()
    return data if unit == "byte" else decode_utf8(data, os.fspath(path), "; unit='byte' reads it as bytes")


def decode_utf8(data: bytes, name: str, advice: str) -> str:
    """Decode UTF-8, or raise a ``ValueError`` that names the file and the place, and gives advice."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}{advice}"
        ) from error


@dataclass(frozen=True)
class Streams:
    """B parallel rows of a sequence: each step's inputs and targets, (N, B), and where rows start."""

    inputs: NDArray[np.int32]
    targets: NDArray[np.int32]
    starts: NDArray[np.uint8]

    @property
    def n_steps(self) -> int:
        """N, the length of the rows."""
        return len(self.inputs)

    @property
    def batch_size(self) -> int:
        """B, the number of rows."""
        return int(self.inputs.shape[1])

    def windows(self, seq_length: int) -> int:
        """How many windows one pass has; the last may be shorter."""
        return -(-self.n_steps // seq_length)


def make_streams(
    ids: NDArray[np.int32], batch_size: int, *, boundary_id: int | None = None, carry_state: bool = False
) -> Streams:
    """Lay a sequence of n ids out as rows that together cover it.

    The rows are equally long, and evenly placed; where their number does not divide the sequence, they
    overlap by a symbol here and there, so that nothing is left out. A row starts at its first step,
    unless the state is to be carried from the end of the row, and wherever its input is the boundary.
    """
    transitions = len(ids) - 1
    N = -(-transitions // batch_size)
    first = np.arange(batch_size) * (transitions - N) // max(1, batch_size - 1)
    block = np.ascontiguousarray(ids[first + np.arange(N + 1)[:, np.newaxis]])
    starts = np.zeros((N, batch_size), np.uint8)
    if boundary_id is not None:
        starts[block[:-1] == boundary_id] = 1
    if not carry_state:
        starts[0] = 1
    return Streams(block[:-1], block[1:], starts)


def stream_bytes(transitions: int, batch_size: int) -> int:
    """The bytes that `make_streams` allocates, with its temporary index."""
    N = -(-transitions // batch_size)
    return (N + 1) * batch_size * (4 + 8 + 1)


def fit_window(transitions: int, seq_length: int | None, batch_size: int) -> tuple[int, int]:
    """Shrink a window of T steps and B rows to a sequence of so many transitions; fewer rows first."""
    T = transitions if seq_length is None else min(seq_length, transitions)
    return T, min(batch_size, max(1, transitions // T))
