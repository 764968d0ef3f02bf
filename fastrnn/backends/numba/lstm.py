"""One step of a long short-term memory, forward and backward; csrc/lstm.c has the equations."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import BAD_SIZE, OK
from fastrnn.backends.numba.elementary import constant, flush_formula, gate_formula, tanh_formula
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.llvm import as_element, at
from fastrnn.backends.numba.matmul import matmul
from fastrnn.backends.numba.rows import emit_row, mask_starts, sigmoid_slope, unless_starting


def forward_formula(p, i, f, g, o, c_before, continues):
    i, f, o = (gate_formula(p, x) for x in (i, f, o))
    g = tanh_formula(p, flush_formula(p, g))
    c = flush_formula(p, f.times_plus(unless_starting(c_before, continues), i * g))
    return i, f, g, o, c, flush_formula(p, o * tanh_formula(p, c))


def backward_formula(p, i, f, g, o, dh, c, c_before, dc, continues):
    one = constant(i, 1.0)
    d, squashed = flush_formula(p, dh), tanh_formula(p, c)
    through = flush_formula(p, d * o)
    dc = flush_formula(p, through.times_plus(one - squashed * squashed, dc))
    di, dg = flush_formula(p, dc * g), flush_formula(p, dc * i)
    df = flush_formula(p, dc * unless_starting(c_before, continues))
    do = flush_formula(p, d * squashed)
    return (
        flush_formula(p, di * sigmoid_slope(p, i)),
        flush_formula(p, df * sigmoid_slope(p, f)),
        flush_formula(p, dg * (one - g * g)),
        flush_formula(p, do * sigmoid_slope(p, o)),
        unless_starting(flush_formula(p, dc * f), continues),
    )


@intrinsic
def row_forward(typing_context, gates, c, h, before_gates, c_before, continues, n):
    """One row of a step: i, f, g, o, c and h."""
    takes = gates, c, h, before_gates, c_before, gates.dtype, types.intp
    return types.none(*takes), emit_row(forward_formula, gates, ([4, 1, 1], [4, 1], 1))


@intrinsic
def row_backward(typing_context, dgates, dc_before, gates, dh, c, c_before, dc, continues, n):
    """One row of a backward step."""
    takes = dgates, dc_before, gates, dh, c, c_before, dc, dgates.dtype, types.intp
    return types.none(*takes), emit_row(backward_formula, dgates, ([4, 1], [4, 1, 1, 1, 1], 1))


@routine
def lstm_forward(h, c, gates, masked, h_before, c_before, packed, starts, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    x, before = at(gates, 0), mask_starts(masked, h_before, starts, B, H)
    if B > 0:
        matmul(x, x, 4 * H, before, H, np.int64(1), at(packed, 0), B, H, 4 * H)
    for b in range(B):
        row, here = at(gates, 4 * b * H), b * H
        row_forward(row, at(c, here), at(h, here), row, at(c_before, here), as_element(h, starts[b] == 0), H)
    return OK


@routine
def lstm_backward(dh_before, dc, gates, masked, dh, c, c_before, packed, starts, carried, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    dbefore = at(dh_before, 0)
    for b in range(B):
        row, here = at(gates, 4 * b * H), b * H
        row_backward(
            row, at(dc, here), row, at(dh, here), at(c, here), at(c_before, here), at(dc, here),
            as_element(dh, starts[b] == 0), H,
        )  # fmt: skip
    if carried and B > 0:
        rows = mask_starts(masked, gates, starts, B, 4 * H)
        matmul(dbefore, dbefore, H, rows, 4 * H, np.int64(1), at(packed, 0), B, 4 * H, H)
    return OK
