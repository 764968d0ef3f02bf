"""Counts beside a network that was trained: what `fastrnn.train` does with a ``count_order``.

The contexts of the text that was trained on are counted, and a gate that mixes them with the network learns
on text that was not counted: what was held out or, if that is too little, the last tenth of the text, which
is counted afterwards. The network has seen that tenth, and the gate then trusts it a little too much.
"""

from __future__ import annotations

import logging
import signal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import memory
from fastrnn.data.corpus import Sequence
from fastrnn.errors import TrainingInterrupted
from fastrnn.inference.counts import AT_ONCE, CountTable, bytes_of
from fastrnn.inference.mixture import Mixture
from fastrnn.inference.scoring import losses_of_texts
from fastrnn.model.model import Model
from fastrnn.training.events import Training
from fastrnn.training.presets import TrainingConfig

logger = logging.getLogger("fastrnn")

#: The most symbols that the gate learns from, and the fewest that are enough of what was held out.
GATE_SYMBOLS, ENOUGH = 1 << 18, 2000

#: The part of the text that the gate learns from if too little was held out.
PART = 0.1

Ids = NDArray[np.int32]


def add_counts(training: Training, sequences: dict[str, Sequence]) -> None:
    """Count the contexts of the sequence ``"text"``, and give the model of a training the mixture.

    With ``refit``, what was held out is counted too.

    Raises
    ------
    TrainingInterrupted
        Ctrl-C; its model has the network alone.
    """
    try:
        training.model.mixture = mixture_of(training.model, training.config, sequences)
    except KeyboardInterrupt as error:
        message, updates = "interrupted as contexts were counted", training.updates
        raise TrainingInterrupted(message, training.model, updates, signal.SIGINT, training.saved) from error


def mixture_of(model: Model, config: TrainingConfig, sequences: dict[str, Sequence]) -> Mixture:
    """The counts of a text, with gates for the network of a model."""
    network, boundary = model.network, model.vocabulary.boundary_id
    text = sequences["text"]
    others = [sequence for name, sequence in sequences.items() if name != "text"]
    contexts = (config.count_order + 1) * sum(map(len, sequences.values()))
    memory.require(min(config.count_memory, bytes_of(min(contexts + 1, 2**30))), "the counts of contexts")
    table = CountTable(network.backend, config.count_order, config.count_memory)
    mixture, row = Mixture(table, network.vocab_size), table.new_contexts()
    is_enough = len(others[0]) > ENOUGH
    counted = len(text) if is_enough else int((1 - PART) * len(text))
    _count(table, text, 0, counted, boundary, row)
    unseen, start = (others[0], 0) if is_enough else (text, max(0, counted - 1))
    inputs, targets, starts = _transitions(unseen, start, start + GATE_SYMBOLS + 1, boundary)
    if len(inputs):
        losses = losses_of_texts(network, inputs, targets, np.flatnonzero(starts), None)
        mixed = mixture.fit(losses, inputs, targets, starts, config.count_memory)
        _tell(table, losses, mixed, is_held_out=is_enough)
    _count(table, text, max(0, counted - 1), len(text), boundary, row)
    if config.refit:
        _count(table, others[0], 0, len(others[0]), boundary, table.new_contexts())
    return mixture


def _transitions(
    sequence: Sequence, start: int, stop: int, boundary: int | None
) -> tuple[Ids, Ids, NDArray[np.uint8]]:
    """The inputs, the targets and the starts of a part of a sequence, which begins a text."""
    ids = sequence.read(start, min(stop, len(sequence)))
    inputs = ids[:-1]
    starts = np.zeros(len(inputs), np.uint8) if boundary is None else (inputs == boundary).astype(np.uint8)
    starts[:1] = 1
    return inputs, ids[1:], starts


def _count(
    table: CountTable, sequence: Sequence, start: int, stop: int, boundary: int | None, contexts: Ids
) -> None:
    """Count a part of a sequence, which goes on after these contexts."""
    for begin in range(start, stop - 1, AT_ONCE):
        inputs, targets, starts = _transitions(sequence, begin, min(begin + AT_ONCE + 1, stop), boundary)
        if begin > 0 and inputs[0] != boundary:
            starts[0] = 0
        table.count(inputs, targets, starts, contexts)


def _tell(table: CountTable, losses: Any, mixed: Any, *, is_held_out: bool) -> None:
    logger.info(
        "counts: %s contexts of up to %d symbols in %.3g MB; %s: %.4f nats by the network, %.4f with counts",
        f"{table.n_nodes - 1:,}", table.order, table.n_bytes / 1e6,
        "held out" if is_held_out else "the last tenth, which was trained on", losses.mean(), mixed.mean(),
    )  # fmt: skip
