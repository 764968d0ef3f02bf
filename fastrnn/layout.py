"""Named arrays in one flat buffer.

A layout is an ordered table of (name, shape). It says where each array lies in a flat vector. The
network, the model file and the reference read it; the compiled kernels follow the same order, in
``csrc/views.h`` and ``backends/numba.py``. A parameter's *shape* is
the public one, PyTorch's; an entry that is stored transposed lies in the buffer the other way round,
which its view hides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The widest panel of a packed matrix, the rows that are packed at a time of a long one (FR_BLOCK), those that
#: the head works on at a time (FR_ROWS), and the logits that are held at a time (FR_LOGITS).
PANEL, BLOCK, HEAD_ROWS, LOGITS = 32, 256, 64, 1 << 24


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


#: The cells by their numbers in the contract.
KINDS = ("rnn_tanh", "rnn_relu", "gru", "lstm")


@dataclass(frozen=True)
class Shape:
    """What a network is: its kind of cell and its sizes. Fields and order are those of ``shape`` in the contract."""

    kind: str
    L: int
    V: int
    E: int
    H: int
    tied: bool

    @property
    def G(self) -> int:
        """The gates of the cell."""
        return {"gru": 3, "lstm": 4}.get(self.kind, 1)

    @property
    def Z(self) -> int:
        """The arrays of a state: h, and for the LSTM c."""
        return 2 if self.kind == "lstm" else 1

    @property
    def operations(self) -> int:
        """Floating-point operations of the products of a symbol's forward pass."""
        inputs = self.E + (self.L - 1) * self.H
        return 2 * (self.G * self.H * (inputs + self.L * self.H) + self.H * self.V)

    def inputs(self, layer: int) -> int:
        """The elements that a layer takes in."""
        return self.H if layer > 0 else self.E or self.V

    def numbers(self) -> NDArray[np.int64]:
        """The shape as the kernels take it."""
        return np.array([KINDS.index(self.kind), self.L, self.V, self.E, self.H, self.tied], np.int64)


@lru_cache(maxsize=64)
def parameter_layout(shape: Shape) -> Layout:
    """The parameters of a network, with PyTorch's names.

    There is one bias for each gate, and for the GRU one more, which PyTorch's multiplies by the reset gate.
    The weight of a one-hot input is stored transposed, so that the product with it reads one row.
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
        if shape.kind == "gru":
            entries.append(Entry(f"bias_hn_l{layer}", (H,)))
    if not shape.tied:
        entries.append(Entry("head.weight", (V, H)))
    return Layout((*entries, Entry("head.bias", (V,))))


def _packed(name: str, K: int, J: int) -> Entry:
    """A packed matrix of K rows and J columns, which are filled up to panels."""
    return Entry(name, (K, -(-J // PANEL) * PANEL))


def packed_entries(shape: Shape) -> tuple[list[Entry], list[Entry]]:
    """The weights packed as right operands of products: those of the forward pass, and of the backward."""
    V, H, O = shape.V, shape.H, shape.G * shape.H
    forward, backward = [], []
    for layer in range(shape.L):
        if layer > 0 or shape.E:
            I = shape.inputs(layer)
            forward.append(_packed(f"packed_ih_l{layer}_t", I, O))
            backward.append(_packed(f"packed_ih_l{layer}", O, I))
        forward.append(_packed(f"packed_hh_l{layer}_t", H, O))
        backward.append(_packed(f"packed_hh_l{layer}", O, H))
    return [*forward, _packed("packed_head_t", H, V)], [*backward, _packed("packed_head", V, H)]


def trace_entries(shape: Shape, T: int, B: int, *, dropout: bool = False) -> list[Entry]:
    """What the forward pass keeps of T steps of B rows; ``h`` begins with the state before them."""
    H, E, G = shape.H, shape.E, shape.G
    entries = [Entry("x", (T, B, E))]
    for layer in range(shape.L):
        entries.append(Entry(f"h_l{layer}", (T + 1, B, H)))
        if G > 1:
            entries += [Entry(f"inner_l{layer}", (T + 1, B, H)), Entry(f"gates_l{layer}", (T, B, G * H))]
        if dropout:
            entries.append(Entry(f"dropped_l{layer}", (T, B, H)))
    return [*entries, Entry("running", (B, (G + 1) * H))]


@lru_cache(maxsize=64)
def prepared_layout(shape: Shape) -> Layout:
    """What a network's single steps read beside its parameters."""
    return Layout(tuple(packed_entries(shape)[0]))


@lru_cache(maxsize=64)
def step_layout(shape: Shape, B: int) -> Layout:
    """What a single step of B rows works in."""
    return Layout(tuple(trace_entries(shape, 1, B)))


@lru_cache(maxsize=64)
def workspace_layout(shape: Shape, T: int, B: int, parts: int = 1, *, dropout: bool = False) -> Layout:
    """What the kernels keep of a window of T steps and B rows, which so many threads work on.

    Each thread has room for a block of a packed matrix. The gradients of an rnn's gates take the place of those of
    ``h``, so each of its layers has some.
    """
    forward, backward = packed_entries(shape)
    V, H, E, widest = shape.V, shape.H, shape.E, max(shape.E, shape.H)
    head_steps = min(T, max(1, LOGITS // B // V))
    return Layout(
        (
            *forward,
            *backward,
            _packed("block", parts * BLOCK, widest),
            *trace_entries(shape, T, B, dropout=dropout),
            Entry("dh", (1 if shape.G > 1 else shape.L, T, B, H)),
            Entry("dc", (B if shape.kind == "lstm" else 0, H)),
            Entry("dx", (T, B, E)),
            Entry("logits", (head_steps, B, V)),
            Entry("zeros", (widest,)),
        )
    )


@lru_cache(maxsize=64)
def forward_layout(shape: Shape, T: int, B: int) -> Layout:
    """What the kernels keep of a window that is only run forward: of a few steps at a time."""
    forward, _ = packed_entries(shape)
    steps = min(T, -(-BLOCK // B))
    return Layout((*forward, *trace_entries(shape, steps, B), Entry("logits", (HEAD_ROWS, shape.V))))
