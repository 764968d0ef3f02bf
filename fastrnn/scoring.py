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
    return max(1, min(WINDOW, CALL_OPERATIONS // (B * network.shape.operations)))


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
    """Mean nats of the targets of some rows, from a state of zeros; exactly summed, for schedules read it."""
    losses = losses_of_rows(network, rows)
    return math.fsum(losses.ravel().tolist()) / losses.size


def symbol_losses(network: Network, ids: Ids, lengths: NDArray[np.int64], first: Floats) -> Floats:
    """Nats of each symbol of some running texts, given all before it in its text.

    ``ids`` has the texts one after the other, each as long as ``lengths`` says; ``first`` (V) is the
    probability of each symbol to be the first of a text.
    """
    losses = np.empty(len(ids))
    if len(ids):
        begins, ends = _places(lengths)
        targets = np.append(ids[1:], np.int32(-1))
        targets[ends - 1] = -1
        losses[1:] = _losses_of_texts(network, ids, targets, begins)[:-1]
        losses[begins] = -np.log(first[ids[begins]])
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
    """Nats of each target of a sequence in which a text begins at each of ``begins``.

    The rows are cut between texts; one that is shorter than the others leaves the batch when it is done.
    """
    losses, starts = np.empty(len(inputs)), np.zeros(len(inputs), np.uint8)
    starts[begins] = 1
    rows = _cut(begins, len(inputs))
    state = network.checked_state(None, max(1, len(rows)))
    while rows:
        T = min(steps_at_once(network, len(rows)), _length(rows[0]))
        heads = [slice(row.start, min(row.start + T, row.stop)) for row in rows]
        window = _side_by_side(T, heads, inputs, targets, starts)
        scored = np.empty((T, len(rows)))
        network.run_losses(scored, state, window.inputs, window.targets, window.starts)
        for b, head in enumerate(heads):
            losses[head] = scored[: _length(head), b]
        rows = [
            slice(head.stop, row.stop) for head, row in zip(heads, rows, strict=True) if head.stop < row.stop
        ]
        state = np.ascontiguousarray(state[:, :, : len(rows)])
    return losses


def _cut(begins: NDArray[np.int64], n: int) -> list[slice]:
    """Cut a sequence of n steps into at most ROWS rows of about one length, the longest first."""
    count = min(ROWS, len(begins))
    if not count:
        return []
    wanted = np.arange(count) * n // count
    cuts = np.append(np.unique(begins[np.searchsorted(begins, wanted, side="right") - 1]), n)
    return sorted(itertools.starmap(slice, itertools.pairwise(cuts.tolist())), key=_length, reverse=True)


def _length(piece: slice) -> int:
    return int(piece.stop - piece.start)


def _side_by_side(
    T: int, pieces: list[slice], inputs: Ids, targets: Ids, starts: NDArray[np.uint8]
) -> Streams:
    """Pieces of a sequence as rows of T steps; what is beyond the end of a row has no target."""
    shape = (T, len(pieces))
    rows = Streams(np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.zeros(shape, np.uint8))
    for b, piece in enumerate(pieces):
        rows.inputs[: _length(piece), b] = inputs[piece]
        rows.targets[: _length(piece), b] = targets[piece]
        rows.starts[: _length(piece), b] = starts[piece]
    return rows
