"""A network's parameters at one moment, packed once, with which many short texts are read.

n symbols · T steps of a call · B rows · Z arrays of a state · L layers · H hidden units
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import memory
from fastrnn.core.constants import BARRIER, KC
from fastrnn.core.plan import reading_plan
from fastrnn.network.execution import MANY_STEPS, Array, Execution

Ids = NDArray[np.int32]
Floats = NDArray[np.float64]


class Desk:
    """The memory in which one row is read. Its arrays are bound to the kernel, so that a call is short.

    Attributes
    ----------
    symbols
        The symbol before those that are read, and then these (T + 1).
    losses
        The nats of the symbols that were read (T).
    state
        The state (Z, L, 1, H) before the first symbol. A call replaces it with the one before the last.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        network = self._network = snapshot.network
        T = min(KC, network.size_of_call(1)[1])
        self._split = network.split(MANY_STEPS, 1, passes=1)
        plan, _ = reading_plan(network.shape, T, 1, self._split)
        self.symbols, self.losses = np.zeros(T + 1, np.int32), np.empty(T)
        self.state: Array = network.checked_state(None, 1)
        inputs, targets = self.symbols[:-1].reshape(T, 1), self.symbols[1:].reshape(T, 1)
        self._outputs = self.losses.reshape(T, 1), self.state, memory.aligned(plan.size, network.dtype)
        self._inputs = (
            snapshot.prepared, snapshot.flat, inputs, targets, np.zeros((T, 1), np.uint8), plan.numbers
        )  # fmt: skip
        self._alone = self._call(np.zeros(BARRIER, np.int32))

    def _call(self, barrier: Array) -> Callable[..., None]:
        """The kernel as a function of the part, the number of parts, T and B."""
        return self._network.backend.bound("network_read", *self._outputs, barrier, *self._inputs)

    def read(self, T: int) -> None:
        """Read T symbols; threads may share the columns of the products."""
        parts = 1 if self._split.parts == 1 else self._network.split(T, 1, passes=1).parts
        if parts == 1:
            self._alone(0, 1, T, 1)
            return
        with self._network.workspace(0) as workspace:  # only its team is used
            team = workspace.team
            parts = team.at_most(min(parts, self._split.parts))
            team.run(parts, lambda part: self._call(team.barrier)(part, parts, T, 1))


class Snapshot:
    """The parameters of a network at one moment, packed for reading. Many threads may use it at once.

    Attributes
    ----------
    network
        The network, with these parameters.
    flat
        The parameters (P), which nobody changes.
    prepared
        The packed weights, flat.
    """

    def __init__(self, network: Execution, flat: Array) -> None:
        self.network, self.flat = network, flat
        plan, size = reading_plan(network.shape, 1, 1)
        self.prepared = memory.aligned(size, network.dtype)
        network.backend.network_prepare(
            prepared=self.prepared, params=flat, plan=plan.numbers, part=0, parts=1
        )
        self._idle_desks: list[Desk] = []

    def is_of(self, flat: Array, threads: int) -> bool:
        """Whether a network with these parameters, and this number of threads, is that of the snapshot."""
        bits = f"i{flat.itemsize}"  # NaN is equal to NaN
        return self.network.threads == threads and np.array_equal(self.flat.view(bits), flat.view(bits))

    @cached_property
    def digest(self) -> str:
        """A digest of the parameters, the same on every machine."""
        return hashlib.sha256(self.flat.astype(self.flat.dtype.newbyteorder("<")).tobytes()).hexdigest()

    def read(self, before: int, state: Array, ids: Ids) -> tuple[Floats, Array]:
        """The nats (n) of ids that follow ``before``, and the state (Z, L, 1, H) before the last of them.

        ``state`` is the one before ``before``; it is not changed.
        """
        try:
            desk = self._idle_desks.pop()  # concurrent callers get different ones
        except IndexError:
            desk = Desk(self)
        n, most = len(ids), len(desk.losses)
        losses = np.empty(n)
        try:
            desk.state[...] = state
            for start in range(0, n, most):
                some = ids[start : start + most]
                T = len(some)
                desk.symbols[0] = before
                desk.symbols[1 : T + 1] = some
                desk.read(T)
                losses[start : start + T] = desk.losses[:T]
                before = int(some[-1])
            return losses, desk.state.copy()
        finally:
            self._idle_desks.append(desk)
