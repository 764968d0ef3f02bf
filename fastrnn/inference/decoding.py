"""A model in the shape that decoders of speech and images use: an initial state, advance, score.

KenLM has this shape (``BeginSentenceWrite``, ``BaseScore``), and so has flashlight (``start``, ``score``,
``finish``).
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.core import checks
from fastrnn.data.vocabulary import Text
from fastrnn.inference.scoring import Floats, Ids, Scorer, first_symbol_losses
from fastrnn.inference.steps import Steps
from fastrnn.network.execution import Array


@dataclass(frozen=True)
class DecoderState:
    """A place in a text. It cannot be changed. States from which all goes on in the same way are equal.

    Attributes
    ----------
    network_state
        The bytes of the network's state after the last symbol.
    log_probability_bytes
        The bytes of `log_probabilities`.
    """

    network_state: bytes
    log_probability_bytes: bytes

    @property
    def log_probabilities(self) -> Floats:
        """The natural logarithm of the probability of each id to come next: float64 (V), read-only."""
        return np.frombuffer(self.log_probability_bytes)


class DecoderLM:
    """A model for decoders; `Model.decoder_lm` makes it. Many threads may share it.

    It has the model's weights as they were when it was made. A symbol is a str or bytes of one symbol, or the
    number of a byte or token; a longer text is read symbol by symbol.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer, self._steps = scorer, Steps(scorer.network)

    def initial_state(self, prefix: Text | None = None) -> DecoderState:
        """The state before the first symbol of a text, or after a prefix."""
        reading = self._scorer.of_prime(prefix, "prefix: ")
        if reading.before < 0:  # a running text begins
            logs = -first_symbol_losses(self._scorer.network, self._scorer.counts)
            return DecoderState(reading.state.tobytes(), logs.tobytes())
        return self._after(reading.before, reading.state)

    def advance(self, state: DecoderState, symbol: Text | int) -> DecoderState:
        """The state after a symbol. An unknown symbol that is not read leaves the state as it is."""
        for known in self._ids(symbol).tolist():
            state = self._next(state, known)
        return state

    def score(self, state: DecoderState, symbol: Text | int) -> float:
        """The natural logarithm of the probability of a symbol to come next.

        That of an unknown symbol is 0 with ``unknown="skip"``, and the logarithm of ``unknown`` if that is a
        probability.
        """
        ids, total = self._ids(symbol).tolist(), 0.0
        for place, known in enumerate(ids):
            total += self._score(state, known)
            if place + 1 < len(ids):
                state = self._next(state, known)
        return total

    def score_end(self, state: DecoderState) -> float:
        """The natural logarithm of the probability of the document to end; a running text has no end."""
        boundary = self._scorer.vocabulary.boundary_id
        if boundary is None:
            raise ValueError("score_end is for a model of documents, and this one learnt one running text")
        return self._score(state, boundary)

    def _ids(self, symbol: Any) -> Ids:
        vocabulary = self._scorer.vocabulary
        if isinstance(symbol, numbers.Integral) and not isinstance(symbol, bool):
            if vocabulary.unit == "token":
                symbol = [int(symbol)]
            elif vocabulary.unit == "byte":
                symbol = bytes([checks.whole_number("symbol", symbol, minimum=0, maximum=255)])
        return vocabulary.encode(symbol, unknown=self._scorer.unknown)

    def _score(self, state: DecoderState, known: int) -> float:
        if known >= 0:
            return float(state.log_probabilities[known])
        return 0.0 if isinstance(self._scorer.unknown, str) else math.log(self._scorer.unknown)

    def _next(self, state: DecoderState, known: int) -> DecoderState:
        if known < 0:
            return state
        shape = self._steps.network.shape
        before = np.frombuffer(state.network_state, self._steps.network.dtype)
        return self._after(known, before.reshape(shape.Z, shape.L, 1, shape.H).copy())

    def _after(self, symbol: int, state: Array) -> DecoderState:
        logs = self._steps.log_probabilities(np.array([symbol], np.int32), state)
        return DecoderState(state.tobytes(), logs.tobytes())
