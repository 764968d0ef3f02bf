"""Reads texts in pieces: from a place, the bits of the next symbols and the place after them.

A place is a value (`fastrnn.inference.place`). So an error leaves a stream as it was, and a copy costs
nothing.

n symbols · V vocabulary
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import memory
from fastrnn.data.pieces import BEGUN, NOTHING, Rest, read_piece
from fastrnn.data.vocabulary import Text, Vocabulary
from fastrnn.inference.distribution import softmax
from fastrnn.inference.mixture import Mixed, require_no_counts
from fastrnn.inference.place import Place, added
from fastrnn.inference.scoring import (
    SYMBOLS_AT_ONCE,
    Floats,
    Ids,
    Scorer,
    first_symbol_losses,
    first_symbol_probabilities,
    length_of,
)
from fastrnn.inference.stream_state import Identity
from fastrnn.inference.sums import finite
from fastrnn.network.network import Network
from fastrnn.network.snapshot import NATS_OF_BIT

#: The most symbols of a text that is read in few steps.
SHORT = 256

NO_BITS = np.empty(0)


@runtime_checkable
class Trained(Protocol):
    """What a reader needs of a `fastrnn.Model`."""

    @property
    def network(self) -> Network:
        """The network."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its symbols."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each symbol occurs in the training text (V)."""

    @property
    def mixture(self) -> Mixed | None:
        """Its mixture with counts, if it has one."""


class Reader:
    """Reads texts of a model. Its parameters are those of the moment when the reader is made.

    Attributes
    ----------
    snapshot
        The network's parameters.
    scorer
        The model's scorer, with a network that has these parameters.
    vocabulary
        The model's vocabulary.
    first_bits
        The bits of each symbol at the beginning of a running text (V).
    beginning
        The place at the beginning of a text.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.snapshot = scorer.network.snapshot()
        network = scorer.network.with_parameters(self.snapshot.flat)
        self.scorer = replace(scorer, network=network)
        self.vocabulary = scorer.vocabulary
        self.first_bits = first_symbol_losses(network, scorer.counts) / NATS_OF_BIT
        boundary = self.vocabulary.boundary_id
        self.beginning = Place(-1 if boundary is None else boundary, network.checked_state(None, 1))

    @classmethod
    def of(cls, model: Trained, unknown: str | float | None) -> Self:
        """The reader of a model; ``unknown`` is checked."""
        require_no_counts(model.mixture)
        parts = model.network, model.vocabulary, model.counts
        return cls(Scorer.checked(*parts, end=False, unknown=unknown, bits=True))

    @cached_property
    def identity(self) -> Identity:
        """What the bytes of a state say of its model."""
        return Identity.of(self.scorer, self.snapshot.digest)

    @cached_property
    def _plain(self) -> frozenset[str]:
        """The characters that are known and that are read as they are."""
        vocabulary = self.vocabulary
        if vocabulary.unit != "character" or vocabulary.normalization is not None:
            return frozenset()
        return frozenset(str(vocabulary.decode(np.arange(len(vocabulary.symbols))))) - {"\r"}

    def read(self, place: Place, text: Text) -> tuple[Floats, Place]:
        """The bits of the next symbols of a text, and the place after them."""
        plain = self._plain_ids(place, text)
        if plain is not None:
            n = len(plain)
            bits, total, state = self.snapshot.read(place.before, place.state, plain, place.total_bits)
            if math.isfinite(total):
                counted = place.position + n, place.n_symbols + n, total
                return bits, Place(plain.item(-1), state, place.rest, *counted)
        n = length_of(text)
        if n > SYMBOLS_AT_ONCE:
            return self._read_long(place, text, n)
        ids, rest = self.encode(text, place.rest, place.position)
        return self.read_ids(place, ids, rest)

    def _plain_ids(self, place: Place, text: Any) -> Any:
        """The ids of a short text of known symbols that are read as they are; else ``None``.

        With them `read` takes few steps, which counts for one symbol or a few.
        """
        if place.before < 0 or type(text) not in {str, bytes} or not 0 < len(text) <= SHORT:
            return None
        if type(text) is bytes:
            return np.frombuffer(text, np.uint8) if self.vocabulary.unit == "byte" else None
        is_plain = place.rest is BEGUN and self._plain.issuperset(text)
        return self.vocabulary.ids_of_known(text) if is_plain else None

    def _read_long(self, place: Place, text: Any, n: int) -> tuple[Floats, Place]:
        """Do `read` in pieces, so that little memory is needed besides the bits."""
        memory.require(8 * n, f"the bits of {n:,} symbols")
        found = []
        for start in range(0, n, SYMBOLS_AT_ONCE):
            bits, place = self.read(place, text[start : start + SYMBOLS_AT_ONCE])
            found.append(bits)
        return np.concatenate(found), place

    def end(self, place: Place) -> tuple[Floats, Place]:
        """The bits of what is left of a text, and of its boundary if it has one; the place of a new text."""
        ids, rest = self.encode(self.vocabulary.joined([]), place.rest, place.position, final=True)
        if self.vocabulary.boundary_id is not None:
            ids = np.append(ids, np.int32(self.vocabulary.boundary_id))
        bits, after = self.read_ids(place, ids, rest)
        return bits, self.beginning._replace(n_symbols=after.n_symbols, total_bits=after.total_bits)

    def encode(self, text: Text, rest: Rest, position: int, *, final: bool = False) -> tuple[Ids, Rest]:
        """The ids of the next symbols of a text, -1 for an unknown one, and what is left."""
        vocabulary, unknown = self.vocabulary, self.scorer.unknown
        if vocabulary.unit == "character" and isinstance(text, str | bytes | bytearray | memoryview):
            text, rest = read_piece(
                text, rest, newlines=vocabulary.newlines, normalization=vocabulary.normalization,
                strict=unknown == "error", final=final,
            )  # fmt: skip
        else:
            rest = NOTHING
        return vocabulary.encode_as_is(text, position, unknown=unknown), rest

    def read_ids(self, place: Place, ids: Ids, rest: Rest) -> tuple[Floats, Place]:
        """The bits of ids, where -1 is an unknown symbol, and the place after them."""
        known = ids if self.scorer.unknown in {"error", "symbol"} else ids[ids >= 0]
        before = place.before
        first = self.first_bits[known[:1]] if before < 0 else NO_BITS
        if len(first):
            before, known = int(known[0]), known[1:]
        others, total, state = self.snapshot.read(before, place.state, known, added(place.total_bits, first))
        found = np.concatenate([first, others])
        bits = self.with_unknown(found, ids)
        if len(bits) > len(found):
            total = added(place.total_bits, bits)
        if not math.isfinite(total):
            self.scorer.scores_of(found, ids, np.array([len(ids)]), lambda _: "", place.position)
            finite(total)
        before = int(known[-1]) if len(known) else before
        counted = place.position + len(ids), place.n_symbols + len(bits), total
        return bits, Place(before, state, rest, *counted)

    def with_unknown(self, bits: Floats, ids: Ids) -> Floats:
        """The bits of ids, where -1 is an unknown symbol, from those of the known ones."""
        if isinstance(self.scorer.unknown, str):
            return bits
        of_all = np.full(len(ids), 0 - math.log2(self.scorer.unknown))
        of_all[ids >= 0] = bits
        return of_all

    def next_probabilities(self, place: Place) -> Floats:
        """The probability of each symbol to be the next one (V)."""
        if place.before < 0:
            return first_symbol_probabilities(self.scorer.counts)
        logits = self.snapshot.logits(place.before, place.state)
        if not np.isfinite(logits).all():
            raise self.scorer.network.out_of_range()
        probabilities: Floats = softmax(self.scorer.network.backend, logits)[0]
        return probabilities
