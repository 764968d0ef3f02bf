"""The settings that `fastrnn.train` chooses by itself, for a text and an amount of computation.

Without a preset, the settings that the caller does not give are chosen from the length of the text, its
vocabulary, and the floating-point operations that training may take: a constant or, with a time limit, the
limit times the speed of this machine, which is measured. docs/quality.md has the experiments behind the rule.

N symbols to train on · V vocabulary · H hidden units
"""

from __future__ import annotations

import logging
import math
import sys
import time
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from fastrnn.core.layout import Shape
from fastrnn.network.network import Network
from fastrnn.training.presets import AUTO, SEARCH, TrainingConfig
from fastrnn.training.trainer import Trainer

logger = logging.getLogger("fastrnn")

#: The operations of a training without a time limit: about half a minute of two cores that each have a peak
#: of 250 GFLOP/s, of which training reaches seven tenths.
PLAIN_OPERATIONS = 1e13

#: The numbers of hidden units to choose from, and the largest for which no text is too short.
SIZES, SMALL_SIZE = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024), 64

#: A network is as large as it can be while it reads so many symbols for each weight of its products, and the
#: text has so many symbols for each of them.
SYMBOLS_READ, SYMBOLS_OF_TEXT = 12, 0.5

#: The size of the embedding of characters and bytes, and the largest vocabulary for which it is enough. For a
#: larger one, the embedding is as large as a layer.
EMBEDDING_SIZE, SMALL_VOCABULARY = 64, 1000

#: The dropout of a network that has as many weights as the text has symbols, which it reads many times. It
#: grows with the root of their ratio, up to a highest one. It begins after the first number of passes, and
#: is whole at the second one; a text of fewer symbols than the third number has none.
DROPOUT, HIGHEST_DROPOUT, FIRST_PASSES, ALL_PASSES, LEAST_TO_DROP = 0.6, 0.6, 4, 18, 50_000

#: The learning rate of Adam for layers of 128 units. It falls with the number of units, and is the same for
#: fewer.
LEARNING_RATES, UNITS = {"gru": 0.014, "lstm": 0.02, "rnn": 0.008}, 128

#: The updates that are timed: V and H of the network; T and B of the windows, the second ones being the usual
#: ones; how many of each, and the seconds after which no more begin.
TIMED_NETWORK, TIMED_WINDOWS, TIMED_TIMES, TIMED_SECONDS = (64, 128), ((4, 32), (64, 32)), 16, 0.1


@dataclass(frozen=True)
class Work:
    """A text to train on, and the floating-point operations that training on it may take."""

    symbols: int
    vocab_size: int
    operations: float = PLAIN_OPERATIONS

    def passes(self, shape: Shape) -> float:
        """The passes over the text that a network of this shape can do."""
        return self.operations / (operations_of_symbol(shape) * self.symbols)


def operations_of_symbol(shape: Shape) -> float:
    """The operations of training for a symbol: a forward pass, and a backward pass of twice as many."""
    return 3.0 * shape.operations


def chosen(config: TrainingConfig, work: Work) -> TrainingConfig:
    """Return the configuration with the sizes of the network, its dropout and its learning rate chosen."""
    if not config.open_settings:
        return config
    if config.hidden_size == AUTO:
        config = replace(config, hidden_size=_hidden_size(config, work))
    config = _embedded(config, work)
    if config.dropout == AUTO:
        config = replace(config, dropout=_dropout(config, work))
    if config.learning_rate in (AUTO, SEARCH):
        rate = LEARNING_RATES[config.cell] * min(1.0, UNITS / cast("int", config.hidden_size))
        config = replace(config, learning_rate=rate)
    return config


def tell(config: TrainingConfig, names: list[str]) -> None:
    """Log the settings with these names, which were chosen."""
    if names:
        values = (f"{name} {_in_words(getattr(config, name))}" for name in names)
        logger.info("chosen for this text: %s", ", ".join(values))


def _in_words(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _shape(config: TrainingConfig, work: Work) -> Shape:
    """The shape of the network; its dropout may not be chosen yet."""
    return replace(config, dropout=0.0).network(work.vocab_size).shape


def _hidden_size(config: TrainingConfig, work: Work) -> int:
    """The largest network that reads enough symbols for each of its weights."""
    if config.tied and config.embedding_size != AUTO:
        return cast("int", config.embedding_size)
    for size in reversed(SIZES):
        shape = _shape(_embedded(replace(config, hidden_size=size), work), work)
        weights = shape.operations / 2
        is_long_enough = size <= SMALL_SIZE or work.symbols >= SYMBOLS_OF_TEXT * weights
        if is_long_enough and work.operations >= operations_of_symbol(shape) * SYMBOLS_READ * weights:
            return size
    return SIZES[0]


def _embedded(config: TrainingConfig, work: Work) -> TrainingConfig:
    """The configuration with an embedding whose size fits the vocabulary, if it was open."""
    if config.embedding_size != AUTO:
        return config
    is_large = config.tied or work.vocab_size > SMALL_VOCABULARY
    return replace(config, embedding_size=config.hidden_size if is_large else EMBEDDING_SIZE)


def _passes(config: TrainingConfig, work: Work) -> float:
    """The passes over the text that training can do, or is asked to do if that is less."""
    most = work.passes(_shape(config, work))
    if config.epochs is not None:
        return min(most, config.epochs)
    if isinstance(config.steps, int):
        T = config.seq_length or work.symbols
        return min(most, config.steps * T * config.batch_size / work.symbols)
    return most


def _dropout(config: TrainingConfig, work: Work) -> float:
    """The dropout, by the passes over the text, and by the weights for each of its symbols."""
    if work.symbols < LEAST_TO_DROP:
        return 0.0
    share = (_passes(config, work) - FIRST_PASSES) / (ALL_PASSES - FIRST_PASSES)
    weights = _shape(config, work).operations / 2
    dropout = DROPOUT * math.sqrt(weights / work.symbols) * min(1.0, max(0.0, share))
    return round(min(dropout, HIGHEST_DROPOUT), 2)


def most_updates(config: TrainingConfig, work: Work, T: int, B: int) -> int:
    """The updates with windows (T, B) that the operations allow; a time limit needs no other one."""
    if config.time_limit is not None:
        return sys.maxsize
    shape = config.network(work.vocab_size).shape
    return max(1, int(work.operations / (operations_of_symbol(shape) * T * B)))


def operations_per_second(backend: str, threads: int | None, dtype: str) -> float:
    """Measure how fast updates are on this machine: those of a GRU, on windows of random symbols."""
    V, H = TIMED_NETWORK
    network = Network(V, H, cell="gru", dtype=dtype, backend=backend, threads=threads, rng=0)
    trainer = Trainer(network, optimizer="adam", clip_norm=1.0)
    trainer.steps(np.zeros((2, 1), np.int32), 1)  # the kernels may be compiled here
    speed, end = 0.0, time.perf_counter() + TIMED_SECONDS
    for T, B in TIMED_WINDOWS:
        symbols = np.random.default_rng(0).integers(V, size=(T + 1, B))
        trainer.reset_state()
        for number in range(TIMED_TIMES):
            began = time.perf_counter()
            trainer.steps(symbols, T)
            now = time.perf_counter()
            speed = max(speed, operations_of_symbol(network.shape) * T * B / (now - began))
            if now >= end and number >= 2:  # one may have been interrupted
                return speed
    return speed
