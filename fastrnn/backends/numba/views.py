"""The sizes of a network and the offsets of its arrays, read from a plan."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import (
    BAD_CHOICE,
    BAD_SIZE,
    CELL,
    CELL_KINDS,
    EMBEDDING,
    GATE_COUNT,
    HIDDEN,
    LAYER,
    LAYER_PLAN,
    LAYERS,
    MAX_NR,
    OK,
    VOCABULARY,
)
from fastrnn.backends.numba.jit import inlined, routine
from fastrnn.backends.numba.llvm import at, nothing, whole


class Sizes(NamedTuple):
    """The sizes of a network and of a window."""

    plan: Any
    cell: int
    L: int
    V: int
    E: int
    H: int
    G: int
    T: int
    B: int


@inlined
def sizes_of(plan, T, B):
    return Sizes(
        at(plan, 0), plan[CELL], plan[LAYERS], plan[VOCABULARY], plan[EMBEDDING], plan[HIDDEN],
        plan[GATE_COUNT], T, B,
    )  # fmt: skip


@routine
def bad_sizes(s):
    if s.cell < 0 or s.cell >= CELL_KINDS:
        return BAD_CHOICE
    return BAD_SIZE if s.T < 1 or s.B < 1 or s.L < 1 or s.V < 1 or s.E < 0 or s.H < 1 else OK


@intrinsic
def offset_of(typing_context, s, field):
    """The offset of an array of the network."""

    def emit(context, builder, signature, arguments):
        plan = builder.extract_value(arguments[0], 0)
        return builder.load(builder.gep(plan, [arguments[1]]))

    return types.intp(s, types.intp), emit


@intrinsic
def layer_offset_of(typing_context, s, layer, field):
    """The offset of an array of a layer."""

    def emit(context, builder, signature, arguments):
        plan = builder.extract_value(arguments[0], 0)
        number = builder.add(whole(LAYER), builder.mul(arguments[1], whole(LAYER_PLAN)))
        return builder.load(builder.gep(plan, [builder.add(number, arguments[2])]))

    return types.intp(s, types.intp, types.intp), emit


@inlined
def optional(base, offset):
    """An array of a plan, or nothing where it is absent."""
    return at(base, offset) if offset >= 0 else nothing(base)


@routine
def is_dense(s, layer):
    """Whether a layer multiplies its input by its weight. Else the input is one-hot, and selects a row."""
    return layer > 0 or s.E > 0


@routine
def inputs_of(s, layer):
    """The size of a layer's input."""
    return s.H if layer > 0 else (s.E if s.E > 0 else s.V)


@routine
def packed_size(K, J):
    """The size of a packed matrix of K rows and J columns."""
    return K * ((J + MAX_NR - 1) // MAX_NR * MAX_NR)
