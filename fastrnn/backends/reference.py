"""The kernels of ``csrc/fastrnn.h`` in NumPy: written to be read, and to check the other two against.

Names, arguments and meanings are the header's, and so are the dimension letters: T time steps,
B batch rows, V vocabulary, H hidden units, N rows of a product, n elements of a flat vector. It works
with one-hot matrices, masks and whole-array expressions where the compiled kernels loop, so that a
mistake is unlikely to be made twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.layout import parameter_layout, workspace_layout

OK, BAD_SIZE, BAD_SYMBOL, BAD_CHOICE = 0, 1, 2, 3

Reals = NDArray[np.floating[Any]]
Ids = NDArray[np.int32]
Starts = NDArray[np.uint8]


def one_hot(ids: Ids, V: int, dtype: np.dtype[Any]) -> Reals:
    """Rows (N, V) with a one at each id, and no one at an id of -1."""
    rows: Reals = np.equal(ids[:, np.newaxis], np.arange(V)).astype(dtype)
    return rows


# ---- Elementary functions ----------------------------------------------------------------------------


def sigmoid(x: Reals) -> Reals:
    """1 / (1 + e⁻ˣ), without overflow."""
    e: Reals = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


ELEMENTARY = (np.exp, np.tanh, sigmoid, np.log)


def elementary(y: Reals, x: Reals, function: int, n: int) -> int:
    if n < 0:
        return BAD_SIZE
    if function not in range(len(ELEMENTARY)):
        return BAD_CHOICE
    y[:] = ELEMENTARY[function](x)
    return OK


# ---- Linear maps -------------------------------------------------------------------------------------


def gather_forward(y: Reals, weight: Reals, bias: Reals, ids: Ids, N: int, V: int, O: int) -> int:
    if min(N, V - 1, O - 1) < 0:
        return BAD_SIZE
    if np.any((ids < 0) | (ids >= V)):
        return BAD_SYMBOL
    y[:] = one_hot(ids, V, weight.dtype) @ weight + bias
    return OK


def gather_gradients(dweight: Reals, dy: Reals, ids: Ids, N: int, V: int, O: int) -> int:
    if min(N, V - 1, O - 1) < 0:
        return BAD_SIZE
    if np.any((ids < 0) | (ids >= V)):
        return BAD_SYMBOL
    dweight += one_hot(ids, V, dy.dtype).T @ dy
    return OK


def linear_forward(
    y: Reals, packed: Reals, x: Reals, weight: Reals, bias: Reals, N: int, I: int, O: int
) -> int:
    if min(N, I - 1, O - 1) < 0:
        return BAD_SIZE
    y[:] = x @ weight.T + bias
    return OK


def linear_backward(dx: Reals, packed: Reals, dy: Reals, weight: Reals, N: int, I: int, O: int) -> int:
    if min(N, I - 1, O - 1) < 0:
        return BAD_SIZE
    dx[:] = dy @ weight
    return OK


def linear_gradients(
    dweight: Reals, dbias: Reals, packed: Reals, dy: Reals, x: Reals, N: int, I: int, O: int
) -> int:
    if min(N, I - 1, O - 1) < 0:
        return BAD_SIZE
    dweight += dy.T @ x
    dbias += dy.sum(axis=0)
    return OK


# ---- Cells -------------------------------------------------------------------------------------------


def rnn_forward(
    h: Reals, h_prev: Reals, state: Reals, packed: Reals, weight_hh: Reals, starts: Starts,
    T: int, B: int, H: int,
) -> int:  # fmt: skip
    if min(T, B, H) < 1:
        return BAD_SIZE
    running = 1 - starts[:, :, np.newaxis]
    for t in range(T):
        h_prev[t] = np.where(running[t], h[t - 1] if t > 0 else state, 0)
        h[t] = np.tanh(h[t] + h_prev[t] @ weight_hh.T)
    state[:] = h[-1]
    return OK


def rnn_backward(
    dh: Reals, carry: Reals, packed: Reals, h: Reals, weight_hh: Reals, starts: Starts, T: int, B: int, H: int
) -> int:
    if min(T, B, H) < 1:
        return BAD_SIZE
    running = 1 - starts[:, :, np.newaxis]
    dtanh = 1 - h**2
    dh[-1] *= dtanh[-1]
    for t in range(T - 2, -1, -1):
        dh[t] = dtanh[t] * (dh[t] + np.where(running[t + 1], dh[t + 1] @ weight_hh, 0))
    return OK


# ---- Head --------------------------------------------------------------------------------------------


def cross_entropy(
    losses: Reals, dlogits: Reals, logits: Reals, targets: Ids, scale: float, N: int, V: int
) -> int:
    if min(N, V - 1) < 0:
        return BAD_SIZE
    if np.any((targets < -1) | (targets >= V)):
        return BAD_SYMBOL
    has_target = targets >= 0
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses[:] = np.where(has_target, -log_p[np.arange(N), targets], 0)
    dlogits[:] = (np.exp(log_p) - one_hot(targets, V, logits.dtype)) * scale
    dlogits[~has_target] = 0
    return OK


# ---- Clipping and updates ----------------------------------------------------------------------------


def clip_value(grads: Reals, limit: float, n: int) -> int:
    if n < 0:
        return BAD_SIZE
    np.clip(grads, -limit, limit, out=grads)
    return OK


def clip_norm(norm: Reals, grads: Reals, limit: float, n: int) -> int:
    if n < 0:
        return BAD_SIZE
    norm[0] = np.sqrt(np.sum(grads.astype(np.float64) ** 2))
    if norm[0] > limit:
        grads *= limit / norm[0]
    return OK


def sgd_update(params: Reals, moments: Reals, grads: Reals, settings: Reals, n: int) -> int:
    if n < 0:
        return BAD_SIZE
    (rate,) = settings[:1].astype(params.dtype)
    params -= rate * grads
    return OK


def adagrad_update(params: Reals, moments: Reals, grads: Reals, settings: Reals, n: int) -> int:
    if n < 0:
        return BAD_SIZE
    rate, epsilon = settings[:2].astype(params.dtype)
    moments[0] += grads**2
    params -= rate * grads / (np.sqrt(moments[0]) + epsilon)
    return OK


def adam_update(params: Reals, moments: Reals, grads: Reals, settings: Reals, n: int) -> int:
    if n < 0:
        return BAD_SIZE
    step, beta1, beta2, epsilon, correction = settings.astype(params.dtype)
    rest1, rest2 = (1 - settings[1:3]).astype(params.dtype)
    moments[0] = beta1 * moments[0] + rest1 * grads
    moments[1] = beta2 * moments[1] + rest2 * grads**2
    params -= step * moments[0] / (np.sqrt(moments[1]) / correction + epsilon)
    return OK


UPDATES = (sgd_update, adagrad_update, adam_update)


# ---- The whole network -------------------------------------------------------------------------------


def network_forward(
    state: Reals, workspace: Reals, params: Reals, inputs: Ids, starts: Starts,
    T: int, B: int, V: int, H: int,
) -> int:  # fmt: skip
    if min(T, B, V, H) < 1:
        return BAD_SIZE
    p = parameter_layout(V, H).stored(params)
    w = workspace_layout(T, B, V, H).stored(workspace)
    rows = w["h"].reshape(T * B, H)
    status = gather_forward(rows, p["weight_ih_l0"], p["bias_l0"], inputs.ravel(), T * B, V, H)
    if status != OK:
        return status
    rnn_forward(w["h"], w["h_prev"], state, w["packed"], p["weight_hh_l0"], starts, T, B, H)
    logits = w["logits"].reshape(T * B, V)
    return linear_forward(logits, w["packed"], rows, p["head.weight"], p["head.bias"], T * B, H, V)


def network_backward(
    losses: Reals, grads: Reals, workspace: Reals, params: Reals, inputs: Ids, targets: Ids, starts: Starts,
    scale: float, T: int, B: int, V: int, H: int,
) -> int:  # fmt: skip
    if min(T, B, V, H) < 1:
        return BAD_SIZE
    N = T * B
    p, d = (parameter_layout(V, H).stored(flat) for flat in (params, grads))
    w = workspace_layout(T, B, V, H).stored(workspace)
    h, h_prev, dh = (w[name].reshape(N, H) for name in ("h", "h_prev", "dh"))
    dlogits = w["logits"].reshape(N, V)
    status = cross_entropy(losses.reshape(N), dlogits, dlogits, targets.ravel(), scale, N, V)
    if status != OK:
        return status
    linear_backward(dh, w["packed"], dlogits, p["head.weight"], N, H, V)
    linear_gradients(d["head.weight"], d["head.bias"], w["packed"], dlogits, h, N, H, V)
    rnn_backward(w["dh"], w["carry"], w["packed"], w["h"], p["weight_hh_l0"], starts, T, B, H)
    linear_gradients(d["weight_hh_l0"], d["bias_l0"], w["packed"], dh, h_prev, N, H, H)
    return gather_gradients(d["weight_ih_l0"], dh, inputs.ravel(), N, V, H)


def train_windows(
    losses: Reals, norms: Reals, symbol_losses: Reals, params: Reals, grads: Reals, moments: Reals,
    state: Reals, workspace: Reals, inputs: Ids, targets: Ids, starts: Starts, settings: Reals,
    optimizer: int, mean: int, value_limit: float, norm_limit: float, first: int,
    W: int, S: int, T: int, B: int, V: int, H: int,
) -> int:  # fmt: skip
    if min(first, W, S - 1, T - 1, B - 1, V - 1, H - 1) < 0:
        return BAD_SIZE
    if optimizer not in range(len(UPDATES)):
        return BAD_CHOICE
    windows = [slice(start, min(start + T, S)) for start in range(0, S, T)]
    losses[:] = norms[:] = np.nan
    for w in range(W):
        window = windows[(first + w) % len(windows)]
        x, y, s = inputs[window], targets[window], starts[window]
        scale = 1 / max(1, int(np.count_nonzero(y >= 0))) if mean else 1.0
        grads[:] = 0
        status = network_forward(state, workspace, params, x, s, len(x), B, V, H)
        if status != OK:
            return status
        window_losses = symbol_losses[: len(x)]
        status = network_backward(window_losses, grads, workspace, params, x, y, s, scale, len(x), B, V, H)
        if status != OK:
            return status
        losses[w] = window_losses.sum()
        clip_value(grads, value_limit, grads.size)
        clip_norm(norms[w : w + 1], grads, norm_limit, grads.size)
        if not np.isfinite([losses[w], norms[w]]).all():
            return OK
        UPDATES[optimizer](params, moments, grads, settings[w], params.size)
    return OK
