"""The forward pass of the layers over a window, for training and inference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.backends.numba.constants import (
    AUX,
    BIAS_HN,
    BY_COLUMNS,
    EMBEDDING_WEIGHT,
    GATE_BIAS,
    GATES,
    GRU,
    H_,
    HEAD_T,
    HEAD_WEIGHT,
    HH_T,
    IH_T,
    INPUTS,
    LSTM,
    MASKED,
    MOVE,
    OK,
    OUTPUT,
    RNN_RELU,
    ROWS,
    STRETCH,
    WEIGHT_HH,
    WEIGHT_IH,
    X,
)
from fastrnn.backends.numba.dropout import dropout
from fastrnn.backends.numba.gru import gru_forward_part
from fastrnn.backends.numba.jit import inlined, procedure, routine
from fastrnn.backends.numba.linear import embedding_forward, gather_part, pack
from fastrnn.backends.numba.llvm import as_element, at, clear, copy, on_stack
from fastrnn.backends.numba.lstm import lstm_forward_part
from fastrnn.backends.numba.matmul import matmul_part, part_columns, part_start
from fastrnn.backends.numba.rnn import rnn_forward_part
from fastrnn.backends.numba.team import Worker, barrier_wait, check_abort, piece_of, pieces
from fastrnn.backends.numba.views import inputs_of, is_dense, layer_offset_of, offset_of, optional


class Dropout(NamedTuple):
    """The dropout masks of a window, of outputs and of inputs; where a fraction is 0, there is none."""

    dropout: float
    input: float
    seed: int
    update: int


class Window(NamedTuple):
    """What a window reads, and the state that it carries; the scale is that of the gradient."""

    inputs: Any
    targets: Any
    starts: Any
    state: Any
    scale: float
    dropout: Dropout


@routine
def bad_symbols(ids, lowest, N, V):
    """Whether an id is not allowed. Every worker checks all ids, so that all return the same status."""
    bad = 0
    for n in range(N):
        bad |= (ids[n] < lowest) | (ids[n] >= V)
    return bad


@routine
def pack_part(packed, weight, transposed, worker, K, J):
    """A worker's part of the packing of a weight."""
    status, count = OK, pieces(MOVE * K * J, worker)
    for i in range(count):
        piece = piece_of(worker, i, count)
        status = check_abort(worker)
        if status == OK:
            status = pack(packed, weight, transposed, piece.part, piece.parts, K, J)
        if status != OK:
            break
    return status


@routine
def pack_forward(packed, params, worker, s):
    status, O = OK, s.G * s.H
    for layer in range(s.L):
        if status == OK and is_dense(s, layer):
            ih, I = at(params, layer_offset_of(s, layer, WEIGHT_IH)), inputs_of(s, layer)
            status = pack_part(at(packed, layer_offset_of(s, layer, IH_T)), ih, 1, worker, I, O)
        if status == OK:
            hh = at(params, layer_offset_of(s, layer, WEIGHT_HH))
            status = pack_part(at(packed, layer_offset_of(s, layer, HH_T)), hh, 1, worker, s.H, O)
    if status == OK:
        head = at(params, offset_of(s, HEAD_WEIGHT))
        status = pack_part(at(packed, offset_of(s, HEAD_T)), head, 1, worker, s.H, s.V)
    return status


@routine
def apply_dropout(trace, d, layer, n, rows, s):
    """Write the output of some rows of a layer, from row n on, with dropout; else the output is h itself."""
    if d.dropout == 0:
        return OK
    h, output = at(trace, layer_offset_of(s, layer, H_)), at(trace, layer_offset_of(s, layer, OUTPUT))
    return dropout(
        at(output, n * s.H), at(h, (s.B + n) * s.H), d.dropout, d.seed, d.update, layer, n, rows, s.B, s.H
    )


@routine
def drop_inputs(x, d, n, N, s):
    """Set the rows of x (N, E) whose inputs are dropped to zero, and scale the others; the first is row n."""
    status, kept = OK, on_stack(x, ROWS)
    if d.input == 0:
        return status
    for first in range(0, N, ROWS):
        rows = min(ROWS, N - first)
        for i in range(rows):
            kept[i] = as_element(x, 1)
        status = dropout(kept, kept, d.input, d.seed, d.update, INPUTS, n + first, rows, s.B, 1)
        if status != OK:
            break
        for i in range(rows):
            row = at(x, (first + i) * s.E)
            for e in range(s.E):
                row[e] *= kept[i]
    return status


@inlined
def of_rows(worker, s):
    """A worker's part of the batch rows: all of them, if the plan says that workers share columns."""
    by_columns = s.plan[BY_COLUMNS] != 0
    return Worker(worker.barrier, 0 if by_columns else worker.part, 1 if by_columns else worker.parts)


@inlined
def of_columns(worker, s):
    """A worker's part of the columns of a recurrence's products, and of the hidden units."""
    by_columns = s.plan[BY_COLUMNS] != 0
    return Worker(worker.barrier, worker.part if by_columns else 0, worker.parts if by_columns else 1)


@inlined
def scratch_of(trace, first, part, s):
    """The scratch memory of a worker for some batch rows; by columns, the first worker's is shared too."""
    row = part * (s.B + 1) if s.plan[BY_COLUMNS] != 0 else first + part
    return at(trace, offset_of(s, MASKED) + row * (s.G + 1) * s.H)


@routine
def layer_input(trace, params, x, layer, worker, s):
    """The input of a dense layer, for a worker's part of the T·B rows."""
    N, weight, embedded = s.T * s.B, at(params, offset_of(s, EMBEDDING_WEIGHT)), at(trace, offset_of(s, X))
    status, end = OK, part_start(N, worker.part + 1, worker.parts)
    for n in range(part_start(N, worker.part, worker.parts), end, STRETCH):
        rows = min(STRETCH, end - n)
        status = check_abort(worker)
        if status == OK and layer > 0:
            status = apply_dropout(trace, x.dropout, layer - 1, n, rows, s)
        elif status == OK:
            status = embedding_forward(at(embedded, n * s.E), weight, at(x.inputs, n), rows, s.V, s.E)
            if status == OK:
                status = drop_inputs(at(embedded, n * s.E), x.dropout, n, rows, s)
        if status != OK:
            break
    return status


@routine
def input_projection(trace, packed, params, layer, worker, s):
    """The input's share of a dense layer's gates, for a worker's part of the T·B rows, or of the columns."""
    N, I, O, sharing = s.T * s.B, inputs_of(s, layer), s.G * s.H, of_columns(worker, s)
    rowwise = of_rows(worker, s)
    gates, packed_ih = (
        at(trace, layer_offset_of(s, layer, GATES)),
        at(packed, layer_offset_of(s, layer, IH_T)),
    )
    bias = at(params, layer_offset_of(s, layer, GATE_BIAS))
    taken = at(trace, layer_offset_of(s, layer - 1, OUTPUT) if layer > 0 else offset_of(s, X))
    end = part_start(N, rowwise.part + 1, rowwise.parts)
    for n in range(part_start(N, rowwise.part, rowwise.parts), end, STRETCH):
        status = check_abort(worker)
        if status != OK:
            return status
        out, some, rows = at(gates, n * O), at(taken, n * I), min(STRETCH, end - n)
        matmul_part(out, bias, np.int64(0), some, packed_ih, sharing, rows, I, s.G, s.H)
    return OK


@procedure
def clear_units(out, worker, rows, H):
    """Set a worker's hidden units of some rows to zero."""
    units = part_columns(out, worker, np.int64(1), H)
    for b in range(rows):
        clear(at(out, b * H + units.first), units.n)


@procedure
def copy_units(out, x, worker, rows, H):
    """Copy a worker's hidden units of some rows."""
    units = part_columns(x, worker, np.int64(1), H)
    for b in range(rows):
        copy(at(out, b * H + units.first), at(x, b * H + units.first), units.n)


@routine
def recurrence_forward_rows(trace, packed, params, x, layer, first, rows, worker, s):
    """The recurrence of a layer, for ``rows`` batch rows from ``first`` on. It carries the state."""
    H, B, O, sharing = s.H, s.B, s.G * s.H, of_columns(worker, s)
    h, aux = at(trace, layer_offset_of(s, layer, H_)), optional(trace, layer_offset_of(s, layer, AUX))
    gates, hh = at(trace, layer_offset_of(s, layer, GATES)), at(packed, layer_offset_of(s, layer, HH_T))
    weight_ih, bias = (
        at(params, layer_offset_of(s, layer, WEIGHT_IH)),
        at(params, layer_offset_of(s, layer, GATE_BIAS)),
    )
    masked = scratch_of(trace, first, worker.part, s)
    product = at(scratch_of(trace, first, 0 if sharing.parts > 1 else worker.part, s), (rows + 3) * H)  # gru
    state_h, state_c = at(x.state, (layer * B + first) * H), at(x.state, ((s.L + layer) * B + first) * H)
    copy_units(at(h, first * H), state_h, sharing, rows, H)
    if s.cell == LSTM:
        copy_units(at(aux, first * H), state_c, sharing, rows, H)
    for t in range(s.T):
        n = t * B + first
        here, after, row, begins = n * H, (n + B) * H, at(gates, n * O), at(x.starts, n)
        # other workers may not have copied their units yet
        h_before = at(h, here) if t > 0 else at(state_h, 0)
        status = check_abort(worker)
        if status == OK and not is_dense(s, layer):
            status = gather_part(row, weight_ih, bias, at(x.inputs, n), sharing, rows, s.V, s.G, H)
        if status != OK:
            return status
        if s.cell == LSTM:
            status = lstm_forward_part(
                at(h, after), at(aux, after), row, masked, h_before, at(aux, here), hh, begins, sharing,
                rows, H,
            )  # fmt: skip
        elif s.cell == GRU:
            bias_hn = at(params, layer_offset_of(s, layer, BIAS_HN))
            status = gru_forward_part(
                at(h, after), at(aux, here), row, masked, product, h_before, hh, bias_hn, begins, sharing,
                rows, H,
            )  # fmt: skip
        elif s.cell == RNN_RELU:
            status = rnn_forward_part(at(h, after), masked, h_before, hh, begins, 1, sharing, rows, H)
        else:
            status = rnn_forward_part(at(h, after), masked, h_before, hh, begins, 0, sharing, rows, H)
        if status != OK:
            return status
    copy_units(state_h, at(h, (s.T * B + first) * H), sharing, rows, H)
    if s.cell == LSTM:
        copy_units(state_c, at(aux, (s.T * B + first) * H), sharing, rows, H)
    return OK


@routine
def recurrence_forward(trace, packed, params, x, layer, worker, s):
    """The same for all batch rows of a worker."""
    rowwise = of_rows(worker, s)
    status, end = OK, part_start(s.B, rowwise.part + 1, rowwise.parts)
    for b in range(part_start(s.B, rowwise.part, rowwise.parts), end, STRETCH):
        rows = min(STRETCH, end - b)
        status = recurrence_forward_rows(trace, packed, params, x, layer, b, rows, worker, s)
        if status != OK:
            break
    return status


@routine
def layers_forward(trace, packed, params, x, worker, s):
    status = OK
    for layer in range(s.L):
        if is_dense(s, layer):
            if layer > 0:
                status = barrier_wait(of_rows(worker, s))
            if status == OK:
                status = layer_input(trace, params, x, layer, worker, s)
            if status == OK:
                status = barrier_wait(of_columns(worker, s))
            if status == OK:
                status = input_projection(trace, packed, params, layer, worker, s)
            if status == OK:
                status = barrier_wait(of_rows(worker, s))
        if status == OK:
            status = recurrence_forward(trace, packed, params, x, layer, worker, s)
        if status != OK:
            return status
    return OK
