"""The layers of a network over a window, forward: what training and inference share."""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.backends.numba.constants import (
    BIAS_HN,
    EMBEDDING_WEIGHT,
    GATE_BIAS,
    GATES,
    GRU,
    H_,
    HEAD_WEIGHT,
    HH_T,
    IH_T,
    INNER,
    LSTM,
    OK,
    RNN_RELU,
    RUNNING,
    STRETCH,
    UP,
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
from fastrnn.backends.numba.matmul import share
from fastrnn.backends.numba.rnn import rnn_forward
from fastrnn.backends.numba.team import go_on, wait_for_all
from fastrnn.backends.numba.views import array, inputs_of, layer_array


class Dropout(NamedTuple):
    """Which mask a window has; a rate of 0 is no dropout."""

    rate: float
    key: int
    update: int


@procedure
def pack_weights(packed, params, ih, hh, head, transposed, team, s):
    """Pack all weights as right operands; ``ih``, ``hh`` and ``head`` are where to, in the plan."""
    O = s.G * s.H
    for layer in range(s.L + 1):  # the head after the last one
        for dense in range(2):
            I, rows, field, to = s.H, O, WEIGHT_IH if dense else WEIGHT_HH, ih if dense else hh
            weight, out = at(params, 0), at(packed, 0)
            if layer == s.L:
                rows = s.V if dense else 0
                weight, out = array(params, s, HEAD_WEIGHT), array(packed, s, head)
            else:
                weight, out = layer_array(params, s, layer, field), layer_array(packed, s, layer, to)
                if dense:
                    I = inputs_of(s, layer)
                    rows = O if layer > 0 or s.E > 0 else 0
            K, J = (I, rows) if transposed else (rows, I)
            if rows > 0:
                pack(out, weight, transposed, team.part, team.parts, K, J)


@procedure
def hand_up(trace, d, layer, n, rows, s):
    """Drop a part of what some rows of a layer hand up, from row n on; else they hand up h itself."""
    if d.rate > 0:
        h, up = layer_array(trace, s, layer, H_), layer_array(trace, s, layer, UP)
        dropout(at(up, n * s.H), at(h, (s.B + n) * s.H), d.rate, d.key, d.update, layer, n, rows, s.B, s.H)


@routine
def take_inputs(trace, packed, params, inputs, d, layer, team, s):
    """The input's share of the gates of a dense layer, for some of the rows of all steps."""
    N, I, O = s.T * s.B, inputs_of(s, layer), s.G * s.H
    gates, packed_ih = layer_array(trace, s, layer, GATES), layer_array(packed, s, layer, IH_T)
    bias, x = layer_array(params, s, layer, GATE_BIAS), array(trace, s, X)
    if layer > 0:
        x = layer_array(trace, s, layer - 1, UP)
    status, end = OK, share(N, team.part + 1, team.parts)
    for n in range(share(N, team.part, team.parts), end, STRETCH):
        rows, some = min(STRETCH, end - n), at(x, n * I)
        status = go_on(team)
        if status == OK and layer > 0:
            hand_up(trace, d, layer - 1, n, rows, s)
        elif status == OK:
            weight = array(params, s, EMBEDDING_WEIGHT)
            status = embedding_forward(some, weight, at(inputs, n), rows, s.V, I)
        if status != OK:
            break
        linear_forward(at(gates, n * O), some, packed_ih, bias, rows, I, O)
    return status


@routine
def run_rows(cell, trace, state, packed, params, inputs, starts, layer, first, rows, team, s):
    """The recurrence of a layer, for batch rows from ``first`` on: carries the state."""
    H, B, O = s.H, s.B, s.G * s.H
    h, inner = layer_array(trace, s, layer, H_), layer_array(trace, s, layer, INNER)
    gates, hh = layer_array(trace, s, layer, GATES), layer_array(packed, s, layer, HH_T)
    weight_ih, bias = layer_array(params, s, layer, WEIGHT_IH), layer_array(params, s, layer, GATE_BIAS)
    running = at(array(trace, s, RUNNING), (first + team.part) * (s.G + 1) * H)
    state_h, state_c = at(state, (layer * B + first) * H), at(state, ((s.L + layer) * B + first) * H)
    copy(at(h, first * H), state_h, rows * H)
    if cell == LSTM:
        copy(at(inner, first * H), state_c, rows * H)
    for t in range(s.T):
        n = t * B + first
        here, after, x, begins = n * H, (n + B) * H, at(gates, n * O), at(starts, n)
        status = go_on(team)
        if status != OK:
            return status
        if layer == 0 and s.E == 0:
            status = gather_forward(x, weight_ih, bias, at(inputs, n), rows, s.V, O)
            if status != OK:
                return status
        if cell == LSTM:
            lstm_forward(
                at(h, after), at(inner, after), x, running, at(h, here), at(inner, here), hh, begins, rows, H
            )
        elif cell == GRU:
            bias_hn = layer_array(params, s, layer, BIAS_HN)
            gru_forward(at(h, after), at(inner, here), x, running, at(h, here), hh, bias_hn, begins, rows, H)
        elif cell == RNN_RELU:
            rnn_forward(at(h, after), running, at(h, here), hh, begins, 1, rows, H)
        else:
            rnn_forward(at(h, after), running, at(h, here), hh, begins, 0, rows, H)
    copy(state_h, at(h, (s.T * B + first) * H), rows * H)
    if cell == LSTM:
        copy(state_c, at(inner, (s.T * B + first) * H), rows * H)
    return OK


@routine
def run_layer(cell, trace, state, packed, params, inputs, starts, layer, team, s):
    """The same for all batch rows of a part."""
    status, end = OK, share(s.B, team.part + 1, team.parts)
    for b in range(share(s.B, team.part, team.parts), end, STRETCH):
        rows = min(STRETCH, end - b)
        status = run_rows(cell, trace, state, packed, params, inputs, starts, layer, b, rows, team, s)
        if status != OK:
            break
    return status


@routine
def run_layers(cell, trace, state, packed, params, inputs, starts, d, team, s):
    status = OK
    for layer in range(s.L):
        if layer > 0 or s.E > 0:
            if layer > 0:
                status = wait_for_all(team)
            if status == OK:
                status = take_inputs(trace, packed, params, inputs, d, layer, team, s)
            if status == OK:
                status = wait_for_all(team)
        if status == OK:
            status = run_layer(cell, trace, state, packed, params, inputs, starts, layer, team, s)
        if status != OK:
            return status
    return OK
