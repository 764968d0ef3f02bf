"""How many nats a model gives each symbol of texts, given all before it.

Many texts are scored side by side: they are laid out one after the other in parallel rows, and the state
starts anew where one begins.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from fastrnn.batches import Streams
from fastrnn.network import Network

#: From this power of two on a float is infinite.
MAX_EXPONENT = 1024

#: Rows that texts are scored in, at most; and the floating-point operations of a native call, about.
ROWS, CALL_OPERATIONS = 64, 1 << 32

#: Steps of a native call, at most.
WINDOW = 1 << 14

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]


def first_symbol_probabilities(counts: NDArray[np.int64]) -> Floats:
    """The chance of each symbol to be a running text's first: add-one smoothed frequencies (V)."""
    probabilities: Floats = (counts + 1.0) / (counts.sum() + len(counts))
    return probabilities


def perplexity(bits_per_symbol: float) -> float:
    """``2 ** bits_per_symbol``; infinite where it is larger than a float can be."""
    return 2.0**bits_per_symbol if bits_per_symbol < MAX_EXPONENT else math.inf


def steps_at_once(network: Network, B: int) -> int:
    """The steps of a native call with B rows."""
    V, H = network.vocab_size, network.hidden_size
    return max(1, min(WINDOW, CALL_OPERATIONS // (2 * B * H * (H + V))))


def losses_of_rows(network: Network, rows: Streams) -> Floats:
    """Nats (N, B) of the targets of some rows, from a state of zeros."""
    losses = np.empty(rows.inputs.shape)
    state = network.checked_state(None, rows.batch_size)
    T = steps_at_once(network, rows.batch_size)
    for start in range(0, rows.n_steps, T):
        window = slice(start, start + T)
        network.run_losses(
            losses[window], state, rows.inputs[window], rows.targets[window], rows.starts[window]
        )
    return losses


def mean_loss(network: Network, rows: Streams) -> float:
    """Mean nats of the targets of some rows, from a state of zeros."""
    return float(losses_of_rows(network, rows).mean())


def symbol_losses(network: Network, ids: Ids, lengths: NDArray[np.int64], first: Floats) -> Floats:
    """Nats of each symbol of some running texts, given all before it in its text.

    ``ids`` has the texts one after the other, each as long as ``lengths`` says; ``first`` (V) is what the
    first symbol of a text costs.
    """
    losses = np.empty(len(ids))
    if len(ids):
        begins, ends = _places(lengths)
        targets = np.append(ids[1:], np.int32(-1))
        targets[ends - 1] = -1
        losses[1:] = _losses_of_texts(network, ids, targets, begins)[:-1]
        losses[begins] = first[ids[begins]]
    return losses


def document_losses(network: Network, ids: Ids, lengths: NDArray[np.int64], boundary: int) -> Floats:
    """Nats of each symbol of some documents and of each document's end; arguments as above."""
    begins, _ = _places(lengths + 1)
    inputs = np.full(len(ids) + len(lengths), boundary, np.int32)
    is_symbol = np.ones(len(inputs), bool)
    is_symbol[begins] = False
    inputs[is_symbol] = ids
    targets = np.append(inputs[1:], np.int32(boundary))
    return _losses_of_texts(network, inputs, targets, begins)


def _places(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where texts of these lengths begin and end, one after the other; empty ones left out."""
    ends = np.cumsum(lengths[lengths > 0])
    return ends - lengths[lengths > 0], ends


def _losses_of_texts(network: Network, inputs: Ids, targets: Ids, begins: NDArray[np.int64]) -> Floats:
    """Nats of each target of a sequence in which a text begins at each of ``begins``."""
    losses, n = np.zeros(len(inputs)), len(inputs)
    wanted = np.arange(min(ROWS, len(begins))) * n // max(1, min(ROWS, len(begins)))
    cuts = np.append(np.unique(begins[np.searchsorted(begins, wanted, side="right") - 1]), n)
    if n == 0:
        return losses
    lengths = np.diff(cuts)
    shape = (int(lengths.max()), len(lengths))
    rows = Streams(np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.zeros(shape, np.uint8))
    starts = np.zeros(n, np.uint8)
    starts[begins] = 1
    pieces = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    for b, piece in enumerate(pieces):
        for array, sequence in ((rows.inputs, inputs), (rows.targets, targets), (rows.starts, starts)):
            array[: lengths[b], b] = sequence[piece]
    scored = losses_of_rows(network, rows)
    for b, piece in enumerate(pieces):
        losses[piece] = scored[: lengths[b], b]
    return losses
