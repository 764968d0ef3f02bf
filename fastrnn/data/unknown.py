"""Shows symbols of a sequence as the unknown symbol, at random, so that a network learns about it.

Which places are drawn depends on a seed and on the place alone, so each reading of a part draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.corpus import Sequence


def random_words(seed: int, start: int, stop: int) -> NDArray[np.uint64]:
    """The words of SplitMix64 with these numbers, counted from 0 (Steele, Lea & Flood 2014)."""
    words = np.arange(start + 1, stop + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words += np.uint64(seed)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


@dataclass(frozen=True)
class WithUnknown:
    """A sequence in which a share of the symbols, drawn at random, are the unknown symbol.

    Attributes
    ----------
    sequence
        The sequence of ids.
    unknown_id, boundary_id
        The ids of the unknown symbol, and of the boundary, which is never replaced, or ``None``.
    share
        The probability of each symbol to be replaced, from 0 to below 1.
    seed
        The seed of the draws, from 0 to below 2⁶⁴.
    """

    sequence: Sequence
    unknown_id: int
    boundary_id: int | None
    share: float
    seed: int

    def __len__(self) -> int:
        return len(self.sequence)

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """The ids from ``start`` up to ``stop``."""
        ids = self.sequence.read(start, stop)
        is_drawn = random_words(self.seed, start, stop) < np.uint64(self.share * 2.0**64)
        if self.boundary_id is not None:
            is_drawn &= ids != self.boundary_id
        return np.where(is_drawn, np.int32(self.unknown_id), ids)
