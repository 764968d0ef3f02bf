"""One step of a gated recurrent unit, forward and backward; csrc/gru.c has the equations."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import BAD_SIZE, OK
from fastrnn.backends.numba.elementary import constant, each_sum, flush_formula, gate_formula, tanh_formula
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.llvm import as_element, at, clear, copy, nothing
from fastrnn.backends.numba.matmul import (
    by_units,
    matmul_part,
    part_columns,
    part_start,
    weight_gradients,
)
from fastrnn.backends.numba.rows import emit_row, mask_starts, sigmoid_slope, unless_starting
from fastrnn.backends.numba.team import alone, barrier_wait


def forward_formula(p, r, z, n, product_r, product_z, product_n, h_before):
    r, z = gate_formula(p, r + product_r), gate_formula(p, z + product_z)
    u = flush_formula(p, product_n)
    n = tanh_formula(p, flush_formula(p, r.times_plus(u, n)))
    h = flush_formula(p, z.times_plus(h_before, (constant(z, 1.0) - z) * n))
    return r, z, n, u, h


def backward_formula(p, r, z, n, u, dh, h_before, continues):
    one = constant(r, 1.0)
    d, before = flush_formula(p, dh), unless_starting(h_before, continues)
    dz = flush_formula(p, d * flush_formula(p, before - n))
    dn = flush_formula(p, flush_formula(p, d * (one - z)) * (one - n * n))
    dr, du = flush_formula(p, dn * u), flush_formula(p, dn * r)
    direct = unless_starting(flush_formula(p, d * z), continues)
    dr, dz = flush_formula(p, dr * sigmoid_slope(p, r)), flush_formula(p, dz * sigmoid_slope(p, z))
    return dr, dz, dn, du, direct, *(unless_starting(x, continues) for x in (dr, dz, du))


@intrinsic
def row_forward(typing_context, gates, u, h, before_gates, product, h_before, n, H):
    """N hidden units of a row of a step: r, z, n, u and h."""
    takes = gates, u, h, before_gates, product, h_before, types.intp, types.intp
    return types.none(*takes), emit_row(forward_formula, gates, ([3, 1, 1], [3, 3, 1], 0))


@intrinsic
def row_backward(typing_context, dgates, du, direct, recurrent, gates, u, dh, h_before, continues, n, H):
    """N hidden units of a row of a backward step: ``recurrent`` is multiplied by W_hh, ``direct`` is not."""
    takes = dgates, du, direct, recurrent, gates, u, dh, h_before, dgates.dtype, types.intp, types.intp
    return types.none(*takes), emit_row(backward_formula, dgates, ([3, 1, 1, 3], [3, 1, 1, 1], 1))


@routine
def gru_forward_part(h, u, gates, masked, product, h_before, packed, bias_hn, starts, worker, B, H):
    """A worker's part of `gru_forward`; csrc/parts.h says what a part is, and what workers share."""
    units, before = part_columns(h, worker, np.int64(1), H), mask_starts(masked, h_before, starts, B, H)
    begin = at(masked, B * H)  # products start from 0, 0 and b_hn
    clear(begin, 2 * H)
    copy(at(begin, 2 * H), bias_hn, H)
    if B > 0:
        matmul_part(product, begin, np.int64(0), before, packed, worker, B, H, np.int64(3), H)
    if not by_units(h, worker, H):
        status = barrier_wait(worker)
        if status != OK:
            return status
    for b in range(B):
        row, here = at(gates, 3 * b * H + units.first), b * H + units.first
        some = at(product, 3 * b * H + units.first)
        row_forward(row, at(u, here), at(h, here), row, some, at(before, here), units.n, H)
    return barrier_wait(worker)


@routine
def gru_forward(h, u, gates, masked, h_before, packed, bias_hn, starts, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    product = at(masked, (B + 3) * H)
    return gru_forward_part(
        at(h, 0), at(u, 0), at(gates, 0), at(masked, 0), product, at(h_before, 0), at(packed, 0),
        at(bias_hn, 0), at(starts, 0), alone(), B, H,
    )  # fmt: skip


@routine
def gru_backward_part(dh_before, gates, u, masked, dh, h_before, packed, starts, carried, worker, B, H):
    """A worker's part of `gru_backward`."""
    units, direct = part_columns(dh, worker, np.int64(1), H), at(masked, 3 * B * H)
    for b in range(B):
        row, here = at(gates, 3 * b * H + units.first), b * H + units.first
        row_backward(
            row, at(u, here), at(direct, here), at(masked, 3 * b * H + units.first), row, at(u, here),
            at(dh, here), at(h_before, here), as_element(dh, starts[b] == 0), units.n, H,
        )  # fmt: skip
        if carried:
            each_sum(at(dh_before, here), at(dh_before, here), at(direct, here), units.n)
    status = barrier_wait(worker) if carried else OK
    if status == OK and carried and B > 0:
        matmul_part(dh_before, dh_before, H, masked, packed, worker, B, 3 * H, np.int64(1), H)
        status = barrier_wait(worker)  # the next step overwrites `masked`
    return status


@routine
def gru_backward(dh_before, gates, u, masked, dh, h_before, packed, starts, carried, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    return gru_backward_part(
        at(dh_before, 0), at(gates, 0), at(u, 0), at(masked, 0), at(dh, 0), at(h_before, 0), at(packed, 0),
        at(starts, 0), carried, alone(), B, H,
    )  # fmt: skip


@routine
def gru_gradients(dweight_hh, dbias_hn, block, dx, du, h_before, starts, part, parts, N, H):
    if part < 0 or part >= parts or N < 0 or H < 1:
        return BAD_SIZE
    first, last, n = part_start(3 * H, part, parts), part_start(3 * H, part + 1, parts), 2 * H
    weight, room, before, begins = at(dweight_hh, 0), at(block, 0), at(h_before, 0), at(starts, 0)
    if first < n:
        weight_gradients(
            weight, nothing(weight), room, at(dx, 0), before, begins, first, min(last, n), N, H, 3 * H
        )
    if last > n:
        weight_gradients(
            at(weight, n * H), at(dbias_hn, 0), room, at(du, 0), before, begins, max(first - n, 0), last - n,
            N, H, H,
        )  # fmt: skip
    return OK
