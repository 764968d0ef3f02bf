"""Symbols and their ids.

A symbol is a character (of a ``str``) or a byte (of ``bytes``). Ids run from 0 in the order of the
symbols' code points; where texts are documents, one more id, the last, is their boundary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A text: characters or bytes.
Text = str | bytes

UNITS = ("character", "byte")


def unit_of(text: object) -> str:
    """``"character"`` for a str, ``"byte"`` for bytes; anything else is a ``TypeError``."""
    if isinstance(text, str):
        return "character"
    if isinstance(text, bytes | bytearray | memoryview):
        return "byte"
    raise TypeError(f"a text must be str or bytes, and this is {type(text).__name__}")


def code_points(text: Text, position: int = 0) -> NDArray[Any]:
    """The numbers of a text's symbols: uint32 code points, or uint8 bytes.

    ``position`` is where the text begins in a longer one, for the error.
    """
    if not isinstance(text, str):
        return np.frombuffer(text, np.uint8)
    try:
        return np.frombuffer(text.encode("utf-32-le"), np.uint32)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text has a lone surrogate, {text[error.start]!r}, at position {position + error.start}, "
            "which is not a character; decode with errors='replace', or pass bytes"
        ) from error


def count_symbols(pieces: Iterable[Text], position: int = 0) -> NDArray[np.int64]:
    """How often each code point, or byte, occurs in the pieces of a text, up to the highest that does.

    ``position`` is where the first piece begins in the text, for errors.
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
    """The symbols that a model knows.

    Attributes
    ----------
    unit
        ``"character"`` or ``"byte"``.
    symbols
        uint32, ascending: code points, or all bytes from 0 to 255.
    boundary
        Whether there is one more symbol, which ends each document and comes before the first.
    """

    unit: str
    symbols: NDArray[np.uint32]
    boundary: bool = False

    @classmethod
    def of(cls, texts: Iterable[Text], *, unit: str, boundary: bool = False) -> Vocabulary:
        """The vocabulary of these texts: their characters, or every byte."""
        return cls.of_counts([count_symbols(texts)], unit=unit, boundary=boundary)

    @classmethod
    def of_counts(
        cls, counts: Iterable[NDArray[np.int64]], *, unit: str, boundary: bool = False
    ) -> Vocabulary:
        """The vocabulary of the code points that any of these counts has; for bytes, every byte."""
        found = [np.arange(256)] if unit == "byte" else [np.flatnonzero(one) for one in counts]
        return cls(unit, np.unique(np.concatenate(found)).astype(np.uint32), boundary)

    @property
    def size(self) -> int:
        """V, the number of ids, the boundary included."""
        return len(self.symbols) + self.boundary

    @property
    def boundary_id(self) -> int | None:
        """The boundary's id, the last one; ``None`` where there is no boundary."""
        return len(self.symbols) if self.boundary else None

    def by_id(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts by code point as counts by id (V); there are none of the boundary."""
        found = np.zeros(self.size, np.int64)
        ids = np.flatnonzero(self.symbols < len(counts))
        found[ids] = counts[self.symbols[ids]]
        return found

    @cached_property
    def _ids(self) -> NDArray[np.int32]:
        """Ids by code point, -1 where there is none; the last entry stands for all higher ones."""
        table = np.full(int(self.symbols.max(initial=0)) + 2, -1, np.int32)
        table[self.symbols] = np.arange(len(self.symbols), dtype=np.int32)
        return table

    def encode(self, text: Text) -> NDArray[np.int32]:
        """The ids of a text's symbols.

        Raises
        ------
        TypeError
            The text is not of the vocabulary's unit.
        ValueError
            The text has a symbol that the vocabulary has not.
        """
        if unit_of(text) != self.unit:
            wanted = "str" if self.unit == "character" else "bytes"
            raise TypeError(
                f"the text is {type(text).__name__}, and this model's unit is the {self.unit}: pass {wanted}"
            )
        codes = code_points(text)
        ids = self._ids.take(codes, mode="clip")
        if ids.size and ids.min() < 0:
            position = int(np.argmin(ids))
            raise ValueError(
                f"the text has {chr(codes[position])!r} at position {position}, which is not among the "
                f"{len(self.symbols)} characters that the model was trained on"
            )
        return ids

    def encode_many(self, texts: list[Text]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of many texts, one after the other, and the length of each.

        Errors are those of `encode`, with the text's place in the list.
        """
        try:
            joined: Text = "".join(texts) if self.unit == "character" else b"".join(texts)  # type: ignore[arg-type]
            ids = self.encode(joined)
        except (TypeError, ValueError):
            for place, text in enumerate(texts):
                try:
                    self.encode(text)
                except (TypeError, ValueError) as error:
                    where = f"text {place} of {len(texts)}: " if len(texts) > 1 else ""
                    raise type(error)(f"{where}{error}") from None
            raise
        return ids, np.fromiter(map(len, texts), np.int64, len(texts))

    def decode(self, ids: NDArray[Any]) -> Text:
        """The text that these ids spell; none of them may be the boundary's."""
        codes = self.symbols[ids]
        if self.unit == "byte":
            return bytes(codes.astype(np.uint8))
        return str(codes.astype("<u4").tobytes(), "utf-32-le")
