"""One window forward and backward, and the training on many windows in one call."""

from __future__ import annotations

import math

from fastrnn.backends.numba.constants import (
    ADAGRAD,
    ADAM,
    BAD_CHOICE,
    BAD_SIZE,
    BAD_SYMBOL,
    BATCHMEAN,
    MEAN,
    OK,
    PARAMETERS,
    RMSPROP,
    SETTINGS,
    SGD,
)
from fastrnn.backends.numba.gradients import gradients
from fastrnn.backends.numba.jit import inlined, jit, routine
from fastrnn.backends.numba.layers import (
    Dropout,
    Window,
    bad_symbols,
)
from fastrnn.backends.numba.llvm import at, clear, on_stack
from fastrnn.backends.numba.matmul import part_start
from fastrnn.backends.numba.sums import sum_of
from fastrnn.backends.numba.team import Worker, bad_worker, barrier_wait
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
    sizes_of,
)


@jit
def network_gradients(
    losses, grads, state, workspace, barrier, params, inputs, targets, starts, plan, scale, dropout,
    input_dropout, dropout_seed, update, part, parts, T, B,
):  # fmt: skip
    s = sizes_of(plan, T, B)
    status = bad_sizes(s)
    if status != OK:
        return status
    worker = Worker(at(barrier, 0), part, parts)
    if bad_worker(worker):
        return BAD_SIZE
    dropped = Dropout(dropout, input_dropout, dropout_seed, update)
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
    dropout, input_dropout, dropout_seed, first_update, first, part, parts, A, R, W, S, T, B,
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
        dropped = Dropout(dropout, input_dropout, dropout_seed, first_update + w)
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
