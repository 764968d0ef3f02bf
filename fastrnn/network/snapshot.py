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
    symbols
        The symbol before those that are read, and then these (T + 1).
    losses
        The nats of the symbols that were read (T).
    logits
        What `step` gives (1, V).
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
        self.logits = np.empty((1, network.shape.V), network.dtype)
        self._step = network.backend.bound(
            "network_step", self.logits, *self._outputs[1:], np.zeros(BARRIER, np.int32), snapshot.prepared,
            snapshot.flat, self.symbols[:1], np.zeros(1, np.uint8), plan.numbers,
        )  # fmt: skip

    def step(self) -> None:
        """Fill in the logits of what follows the first symbol; replace the state with the one after it."""
        self._step(0, 1, 1)

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
        is_single = network.dtype == np.float32  # whose losses are far from infinite bits
        self._in_bits = np.divide if is_single else np.errstate(over="ignore")(np.divide)

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
        n, desk = len(ids), self._desk()
        sums, most = np.empty(n + 1), len(desk.losses)
        sums[0], bits = total, sums[1:]
        desk.state[...] = state
        for start in range(0, n, most):
            some = ids[start : start + most]
            T = len(some)
            desk.symbols[0] = before
            desk.symbols[1 : T + 1] = some
            desk.read(T)
            self._in_bits(desk.losses[:T], NATS_OF_BIT, bits[start : start + T])
            before = some[-1]
        after = desk.state.copy()
        self._idle_desks.append(desk)
        return bits, np.add.accumulate(sums).item(n), after

    def logits(self, before: int, state: Array) -> Array:
        """The logits (1, V) of what follows ``before`` and the state (Z, L, 1, H), which is not changed."""
        desk = self._desk()
        desk.state[...] = state
        desk.symbols[0] = before
        desk.step()
        logits: Array = desk.logits.copy()
        self._idle_desks.append(desk)
        return logits

    def read_rows(
        self,
        bits: Floats,
        before: Ids,
        state: Array,
        slots: Places,
        ids: Ids,
        begins: Places,
        lengths: Places,
    ) -> Array:
        """Fill in the bits (N) of ids (N) of B rows; return the states (Z, L, B, H) before their last ids.

        Row b has ``lengths[b]`` ids from ``begins[b]`` on. They follow ``before[b]`` and the state at the
        place ``slots[b]`` in ``state`` (Z, L, C, H), which is not changed.
        """
        B = len(slots)
        Z, L, _, H = state.shape
        after = np.empty((Z, L, B, H), state.dtype)
        longest_first = np.argsort(-lengths, kind="stable")
        split = self.network.split(int(lengths.max(initial=1)), max(1, B), passes=1)
        with self.network.workspace(0) as workspace:  # only its team is used
            parts = workspace.team.at_most(1 if split.by_columns else split.parts)
            most = min(ROWS_AT_ONCE, self.network.size_of_call(ROWS_AT_ONCE)[0], max(1, -(-B // parts)))
            blocks = [longest_first[start : start + most] for start in range(0, B, most)]

            def work(part: int) -> None:
                for rows in blocks[part::parts]:
                    some = before[rows], np.take(state, slots[rows], axis=2), begins[rows], lengths[rows]
                    after[:, :, rows] = self._read_block(bits, ids, *some)

            workspace.team.run(parts, work)
        return after

    def _read_block(
        self, bits: Floats, ids: Ids, before: Ids, state: Array, begins: Places, lengths: Places
    ) -> Array:
        """Do `read_rows` side by side for some rows, the longest first; ``state`` (Z, L, B, H) is theirs.

        A row that has ended leaves the batch. ``state`` is overwritten.
        """
        after, done = state, 0
        while rows := int(np.count_nonzero(lengths > done)):
            state = np.ascontiguousarray(state[:, :, :rows])
            T = min(int(lengths[rows - 1]) - done, self.network.size_of_call(rows)[1])
            places = begins[:rows] + np.arange(done, done + T)[:, np.newaxis]
            targets = ids[places]
            inputs = np.concatenate([before[np.newaxis, :rows], targets[:-1]])
            losses = self._read_window(state, inputs, targets)
            bits[places] = self._in_bits(losses, NATS_OF_BIT, losses)
            after[:, :, :rows] = state
            before, done = targets[-1], done + T
        return after

    def _read_window(self, state: Array, inputs: Ids, targets: Ids) -> Floats:
        """The nats (T, B) of targets; the state (Z, L, B, H) is replaced."""
        T, B = targets.shape
        plan, _ = reading_plan(self.network.shape, T, B)
        losses = np.empty((T, B))
        with self.network.workspace(plan.size) as workspace:
            self.network.backend.network_read(
                losses=losses, state=state, scratch=workspace.flat, barrier=np.zeros(BARRIER, np.int32),
                prepared=self.prepared, params=self.flat, inputs=inputs, targets=targets,
                starts=np.zeros((T, B), np.uint8), plan=plan.numbers, part=0, parts=1, T=T, B=B,
            )  # fmt: skip
        return losses
