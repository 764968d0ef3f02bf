"""The kernels of ``csrc/fastrnn.h`` in NumPy: written to be read, and to check the other two against.

Names, arguments and meanings are the header's, and so are the dimension letters: T time steps,
B batch rows, V vocabulary, H hidden units, N rows of a product, n elements of a flat vector. It works
with one-hot matrices, masks and whole-array expressions where the compiled kernels loop, so that a
mistake is unlikely to be made twice. Of a kernel with parts, part 0 does all; BLAS has threads of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.layout import parameter_layout

OK, BAD_SIZE, BAD_SYMBOL, BAD_CHOICE = 0, 1, 2, 3
SUM, MEAN, BATCHMEAN = 0, 1, 2

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


def pack(packed: Reals, weight: Reals, transposed: int, part: int, parts: int, K: int, J: int) -> int:
    if not 0 <= part < parts or min(K, J) < 1:
        return BAD_SIZE
    if part == 0:
        packed[:, :J] = weight.T if transposed else weight
    return OK


def gather_forward(y: Reals, weight: Reals, bias: Reals, ids: Ids, N: int, V: int, O: int) -> int:
    if min(N, V - 1, O - 1) < 0:
        return BAD_SIZE
    if np.any((ids < 0) | (ids >= V)):
        return BAD_SYMBOL
    y[:] = one_hot(ids, V, weight.dtype) @ weight + bias
    return OK


def gather_gradients(
    dweight: Reals, dy: Reals, ids: Ids, part: int, parts: int, N: int, V: int, O: int
) -> int:
    if not 0 <= part < parts or min(N, V - 1, O - 1) < 0:
        return BAD_SIZE
    if np.any((ids < 0) | (ids >= V)):
        return BAD_SYMBOL
    if part == 0:
        dweight += one_hot(ids, V, dy.dtype).T @ dy
    return OK


def linear_forward(y: Reals, x: Reals, packed: Reals, bias: Reals, N: int, I: int, O: int) -> int:
    if min(N, I - 1, O - 1) < 0:
        return BAD_SIZE
    y[:] = x @ packed[:, :O] + bias
    return OK


def linear_gradients(
    dweight: Reals, dbias: Reals, block: Reals, dy: Reals, x: Reals,
    part: int, parts: int, N: int, I: int, O: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or min(N, I - 1, O - 1) < 0:
        return BAD_SIZE
    if part == 0:
        dweight += dy.T @ x
        dbias += dy.sum(axis=0)
    return OK


# ---- Cells -------------------------------------------------------------------------------------------


def without(rows: Reals, starts: Starts) -> Reals:
    """The rows, zero where they start."""
    running: Reals = np.where(starts[:, np.newaxis], 0, rows)
    return running


def rnn_forward(
    h: Reals, running: Reals, h_before: Reals, packed: Reals, starts: Starts, B: int, H: int
) -> int:
    if min(B, H - 1) < 0:
        return BAD_SIZE
    h[:] = np.tanh(h + without(h_before, starts) @ packed[:, :H])
    return OK


def rnn_backward(
    dh: Reals, dh_before: Reals, running: Reals, h: Reals, packed: Reals, starts: Starts,
    carried: int, B: int, H: int,
) -> int:  # fmt: skip
    if min(B, H - 1) < 0:
        return BAD_SIZE
    dh *= 1 - h**2
    if carried:
        dh_before += without(dh @ packed[:, :H], starts)
    return OK


def rnn_gradients(
    dweight_hh: Reals, dbias: Reals, block: Reals, dx: Reals, h_before: Reals, starts: Starts,
    part: int, parts: int, N: int, H: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or min(N, H - 1) < 0:
        return BAD_SIZE
    if part == 0:
        dweight_hh += dx.T @ without(h_before, starts)
        dbias += dx.sum(axis=0)
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


def gradient_norm(norm: Reals, grads: Reals, limit: float, n: int) -> int:
    if n < 0:
        return BAD_SIZE
    norm[0] = np.sqrt(np.sum(np.clip(grads, -limit, limit).astype(np.float64) ** 2))
    return OK


def sgd_update(
    params: Reals, moments: Reals, grads: Reals, settings: Reals, limit: float, scale: float,
    part: int, parts: int, n: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or n < 0:
        return BAD_SIZE
    if part > 0:
        return OK
    rate, momentum, a, b = settings[:4].astype(params.dtype)
    step = np.clip(grads, -limit, limit) * scale
    if momentum != 0:
        moments[0] = momentum * moments[0] + step
        step = a * step + b * moments[0]
    params -= rate * step
    return OK


def adagrad_update(
    params: Reals, moments: Reals, grads: Reals, settings: Reals, limit: float, scale: float,
    part: int, parts: int, n: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or n < 0:
        return BAD_SIZE
    if part > 0:
        return OK
    rate, epsilon = settings[:2].astype(params.dtype)
    g = np.clip(grads, -limit, limit) * scale
    moments[0] += g**2
    params -= rate * g / (np.sqrt(moments[0]) + epsilon)
    return OK


def adam_update(
    params: Reals, moments: Reals, grads: Reals, settings: Reals, limit: float, scale: float,
    part: int, parts: int, n: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or n < 0:
        return BAD_SIZE
    if part > 0:
        return OK
    step, beta1, beta2, epsilon, correction, keep = settings.astype(params.dtype)
    rest1, rest2 = (1 - settings[1:3]).astype(params.dtype)
    g = np.clip(grads, -limit, limit) * scale
    moments[0] = beta1 * moments[0] + rest1 * g
    moments[1] = beta2 * moments[1] + rest2 * g**2
    params *= keep
    params -= step * moments[0] / (np.sqrt(moments[1]) / correction + epsilon)
    return OK


def rmsprop_update(
    params: Reals, moments: Reals, grads: Reals, settings: Reals, limit: float, scale: float,
    part: int, parts: int, n: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or n < 0:
        return BAD_SIZE
    if part > 0:
        return OK
    rate, alpha, epsilon = settings[:3].astype(params.dtype)
    g = np.clip(grads, -limit, limit) * scale
    moments[0] += (1 - alpha) * (g**2 - moments[0])
    params -= rate * g / (np.sqrt(moments[0]) + epsilon)
    return OK


def average_update(average: Reals, params: Reals, weight: float, part: int, parts: int, n: int) -> int:
    if not 0 <= part < parts or n < 0:
        return BAD_SIZE
    if part == 0:
        average += weight * (params - average)
    return OK


UPDATES = (sgd_update, adagrad_update, adam_update, rmsprop_update)


# ---- The whole network -------------------------------------------------------------------------------


def run(
    params: Reals, state: Reals, inputs: Ids, starts: Starts, V: int, H: int
) -> tuple[Reals, Reals, Reals]:
    """What each step continues from (T, B, H), the states (T, B, H) and the logits (T, B, V)."""
    p = parameter_layout(V, H).stored(params)
    before, h = [], []
    for ids, begins in zip(inputs, starts, strict=True):
        before.append(without(state, begins))
        x = p["weight_ih_l0"][ids] + p["bias_l0"]
        state = np.tanh(x + before[-1] @ p["weight_hh_l0"].T)
        h.append(state)
    states = np.stack(h)
    return np.stack(before), states, states @ p["head.weight"].T + p["head.bias"]


def network_forward(
    logits: Reals, state: Reals, workspace: Reals, params: Reals, inputs: Ids, starts: Starts,
    T: int, B: int, V: int, H: int,
) -> int:  # fmt: skip
    if min(T, B, V, H) < 1:
        return BAD_SIZE
    if np.any((inputs < 0) | (inputs >= V)):
        return BAD_SYMBOL
    _, h, logits[:] = run(params, state, inputs, starts, V, H)
    state[:] = h[-1]
    return OK


def network_losses(
    losses: Reals, state: Reals, workspace: Reals, params: Reals, inputs: Ids, targets: Ids, starts: Starts,
    T: int, B: int, V: int, H: int,
) -> int:  # fmt: skip
    if min(T, B, V, H) < 1:
        return BAD_SIZE
    logits = np.empty((T, B, V), params.dtype)
    status = network_forward(logits, state, workspace, params, inputs, starts, T, B, V, H)
    if status != OK:
        return status
    rows = logits.reshape(T * B, V)
    return cross_entropy(losses.reshape(-1), rows, rows, targets.ravel(), 1.0, T * B, V)


def network_gradients(
    losses: Reals, grads: Reals, state: Reals, workspace: Reals, sync: Ids, params: Reals,
    inputs: Ids, targets: Ids, starts: Starts, scale: float,
    part: int, parts: int, T: int, B: int, V: int, H: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or min(T, B, V, H) < 1:
        return BAD_SIZE
    if np.any((inputs < 0) | (inputs >= V)):
        return BAD_SYMBOL
    if part > 0:
        return OK
    N = T * B
    p, d = (parameter_layout(V, H).stored(flat) for flat in (params, grads))
    before, h, logits = run(params, state, inputs, starts, V, H)
    dlogits = logits.reshape(N, V)
    status = cross_entropy(losses.reshape(N), dlogits, dlogits, targets.ravel(), scale, N, V)
    if status != OK:
        return status
    state[:] = h[-1]
    dh = (dlogits @ p["head.weight"]).reshape(T, B, H)
    dx = np.zeros_like(dh)
    carried = np.zeros((B, H), dh.dtype)
    for t in range(T - 1, -1, -1):
        dx[t] = (1 - h[t] ** 2) * (dh[t] + carried)
        carried = without(dx[t] @ p["weight_hh_l0"], starts[t])
    d["head.weight"][:] = dlogits.T @ h.reshape(N, H)
    d["head.bias"][:] = dlogits.sum(axis=0)
    d["weight_hh_l0"][:] = dx.reshape(N, H).T @ before.reshape(N, H)
    d["bias_l0"][:] = dx.sum(axis=(0, 1))
    d["weight_ih_l0"][:] = one_hot(inputs.ravel(), V, dx.dtype).T @ dx.reshape(N, H)
    return OK


def gradient_scale(targets: Ids, reduction: int) -> float:
    """What the sum of a window's losses is multiplied by."""
    counts = {SUM: 1, MEAN: np.count_nonzero(targets >= 0), BATCHMEAN: targets.shape[1]}
    return 1 / max(1, int(counts[reduction]))


def train_windows(
    losses: Reals, norms: Reals, symbol_losses: Reals, params: Reals, grads: Reals, moments: Reals,
    state: Reals, workspace: Reals, sync: Ids, inputs: Ids, targets: Ids, starts: Starts, settings: Reals,
    optimizer: int, reduction: int, value_limit: float, norm_limit: float, first: int,
    part: int, parts: int, W: int, S: int, T: int, B: int, V: int, H: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or min(first, W, S - 1, T - 1, B - 1, V - 1, H - 1) < 0:
        return BAD_SIZE
    if optimizer not in range(len(UPDATES)):
        return BAD_CHOICE
    if part > 0:
        return OK
    windows = [slice(start, min(start + T, S)) for start in range(0, S, T)]
    losses[:] = norms[:] = np.nan
    for w in range(W):
        window = windows[(first + w) % len(windows)]
        x, y, s = inputs[window], targets[window], starts[window]
        scale = gradient_scale(y, reduction)
        window_losses = symbol_losses[: len(x)]
        status = network_gradients(
            window_losses, grads, state, workspace, sync, params, x, y, s, scale, 0, 1, len(x), B, V, H
        )
        if status != OK:
            return status
        losses[w] = window_losses.sum()
        gradient_norm(norms[w : w + 1], grads, value_limit, grads.size)
        if not np.isfinite([losses[w], norms[w]]).all():
            return OK
        shrink = norm_limit / norms[w] if norms[w] > norm_limit else 1.0
        UPDATES[optimizer](params, moments, grads, settings[w], value_limit, shrink, 0, 1, params.size)
    return OK


# ---- One symbol at a time ----------------------------------------------------------------------------


def network_prepare(prepared: Reals, params: Reals, V: int, H: int) -> int:
    return OK if min(V, H) > 0 else BAD_SIZE


def network_step(
    logits: Reals, state: Reals, scratch: Reals, prepared: Reals, params: Reals, inputs: Ids, starts: Starts,
    B: int, V: int, H: int,
) -> int:  # fmt: skip
    no_workspace = np.empty(0, params.dtype)
    return network_forward(
        logits[np.newaxis], state, no_workspace, params, inputs[np.newaxis], starts[np.newaxis], 1, B, V, H
    )


def draw(logits: Reals, uniform: float, temperature: float) -> int:
    """One id."""
    if temperature == 0:
        return int(logits.argmax())
    p = np.exp((logits - logits.max()) / logits.dtype.type(temperature)).astype(np.float64)
    return int(np.argmax(np.cumsum(p) > uniform * p.sum()))


def sample(
    symbols: Ids, state: Reals, scratch: Reals, logits: Reals, prepared: Reals, params: Reals,
    uniforms: Reals, starts: Starts, temperature: float, symbol_before: int, last: int,
    n: int, V: int, H: int,
) -> int:  # fmt: skip
    if min(n, V - 1, H - 1) < 0:
        return BAD_SIZE
    if not 0 <= symbol_before < V:
        return BAD_SYMBOL
    symbols[:] = last
    ids = np.array([symbol_before], np.int32)
    for i in range(n):
        network_step(logits, state, scratch, prepared, params, ids, starts, 1, V, H)
        symbols[i] = ids[0] = draw(logits[0], uniforms[i], temperature)
        if ids[0] == last:
            break
    return OK
