"""The mixture of a network with counts: what the network says goes through the counts of each order.

``csrc/fastrnn.h`` states the arithmetic; docs/adaptation.md explains it. A `Mixture` belongs to a model and
does not change. An `Adaptation` belongs to one text: it counts what it reads, and its gate goes on learning.

n symbols · V vocabulary · F symbols of the longest context
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.backends.backend import Backend
from fastrnn.core import checks
from fastrnn.core.constants import BINS, COLUMNS, READ
from fastrnn.inference.counts import SOME, SOON, CountTable, Flags, Ids, bytes_of

Floats = NDArray[np.float64]

#: The rates at which a gate learns: before it is fixed, and while it goes on.
RATE, RATE_OF_ADAPTATION = 0.15, 0.5

#: What can go on learning as a text is read.
ADAPTS = ("counts",)

#: The most bytes of what an adaptation counts.
ADAPTATION_MEMORY = 64_000_000


class TextMixture(Protocol):
    """The mixture for a text that comes in pieces."""

    def mix(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags) -> None:
        """Replace a network's nats by those of the mixture.

        Parameters
        ----------
        losses
            float64 (n), changed.
        inputs, targets
            int32 (n). A target of -1 has no loss.
        starts
            uint8 (n): 1 where a text begins.
        """

    def place(self) -> Ids:
        """The contexts of the next symbol, for `go_back`."""

    def go_back(self, place: Ids) -> None:
        """Go back to contexts of this text."""


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

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What a file has of it, by name."""
        return {
            "counts.nodes": self.table.columns().astype(np.uint32),
            "counts.fixed_gate": self.fixed.weights[0],
            "counts.learning_gate": np.stack([self.learning.weights, self.learning.squares]),
        }

    @classmethod
    def of_tensors(cls, backend: Backend, order: int, V: int, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """The mixture that has these tensors.

        Raises
        ------
        ValueError
            They are not those of a mixture.
        """
        gates = tensors["counts.fixed_gate"], tensors["counts.learning_gate"]
        if not all(np.isfinite(gate).all() for gate in gates) or (gates[1][1] < 0).any():
            raise ValueError("the gates of the counts are not all finite, or a square is negative")
        mixture = cls(CountTable.of_columns(backend, order, tensors["counts.nodes"], V), V)
        mixture.fixed.weights[0] = gates[0]
        mixture.learning = Gate(*gates[1].astype(np.float64))
        return mixture

    def new_contexts(self) -> Ids:
        """The contexts at the beginning of a text, of both tables (2, F+1)."""
        return np.zeros((2, self.table.order + 1), np.int32)

    def mix_texts(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags) -> None:
        """Do what `TextMixture.mix` does, for a sequence of texts."""
        self._mix(losses, inputs, targets, starts, 0.0)

    def begin_text(self) -> TextMixture:
        """The mixture for a text that comes in pieces."""
        return _FixedText(self)

    def fit(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags, memory: int) -> Floats:
        """Let both gates learn from the network's nats of a text that was not counted.

        Returns
        -------
        float64 (n)
            The nats of the mixture, each before its symbol was learnt from.
        """
        mixed = losses.copy()
        self._mix(mixed, inputs, targets, starts, RATE)
        adaptation = Adaptation(self, memory)
        adaptation.mix(losses.copy(), inputs, targets, starts)
        self.learning = adaptation.gate
        return mixed

    def _mix(
        self,
        losses: Floats,
        inputs: Ids,
        targets: Ids,
        starts: Flags,
        rate: float,
        contexts: Ids | None = None,
    ) -> None:
        contexts = self.new_contexts() if contexts is None else contexts
        mix(self, self.unused, self.fixed, contexts, (losses, inputs, targets, starts), rate, learns=0)


class _FixedText:
    """A text that a mixture reads in pieces, and does not learn from."""

    def __init__(self, mixture: Mixture) -> None:
        self._mixture, self._contexts = mixture, mixture.new_contexts()

    def mix(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags) -> None:
        """Do what `TextMixture.mix` does."""
        self._mixture._mix(losses, inputs, targets, starts, 0.0, self._contexts)  # noqa: SLF001

    def place(self) -> Ids:
        """The contexts of the next symbol."""
        return self._contexts.copy()

    def go_back(self, place: Ids) -> None:
        """Go back to contexts of this text."""
        self._contexts[:] = place


@dataclass(frozen=True)
class Adapting:
    """A mixture that goes on learning as it reads: from each text alone or, if it carries on, from all.

    Attributes
    ----------
    mixture
        What it begins with, which is not changed.
    carried
        The adaptation that goes on from text to text, if there is one.
    """

    mixture: Mixture
    carried: Adaptation | None = None

    @classmethod
    def of(cls, mixture: Mixture, *, carry: bool) -> Self:
        """A mixture that begins to learn."""
        return cls(mixture, Adaptation(mixture) if carry else None)

    def mix_texts(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags) -> None:
        """Do what `TextMixture.mix` does, for a sequence of texts."""
        if self.carried is not None:
            self.carried.mix(losses, inputs, targets, starts)
            return
        begins = np.flatnonzero(starts).tolist()
        for text in map(slice, begins, [*begins[1:], len(losses)]):
            Adaptation(self.mixture).mix(losses[text], inputs[text], targets[text], starts[text])

    def begin_text(self) -> TextMixture:
        """The mixture for a text that comes in pieces."""
        return self.carried or Adaptation(self.mixture)


#: What a network is mixed with.
Mixed = Mixture | Adapting


class Adaptation:
    """A mixture that goes on learning as it reads one text, or several in order.

    Parameters
    ----------
    mixture
        What it begins with, which is not changed.
    memory
        The most bytes of what it counts.
    """

    def __init__(self, mixture: Mixture, memory: int = ADAPTATION_MEMORY) -> None:
        self.mixture, table = mixture, mixture.table
        self.counts = CountTable(table.backend, table.order, memory, SOON, SOME)
        self.gate = mixture.learning.copy()
        self.contexts = mixture.new_contexts()

    def mix(self, losses: Floats, inputs: Ids, targets: Ids, starts: Flags) -> None:
        """Do what `TextMixture.mix` does, and learn from each symbol after its loss.

        Where a text starts, its contexts are emptied, and what was learnt stays.
        """
        done = 0
        while done < len(losses):
            rest = slice(done, None)
            self.counts.make_room(self.contexts[1])
            part = losses[rest], inputs[rest], targets[rest], starts[rest]
            mix(self.mixture, self.counts, self.gate, self.contexts, part, RATE_OF_ADAPTATION, learns=1)
            done += int(self.counts.numbers[READ])

    def place(self) -> Ids:
        """The contexts of the next symbol."""
        return self.contexts.copy()

    def go_back(self, place: Ids) -> None:
        """Go back to contexts of this text; those of what is learnt begin anew, since nodes may have gone."""
        self.contexts[0], self.contexts[1] = place[0], 0


def mix(
    mixture: Mixture,
    learning: CountTable,
    gate: Gate,
    contexts: Ids,
    part: tuple[Floats, Ids, Ids, Flags],
    rate: float,
    *,
    learns: int,
) -> None:
    """Call the kernel for losses, inputs, targets and starts, as far as the learning table has room."""
    table, (losses, inputs, targets, starts) = mixture.table, part
    table.backend.mix_losses(
        losses=losses, gate=gate.weights, squares=gate.squares, learning_nodes=learning.nodes,
        learning_slots=learning.slots, learning_table=learning.numbers, contexts=contexts, nodes=table.nodes,
        slots=table.slots, table=table.numbers, inputs=inputs, targets=targets, starts=starts, rate=rate,
        learns=learns, V=mixture.vocab_size, Y=len(learning.nodes), C=len(table.nodes), F=table.order,
        n=len(losses),
    )  # fmt: skip


def require_no_counts(mixture: Mixed | None) -> None:
    """Raise a ``ValueError`` if a network is mixed with counts, for what reads the network alone."""
    if mixture is not None:
        raise ValueError(
            "this model mixes its network with counts (count_order): its scores do, and its samples, "
            "streams, predictions and reports cannot yet; model.without_counts() has the network alone"
        )


def adapting(mixture: Mixture | None, adapt: str | None, *, carry: bool = False) -> Mixed | None:
    """What scores use, by the options of `fastrnn.Model.surprisal` and `score_many`, which are checked."""
    carry = checks.flag("carry", carry)
    if adapt is None:
        if carry:
            raise ValueError("carry=True carries on what a model learns as it reads: give adapt='counts' too")
        return mixture
    checks.one_of("adapt", adapt, ADAPTS)
    if mixture is None:
        raise ValueError(
            f"adapt={adapt!r} is for a model with counts, and this one has none: train with count_order"
        )
    return Adapting.of(mixture, carry=carry)
