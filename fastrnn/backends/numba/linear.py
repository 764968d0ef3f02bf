"""Embeddings, linear layers, and the gradients of weights."""

from __future__ import annotations

import numpy as np

from fastrnn.backends.numba.constants import BAD_SIZE, BAD_SYMBOL, OK
from fastrnn.backends.numba.elementary import each_sum
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.llvm import at, copy, no_starts, nothing
from fastrnn.backends.numba.matmul import (
    matmul,
    pack_panel,
    pack_transposed,
    part_column,
    part_columns,
    part_start,
    weight_gradients,
)
from fastrnn.backends.numba.simd import panel_columns
from fastrnn.backends.numba.team import alone


@routine
def pack(packed, weight, transposed, part, parts, K, J):
    if part < 0 or part >= parts or K < 1 or J < 1:
        return BAD_SIZE
    panel = panel_columns(weight)
    first, last = part_column(weight, J, part, parts), part_column(weight, J, part + 1, parts)
    for j in range(first, last, panel):
        out, columns = at(packed, j * K), min(panel, last - j)
        if transposed:
            pack_transposed(out, at(weight, j * K), K, columns)
        else:
            pack_panel(out, at(weight, j), J, K, columns)
    return OK


@routine
def embedding_forward(y, weight, ids, N, V, O):
    if N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        copy(at(y, n * O), at(weight, v * O), O)
    return OK


@routine
def embedding_gradients(dweight, dy, ids, part, parts, N, V, O):
    if part < 0 or part >= parts or N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    first = part_start(O, part, parts)
    columns = part_start(O, part + 1, parts) - first
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        drow = at(dweight, v * O + first)
        each_sum(drow, drow, at(dy, n * O + first), columns)
    return OK


@routine
def gather_part(y, weight, bias, ids, worker, N, V, G, H):
    """A worker's part of `gather_forward`, where the outputs are G gates of H units."""
    part = part_columns(y, worker, G, H)
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        for share in range(part.ranges):
            j = part.first + share * H
            each_sum(at(y, n * G * H + j), at(weight, v * G * H + j), at(bias, j), part.n)
    return OK


@routine
def gather_forward(y, weight, bias, ids, N, V, O):
    if N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    return gather_part(at(y, 0), at(weight, 0), at(bias, 0), at(ids, 0), alone(), N, V, np.int64(1), O)


@routine
def gather_gradients(dweight, dbias, dy, ids, part, parts, N, V, O):
    if part < 0 or part >= parts or N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    first = part_start(O, part, parts)
    columns, total = part_start(O, part + 1, parts) - first, at(dbias, first)
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        drow, some = at(dweight, v * O + first), at(dy, n * O + first)  # both while dy is in the cache
        each_sum(drow, drow, some, columns)
        each_sum(total, total, some, columns)
    return OK


@routine
def linear_forward(y, x, packed, bias, N, I, O):
    if N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    if N > 0:
        matmul(at(y, 0), O, at(bias, 0), np.int64(0), at(x, 0), I, np.int64(1), at(packed, 0), N, I, O)
    return OK


@routine
def linear_gradients(dweight, dbias, block, dy, x, part, parts, N, I, O):
    if part < 0 or part >= parts or N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    first, last = part_start(O, part, parts), part_start(O, part + 1, parts)
    weight_gradients(
        at(dweight, 0), at(dbias, 0), at(block, 0), at(dy, 0), at(x, 0), no_starts(), first, last, N, I, O
    )
    return OK


@routine
def recurrent_gradients(dweight_hh, block, dy, h_before, starts, part, parts, N, H, O):
    if part < 0 or part >= parts or N < 0 or H < 1 or O < 1:
        return BAD_SIZE
    first, last = part_start(O, part, parts), part_start(O, part + 1, parts)
    weight_gradients(
        at(dweight_hh, 0), nothing(dweight_hh), at(block, 0), at(dy, 0), at(h_before, 0), at(starts, 0),
        first, last, N, H, O,
    )  # fmt: skip
    return OK
