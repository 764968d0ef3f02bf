"""One step of a long short-term memory, forward and backward; csrc/lstm.c has the equations."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import BAD_SIZE, OK
from fastrnn.backends.numba.elementary import constant, flush_formula, gate_formula, tanh_formula
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.llvm import as_element, at
from fastrnn.backends.numba.matmul import by_units, matmul_part, part_columns
from fastrnn.backends.numba.rows import emit_row, mask_starts, sigmoid_slope, unless_starting
from fastrnn.backends.numba.team import alone, barrier_wait


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
def row_forward(typing_context, gates, c, h, before_gates, c_before, continues, n, H):
    """N hidden units of a row of a step: i, f, g, o, c and h."""
    takes = gates, c, h, before_gates, c_before, gates.dtype, types.intp, types.intp
    return types.none(*takes), emit_row(forward_formula, gates, ([4, 1, 1], [4, 1], 1))


@intrinsic
def row_backward(typing_context, dgates, dc_before, gates, dh, c, c_before, dc, continues, n, H):
    """N hidden units of a row of a backward step."""
    takes = dgates, dc_before, gates, dh, c, c_before, dc, dgates.dtype, types.intp, types.intp
    return types.none(*takes), emit_row(backward_formula, dgates, ([4, 1], [4, 1, 1, 1, 1], 1))


@routine
def lstm_forward_part(h, c, gates, masked, h_before, c_before, packed, starts, worker, B, H):
    """A worker's part of `lstm_forward`; csrc/parts.h says what a part is."""
    units, before = part_columns(h, worker, np.int64(1), H), mask_starts(masked, h_before, starts, B, H)
    if B > 0:
        matmul_part(gates, gates, 4 * H, before, packed, worker, B, H, np.int64(4), H)
    if not by_units(h, worker, H):
        status = barrier_wait(worker)
        if status != OK:
            return status
    for b in range(B):
        row, here = at(gates, 4 * b * H + units.first), b * H + units.first
        continues = as_element(h, starts[b] == 0)
        row_forward(row, at(c, here), at(h, here), row, at(c_before, here), continues, units.n, H)
    return barrier_wait(worker)


@routine
def lstm_forward(h, c, gates, masked, h_before, c_before, packed, starts, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    return lstm_forward_part(
        at(h, 0), at(c, 0), at(gates, 0), at(masked, 0), at(h_before, 0), at(c_before, 0), at(packed, 0),
        at(starts, 0), alone(), B, H,
    )  # fmt: skip


@routine
def lstm_backward_part(dh_before, dc, gates, masked, dh, c, c_before, packed, starts, carried, worker, B, H):
    """A worker's part of `lstm_backward`."""
    units = part_columns(dh, worker, np.int64(1), H)
    for b in range(B):
        row, here = at(gates, 4 * b * H + units.first), b * H + units.first
        row_backward(
            row, at(dc, here), row, at(dh, here), at(c, here), at(c_before, here), at(dc, here),
            as_element(dh, starts[b] == 0), units.n, H,
        )  # fmt: skip
    status = barrier_wait(worker)
    if status == OK and carried and B > 0:
        rows = mask_starts(masked, gates, starts, B, 4 * H)
        matmul_part(dh_before, dh_before, H, rows, packed, worker, B, 4 * H, np.int64(1), H)
    return status


@routine
def lstm_backward(dh_before, dc, gates, masked, dh, c, c_before, packed, starts, carried, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    return lstm_backward_part(
        at(dh_before, 0), at(dc, 0), at(gates, 0), at(masked, 0), at(dh, 0), at(c, 0), at(c_before, 0),
        at(packed, 0), at(starts, 0), carried, alone(), B, H,
    )  # fmt: skip
