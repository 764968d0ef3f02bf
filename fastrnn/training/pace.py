"""How much training one native call does: some windows, and a part of a long batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.batches import BLOCK_SYMBOLS, Batch

Floats = NDArray[np.float64]
Result = TypeVar("Result")

#: How long a native call should last; it is short, so that Ctrl-C and progress work.
CALL_SECONDS = 0.05


class Pace:
    """The number of windows of a native call, from the duration of earlier calls."""

    def __init__(self) -> None:
        self.windows = 1

    def call(self, function: Callable[[int], Result], highest: int) -> Result:
        """Call the function with as many windows as fit the time, at most eight times as many as before."""
        count = min(self.windows, highest)
        began = time.perf_counter()
        result = function(count)
        elapsed = max(time.perf_counter() - began, 1e-9)
        fit = int(CALL_SECONDS * count / elapsed)
        # a call that had fewer windows than it could have may only lower the number
        self.windows = max(1, min(8 * count, fit) if count == self.windows else min(self.windows, fit))
        return result


def blocks(batch: Batch, T: int, passes: int) -> Iterator[tuple[Batch, int]]:
    """Yield parts of a batch for native calls, and how many windows to train on in each.

    A call checks its whole part each time, so a long batch is cut into parts. A short batch is one part,
    which a call reads as often as there are passes.
    """
    windows = batch.windows(T)
    at_once = max(1, BLOCK_SYMBOLS // (T * batch.batch_size))
    if windows <= at_once:
        yield batch, passes * windows
        return
    for _ in range(passes):
        for window in range(0, windows, at_once):
            steps = slice(window * T, (window + at_once) * T)
            block = Batch(batch.inputs[steps], batch.targets[steps], batch.starts[steps])
            yield block, block.windows(T)
