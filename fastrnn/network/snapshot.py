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
Places = NDArray[np.int64]

#: The nats of a bit.
NATS_OF_BIT = float(np.log(2))

#: The most rows that are read side by side: their arrays stay in the cache.
ROWS_AT_ONCE = 512


class Desk:
    """The memory in which one row is read. Its arrays are bound to the kernel, so that a call is short.

    Attributes
    ----------
    steps
        T, the most symbols of a call.
    total
        A sum of bits (1), to which `read` adds.
    state
        The state (Z, L, 1, H) before the first symbol. A call replaces it with the one before the last.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        network = self._network = snapshot.network
        T = self.steps = min(KC, network.size_of_call(1)[1])
        self._split = network.split(MANY_STEPS, 1, passes=1)
        plan, _ = reading_plan(network.shape, T, 1, self._split)
        self._symbols, self._bits, self.total = np.zeros(T + 1, np.int32), np.empty(T), np.zeros(1)
        self.state: Array = network.checked_state(None, 1)
        self._logits = np.empty((1, network.shape.V), network.dtype)
        scratch, barrier = memory.aligned(plan.size, network.dtype), np.zeros(BARRIER, np.int32)
        weights, starts = (snapshot.prepared, snapshot.flat), np.zeros((T, 1), np.uint8)
        inputs, targets = self._symbols[:-1].reshape(T, 1), self._symbols[1:].reshape(T, 1)
        self._outputs = self._bits.reshape(T, 1), self.total, self.state, scratch
        self._inputs = *weights, inputs, targets, starts, plan.numbers, NATS_OF_BIT
        self._read_alone = self._call(barrier)
        self._step = network.backend.bound(
            "network_step", self._logits, self.state, scratch, barrier, *weights, inputs[0], starts[0],
            plan.numbers,
        )  # fmt: skip

    def _call(self, barrier: Array) -> Callable[..., None]:
        """The kernel as a function of the part, the number of parts, T and B."""
        return self._network.backend.bound("network_read", *self._outputs, barrier, *self._inputs)

    def read(self, before: int, ids: Ids) -> Floats:
        """The bits (n) of up to T ids that follow ``before``; threads may share columns of the products."""
        n = len(ids)
        self._symbols[0] = before
        self._symbols[1 : n + 1] = ids
        if self._split.parts == 1:
            self._read_alone(0, 1, n, 1)
        else:
            self._read_together(n)
        return self._bits[:n].copy()

    def _read_together(self, n: int) -> None:
        """Do the call of `read` with as many threads as it is worth."""
        parts = min(self._split.parts, self._network.split(n, 1, passes=1).parts)
        with self._network.workspace(0) as workspace:  # only its team is used
            team = workspace.team
            parts = team.at_most(parts)
            team.run(parts, lambda part: self._call(team.barrier)(part, parts, n, 1))

    def logits(self, before: int) -> Array:
        """The logits (1, V) of what follows ``before``; the state after it replaces the one before it."""
        self._symbols[0] = before
        self._step(0, 1, 1)
        return self._logits.copy()


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

    def _desk(self) -> Desk:
        """A desk that no other call uses; it is idle again when the call puts it back."""
        try:
            return self._idle_desks.pop()
        except IndexError:
            return Desk(self)

    def read(self, before: int, state: Array, ids: Ids, total: float = 0.0) -> tuple[Floats, float, Array]:
        """Read ids that follow ``before`` and the state (Z, L, 1, H), which is not changed.

        Returns the bits (n) of the ids, their sum with ``total``, added in their order, and the state before
        the last id.
        """
        n = len(ids)
        if not n:
            return np.empty(0), total, state
        desk = self._desk()
        desk.state[...], desk.total[0] = state, total
        if n <= desk.steps:
            bits = desk.read(before, ids)
        else:
            pieces = []
            for start in range(0, n, desk.steps):
                some = ids[start : start + desk.steps]
                pieces.append(desk.read(before, some))
                before = some[-1]
            bits = np.concatenate(pieces)
        after, total = desk.state.copy(), desk.total.item()
        self._idle_desks.append(desk)
        return bits, total, after

    def logits(self, before: int, state: Array) -> Array:
        """The logits (1, V) of what follows ``before`` and the state (Z, L, 1, H), which is not changed."""
        desk = self._desk()
        desk.state[...] = state
        logits = desk.logits(before)
        self._idle_desks.append(desk)
        return logits

    def read_rows(
        self,
        bits: Floats,
        totals: Floats,
        before: Ids,
        states: Array,
        places: Places,
        ids: Ids,
        begins: Places,
        lengths: Places,
    ) -> None:
        """Read ids (N) of B rows: fill in their bits (N), and add these to the totals (B) in their order.

        Row b has ``lengths[b]`` ids from ``begins[b]`` on. They follow ``before[b]`` and the state at
        ``places[b]`` in ``states`` (Z, L, 2C, H), which is kept. The state before the last id is written to
        the other place of the pair, ``places[b] ^ 1``.
        """
        B = len(places)
        longest_first = np.argsort(-lengths, kind="stable")
        split = self.network.split(int(lengths.max(initial=1)), max(1, B), passes=1)
        with self.network.workspace(0) as workspace:  # only its team is used
            parts = workspace.team.at_most(1 if split.by_columns else split.parts)
            most = min(ROWS_AT_ONCE, self.network.size_of_call(ROWS_AT_ONCE)[0], max(1, -(-B // parts)))
            blocks = [longest_first[start : start + most] for start in range(0, B, most)]

            def work(part: int) -> None:
                for rows in blocks[part::parts]:
                    state = np.take(states, places[rows], axis=2)
                    some = before[rows], state, ids, begins[rows], lengths[rows]
                    states[:, :, places[rows] ^ 1], totals[rows] = self._read_block(bits, totals[rows], *some)

            workspace.team.run(parts, work)

    def _read_block(
        self,
        bits: Floats,
        totals: Floats,
        before: Ids,
        state: Array,
        ids: Ids,
        begins: Places,
        lengths: Places,
    ) -> tuple[Array, Floats]:
        """Do `read_rows` side by side for some rows, the longest first; return their states and totals.

        A row that has ended leaves the batch. ``state`` (Z, L, B, H) and the totals are overwritten.
        """
        after, done = state, 0
        while rows := int(np.count_nonzero(lengths > done)):
            state = np.ascontiguousarray(state[:, :, :rows])
            T = min(int(lengths[rows - 1]) - done, self.network.size_of_call(rows)[1])
            where = begins[:rows] + np.arange(done, done + T)[:, np.newaxis]
            targets = ids[where]
            inputs = np.concatenate([before[np.newaxis, :rows], targets[:-1]])
            bits[where] = self._read_window(totals[:rows], state, inputs, targets)
            if state is not after:
                after[:, :, :rows] = state
            before, done = targets[-1], done + T
        return after, totals

    def _read_window(self, totals: Floats, state: Array, inputs: Ids, targets: Ids) -> Floats:
        """The bits (T, B) of targets, which are added to the totals; the state (Z, L, B, H) is replaced."""
        T, B = targets.shape
        plan, _ = reading_plan(self.network.shape, T, B)
        bits, starts = np.empty((T, B)), np.zeros((T, B), np.uint8)
        with self.network.workspace(plan.size) as workspace:
            self.network.backend.network_read(
                losses=bits, totals=totals, state=state, scratch=workspace.flat,
                barrier=np.zeros(BARRIER, np.int32), prepared=self.prepared, params=self.flat, inputs=inputs,
                targets=targets, starts=starts, plan=plan.numbers, unit=NATS_OF_BIT, part=0, parts=1, T=T,
                B=B,
            )  # fmt: skip
        return bits
