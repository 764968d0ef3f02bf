"""The forward pass of a network: over windows, and one symbol at a time."""

from __future__ import annotations

import numpy as np

from fastrnn.backends.numba.constants import H_, HEAD_BIAS, HEAD_T, KC, LOGITS, OK, ROWS
from fastrnn.backends.numba.cross_entropy import cross_entropy
from fastrnn.backends.numba.jit import inlined, jit, routine
from fastrnn.backends.numba.layers import Dropout, Window, layers_forward, pack_forward
from fastrnn.backends.numba.linear import linear_forward
from fastrnn.backends.numba.llvm import at, exists, no_losses, nothing
from fastrnn.backends.numba.team import Worker
from fastrnn.backends.numba.views import bad_sizes, layer_offset_of, offset_of, sizes_of


@inlined
def alone(like):
    """A single worker."""
    return Worker(nothing(like), np.int64(0), np.int64(1))


@inlined
def without_dropout(inputs, targets, starts, state):
    """A window without dropout."""
    return Window(inputs, targets, starts, state, 1.0, Dropout(0.0, np.int64(0), np.int64(0)))


@routine
def forward(losses, logits, w, params, x, plan, T, B):
    """The forward pass of a window, some steps at a time: losses if there are targets, else logits."""
    longest = sizes_of(plan, T, B)
    status = bad_sizes(longest)
    if status != OK:
        return status
    worker = alone(x.inputs)
    V, H, steps = longest.V, longest.H, min(T, (KC + B - 1) // B)
    head_t, head_bias = at(w, offset_of(longest, HEAD_T)), at(params, offset_of(longest, HEAD_BIAS))
    h = at(w, layer_offset_of(longest, longest.L - 1, H_) + B * H)
    pack_forward(w, params, worker, longest)
    for t in range(0, T, steps):
        s = sizes_of(plan, min(steps, T - t), B)
        some = without_dropout(at(x.inputs, t * B), x.targets, at(x.starts, t * B), x.state)
        status = layers_forward(w, w, params, some, worker, s)
        if status != OK:
            return status
        for n in range(0, s.T * B, ROWS):
            rows, here = min(ROWS, s.T * B - n), t * B + n
            out = at(w, offset_of(s, LOGITS)) if exists(x.targets) else at(logits, here * V)
            status = linear_forward(out, at(h, n * H), head_t, head_bias, rows, H, V)
            if status == OK and exists(x.targets):
                status = cross_entropy(at(losses, here), out, out, at(x.targets, here), 1.0, rows, V)
            if status != OK:
                return status
    return OK


@jit
def network_forward(logits, state, workspace, params, inputs, starts, plan, T, B):
    x = without_dropout(at(inputs, 0), nothing(inputs), at(starts, 0), at(state, 0))
    return forward(no_losses(), at(logits, 0), at(workspace, 0), at(params, 0), x, at(plan, 0), T, B)


@jit
def network_losses(losses, state, workspace, params, inputs, targets, starts, plan, T, B):
    x = without_dropout(at(inputs, 0), at(targets, 0), at(starts, 0), at(state, 0))
    return forward(at(losses, 0), nothing(params), at(workspace, 0), at(params, 0), x, at(plan, 0), T, B)


@routine
def network_prepare(prepared, params, plan):
    s = sizes_of(plan, np.int64(1), np.int64(1))
    status = bad_sizes(s)
    if status == OK:
        pack_forward(at(prepared, 0), at(params, 0), alone(plan), s)
    return status


@routine
def step(logits, state, scratch, prepared, params, inputs, starts, plan, B):
    """The kernel `network_step`, which takes pointers in place of arrays."""
    s = sizes_of(plan, np.int64(1), B)
    status = bad_sizes(s)
    if status != OK:
        return status
    x = without_dropout(inputs, nothing(inputs), starts, state)
    status = layers_forward(scratch, prepared, params, x, alone(inputs), s)
    if status != OK:
        return status
    h, head_bias = (
        at(scratch, layer_offset_of(s, s.L - 1, H_) + B * s.H),
        at(params, offset_of(s, HEAD_BIAS)),
    )
    return linear_forward(logits, h, at(prepared, offset_of(s, HEAD_T)), head_bias, B, s.H, s.V)


@jit
def network_step(logits, state, scratch, prepared, params, inputs, starts, plan, B):
    return step(
        at(logits, 0), at(state, 0), at(scratch, 0), at(prepared, 0), at(params, 0),
        at(inputs, 0), at(starts, 0), at(plan, 0), B,
    )  # fmt: skip
