"""The forward pass of a network: over windows, and one symbol at a time."""

from __future__ import annotations

import numpy as np

from fastrnn.backends.numba.constants import BAD_SIZE, BAD_SYMBOL, H_, HEAD_BIAS, HEAD_T, KC, LOGITS, OK, ROWS
from fastrnn.backends.numba.cross_entropy import cross_entropy
from fastrnn.backends.numba.jit import inlined, jit, procedure, routine
from fastrnn.backends.numba.layers import (
    Dropout,
    Window,
    bad_symbols,
    layers_forward,
    of_columns,
    of_rows,
    pack_forward,
)
from fastrnn.backends.numba.linear import linear_forward
from fastrnn.backends.numba.llvm import at, exists, no_barrier, no_losses, nothing
from fastrnn.backends.numba.matmul import matmul_part, part_start
from fastrnn.backends.numba.team import Worker, bad_worker, barrier_wait
from fastrnn.backends.numba.views import bad_sizes, layer_offset_of, offset_of, sizes_of


@inlined
def without_dropout(inputs, targets, starts, state):
    """A window without dropout."""
    return Window(inputs, targets, starts, state, 1.0, Dropout(0.0, 0.0, np.int64(0), np.int64(0)))


@routine
def run_head(losses, logits, w, prepared, params, targets, here, worker, s):
    """The head at a worker's part of the rows of some steps, from row ``here`` of the window on."""
    V, H, N = s.V, s.H, s.T * s.B
    head_t, head_bias = at(prepared, offset_of(s, HEAD_T)), at(params, offset_of(s, HEAD_BIAS))
    h, own = at(w, layer_offset_of(s, s.L - 1, H_) + s.B * H), offset_of(s, LOGITS) + worker.part * ROWS * V
    end = part_start(N, worker.part + 1, worker.parts)
    for n in range(part_start(N, worker.part, worker.parts), end, ROWS):
        rows = min(ROWS, end - n)
        out = at(w, own) if exists(targets) else at(logits, (here + n) * V)
        status = linear_forward(out, at(h, n * H), head_t, head_bias, rows, H, V)
        if status == OK and exists(targets):
            status = cross_entropy(at(losses, here + n), out, out, at(targets, here + n), 1.0, rows, V)
        if status != OK:
            return status
    return OK


@routine
def forward(losses, logits, w, prepared, params, x, worker, longest):
    """The forward pass of a window, some steps at a time: losses if there are targets, else logits.

    If ``prepared`` is null, the weights are packed in the workspace.
    """
    status, B, V = bad_sizes(longest), longest.B, longest.V
    if status != OK:
        return status
    if bad_worker(worker):
        return BAD_SIZE
    N, steps = longest.T * B, min(longest.T, (KC + B - 1) // B)
    if bad_symbols(x.inputs, 0, N, V) or (exists(x.targets) and bad_symbols(x.targets, -1, N, V)):
        return BAD_SYMBOL
    weights = prepared if exists(prepared) else w
    if not exists(prepared):
        status = pack_forward(w, params, worker, longest)
        if status == OK:
            status = barrier_wait(worker)
    for t in range(0, longest.T, steps):
        s = sizes_of(longest.plan, min(steps, longest.T - t), B)
        some = without_dropout(at(x.inputs, t * B), x.targets, at(x.starts, t * B), x.state)
        if status == OK:
            status = layers_forward(w, weights, params, some, worker, s)
        if status == OK:
            status = barrier_wait(of_rows(worker, s))
        if status == OK:
            status = run_head(losses, logits, w, weights, params, x.targets, t * B, worker, s)
        if status == OK:
            status = barrier_wait(worker)  # the next steps overwrite what this head reads
    return status


@jit
def network_forward(logits, state, workspace, barrier, params, inputs, starts, plan, part, parts, T, B):
    worker = Worker(at(barrier, 0), part, parts)
    x = without_dropout(at(inputs, 0), nothing(inputs), at(starts, 0), at(state, 0))
    w, longest = at(workspace, 0), sizes_of(plan, T, B)
    return forward(no_losses(), at(logits, 0), w, nothing(params), at(params, 0), x, worker, longest)


@jit
def network_losses(
    losses, state, workspace, barrier, params, inputs, targets, starts, plan, part, parts, T, B
):
    worker = Worker(at(barrier, 0), part, parts)
    x = without_dropout(at(inputs, 0), at(targets, 0), at(starts, 0), at(state, 0))
    w, longest = at(workspace, 0), sizes_of(plan, T, B)
    return forward(at(losses, 0), nothing(params), w, nothing(params), at(params, 0), x, worker, longest)


@routine
def network_prepare(prepared, params, plan, part, parts):
    s, worker = sizes_of(plan, np.int64(1), np.int64(1)), Worker(no_barrier(), part, parts)
    status = bad_sizes(s)
    if status != OK:
        return status
    if bad_worker(worker):
        return BAD_SIZE
    return pack_forward(at(prepared, 0), at(params, 0), worker, s)


@routine
def step(logits, state, scratch, prepared, params, inputs, starts, plan, worker, B):
    """The kernel `network_step`, which takes pointers in place of arrays."""
    s = sizes_of(plan, np.int64(1), B)
    status = bad_sizes(s)
    if status != OK:
        return status
    if bad_worker(worker):
        return BAD_SIZE
    if bad_symbols(inputs, 0, B, s.V):
        return BAD_SYMBOL
    x = without_dropout(inputs, nothing(inputs), starts, state)
    status = layers_forward(scratch, prepared, params, x, worker, s)
    if status != OK:
        return status
    rowwise = of_rows(worker, s)
    first = part_start(B, rowwise.part, rowwise.parts)
    rows = part_start(B, rowwise.part + 1, rowwise.parts) - first
    h, head_bias = (
        at(scratch, layer_offset_of(s, s.L - 1, H_) + (B + first) * s.H),
        at(params, offset_of(s, HEAD_BIAS)),
    )
    head_t, out = at(prepared, offset_of(s, HEAD_T)), at(logits, first * s.V)
    sharing = of_columns(worker, s)
    matmul_part(out, head_bias, np.int64(0), h, head_t, sharing, rows, s.H, np.int64(1), s.V)
    return OK


@jit
def network_step(logits, state, scratch, barrier, prepared, params, inputs, starts, plan, part, parts, B):
    return step(
        at(logits, 0), at(state, 0), at(scratch, 0), at(prepared, 0), at(params, 0),
        at(inputs, 0), at(starts, 0), at(plan, 0), Worker(at(barrier, 0), part, parts), B,
    )  # fmt: skip


@procedure
def add_up(losses, totals, unit, T, B):
    """Convert the losses to another unit, and add them to the totals."""
    for t in range(T):
        for b in range(B):
            losses[t * B + b] /= unit
            totals[b] += losses[t * B + b]


@jit
def network_read(
    losses, totals, state, scratch, barrier, prepared, params, inputs, targets, starts, plan, unit, part,
    parts, T, B,
):  # fmt: skip
    worker = Worker(at(barrier, 0), part, parts)
    x = without_dropout(at(inputs, 0), at(targets, 0), at(starts, 0), at(state, 0))
    weights, longest = at(prepared, 0), sizes_of(plan, T, B)
    status = forward(
        at(losses, 0), nothing(params), at(scratch, 0), weights, at(params, 0), x, worker, longest
    )
    if status == OK and part == 0:  # all workers have waited at the end of the window
        add_up(at(losses, 0), at(totals, 0), unit, T, B)
    return status
