"""A table of counts that stays within a memory: it grows, and when it is full, what is rare or old goes.

The table is that of ``csrc/fastrnn.h``: a tree whose nodes count how often a symbol followed a context.

n symbols · F symbols of the longest context · C nodes that a table has room for
"""

from __future__ import annotations

import secrets
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.backends.backend import Backend
from fastrnn.core.constants import (
    CHILD,
    CLOCK,
    COLUMNS,
    COUNT,
    DISTINCT,
    KEY,
    LIMIT,
    MADE,
    NODE,
    PARENT,
    READ,
    SEEN,
    SIBLING,
    SYMBOL,
    TABLE,
    TOTAL,
    USED,
)

Ids = NDArray[np.int32]
Flags = NDArray[np.uint8]

#: The longest context that a table can count.
MOST_SYMBOLS = COLUMNS - 1

#: The nodes that a new table has room for, and the part of the nodes that a full one keeps.
FIRST_ROOM, KEPT = 256, 0.75

#: The counts of a node's children are halved when their sum reaches this: rarely, or soon, if what is new
#: counts for more than what is old.
RARELY, SOON = 1 << 24, 32

#: How many contexts a symbol makes at most: one that was never seen is longer only when it comes again. So a
#: text in which nothing comes again, which makes most, is not much slower than others.
FEW, SOME = 2, 3

#: The bytes of a number in a table, and the largest number.
BYTES, LARGEST = 4, 2**31 - 1

#: How many symbols a native call counts at most.
AT_ONCE = 1 << 16


def slots_of(room: int) -> int:
    """The slots of the index of a table with room for so many nodes."""
    return 1 << (2 * room - 1).bit_length()


def bytes_of(room: int) -> int:
    """The bytes of a table with room for so many nodes."""
    return BYTES * (NODE * room + slots_of(room))


def most_nodes(memory: int) -> int:
    """The most nodes of a table in so many bytes."""
    rooms = [1 << k for k in range(31)]
    best = max((room for room in rooms if bytes_of(room) <= memory), default=0)
    more = (memory - BYTES * slots_of(best + 1)) // (BYTES * NODE) if best else 0
    return min(max(best, more), LARGEST)


class CountTable:
    """Counts of what follows contexts of up to F symbols.

    Parameters
    ----------
    backend
        The backend of the kernels.
    order
        F, from 1 to `MOST_SYMBOLS`.
    memory
        The most bytes of the table, at least 1,000; a table of a mixture that does not learn needs none.
    limit, made
        See `RARELY` and `FEW`.

    Attributes
    ----------
    nodes, slots, numbers
        The arrays of the kernels.
    """

    def __init__(
        self, backend: Backend, order: int, memory: int, limit: int = RARELY, made: int = FEW
    ) -> None:
        self.backend, self.order = backend, order
        self.most = most_nodes(memory)
        self.numbers = np.zeros(TABLE, np.int64)
        # nobody who writes a text can know which symbols share a slot; no result depends on it
        self.numbers[[USED, KEY, LIMIT, MADE]] = 1, secrets.randbits(62), limit, made
        self.nodes = np.zeros((min(FIRST_ROOM, self.most), NODE), np.int32)
        self.slots = np.zeros(slots_of(len(self.nodes)), np.int32)

    @property
    def n_nodes(self) -> int:
        """The nodes of the table."""
        return int(self.numbers[USED])

    @property
    def n_bytes(self) -> int:
        """The bytes of the table."""
        return self.nodes.nbytes + self.slots.nbytes

    def new_contexts(self) -> Ids:
        """The contexts at the beginning of a text (F+1)."""
        return np.zeros(self.order + 1, np.int32)

    def count(self, inputs: Ids, targets: Ids, starts: Flags, contexts: Ids) -> None:
        """Count each target after the contexts, to which the inputs are appended; see ``count_symbols``.

        Parameters
        ----------
        inputs, targets
            int32 (n), at most ``AT_ONCE``, or -1.
        starts
            uint8 (n): 1 where a text begins.
        contexts
            int32 (F+1), which is changed.
        """
        done = 0
        while done < len(inputs):
            self.make_room(contexts)
            rest = slice(done, None)
            self.backend.count_symbols(
                nodes=self.nodes, slots=self.slots, table=self.numbers, contexts=contexts,
                inputs=inputs[rest], targets=targets[rest], starts=starts[rest],
                C=len(self.nodes), F=self.order, n=len(inputs) - done,
            )  # fmt: skip
            done += int(self.numbers[READ])

    def make_room(self, contexts: Ids) -> None:
        """Make room for one more symbol at least: the table grows, or loses nodes.

        ``contexts`` are numbered anew if nodes are lost.
        """
        if self.numbers[CLOCK] > LARGEST - 2 * AT_ONCE:
            self.nodes[:, SEEN] = 0
            self.numbers[CLOCK] = 0
        if self.n_nodes + self.order + 1 <= len(self.nodes):
            return
        if len(self.nodes) < self.most:
            self._grow(min(self.most, 2 * len(self.nodes)))
        if self.n_nodes + self.order + 1 > len(self.nodes):
            numbers = self.prune(min(int(KEPT * self.n_nodes), len(self.nodes) - self.order - 2))
            contexts[:] = numbers[contexts]
            contexts[np.cumsum(contexts == 0) > 1] = 0  # after one that is gone there is none

    def _grow(self, room: int) -> None:
        self.slots = np.zeros(0, np.int32)  # the old index makes place for the new one
        self.nodes.resize((room, NODE), refcheck=False)
        self.slots = np.zeros(slots_of(room), np.int32)
        self._index()

    def prune(self, most: int) -> Ids:
        """Keep so many nodes besides the root; return the new number of each node, 0 of one that is gone.

        The counts of nodes that were not counted since the last time are halved. Then those with the fewest
        counts go first; of equal ones, those that were counted longest ago; of these, those made last.
        """
        room = len(self.nodes)
        keys, numbers = np.empty(room, np.int64), np.empty(room, np.int32)
        self.backend.rank_nodes(keys=keys, nodes=self.nodes, table=self.numbers, C=room)
        ranked = keys[1 : self.n_nodes]
        most = min(most, len(ranked))
        least = int(np.partition(ranked, len(ranked) - most)[len(ranked) - most]) if most else 2**62
        first = most - int(np.count_nonzero(ranked > least))
        self.backend.keep_nodes(
            numbers=numbers, nodes=self.nodes, table=self.numbers, keys=keys, least=least, first=first, C=room
        )
        self._index()
        return numbers

    def _index(self) -> None:
        self.backend.index_nodes(slots=self.slots, nodes=self.nodes, table=self.numbers, C=len(self.nodes))

    # ---- In files ---------------------------------------------------------------------------------

    def columns(self) -> Ids:
        """The parent, the symbol and the count of each node but the root: int32 (3, nodes)."""
        return np.ascontiguousarray(self.nodes[1 : self.n_nodes, [PARENT, SYMBOL, COUNT]].T)

    @classmethod
    def of_columns(cls, backend: Backend, order: int, columns: Any, V: int) -> Self:
        """The table that has these columns.

        Raises
        ------
        ValueError
            They are not those of a table over V symbols with contexts of up to ``order`` symbols.
        """
        if columns.max(initial=0) > LARGEST:
            raise ValueError(f"the counts have the number {columns.max()}, which is too large")
        parents, symbols, counts = columns.astype(np.int64)
        n = 1 + len(parents)
        depths = np.zeros(n, np.int32)
        if (parents < 0).any() or (parents >= np.arange(1, n)).any():
            raise ValueError("a node of the counts comes before its parent")
        for _ in range(order + 2):
            depths[1:] = depths[parents] + 1
        if depths.max() > order + 1:
            raise ValueError(f"the counts have contexts of more than {order} symbols")
        if (symbols < 0).any() or (symbols >= V).any() or (counts < 1).any():
            raise ValueError("the counts have a symbol that does not exist, or no count")
        pairs = parents * V + symbols
        if len(np.unique(pairs)) < len(pairs):
            raise ValueError("the counts have a node twice")
        totals = np.bincount(parents, counts, n)
        if totals.max() >= RARELY:
            raise ValueError(f"the counts of a context are {totals.max():.0f}, and must be below {RARELY}")
        table = cls(backend, order, bytes_of(n))
        table.nodes = np.zeros((n, NODE), np.int32)
        table.nodes[1:, [PARENT, SYMBOL, COUNT]] = np.stack([parents, symbols, counts], axis=1)
        table.nodes[:, TOTAL] = totals
        table.nodes[:, DISTINCT] = np.bincount(parents, minlength=n)
        table.numbers[USED] = n
        table._link()
        table.slots = np.zeros(slots_of(n), np.int32)
        table._index()
        return table

    def _link(self) -> None:
        """Write the lists of children, the last one first."""
        n = self.n_nodes
        order = np.lexsort((np.arange(1, n), self.nodes[1:n, PARENT])) + 1
        parents = self.nodes[order, PARENT]
        is_first = np.append(True, parents[1:] != parents[:-1])[: len(order)]
        self.nodes[order, SIBLING] = np.where(is_first, 0, np.append(0, order[:-1])[: len(order)])
        self.nodes[parents, CHILD] = order  # of equal parents, the last one stays
