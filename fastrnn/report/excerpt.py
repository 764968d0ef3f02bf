"""The part of a text that a report shows: its beginning, up to a largest number of symbols."""

from __future__ import annotations

import array
import numbers
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.core.checks import shown
from fastrnn.data.lines import lines_of
from fastrnn.data.sources import require_order, values_of
from fastrnn.data.vocabulary import Text, Vocabulary, whole_numbers

#: The most symbols that a report shows; the end of a document counts as one.
MAX_SYMBOLS = 20_000

#: How many characters are read for each symbol that may be shown: normalization can join some.
READ_AHEAD = 4


@dataclass(frozen=True)
class Excerpt:
    """Texts as a model reads them, of at most `MAX_SYMBOLS` symbols.

    Attributes
    ----------
    texts
        The texts.
    is_whole
        Whether nothing was cut. Otherwise the last text may be incomplete.
    """

    texts: list[Text]
    is_whole: bool

    @classmethod
    def of(cls, vocabulary: Vocabulary, source: Any) -> Excerpt:
        """The beginning of a text, or of an iterable of texts, which is read no further than needed.

        Raises
        ------
        TypeError
            The source is neither a text nor an iterable of texts.
        """
        longest = READ_AHEAD * MAX_SYMBOLS
        read = (
            (vocabulary.as_read(text[:longest]), len(text) <= longest) for text in _texts(vocabulary, source)
        )
        return cls.of_read(vocabulary, read)

    @classmethod
    def of_read(cls, vocabulary: Vocabulary, texts: Iterable[tuple[Any, bool]]) -> Excerpt:
        """The beginning of texts that were read by `Vocabulary.as_read`, each with whether it is whole."""
        kept: list[Text] = []
        room = MAX_SYMBOLS
        for text, is_whole in texts:
            if room <= 0:
                return cls(kept, is_whole=False)
            kept.append(text[:room])
            if not is_whole or len(text) > room:
                return cls(kept, is_whole=False)
            room -= max(1, len(text) + vocabulary.boundary)
        return cls(kept, is_whole=True)


def _texts(vocabulary: Vocabulary, source: Any) -> Iterator[Any]:
    """The texts of a source, each with a length and slices."""
    if vocabulary.unit == "token":
        yield from map(whole_numbers, _token_texts(source))
        return
    if isinstance(source, str | bytes | bytearray | memoryview):
        yield source
        return
    for place, text in enumerate(_several(source)):
        if not isinstance(text, str | bytes | bytearray | memoryview):
            raise TypeError(f"text {place} is {shown(text)}; it must be str or bytes")
        yield text


def _token_texts(source: Any) -> Iterable[Any]:
    """The texts of tokens in a source: a sequence of numbers is one."""
    if isinstance(source, array.array) or hasattr(source, "__array__"):
        source = np.asarray(source)
        return [source] if source.dtype != object and source.ndim < 2 else source
    if isinstance(source, list | tuple) and (not source or isinstance(source[0], numbers.Real)):
        return [source]
    return _several(source)


def _several(source: Any) -> Iterable[Any]:
    require_order(source)
    if isinstance(source, str | bytes | bytearray | memoryview) or not isinstance(source, Iterable):
        raise TypeError(f"text is {type(source).__name__}; it must be a text or an iterable of texts")
    return lines_of(source) if hasattr(source, "readline") else values_of(source)
