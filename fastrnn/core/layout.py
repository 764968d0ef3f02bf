"""Named arrays in one flat buffer.

A layout is an ordered table of (name, shape). It says where each array lies in a flat vector. The
network, the model file and the reference read it; the compiled kernels are told by a plan, in numbers. A
parameter's *shape* is the public one, PyTorch's; an entry that is stored transposed lies in the buffer
the other way round, which its view hides.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.memory import readable

#: The widest panel of a packed matrix, the rows that are packed at a time of a long one (FR_BLOCK), those
#: that the head works on at a time (FR_ROWS), and the logits that are held at a time, unless it is a step.
PANEL, BLOCK, HEAD_ROWS, LOGITS = 32, 256, 64, 1 << 24


#: The largest place that a plan can tell.
LARGEST = (1 << 63) - 1


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

    def places(self) -> dict[str, int]:
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


#: The cells by their numbers in the contract, and G of each.
KINDS = ("rnn_tanh", "rnn_relu", "gru", "lstm")
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True)
class Shape:
    """What a network is: its kind of cell and its sizes; E is 0 where the input is one-hot."""

    kind: str
    L: int
    V: int
    E: int
    H: int
    tied: bool

    @property
    def cell(self) -> str:
        """The cell without its function."""
        return self.kind.partition("_")[0]

    @property
    def G(self) -> int:  # noqa: N802  (a dimension letter)
        """The gates of the cell."""
        return GATES[self.cell]

    @property
    def Z(self) -> int:  # noqa: N802  (a dimension letter)
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


def forward_weights(shape: Shape) -> list[Entry]:
    """The weights packed as right operands of the forward pass."""
    entries = []
    for layer in range(shape.L):
        if layer > 0 or shape.E:
            entries.append(_packed(f"ih_t_l{layer}", shape.inputs(layer), shape.G * shape.H))
        entries.append(_packed(f"hh_t_l{layer}", shape.H, shape.G * shape.H))
    return [*entries, _packed("head_t", shape.H, shape.V)]


def backward_weights(shape: Shape) -> list[Entry]:
    """The weights packed as right operands of the backward pass."""
    entries = []
    for layer in range(shape.L):
        if layer > 0 or shape.E:
            entries.append(_packed(f"ih_l{layer}", shape.G * shape.H, shape.inputs(layer)))
        entries.append(_packed(f"hh_l{layer}", shape.G * shape.H, shape.H))
    return [*entries, _packed("head", shape.V, shape.H)]


def trace(shape: Shape, T: int, B: int, parts: int = 1, *, dropout: bool = False) -> list[Entry]:
    """What the forward pass keeps of T steps of B rows; ``h`` begins with the state before them."""
    H, E, G = shape.H, shape.E, shape.G
    entries = [Entry("x", (T, B, E))]
    for layer in range(shape.L):
        entries.append(Entry(f"h_l{layer}", (T + 1, B, H)))
        if G > 1:
            entries += [Entry(f"inner_l{layer}", (T + 1, B, H)), Entry(f"gates_l{layer}", (T, B, G * H))]
        if dropout:
            entries.append(Entry(f"up_l{layer}", (T, B, H)))
    return [*entries, Entry("running", (B + parts, (G + 1) * H))]


def backward_trace(shape: Shape, T: int, B: int) -> list[Entry]:
    """What the backward pass keeps beside it.

    The gradients of gates take their place, and those of an rnn's, which has no gates of its own, that of the
    gradient of ``h``: of this, its layers have one each.
    """
    layers = range(1 if shape.G > 1 else shape.L)
    return [
        *(Entry(f"dh_l{layer}", (T, B, shape.H)) for layer in layers),
        Entry("dc", (B if shape.kind == "lstm" else 0, shape.H)),
        Entry("dx", (T, B, shape.E)),
        Entry("logits", (head_steps(shape, T, B), B, shape.V)),
        Entry("zeros", (max(shape.E, shape.H),)),
    ]


def head_steps(shape: Shape, T: int, B: int) -> int:
    """The steps of a window whose logits are held at a time."""
    return min(T, max(1, LOGITS // B // shape.V))


@dataclass(frozen=True)
class Plan:
    """Where the kernels find what they work with, in numbers, and the size of the vector that has it."""

    numbers: NDArray[np.int64]
    size: int


#: What the numbers of a plan are, in the order of the contract's FR_EMBEDDING_WEIGHT and so on: names of
#: arrays, first of parameters, then of what is in a workspace.
PARAMETERS = ("embedding.weight", "head.weight", "head.bias")
SCRATCH = ("head_t", "head", "blocks", "x", "running", "dc", "dx", "logits", "zeros")
LAYER_PARAMETERS = ("weight_ih", "weight_hh", "bias", "bias_hn")
LAYER_SCRATCH = ("ih_t", "hh_t", "ih", "hh", "h", "inner", "gates", "up", "dh", "dgates")


def plan_of(shape: Shape, B: int, steps: int, scratch: dict[str, int]) -> NDArray[np.int64]:
    """The numbers of a plan: what is not there has the place 0."""
    layout = parameter_layout(shape)
    places = {"head.weight": 0, **layout.places()}
    numbers = [KINDS.index(shape.kind), shape.L, shape.V, shape.E, shape.H, layout.size, steps]
    numbers += [places.get(name, 0) for name in PARAMETERS]
    numbers += [scratch.get(name, 0) for name in SCRATCH]
    for layer in range(shape.L):
        own = {name: scratch.get(f"{name}_l{layer}", 0) for name in LAYER_SCRATCH}
        after = own["h"] + B * shape.H
        own["up"] = own["up"] or after
        own["gates"] = own["gates"] or after
        own["dh"] = own["dh"] or scratch.get("dh_l0", 0)
        own["dgates"] = own["gates"] if shape.G > 1 else own["dh"]
        numbers += [places.get(f"{name}_l{layer}", 0) for name in LAYER_PARAMETERS]
        numbers += own.values()
    if max(numbers) > LARGEST:
        raise MemoryError(
            f"a window of {B} rows in a network of hidden_size={shape.H} over {shape.V} symbols needs "
            f"{readable(4 * max(numbers))}, more than a process can have"
        )
    return np.array(numbers, np.int64)


@lru_cache(maxsize=64)
def window_plan(shape: Shape, T: int, B: int, parts: int = 1, *, dropout: bool = False) -> Plan:
    """A workspace for windows of up to T steps of B rows, forward and backward, and for so many threads.

    What is packed comes first: it is read in whole vectors, quickest where they begin with a cache line, as
    the workspace does, and its sizes are multiples of one.
    """
    layout = Layout(
        (
            *forward_weights(shape),
            *backward_weights(shape),
            _packed("blocks", parts * BLOCK, max(shape.E, shape.H)),
            *trace(shape, T, B, parts, dropout=dropout),
            *backward_trace(shape, T, B),
        )
    )
    return Plan(plan_of(shape, B, head_steps(shape, T, B), layout.places()), layout.size)


@lru_cache(maxsize=64)
def forward_plan(shape: Shape, T: int, B: int) -> Plan:
    """A workspace for windows of T steps that are only run forward, a few steps at a time."""
    steps = min(T, -(-BLOCK // B))
    logits = Entry("logits", (HEAD_ROWS, shape.V))
    layout = Layout((*forward_weights(shape), *trace(shape, steps, B), logits))
    return Plan(plan_of(shape, B, steps, layout.places()), layout.size)


@lru_cache(maxsize=64)
def step_plan(shape: Shape, B: int) -> tuple[Plan, int]:
    """Scratch for single steps of B rows, and the size of what is prepared for them."""
    prepared, scratch = Layout(tuple(forward_weights(shape))), Layout(tuple(trace(shape, 1, B)))
    return Plan(plan_of(shape, B, 1, prepared.places() | scratch.places()), scratch.size), prepared.size
