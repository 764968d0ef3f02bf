"""The share of a sample that is verbatim in the training text.

A rolling hash (Karp & Rabin 1987) finds the passages of the sample in the training text, which is read once,
in pieces. Each passage that is found is compared with the text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.data.sources import require_order, values_of
from fastrnn.data.streams import damage_named, open_bytes
from fastrnn.data.text_file import iter_pieces
from fastrnn.data.vocabulary import Text, Vocabulary, code_points, whole_numbers

#: How many symbols of the training text are searched at a time.
SEARCHED_AT_ONCE = 1 << 18

#: The base of the rolling hash, and the multiplier that chooses a bit of the filter; both are odd.
BASE, MIXER = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93

#: The filter has two to this power bits.
FILTER_BITS = 20

Codes = NDArray[np.uint64]


def verbatim_share(vocabulary: Vocabulary, sample: Text, training_text: Any, length: Any) -> float:
    """The share of a sample's symbols that are in passages of at least ``length`` symbols of a text."""
    length = checks.whole_number("length", length)
    search = PassageSearch(_codes(vocabulary, sample, "sample: "), length)
    for pieces in _texts(vocabulary, training_text):
        search.read(pieces)
    return search.share()


def _codes(vocabulary: Vocabulary, text: Any, name: str = "training_text: ") -> Codes:
    """The code points, bytes or tokens of a text, as the model reads it."""
    try:
        if vocabulary.unit == "token":
            return whole_numbers(text).astype(np.uint64)
        vocabulary.encode(text[:0] if hasattr(text, "__getitem__") else text)  # this checks its type
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}{error}") from None
    return code_points(vocabulary.as_read(text), surrogates=True).astype(np.uint64)


def _texts(vocabulary: Vocabulary, text: Any) -> Iterator[Iterable[Codes]]:
    """Yield each text of what a model was trained on, as an iterable of pieces."""
    if isinstance(text, os.PathLike):
        yield _pieces_of_file(vocabulary, text)
    elif isinstance(text, str | bytes | bytearray | memoryview) or _is_tokens(text):
        yield _pieces(vocabulary, text)
    elif isinstance(text, Iterable):
        require_order(text, "training_text")
        yield from (_pieces(vocabulary, one) for one in values_of(text))
    else:
        raise TypeError(
            f"training_text is {type(text).__name__}; it must be a text, a path, or an iterable of texts"
        )


def _is_tokens(text: Any) -> bool:
    """Whether it is one text of tokens."""
    if isinstance(text, np.ndarray):
        return text.dtype.kind in "iu"
    return isinstance(text, Sequence) and len(text) > 0 and isinstance(text[0], int | np.integer)


def _pieces(vocabulary: Vocabulary, text: Any) -> Iterator[Codes]:
    codes = _codes(vocabulary, text)
    for start in range(0, len(codes), SEARCHED_AT_ONCE):
        yield codes[start : start + SEARCHED_AT_ONCE]


def _pieces_of_file(vocabulary: Vocabulary, path: os.PathLike[str]) -> Iterator[Codes]:
    if vocabulary.unit == "token":
        raise TypeError("training_text is a path, and a file has no tokens: pass an array of tokens")
    with open_bytes(path) as file, damage_named(path):
        pieces = iter_pieces(
            file,
            os.fspath(path),
            vocabulary.unit,
            newlines=vocabulary.newlines,
            normalization=vocabulary.normalization,
        )
        for piece in pieces:
            yield code_points(piece).astype(np.uint64)


def window_hashes(codes: Codes, length: int) -> Codes:
    """The hash of each ``length`` codes in a row: Σ (code + 1) · BASE^(length - 1 - i), modulo 2⁶⁴.

    The windows grow by doubling: those of 2n codes are made of two of n.
    """
    block, power, size = codes + np.uint64(1), np.uint64(BASE), 1
    found, done = np.zeros(len(codes) + 1, np.uint64), 0
    with np.errstate(over="ignore"):
        while done < length:
            if length & size:
                count = len(codes) - done - size + 1
                found = found[:count] * power + block[done : done + count]
                done += size
            if done < length:
                block = block[:-size] * power + block[size:]
                power, size = power * power, 2 * size
    return found


class PassageSearch:
    """Which passages of ``length`` codes of a sample are in texts.

    The sample must be whole, and a text comes in pieces.
    """

    def __init__(self, sample: Codes, length: int) -> None:
        self._sample, self._length = sample, length
        self._is_found = np.zeros(max(0, len(sample) - length + 1), bool)
        hashes = window_hashes(sample, length) if self._is_found.size else sample[:0]
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._filter = np.zeros(1 << FILTER_BITS, bool)
        self._filter[_bits(self._hashes)] = True

    def read(self, pieces: Iterable[Codes]) -> None:
        """Search a text."""
        before = self._sample[:0]
        for piece in pieces:
            if not self._hashes.size:
                return
            codes = np.concatenate([before, piece])
            if len(codes) >= self._length:
                self._search(codes)
            before = codes[max(0, len(codes) - self._length + 1) :]

    def _search(self, codes: Codes) -> None:
        hashes = window_hashes(codes, self._length)
        places = np.flatnonzero(self._filter[_bits(hashes)])
        first = np.searchsorted(self._hashes, hashes[places])
        places = places[self._hashes[np.minimum(first, len(self._hashes) - 1)] == hashes[places]]
        while places.size:
            _, firsts = np.unique(hashes[places], return_index=True)  # one place for each hash
            for place in places[firsts].tolist():
                self._compare(codes[place : place + self._length], hashes[place])
            left = ~self._is_found[self._order]
            self._order, self._hashes = self._order[left], self._hashes[left]
            places = np.delete(places, firsts)
            places = places[np.isin(hashes[places], self._hashes)]  # those of different passages

    def _compare(self, passage: Codes, its_hash: np.uint64) -> None:
        """Note the passages of the sample that are equal to this one, of those with its hash."""
        start = np.searchsorted(self._hashes, its_hash, side="left")
        stop = np.searchsorted(self._hashes, its_hash, side="right")
        for place in self._order[start:stop].tolist():
            if not self._is_found[place]:
                window = self._sample[place : place + self._length]
                self._is_found[place] = np.array_equal(window, passage)

    def share(self) -> float:
        """The share of the sample's codes that are in a passage that was found; 0 if it has none."""
        covered = np.zeros(len(self._sample) + 1, np.int64)
        starts = np.flatnonzero(self._is_found)
        np.add.at(covered, starts, 1)
        np.add.at(covered, starts + self._length, -1)
        return float((covered.cumsum()[:-1] > 0).mean()) if len(self._sample) else 0.0


def _bits(hashes: Codes) -> Codes:
    """The bit of the filter for each hash: the highest bits of a product."""
    with np.errstate(over="ignore"):
        return (hashes * np.uint64(MIXER)) >> np.uint64(64 - FILTER_BITS)
