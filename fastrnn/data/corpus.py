"""The texts to train on: a running text in memory or in a file, or documents; split, counted, read as ids.

Documents become one sequence: the vocabulary's boundary comes before the first document and after each one.
A sequence is read in parts, so its ids are never all in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as PySequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.text_file import Lines, TextFile
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Text, Vocabulary, code_points, count_symbols

#: The symbol that `Documents.spell` writes for a boundary, by unit: the symbol number 0.
SEPARATORS: dict[str, Any] = {"character": "\0", "byte": b"\0", "token": np.zeros(1, np.int32)}

#: How many symbols are counted at a time.
COUNTED_AT_ONCE = 1 << 16


class Sequence(Protocol):
    """A long sequence of ids that is read in parts."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """The ids from ``start`` up to ``stop``."""


class Corpus(ABC):
    """Texts of one unit. It may hold an open file, which `close` or a ``with`` statement closes."""

    unit: str
    #: What the rule of newlines changed in the texts, as messages for the log.
    changes: tuple[str, ...]

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of symbols, boundaries not counted."""

    @abstractmethod
    def split(self, held_out: float) -> tuple[Corpus, Corpus]:
        """Split in two; the second part has this fraction of the symbols, or of the documents."""

    @abstractmethod
    def counts(self) -> NDArray[np.int64]:
        """How often each code point occurs, as in `count_symbols`."""

    @abstractmethod
    def sequence(self, vocabulary: Vocabulary) -> Sequence:
        """All texts as one sequence of ids, with boundaries around documents."""

    def close(self) -> None:  # noqa: B027  (most corpora have no file)
        """Close the file, if there is one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class TokenText:
    """A running text of tokens; each slice is checked and becomes int32."""

    tokens: NDArray[Any]
    vocabulary: TokenVocabulary

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, part: slice) -> NDArray[np.int32]:
        return self.vocabulary.encode_as_is(self.tokens[part], part.start)


@dataclass(frozen=True)
class RunningText(Corpus):
    """A part of one running text, from symbol ``start`` up to ``stop``."""

    text: Text | TextFile | TokenText
    unit: str
    start: int
    stop: int
    changes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return self.stop - self.start

    def split(self, held_out: float) -> tuple[RunningText, RunningText]:
        middle = self.start + int(self.size * (1 - held_out))
        return replace(self, stop=middle), replace(self, start=middle)

    def counts(self) -> NDArray[np.int64]:
        places = range(self.start, self.stop, COUNTED_AT_ONCE)
        pieces = (self.text[place : min(place + COUNTED_AT_ONCE, self.stop)] for place in places)
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
        return _encode(self.vocabulary, part, text)


@dataclass(frozen=True)
class JoinedSequence:
    """The ids of one text and then those of another one of the same kind.

    The boundary at the end of the first one is also the one before the second, if they are documents.
    """

    first: Sequence
    second: Sequence
    boundary_id: int | None

    @property
    def _skipped(self) -> int:
        """How many ids of the second text are left out at its beginning."""
        return int(self.boundary_id is not None and len(self.second) > 0)

    def __len__(self) -> int:
        return len(self.first) + len(self.second) - self._skipped

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        n, skipped = len(self.first), self._skipped
        if stop <= n:
            return self.first.read(start, stop)
        rest = self.second.read(max(start, n) - n + skipped, stop - n + skipped)
        return rest if start >= n else np.concatenate([self.first.read(start, n), rest])


def _encode(vocabulary: Vocabulary, part: Text, source: object) -> NDArray[np.int32]:
    """The ids of a part of a text. A file that has a symbol without an id has changed since the count."""
    try:
        return vocabulary.encode_as_is(part, unknown="symbol" if vocabulary.unknown else "error")
    except ValueError as error:
        if isinstance(source, TextFile):
            raise source.changed() from error
        raise


@dataclass(frozen=True)
class Documents(Corpus):
    """Texts; a model learns each one with its end.

    Attributes
    ----------
    texts
        All the texts, such as the `Lines` of a file.
    lengths
        int64: the number of symbols of each text.
    order
        int64: the numbers of the texts that this corpus has, in its order.
    """

    texts: PySequence[Text]
    unit: str
    lengths: NDArray[np.int64]
    order: NDArray[np.int64]
    changes: tuple[str, ...] = ()

    @classmethod
    def of(cls, texts: PySequence[Text], unit: str, changes: tuple[str, ...] = ()) -> Documents:
        """The corpus of all these texts, in their order."""
        if isinstance(texts, Lines):
            lengths = texts.lengths
        else:
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return cls(texts, unit, lengths, np.arange(len(texts)), changes)

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def boundaries(self) -> NDArray[np.int64]:
        """Where the boundaries are in the sequence: before the first document and after each."""
        boundaries = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.lengths[self.order] + 1, out=boundaries[1:])
        return boundaries

    @property
    def length(self) -> int:
        """The number of symbols with the boundaries."""
        return int(self.boundaries[-1]) + 1

    @property
    def size(self) -> int:
        return self.length - len(self.boundaries)

    def shuffled(self, rng: Any) -> Documents:
        """The same documents in a random order."""
        order = self.order[np.argsort(rng.random(len(self)), kind="stable")]
        return replace(self, order=order)

    def split(self, held_out: float) -> tuple[Documents, Documents]:
        count = len(self) - int(len(self) * held_out)
        return replace(self, order=self.order[:count]), replace(self, order=self.order[count:])

    def split_evenly(self, held_out: float) -> tuple[Documents, Documents]:
        """Split in two; the second part has this fraction of the documents, at even distances.

        With a tenth, it has each tenth document.
        """
        wholes = np.floor(np.arange(len(self) + 1) * held_out)
        is_held_out = wholes[1:] > wholes[:-1]
        return replace(self, order=self.order[~is_held_out]), replace(self, order=self.order[is_held_out])

    def counts(self) -> NDArray[np.int64]:
        in_order = replace(self, order=np.sort(self.order))  # this reads a file from its beginning to its end
        places = range(0, self.length, COUNTED_AT_ONCE)
        pieces = (in_order.spell(place, min(place + COUNTED_AT_ONCE, self.length)) for place in places)
        try:
            counts = count_symbols(pieces)
        except ValueError:
            for text in self.texts:  # raises again, with the position in the document
                code_points(text)
            raise
        counts[0] -= len(self.boundaries)
        return counts

    def sequence(self, vocabulary: Vocabulary) -> Sequence:
        return _DocumentSequence(self, vocabulary)

    def spell(self, start: int, stop: int, separator: Any = None) -> Any:
        """A part of the sequence as a text; each boundary becomes the separator."""
        separator = SEPARATORS[self.unit] if separator is None else separator
        first = int(np.searchsorted(self.boundaries, start, "right")) - 1
        last = min(int(np.searchsorted(self.boundaries, stop, "left")), len(self))
        pieces = self._take(self.order[first:last])
        skipped = 0
        if pieces:  # cut the first and the last document, which may be long
            pieces[-1] = pieces[-1][: stop - int(self.boundaries[last - 1]) - 1]
            skipped = max(0, start - int(self.boundaries[first]) - 1)
            pieces[0] = pieces[0][skipped:]
        joined = _joined([separator[:0], *pieces, separator[:0]], separator)
        begin = start - int(self.boundaries[first]) - skipped
        return joined[begin : begin + stop - start]

    def _take(self, places: NDArray[np.int64]) -> list[Any]:
        """The texts with these numbers."""
        return (
            self.texts.take(places)
            if isinstance(self.texts, Lines)
            else [self.texts[i] for i in places.tolist()]
        )

    def close(self) -> None:
        if isinstance(self.texts, Lines):
            self.texts.file.close()


@dataclass(frozen=True)
class _DocumentSequence:
    """The ids of documents, with boundaries around them."""

    corpus: Documents
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return self.corpus.length

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        boundaries, texts = self.corpus.boundaries, self.corpus.texts
        first, last = np.searchsorted(boundaries, (start, stop))
        known = self.vocabulary.decode(np.zeros(1, np.int32))
        spelled = self.corpus.spell(start, stop, known)
        ids = _encode(self.vocabulary, spelled, texts.file if isinstance(texts, Lines) else texts)
        np.put(ids, boundaries[first:last] - start, self.vocabulary.size - 1)
        return ids


def _joined(texts: list[Any], separator: Any) -> Any:
    """Join texts of one unit, with a separator between them."""
    if isinstance(separator, str | bytes):
        return separator.join(texts)
    alternating = [separator] * (2 * len(texts) - 1)
    alternating[::2] = texts
    return np.concatenate(alternating)
