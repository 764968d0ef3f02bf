"""Named arrays in one flat buffer.

A layout is an ordered table of (name, shape). It says where each array is in a flat vector. The
network, the model file and the reference read it; the compiled kernels read a plan (`plan.py`). The
*shape* of a parameter is the public one, PyTorch's. The buffer may hold the transpose of a parameter;
its view has the public shape.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from numpy.typing import NDArray

from fastrnn.core.cells import KINDS, Cell


@dataclass(frozen=True)
class Entry:
    """One named array: its public shape, and whether it is stored transposed."""

    name: str
    shape: tuple[int, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Layout:
    """An ordered table of named arrays that share one flat buffer."""

    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """The number of elements of the flat buffer."""
        return sum(math.prod(entry.shape) for entry in self.entries)

    def offsets(self) -> dict[str, int]:
        """Where each array begins."""
        sizes = [math.prod(entry.shape) for entry in self.entries]
        starts = itertools.accumulate(sizes, initial=0)
        return {entry.name: start for entry, start in zip(self.entries, starts, strict=False)}

    def stored(self, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Views of the buffer by name, as the kernels see them: C-contiguous, some of them transposed."""
        views, start = {}, 0
        for entry in self.entries:
            shape = entry.shape[::-1] if entry.transposed else entry.shape
            stop = start + math.prod(shape)
            views[entry.name] = flat[start:stop].reshape(shape)
            start = stop
        return views

    def views(self, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Writable views of the buffer by name, with the public shapes."""
        stored = self.stored(flat)
        return {e.name: stored[e.name].T if e.transposed else stored[e.name] for e in self.entries}


@dataclass(frozen=True)
class Shape:
    """The kind of cell and the sizes of a network; E is 0 if the input is one-hot."""

    kind: str
    L: int
    V: int
    E: int
    H: int
    tied: bool

    @cached_property
    def cell(self) -> Cell:
        """The cell's row in the table of cells."""
        return KINDS[self.kind]

    @cached_property
    def G(self) -> int:  # noqa: N802  (a dimension letter)
        """The number of gates of the cell."""
        return len(self.cell.gates)

    @cached_property
    def Z(self) -> int:  # noqa: N802  (a dimension letter)
        """The number of arrays of a state: 1 for h, and for the LSTM one more for c."""
        return len(self.cell.state)

    @cached_property
    def operations(self) -> int:
        """The floating-point operations of the products in the forward pass of one symbol."""
        inputs = self.E + (self.L - 1) * self.H
        return 2 * (self.G * self.H * (inputs + self.L * self.H) + self.H * self.V)

    def inputs(self, layer: int) -> int:
        """The size of a layer's input."""
        return self.H if layer > 0 else self.E or self.V


@lru_cache(maxsize=64)
def parameter_layout(shape: Shape) -> Layout:
    """The parameters of a network, with PyTorch's names.

    There is one bias for each gate. The new gate of a GRU has a second one, because the reset gate multiplies
    it. The weight of a one-hot input is stored transposed, so that a symbol selects one contiguous row.
    """
    L, V, E, H = shape.L, shape.V, shape.E, shape.H
    entries = [Entry("embedding.weight", (V, E))] if E else []
    for layer in range(L):
        O, I = shape.G * H, shape.inputs(layer)
        entries += [
            Entry(f"weight_ih_l{layer}", (O, I), transposed=layer == 0 and not E),
            Entry(f"weight_hh_l{layer}", (O, H)),
            Entry(f"bias_l{layer}", (O,)),
        ]
        if shape.cell.split_bias:
            entries.append(Entry(f"bias_h{shape.cell.split_bias}_l{layer}", (H,)))
    if not shape.tied:
        entries.append(Entry("head.weight", (V, H)))
    return Layout((*entries, Entry("head.bias", (V,))))
