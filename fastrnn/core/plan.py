"""Plans: where the compiled kernels find what they work with, as numbers.

A plan says what a network is, and where each array begins, in the flat vector of its parameters and in that
of a workspace. The contract's enumerations name its fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.constants import KC, MAX_NR, PLAN, PLAN_OF_LAYER, ROWS
from fastrnn.core.layout import Entry, Layout, Shape, parameter_layout
from fastrnn.core.memory import readable

#: The logits that are held at a time, unless it is a step.
LOGITS = 1 << 24

#: The place of an array that is absent.
ABSENT = -1

#: The largest place that a plan can tell.
LARGEST = (1 << 63) - 1


def _packed(name: str, K: int, J: int) -> Entry:
    """A packed matrix of K rows and J columns, which are filled up to panels."""
    return Entry(name, (K, -(-J // MAX_NR) * MAX_NR))


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
    entries = [Entry("x", (T, B, E))] if E else []
    for layer in range(shape.L):
        entries.append(Entry(f"h_l{layer}", (T + 1, B, H)))
        if G > 1:
            entries += [Entry(f"aux_l{layer}", (T + 1, B, H)), Entry(f"gates_l{layer}", (T, B, G * H))]
        if dropout:
            entries.append(Entry(f"output_l{layer}", (T, B, H)))
    return [*entries, Entry("masked", (B + parts, (G + 1) * H))]


def backward_trace(shape: Shape, T: int, B: int) -> list[Entry]:
    """What the backward pass keeps beside it.

    The gradients of gates take their place, and those of an rnn's, which has no gates of its own, that of the
    gradient of ``h``: of this, its layers have one each.
    """
    layers = range(1 if shape.G > 1 else shape.L)
    return [
        *(Entry(f"dh_l{layer}", (T, B, shape.H)) for layer in layers),
        *([Entry("dc", (B, shape.H))] if "c" in shape.cell.state else []),
        *([Entry("dx", (T, B, shape.E))] if shape.E else []),
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


def plan_of(shape: Shape, B: int, steps: int, scratch: dict[str, int]) -> NDArray[np.int64]:
    """The numbers of a plan, in the contract's order."""
    layout = parameter_layout(shape)
    places = {name.replace(".", "_"): place for name, place in layout.places().items()}
    sizes = {
        "cell": shape.cell.number,
        "layers": shape.L,
        "vocabulary": shape.V,
        "embedding": shape.E,
        "hidden": shape.H,
        "gate_count": shape.G,
        "parameters": layout.size,
        "head_steps": steps,
        "tied": int(shape.tied),
    }
    known = {**places, **scratch, **sizes}
    if shape.tied:
        known["head_weight"] = known["embedding_weight"]
    numbers = [known.get(field, ABSENT) for field in PLAN]
    for layer in range(shape.L):
        own = {field: known.get(f"{field}_l{layer}", ABSENT) for field in PLAN_OF_LAYER}
        h_after = own["h"] + B * shape.H
        own["gate_bias"] = known[f"bias_l{layer}"]
        own["output"] = known.get(f"output_l{layer}", h_after)
        own["gates"] = known.get(f"gates_l{layer}", h_after)
        own["dh"] = known.get(f"dh_l{layer}", known.get("dh_l0", ABSENT))
        own["dgates"] = own["gates"] if shape.G > 1 else own["dh"]
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
            _packed("blocks", parts * KC, max(shape.E, shape.H)),
            *trace(shape, T, B, parts, dropout=dropout),
            *backward_trace(shape, T, B),
        )
    )
    return Plan(plan_of(shape, B, head_steps(shape, T, B), layout.places()), layout.size)


@lru_cache(maxsize=64)
def forward_plan(shape: Shape, T: int, B: int) -> Plan:
    """A workspace for windows of T steps that are only run forward, a few steps at a time."""
    steps = min(T, -(-KC // B))
    logits = Entry("logits", (ROWS, shape.V))
    layout = Layout((*forward_weights(shape), *trace(shape, steps, B), logits))
    return Plan(plan_of(shape, B, steps, layout.places()), layout.size)


@lru_cache(maxsize=64)
def step_plan(shape: Shape, B: int) -> tuple[Plan, int]:
    """Scratch for single steps of B rows, and the size of what is prepared for them."""
    prepared, scratch = Layout(tuple(forward_weights(shape))), Layout(tuple(trace(shape, 1, B)))
    return Plan(plan_of(shape, B, 1, prepared.places() | scratch.places()), scratch.size), prepared.size
