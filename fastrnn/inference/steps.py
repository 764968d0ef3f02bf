"""Single steps of many rows, each from a state of its own, with weights that are packed once.

B rows · V vocabulary · Z arrays of a state · L layers · H hidden units
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.constants import BARRIER
from fastrnn.core.plan import ALONE, step_plan
from fastrnn.inference.distribution import log_softmax
from fastrnn.network.execution import Array
from fastrnn.network.network import Network

#: The most rows of a native call.
MAX_ROWS = 64

#: About the most floating-point operations of a native call.
CALL_OPERATIONS = 1 << 32


class Steps:
    """Takes steps of a network with the parameters that it has now. Many threads may share it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._rows = max(1, min(MAX_ROWS, CALL_OPERATIONS // network.shape.operations))
        self._snapshot = network.snapshot()

    def logits(self, symbols: NDArray[np.int32], state: Array) -> Array:
        """The logits (B, V) of what follows each of ``symbols`` (B).

        The state (Z, L, B, H) is the one before these symbols. It is replaced by the one after them.

        Raises
        ------
        ValueError
            The state or the logits overflow.
        """
        logits = np.empty((len(symbols), self.network.shape.V), self.network.dtype)
        for start in range(0, len(symbols), self._rows):
            rows = slice(start, start + self._rows)
            some = np.ascontiguousarray(state[:, :, rows])
            self._step(logits[rows], some, np.ascontiguousarray(symbols[rows]))
            state[:, :, rows] = some
        if not (np.isfinite(logits).all() and np.isfinite(state).all()):
            raise self.network.out_of_range()
        return logits

    def log_probabilities(self, symbols: NDArray[np.int32], state: Array) -> NDArray[np.float64]:
        """The natural logarithms of the probabilities (B, V); arguments and errors are those of `logits`."""
        return log_softmax(self.network.backend, self.logits(symbols, state))

    def _step(self, logits: Array, state: Array, symbols: NDArray[np.int32]) -> None:
        """One native call; every array is contiguous."""
        B = len(symbols)
        plan, _ = step_plan(self.network.shape, B, ALONE)
        with self.network.workspace(plan.size) as workspace:
            self.network.backend.network_step(
                logits=logits, state=state, scratch=workspace.flat, barrier=np.zeros(BARRIER, np.int32),
                prepared=self._snapshot.prepared, params=self._snapshot.flat, inputs=symbols,
                starts=np.zeros(B, np.uint8), plan=plan.numbers, part=0, parts=1, B=B,
            )  # fmt: skip
