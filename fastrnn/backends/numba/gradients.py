"""The phases of one window, forward and backward; each function does the part of one worker."""

from __future__ import annotations

from fastrnn.backends.numba.constants import (
    AUX,
    BIAS_HN,
    BLOCKS,
    DC,
    DGATES,
    DH,
    DX,
    EMBEDDING_WEIGHT,
    GATE_BIAS,
    GATES,
    GRU,
    H_,
    HEAD,
    HEAD_BIAS,
    HEAD_STEPS,
    HEAD_T,
    HEAD_WEIGHT,
    HH,
    IH,
    KC,
    LOGITS,
    LSTM,
    MOVE,
    OK,
    OUTPUT,
    PARAMETERS,
    RNN_RELU,
    ROWS,
    STRETCH,
    WEIGHT_HH,
    WEIGHT_IH,
    ZEROS,
    X,
)
from fastrnn.backends.numba.cross_entropy import cross_entropy
from fastrnn.backends.numba.dropout import dropout
from fastrnn.backends.numba.gru import gru_backward_part, gru_gradients
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.layers import (
    apply_dropout,
    clear_units,
    drop_inputs,
    layers_forward,
    of_columns,
    of_rows,
    pack_forward,
    pack_part,
    scratch_of,
)
from fastrnn.backends.numba.linear import (
    embedding_gradients,
    gather_gradients,
    linear_forward,
    linear_gradients,
    recurrent_gradients,
)
from fastrnn.backends.numba.llvm import at, clear
from fastrnn.backends.numba.lstm import lstm_backward_part
from fastrnn.backends.numba.matmul import part_start
from fastrnn.backends.numba.rnn import rnn_backward_part
from fastrnn.backends.numba.team import barrier_wait, check_abort, piece_of, pieces
from fastrnn.backends.numba.views import (
    inputs_of,
    is_dense,
    layer_offset_of,
    offset_of,
    optional,
    packed_size,
)


@routine
def pack_backward(w, params, worker, s):
    status, O = OK, s.G * s.H
    for layer in range(s.L):
        if status == OK and is_dense(s, layer):
            ih, I = at(params, layer_offset_of(s, layer, WEIGHT_IH)), inputs_of(s, layer)
            status = pack_part(at(w, layer_offset_of(s, layer, IH)), ih, 0, worker, O, I)
        if status == OK:
            hh = at(params, layer_offset_of(s, layer, WEIGHT_HH))
            status = pack_part(at(w, layer_offset_of(s, layer, HH)), hh, 0, worker, O, s.H)
    if worker.part == 0:
        clear(at(w, offset_of(s, ZEROS)), max(s.E, s.H))
    if status == OK:
        head = at(params, offset_of(s, HEAD_WEIGHT))
        status = pack_part(at(w, offset_of(s, HEAD)), head, 0, worker, s.V, s.H)
    return status


@routine
def clear_part(x, worker, n):
    """Set a worker's part of n elements to zero."""
    status, count = OK, pieces(MOVE * n, worker)
    for i in range(count):
        piece = piece_of(worker, i, count)
        first = part_start(n, piece.part, piece.parts)
        status = check_abort(worker)
        if status != OK:
            break
        clear(at(x, first), part_start(n, piece.part + 1, piece.parts) - first)
    return status


@routine
def run_head(losses, w, params, x, begin, count, worker, s):
    """The head at some steps, for a worker's batch rows, or by columns for its part of all their rows.

    It writes losses, dlogits in place of logits, and dh.
    """
    B, V, H, top, d = s.B, s.V, s.H, s.L - 1, x.dropout
    rowwise, stepwise = of_rows(worker, s), of_columns(worker, s)
    first = part_start(B, rowwise.part, rowwise.parts)
    own = part_start(B, rowwise.part + 1, rowwise.parts) - first
    steps = count if own == B else 1
    N = (steps - 1) * B + own
    head_t, head, head_bias = (
        at(w, offset_of(s, HEAD_T)),
        at(w, offset_of(s, HEAD)),
        at(params, offset_of(s, HEAD_BIAS)),
    )
    logits, zeros = at(w, offset_of(s, LOGITS)), at(w, offset_of(s, ZEROS))
    output, dh = at(w, layer_offset_of(s, top, OUTPUT)), at(w, layer_offset_of(s, top, DH))
    for t in range(begin, begin + count, steps):
        start = t * B + first
        end = start + part_start(N, stepwise.part + 1, stepwise.parts)
        for n in range(start + part_start(N, stepwise.part, stepwise.parts), end, ROWS):
            rows, some, dh_rows = min(ROWS, end - n), at(logits, (n - begin * B) * V), at(dh, n * H)
            status = check_abort(worker)
            if status == OK:
                status = apply_dropout(w, d, top, n, rows, s)
            if status == OK:
                status = linear_forward(some, at(output, n * H), head_t, head_bias, rows, H, V)
            if status == OK:
                status = check_abort(worker)
            if status == OK:
                status = cross_entropy(at(losses, n), some, some, at(x.targets, n), x.scale, rows, V)
            if status == OK:
                status = check_abort(worker)
            if status == OK:
                status = linear_forward(dh_rows, some, head, zeros, rows, V, H)
            if status == OK and d.dropout > 0:
                status = dropout(dh_rows, dh_rows, d.dropout, d.seed, d.update, top, n, rows, B, H)
            if status != OK:
                return status
    return OK


@routine
def add_head_gradients(grads, w, begin, count, block, worker, s):
    """Add the gradients of the head's parameters at some steps, for a worker's part of the outputs."""
    output, dlogits = (
        at(w, layer_offset_of(s, s.L - 1, OUTPUT) + begin * s.B * s.H),
        at(w, offset_of(s, LOGITS)),
    )
    dweight, dbias = at(grads, offset_of(s, HEAD_WEIGHT)), at(grads, offset_of(s, HEAD_BIAS))
    N = count * s.B
    for n in range(0, N, STRETCH):
        rows = min(STRETCH, N - n)
        some, dsome, cut = at(output, n * s.H), at(dlogits, n * s.V), pieces(rows * s.H * s.V, worker)
        for i in range(cut):
            piece = piece_of(worker, i, cut)
            status = check_abort(worker)
            if status == OK:
                status = linear_gradients(
                    dweight, dbias, block, dsome, some, piece.part, piece.parts, rows, s.H, s.V
                )
            if status != OK:
                return status
    return OK


@routine
def recurrence_backward_rows(w, x, layer, first, rows, worker, s):
    """The backward recurrence of a layer, for batch rows from ``first`` on: the gradients of its gates."""
    B, H, O, sharing = s.B, s.H, s.G * s.H, of_columns(worker, s)
    aux, dc = optional(w, layer_offset_of(s, layer, AUX)), optional(w, offset_of(s, DC))
    h, gates = at(w, layer_offset_of(s, layer, H_)), at(w, layer_offset_of(s, layer, GATES))
    hh, dh = at(w, layer_offset_of(s, layer, HH)), at(w, layer_offset_of(s, layer, DH))
    is_shared = s.cell == GRU and sharing.parts > 1
    masked = scratch_of(w, first, 0 if is_shared else worker.part, s)
    if s.cell == LSTM:
        clear_units(at(dc, first * H), sharing, rows, H)
    for t in range(s.T - 1, -1, -1):
        n = t * B + first
        here, after = n * H, (n + B) * H
        dnow, before = at(dh, here), at(dh, (max(t - 1, 0) * B + first) * H)
        dgates, begins, carried = at(gates, n * O), at(x.starts, n), t > 0
        status = check_abort(worker)
        if status != OK:
            return status
        if s.cell == LSTM:
            status = lstm_backward_part(
                before, at(dc, first * H), dgates, masked, dnow, at(aux, after), at(aux, here), hh, begins,
                carried, sharing, rows, H,
            )  # fmt: skip
        elif s.cell == GRU:
            status = gru_backward_part(
                before, dgates, at(aux, here), masked, dnow, at(h, here), hh, begins, carried, sharing, rows,
                H,
            )  # fmt: skip
        elif s.cell == RNN_RELU:
            status = rnn_backward_part(
                dnow, before, masked, at(h, after), hh, begins, 1, carried, sharing, rows, H
            )
        else:
            status = rnn_backward_part(
                dnow, before, masked, at(h, after), hh, begins, 0, carried, sharing, rows, H
            )
        if status != OK:
            return status
    return OK


@routine
def recurrence_backward(w, x, layer, worker, s):
    """The same for all batch rows of a worker."""
    rowwise = of_rows(worker, s)
    status, end = OK, part_start(s.B, rowwise.part + 1, rowwise.parts)
    for b in range(part_start(s.B, rowwise.part, rowwise.parts), end, STRETCH):
        status = recurrence_backward_rows(w, x, layer, b, min(STRETCH, end - b), worker, s)
        if status != OK:
            break
    return status


@routine
def input_gradient(w, x, layer, worker, s):
    """The gradient of a dense layer's input, for a worker's part of the T·B rows."""
    N, I, O, d = s.T * s.B, inputs_of(s, layer), s.G * s.H, x.dropout
    dgates = at(w, layer_offset_of(s, layer, DGATES))
    out = at(w, layer_offset_of(s, layer - 1, DH) if layer > 0 else offset_of(s, DX))
    status, end = OK, part_start(N, worker.part + 1, worker.parts)
    for n in range(part_start(N, worker.part, worker.parts), end, STRETCH):
        rows, some = min(STRETCH, end - n), at(out, n * I)
        status = check_abort(worker)
        if status == OK:
            ih, zeros = at(w, layer_offset_of(s, layer, IH)), at(w, offset_of(s, ZEROS))
            status = linear_forward(some, at(dgates, n * O), ih, zeros, rows, O, I)
        if status == OK and layer > 0 and d.dropout > 0:
            status = dropout(some, some, d.dropout, d.seed, d.update, layer - 1, n, rows, s.B, s.H)
        if status == OK and layer == 0:
            status = drop_inputs(some, d, n, rows, s)
        if status != OK:
            break
    return status


@routine
def add_gradients_of_rows(grads, w, x, layer, n, N, block, worker, s):
    """Add what N rows from n on give to the gradients of a layer's parameters, for a part of the outputs."""
    H, O, part, parts = s.H, s.G * s.H, worker.part, worker.parts
    dgates, h = (
        at(w, layer_offset_of(s, layer, DGATES) + n * O),
        at(w, layer_offset_of(s, layer, H_) + n * H),
    )
    dweight_ih, dbias = (
        at(grads, layer_offset_of(s, layer, WEIGHT_IH)),
        at(grads, layer_offset_of(s, layer, GATE_BIAS)),
    )
    dweight_hh = at(grads, layer_offset_of(s, layer, WEIGHT_HH))
    if not is_dense(s, layer):
        status = gather_gradients(dweight_ih, dbias, dgates, at(x.inputs, n), part, parts, N, s.V, O)
    else:
        I = inputs_of(s, layer)
        taken = at(w, layer_offset_of(s, layer - 1, OUTPUT) if layer > 0 else offset_of(s, X))
        status = linear_gradients(dweight_ih, dbias, block, dgates, at(taken, n * I), part, parts, N, I, O)
    if status != OK:
        return status
    if s.cell == GRU:
        du, dbias_hn = (
            at(w, layer_offset_of(s, layer, AUX) + n * H),
            at(grads, layer_offset_of(s, layer, BIAS_HN)),
        )
        return gru_gradients(dweight_hh, dbias_hn, block, dgates, du, h, at(x.starts, n), part, parts, N, H)
    return recurrent_gradients(dweight_hh, block, dgates, h, at(x.starts, n), part, parts, N, H, O)


@routine
def add_gradients(grads, w, x, block, worker, s):
    """Add the gradients of all parameters except the head's, for a worker's part of the outputs."""
    status, N = OK, s.T * s.B
    for layer in range(s.L):
        I = inputs_of(s, layer) if is_dense(s, layer) else 1
        for n in range(0, N, STRETCH):
            rows = min(STRETCH, N - n)
            cut = pieces(rows * (I + s.H) * s.G * s.H, worker)
            for i in range(cut):
                status, piece = check_abort(worker), piece_of(worker, i, cut)
                if status == OK:
                    status = add_gradients_of_rows(grads, w, x, layer, n, rows, block, piece, s)
                if status != OK:
                    return status
    if s.E > 0:
        dembedding, dx = at(grads, offset_of(s, EMBEDDING_WEIGHT)), at(w, offset_of(s, DX))
        for n in range(0, N, STRETCH):
            some, ids, rows = at(dx, n * s.E), at(x.inputs, n), min(STRETCH, N - n)
            status = check_abort(worker)
            if status == OK:
                status = embedding_gradients(dembedding, some, ids, worker.part, worker.parts, rows, s.V, s.E)
            if status != OK:
                return status
    return OK


@routine
def gradients(losses, grads, w, params, x, worker, s):
    """The gradients of a window, in a workspace ``w``."""
    steps = s.plan[HEAD_STEPS]
    block = at(w, offset_of(s, BLOCKS) + worker.part * packed_size(KC, max(s.E, s.H)))
    status = clear_part(grads, worker, s.plan[PARAMETERS])
    if status == OK:
        status = pack_forward(w, params, worker, s)
    if status == OK:
        status = pack_backward(w, params, worker, s)
    if status == OK:
        status = barrier_wait(worker)
    if status == OK:
        status = layers_forward(w, w, params, x, worker, s)
    for t in range(0, s.T, steps):
        count = min(steps, s.T - t)
        if status == OK:
            status = run_head(losses, w, params, x, t, count, worker, s)
        if status == OK:
            status = barrier_wait(worker)
        if status == OK:
            status = add_head_gradients(grads, w, t, count, block, worker, s)
        if status == OK and t + count < s.T:  # the next logits overwrite these dlogits
            status = barrier_wait(worker)
    for layer in range(s.L - 1, -1, -1):
        if status == OK:
            status = recurrence_backward(w, x, layer, worker, s)
        if status == OK:
            status = barrier_wait(worker)
        if status == OK and is_dense(s, layer):
            status = input_gradient(w, x, layer, worker, s)
            if status == OK:
                status = barrier_wait(worker)
    if status == OK:
        status = add_gradients(grads, w, x, block, worker, s)
    return barrier_wait(worker) if status == OK else status
