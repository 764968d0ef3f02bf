"""Where a text is being read: a value that nothing changes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn.data.pieces import NOTHING, Rest
from fastrnn.inference.scoring import Floats
from fastrnn.network.execution import Array


class Place(NamedTuple):
    """Where a text is being read.

    Attributes
    ----------
    before
        The id of the last symbol; before the first one it is the boundary's, or -1 in a running text.
    state
        The network's state (Z, L, 1, H) before that symbol. Nobody writes to it.
    rest
        What was read of the text and is not scored yet.
    position
        The symbols of the text so far, also those that are skipped.
    n_symbols, total_bits
        How many bits were returned since the stream was made, and their sum.
    """

    before: int
    state: Array
    rest: Rest = NOTHING
    position: int = 0
    n_symbols: int = 0
    total_bits: float = 0.0


def added(total: float, bits: Floats) -> float:
    """A total and bits, added in their order: so the sum is the same however a text is cut."""
    return float(np.add.accumulate(np.concatenate(([total], bits)))[-1])
