"""Reads one text in pieces, and gives the nats of its symbols; the steps of a native call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.inference.mixture import Mixed
from fastrnn.network.execution import Array
from fastrnn.network.network import Network

#: About the floating-point operations of a native call.
LONG_CALL_OPERATIONS = 1 << 32

#: The most steps of a native call.
WINDOW = 1 << 14

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]


def steps_at_once(network: Network, B: int) -> int:
    """How many steps a native call with B rows does."""
    return max(1, min(WINDOW, LONG_CALL_OPERATIONS // (B * network.shape.operations)))


class Reading:
    """One text that is read in pieces: its last symbol so far, and the network's state before that symbol.

    Attributes
    ----------
    before
        The id of the last symbol. Before the first symbol it is the boundary's id, or -1 in a running text.
    state
        The state, (Z, L, 1, H).
    """

    def __init__(self, network: Network, before: int, first: Floats, mixture: Mixed | None = None) -> None:
        self._network, self._first = network, first
        self._mixture, self._begins = None if mixture is None else mixture.begin_text(), True
        self.before = before
        self.state: Array = network.checked_state(None, 1)

    def place(self) -> Any:
        """Where the reading is, for `go_back`."""
        contexts = None if self._mixture is None else self._mixture.place()
        return self.before, self.state.copy(), self._begins, contexts

    def go_back(self, place: Any) -> None:
        """Go back to a place of this reading; what an adaptation has learnt since stays."""
        self.before, self.state, self._begins, contexts = place
        if self._mixture is not None:
            self._mixture.go_back(contexts)

    def losses(self, ids: Ids) -> Floats:
        """The nats of the next symbols, given all before them."""
        losses = np.empty(len(ids))
        begun = 0
        if self.before < 0 and len(ids):
            losses[0] = self._first[ids[0]]
            self.before, begun = int(ids[0]), 1
        T = steps_at_once(self._network, 1)
        for start in range(begun, len(ids), T):
            targets = ids[start : start + T, np.newaxis].copy()
            inputs = np.insert(targets[:-1], 0, np.int32(self.before), axis=0)
            found, starts = np.empty(targets.shape), np.zeros(targets.shape, np.uint8)
            self._network.run_losses(found, self.state, inputs, targets, starts)
            losses[start : start + T] = found[:, 0]
            if self._mixture is not None:
                starts[0], self._begins = self._begins, False
                self._mixture.mix(losses[start : start + T], inputs[:, 0], targets[:, 0], starts[:, 0])
            self.before = int(ids[start + len(targets) - 1])
        return losses
