"""What is trained on: a running text in memory or in a file, or documents; split, counted, read as ids.

Documents become one plain sequence in which the vocabulary's boundary ends each of them and comes before
the first. Nothing is laid out as ids as a whole: a sequence is read in parts.
"""

from __future__ import annotations

import array
import numbers
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn import checks
from fastrnn.files import TextFile, open_text
from fastrnn.vocabulary import (
    Text,
    TokenVocabulary,
    Vocabulary,
    code_points,
    count_symbols,
    unit_of,
    whole_numbers,
)

#: What a file may be read as.
FILE_UNITS = ("character", "byte")

#: What stands for a boundary where documents are spelled: a symbol of their unit, number 0.
SEPARATORS: dict[str, Any] = {"character": "\0", "byte": b"\0", "token": np.zeros(1, np.int32)}

#: What `fastrnn.train` takes: a text, a file's path, or documents.
Source = Text | os.PathLike[str] | Iterable[Text]

#: Symbols that are counted at once.
PIECE = 1 << 16


class Sequence(Protocol):
    """A long sequence of ids that is read in parts."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """The ids from ``start`` up to ``stop``."""


class Corpus(ABC):
    """Texts of one unit. It may hold a file open: it is closed by a ``with`` statement, if not before."""

    unit: str

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of symbols, boundaries not counted."""

    @abstractmethod
    def split(self, held_out: float) -> tuple[Corpus, Corpus]:
        """Split off the last part: of the symbols of a running text, or of the documents."""

    @abstractmethod
    def counts(self) -> NDArray[np.int64]:
        """How often each code point occurs, as `count_symbols` has it."""

    @abstractmethod
    def sequence(self, vocabulary: Vocabulary) -> Sequence:
        """All texts as one sequence of ids, with boundaries around documents."""

    def close(self) -> None:  # noqa: B027  (most have none)
        """Close the file, where there is one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class TokenText:
    """A running text of tokens whose slices are found right or wrong, as int32."""

    tokens: NDArray[Any]
    vocabulary: TokenVocabulary

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, part: slice) -> NDArray[np.int32]:
        return self.vocabulary.encode(self.tokens[part], part.start)


@dataclass(frozen=True)
class RunningText(Corpus):
    """A part of one running text, from symbol ``start`` up to ``stop``."""

    text: Text | TextFile | TokenText
    unit: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def split(self, held_out: float) -> tuple[RunningText, RunningText]:
        middle = self.start + int(self.size * (1 - held_out))
        return (
            RunningText(self.text, self.unit, self.start, middle),
            RunningText(self.text, self.unit, middle, self.stop),
        )

    def counts(self) -> NDArray[np.int64]:
        places = range(self.start, self.stop, PIECE)
        pieces = (self.text[place : min(place + PIECE, self.stop)] for place in places)
        return count_symbols(pieces, self.start)

    def sequence(self, vocabulary: Vocabulary) -> Sequence:
        return _RunningSequence(self, vocabulary)

    def close(self) -> None:
        if isinstance(self.text, TextFile):
            self.text.close()


@dataclass(frozen=True)
class _RunningSequence:
    """The ids of a running text."""

    corpus: RunningText
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return self.corpus.size

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        text, first = self.corpus.text, self.corpus.start
        part = text[first + start : first + stop]
        try:
            return self.vocabulary.encode(part)
        except ValueError as error:
            if isinstance(text, TextFile):  # the vocabulary knew all of the file's symbols
                raise text.changed() from error
            raise


@dataclass(frozen=True)
class Documents(Corpus):
    """Texts, each of which is learnt with its end."""

    texts: list[Text]
    unit: str

    @cached_property
    def boundaries(self) -> NDArray[np.int64]:
        """Where the boundaries are in the sequence: before the first document and after each."""
        return np.cumsum(np.fromiter((0, *(len(text) + 1 for text in self.texts)), np.int64))

    @property
    def length(self) -> int:
        """The number of symbols with the boundaries."""
        return int(self.boundaries[-1]) + 1

    @property
    def size(self) -> int:
        return self.length - len(self.boundaries)

    def split(self, held_out: float) -> tuple[Documents, Documents]:
        count = int(len(self.texts) * (1 - held_out))
        return Documents(self.texts[:count], self.unit), Documents(self.texts[count:], self.unit)

    def counts(self) -> NDArray[np.int64]:
        places = range(0, self.length, PIECE)
        pieces = (self.spell(place, min(place + PIECE, self.length)) for place in places)
        try:
            counts = count_symbols(pieces)
        except ValueError:
            for text in self.texts:  # one that is wrong says where in its document
                code_points(text)
            raise
        counts[0] -= len(self.boundaries)
        return counts

    def sequence(self, vocabulary: Vocabulary) -> Sequence:
        return _DocumentSequence(self, vocabulary)

    def spell(self, start: int, stop: int, separator: Any = None) -> Any:
        """A part of the sequence as a text, with a separator in the place of each boundary."""
        separator = SEPARATORS[self.unit] if separator is None else separator
        first = int(np.searchsorted(self.boundaries, start, "right")) - 1
        last = min(int(np.searchsorted(self.boundaries, stop, "left")), len(self.texts))
        pieces: list[Any] = self.texts[first:last]
        skipped = 0
        if pieces:  # only parts of the outer documents, which may be long
            pieces[-1] = pieces[-1][: stop - int(self.boundaries[last - 1]) - 1]
            skipped = max(0, start - int(self.boundaries[first]) - 1)
            pieces[0] = pieces[0][skipped:]
        joined = _joined([separator[:0], *pieces, separator[:0]], separator)
        begin = start - int(self.boundaries[first]) - skipped
        return joined[begin : begin + stop - start]


@dataclass(frozen=True)
class _DocumentSequence:
    """The ids of documents, with boundaries around them."""

    corpus: Documents
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return self.corpus.length

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        boundaries = self.corpus.boundaries
        first, last = np.searchsorted(boundaries, (start, stop))
        known = self.vocabulary.decode(np.zeros(1, np.int32))
        ids = self.vocabulary.encode(self.corpus.spell(start, stop, known))
        np.put(ids, boundaries[first:last] - start, len(self.vocabulary.symbols))
        return ids


def _joined(texts: list[Any], separator: Any) -> Any:
    """Texts of one unit one after the other, with a separator between them."""
    if isinstance(separator, str | bytes):
        return separator.join(texts)
    alternating = [separator] * (2 * len(texts) - 1)
    alternating[::2] = texts
    return np.concatenate(alternating)


def read_corpus(source: Source, unit: str | None = None, vocabulary: TokenVocabulary | None = None) -> Corpus:
    """What `fastrnn.train` is given; a file is opened, and read in parts when they are asked for.

    Tokens come with their vocabulary, and nothing else does.

    Raises
    ------
    TypeError
        The source is none of a str, bytes, a path or an iterable of texts, or mixes str and bytes; or it
        has tokens and there is no vocabulary, or the other way round.
    ValueError
        A token is outside the vocabulary.
        A file is not UTF-8, ``unit`` is unknown or is given without a file.
    OSError
        A file cannot be read.
    """
    if isinstance(source, os.PathLike):
        if vocabulary is not None:
            raise _not_tokens(source)
        unit = checks.one_of("unit", unit or "character", FILE_UNITS)
        return _running(open_text(source, unit), unit)
    if unit is not None:
        raise ValueError(f"unit={unit!r} is for a file; a str is characters and bytes are bytes")
    if vocabulary is not None:
        return _read_tokens(source, vocabulary)
    if isinstance(source, str | bytes | bytearray | memoryview):
        return _running(_plain(source), unit_of(source))
    if not isinstance(source, Iterable):
        raise TypeError(
            f"text is {type(source).__name__}; it must be a str, bytes, a path or an iterable of texts"
        )
    texts = [_plain(text) for text in source]
    units = {unit_of(text) for text in texts} or {"character"}
    if len(units) > 1:
        raise TypeError("the documents must be all str or all bytes, and are mixed")
    return Documents(texts, units.pop())


def _read_tokens(source: Any, vocabulary: TokenVocabulary) -> Corpus:
    """A running text of tokens, which is read in parts, or documents of them."""
    if isinstance(source, str | bytes | bytearray | memoryview) or not isinstance(source, Iterable):
        raise _not_tokens(source)
    if hasattr(source, "__array__") or isinstance(source, array.array):
        source = np.asarray(source)
    elif not isinstance(source, list | tuple):
        source = list(source)
    if _is_running(source):
        return _running(TokenText(whole_numbers(source), vocabulary), "token")
    texts: list[Text] = []
    for place, text in enumerate(source):
        try:
            texts.append(vocabulary.encode(text))
        except (TypeError, ValueError) as error:
            raise type(error)(f"document {place} of {len(source)}: {error}") from error
    return Documents(texts, "token")


def _is_running(tokens: Any) -> bool:
    """Whether an array or a list has numbers, and not documents."""
    if isinstance(tokens, np.ndarray) and tokens.dtype != object:
        return tokens.ndim < 2
    return len(tokens) > 0 and isinstance(tokens[0], numbers.Real)


def _not_tokens(source: object) -> TypeError:
    return TypeError(
        f"text is {type(source).__name__}, and vocabulary is for whole numbers: leave it out, or pass a "
        "sequence of them, or an iterable of such sequences"
    )


def _running(text: Text | TextFile | TokenText, unit: str) -> RunningText:
    return RunningText(text, unit, 0, len(text))


def _plain(text: Any) -> Text:
    """A text as str or bytes; anything else is a ``TypeError``."""
    if isinstance(text, numbers.Real | np.ndarray | list | tuple | array.array):
        raise TypeError(
            f"a text must be str or bytes, and this is {type(text).__name__}; whole numbers want "
            "vocabulary=, the tokens' names or how many there are"
        )
    return text if unit_of(text) == "character" else bytes(text)
