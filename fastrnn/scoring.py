"""How many nats a model gives each symbol of a text, given all before it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.batches import Streams
from fastrnn.network import Network

#: From this power of two on a float is infinite.
MAX_EXPONENT = 1024

#: Steps of a window when one long text is scored.
WINDOW = 1024


def first_symbol_probabilities(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The chance of each symbol to be a running text's first: add-one smoothed frequencies (V)."""
    probabilities: NDArray[np.float64] = (counts + 1.0) / (counts.sum() + len(counts))
    return probabilities


def perplexity(bits_per_symbol: float) -> float:
    """``2 ** bits_per_symbol``; infinite where it is larger than a float can be."""
    return 2.0**bits_per_symbol if bits_per_symbol < MAX_EXPONENT else math.inf


def sequence_losses(network: Network, ids: NDArray[Any]) -> NDArray[np.float64]:
    """Nats (n - 1) of each symbol of a sequence after the first, from a state of zeros."""
    losses = np.empty(len(ids) - 1)
    state = None
    for start in range(0, len(losses), WINDOW):
        window = ids[start : start + WINDOW + 1, np.newaxis]
        scored, state = network.losses(window[:-1], window[1:], state)
        losses[start : start + WINDOW] = scored[:, 0]
    return losses


def mean_loss(network: Network, streams: Streams, seq_length: int) -> float:
    """Mean nats of the targets of some streams, rows from a state of zeros."""
    total, state = 0.0, None
    for start in range(0, streams.n_steps, seq_length):
        window = slice(start, start + seq_length)
        losses, state = network.losses(
            streams.inputs[window], streams.targets[window], state, streams.starts[window]
        )
        total += losses.sum()
    return float(total / streams.targets.size)
