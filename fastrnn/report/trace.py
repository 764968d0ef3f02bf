"""What a model expects before each symbol of some texts, and its hidden units after it.

n symbols · S steps of the network · T steps of a row · B rows · K predictions · U hidden units of all layers
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.backends.backend import Backend
from fastrnn.core import memory
from fastrnn.core.constants import FUNCTIONS
from fastrnn.inference.distribution import softmax
from fastrnn.inference.mixture import require_no_counts
from fastrnn.inference.scoring import Scorer, first_symbol_probabilities
from fastrnn.model.model import Model
from fastrnn.network.network import Network
from fastrnn.report.excerpt import Excerpt

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]

#: K, how many of the most probable symbols are kept.
PREDICTIONS = 5


@dataclass(frozen=True)
class Forecast:
    """What a model expects at each of some places.

    Attributes
    ----------
    symbols, probabilities
        The ids of the most probable symbols, the most probable one first, and their probabilities (n, K).
    entropy
        The bits that the model expects the next symbol to have: the entropy of its prediction (n).
    rank
        How many symbols are more probable than the one that came, plus one (n); 0 where none is known.
    """

    symbols: Ids
    probabilities: Floats
    entropy: Floats
    rank: NDArray[np.int64]

    @classmethod
    def empty(cls, n: int, vocab_size: int) -> Forecast:
        """A forecast for n places that is to be filled in."""
        K = min(PREDICTIONS, vocab_size)
        return cls(np.zeros((n, K), np.int32), np.zeros((n, K)), np.zeros(n), np.zeros(n, np.int64))

    def at(self, places: NDArray[np.int64]) -> Forecast:
        """The forecasts of these places."""
        return Forecast(
            self.symbols[places], self.probabilities[places], self.entropy[places], self.rank[places]
        )

    def fill(self, places: Any, backend: Backend, probabilities: Floats, targets: Ids) -> None:
        """Fill in some places from the probabilities (B, V) and the ids (B) that came, -1 for none."""
        rows, is_known = np.arange(len(targets)), targets >= 0
        of_target = probabilities[rows, targets]
        rank = 1 + (probabilities > of_target[:, np.newaxis]).sum(axis=1)
        self.rank[places] = np.where(is_known, rank, 0)
        self.entropy[places] = _entropy(backend, probabilities)
        left = probabilities.copy()
        for k in range(self.symbols.shape[1]):
            best = left.argmax(axis=1)
            self.symbols[places, k] = best
            self.probabilities[places, k] = probabilities[rows, best]
            left[rows, best] = -1


@dataclass(frozen=True)
class Trace:
    """The symbols of some texts, one after the other, and what a model makes of them.

    Attributes
    ----------
    ids
        The ids (n). A document's end has the boundary's id; a symbol that the network does not read has -1.
    bits
        The bits of each symbol (n), as in `Model.surprisal`; NaN where a symbol is not scored.
    begins
        Where each text begins, and n at the end: the text t has the symbols from ``begins[t]`` up to
        ``begins[t + 1]``.
    forecast
        What the model expects before each symbol.
    hidden
        The hidden units of all layers after each symbol, float32 (n, U).
    """

    ids: Ids
    bits: Floats
    begins: NDArray[np.int64]
    forecast: Forecast
    hidden: NDArray[np.float32]

    @classmethod
    def of(cls, model: Model, excerpt: Excerpt, unknown: str | float | None) -> Trace:
        """Run a model over an excerpt; ``unknown`` and the errors are those of `Model.surprisal`."""
        require_no_counts(model.mixture)
        network, vocabulary = model.network, model.vocabulary
        is_documents = vocabulary.boundary
        scorer = Scorer.checked(
            network, vocabulary, model.counts, end=is_documents, unknown=unknown, bits=True
        )
        named = "text {}: ".format if len(excerpt.texts) > 1 else lambda _: ""
        scores, _ = scorer.of_texts(excerpt.texts, named)
        ids, lengths = vocabulary.encode_many(excerpt.texts, unknown=scorer.unknown, named=named)
        if is_documents:
            ids, lengths = np.insert(ids, np.cumsum(lengths), np.int32(vocabulary.size - 1)), lengths + 1
        bits = scores
        if scorer.unknown == "skip":
            bits = np.full(len(ids), np.nan)
            bits[ids >= 0] = scores
        if is_documents and not excerpt.is_whole and len(ids):  # the last document may go on
            ids, bits = ids[:-1], bits[:-1]
            lengths[-1] -= 1
        begins = np.append(0, np.cumsum(lengths))
        forecast, hidden = _run(model, ids, begins)
        return cls(ids, bits, begins, forecast, hidden)


def _run(model: Model, ids: Ids, begins: NDArray[np.int64]) -> tuple[Forecast, NDArray[np.float32]]:
    """Run the network over the symbols that it reads."""
    network, boundary = model.network, model.vocabulary.boundary_id
    before, after = _steps_of(ids, begins, is_documents=boundary is not None)
    is_read = ids >= 0
    inputs = ids[is_read] if boundary is None else np.append(np.int32(boundary), ids[is_read])
    starts = np.zeros(len(inputs), np.uint8)
    starts[after[is_read & (before < 0)] if boundary is None else inputs == boundary] = 1
    targets = np.full(len(inputs) + 1, -1, np.int32)  # the last one stands for the first of a text
    targets[before[is_read]] = ids[is_read]
    targets[-1] = -1
    S, units = len(inputs), network.num_layers * network.hidden_size
    memory.require(4 * S * units, f"{units} hidden units at {S:,} symbols")
    forecast = Forecast.empty(S + 1, network.vocab_size)
    hidden = np.zeros((S + 1, units), np.float32)
    for places, logits, h in _steps(network, inputs, starts):
        if not np.isfinite(logits).all():
            raise network.out_of_range()
        forecast.fill(places, network.backend, softmax(network.backend, logits), targets[places])
        hidden[places] = h
    first = first_symbol_probabilities(model.counts)
    forecast.fill(slice(S, None), network.backend, first[np.newaxis], targets[-1:])
    found = forecast.at(before)
    is_first = is_read & (before < 0)
    found.rank[is_first] = 1 + (first > first[ids[is_first], np.newaxis]).sum(axis=1)
    found.rank[~is_read] = 0
    return found, hidden[after]


def _steps_of(
    ids: Ids, begins: NDArray[np.int64], *, is_documents: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The step after which each symbol is predicted, and the step after which it was read.

    The network reads the boundary before documents. A running text has no step before its first symbol,
    which has -1.
    """
    is_read = ids >= 0
    read = np.append(0, np.cumsum(is_read))
    first = np.repeat(begins[:-1], np.diff(begins))
    before = read[:-1] - 1 + is_documents
    if not is_documents:
        before[read[:-1] == read[first]] = -1
    return before, np.where(is_read, read[1:] - 1 + is_documents, before)


def _steps(
    network: Network, inputs: Ids, starts: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]]:
    """Yield places of a sequence (S), and the logits (B, V) and the hidden units (B, U) after their steps.

    The sequence is cut into about √S rows. It is run once to find the state before each row; then all rows
    are run side by side, one step at a time.
    """
    S = len(inputs)
    if not S:
        return
    T = math.isqrt(S)
    B = -(-S // T)
    ids, flags = (
        np.ascontiguousarray(np.append(array, np.zeros(T * B - S, array.dtype)).reshape(B, T).T)
        for array in (inputs, starts)
    )
    carried, state = network.checked_state(None, 1), network.checked_state(None, B)
    losses, none = np.empty((T, 1)), np.full((T, 1), -1, np.int32)
    for b in range(B):
        state[:, :, b] = carried[:, :, 0]
        network.run_losses(losses, carried, ids[:, b : b + 1].copy(), none, flags[:, b : b + 1].copy())
    logits = np.empty((1, B, network.vocab_size), network.dtype)
    for t in range(T):
        network.run_logits(logits, state, ids[t : t + 1], flags[t : t + 1])
        places = np.arange(t, S, T)
        h = state[0].transpose(1, 0, 2).reshape(B, -1)
        yield places, logits[0, : len(places)], h[: len(places)]


def _entropy(backend: Backend, probabilities: Floats) -> Floats:
    """The entropy in bits of each row of probabilities (B, V), with the same bits on every machine."""
    positive = np.maximum(probabilities, np.finfo(np.float64).tiny)
    logs = np.empty_like(positive)
    backend.elementary(y=logs, x=positive, function=FUNCTIONS.index("log"), n=logs.size)
    logs *= probabilities
    nats: Floats = np.abs(logs.cumsum(axis=1)[:, -1])
    return nats / math.log(2)
