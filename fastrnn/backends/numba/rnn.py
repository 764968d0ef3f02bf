"""One step of a vanilla recurrent layer, forward and backward; csrc/rnn.c has the equations."""

from __future__ import annotations

import numpy as np

from fastrnn.backends.numba.constants import BAD_SIZE, OK
from fastrnn.backends.numba.elementary import constant, each, each_two, flush_formula, tanh_formula
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.llvm import at
from fastrnn.backends.numba.matmul import matmul
from fastrnn.backends.numba.rows import mask_starts


def relu_formula(p, x):
    return constant(x, 0.0).where(x.compare("<", p.tiny), x)


def relu_slope_formula(p, dh, h):
    return flush_formula(p, dh).where(h.compare(">", 0.0), 0.0)


each_state = each(lambda p, x: tanh_formula(p, flush_formula(p, x)))
each_through_tanh = each_two(lambda p, dh, h: flush_formula(p, (constant(h, 1.0) - h * h) * dh))
each_relu, each_through_relu = each(relu_formula), each_two(relu_slope_formula)


@routine
def rnn_forward(h, masked, h_before, packed, starts, relu, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    out = at(h, 0)
    before = mask_starts(masked, h_before, starts, B, H)
    if B > 0:
        matmul(out, out, H, before, H, np.int64(1), at(packed, 0), B, H, H)
    if relu:
        each_relu(out, out, B * H)
    else:
        each_state(out, out, B * H)
    return OK


@routine
def rnn_backward(dh, dh_before, masked, h, packed, starts, relu, carried, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    dx, dbefore = at(dh, 0), at(dh_before, 0)
    if relu:
        each_through_relu(dx, dx, at(h, 0), B * H)
    else:
        each_through_tanh(dx, dx, at(h, 0), B * H)
    if carried and B > 0:
        rows = mask_starts(masked, dh, starts, B, H)
        matmul(dbefore, dbefore, H, rows, H, np.int64(1), at(packed, 0), B, H, H)
    return OK
