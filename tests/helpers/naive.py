"""An independent implementation of the equations, with one symbol and one column vector at a time.

It shares no code with fastrnn except the table of cells, and has no batches and no flat buffers. It is slow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn.core.cells import KINDS

NAMES = ("weight_ih_l0", "weight_hh_l0", "head.weight", "bias_l0", "head.bias")

Weights = dict[str, np.ndarray]


def draw_weights(rng: np.random.RandomState, V: int, H: int) -> Weights:
    """The seed's weights: W_xh, W_hh, W_hy drawn in this order, times 0.01; no biases."""
    return {
        "weight_ih_l0": rng.randn(H, V) * 0.01,
        "weight_hh_l0": rng.randn(H, H) * 0.01,
        "head.weight": rng.randn(V, H) * 0.01,
        "bias_l0": np.zeros(H),
        "head.bias": np.zeros(V),
    }


def loss_and_gradients(
    w: Weights, inputs: list[int], targets: list[int], h: np.ndarray
) -> tuple[float, Weights, np.ndarray]:
    """The loss of one row's window, its gradients and the state after it."""
    hs, ps, loss = [h], [], 0.0
    for x, y in zip(inputs, targets, strict=True):
        h = np.tanh(w["weight_ih_l0"][:, x] + w["weight_hh_l0"] @ h + w["bias_l0"])
        logits = w["head.weight"] @ h + w["head.bias"]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        loss -= np.log(p[y])
        hs.append(h)
        ps.append(p)
    d = {name: np.zeros_like(w[name]) for name in NAMES}
    dh_next = np.zeros_like(h)
    for t in reversed(range(len(inputs))):
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        d["head.weight"] += np.outer(dy, hs[t + 1])
        d["head.bias"] += dy
        dh = w["head.weight"].T @ dy + dh_next
        draw = (1 - hs[t + 1] ** 2) * dh
        d["bias_l0"] += draw
        d["weight_ih_l0"][:, inputs[t]] += draw
        d["weight_hh_l0"] += np.outer(draw, hs[t])
        dh_next = w["weight_hh_l0"].T @ draw
    return loss, d, h


def min_char_rnn(ids: list[int], w: Weights, T: int, learning_rate: float) -> Iterator[float]:
    """Train like min-char-rnn (Adagrad, clip by value at 5), and yield the loss of each window."""
    memory = {name: np.zeros_like(w[name]) for name in NAMES}
    position, n = 0, 0
    h = np.zeros(len(w["bias_l0"]))
    while True:
        if position + T + 1 >= len(ids) or n == 0:
            h, position = np.zeros_like(h), 0
        inputs, targets = ids[position : position + T], ids[position + 1 : position + T + 1]
        loss, d, h = loss_and_gradients(w, inputs, targets, h)
        for name in NAMES:
            gradient = np.clip(d[name], -5, 5)
            memory[name] += gradient * gradient
            w[name] -= learning_rate * gradient / np.sqrt(memory[name] + 1e-8)
        yield loss
        position += T
        n += 1


# ---- Any cell, in scalars ------------------------------------------------------------------------------


def _dot(row: list[float], x: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(row, x, strict=True))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _unit(
    kind: str, k: int, w: dict[str, Any], layer: int, x: list[float], h: list[float], c: list[float]
) -> tuple[float, float]:
    """Return h and c of one unit of a layer after a step."""
    H = len(h)
    x_gate = [_dot(w[f"weight_ih_l{layer}"][row], x) for row in range(k, len(w[f"bias_l{layer}"]), H)]
    h_gate = [_dot(w[f"weight_hh_l{layer}"][row], h) for row in range(k, len(w[f"bias_l{layer}"]), H)]
    bias, names = w[f"bias_l{layer}"][k::H], KINDS[kind].gates
    if kind == "gru":
        x_of, h_of, b = (dict(zip(names, values, strict=True)) for values in (x_gate, h_gate, bias))
        r, z = (_sigmoid(x_of[g] + h_of[g] + b[g]) for g in "rz")
        n = math.tanh(x_of["n"] + b["n"] + r * (h_of["n"] + w[f"bias_hn_l{layer}"][k]))
        return n + z * (h[k] - n), 0.0
    gate = {name: a + b + d for name, a, b, d in zip(names, x_gate, h_gate, bias, strict=True)}
    if kind == "lstm":
        i, f, o = (_sigmoid(gate[name]) for name in "ifo")
        c_k = f * c[k] + i * math.tanh(gate["g"])
        return o * math.tanh(c_k), c_k
    return (max(0.0, gate["h"]) if kind == "rnn_relu" else math.tanh(gate["h"])), 0.0


def logits(
    kind: str, L: int, w: dict[str, Any], inputs: list[int]
) -> tuple[list[list[float]], list[list[list[float]]]]:
    """The logits of one row of one-hot inputs from a state of zeros, and the last state, h and c."""
    H, V = len(w["weight_hh_l0"][0]), len(w["head.bias"])
    hs, cs = ([[0.0] * H for _ in range(L)] for _ in range(2))
    found = []
    for symbol in inputs:
        x = [float(v == symbol) for v in range(V)]
        for layer in range(L):
            units = [_unit(kind, k, w, layer, x, hs[layer], cs[layer]) for k in range(H)]
            hs[layer], cs[layer] = [h for h, _ in units], [c for _, c in units]
            x = hs[layer]
        found.append([_dot(row, x) + b for row, b in zip(w["head.weight"], w["head.bias"], strict=True)])
    return found, [hs, cs][: len(KINDS[kind].state)]
