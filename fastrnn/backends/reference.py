"""The kernels of ``csrc/fastrnn.h`` in NumPy, written for reading. The tests compare the other two with them.

Names, arguments and meanings are the header's, and so are the dimension letters: T time steps,
B batch rows, V vocabulary, H hidden units, N rows of a product, n elements of a flat vector. It uses
one-hot matrices, masks and array expressions where the compiled kernels use loops, so that the same
mistake in both is unlikely. In a kernel with parts, part 0 does all the work; BLAS has its own threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.backends.reference_counts import (  # noqa: F401
    count_symbols,
    index_nodes,
    keep_nodes,
    mix_losses,
    mix_probabilities,
    rank_nodes,
)
from fastrnn.core.constants import (
    ADAGRAD_EPSILON,
    ADAM_BETA1,
    ADAM_BETA2,
    ADAM_CORRECTION,
    ADAM_EPSILON,
    ADAM_KEEP,
    BAD_CHOICE,
    BAD_SIZE,
    BAD_SYMBOL,
    BATCHMEAN,
    CELL_NAMES,
    COMPLETE,
    FUNCTIONS,
    HEAD_STEPS,
    HIDDEN,
    INPUTS,
    LEARNING_RATE,
    MEAN,
    OK,
    OPTIMIZER_NAMES,
    OVERFLOW,
    RMSPROP_ALPHA,
    RMSPROP_EPSILON,
    SGD_MOMENTUM,
    SGD_OF_GRADIENT,
    SGD_OF_MOMENT,
    SUM,
    TIED,
)
from fastrnn.core.layout import Shape, parameter_layout

Reals = NDArray[np.floating[Any]]
Ids = NDArray[np.int32]
Starts = NDArray[np.uint8]


def one_hot(ids: Ids, V: int, dtype: np.dtype[Any]) -> Reals:
    """Rows (N, V) with a one at each id; the row of an id of -1 is zero."""
    rows: Reals = np.equal(ids[:, np.newaxis], np.arange(V)).astype(dtype)
    return rows


def bad_ids(ids: Ids, V: int) -> bool:
    """Whether an id is outside 0 … V-1."""
    return bool(ids.size) and not 0 <= ids.min() <= ids.max() < V


# ---- Elementary functions ----------------------------------------------------------------------------


def sigmoid(x: Reals) -> Reals:
    """1 / (1 + e⁻ˣ), without overflow."""
    e: Reals = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


ELEMENTARY: dict[str, Callable[[Reals], Reals]] = {
    "exp": np.exp,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "log": np.log,
}


def elementary(y: Reals, x: Reals, function: int, n: int) -> int:
    if n < 0:
        return BAD_SIZE
    if function not in range(len(FUNCTIONS)):
        return BAD_CHOICE
    y[:] = ELEMENTARY[FUNCTIONS[function]](x)
    return OK


# ---- Linear maps -------------------------------------------------------------------------------------


def pack(packed: Reals, weight: Reals, transposed: int, part: int, parts: int, K: int, J: int) -> int:
    if not 0 <= part < parts or min(K, J) < 1:
        return BAD_SIZE
    if part == 0:
        packed[:, :J] = weight.T if transposed else weight
    return OK


def embedding_forward(y: Reals, weight: Reals, ids: Ids, N: int, V: int, O: int) -> int:
    if min(N, V - 1, O - 1) < 0:
        return BAD_SIZE
    if np.any((ids < 0) | (ids >= V)):
        return BAD_SYMBOL
    y[:] = weight[ids]
    return OK


def embedding_gradients(
    dweight: Reals, dy: Reals, ids: Ids, part: int, parts: int, N: int, V: int, O: int
) -> int:
    if not 0 <= part < parts or min(N, V - 1, O - 1) < 0:
        return BAD_SIZE
    if np.any((ids < 0) | (ids >= V)):
        return BAD_SYMBOL
    if part == 0:
        np.add.at(dweight, ids, dy)
    return OK


def gather_forward(y: Reals, weight: Reals, bias: Reals, ids: Ids, N: int, V: int, O: int) -> int:
    if min(N, V - 1, O - 1) < 0:
        return BAD_SIZE
    if np.any((ids < 0) | (ids >= V)):
        return BAD_SYMBOL
    y[:] = one_hot(ids, V, weight.dtype) @ weight + bias
    return OK


def gather_gradients(
    dweight: Reals, dbias: Reals, dy: Reals, ids: Ids, part: int, parts: int, N: int, V: int, O: int
) -> int:
    if not 0 <= part < parts or min(N, V - 1, O - 1) < 0:
        return BAD_SIZE
    if np.any((ids < 0) | (ids >= V)):
        return BAD_SYMBOL
    if part == 0:
        dweight += one_hot(ids, V, dy.dtype).T @ dy
        dbias += dy.sum(axis=0)
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


def without(rows: Reals, starts: Starts) -> Reals:
    """The rows, zero where they start."""
    masked: Reals = np.where(starts[:, np.newaxis], 0, rows)
    return masked


def recurrent_gradients(
    dweight_hh: Reals, block: Reals, dy: Reals, h_before: Reals, starts: Starts,
    part: int, parts: int, N: int, H: int, O: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or min(N, H - 1, O - 1) < 0:
        return BAD_SIZE
    if part == 0:
        dweight_hh += dy.T @ without(h_before, starts)
    return OK


# ---- Dropout -----------------------------------------------------------------------------------------


def philox(counter: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011) of counters (…, 4): four words each, below 2³²."""
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = np.moveaxis(counter & low, -1, 0)
    k0, k1 = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (b >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            b & low,
            (a >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            a & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1)


def kept(
    dropout: float, dropout_seed: int, update: int, layer: int, rows: NDArray[np.int64], B: int, H: int
) -> NDArray[np.bool_]:
    """The mask (N, H) of the elements of some rows that dropout keeps."""
    quarter = -(-H // 4)
    counter = np.zeros((len(rows), quarter, 4), np.uint64)
    counter[..., 0] = layer * quarter + np.arange(quarter)
    counter[..., 1] = (rows % B)[:, np.newaxis]
    counter[..., 2] = (rows // B)[:, np.newaxis]
    counter[..., 3] = update
    words = np.moveaxis(philox(counter, dropout_seed), -1, 1)
    return words.reshape(len(rows), 4 * quarter)[:, :H] >= int(dropout * 2**32)


def dropout(
    y: Reals,
    x: Reals,
    dropout: float,
    dropout_seed: int,
    update: int,
    layer: int,
    first: int,
    N: int,
    B: int,
    H: int,
) -> int:
    if min(N, first, B - 1, H - 1) < 0 or not 0 <= dropout < 1:
        return BAD_SIZE
    keep = kept(dropout, dropout_seed, update, layer, np.arange(first, first + N), B, H)
    y[:] = np.where(keep, x * x.dtype.type(1 / (1 - dropout)), 0)
    return OK


# ---- Cells -------------------------------------------------------------------------------------------


def rnn_forward(
    h: Reals, masked: Reals, h_before: Reals, packed: Reals, starts: Starts, relu: int, B: int, H: int
) -> int:
    if min(B, H - 1) < 0:
        return BAD_SIZE
    x = h + without(h_before, starts) @ packed[:, :H]
    h[:] = np.maximum(x, 0) if relu else np.tanh(x)
    return OK


def rnn_backward(
    dh: Reals, dh_before: Reals, masked: Reals, h: Reals, packed: Reals, starts: Starts,
    relu: int, carried: int, B: int, H: int,
) -> int:  # fmt: skip
    if min(B, H - 1) < 0:
        return BAD_SIZE
    dh *= (h > 0) if relu else 1 - h**2
    if carried:
        dh_before += without(dh @ packed[:, :H], starts)
    return OK


def gru_forward(
    h: Reals, u: Reals, gates: Reals, masked: Reals, h_before: Reals, packed: Reals, bias_hn: Reals,
    starts: Starts, B: int, H: int,
) -> int:  # fmt: skip
    if min(B, H - 1) < 0:
        return BAD_SIZE
    before = without(h_before, starts)
    from_r, from_z, from_n = np.split(before @ packed[:, : 3 * H], 3, axis=1)
    x_r, x_z, x_n = np.split(gates, 3, axis=1)
    r, z = sigmoid(x_r + from_r), sigmoid(x_z + from_z)
    u[:] = from_n + bias_hn
    n = np.tanh(x_n + r * u)
    h[:] = (1 - z) * n + z * before
    gates[:] = np.hstack([r, z, n])
    return OK


def gru_backward(
    dh_before: Reals, gates: Reals, u: Reals, masked: Reals, dh: Reals, h_before: Reals, packed: Reals,
    starts: Starts, carried: int, B: int, H: int,
) -> int:  # fmt: skip
    if min(B, H - 1) < 0:
        return BAD_SIZE
    r, z, n = np.split(gates.copy(), 3, axis=1)
    dz = dh * (without(h_before, starts) - n) * z * (1 - z)
    dn = dh * (1 - z) * (1 - n**2)
    dr = dn * u * r * (1 - r)
    gates[:] = np.hstack([dr, dz, dn])
    u[:] = dn * r
    if carried:
        dh_before += without(dh * z + np.hstack([dr, dz, u]) @ packed[:, :H], starts)
    return OK


def gru_gradients(
    dweight_hh: Reals, dbias_hn: Reals, block: Reals, dx: Reals, du: Reals, h_before: Reals, starts: Starts,
    part: int, parts: int, N: int, H: int,
) -> int:  # fmt: skip
    if not 0 <= part < parts or min(N, H - 1) < 0:
        return BAD_SIZE
    if part == 0:
        dweight_hh += np.hstack([dx[:, : 2 * H], du]).T @ without(h_before, starts)
        dbias_hn += du.sum(axis=0)
    return OK


def lstm_forward(
    h: Reals, c: Reals, gates: Reals, masked: Reals, h_before: Reals, c_before: Reals, packed: Reals,
    starts: Starts, B: int, H: int,
) -> int:  # fmt: skip
    if min(B, H - 1) < 0:
        return BAD_SIZE
    x_i, x_f, x_g, x_o = np.split(gates + without(h_before, starts) @ packed[:, : 4 * H], 4, axis=1)
    i, f, g, o = sigmoid(x_i), sigmoid(x_f), np.tanh(x_g), sigmoid(x_o)
    c[:] = f * without(c_before, starts) + i * g
    h[:] = o * np.tanh(c)
    gates[:] = np.hstack([i, f, g, o])
    return OK


def lstm_backward(
    dh_before: Reals, dc: Reals, gates: Reals, masked: Reals, dh: Reals, c: Reals, c_before: Reals,
    packed: Reals, starts: Starts, carried: int, B: int, H: int,
) -> int:  # fmt: skip
    if min(B, H - 1) < 0:
        return BAD_SIZE
    i, f, g, o = np.split(gates.copy(), 4, axis=1)
    all_dc = dc + dh * o * (1 - np.tanh(c) ** 2)
    di, df, dg = all_dc * g, all_dc * without(c_before, starts), all_dc * i
    do = dh * np.tanh(c)
    gates[:] = np.hstack([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)])
    dc[:] = without(all_dc * f, starts)
    if carried:
        dh_before += without(gates @ packed[:, :H], starts)
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
    begin: int, end: int, n: int,
) -> int:  # fmt: skip
    if not 0 <= begin <= end <= n:
        return BAD_SIZE
    learning_rate, momentum = settings[[LEARNING_RATE, SGD_MOMENTUM]].astype(params.dtype)
    a, b = settings[[SGD_OF_GRADIENT, SGD_OF_MOMENT]].astype(params.dtype)
    p, m = params[begin:end], moments[:, begin:end]
    step = np.clip(grads[begin:end], -limit, limit) * scale
    if momentum != 0:
        m[0] = momentum * m[0] + step
        step = a * step + b * m[0]
    p -= learning_rate * step
    return OK


def adagrad_update(
    params: Reals, moments: Reals, grads: Reals, settings: Reals, limit: float, scale: float,
    begin: int, end: int, n: int,
) -> int:  # fmt: skip
    if not 0 <= begin <= end <= n:
        return BAD_SIZE
    learning_rate, epsilon = settings[[LEARNING_RATE, ADAGRAD_EPSILON]].astype(params.dtype)
    p, m, g = params[begin:end], moments[:, begin:end], np.clip(grads[begin:end], -limit, limit) * scale
    m[0] += g**2
    p -= learning_rate * g / (np.sqrt(m[0]) + epsilon)
    return OK


def adam_update(
    params: Reals, moments: Reals, grads: Reals, settings: Reals, limit: float, scale: float,
    begin: int, end: int, n: int,
) -> int:  # fmt: skip
    if not 0 <= begin <= end <= n:
        return BAD_SIZE
    beta1, beta2 = settings[[ADAM_BETA1, ADAM_BETA2]].astype(params.dtype)
    rest1, rest2 = (1 - settings[[ADAM_BETA1, ADAM_BETA2]]).astype(params.dtype)
    step, epsilon = settings[[LEARNING_RATE, ADAM_EPSILON]].astype(params.dtype)
    correction, keep = settings[[ADAM_CORRECTION, ADAM_KEEP]].astype(params.dtype)
    p, m, g = params[begin:end], moments[:, begin:end], np.clip(grads[begin:end], -limit, limit) * scale
    m[0] = beta1 * m[0] + rest1 * g
    m[1] = beta2 * m[1] + rest2 * g**2
    p *= keep
    p -= step * m[0] / (np.sqrt(m[1]) / correction + epsilon)
    return OK


def rmsprop_update(
    params: Reals, moments: Reals, grads: Reals, settings: Reals, limit: float, scale: float,
    begin: int, end: int, n: int,
) -> int:  # fmt: skip
    if not 0 <= begin <= end <= n:
        return BAD_SIZE
    learning_rate, alpha = settings[[LEARNING_RATE, RMSPROP_ALPHA]].astype(params.dtype)
    epsilon = settings[RMSPROP_EPSILON].astype(params.dtype)
    p, m, g = params[begin:end], moments[:, begin:end], np.clip(grads[begin:end], -limit, limit) * scale
    m[0] += (1 - alpha) * (g**2 - m[0])
    p -= learning_rate * g / (np.sqrt(m[0]) + epsilon)
    return OK


def average_update(average: Reals, params: Reals, weight: float, begin: int, end: int, n: int) -> int:
    if not 0 <= begin <= end <= n:
        return BAD_SIZE
    mean = average[begin:end]
    mean += weight * (params[begin:end] - mean)
    return OK


UPDATES = {"sgd": sgd_update, "adagrad": adagrad_update, "adam": adam_update, "rmsprop": rmsprop_update}


# ---- The whole network -------------------------------------------------------------------------------


def bad_plan(plan: NDArray[np.int64], *sizes: int) -> int:
    """The status of a plan, and of sizes that must be at least one."""
    kind, L, V, E, H = plan[: HIDDEN + 1].tolist()
    if kind not in range(len(CELL_NAMES)):
        return BAD_CHOICE
    return BAD_SIZE if min(L, V, H, E + 1, *sizes) < 1 else OK


def shape_of(plan: NDArray[np.int64]) -> Shape:
    """The shape of a plan's network."""
    kind, L, V, E, H = plan[: HIDDEN + 1].tolist()
    return Shape(CELL_NAMES[kind], L, V, E, H, tied=bool(plan[TIED]))


@dataclass
class LayerRun:
    """The arrays that a layer keeps from the forward pass of a window."""

    #: The input (T, B, I), or an empty array if it is one-hot.
    inputs: Reals
    #: (T+1, B, H): h and the lstm's c begin with the state before the window, the gru's u with step 0.
    h: Reals
    aux: Reals
    #: (T, B, G·H)
    gates: Reals
    #: The dropout mask, scaled (T, B, H).
    mask: Reals

    @property
    def output(self) -> Reals:
        """The output (T, B, H)."""
        return self.h[1:] * self.mask


def head_weight(w: dict[str, Reals]) -> Reals:
    """The weight of the head (V, H): if weights are tied, that of the embedding."""
    return w["head.weight"] if "head.weight" in w else w["embedding.weight"]


def dropout_mask(
    dropout: float,
    dropout_seed: int,
    update: int,
    layer: int,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
) -> Reals:
    """The dropout mask of an output (T, B, H), or of the inputs (T, B, 1), scaled."""
    T, B, H = shape
    if dropout == 0:
        return np.ones(shape, dtype)
    keep = kept(dropout, dropout_seed, update, layer, np.arange(T * B), B, H).reshape(shape)
    mask: Reals = np.where(keep, dtype.type(1 / (1 - dropout)), dtype.type(0))
    return mask


def recurrence_forward(
    shape: Shape,
    w: dict[str, Reals],
    layer: int,
    inputs: Reals,
    mask: Reals,
    state: Reals,
    ids: Ids,
    starts: Starts,
) -> LayerRun:
    """Run a layer; update the state (Z, L, B, H)."""
    T, B, H = mask.shape
    W_ih, W_hh = w[f"weight_ih_l{layer}"], w[f"weight_hh_l{layer}"].T
    gates = (inputs @ W_ih.T if inputs.size else W_ih[ids]) + w[f"bias_l{layer}"]
    after = np.zeros((T, B, H), W_hh.dtype)
    h, aux = (np.concatenate([part[layer][np.newaxis], after]) for part in (state[0], state[-1]))
    none = np.empty(0)
    for t, begins in enumerate(starts):
        if shape.kind == "lstm":
            lstm_forward(h[t + 1], aux[t + 1], gates[t], none, h[t], aux[t], W_hh, begins, B, H)
        elif shape.kind == "gru":
            bias_hn = w[f"bias_hn_l{layer}"]
            gru_forward(h[t + 1], aux[t], gates[t], none, h[t], W_hh, bias_hn, begins, B, H)
        else:
            h[t + 1] = gates[t]
            rnn_forward(h[t + 1], none, h[t], W_hh, begins, shape.kind == "rnn_relu", B, H)
    state[-1, layer], state[0, layer] = aux[-1], h[-1]
    return LayerRun(inputs, h, aux, gates, mask)


def run(
    shape: Shape, params: Reals, state: Reals, ids: Ids, starts: Starts, input_mask: Reals | None = None,
    dropout: float = 0.0, dropout_seed: int = 0, update: int = 0,
) -> tuple[list[LayerRun], Reals]:  # fmt: skip
    """Run a window: return its layers and the input of the head (T, B, H); update the state (Z, L, B, H)."""
    w = parameter_layout(shape).stored(params)
    layers: list[LayerRun] = []
    inputs = w["embedding.weight"][ids] if shape.E else np.empty(0)
    if input_mask is not None and shape.E:
        inputs = inputs * input_mask
    for layer in range(shape.L):
        mask = dropout_mask(dropout, dropout_seed, update, layer, (*ids.shape, shape.H), params.dtype)
        layers.append(recurrence_forward(shape, w, layer, inputs, mask, state, ids, starts))
        inputs = layers[-1].output
    return layers, inputs


def run_head(
    shape: Shape, params: Reals, grads: Reals | None, losses: Reals, top: Reals, targets: Ids, scale: float,
    plan: NDArray[np.int64],
) -> int:  # fmt: skip
    """Losses (T, B) from the input of the head (T, B, H), for as many steps at a time as the plan says.

    If there are gradients, those of the head's parameters are added, and the input's gradient overwrites it.
    """
    layout, (T, B, H), steps = parameter_layout(shape), top.shape, int(plan[HEAD_STEPS])
    w = layout.stored(params)
    for t in range(0, T, steps):
        some, y = top[t : t + steps].reshape(-1, H), targets[t : t + steps].ravel()
        dlogits = some @ head_weight(w).T + w["head.bias"]
        found = np.empty(len(some))
        status = cross_entropy(found, dlogits, dlogits, y, scale, len(some), shape.V)
        if status != OK:
            return status
        losses[t : t + steps] = found.reshape(-1, B)
        if grads is not None:
            d = layout.stored(grads)
            head = head_weight(d)
            head += dlogits.T @ some
            d["head.bias"] += dlogits.sum(axis=0)
            top[t : t + steps] = (dlogits @ head_weight(w)).reshape(-1, B, H)
    return OK


def recurrence_backward(
    shape: Shape,
    w: dict[str, Reals],
    d: dict[str, Reals],
    layer: int,
    run: LayerRun,
    dh: Reals,
    ids: Ids,
    starts: Starts,
) -> Reals:
    """Add the gradients of a layer's parameters, from its output's gradient; return its input's gradient."""
    T, B, H = dh.shape
    N, O, W_hh = T * B, shape.G * H, w[f"weight_hh_l{layer}"]
    dh, dc, none = dh * run.mask, np.zeros((B, H), dh.dtype), np.empty(0)
    h, aux, dgates = run.h, run.aux, run.gates
    for t in range(T - 1, -1, -1):
        carried = t > 0
        if shape.kind == "lstm":
            lstm_backward(
                dh[t - 1], dc, dgates[t], none, dh[t], aux[t + 1], aux[t], W_hh, starts[t], carried, B, H
            )
        elif shape.kind == "gru":
            gru_backward(dh[t - 1], dgates[t], aux[t], none, dh[t], h[t], W_hh, starts[t], carried, B, H)
        else:
            rnn_backward(
                dh[t], dh[t - 1], none, h[t + 1], W_hh, starts[t], shape.kind == "rnn_relu", carried, B, H
            )
            dgates[t] = dh[t]
    dx, before, begins = dgates.reshape(N, O), h[:-1].reshape(N, H), starts.reshape(N)
    if shape.kind == "gru":
        dbias_hn, du = d[f"bias_hn_l{layer}"], aux[:-1].reshape(N, H)
        gru_gradients(d[f"weight_hh_l{layer}"], dbias_hn, none, dx, du, before, begins, 0, 1, N, H)
    else:
        recurrent_gradients(d[f"weight_hh_l{layer}"], none, dx, before, begins, 0, 1, N, H, O)
    d[f"bias_l{layer}"] += dx.sum(axis=0)
    if not run.inputs.size:
        np.add.at(d["weight_ih_l0"], ids, dgates)
        return none
    d[f"weight_ih_l{layer}"] += dx.T @ run.inputs.reshape(N, -1)
    return dgates @ w[f"weight_ih_l{layer}"]


def network_forward(
    logits: Reals, state: Reals, workspace: Reals, barrier: Ids, params: Reals, inputs: Ids, starts: Starts,
    plan: NDArray[np.int64], part: int, parts: int, T: int, B: int,
) -> int:  # fmt: skip
    if bad := bad_plan(plan, T, B):
        return bad
    if not 0 <= part < parts:
        return BAD_SIZE
    known = shape_of(plan)
    if np.any((inputs < 0) | (inputs >= known.V)):
        return BAD_SYMBOL
    if part > 0:
        return OK
    w = parameter_layout(known).stored(params)
    _, top = run(known, params, state, inputs, starts)
    logits[:] = top @ head_weight(w).T + w["head.bias"]
    return OK


def network_losses(
    losses: Reals, state: Reals, workspace: Reals, barrier: Ids, params: Reals, inputs: Ids, targets: Ids,
    starts: Starts, plan: NDArray[np.int64], part: int, parts: int, T: int, B: int,
) -> int:  # fmt: skip
    if bad := bad_plan(plan, T, B):
        return bad
    if not 0 <= part < parts:
        return BAD_SIZE
    known = shape_of(plan)
    if np.any((inputs < 0) | (inputs >= known.V)):
        return BAD_SYMBOL
    if part > 0:
        return OK
    _, top = run(known, params, state, inputs, starts)
    return run_head(known, params, None, losses, top, targets, 1.0, plan)


def network_gradients(
    losses: Reals, grads: Reals, state: Reals, workspace: Reals, barrier: Ids, params: Reals,
    inputs: Ids, targets: Ids, starts: Starts, plan: NDArray[np.int64], scale: float,
    dropout: float, input_dropout: float, dropout_seed: int, update: int, part: int, parts: int, T: int,
    B: int,
) -> int:  # fmt: skip
    if bad := bad_plan(plan, T, B):
        return bad
    if not 0 <= part < parts:
        return BAD_SIZE
    known = shape_of(plan)
    if np.any((inputs < 0) | (inputs >= known.V)):
        return BAD_SYMBOL
    if part > 0:
        return OK
    grads[:] = 0
    input_mask = dropout_mask(input_dropout, dropout_seed, update, INPUTS, (T, B, 1), params.dtype)
    layers, dtop = run(known, params, state, inputs, starts, input_mask, dropout, dropout_seed, update)
    status = run_head(known, params, grads, losses, dtop, targets, scale, plan)
    if status != OK:
        return status
    w, d = (parameter_layout(known).stored(flat) for flat in (params, grads))
    for layer in range(known.L - 1, -1, -1):
        dtop = recurrence_backward(known, w, d, layer, layers[layer], dtop, inputs, starts)
    if known.E:
        np.add.at(d["embedding.weight"], inputs, dtop * input_mask)
    return OK


def gradient_scale(targets: Ids, reduction: int) -> float:
    """The factor of the sum of a window's losses."""
    counts = {SUM: 1, MEAN: np.count_nonzero(targets >= 0), BATCHMEAN: targets.shape[1]}
    return 1 / max(1, int(counts[reduction]))


def bad_ranges(ranges: NDArray[np.int64], n: int) -> bool:
    """Whether ranges are not in ascending order within n elements."""
    ends = [0, *ranges.ravel().tolist(), n]
    return ends != sorted(ends)


def is_frozen(ranges: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Whether each of n elements is outside of the ranges."""
    frozen = np.ones(n, bool)
    for begin, end in ranges.tolist():
        frozen[begin:end] = False
    return frozen


def update(
    params: Reals, moments: Reals, average: Reals, grads: Reals, settings: Reals, average_weight: float,
    ranges: NDArray[np.int64], optimizer: int, limit: float, scale: float,
) -> None:  # fmt: skip
    """An update of the ranges, each with its row of settings, and of the average if there is one."""
    of_optimizer = UPDATES[OPTIMIZER_NAMES[optimizer]]
    for row, (begin, end) in zip(settings, ranges.tolist(), strict=True):
        of_optimizer(params, moments, grads, row, limit, scale, begin, end, params.size)
        for mean in average:
            average_update(mean, params, average_weight, begin, end, params.size)


def train_windows(
    losses: Reals, norms: Reals, symbol_losses: Reals, params: Reals, grads: Reals, moments: Reals,
    average: Reals, state: Reals, workspace: Reals, barrier: Ids, inputs: Ids, targets: Ids, starts: Starts,
    settings: Reals, average_weights: Reals, ranges: NDArray[np.int64], plan: NDArray[np.int64],
    optimizer: int, reduction: int, value_limit: float, norm_limit: float, dropout: float,
    input_dropout: float, dropout_seed: int, first_update: int, first: int, part: int, parts: int, A: int,
    R: int, W: int, S: int, T: int, B: int,
) -> int:  # fmt: skip
    if bad := bad_plan(plan, T, B):
        return bad
    if not 0 <= part < parts or min(first, R, W, S - 1) < 0:
        return BAD_SIZE
    if bad_ranges(ranges, params.size):
        return BAD_SIZE
    if optimizer not in range(len(OPTIMIZER_NAMES)):
        return BAD_CHOICE
    if part > 0:
        return OK
    windows = [slice(start, min(start + T, S)) for start in range(0, S, T)]
    frozen = is_frozen(ranges, params.size)
    losses[:] = norms[:] = np.nan
    for w in range(W):
        window = windows[(first + w) % len(windows)]
        x, y, s = inputs[window], targets[window], starts[window]
        scale = gradient_scale(y, reduction)
        window_losses = symbol_losses[: len(x)]
        status = network_gradients(
            window_losses, grads, state, workspace, barrier, params, x, y, s, plan, scale,
            dropout, input_dropout, dropout_seed, first_update + w, 0, 1, len(x), B,
        )  # fmt: skip
        if status != OK:
            return status
        grads[frozen] = 0
        losses[w] = window_losses.sum()
        gradient_norm(norms[w : w + 1], grads, value_limit, grads.size)
        if not np.isfinite([losses[w], norms[w]]).all():
            return OK
        shrink = norm_limit / norms[w] if norms[w] > norm_limit else 1.0
        update(
            params, moments, average, grads, settings[w], average_weights[w], ranges, optimizer, value_limit,
            shrink,
        )  # fmt: skip
    return OK


# ---- One symbol at a time ----------------------------------------------------------------------------


def network_prepare(prepared: Reals, params: Reals, plan: NDArray[np.int64], part: int, parts: int) -> int:
    return bad_plan(plan) or (OK if 0 <= part < parts else BAD_SIZE)


def network_step(
    logits: Reals, state: Reals, scratch: Reals, barrier: Ids, prepared: Reals, params: Reals, inputs: Ids,
    starts: Starts, plan: NDArray[np.int64], part: int, parts: int, B: int,
) -> int:  # fmt: skip
    return network_forward(
        logits[np.newaxis], state, scratch, barrier, params, inputs[np.newaxis], starts[np.newaxis], plan,
        part, parts, 1, B,
    )  # fmt: skip


def network_read(
    losses: Reals, totals: Reals, state: Reals, scratch: Reals, barrier: Ids, prepared: Reals, params: Reals,
    inputs: Ids, targets: Ids, starts: Starts, plan: NDArray[np.int64], unit: float, part: int, parts: int,
    T: int, B: int,
) -> int:  # fmt: skip
    found = losses[:T]
    status = network_losses(
        found, state, scratch, barrier, params, inputs[:T], targets[:T], starts[:T], plan, part, parts, T, B
    )
    if status == OK and part == 0:
        found /= unit
        totals[:] = np.cumsum(np.concatenate([totals[np.newaxis], found]), axis=0)[-1]
    return status


def penalized(logits: Reals, symbols: Ids, penalty: float) -> Reals:
    """The logits with a penalty for these symbols."""
    seen, found = np.unique(symbols), logits.copy()
    found[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return found


def without_repeats(allowed: NDArray[np.bool_], symbols: Ids, ngram: int) -> NDArray[np.bool_]:
    """The allowed symbols that end no n-gram which is among the symbols; all that are allowed, if none is."""
    if ngram < 1 or len(symbols) < ngram:
        return allowed
    ngrams = np.lib.stride_tricks.sliding_window_view(symbols, ngram)
    same = (ngrams[:, :-1] == symbols[len(symbols) - ngram + 1 :]).all(axis=1)
    fresh = allowed.copy()
    fresh[ngrams[same, -1]] = False
    return fresh if fresh.any() else allowed


def filtered(p: Reals, top_k: int, top_p: float, min_p: float) -> Reals:
    """Weights of which the filters set some to zero; the largest is 1."""
    order = np.argsort(-p, kind="stable")[:top_k]
    if top_p < 1:
        cumulative = np.cumsum(p[order])
        order = order[: 1 + int(np.searchsorted(cumulative, top_p * cumulative[-1]))]
    found = np.zeros_like(p)
    found[order] = np.where(p[order] >= min_p, p[order], 0)
    return found


def draw(
    logits: Reals, allowed: NDArray[np.bool_], uniform: float, temperature: float, top_k: int, top_p: float,
    min_p: float,
) -> int:  # fmt: skip
    """Draw one symbol: the first of the largest logits if the temperature rounds to 0."""
    logits = np.where(allowed, logits, -np.inf)
    best, divisor = int(logits.argmax()), logits.dtype.type(temperature)
    if divisor == 0:
        return best
    p = np.where(allowed, np.exp((logits - logits[best]) / divisor), 0).astype(np.float64)
    cumulative = np.cumsum(filtered(p, top_k, top_p, min_p))
    above = cumulative > uniform * cumulative[-1]
    return int(above.argmax()) if above.any() else best


def next_symbol(
    logits: Reals, symbols: Ids, allowed: NDArray[np.bool_], uniform: float, temperature: float, top_k: int,
    top_p: float, min_p: float, penalty: float, window: int, ngram: int,
) -> int:  # fmt: skip
    """The symbol that follows those of a row, or a negated number in its place."""
    recent = symbols[max(0, len(symbols) - window) :] if window > 0 else symbols[:0]
    logits = penalized(logits, recent, penalty)
    if not np.isfinite(logits).all():
        return -OVERFLOW
    if not allowed.any():
        return -COMPLETE
    fresh = without_repeats(allowed, symbols, ngram)
    return draw(logits, fresh, uniform, temperature, top_k, top_p, min_p)


def sample(
    symbols: Ids, inputs: Ids, places: Ids, state: Reals, scratch: Reals, logits: Reals, order: Ids,
    barrier: Ids, prepared: Reals, params: Reals, uniforms: Reals, starts: Starts, transitions: Ids,
    distances: Ids, plan: NDArray[np.int64], temperature: float, top_k: int, top_p: float, min_p: float,
    penalty: float, window: int, ngram: int, stop_symbol: int, room: int, part: int, parts: int, D: int,
    Q: int, n: int, B: int,
) -> int:  # fmt: skip
    V = shape_of(plan).V
    if min(n, B - 1, D, Q) < 0 or not 0 <= part < parts:
        return BAD_SIZE
    if bad_ids(inputs, V) or bad_ids(symbols[:D], V) or bad_ids(transitions + 1, Q + 1):
        return BAD_SYMBOL
    if Q > 0 and bad_ids(places, Q):
        return BAD_SYMBOL
    rows = np.arange(B if part == 0 else 0)
    for i in range(n):
        if not rows.size:
            break
        network_step(logits, state, scratch, barrier, prepared, params, inputs, starts, plan, 0, 1, B)
        for b in rows:
            after = transitions[places[b]] if Q > 0 else np.arange(V)
            allowed = (after >= 0) & (distances[after] <= room - i - 1 if Q > 0 else True)
            symbol = next_symbol(
                logits[b], symbols[: D + i, b], allowed, uniforms[i, b], temperature, top_k, top_p, min_p,
                penalty, window, ngram,
            )  # fmt: skip
            symbols[D + i :, b] = symbol
            if symbol not in (stop_symbol, -OVERFLOW, -COMPLETE):
                inputs[b], places[b] = symbol, after[symbol] if Q > 0 else places[b]
        rows = rows[(symbols[D + i, rows] != stop_symbol) & (symbols[D + i, rows] >= 0)]
    return OK
