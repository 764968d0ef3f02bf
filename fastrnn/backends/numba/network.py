"""One window forward and backward, and the training on many windows in one call."""

from __future__ import annotations

import math

from fastrnn.backends.numba.constants import (
    ADAGRAD,
    ADAM,
    AUX,
    BAD_CHOICE,
    BAD_SIZE,
    BAD_SYMBOL,
    BATCHMEAN,
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
    MEAN,
    MOVE,
    OK,
    OUTPUT,
    PARAMETERS,
    RMSPROP,
    RNN_RELU,
    ROWS,
    SETTINGS,
    SGD,
    STRETCH,
    WEIGHT_HH,
    WEIGHT_IH,
    ZEROS,
    X,
)
from fastrnn.backends.numba.cross_entropy import cross_entropy
from fastrnn.backends.numba.dropout import dropout
from fastrnn.backends.numba.gru import gru_backward_part, gru_gradients
from fastrnn.backends.numba.jit import inlined, jit, routine
from fastrnn.backends.numba.layers import (
    Dropout,
    Window,
    apply_dropout,
    bad_symbols,
    clear_units,
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
from fastrnn.backends.numba.llvm import at, clear, on_stack
from fastrnn.backends.numba.lstm import lstm_backward_part
from fastrnn.backends.numba.matmul import part_start
from fastrnn.backends.numba.rnn import rnn_backward_part
from fastrnn.backends.numba.sums import sum_of
from fastrnn.backends.numba.team import Worker, bad_worker, barrier_wait, check_abort, piece_of, pieces
from fastrnn.backends.numba.update import (
    adagrad_update,
    adam_update,
    average_update,
    gradient_norm,
    rmsprop_update,
    sgd_update,
)
from fastrnn.backends.numba.views import (
    bad_sizes,
    inputs_of,
    is_dense,
    layer_offset_of,
    offset_of,
    optional,
    packed_size,
    sizes_of,
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


@jit
def network_gradients(
    losses, grads, state, workspace, barrier, params, inputs, targets, starts, plan, scale, dropout,
    dropout_seed, update, part, parts, T, B,
):  # fmt: skip
    s = sizes_of(plan, T, B)
    status = bad_sizes(s)
    if status != OK:
        return status
    worker = Worker(at(barrier, 0), part, parts)
    if bad_worker(worker):
        return BAD_SIZE
    dropped = Dropout(dropout, dropout_seed, update)
    x = Window(at(inputs, 0), at(targets, 0), at(starts, 0), at(state, 0), scale, dropped)
    if bad_symbols(x.inputs, 0, T * B, s.V) or bad_symbols(x.targets, -1, T * B, s.V):
        return BAD_SYMBOL
    return gradients(at(losses, 0), at(grads, 0), at(workspace, 0), at(params, 0), x, worker, s)


@inlined
def gradient_scale(targets, reduction, N, B):
    """The factor of the sum of a window's losses. A mean divides by the number of targets that are not -1."""
    count = B if reduction == BATCHMEAN else 0
    if reduction == MEAN:
        for n in range(N):
            count += targets[n] >= 0
    return 1.0 / count if count > 0 else 1.0


@routine
def bad_ranges(ranges, R, n):
    """Whether ranges are not in ascending order within n elements."""
    end = 0
    for r in range(R):
        if ranges[2 * r] < end or ranges[2 * r + 1] < ranges[2 * r]:
            return True
        end = ranges[2 * r + 1]
    return R < 0 or end > n


@routine
def count_frozen(ranges, R, n):
    """The number of elements outside of the ranges."""
    for r in range(R):
        n -= ranges[2 * r + 1] - ranges[2 * r]
    return n


@routine
def clear_frozen(grads, ranges, worker, R, n):
    """Set the gradients outside of the ranges to zero: a worker sets its part, and waits for the others."""
    end = 0
    for r in range(R + 1):
        following = ranges[2 * r] if r < R else n
        first = part_start(following - end, worker.part, worker.parts)
        clear(at(grads, end + first), part_start(following - end, worker.part + 1, worker.parts) - first)
        end = ranges[2 * r + 1] if r < R else n
    return barrier_wait(worker)


@routine
def update_range(params, moments, grads, settings, optimizer, limit, scale, begin, end, n):
    """The update of the elements from ``begin`` up to ``end``."""
    if optimizer == SGD:
        return sgd_update(params, moments, grads, settings, limit, scale, begin, end, n)
    if optimizer == ADAGRAD:
        return adagrad_update(params, moments, grads, settings, limit, scale, begin, end, n)
    if optimizer == ADAM:
        return adam_update(params, moments, grads, settings, limit, scale, begin, end, n)
    if optimizer == RMSPROP:
        return rmsprop_update(params, moments, grads, settings, limit, scale, begin, end, n)
    return BAD_CHOICE


@routine
def update(
    params, moments, average, grads, settings, average_weight, ranges, optimizer, limit, scale, worker, A, R,
    n,
):  # fmt: skip
    """A worker's part of an update of the ranges, each with its row of settings, and of the average."""
    status = OK
    for r in range(R):
        first, count = ranges[2 * r], ranges[2 * r + 1] - ranges[2 * r]
        begin = first + part_start(count, worker.part, worker.parts)
        end = first + part_start(count, worker.part + 1, worker.parts)
        row = at(settings, r * SETTINGS)
        status = update_range(params, moments, grads, row, optimizer, limit, scale, begin, end, n)
        if status == OK and A > 0:
            status = average_update(average, params, average_weight, begin, end, n)
        if status != OK:
            break
    return status


@jit
def train_windows(
    losses, norms, symbol_losses, params, grads, moments, average, state, workspace, barrier, inputs,
    targets, starts, settings, average_weights, ranges, plan, optimizer, reduction, value_limit, norm_limit,
    dropout, dropout_seed, first_update, first, part, parts, A, R, W, S, T, B,
):  # fmt: skip
    longest, worker = sizes_of(plan, T, B), Worker(at(barrier, 0), part, parts)
    status = bad_sizes(longest)
    if status != OK:
        return status
    windows, n = (S + T - 1) // T, plan[PARAMETERS]
    trained = at(ranges, 0)
    if first < 0 or W < 0 or S < 1 or bad_worker(worker) or bad_ranges(trained, R, n):
        return BAD_SIZE
    if bad_symbols(at(inputs, 0), 0, S * B, longest.V) or bad_symbols(at(targets, 0), -1, S * B, longest.V):
        return BAD_SYMBOL
    norm, has_frozen = on_stack(norms, 1), count_frozen(trained, R, n) > 0
    if part == 0:
        for w in range(W):
            losses[w] = norms[w] = math.nan
    for w in range(W):
        start = (first + w) % windows * T
        s = sizes_of(plan, min(T, S - start), B)
        y = at(targets, start * B)
        dropped = Dropout(dropout, dropout_seed, first_update + w)
        scaled = gradient_scale(y, reduction, s.T * B, B)
        x = Window(at(inputs, start * B), y, at(starts, start * B), at(state, 0), scaled, dropped)
        status = gradients(at(symbol_losses, 0), at(grads, 0), at(workspace, 0), at(params, 0), x, worker, s)
        if status == OK and has_frozen:
            status = clear_frozen(at(grads, 0), trained, worker, R, n)
        if status != OK:
            return status
        # all workers compute the same loss and norm, so they all stop or all go on
        loss = sum_of(at(symbol_losses, 0), s.T * B)
        status = gradient_norm(norm, grads, value_limit, n)
        if status != OK:
            return status
        if part == 0:
            losses[w], norms[w] = loss, norm[0]
        if not (math.isfinite(loss) and math.isfinite(norm[0])):
            return OK
        scale = norm_limit / norm[0] if norm[0] > norm_limit else 1.0
        rows = at(settings, w * R * SETTINGS)
        status = update(
            params, moments, average, grads, rows, average_weights[w], trained, optimizer, value_limit, scale,
            worker, A, R, n,
        )  # fmt: skip
        if status == OK:
            status = barrier_wait(worker)
        if status != OK:
            return status
    return OK
