"""How long a native call of training is: many short windows, or a part of a long stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.batches import BLOCK_SYMBOLS, Streams

Floats = NDArray[np.float64]

#: How long a native call is meant to last, so that Ctrl-C and progress work.
CALL_SECONDS = 0.05


class Pace:
    """How many windows a native call may take, learnt from the calls before."""

    def __init__(self) -> None:
        self.windows = 1

    def call(self, function: Callable[[int], Floats], most: int) -> Floats:
        """Call the function with as many windows as fit; at most eight times as many as the last time."""
        count = min(self.windows, most)
        began = time.perf_counter()
        losses = function(count)
        elapsed = max(time.perf_counter() - began, 1e-9)
        fit = int(CALL_SECONDS * count / elapsed)
        # a call that was short because there was no more to do says little
        self.windows = max(1, min(8 * count, fit) if count == self.windows else min(self.windows, fit))
        return losses


def blocks(rows: Streams, T: int, passes: int) -> Iterator[tuple[Streams, int]]:
    """What a native call looks at, and how many windows there are in it.

    A call checks all that it is given, so that it is given parts of what is long. What is short is gone
    through over and over.
    """
    windows = rows.windows(T)
    at_once = max(1, BLOCK_SYMBOLS // (T * rows.batch_size))
    if windows <= at_once:
        yield rows, passes * windows
        return
    for _ in range(passes):
        for window in range(0, windows, at_once):
            steps = slice(window * T, (window + at_once) * T)
            block = Streams(rows.inputs[steps], rows.targets[steps], rows.starts[steps])
            yield block, block.windows(T)
