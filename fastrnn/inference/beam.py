"""Beam search: the most probable continuations of a prime that a bounded search finds.

W hypotheses · V vocabulary
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.core.constants import FUNCTIONS
from fastrnn.data.vocabulary import Text
from fastrnn.inference.distribution import next_probabilities
from fastrnn.inference.options import Constraints, automaton_of
from fastrnn.inference.reading import Reading
from fastrnn.inference.scoring import Ids, Scorer, first_symbol_probabilities
from fastrnn.network.drawing import Automaton

Floats = NDArray[np.float64]

#: A continuation, and the natural logarithm of its probability.
Found = tuple[Ids, float]


def beam_search(
    scorer: Scorer, n: Any, prime: Text | None, *, width: Any, count: Any, **constraints: Any
) -> list[Found]:
    """The ``count`` most probable continuations of at most n symbols that are found, the best first.

    After each symbol, the ``width`` most probable hypotheses that have not ended are kept; of equal ones,
    those of the better hypothesis, and then those with the lower id.
    """
    checks.options(constraints, Constraints)
    n = checks.whole_number("n", n, minimum=0)
    width, count = checks.whole_number("width", width), checks.whole_number("count", count)
    if count > width:
        raise ValueError(f"count={count} must be at most width={width}")
    V = scorer.network.shape.V
    memory.require(8 * 4 * width * V, f"a beam of {width} hypotheses")
    reading = scorer.of_prime(prime)
    beam = _Beam(scorer, reading, automaton_of(scorer.vocabulary, prime, n, **constraints))
    ended: list[Found] = []
    for left in range(n - 1, -1, -1):
        ended = _best([*ended, *beam.advance(width, left)], count)
        if not beam.scores.size or (len(ended) == count and ended[-1][1] >= beam.scores[0]):
            return ended
    return _best([*ended, *beam.hypotheses()], count)


def _best(found: list[Found], count: int) -> list[Found]:
    return sorted(found, key=lambda one: -one[1])[:count]


class _Beam:
    """The hypotheses that have not ended, the most probable first.

    Attributes
    ----------
    scores
        float64 (W): the logarithms of their probabilities.
    """

    def __init__(self, scorer: Scorer, reading: Reading, automaton: Automaton | None) -> None:
        self._scorer, self._automaton = scorer, automaton
        self._before = np.array([reading.before], np.int32)
        self._state = reading.state
        self._ids = np.empty((1, 0), np.int32)
        self._places = np.zeros(1, np.int32)
        self.scores = np.zeros(1)

    def hypotheses(self) -> list[Found]:
        """The ids and the score of each."""
        return list(zip(self._ids, self.scores.tolist(), strict=True))

    def advance(self, width: int, left: int) -> list[Found]:
        """Add a symbol to the hypotheses and keep ``width``; return those that have ended.

        ``left`` is the number of symbols that may follow the new ones.
        """
        logs = self._log_probabilities()
        boundary = self._scorer.vocabulary.boundary_id
        ended: list[Found] = []
        if self._automaton is not None:
            after = self._automaton.transitions[self._places]
            may_follow = (after >= 0) & (self._automaton.distances[after] <= left)
            logs[~may_follow] = -np.inf
            hypotheses = self.hypotheses()
            ended = [hypotheses[row] for row in np.flatnonzero(~may_follow.any(axis=1))]
        scores = self.scores[:, np.newaxis] + logs
        if boundary is not None:
            ends = np.flatnonzero(np.isfinite(scores[:, boundary]))
            ended += [(self._ids[row], float(scores[row, boundary])) for row in ends]
            scores[:, boundary] = -np.inf
        order = np.argsort(-scores, axis=None, kind="stable")[:width]
        self._keep(scores, order[np.isfinite(scores.reshape(-1)[order])])
        return ended

    def _keep(self, scores: Floats, order: NDArray[np.int64]) -> None:
        """Keep hypotheses by their places in ``scores`` (W, V)."""
        rows, symbols = np.divmod(order, scores.shape[1])
        symbols = symbols.astype(np.int32)
        self.scores = scores[rows, symbols]
        self._ids = np.concatenate([self._ids[rows], symbols[:, np.newaxis]], axis=1)
        self._before, self._state = symbols, np.ascontiguousarray(self._state[:, :, rows])
        if self._automaton is not None:
            self._places = self._automaton.transitions[self._places[rows], symbols]

    def _log_probabilities(self) -> Floats:
        """The logarithms (W, V) of the probabilities of the next symbols, by the kernels' logarithm."""
        network = self._scorer.network
        if self._before[0] < 0:  # the beginning of a running text
            probabilities = first_symbol_probabilities(self._scorer.counts)[np.newaxis]
        else:
            probabilities = next_probabilities(network, self._before, self._state)
        logs = np.empty_like(probabilities)
        network.backend.elementary(y=logs, x=probabilities, function=FUNCTIONS.index("log"), n=logs.size)
        return logs
