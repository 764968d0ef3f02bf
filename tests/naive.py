"""An independent rendering of the equations: the seed's, one symbol and one column vector at a time.

It shares no code with fastrnn, knows neither batches nor flat buffers, and is as slow as it looks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

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


def min_char_rnn(ids: list[int], w: Weights, T: int, rate: float) -> Iterator[float]:
    """Train as min-char-rnn does, and yield the loss of each window: Adagrad, clip by value at 5."""
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
            w[name] -= rate * gradient / np.sqrt(memory[name] + 1e-8)
        yield loss
        position += T
        n += 1
