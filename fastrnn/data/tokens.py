"""Tokens: whole numbers that stand for words or for anything else."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.data.vocabulary import Text, Vocabulary, whole_numbers

#: The most tokens of a vocabulary: the number of ids with the boundary is then an int32 too.
MAX_TOKENS = (1 << 31) - 2

#: Bytes of memory for each token: its id and its count.
TOKEN_BYTES = 4 + 8


def _is_utf8(name: str) -> bool:
    """Whether a str can be written as UTF-8: it has no lone surrogate."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class TokenVocabulary(Vocabulary):
    """Tokens: whole numbers that stand for words or for anything else; each is its own id.

    Attributes
    ----------
    tokens
        The names of the tokens in the order of their ids, or ``None``.
    """

    tokens: tuple[str, ...] | None = None

    @classmethod
    def of_tokens(cls, vocabulary: object) -> Self:
        """The vocabulary of tokens with these names, or of this number of tokens.

        Raises
        ------
        TypeError
            ``vocabulary`` is neither a whole number nor a sequence of str.
        ValueError
            There are no tokens, or too many; two have the same name; a name has a lone surrogate.
        MemoryError
            The vocabulary does not fit into memory.
        """
        if isinstance(vocabulary, numbers.Integral):
            return cls.of_count(checks.whole_number("vocabulary", vocabulary))
        unordered = isinstance(vocabulary, str | bytes | Mapping | AbstractSet)
        if unordered or not isinstance(vocabulary, Iterable):
            raise TypeError(
                f"vocabulary is {type(vocabulary).__name__}; it must be a sequence of distinct str, the "
                "tokens' names in the order of their ids, or how many tokens there are"
            )
        return cls.of_names(tuple(vocabulary))

    @classmethod
    def of_count(cls, count: int, boundary: bool = False, names: tuple[str, ...] | None = None) -> Self:
        """The vocabulary of this number of tokens."""
        if count > MAX_TOKENS:
            raise ValueError(f"vocabulary={count} must be at most {MAX_TOKENS}")
        memory.require(TOKEN_BYTES * count, f"a vocabulary of {count} tokens")
        return cls("token", np.arange(count, dtype=np.uint32), boundary, tokens=names)

    @classmethod
    def of_names(cls, names: tuple[object, ...]) -> Self:
        """The vocabulary of tokens that have these names."""
        places: dict[str, int] = {}
        for place, name in enumerate(names):
            if not isinstance(name, str):
                raise TypeError(f"vocabulary[{place}] is {type(name).__name__}; a token's name must be str")
            if places.setdefault(name, place) != place:
                raise ValueError(
                    f"vocabulary[{place}] is {name!r}, and so is vocabulary[{places[name]}]; "
                    "the tokens' names must be distinct"
                )
            if not _is_utf8(name):
                raise ValueError(f"vocabulary[{place}] is {name!r}, which has a lone surrogate")
        if not names:
            raise ValueError("vocabulary is empty; there must be at least one token")
        return cls.of_count(len(names), names=tuple(map(str, places)))

    def encode_as_is(
        self, text: Text, position: int = 0, *, unknown: str | float = "error"
    ) -> NDArray[np.int32]:
        """The ids of a text's tokens, which are the same numbers; an int32 array is not copied.

        ``position`` and ``unknown`` are as in `Vocabulary.encode_as_is`.

        Raises
        ------
        TypeError
            The text is not a sequence of whole numbers.
        ValueError
            A number is outside the vocabulary.
        """
        tokens = whole_numbers(text)
        if len(tokens) <= checks.COPIED_AT_ONCE:
            return self._ids_of(tokens, position, unknown)
        memory.require(4 * len(tokens), f"the ids of {len(tokens):,} tokens")
        ids = np.empty(len(tokens), np.int32)
        for start in range(0, len(tokens), checks.COPIED_AT_ONCE):
            some = tokens[start : start + checks.COPIED_AT_ONCE]
            ids[start : start + len(some)] = self._ids_of(some, position + start, unknown)
        return ids

    def _ids_of(self, ids: NDArray[Any], position: int, unknown: str | float) -> NDArray[np.int32]:
        V = len(self.symbols)
        if ids.size and (ids.min() < 0 or ids.max() >= V):
            if unknown != "error":
                found = ids.astype(np.int32)
                found[(ids < 0) | (ids >= V)] = -1
                return found
            at = int(np.argmax((ids < 0) | (ids >= V)))
            boundary = ", the boundary, which fastrnn adds to documents" * bool(ids[at] == self.boundary_id)
            raise ValueError(
                f"the token at position {position + at} is {ids[at]}{boundary}; it must be within 0 … {V - 1}"
            )
        return ids.astype(np.int32, copy=False)

    def joined(self, texts: list[Any]) -> NDArray[Any]:
        if len(texts) == 1:
            return whole_numbers(texts[0])
        arrays = [np.empty(0, np.int64), *map(whole_numbers, texts)]
        # a number too large for int64 becomes negative, so it is unknown too
        return np.concatenate(arrays, dtype=np.int64, casting="unsafe")

    def decode(self, ids: NDArray[Any]) -> NDArray[np.int32]:
        return ids.astype(np.int32)

    def joined_pieces(self, pieces: Iterable[Any]) -> NDArray[np.int32]:
        return np.concatenate([np.empty(0, np.int32), *pieces])
