"""Lays a sequence out as B parallel rows of symbol ids, and reads them in blocks of training windows."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.corpus import Sequence

#: The symbols of a block, about, and its fewest steps: with very many rows a block has more symbols, because
#: reading only a few steps of each row would be slow.
BLOCK_SYMBOLS = 1 << 17
MIN_STEPS = 1 << 10


@dataclass(frozen=True)
class Batch:
    """Steps of B parallel rows: inputs, targets and starts, (N, B); a start is 1 where the state is zero."""

    inputs: NDArray[np.int32]
    targets: NDArray[np.int32]
    starts: NDArray[np.uint8]

    @property
    def n_steps(self) -> int:
        """N, the number of steps."""
        return len(self.inputs)

    @property
    def batch_size(self) -> int:
        """B, the number of rows."""
        return int(self.inputs.shape[1])

    def windows(self, seq_length: int) -> int:
        """The number of windows of one pass; the last one may be shorter."""
        return -(-self.n_steps // seq_length)


class BatchLayout:
    """The first transitions of a sequence as B parallel rows, which `read` reads in part.

    The rows have one length and begin at even distances. If B does not divide the number of transitions, some
    rows overlap by a symbol, so that no transition is left out. The state of a row starts anew at its first
    step, unless it is carried from the row's end, and at each step whose input is the boundary.
    """

    def __init__(
        self,
        sequence: Sequence,
        transitions: int,
        batch_size: int,
        *,
        boundary_id: int | None = None,
        carry_state: bool = False,
    ) -> None:
        self._sequence = sequence
        self._boundary_id = boundary_id
        self._carry_state = carry_state
        #: N, the length of the rows.
        self.n_steps = -(-transitions // batch_size)
        spread = transitions - self.n_steps
        self._places = [row * spread // max(1, batch_size - 1) for row in range(batch_size)]

    @property
    def batch_size(self) -> int:
        """B, the number of rows."""
        return len(self._places)

    def of(self, sequence: Sequence) -> BatchLayout:
        """The same rows of another sequence of the same length."""
        other = copy.copy(self)
        other._sequence = sequence  # noqa: SLF001  (it is a layout too)
        return other

    def first(self, steps: int) -> BatchLayout:
        """The first steps of the same rows."""
        shorter = copy.copy(self)
        shorter.n_steps = steps
        return shorter

    def read(self, start: int, stop: int) -> Batch:
        """The steps from ``start`` up to ``stop`` of every row."""
        symbols = np.empty((stop - start + 1, self.batch_size), np.int32)
        for row, place in enumerate(self._places):
            symbols[:, row] = self._sequence.read(place + start, place + stop + 1)
        starts = np.zeros((stop - start, self.batch_size), np.uint8)
        if self._boundary_id is not None:
            starts[symbols[:-1] == self._boundary_id] = 1
        if start == 0 and not self._carry_state:
            starts[0] = 1
        return Batch(symbols[:-1], symbols[1:], starts)


class WindowReader:
    """The windows of a layout, pass after pass, in blocks of whole windows. One block is in memory.

    If the rows are no longer than a block, there is one block, which is read once.
    """

    def __init__(self, layout: BatchLayout, seq_length: int) -> None:
        self.layout = layout
        self.seq_length = seq_length
        #: The number of windows of one pass; the last one may be shorter.
        self.windows = -(-layout.n_steps // seq_length)
        steps = max(BLOCK_SYMBOLS // layout.batch_size, MIN_STEPS)
        self._windows_of_block = min(max(1, steps // seq_length), self.windows)
        self._number: int | None = None
        self._held: Batch

    @property
    def n_bytes(self) -> int:
        """The bytes of memory of a block."""
        steps = min(self._windows_of_block * self.seq_length, self.layout.n_steps)
        return (steps + 1) * self.layout.batch_size * (4 + 1)

    def at(self, window: int) -> tuple[Batch, int, int]:
        """The block that has a window. Windows are numbered through all passes.

        Returns
        -------
        batch, first, left
            The block; the window's number in it; how many windows may be read from there on: those left
            in the block or, if the block is a whole pass, any number, because it may be read again.
        """
        number, first = divmod(window % self.windows, self._windows_of_block)
        if number != self._number:
            begin = number * self._windows_of_block * self.seq_length
            end = min(begin + self._windows_of_block * self.seq_length, self.layout.n_steps)
            self._held = self.layout.read(begin, end)
            self._number = number
        whole = self._windows_of_block == self.windows
        left = sys.maxsize if whole else self._held.windows(self.seq_length) - first
        return self._held, first, left


def fit_window(transitions: int, seq_length: int | None, batch_size: int) -> tuple[int, int]:
    """Return T and B of a window that fits a sequence with this number of transitions; B is reduced first."""
    T = transitions if seq_length is None else min(seq_length, transitions)
    return T, min(batch_size, max(1, transitions // T))
