"""The mixture of a network with counts: what the network says goes through the counts of each order.

``csrc/fastrnn.h`` states the arithmetic; docs/adaptation.md explains it. A `Mixture` belongs to a model and
does not change. An `Adaptation` belongs to one text: it counts what it reads, and its gate goes on learning.

n symbols · V vocabulary · F symbols of the longest context
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.constants import BINS, COLUMNS, READ
from fastrnn.inference.counts import SOON, CountTable, Flags, Ids, bytes_of

Floats = NDArray[np.float64]

#: The rates at which a gate learns: before it is fixed, and while it goes on.
RATE, RATE_OF_ADAPTATION = 0.15, 0.5


class Gate:
    """The weights that mix the orders of two tables, and their squared gradients: (2, F, bins)."""

    def __init__(self, weights: Floats, squares: Floats) -> None:
        self.weights, self.squares = weights, squares

    @classmethod
    def untrained(cls, order: int) -> Self:
        """A gate that knows nothing: all weights are zero."""
        return cls(*np.zeros((2, 2, order, BINS, COLUMNS)))

    def copy(self) -> Gate:
        """A gate that changes alone."""
        return Gate(self.weights.copy(), self.squares.copy())


class Mixture:
    """Counts of a text, which stay as they are, and gates for them.

    Attributes
    ----------
    table
        The counts.
    vocab_size
        V.
    fixed
        The gate for scores that nothing changes.
    learning
        The gate with which an adaptation begins.
    """

    def __init__(self, table: CountTable, vocab_size: int) -> None:
        self.table, self.vocab_size = table, vocab_size
        self.fixed, self.learning = Gate.untrained(table.order), Gate.untrained(table.order)
        self.unused = CountTable(table.backend, table.order, bytes_of(1))

    def losses(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags) -> None:
        """Replace a network's nats by those of the mixture, in a sequence of texts.

        Parameters
        ----------
        losses
            float64 (n), changed.
        inputs, targets
            int32 (n). A target of -1 has no loss.
        starts
            uint8 (n): 1 where a text begins, at the first place too.
        """
        self._mix(losses, inputs, targets, starts, 0.0)

    def fit(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags, memory: int) -> None:
        """Let both gates learn from the network's nats of a text that was not counted."""
        self._mix(losses.copy(), inputs, targets, starts, RATE)
        adaptation = Adaptation(self, memory)
        adaptation.losses(losses.copy(), inputs, targets, starts)
        self.learning = adaptation.gate

    def _mix(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags, rate: float) -> None:
        contexts = np.zeros((2, self.table.order + 1), np.int32)
        mix(self, self.unused, self.fixed, contexts, losses, inputs, targets, starts, rate, learns=0)


class Adaptation:
    """A mixture that goes on learning as it reads one text, or several in order.

    Parameters
    ----------
    mixture
        What it begins with, which is not changed.
    memory
        The most bytes of what it counts.
    """

    def __init__(self, mixture: Mixture, memory: int) -> None:
        self.mixture, table = mixture, mixture.table
        self.counts = CountTable(table.backend, table.order, memory, SOON)
        self.gate = mixture.learning.copy()
        self.contexts = np.zeros((2, table.order + 1), np.int32)

    def losses(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags) -> None:
        """Replace a network's nats by those of the mixture, and learn from each symbol after its loss.

        The arguments are those of `Mixture.losses`; where a text starts, its contexts are emptied, and what
        was learnt stays.
        """
        done = 0
        while done < len(losses):
            rest = slice(done, None)
            self.counts.make_room(self.contexts[1])
            mix(
                self.mixture, self.counts, self.gate, self.contexts, losses[rest], inputs[rest],
                targets[rest], starts[rest], RATE_OF_ADAPTATION, learns=1,
            )  # fmt: skip
            done += int(self.counts.numbers[READ])


def mix(
    mixture: Mixture, learning: CountTable, gate: Gate, contexts: Ids, losses: Floats, inputs: Ids,
    targets: Ids, starts: Flags, rate: float, *, learns: int,
) -> None:  # fmt: skip
    """Call the kernel; it goes as far as the table that learns has room."""
    table = mixture.table
    table.backend.mix_losses(
        losses=losses, gate=gate.weights, squares=gate.squares, learning_nodes=learning.nodes,
        learning_slots=learning.slots, learning_table=learning.numbers, contexts=contexts, nodes=table.nodes,
        slots=table.slots, table=table.numbers, inputs=inputs, targets=targets, starts=starts, rate=rate,
        learns=learns, V=mixture.vocab_size, Y=len(learning.nodes), C=len(table.nodes), F=table.order,
        n=len(losses),
    )  # fmt: skip
