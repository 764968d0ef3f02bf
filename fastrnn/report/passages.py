"""The strangest passages: those with the most bits above what the model itself expected.

A model that is unsure expects many bits: the entropy of its prediction. The excess of a passage is the sum
of surprisal minus entropy over its symbols, so a passage is strange if the model was sure and wrong.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from fastrnn.report.trace import Floats, Trace

#: How many symbols a passage has, how many passages are shown, and how many symbols around each.
LENGTH, MOST, CONTEXT = 24, 8, 24


@dataclass(frozen=True)
class Passage:
    """A passage of one text.

    Attributes
    ----------
    start, stop
        Its symbols.
    context_start, context_stop
        The symbols that are shown around it, of the same text.
    bits, expected
        The sum of its symbols' surprisals, and of the entropies of their predictions.
    peak
        The symbol with the largest excess.
    """

    start: int
    stop: int
    context_start: int
    context_stop: int
    bits: float
    expected: float
    peak: int

    @property
    def excess(self) -> float:
        """The bits above the expected ones."""
        return self.bits - self.expected


def strangest(trace: Trace) -> list[Passage]:
    """The passages with the most excess bits, which do not overlap, in descending order.

    A passage has `LENGTH` symbols, or is a whole text that is shorter.
    """
    is_scored = ~np.isnan(trace.bits)
    bits = np.where(is_scored, trace.bits, 0.0)
    expected = np.where(is_scored, trace.forecast.entropy, 0.0)
    excess = bits - expected
    starts, stops = _candidates(trace.begins.tolist())
    so_far = np.append(0.0, excess.cumsum())
    sums = so_far[stops] - so_far[starts]
    is_free = np.ones(len(bits), bool)
    found: list[Passage] = []
    for place in np.argsort(-sums, kind="stable").tolist():
        start, stop = int(starts[place]), int(stops[place])
        if len(found) == MOST or sums[place] <= 0:
            break
        if is_free[start:stop].all():
            is_free[start:stop] = False
            found.append(_passage(trace, start, stop, bits, expected))
    return found


def _candidates(begins: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Where each passage may start and stop."""
    starts, stops = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for begin, end in itertools.pairwise(begins):
        length = min(LENGTH, end - begin)
        if length:
            starts.append(np.arange(begin, end - length + 1))
            stops.append(starts[-1] + length)
    return np.concatenate(starts), np.concatenate(stops)


def _passage(trace: Trace, start: int, stop: int, bits: Floats, expected: Floats) -> Passage:
    text = int(np.searchsorted(trace.begins, start, side="right")) - 1
    begin, end = int(trace.begins[text]), int(trace.begins[text + 1])
    return Passage(
        start=start,
        stop=stop,
        context_start=max(begin, start - CONTEXT),
        context_stop=min(end, stop + CONTEXT),
        bits=float(bits[start:stop].cumsum()[-1]),
        expected=float(expected[start:stop].cumsum()[-1]),
        peak=start + int((bits - expected)[start:stop].argmax()),
    )
