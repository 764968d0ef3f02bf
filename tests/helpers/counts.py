"""Tables of counts for tests: the arrays of the kernels, and calls of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.backends.registry import get_backend
from fastrnn.core.constants import BINS, COLUMNS, KEY, LIMIT, MADE, NODE, READ, TABLE, USED

KEY_OF_TESTS = 0x1234567


def new_table(room: int, limit: int, made: int = 16) -> tuple[Any, Any, Any]:
    """The nodes, the slots and the numbers of an empty table."""
    table = np.zeros(TABLE, np.int64)
    table[[USED, KEY, LIMIT, MADE]] = 1, KEY_OF_TESTS, limit, made
    return np.zeros((room, NODE), np.int32), np.zeros(1 << (2 * room - 1).bit_length(), np.int32), table


def empty_of(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of an empty table, whose counts are halved soon, by the name of the argument of a kernel."""
    array = np.zeros(shape, dtype)
    if name.endswith("table"):
        array[[USED, KEY, LIMIT, MADE]] = 1, KEY_OF_TESTS, 9, 2
    return array


def draw_gate(rng: np.random.Generator, F: int) -> Any:
    """Weights of a gate."""
    return rng.normal(0, 1.5, (2, F, BINS, COLUMNS))


class Tables:
    """A table of counts, a second one that learns, and a gate."""

    def __init__(self, backend: str, F: int, room: int, limit: int = 1 << 24, made: int = 16) -> None:
        self.backend, self.F = get_backend(backend), F
        self.nodes, self.slots, self.table = new_table(room, limit, made)
        self.contexts = np.zeros(F + 1, np.int32)
        self.gate = np.zeros((2, F, BINS, COLUMNS))
        self.squares = np.zeros_like(self.gate)
        self.use_learning(F + 1)

    def use_learning(self, room: int, limit: int = 1 << 24) -> None:
        """Begin with an empty table that learns."""
        self.learning_nodes, self.learning_slots, self.learning_table = new_table(room, limit)
        self.mix_contexts = np.zeros((2, self.F + 1), np.int32)

    def count(self, inputs: Any, targets: Any = None, starts: Any = None) -> None:
        """Count a text: each symbol but the first, or the targets."""
        if targets is None:
            inputs, targets = inputs[:-1], inputs[1:]
        n = len(inputs)
        self.backend.count_symbols(
            nodes=self.nodes, slots=self.slots, table=self.table, contexts=self.contexts,
            inputs=inputs.astype(np.int32), targets=targets.astype(np.int32),
            starts=np.zeros(n, np.uint8) if starts is None else np.array(starts, np.uint8),
            C=len(self.nodes), F=self.F, n=n,
        )  # fmt: skip

    def mix(
        self, losses: Any, inputs: Any, V: int, *, targets: Any = None, starts: Any = None, rate: float = 0,
        learns: int = 0,
    ) -> Any:  # fmt: skip
        """The losses of a text by the mixture, as far as there is room."""
        if targets is None:
            inputs, targets = inputs[:-1], inputs[1:]
        n, losses = len(inputs), np.array(losses, float)
        self.backend.mix_losses(
            losses=losses, gate=self.gate, squares=self.squares, learning_nodes=self.learning_nodes,
            learning_slots=self.learning_slots, learning_table=self.learning_table,
            contexts=self.mix_contexts, nodes=self.nodes, slots=self.slots, table=self.table,
            inputs=inputs.astype(np.int32), targets=targets.astype(np.int32),
            starts=np.zeros(n, np.uint8) if starts is None else np.array(starts, np.uint8),
            rate=rate, learns=learns, V=V, Y=len(self.learning_nodes), C=len(self.nodes), F=self.F, n=n,
        )  # fmt: skip
        return losses[: self.learning_table[READ]]

    def append(self, symbol: int, learns: int) -> None:
        """Read a symbol without scoring it."""
        self.mix(np.zeros(1), np.array([symbol]), 1 + symbol, targets=np.array([-1]), learns=learns)

    def mix_next(self, loss: float, target: int, V: int, rate: float, learns: int) -> float:
        """The loss of the next symbol."""
        return float(
            self.mix([loss], np.array([-1]), V, targets=np.array([target]), rate=rate, learns=learns)[0]
        )

    def distribution(self, probabilities: Any, learns: int) -> Any:
        """The probabilities of all symbols by the mixture."""
        found = np.array(probabilities, float)
        self.backend.mix_probabilities(
            probabilities=found, gate=self.gate, learning_nodes=self.learning_nodes,
            contexts=self.mix_contexts, nodes=self.nodes, learns=learns, V=len(found),
            Y=len(self.learning_nodes), C=len(self.nodes), F=self.F,
        )  # fmt: skip
        return found

    def prune(self, most: int) -> None:
        """Keep so many nodes besides the root."""
        C = len(self.nodes)
        keys, numbers = np.zeros(C, np.int64), np.zeros(C, np.int32)
        self.backend.rank_nodes(keys=keys, nodes=self.nodes, table=self.table, C=C)
        order = np.sort(keys[1 : self.table[USED]])[::-1]
        least = int(order[most - 1]) if most else 2**62
        first = most - int((order > least).sum())
        self.backend.keep_nodes(
            numbers=numbers, nodes=self.nodes, table=self.table, keys=keys, least=least, first=first, C=C
        )
        self.contexts[:] = numbers[self.contexts]
        self.contexts[np.cumsum(self.contexts == 0) > 1] = 0
        self.nodes[self.table[USED] :] = 0
        self.backend.index_nodes(slots=self.slots, nodes=self.nodes, table=self.table, C=C)

    def grow(self) -> None:
        """Move the table to twice the room."""
        nodes, slots, _ = new_table(2 * len(self.nodes), 1)
        nodes[: len(self.nodes)] = self.nodes
        self.nodes, self.slots = nodes, slots
        self.backend.index_nodes(slots=slots, nodes=nodes, table=self.table, C=len(nodes))
