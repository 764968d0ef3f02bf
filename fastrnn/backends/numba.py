"""The kernels of ``csrc/fastrnn.h``, compiled by Numba.

Names, arguments and meanings are the header's, and so are the dimension letters: T time steps,
B batch rows, V vocabulary, H hidden units, N rows of a product, n elements of a flat vector. A kernel
is compiled when it is first called, for the precision that it is called with, and is cached on disk
where a writable place is found. All of them stand in this one module because Numba's cache does not
notice a change in another file.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, cast

import llvmlite.binding
import numba
import numpy as np
from numba.core import types
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

logger = logging.getLogger("fastrnn")

OK, BAD_SIZE, BAD_SYMBOL, BAD_CHOICE = 0, 1, 2, 3
SGD, ADAGRAD, ADAM = 0, 1, 2


class ForgivingCache(FunctionCache):
    """Numba's cache on disk, without which fastrnn does where it is damaged, full or out of reach."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a compiled kernel, or ``None``: then it is compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            logger.warning("Numba's cache cannot be read: %s", self.cache_path, exc_info=True)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, if possible."""
        try:
            super().save_overload(sig, data)
        except Exception:
            logger.warning("Numba's cache cannot be written: %s", self.cache_path, exc_info=True)


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the GIL and without exceptions, with a cache where one can be written."""
    compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
    try:
        compiled._cache = ForgivingCache(function)  # noqa: SLF001  (what cache=True does)
    except RuntimeError:  # "cannot cache function …: no locator available"
        logger.info("Numba finds no place for its cache")
    return cast("Callable[..., Any]", compiled)


def processor() -> tuple[int, bool]:
    """The widest vectors, in bits, that the processor has (0: not known), and whether it fuses."""
    features = llvmlite.binding.get_host_cpu_features()
    widths = {"avx512f": 512, "avx": 256, "sse2": 128, "neon": 128}
    bits = max((width for name, width in widths.items() if features.get(name)), default=0)
    return bits, bool(features.get("fma") or features.get("neon"))


@intrinsic
def fma(typing_context, a, b, c):
    """``a * b + c`` in one rounding, for three scalars of one precision."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def emit(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return a(a, a, a), emit


# ---- The matrix product ------------------------------------------------------------------------------


@jit
def rows_add_4(C, A, B, i, k):
    """Add four columns of A times four rows of B to four rows of C, from row i and column k."""
    a00, a01, a02, a03 = A[i, k], A[i, k + 1], A[i, k + 2], A[i, k + 3]
    a10, a11, a12, a13 = A[i + 1, k], A[i + 1, k + 1], A[i + 1, k + 2], A[i + 1, k + 3]
    a20, a21, a22, a23 = A[i + 2, k], A[i + 2, k + 1], A[i + 2, k + 2], A[i + 2, k + 3]
    a30, a31, a32, a33 = A[i + 3, k], A[i + 3, k + 1], A[i + 3, k + 2], A[i + 3, k + 3]
    c0, c1, c2, c3 = C[i], C[i + 1], C[i + 2], C[i + 3]
    b0, b1, b2, b3 = B[k], B[k + 1], B[k + 2], B[k + 3]
    for j in range(C.shape[1]):
        x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
        c0[j] = fma(a03, x3, fma(a02, x2, fma(a01, x1, fma(a00, x0, c0[j]))))
        c1[j] = fma(a13, x3, fma(a12, x2, fma(a11, x1, fma(a10, x0, c1[j]))))
        c2[j] = fma(a23, x3, fma(a22, x2, fma(a21, x1, fma(a20, x0, c2[j]))))
        c3[j] = fma(a33, x3, fma(a32, x2, fma(a31, x1, fma(a30, x0, c3[j]))))


@jit
def row_add_4(c, a, B, k):
    """Add four elements of the row a times four rows of B to the row c, from column k."""
    a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
    b0, b1, b2, b3 = B[k], B[k + 1], B[k + 2], B[k + 3]
    for j in range(c.shape[0]):
        c[j] = fma(a3, b3[j], fma(a2, b2[j], fma(a1, b1[j], fma(a0, b0[j], c[j]))))


@jit
def matmul_add(C, A, B):
    """C (I, J) += A (I, K) B (K, J), each element one chain of multiply-adds over k ascending."""
    rows, inner = A.shape
    whole = inner - inner % 4
    i = 0
    while i + 4 <= rows:
        for k in range(0, whole, 4):
            rows_add_4(C, A, B, i, k)
        i += 4
    while i < rows:
        for k in range(0, whole, 4):
            row_add_4(C[i], A[i], B, k)
        i += 1
    for i in range(rows):
        for k in range(whole, inner):
            for j in range(C.shape[1]):
                C[i, j] = fma(A[i, k], B[k, j], C[i, j])


@jit
def transpose(out, a):
    """Set out (J, I) to aᵀ, for a (I, J)."""
    for j in range(a.shape[1]):
        for i in range(a.shape[0]):
            out[j, i] = a[i, j]


# ---- Linear maps -------------------------------------------------------------------------------------


@jit
def gather_forward(y, weight, bias, ids, N, V, O):
    if N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        for o in range(O):
            y[n, o] = weight[v, o] + bias[o]
    return OK


@jit
def gather_gradients(dweight, dy, ids, N, V, O):
    if N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        for o in range(O):
            dweight[v, o] += dy[n, o]
    return OK


@jit
def linear_forward(y, packed, x, weight, bias, N, I, O):
    if N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    transpose(packed, weight)
    for n in range(N):
        for o in range(O):
            y[n, o] = bias[o]
    matmul_add(y, x, packed)
    return OK


@jit
def linear_backward(dx, dy, weight, N, I, O):
    if N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    dx[:] = 0
    matmul_add(dx, dy, weight)
    return OK


@jit
def linear_gradients(dweight, dbias, dy, x, N, I, O):
    if N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    matmul_add(dweight, dy.T, x)
    for n in range(N):
        for o in range(O):
            dbias[o] += dy[n, o]
    return OK


# ---- Cells -------------------------------------------------------------------------------------------


@jit
def rnn_forward(h, h_prev, state, packed, weight_hh, starts, T, B, H):
    if T < 1 or B < 1 or H < 1:
        return BAD_SIZE
    transpose(packed, weight_hh)
    for t in range(T):
        before = state if t == 0 else h[t - 1]
        for b in range(B):
            running = starts[t, b] == 0
            for i in range(H):
                h_prev[t, b, i] = before[b, i] if running else 0
        matmul_add(h[t], h_prev[t], packed)
        for b in range(B):
            for i in range(H):
                h[t, b, i] = math.tanh(h[t, b, i])
    state[:] = h[T - 1]
    return OK


@jit
def rnn_backward(dh, carry, h, weight_hh, starts, T, B, H):
    if T < 1 or B < 1 or H < 1:
        return BAD_SIZE
    one = h.dtype.type(1)
    carry[:] = 0
    for t in range(T - 1, -1, -1):
        for b in range(B):
            for i in range(H):
                dh[t, b, i] = (one - h[t, b, i] * h[t, b, i]) * (dh[t, b, i] + carry[b, i])
        if t > 0:
            carry[:] = 0
            matmul_add(carry, dh[t], weight_hh)
        for b in range(B):
            if starts[t, b] != 0:
                carry[b] = 0
    return OK


# ---- Head --------------------------------------------------------------------------------------------


@jit
def cross_entropy(losses, dlogits, logits, targets, scale, N, V):
    if N < 0 or V < 1:
        return BAD_SIZE
    real_scale = logits.dtype.type(scale)
    for n in range(N):
        target = targets[n]
        if target < -1 or target >= V:
            return BAD_SYMBOL
        if target == -1:
            losses[n] = 0
            dlogits[n] = 0
            continue
        most = logits[n, 0]
        for v in range(1, V):
            most = max(most, logits[n, v])
        target_logit = logits[n, target] - most
        total = logits.dtype.type(0)
        for v in range(V):
            e = math.exp(logits[n, v] - most)
            dlogits[n, v] = e
            total += e
        losses[n] = math.log(total) - target_logit
        over_total = real_scale / total
        for v in range(V):
            dlogits[n, v] *= over_total
        dlogits[n, target] -= real_scale
    return OK


# ---- Clipping and updates ----------------------------------------------------------------------------


@jit
def clip_value(grads, limit, n):
    if n < 0:
        return BAD_SIZE
    high = grads.dtype.type(limit)
    for i in range(n):
        g = grads[i]
        grads[i] = high if g > high else (max(g, -high))
    return OK


@jit
def clip_norm(norm, grads, limit, n):
    if n < 0:
        return BAD_SIZE
    total = 0.0
    for i in range(n):
        g = np.float64(grads[i])
        total += g * g
    norm[0] = math.sqrt(total)
    if norm[0] > limit:
        scale = grads.dtype.type(limit / norm[0])
        for i in range(n):
            grads[i] *= scale
    return OK


@jit
def sgd_update(params, moments, grads, settings, n):
    if n < 0:
        return BAD_SIZE
    rate = params.dtype.type(settings[0])
    for i in range(n):
        params[i] -= rate * grads[i]
    return OK


@jit
def adagrad_update(params, moments, grads, settings, n):
    if n < 0:
        return BAD_SIZE
    real = params.dtype.type
    rate, epsilon = real(settings[0]), real(settings[1])
    m = moments[0]
    for i in range(n):
        m[i] += grads[i] * grads[i]
        params[i] -= rate * grads[i] / (math.sqrt(m[i]) + epsilon)
    return OK


@jit
def adam_update(params, moments, grads, settings, n):
    if n < 0:
        return BAD_SIZE
    real = params.dtype.type
    step, beta1, beta2 = real(settings[0]), real(settings[1]), real(settings[2])
    rest1, rest2 = real(1 - settings[1]), real(1 - settings[2])
    epsilon, correction = real(settings[3]), real(settings[4])
    m, v = moments[0], moments[1]
    for i in range(n):
        g = grads[i]
        m[i] = beta1 * m[i] + rest1 * g
        v[i] = beta2 * v[i] + rest2 * g * g
        params[i] -= step * m[i] / (math.sqrt(v[i]) / correction + epsilon)
    return OK


# ---- The whole network -------------------------------------------------------------------------------


@jit
def split_parameters(flat, V, H):
    """Views of weight_ih (V, H), weight_hh (H, H), bias (H), head weight (V, H) and head bias (V)."""
    hh = V * H
    bias = hh + H * H
    head = bias + H
    head_bias = head + V * H
    return (
        flat[:hh].reshape((V, H)),
        flat[hh:bias].reshape((H, H)),
        flat[bias:head],
        flat[head:head_bias].reshape((V, H)),
        flat[head_bias : head_bias + V],
    )


@jit
def split_workspace(flat, T, B, V, H):
    """Views of h, h_prev, dh (T, B, H), logits (T, B, V), carry (B, H) and packed (H · max(H, V))."""
    size = T * B * H
    logits = 3 * size
    carry = logits + T * B * V
    packed = carry + B * H
    return (
        flat[:size].reshape((T, B, H)),
        flat[size : 2 * size].reshape((T, B, H)),
        flat[2 * size : logits].reshape((T, B, H)),
        flat[logits:carry].reshape((T, B, V)),
        flat[carry:packed].reshape((B, H)),
        flat[packed:],
    )


@jit
def network_forward(state, workspace, params, inputs, starts, T, B, V, H):
    if T < 1 or B < 1 or V < 1 or H < 1:
        return BAD_SIZE
    weight_ih, weight_hh, bias, head_weight, head_bias = split_parameters(params, V, H)
    h, h_prev, dh, logits, carry, packed = split_workspace(workspace, T, B, V, H)
    N = T * B
    status = gather_forward(h.reshape((N, H)), weight_ih, bias, inputs.reshape(N), N, V, H)
    if status != OK:
        return status
    packed_hh = packed[: H * H].reshape((H, H))
    status = rnn_forward(h, h_prev, state, packed_hh, weight_hh, starts, T, B, H)
    if status != OK:
        return status
    packed_head = packed[: H * V].reshape((H, V))
    return linear_forward(
        logits.reshape((N, V)), packed_head, h.reshape((N, H)), head_weight, head_bias, N, H, V
    )


@jit
def network_backward(losses, grads, workspace, params, inputs, targets, starts, scale, T, B, V, H):
    if T < 1 or B < 1 or V < 1 or H < 1:
        return BAD_SIZE
    weight_ih, weight_hh, bias, head_weight, head_bias = split_parameters(params, V, H)
    dweight_ih, dweight_hh, dbias, dhead_weight, dhead_bias = split_parameters(grads, V, H)
    h, h_prev, dh, logits, carry, packed = split_workspace(workspace, T, B, V, H)
    N = T * B
    rows, drows = h.reshape((N, H)), dh.reshape((N, H))
    dlogits = logits.reshape((N, V))
    status = cross_entropy(losses.reshape(N), dlogits, dlogits, targets.reshape(N), scale, N, V)
    if status != OK:
        return status
    linear_backward(drows, dlogits, head_weight, N, H, V)
    linear_gradients(dhead_weight, dhead_bias, dlogits, rows, N, H, V)
    rnn_backward(dh, carry, h, weight_hh, starts, T, B, H)
    linear_gradients(dweight_hh, dbias, drows, h_prev.reshape((N, H)), N, H, H)
    return gather_gradients(dweight_ih, drows, inputs.reshape(N), N, V, H)


@jit
def gradient_scale(targets, mean):
    """One over the number of targets, or 1 for a sum or for a window without targets."""
    count = 0
    for target in targets.flat:
        count += target >= 0
    return 1.0 / count if mean and count > 0 else 1.0


@jit
def update(params, moments, grads, settings, optimizer, n):
    if optimizer == SGD:
        return sgd_update(params, moments, grads, settings, n)
    if optimizer == ADAGRAD:
        return adagrad_update(params, moments, grads, settings, n)
    if optimizer == ADAM:
        return adam_update(params, moments, grads, settings, n)
    return BAD_CHOICE


@jit
def train_windows(
    losses, norms, symbol_losses, params, grads, moments, state, workspace, inputs, targets, starts,
    settings, optimizer, mean, value_limit, norm_limit, first, W, S, T, B, V, H,
):  # fmt: skip
    if first < 0 or W < 0 or S < 1 or T < 1 or B < 1 or V < 1 or H < 1:
        return BAD_SIZE
    n = params.shape[0]
    windows = (S + T - 1) // T
    losses[:] = np.nan
    norms[:] = np.nan
    for w in range(W):
        start = (first + w) % windows * T
        steps = min(T, S - start)
        x, y, s = inputs[start : start + steps], targets[start : start + steps], starts[start : start + steps]
        grads[:] = 0
        status = network_forward(state, workspace, params, x, s, steps, B, V, H)
        if status != OK:
            return status
        status = network_backward(
            symbol_losses[:steps], grads, workspace, params, x, y, s, gradient_scale(y, mean), steps, B, V, H
        )
        if status != OK:
            return status
        losses[w] = 0
        for loss in symbol_losses[:steps].flat:
            losses[w] += loss
        clip_value(grads, value_limit, n)
        clip_norm(norms[w : w + 1], grads, norm_limit, n)
        if not (math.isfinite(losses[w]) and math.isfinite(norms[w])):
            return OK
        status = update(params, moments, grads, settings[w], optimizer, n)
        if status != OK:
            return status
    return OK
