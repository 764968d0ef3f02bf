"""The nats or bits that a model gives each symbol of a text, given all symbols before it.

Many texts are scored in parallel: they are joined in a few rows, and the state starts anew where a text
begins. A text that comes in pieces is scored alone, and the state is carried from piece to piece.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.data.batches import Batch
from fastrnn.data.vocabulary import Text, Vocabulary
from fastrnn.inference.distribution import elementary
from fastrnn.inference.mixture import Mixed
from fastrnn.inference.reading import Reading, steps_at_once
from fastrnn.inference.sums import total
from fastrnn.network.network import Network

#: The most rows in which texts are scored in parallel.
PARALLEL_ROWS = 64

#: About how many symbols of texts are scored at a time: of a list; of an iterator, at first and at most. An
#: iterator is read so far ahead.
SYMBOLS_AT_ONCE, FIRST_AHEAD, MAX_AHEAD = 1 << 19, 1 << 10, 1 << 17

#: A text, or a piece of one, and whether it is the end of the text.
Piece = tuple[Text, bool]

#: Returns the name of a text in errors, by its place; the name ends with a colon and a space, or is empty.
Named = Callable[[int], str]

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]


def first_symbol_probabilities(counts: NDArray[np.int64]) -> Floats:
    """The probability of each symbol to begin a running text: add-one smoothed frequencies (V)."""
    probabilities: Floats = (counts + 1.0) / (counts.sum() + len(counts))
    return probabilities


def first_symbol_losses(network: Network, counts: NDArray[np.int64]) -> Floats:
    """The nats of each symbol at the beginning of a running text (V), in the kernels' arithmetic."""
    losses: Floats = -elementary(network.backend, "log", first_symbol_probabilities(counts))
    return losses


def losses_of_batch(network: Network, batch: Batch) -> Floats:
    """The nats (N, B) of the targets of a batch; the first state is zero."""
    losses = np.empty(batch.inputs.shape)
    state = network.checked_state(None, batch.batch_size)
    T = steps_at_once(network, batch.batch_size)
    for start in range(0, batch.n_steps, T):
        window = slice(start, start + T)
        network.run_losses(
            losses[window], state, batch.inputs[window], batch.targets[window], batch.starts[window]
        )
    return losses


def mean_loss(network: Network, batch: Batch) -> float:
    """The mean nats of the targets of a batch; the sum is exact, because schedules read it."""
    losses = losses_of_batch(network, batch)
    return total(losses) / losses.size


def symbol_losses(
    network: Network, ids: Ids, lengths: NDArray[np.int64], first: Floats, mixture: Mixed | None = None
) -> Floats:
    """The nats of each symbol of some running texts, given all before it in its text.

    ``ids`` joins the ids of all texts, and ``lengths`` are the texts' lengths; ``first`` (V) are the nats of
    each symbol at the beginning of a text.
    """
    losses = np.empty(len(ids))
    if len(ids):
        begins, ends = _places(lengths)
        targets = np.append(ids[1:], np.int32(-1))
        targets[ends - 1] = -1
        losses[1:] = losses_of_texts(network, ids, targets, begins, mixture)[:-1]
        losses[begins] = first[ids[begins]]
    return losses


def document_losses(
    network: Network, ids: Ids, lengths: NDArray[np.int64], boundary: int, mixture: Mixed | None = None
) -> Floats:
    """The nats of each symbol of some documents and of their ends; ids and lengths as in `symbol_losses`."""
    begins, _ = _places(lengths + 1)
    inputs = np.full(len(ids) + len(lengths), boundary, np.int32)
    is_symbol = np.ones(len(inputs), bool)
    is_symbol[begins] = False
    inputs[is_symbol] = ids
    targets = np.append(inputs[1:], np.int32(boundary))
    return losses_of_texts(network, inputs, targets, begins, mixture)


def _places(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where texts of these lengths begin and end when they are joined; empty ones are left out."""
    ends = np.cumsum(lengths[lengths > 0])
    return ends - lengths[lengths > 0], ends


def losses_of_texts(
    network: Network, inputs: Ids, targets: Ids, begins: NDArray[np.int64], mixture: Mixed | None
) -> Floats:
    """The nats of each target of a sequence in which a text begins at each of ``begins``.

    The sequence is cut between texts into rows. A row that ends before the others leaves the batch.
    """
    losses, starts = np.empty(len(inputs)), np.zeros(len(inputs), np.uint8)
    starts[begins] = 1
    rows = _cut(begins, len(inputs))
    state = network.checked_state(None, max(1, len(rows)))
    while rows:
        T = min(steps_at_once(network, len(rows)), _length(rows[0]))
        heads = [slice(row.start, min(row.start + T, row.stop)) for row in rows]
        window = _side_by_side(T, heads, inputs, targets, starts)
        scored = np.empty((T, len(rows)))
        network.run_losses(scored, state, window.inputs, window.targets, window.starts)
        for b, head in enumerate(heads):
            losses[head] = scored[: _length(head), b]
        rows = [
            slice(head.stop, row.stop) for head, row in zip(heads, rows, strict=True) if head.stop < row.stop
        ]
        state = np.ascontiguousarray(state[:, :, : len(rows)])
    if mixture is not None:
        mixture.mix_texts(losses, inputs, targets, starts)
    return losses


def _cut(begins: NDArray[np.int64], n: int) -> list[slice]:
    """Cut a sequence of n steps into a few rows of similar lengths, and return the longest first."""
    count = min(PARALLEL_ROWS, len(begins))
    if not count:
        return []
    wanted = np.arange(count) * n // count
    cuts = np.append(np.unique(begins[np.searchsorted(begins, wanted, side="right") - 1]), n)
    return sorted(itertools.starmap(slice, itertools.pairwise(cuts.tolist())), key=_length, reverse=True)


def _length(piece: slice) -> int:
    return int(piece.stop - piece.start)


def _side_by_side(T: int, pieces: list[slice], inputs: Ids, targets: Ids, starts: NDArray[np.uint8]) -> Batch:
    """Pieces of a sequence as rows of T steps; steps after the end of a piece have no target."""
    shape = (T, len(pieces))
    batch = Batch(np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.zeros(shape, np.uint8))
    for b, piece in enumerate(pieces):
        batch.inputs[: _length(piece), b] = inputs[piece]
        batch.targets[: _length(piece), b] = targets[piece]
        batch.starts[: _length(piece), b] = starts[piece]
    return batch


@dataclass(frozen=True)
class Scorer:
    """Scores texts of a model.

    Attributes
    ----------
    network, vocabulary, counts
        The model's.
    end
        Whether the end of each document is scored too.
    unknown
        How symbols that the model does not know are scored: ``"error"``, ``"skip"``, ``"symbol"``, or their
        probability.
    bits
        Whether scores are in bits; else they are in nats.
    mixture
        The counts with which the network is mixed, if there are any.
    """

    network: Network
    vocabulary: Vocabulary
    counts: NDArray[np.int64]
    end: bool = False
    unknown: str | float = "error"
    bits: bool = True
    mixture: Mixed | None = None

    @classmethod
    def checked(
        cls,
        network: Network,
        vocabulary: Vocabulary,
        counts: NDArray[np.int64],
        *,
        end: bool,
        unknown: str | float | None,
        bits: bool,
        mixture: Mixed | None = None,
    ) -> Self:
        """The scorer of a model with these options, which are checked: those of `Model.surprisal`."""
        if unknown is None:
            unknown = "symbol" if vocabulary.unknown else "error"
        unknown = checks.unknown(unknown)
        if unknown == "symbol" and not vocabulary.unknown:
            raise ValueError(
                "unknown='symbol' is for a model with an unknown symbol, and this one has none: train with "
                "min_count, or give 'error', 'skip' or a probability"
            )
        if checks.flag("end", end) and not vocabulary.boundary:
            raise ValueError("end=True is for a model of documents, and this one learnt one running text")
        return cls(network, vocabulary, counts, end, unknown, bits, mixture)

    def new_reading(self) -> Reading:
        """A reading that is at the beginning of a text."""
        boundary = self.vocabulary.boundary_id
        first = first_symbol_losses(self.network, self.counts)
        return Reading(self.network, -1 if boundary is None else boundary, first, self.mixture)

    def of_texts(self, texts: list[Text], named: Named) -> tuple[Floats, NDArray[np.int64]]:
        """The scores of some texts, joined, and how many each has; the texts were read already."""
        ids, lengths, known_lengths = self.encoded(texts, named)
        losses = self._losses(ids[ids >= 0], known_lengths)
        if self.end:
            ids, lengths = np.insert(ids, np.cumsum(lengths), self.vocabulary.size - 1), lengths + 1
        scores = self.scores_of(losses, ids, lengths, named)
        return scores, known_lengths + self.end if self.unknown == "skip" else lengths

    def of_continuations(
        self, reading: Reading, texts: list[Text], named: Named
    ) -> tuple[Floats, NDArray[np.int64]]:
        """As `of_texts`, for texts that continue a reading one after another; no end is scored."""
        ids, lengths, known_lengths = self.encoded(texts, named)
        scores = self.scores_of(reading.losses(ids[ids >= 0]), ids, lengths, named)
        return scores, known_lengths if self.unknown == "skip" else lengths

    def encoded(self, texts: list[Text], named: Named) -> tuple[Ids, NDArray[np.int64], NDArray[np.int64]]:
        """The ids of some texts, joined, the length of each, and how many of its symbols are known."""
        ids, lengths = self.vocabulary.encode_many(texts, unknown=self.unknown, named=named)
        so_far, ends = np.append(0, np.cumsum(ids >= 0)), np.cumsum(lengths)
        return ids, lengths, so_far[ends] - so_far[ends - lengths]

    def of_piece(self, reading: Reading, piece: Text, position: int, *, is_last: bool, name: str) -> Floats:
        """The scores of the next piece of a text, which begins at ``position``."""
        try:
            ids = self.vocabulary.encode_as_is(piece, position, unknown=self.unknown)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}{error}") from None
        if self.end and is_last:
            ids = np.append(ids, np.int32(self.vocabulary.size - 1))
        losses = reading.losses(ids[ids >= 0])
        return self.scores_of(losses, ids, np.array([len(ids)]), lambda _: name, position)

    def of_text(self, text: Text) -> Floats:
        """The scores of one text; a long one is scored in pieces."""
        text = self.vocabulary.as_read(text)
        pieces = _cut_text(text)
        if len(pieces) == 1:
            return self.of_texts([text], _unnamed)[0]
        memory.require(8 * len(text), f"the scores of {len(text):,} symbols")
        known = ((text[piece], piece.stop == len(text)) for piece in pieces)
        return np.concatenate(list(self.of_pieces(known, _unnamed)))

    def of_prime(self, prime: Text | None, name: str = "prime: ") -> Reading:
        """A reading after a prime, from which sampling continues; ``None`` is the beginning of a text.

        ``name`` is the prime's in errors.
        """
        reading = self.new_reading()
        if prime is not None:
            prime = self.vocabulary.as_read(prime)
            pieces = _cut_text(prime)
            for piece in pieces:
                some = prime if len(pieces) == 1 else prime[piece]
                self.of_piece(reading, some, piece.start, is_last=False, name=name)
        return reading

    def of_list(self, texts: Iterable[Text], named: Named) -> list[Floats]:
        """The scores of each text."""
        return list(self._of_groups(in_groups(self._whole(texts), SYMBOLS_AT_ONCE, SYMBOLS_AT_ONCE), named))

    def of_iterator(self, texts: Iterable[Text], named: Named) -> Iterator[Floats]:
        """Yield the scores of each text; some texts are read ahead."""
        return self.of_pieces(self._whole(texts), named)

    def _whole(self, texts: Iterable[Text]) -> Iterator[Piece]:
        """Yield each text as a single piece."""
        return ((self.vocabulary.as_read(text), True) for text in texts)

    def of_pieces(self, pieces: Iterable[Piece], named: Named) -> Iterator[Floats]:
        """Yield the scores of each piece of the texts; some pieces are read ahead."""
        return self._of_groups(in_groups(pieces, FIRST_AHEAD, MAX_AHEAD), named)

    def _of_groups(self, groups: Iterable[tuple[list[Text], bool | None]], named: Named) -> Iterator[Floats]:
        """Yield an array of scores for each piece in the groups of `in_groups`."""
        reading, position, place = self.new_reading(), 0, 0
        for group, is_last in groups:
            if is_last is None:
                scores, lengths = self.of_texts(group, partial(named_from, named, place))
                ends = np.cumsum(lengths).tolist()
                yield from map(scores.__getitem__, map(slice, itertools.chain([0], ends), ends))
                place += len(group)
                continue
            (piece,) = group
            yield self.of_piece(reading, piece, position, is_last=is_last, name=named(place))
            position += len(piece)
            if is_last:
                reading, position, place = self.new_reading(), 0, place + 1

    def _losses(self, ids: Ids, lengths: NDArray[np.int64]) -> Floats:
        """The nats of the known symbols of some texts, and of their ends if those are scored."""
        boundary = self.vocabulary.boundary_id
        if boundary is None:
            first = first_symbol_losses(self.network, self.counts)
            return symbol_losses(self.network, ids, lengths, first, self.mixture)
        losses = document_losses(self.network, ids, lengths, boundary, self.mixture)
        return losses if self.end else np.delete(losses, np.cumsum(lengths + 1) - 1)

    def scores_of(
        self, losses: Floats, ids: Ids, lengths: NDArray[np.int64], named: Named, position: int = 0
    ) -> Floats:
        """The scores of ids, where -1 is an unknown symbol, from the nats of the known ones.

        ``losses`` may be overwritten. ``lengths`` are those of the texts that ``ids`` joins, and ``position``
        is the place of the first one in a longer text, for the error.
        """
        if self.bits:
            with np.errstate(over="ignore"):
                losses /= np.log(2)
        finite = np.isfinite(losses)
        if not finite.all():
            at = int(np.argmin(finite))
            place = np.flatnonzero(ids >= 0)[at]
            text = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
            where = position + place - lengths[:text].sum()
            raise ValueError(
                f"{named(text)}the model gives {self.vocabulary.name_of(ids[place])} at position {where} "
                f"{losses[at]} {'bits' if self.bits else 'nats'}: {self.network.out_of_range()}"
            )
        if isinstance(self.unknown, str):
            return losses
        scores = np.full(len(ids), 0 - (math.log2 if self.bits else math.log)(self.unknown))
        scores[ids >= 0] = losses
        return scores


def _cut_text(text: Text) -> list[slice]:
    """The slices in which a text is scored."""
    n = length_of(text)
    return [slice(start, min(start + SYMBOLS_AT_ONCE, n)) for start in range(0, max(1, n), SYMBOLS_AT_ONCE)]


def length_of(text: Any) -> int:
    """The length of a text, or 0 if it has none; it is then refused when it is encoded."""
    try:
        return len(text)
    except TypeError:
        return 0


def _unnamed(_: int) -> str:
    """The name in errors of an only text: it has none."""
    return ""


def named_from(named: Named, first: int, place: int) -> str:
    """The name in errors of a text, by its place in a group that begins with the text ``first``."""
    return named(first + place)


def in_groups(pieces: Iterable[Piece], first: int, highest: int) -> Iterator[tuple[list[Text], bool | None]]:
    """Yield groups of whole texts with ``None``, and each other piece alone with whether its text ends.

    The groups grow from about ``first`` to about ``highest`` symbols.
    """
    group: list[Text] = []
    size, enough, is_within = 0, first, False
    for piece, is_last in pieces:
        if is_last and not is_within:
            group.append(piece)
            size += 1 + length_of(piece)
            if size < enough:
                continue
        if group:
            yield group, None
            group, size, enough = [], 0, min(2 * enough, highest)
        if is_within or not is_last:
            yield [piece], is_last
            is_within = not is_last
    if group:
        yield group, None
