"""One step of a vanilla recurrent layer, forward and backward; csrc/rnn.c has the equations."""

from __future__ import annotations

import numpy as np

from fastrnn.backends.numba.constants import BAD_SIZE, OK
from fastrnn.backends.numba.elementary import constant, each, each_two, flush_formula, tanh_formula
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.llvm import at
from fastrnn.backends.numba.matmul import matmul_part, part_columns
from fastrnn.backends.numba.rows import mask_starts
from fastrnn.backends.numba.team import alone, barrier_wait


def relu_formula(p, x):
    return constant(x, 0.0).where(x.compare("<", p.tiny), x)


def relu_slope_formula(p, dh, h):
    return flush_formula(p, dh).where(h.compare(">", 0.0), 0.0)


each_state = each(lambda p, x: tanh_formula(p, flush_formula(p, x)))
each_through_tanh = each_two(lambda p, dh, h: flush_formula(p, (constant(h, 1.0) - h * h) * dh))
each_relu, each_through_relu = each(relu_formula), each_two(relu_slope_formula)


@routine
def row_forward(h, relu, n):
    if relu:
        each_relu(h, h, n)
    else:
        each_state(h, h, n)
    return OK


@routine
def row_backward(dh, h, relu, n):
    if relu:
        each_through_relu(dh, dh, h, n)
    else:
        each_through_tanh(dh, dh, h, n)
    return OK


@routine
def rnn_forward_part(h, masked, h_before, packed, starts, relu, worker, B, H):
    """A worker's part of `rnn_forward`; csrc/parts.h says what a part is."""
    units, before = part_columns(h, worker, np.int64(1), H), mask_starts(masked, h_before, starts, B, H)
    if B > 0:
        matmul_part(h, h, H, before, packed, worker, B, H, np.int64(1), H)
    if units.n == H:  # one long loop
        row_forward(h, relu, B * H)
    else:
        for b in range(B):
            row_forward(at(h, b * H + units.first), relu, units.n)
    return barrier_wait(worker)


@routine
def rnn_forward(h, masked, h_before, packed, starts, relu, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    return rnn_forward_part(
        at(h, 0), at(masked, 0), at(h_before, 0), at(packed, 0), at(starts, 0), relu, alone(), B, H
    )


@routine
def rnn_backward_part(dh, dh_before, masked, h, packed, starts, relu, carried, worker, B, H):
    """A worker's part of `rnn_backward`."""
    units = part_columns(h, worker, np.int64(1), H)
    if units.n == H:
        row_backward(dh, h, relu, B * H)
    else:
        for b in range(B):
            here = b * H + units.first
            row_backward(at(dh, here), at(h, here), relu, units.n)
    status = barrier_wait(worker)
    if status == OK and carried and B > 0:
        rows = mask_starts(masked, dh, starts, B, H)
        matmul_part(dh_before, dh_before, H, rows, packed, worker, B, H, np.int64(1), H)
    return status


@routine
def rnn_backward(dh, dh_before, masked, h, packed, starts, relu, carried, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    return rnn_backward_part(
        at(dh, 0), at(dh_before, 0), at(masked, 0), at(h, 0), at(packed, 0), at(starts, 0), relu, carried,
        alone(), B, H,
    )  # fmt: skip
