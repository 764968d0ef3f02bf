"""Stops: sequences of symbols before which a text ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]


class StopSearch:
    """Finds the first stop in a text that comes in pieces.

    If stops overlap, it is the one that ends first, and of those that end together, the longest. Ids that
    may be the beginning of a stop are held back until the next piece.
    """

    def __init__(self, stops: Sequence[Ids]) -> None:
        self._stops = stops
        self._held = np.empty(0, np.int32)

    def feed(self, ids: Ids) -> tuple[Ids, bool]:
        """Return the next ids that are before a stop, and whether a stop follows them."""
        if not self._stops:
            return ids, False
        ids = np.concatenate([self._held, ids])
        starts = [(start + len(stop), start) for stop in self._stops if (start := _place(stop, ids)) >= 0]
        if starts:
            return ids[: min(starts)[1]], True
        known = len(ids) - max(_begun(stop, ids) for stop in self._stops)
        self._held = ids[known:]
        return ids[:known], False

    def rest(self) -> Ids:
        """The ids that were held back, if the text ends."""
        return self._held


def _place(stop: Ids, ids: Ids) -> int:
    """Where a stop is first in a text; -1 if it is not there."""
    if len(ids) < len(stop):
        return -1
    found = (np.lib.stride_tricks.sliding_window_view(ids, len(stop)) == stop).all(axis=1)
    return int(found.argmax()) if found.any() else -1


def _begun(stop: Ids, ids: Ids) -> int:
    """How many ids at the end of a text may be the beginning of a stop, at most."""
    lengths = range(min(len(stop) - 1, len(ids)), 0, -1)
    return next((n for n in lengths if np.array_equal(ids[len(ids) - n :], stop[:n])), 0)
