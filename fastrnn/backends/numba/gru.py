"""One step of a gated recurrent unit, forward and backward; csrc/gru.c has the equations."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import BAD_SIZE, OK
from fastrnn.backends.numba.elementary import constant, each_sum, flush_formula, gate_formula, tanh_formula
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.llvm import as_element, at, clear, copy, nothing
from fastrnn.backends.numba.matmul import matmul, part_start, weight_gradients
from fastrnn.backends.numba.rows import emit_row, mask_starts, sigmoid_slope, unless_starting


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
def row_forward(typing_context, gates, u, h, before_gates, product, h_before, n):
    """One row of a step: r, z, n, u and h."""
    takes = gates, u, h, before_gates, product, h_before, types.intp
    return types.none(*takes), emit_row(forward_formula, gates, ([3, 1, 1], [3, 3, 1], 0))


@intrinsic
def row_backward(typing_context, dgates, du, direct, recurrent, gates, u, dh, h_before, continues, n):
    """One row of a backward step: ``recurrent`` is multiplied by W_hh, ``direct`` is not."""
    takes = dgates, du, direct, recurrent, gates, u, dh, h_before, dgates.dtype, types.intp
    return types.none(*takes), emit_row(backward_formula, dgates, ([3, 1, 1, 3], [3, 1, 1, 1], 1))


@routine
def gru_forward(h, u, gates, masked, h_before, packed, bias_hn, starts, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    begin, product = at(masked, B * H), at(masked, (B + 3) * H)  # products start from 0, 0 and b_hn
    before = mask_starts(masked, h_before, starts, B, H)
    clear(begin, 2 * H)
    copy(at(begin, 2 * H), at(bias_hn, 0), H)
    if B > 0:
        matmul(product, begin, np.int64(0), before, H, np.int64(1), at(packed, 0), B, H, 3 * H)
    for b in range(B):
        row, here = at(gates, 3 * b * H), b * H
        row_forward(row, at(u, here), at(h, here), row, at(product, 3 * here), at(before, here), H)
    return OK


@routine
def gru_backward(dh_before, gates, u, masked, dh, h_before, packed, starts, carried, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    direct, dbefore = at(masked, 3 * B * H), at(dh_before, 0)
    for b in range(B):
        row, here = at(gates, 3 * b * H), b * H
        row_backward(
            row, at(u, here), at(direct, here), at(masked, 3 * here), row, at(u, here), at(dh, here),
            at(h_before, here), as_element(dh, starts[b] == 0), H,
        )  # fmt: skip
    if carried and B > 0:
        each_sum(dbefore, dbefore, direct, B * H)
        matmul(dbefore, dbefore, H, at(masked, 0), 3 * H, np.int64(1), at(packed, 0), B, 3 * H, H)
    return OK


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
