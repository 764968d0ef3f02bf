"""Drawing symbols from a network, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.network import Network


def draw(probabilities: NDArray[np.float64], rng: Any) -> int:
    """One index, drawn with these probabilities as ``RandomState.choice`` draws it: one uniform each."""
    cumulative = np.cumsum(probabilities)
    cumulative /= cumulative[-1]
    return int(np.searchsorted(cumulative, rng.random(), side="right"))


def softmax(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Probabilities (V) at a temperature; at 0, all of it is the largest logit's."""
    scaled = logits.astype(np.float64) - logits.max()
    if temperature == 0:
        p: NDArray[np.float64] = np.eye(1, len(scaled), int(scaled.argmax()))[0]
        return p
    with np.errstate(over="ignore"):  # -inf has the probability 0
        p = np.exp(scaled / temperature)
    p /= p.sum()
    return p


def continuation(network: Network, prime: NDArray[Any], temperature: float, rng: Any) -> Iterator[int]:
    """Draw ids without end, after the ids of ``prime`` (at least one), from a state of zeros."""
    ids = prime
    state = None
    while True:
        logits, state = network.forward(ids[:, np.newaxis], state)
        symbol = draw(softmax(logits[-1, 0], temperature), rng)
        yield symbol
        ids = np.array([symbol], np.int32)
