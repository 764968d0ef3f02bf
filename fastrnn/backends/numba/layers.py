"""The forward pass of the layers over a window, for training and inference."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastrnn.backends.numba.constants import (
    AUX,
    BIAS_HN,
    EMBEDDING_WEIGHT,
    GATE_BIAS,
    GATES,
    GRU,
    H_,
    HEAD_T,
    HEAD_WEIGHT,
    HH_T,
    IH_T,
    LSTM,
    MASKED,
    OK,
    OUTPUT,
    RNN_RELU,
    STRETCH,
    WEIGHT_HH,
    WEIGHT_IH,
    X,
)
from fastrnn.backends.numba.dropout import dropout
from fastrnn.backends.numba.gru import gru_forward
from fastrnn.backends.numba.jit import procedure, routine
from fastrnn.backends.numba.linear import embedding_forward, gather_forward, linear_forward, pack
from fastrnn.backends.numba.llvm import at, copy
from fastrnn.backends.numba.lstm import lstm_forward
from fastrnn.backends.numba.matmul import part_start
from fastrnn.backends.numba.rnn import rnn_forward
from fastrnn.backends.numba.team import barrier_wait, check_abort
from fastrnn.backends.numba.views import inputs_of, is_dense, layer_offset_of, offset_of, optional


class Dropout(NamedTuple):
    """The dropout mask of a window; if ``dropout`` is 0, there is none."""

    dropout: float
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


@procedure
def pack_forward(packed, params, worker, s):
    part, parts, O = worker.part, worker.parts, s.G * s.H
    for layer in range(s.L):
        if is_dense(s, layer):
            ih, I = at(params, layer_offset_of(s, layer, WEIGHT_IH)), inputs_of(s, layer)
            pack(at(packed, layer_offset_of(s, layer, IH_T)), ih, 1, part, parts, I, O)
        hh = at(params, layer_offset_of(s, layer, WEIGHT_HH))
        pack(at(packed, layer_offset_of(s, layer, HH_T)), hh, 1, part, parts, s.H, O)
    head = at(params, offset_of(s, HEAD_WEIGHT))
    pack(at(packed, offset_of(s, HEAD_T)), head, 1, part, parts, s.H, s.V)


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
def input_projection(trace, packed, params, x, layer, worker, s):
    """The input's share of a dense layer's gates, for a worker's part of the T·B rows."""
    N, I, O = s.T * s.B, inputs_of(s, layer), s.G * s.H
    gates, packed_ih = (
        at(trace, layer_offset_of(s, layer, GATES)),
        at(packed, layer_offset_of(s, layer, IH_T)),
    )
    bias = at(params, layer_offset_of(s, layer, GATE_BIAS))
    taken = at(trace, layer_offset_of(s, layer - 1, OUTPUT) if layer > 0 else offset_of(s, X))
    status, end = OK, part_start(N, worker.part + 1, worker.parts)
    for n in range(part_start(N, worker.part, worker.parts), end, STRETCH):
        rows, some = min(STRETCH, end - n), at(taken, n * I)
        status = check_abort(worker)
        if status == OK and layer > 0:
            status = apply_dropout(trace, x.dropout, layer - 1, n, rows, s)
        elif status == OK:
            weight = at(params, offset_of(s, EMBEDDING_WEIGHT))
            status = embedding_forward(some, weight, at(x.inputs, n), rows, s.V, I)
        if status == OK:
            status = linear_forward(at(gates, n * O), some, packed_ih, bias, rows, I, O)
        if status != OK:
            break
    return status


@routine
def recurrence_forward_rows(trace, packed, params, x, layer, first, rows, worker, s):
    """The recurrence of a layer, for ``rows`` batch rows from ``first`` on. It carries the state."""
    H, B, O = s.H, s.B, s.G * s.H
    h, aux = at(trace, layer_offset_of(s, layer, H_)), optional(trace, layer_offset_of(s, layer, AUX))
    gates, hh = at(trace, layer_offset_of(s, layer, GATES)), at(packed, layer_offset_of(s, layer, HH_T))
    weight_ih, bias = (
        at(params, layer_offset_of(s, layer, WEIGHT_IH)),
        at(params, layer_offset_of(s, layer, GATE_BIAS)),
    )
    masked = at(trace, offset_of(s, MASKED) + (first + worker.part) * (s.G + 1) * H)
    state_h, state_c = at(x.state, (layer * B + first) * H), at(x.state, ((s.L + layer) * B + first) * H)
    copy(at(h, first * H), state_h, rows * H)
    if s.cell == LSTM:
        copy(at(aux, first * H), state_c, rows * H)
    for t in range(s.T):
        n = t * B + first
        here, after, row, begins = n * H, (n + B) * H, at(gates, n * O), at(x.starts, n)
        status = check_abort(worker)
        if status != OK:
            return status
        if not is_dense(s, layer):
            status = gather_forward(row, weight_ih, bias, at(x.inputs, n), rows, s.V, O)
            if status != OK:
                return status
        if s.cell == LSTM:
            lstm_forward(
                at(h, after), at(aux, after), row, masked, at(h, here), at(aux, here), hh, begins, rows, H
            )
        elif s.cell == GRU:
            bias_hn = at(params, layer_offset_of(s, layer, BIAS_HN))
            gru_forward(at(h, after), at(aux, here), row, masked, at(h, here), hh, bias_hn, begins, rows, H)
        elif s.cell == RNN_RELU:
            rnn_forward(at(h, after), masked, at(h, here), hh, begins, 1, rows, H)
        else:
            rnn_forward(at(h, after), masked, at(h, here), hh, begins, 0, rows, H)
    copy(state_h, at(h, (s.T * B + first) * H), rows * H)
    if s.cell == LSTM:
        copy(state_c, at(aux, (s.T * B + first) * H), rows * H)
    return OK


@routine
def recurrence_forward(trace, packed, params, x, layer, worker, s):
    """The same for all batch rows of a worker."""
    status, end = OK, part_start(s.B, worker.part + 1, worker.parts)
    for b in range(part_start(s.B, worker.part, worker.parts), end, STRETCH):
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
                status = barrier_wait(worker)
            if status == OK:
                status = input_projection(trace, packed, params, x, layer, worker, s)
            if status == OK:
                status = barrier_wait(worker)
        if status == OK:
            status = recurrence_forward(trace, packed, params, x, layer, worker, s)
        if status != OK:
            return status
    return OK
