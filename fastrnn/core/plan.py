"""Plans: the numbers from which compiled kernels read the sizes of a network and the offsets of its arrays.

The offsets are those in the flat vector of the parameters and in that of a workspace. The contract's
enumerations name the fields of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.constants import KC, MAX_NR, PLAN, PLAN_OF_LAYER, ROWS
from fastrnn.core.layout import Entry, Layout, Shape, parameter_layout
from fastrnn.core.memory import readable

#: The most logits that are in memory at a time, but at least one step's.
MAX_LOGITS = 1 << 24

#: The offset of an array that is absent.
ABSENT = -1

#: The largest offset that a plan can hold.
MAX_OFFSET = (1 << 63) - 1


class Split(NamedTuple):
    """How many threads share a window, and whether they share columns of products in place of batch rows."""

    parts: int
    by_columns: bool = False


#: A single thread.
ALONE = Split(1)


def _packed(name: str, K: int, J: int) -> Entry:
    """A packed matrix of K rows and J columns; J is rounded up to whole panels."""
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


def trace(shape: Shape, T: int, B: int, split: Split = ALONE, *, dropout: bool = False) -> list[Entry]:
    """The arrays that the forward pass of T steps of B rows keeps; ``h`` begins with the first state."""
    H, E, G = shape.H, shape.E, shape.G
    entries = [Entry("x", (T, B, E))] if E else []
    for layer in range(shape.L):
        entries.append(Entry(f"h_l{layer}", (T + 1, B, H)))
        if G > 1:
            entries += [Entry(f"aux_l{layer}", (T + 1, B, H)), Entry(f"gates_l{layer}", (T, B, G * H))]
        if dropout:
            entries.append(Entry(f"output_l{layer}", (T, B, H)))
    rows = split.parts * (B + 1) if split.by_columns else B + split.parts
    return [*entries, Entry("masked", (rows, (G + 1) * H))]


def backward_trace(shape: Shape, T: int, B: int) -> list[Entry]:
    """The arrays that the backward pass keeps besides those of `trace`.

    The gradients of gates overwrite the gates. An rnn has no gates in memory: the gradient of its gate
    overwrites that of ``h``, so each of its layers has its own ``dh``. The layers of other cells share one.
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
    """The number of steps of a window whose logits are in memory at a time."""
    return min(T, max(1, MAX_LOGITS // B // shape.V))


@dataclass(frozen=True)
class Plan:
    """The numbers of a plan, and the size of its workspace in elements."""

    numbers: NDArray[np.int64]
    size: int


def plan_of(
    shape: Shape, B: int, steps: int, scratch: dict[str, int], split: Split = ALONE
) -> NDArray[np.int64]:
    """The numbers of a plan, in the contract's order."""
    layout = parameter_layout(shape)
    offsets = {name.replace(".", "_"): offset for name, offset in layout.offsets().items()}
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
        "by_columns": int(split.by_columns),
    }
    known = {**offsets, **scratch, **sizes}
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
    if max(numbers) > MAX_OFFSET:
        raise MemoryError(
            f"a window of {B} rows in a network of hidden_size={shape.H} over {shape.V} symbols needs "
            f"{readable(4 * max(numbers))}, which is more than a process can have"
        )
    return np.array(numbers, np.int64)


@lru_cache(maxsize=64)
def window_plan(shape: Shape, T: int, B: int, split: Split = ALONE, *, dropout: bool = False) -> Plan:
    """A workspace for windows of up to T steps of B rows, forward and backward, that threads share.

    The packed weights come first, and their sizes are multiples of a cache line. So each begins at a cache
    line, like the workspace, and its vectors are read fastest.
    """
    layout = Layout(
        (
            *forward_weights(shape),
            *backward_weights(shape),
            _packed("blocks", split.parts * KC, max(shape.E, shape.H)),
            *trace(shape, T, B, split, dropout=dropout),
            *backward_trace(shape, T, B),
        )
    )
    return Plan(plan_of(shape, B, head_steps(shape, T, B), layout.offsets(), split), layout.size)


@lru_cache(maxsize=64)
def forward_plan(shape: Shape, T: int, B: int, split: Split = ALONE) -> Plan:
    """A workspace for the forward pass of windows of T steps, a few steps at a time."""
    steps = min(T, -(-KC // B))
    logits = Entry("logits", (split.parts * ROWS, shape.V))
    layout = Layout((*forward_weights(shape), *trace(shape, steps, B, split), logits))
    return Plan(plan_of(shape, B, steps, layout.offsets(), split), layout.size)


@lru_cache(maxsize=64)
def step_plan(shape: Shape, B: int, split: Split = ALONE) -> tuple[Plan, int]:
    """The scratch memory for single steps of B rows, and the size of the packed weights for them."""
    prepared, scratch = Layout(tuple(forward_weights(shape))), Layout(tuple(trace(shape, 1, B, split)))
    numbers = plan_of(shape, B, 1, prepared.offsets() | scratch.offsets(), split)
    return Plan(numbers, scratch.size), prepared.size


@lru_cache(maxsize=64)
def reading_plan(shape: Shape, T: int, B: int, split: Split = ALONE) -> tuple[Plan, int]:
    """The scratch memory for windows of T steps with packed weights, and the size of these."""
    steps = min(T, -(-KC // B))
    logits = Entry("logits", (split.parts * ROWS, shape.V))
    prepared = Layout(tuple(forward_weights(shape)))
    scratch = Layout((*trace(shape, steps, B, split), logits))
    numbers = plan_of(shape, B, steps, prepared.offsets() | scratch.offsets(), split)
    return Plan(numbers, scratch.size), prepared.size
