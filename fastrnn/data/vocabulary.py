"""Symbols and their ids.

A symbol is a character (of a ``str``), a byte (of ``bytes``) or a token (of a sequence of whole numbers).
Ids run from 0 in the order of the symbols' code points; a token is its own id. If the model knows an unknown
symbol, which stands for all characters that are not in the vocabulary, it has the next id. If the texts are
documents, the last id is their boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.data.normalization import normalized, offsets, universal_newlines, utf_32

#: A text: characters, bytes, or tokens.
Text = str | bytes | Sequence[int] | NDArray[Any]

UNITS = ("character", "byte", "token")


def unit_of(text: object) -> str:
    """``"character"`` for a str, ``"byte"`` for bytes; anything else is a ``TypeError``."""
    if isinstance(text, str):
        return "character"
    if isinstance(text, memoryview) and (text.ndim, text.itemsize) != (1, 1):
        raise TypeError(
            f"a text of bytes has one dimension of them, and this is a memoryview of shape {text.shape} and "
            f"format {text.format!r}"
        )
    if isinstance(text, bytes | bytearray | memoryview):
        return "byte"
    raise TypeError(f"a text must be str or bytes, and this is {type(text).__name__}{if_missing(text)}")


def _joinable(text: Any) -> Any:
    """A text of bytes as something that ``bytes.join`` takes; other buffers are a ``TypeError``."""
    unit_of(text)
    return text.tobytes() if isinstance(text, memoryview) else text  # it need not be contiguous


def if_missing(value: object) -> str:
    """What an error says of a missing value of a column: ``None``, NaN, or pandas' NA; else nothing."""
    is_nan = isinstance(value, float) and math.isnan(value)
    if not (value is None or is_nan or type(value).__name__ in {"NAType", "NaTType"}):
        return ""
    return ", a missing value: leave such rows out, with dropna(), drop_nulls() or drop_null()"


def whole_numbers(text: object) -> NDArray[Any]:
    """Return a text of tokens as an array (n); an array is not copied."""
    if isinstance(text, str | bytes | bytearray | memoryview):
        raise TypeError(f"tokens are whole numbers in a sequence, and this is {type(text).__name__}")
    array = checks.as_array("tokens", text, "whole numbers in a sequence")
    if array.shape == (0,):  # NumPy makes an empty list an array of floats
        return np.empty(0, np.int32)
    if array.ndim != 1:
        shape = f"has shape {array.shape}" if array.ndim else f"is {type(text).__name__}"
        raise TypeError(f"tokens are whole numbers in a sequence, and this {shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"tokens must be whole numbers, and have dtype {array.dtype}")
    return array


def code_points(text: Any, position: int = 0, *, surrogates: bool = False) -> NDArray[Any]:
    """The numbers of a text's symbols: uint32 code points, uint8 bytes, or tokens as they are.

    ``position`` is the place of the text in a longer one, for the error. ``surrogates`` allows lone
    surrogates, which are not characters.
    """
    if isinstance(text, np.ndarray):
        return text
    if isinstance(text, bytes | bytearray | memoryview):
        return np.frombuffer(_joinable(text), np.uint8)
    try:
        return utf_32(text, "surrogatepass" if surrogates else "strict")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text has a lone surrogate, {text[error.start]!r}, at position {position + error.start}, "
            "which is not a character; decode with errors='replace', or pass bytes"
        ) from error


def byte_lengths(codes: NDArray[Any]) -> NDArray[np.int64]:
    """How many bytes each code point has in UTF-8."""
    return 1 + np.searchsorted(np.array([0x80, 0x800, 0x10000]), codes, side="right")


def count_symbols(pieces: Iterable[Text], position: int = 0) -> NDArray[np.int64]:
    """Count each code point, byte or token of a text in pieces; the last count is that of the highest one.

    ``position`` is the place of the first piece in the text, for errors.
    """
    counts = np.zeros(1, np.int64)
    for piece in pieces:
        found = np.bincount(code_points(piece, position), minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
        position += len(piece)
    return counts


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The symbols that a model knows: characters or bytes. `fastrnn.data.tokens` has tokens.

    Attributes
    ----------
    unit
        ``"character"``, ``"byte"`` or ``"token"``.
    symbols
        uint32, ascending: code points, the bytes from 0 to 255, or the tokens from 0.
    boundary
        Whether there is one more symbol, which ends each document and comes before the first.
    newlines
        How a str is read, one of `fastrnn.data.normalization.NEWLINES`.
    normalization
        How its characters are then normalized, one of `fastrnn.data.normalization.NORMALIZATIONS`; ``None``
        changes nothing.
    unknown
        Whether there is one more symbol, for all characters that are not in ``symbols``.
    """

    unit: str
    symbols: NDArray[np.uint32]
    boundary: bool = False
    newlines: str = field(default="keep", kw_only=True)
    normalization: str | None = field(default=None, kw_only=True)
    unknown: bool = field(default=False, kw_only=True)

    @classmethod
    def of_alphabet(cls, alphabet: str, *, boundary: bool = False) -> Vocabulary:
        """The vocabulary of the characters of a str, or of the 128 that ``"ascii"`` names.

        Raises
        ------
        ValueError
            The alphabet is empty, or has a lone surrogate.
        """
        symbols = np.arange(128, dtype=np.uint32) if alphabet == "ascii" else np.unique(code_points(alphabet))
        if not symbols.size:
            raise ValueError("vocabulary='' has no character; it must have at least one")
        return cls("character", symbols, boundary)

    @classmethod
    def of(cls, texts: Iterable[Text], *, unit: str, boundary: bool = False) -> Vocabulary:
        """The vocabulary of these texts: their characters, or every byte."""
        return cls.of_counts([count_symbols(texts)], unit=unit, boundary=boundary)

    @classmethod
    def of_counts(
        cls, counts: Iterable[NDArray[np.int64]], *, unit: str, boundary: bool = False
    ) -> Vocabulary:
        """The vocabulary of the code points with a count above 0 in any of these; for bytes, every byte."""
        found = [np.arange(256)] if unit == "byte" else [np.flatnonzero(one) for one in counts]
        return cls(unit, np.unique(np.concatenate(found)).astype(np.uint32), boundary)

    @property
    def size(self) -> int:
        """V, the number of ids, the unknown symbol and the boundary included."""
        return len(self.symbols) + self.unknown + self.boundary

    @property
    def boundary_id(self) -> int | None:
        """The boundary's id, the last one; ``None`` if there is no boundary."""
        return self.size - 1 if self.boundary else None

    @property
    def unknown_id(self) -> int | None:
        """The unknown symbol's id, the one after the characters; ``None`` if there is no such symbol."""
        return len(self.symbols) if self.unknown else None

    def joined_with(self, other: Vocabulary) -> Vocabulary:
        """The vocabulary of the symbols of both; all else is this one's."""
        return replace(self, symbols=np.union1d(self.symbols, other.symbols))

    def ids_in(self, other: Vocabulary) -> NDArray[np.int64]:
        """The id in another vocabulary of each of this one's symbols (V); -1 if it is not there."""
        found = np.full(self.size, -1)
        places = np.searchsorted(other.symbols, self.symbols)
        is_known = np.isin(self.symbols, other.symbols)
        found[: len(self.symbols)][is_known] = places[is_known]
        for own, theirs in ((self.unknown_id, other.unknown_id), (self.boundary_id, other.boundary_id)):
            if own is not None and theirs is not None:
                found[own] = theirs
        return found

    def by_id(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn counts by code point into counts by id (V); the boundary's count is 0."""
        found = np.zeros(self.size, np.int64)
        ids = np.flatnonzero(self.symbols < len(counts))
        found[ids] = counts[self.symbols[ids]]
        if self.unknown:
            found[self.unknown_id] = counts.sum() - found.sum()
        return found

    def byte_lengths(self, counts: Callable[[], NDArray[np.int64]]) -> NDArray[np.float64] | None:
        """How many bytes each id has in UTF-8 (V); ``None`` for tokens.

        The end of a document has one, as the end of a line in a file. The unknown symbol has the mean of the
        characters that it stands for in a text, whose counts by code point ``counts`` returns.
        """
        if self.unit == "token":
            return None
        found = np.ones(self.size)
        if self.unit == "character":
            found[: len(self.symbols)] = byte_lengths(self.symbols)
        if self.unknown:
            others = counts()
            others[self.symbols[self.symbols < len(others)]] = 0
            codes = np.flatnonzero(others)
            if codes.size:
                found[self.unknown_id] = np.average(byte_lengths(codes), weights=others[codes])
        return found

    def count_bytes(self, text: Any, *, unknown: str | float | None = None) -> int:
        """The bytes in UTF-8 of a text whose newlines were read already; unknown symbols may be skipped.

        Raises
        ------
        ValueError
            Tokens have no bytes.
        """
        if self.unit == "token":
            raise ValueError(
                "a token has no bytes: for a model of tokens there are bits_per_symbol and perplexity"
            )
        if unknown == "skip":
            ids = self.encode_as_is(text, unknown=unknown)
            known = self.symbols[ids[ids >= 0]]
            return int(byte_lengths(known).sum()) if self.unit == "character" else known.size
        if self.unit == "byte" or text.isascii():
            return len(text)
        return len(text.encode("utf-8", "surrogatepass"))

    @cached_property
    def _ids(self) -> NDArray[np.int32]:
        """Ids by code point, -1 for one without an id; the last entry is for all higher code points."""
        table = np.full(int(self.symbols.max(initial=0)) + 2, -1, np.int32)
        table[self.symbols] = np.arange(len(self.symbols), dtype=np.int32)
        return table

    def ids_of_known(self, text: str) -> NDArray[np.int32]:
        """The ids of characters that are all in the vocabulary."""
        return self._ids.take(np.frombuffer(text.encode("utf-32-le"), np.uint32))

    def encode(self, text: Text, *, unknown: str | float = "error") -> NDArray[np.int32]:
        """The ids of a text's symbols; it is first read as `newlines` and `normalization` say.

        A symbol that is not in the vocabulary is an error if ``unknown`` is ``"error"``. If it is
        ``"symbol"``, it has the id of the unknown symbol, which the vocabulary must have; else its id is -1.

        Raises
        ------
        TypeError
            The text is not of the vocabulary's unit.
        ValueError
            The text has a symbol that is not in the vocabulary.
        """
        return self.encode_as_is(self.as_read(text), unknown=unknown)

    def as_read(self, text: Any) -> Any:
        """Return a text as `newlines` and `normalization` say; bytes and tokens are unchanged."""
        if not isinstance(text, str):
            return text
        text = universal_newlines(text) if self.newlines == "universal" else text
        return text if self.normalization is None else normalized(text, self.normalization)

    def offsets(self, text: Text) -> NDArray[np.int64]:
        """The span (start, stop) in a text of each symbol that it is read as (n, 2)."""
        if isinstance(text, str):
            return offsets(text, self.newlines, self.normalization)
        places = np.arange(len(text))
        return np.stack([places, places + 1], axis=1)

    def encode_as_is(
        self, text: Text, position: int = 0, *, unknown: str | float = "error"
    ) -> NDArray[np.int32]:
        """Like `encode`, for a text, or a piece of one, that was read by `as_read` before.

        ``position`` is the place of the piece in the text, for the error.
        """
        if unit_of(text) != self.unit:
            wanted = "str" if self.unit == "character" else "bytes"
            raise TypeError(
                f"the text is {type(text).__name__}, and this model's unit is the {self.unit}: pass {wanted}"
            )
        codes = code_points(text, position, surrogates=unknown != "error")
        ids = self._ids.take(codes, mode="clip")
        if unknown == "error" and ids.size and ids.min() < 0:
            at = int(np.argmin(ids))
            raise ValueError(
                f"the text has {chr(codes[at])!r} at position {position + at}, which is not among the "
                f"{len(self.symbols)} characters that the model was trained on"
            )
        if unknown == "symbol":
            ids[ids < 0] = len(self.symbols)
        return ids

    def encode_many(
        self,
        texts: list[Text],
        *,
        unknown: str | float = "error",
        named: Callable[[int], str] = "text {}: ".format,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of many texts, joined, and the length of each; the texts were read by `as_read` already.

        Errors are those of `encode`. They begin with what ``named`` returns for the text's place in the list.
        """
        try:
            ids = self.encode_as_is(self.joined(texts), unknown=unknown)
        except (TypeError, ValueError):
            for place, text in enumerate(texts):
                try:
                    self.encode_as_is(text, unknown=unknown)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{named(place)}{error}") from None
            raise
        return ids, np.fromiter(map(len, texts), np.int64, len(texts))

    def joined(self, texts: list[Any]) -> Text:
        """Join texts. Anything but str or bytes is a ``TypeError``, also an array, which has a buffer too."""
        if self.unit == "character":
            return "".join(texts)
        return b"".join([text if type(text) is bytes else _joinable(text) for text in texts])

    def decode(self, ids: NDArray[Any]) -> Text:
        """The text of these ids; those of the unknown symbol and of the boundary are not allowed."""
        codes = self.symbols[ids]
        if self.unit == "byte":
            return bytes(codes.astype(np.uint8))
        return str(codes.astype("<u4").tobytes(), "utf-32-le")

    def joined_pieces(self, pieces: Iterable[Any]) -> Text:
        """Join texts that `decode` returned."""
        return "".join(pieces) if self.unit == "character" else b"".join(pieces)

    def name_of(self, symbol: int) -> str:
        """The name in errors of the symbol with this id."""
        if symbol == self.boundary_id:
            return "the end of a document"
        if symbol == self.unknown_id:
            return "an unknown symbol"
        return f"the token {symbol}" if self.unit == "token" else repr(self.decode(np.array([symbol])))
