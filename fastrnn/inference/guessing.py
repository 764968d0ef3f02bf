"""How many guesses find a text, if texts are guessed in the order of their probability.

The number is estimated from a sample of the model (Dell'Amico & Filippone 2015): a drawn document of
probability p stands for 1/p documents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastrnn.core import checks, memory
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference.distribution import elementary, softmax
from fastrnn.inference.scoring import Floats, Scorer
from fastrnn.inference.steps import Steps

#: So many documents are drawn at a time.
DRAWN_AT_ONCE = 1 << 10

#: The bytes of a drawn document: two numbers, and copies of them that are sorted.
BYTES_OF_DRAWN = 40


class GuessNumber(NamedTuple):
    """An estimate of how many guesses find a text, from 1 on, and the standard error of the estimate.

    Both are infinity if they are too large for a float.
    """

    guesses: float
    standard_error: float


@dataclass(frozen=True)
class GuessSamples:
    """A sample of a model's documents, from which `Model.guess_number` estimates.

    Attributes
    ----------
    n
        How many documents were drawn. Those that were longer than was allowed are not in the arrays.
    log_probabilities
        float64: the natural logarithms of the documents' probabilities, descending.
    counts
        float64: how many documents each one stands for, n times; infinity if it is too large for a float.
    """

    n: int
    log_probabilities: Floats
    counts: Floats

    def guess_number(self, log_probability: float) -> GuessNumber:
        """The guess number of a text with this natural logarithm of its probability."""
        more_probable = int(np.searchsorted(-self.log_probabilities, -log_probability, side="left"))
        counts = self.counts[:more_probable]
        largest = float(counts.max(initial=1.0))
        if math.isinf(largest):
            return GuessNumber(math.inf, math.inf)
        scaled = counts / largest
        mean = float(scaled.cumsum()[-1]) / self.n if len(scaled) else 0.0
        squares = float((scaled * scaled).cumsum()[-1]) / self.n if len(scaled) else 0.0
        variance = max(0.0, squares - mean * mean) / (self.n - 1)
        return GuessNumber(1 + largest * mean, largest * math.sqrt(variance))


def drawn_samples(scorer: Scorer, n: int, rng: Any, max_length: int) -> GuessSamples:
    """Draw n documents of up to ``max_length`` symbols, without the unknown symbol."""
    memory.require(BYTES_OF_DRAWN * n, f"a sample of {n:,} documents")
    steps, generator = Steps(scorer.network), checks.random_generator(rng)
    scorer = replace(scorer, end=True, unknown="error", bits=False)
    logarithms, counts = [np.empty(0)], [np.empty(0)]
    for first in range(0, n, DRAWN_AT_ONCE):
        drawn, known = _drawn(scorer.vocabulary, steps, min(DRAWN_AT_ONCE, n - first), generator, max_length)
        ended = [row for row, ids in enumerate(drawn) if ids[-1] == scorer.vocabulary.boundary_id]
        texts = [scorer.vocabulary.decode(np.array(drawn[row][:-1], np.int64)) for row in ended]
        losses, lengths = scorer.of_texts(texts, "document {}: ".format)
        sums = (
            np.array([one.sum() for one in np.split(losses, np.cumsum(lengths)[:-1])])
            if ended
            else np.empty(0)
        )
        logarithms.append(-sums)
        counts.append(elementary(scorer.network.backend, "exp", sums + known[ended]))
    found = np.concatenate(logarithms)
    order = np.argsort(-found, kind="stable")
    return GuessSamples(n, found[order], np.concatenate(counts)[order])


def _drawn(
    vocabulary: Vocabulary, steps: Steps, B: int, generator: Any, max_length: int
) -> tuple[list[list[int]], Floats]:
    """Draw B documents. Return their ids, and ln of the probability that all their symbols are known ones.

    A document that is too long does not end with the boundary.
    """
    shape, backend = steps.network.shape, steps.network.backend
    symbols = np.full(B, vocabulary.size - 1, np.int32)
    state = np.zeros((shape.Z, shape.L, B, shape.H), steps.network.dtype)
    rows, drawn, known = np.arange(B), [[] for _ in range(B)], np.zeros(B)  # type: ignore[var-annotated]
    while rows.size and len(drawn[rows[0]]) <= max_length:
        probabilities = softmax(backend, steps.logits(symbols, state))
        if vocabulary.unknown_id is not None:
            probabilities[:, vocabulary.unknown_id] = 0
        cumulative = probabilities.cumsum(axis=1)
        if vocabulary.unknown_id is not None:
            known[rows] += elementary(backend, "log", cumulative[:, -1])
        uniforms = checks.uniforms(generator, len(rows)) * cumulative[:, -1]
        symbols = np.count_nonzero(cumulative[:, :-1] <= uniforms[:, np.newaxis], axis=1).astype(np.int32)
        for row, symbol in zip(rows.tolist(), symbols.tolist(), strict=True):
            drawn[row].append(symbol)
        goes_on = symbols != vocabulary.boundary_id
        rows, symbols, state = rows[goes_on], symbols[goes_on], np.ascontiguousarray(state[:, :, goes_on])
    return drawn, known
