"""Drawing symbols from a network, in few native calls: a text in pieces, or many texts side by side.

B rows, each a text · V vocabulary · D symbols that a row has already
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.backends.backend import Backend
from fastrnn.core import checks
from fastrnn.core.constants import COMPLETE, OVERFLOW
from fastrnn.data.vocabulary import Text
from fastrnn.inference.distribution import elementary
from fastrnn.inference.options import Options, SamplingOptions
from fastrnn.inference.reading import Reading
from fastrnn.inference.scoring import Ids, Scorer, first_symbol_probabilities
from fastrnn.inference.stops import StopSearch
from fastrnn.network import execution
from fastrnn.network.drawing import Rows, Rules

#: The most symbols that are drawn at a time.
MAX_AT_ONCE = 1 << 14

#: The most symbols of a stream that are drawn ahead.
STREAMED_AT_ONCE = 1 << 8

#: The most texts that are drawn side by side, and how many symbols of each are drawn at first.
ROWS_AT_ONCE, FIRST_OF_ROWS = 256, 16

#: The most logits that are in memory at a time, but at least one text's.
LOGITS_AT_ONCE = 1 << 22

#: How many texts are drawn for each that is asked for, before distinct ones are given up.
ATTEMPTS = 100

Floats = NDArray[np.float64]


def weights_at(backend: Backend, probabilities: Floats, temperature: float) -> Floats:
    """Probabilities at a temperature above 0, divided by the largest one; the same bits on every machine."""
    weights: Floats = probabilities / probabilities.max()
    if temperature != 1:
        above = weights > 0
        with np.errstate(over="ignore"):
            logarithms = elementary(backend, "log", weights[above]) / temperature
        weights[above] = elementary(backend, "exp", logarithms)
    return weights


def draw_first(
    backend: Backend, probabilities: Floats, uniforms: Floats, rules: Rules, allowed: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Draw an index for each uniform number (B), as the contract's kernel `sample` draws a symbol.

    At temperature 1, without other rules, it is what ``RandomState.choice`` draws.
    """
    probabilities = np.where(allowed, probabilities, 0)
    if rules.temperature == 0:
        return np.full(len(uniforms), probabilities.argmax())
    weights = weights_at(backend, probabilities, rules.temperature)
    order = np.argsort(-weights, kind="stable")
    dropped = order[min(rules.top_k, len(order)) :]
    weights[dropped] = 0
    if rules.top_p < 1:
        cumulative = np.cumsum(weights[order])
        weights[order[1 + np.searchsorted(cumulative, rules.top_p * np.cumsum(weights)[-1]) :]] = 0
    weights[weights < rules.min_p] = 0
    cumulative = np.cumsum(weights)
    found = np.searchsorted(cumulative, uniforms * cumulative[-1], side="right")
    return np.where(found < len(weights), found, weights.argmax())  # the product may be rounded up


@dataclass
class Row:
    """A text that is drawn: its number, the source of its draws, and the search for its stops."""

    number: int
    rng: Any
    search: StopSearch


class Batch:
    """Texts of at most n symbols that continue one reading and are drawn side by side.

    Each text takes one uniform draw of its own source for each symbol, so it does not depend on the others.
    """

    def __init__(
        self, scorer: Scorer, options: Options, n: int, reading: Reading, known: Ids, sources: Sequence[Any]
    ) -> None:
        B = len(sources)
        self._scorer, self._network, self._rules = scorer, scorer.network, options.rules
        self._prepared = self._network.prepare_steps()
        self._left, self._stops = n, options.stops
        self._is_empty = reading.before < 0
        self._rows = [Row(b, rng, StopSearch(options.stops)) for b, rng in enumerate(sources)]
        self._drawn = Rows(
            np.full(B, max(0, reading.before), np.int32),
            np.zeros(B, np.int32),
            np.repeat(reading.state, B, axis=2),
            np.repeat(known[:, np.newaxis], B, axis=1),
        )

    @property
    def goes_on(self) -> bool:
        """Whether a text has not ended."""
        return bool(self._rows) and self._left > 0

    @property
    def is_empty(self) -> bool:
        """Whether the first symbols of running texts come next, which come alone."""
        return self._is_empty

    def next_ids(self, size: int) -> Iterator[tuple[int, Ids]]:
        """Draw up to ``size`` symbols of each text; yield the number of each text, and its new ids.

        The uniform draws of all of them are made at once, also if the text ends before.
        """
        size = 1 if self._is_empty else min(size, self._left)
        uniforms = checks.uniforms_of_rows([row.rng for row in self._rows], size)
        while len(uniforms) and self._rows:
            some = uniforms[: self._network.drawn_at_once(len(self._rows))]
            ids = self._first_ids(some[0]) if self._is_empty else self._ids(some)
            self._is_empty = False
            found, goes_on = self._taken(ids)
            yield from found
            uniforms = uniforms[len(some) :]
            if not goes_on.all():
                uniforms = uniforms[:, goes_on]

    def _ids(self, uniforms: Floats) -> Ids:
        ids: Ids = self._network.draw(
            self._drawn,
            uniforms,
            self._rules,
            room=self._left,
            prepared=self._prepared,
            stop_symbol=self._scorer.vocabulary.boundary_id,
        )
        return ids

    def _first_ids(self, uniforms: Floats) -> Ids:
        """The first symbols of running texts (1, B), by the frequencies of symbols in the training text."""
        probabilities = first_symbol_probabilities(self._scorer.counts)
        allowed, automaton = np.ones(len(probabilities), bool), self._rules.automaton
        if automaton is not None:
            after = automaton.transitions[0]
            allowed = (after >= 0) & (automaton.distances[after] < self._left)
        if not allowed.any():
            return np.full((1, len(uniforms)), -COMPLETE, np.int32)
        backend = self._network.backend
        ids = draw_first(backend, probabilities, uniforms, self._rules, allowed).astype(np.int32)
        self._drawn.inputs[...] = ids
        if automaton is not None:
            self._drawn.places[...] = automaton.transitions[0, ids]
        return ids[np.newaxis]

    def _taken(self, ids: Ids) -> tuple[list[tuple[int, Ids]], NDArray[np.bool_]]:
        """Each text's ids before its end, and which texts go on; the others leave the batch."""
        boundary = self._scorer.vocabulary.boundary_id
        ended = (ids < 0) | (ids == (-COMPLETE if boundary is None else boundary))
        lengths = np.where(ended.any(axis=0), ended.argmax(axis=0), len(ids))
        goes_on = lengths == len(ids)
        if (ids == -OVERFLOW).any() or not np.isfinite(self._drawn.state[:, :, goes_on]).all():
            raise self._network.out_of_range()
        self._left -= len(ids)
        found = [(row.number, ids[: lengths[b], b]) for b, row in enumerate(self._rows)]
        if self._stops:
            found = [self._before_stop(b, some, goes_on) for b, (_, some) in enumerate(found)]
        self._keep(ids, goes_on)
        return found, goes_on

    def _before_stop(self, b: int, ids: Ids, goes_on: NDArray[np.bool_]) -> tuple[int, Ids]:
        """The number of text b and its ids before a stop; the text ends if there is one."""
        row = self._rows[b]
        known, stopped = row.search.feed(ids)
        goes_on[b] &= not stopped
        if not stopped and not (goes_on[b] and self._left):
            known = np.concatenate([known, row.search.rest()])
        return row.number, known

    def _keep(self, ids: Ids, goes_on: NDArray[np.bool_]) -> None:
        """Drop the texts that have ended, and remember the new symbols if the rules read them."""
        rules = self._rules
        if rules.reads_symbols:
            symbols = np.concatenate([self._drawn.symbols, ids])
            self._drawn.symbols = symbols if rules.ngram else symbols[-rules.window :]
        if not goes_on.all():
            self._drawn = self._drawn.only(goes_on)
            self._rows = [row for row, stays in zip(self._rows, goes_on, strict=True) if stays]


@dataclass(frozen=True)
class Sampler:
    """Draws texts that continue a prime.

    Attributes
    ----------
    scorer, options
        The model, and the options of sampling.
    n
        The most symbols of a text.
    reading
        The prime, which was read.
    known
        The ids of the prime that the rules read.
    """

    scorer: Scorer
    options: Options
    n: int
    reading: Reading
    known: Ids

    @classmethod
    def checked(cls, scorer: Scorer, n: Any, prime: Text | None, **options: Any) -> Self:
        """The sampler with these options, which are checked: those of `Model.sample`."""
        checks.options(options, SamplingOptions)
        n = checks.whole_number("n", n, minimum=0)
        reading = scorer.of_prime(prime)
        made = Options.checked(scorer.vocabulary, prime, n, **options)
        known = np.empty(0, np.int32)
        if prime is not None and made.rules.reads_symbols:
            known = scorer.vocabulary.encode(prime, unknown=scorer.unknown)
            known = known[known >= 0]
            known = known if made.rules.ngram else known[-made.rules.window :]
        return cls(scorer, made, n, reading, known)

    def _batch(self, sources: Sequence[Any]) -> Batch:
        return Batch(self.scorer, self.options, self.n, self.reading, self.known, sources)

    def pieces(self, rng: Any, at_once: int) -> Iterator[Ids]:
        """Yield the ids of a text in pieces.

        The first one has ``at_once`` ids, and each next one twice as many, up to a limit.
        """
        network, batch = self.scorer.network, self._batch([rng])
        highest = min(MAX_AT_ONCE, max(1, execution.SHORT_CALL_OPERATIONS // network.shape.operations))
        while batch.goes_on:
            is_first = batch.is_empty
            pieces = [ids for _, ids in batch.next_ids(at_once)]
            yield np.concatenate(pieces)
            if not is_first:
                at_once = max(at_once, min(2 * at_once, highest))

    def symbols(self, rng: Any) -> Iterator[Ids]:
        """Yield the ids of a text one by one; some are drawn ahead."""
        batch, size = self._batch([rng]), 1
        while batch.goes_on:
            for _, ids in batch.next_ids(size):
                yield from ids[:, np.newaxis]
            size = min(2 * size, STREAMED_AT_ONCE)

    def many(self, sources: Sequence[Any]) -> list[Ids]:
        """The ids of a text for each source of draws."""
        pieces: list[list[Ids]] = [[] for _ in sources]
        batch, size = self._batch(sources), FIRST_OF_ROWS
        while batch.goes_on:
            for number, ids in batch.next_ids(size):
                pieces[number].append(ids)
            size = min(2 * size, MAX_AT_ONCE)
        return [np.concatenate([np.empty(0, np.int32), *some]) for some in pieces]

    def texts(self, count: int, rng: Any) -> Iterator[Ids]:
        """Yield the ids of texts, each from a generator of its own that ``rng`` spawns."""
        at_once = max(1, min(ROWS_AT_ONCE, LOGITS_AT_ONCE // self.scorer.network.shape.V))
        for first in range(0, count, at_once):
            yield from self.many(_spawned(rng, min(at_once, count - first)))

    def distinct_texts(self, count: int, rng: Any) -> Iterator[Ids]:
        """Yield ``count`` texts, without those that are equal to an earlier one."""
        seen: set[bytes] = set()
        n_drawn = 0
        for _ in range(ATTEMPTS):
            n_drawn += count - len(seen)
            for ids in self.texts(count - len(seen), rng):
                if ids.tobytes() not in seen:
                    seen.add(ids.tobytes())
                    yield ids
            if len(seen) == count:
                return
        raise ValueError(
            f"unique=True, count={count}: {n_drawn:,} texts were drawn, and only {len(seen):,} different "
            "ones are among them"
        )


def _spawned(rng: Any, count: int) -> list[np.random.Generator]:
    """Independent generators, the next ones that a generator spawns."""
    try:
        return rng.spawn(count)  # type: ignore[no-any-return]
    except (AttributeError, TypeError):
        raise TypeError(
            f"rng={checks.shown(rng)} must be a whole number, or a numpy Generator that can spawn others, "
            "such as numpy.random.default_rng(0)"
        ) from None
