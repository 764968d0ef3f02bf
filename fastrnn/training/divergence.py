"""What happens when training diverges: it goes back to the last good state with a lower learning rate."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.batches import Batch
from fastrnn.errors import DivergenceError
from fastrnn.inference import scoring
from fastrnn.model.history import Record
from fastrnn.training.events import Arrays, Callback, Training, below
from fastrnn.training.recorder import BestWeights

logger = logging.getLogger("fastrnn")

#: The learning rate is multiplied by this when training goes back.
LOWER = 0.1

#: A loss in nats per symbol has exploded if it is so much above that of guessing or, if it is higher, above
#: that of the model that training began with.
EXPLOSION = 1.0

#: A state is not good if the norm of its weights is above so many times that of the first ones: a learning
#: rate that is far too high makes such weights before the loss explodes, and no lower one repairs them.
GROWTH = 10.0

#: Nor is a state good if its loss is above so many times the lowest one.
WORSE = 1.1


class Divergence(Callback):
    """Keeps the state of the last good record, and lets training go back to it a few times."""

    def __init__(self, attempts: int, best: BestWeights | None) -> None:
        self._attempts, self._best = attempts, best
        self._attempted = 0
        #: The loss of the model that training began with, in nats per symbol; it may be worse than guessing.
        self._initial_loss = 0.0
        #: The norm of the weights that training began with.
        self._initial_norm = math.inf
        #: The lowest loss of a record, in nats per symbol.
        self._lowest = math.inf
        #: The initial state, until a record is good.
        self._good: Arrays = {}

    def before_training(self, training: Training) -> None:
        """The initial state is good."""
        if not self._good:
            if training.config.init is not None:
                self._initial_loss = _loss(training)
            self._initial_norm = _norm(training)
            self._keep(training)

    def begin(self, training: Training) -> None:
        """The state with which a stage begins is good."""
        self._lowest = math.inf
        self._keep(training)

    def before_record(self, training: Training, record: Record) -> None:
        """Raise a `DivergenceError` if the loss has exploded, and not only because the state has.

        The state of a network with relu may grow for some windows, whatever the learning rate is.
        """
        loss, limit = record["loss"], self._limit(training)
        if training.config.reduction == "sum":
            loss /= training.symbols(int(record["step"]), 1)
        if not self._attempts or loss <= limit:
            return
        with training.at_once():
            is_lasting = not _loss(training) <= limit
        if is_lasting:
            raise DivergenceError(
                f"training diverged: the loss is {loss:.4g} nats per symbol after update {training.updates}, "
                f"that of guessing {math.log(training.model.network.vocab_size):.4g}"
            )

    def after_record(self, training: Training, record: Record) -> None:
        """Keep the state if it is good: the weights predict better than the frequencies of the symbols.

        They must also not be much worse or larger than before. The record's loss is that of earlier weights.
        """
        if not self._attempts:
            self._keep(training)
            return
        loss = record["validation_loss"] if training.held_out is not None else _loss(training)
        has_grown = _norm(training) > GROWTH * self._initial_norm > 0
        self._lowest = min(self._lowest, loss)
        if loss < min(_loss_of_frequencies(training), WORSE * self._lowest) and not has_grown:
            self._keep(training)

    def _keep(self, training: Training) -> None:
        self._good = {}  # a snapshot of training has that of this callback
        self._good = training.snapshot()

    def goes_on(self, training: Training, error: DivergenceError) -> bool:
        """Go back after an error, with a lower learning rate; false after the last attempt."""
        if self._attempted == self._attempts:
            return False
        attempted, factor, seconds = self._attempted + 1, training.rate_factor * LOWER, training.seconds
        self._go_back(training)
        self._attempted, training.rate_factor, training.seconds_before = attempted, factor, seconds
        logger.warning(
            "%s. It goes on from update %d with learning rates times %g (attempt %d of %d)",
            error, training.updates, factor, attempted, self._attempts,
        )  # fmt: skip
        return True

    def recover(self, training: Training) -> bool:
        """Give the model usable weights, if training ends; return whether there are any."""
        if self._good["trainer.updates"] > 0 or training.is_refit:
            self._go_back(training)
        if self._best is not None:
            self._best.after_training(training)
        limit = self._limit(training) if self._attempts else math.inf
        return training.updates > 0 and _loss(training) <= limit

    def _go_back(self, training: Training) -> None:
        good = self._good
        training.restore(good)
        self._good = good

    def _limit(self, training: Training) -> float:
        """The loss in nats per symbol above which training has diverged."""
        return EXPLOSION + max(math.log(training.model.network.vocab_size), self._initial_loss)

    def snapshot(self) -> Arrays:
        good = {f"good.{name}": array for name, array in self._good.items()}
        numbers = {
            "attempted": self._attempted,
            "initial_loss": self._initial_loss,
            "initial_norm": self._initial_norm,
            "lowest": self._lowest,
        }
        return {**{name: np.array(number) for name, number in numbers.items()}, **good}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._attempted, self._initial_loss = int(arrays["attempted"]), float(arrays["initial_loss"])
        self._initial_norm, self._lowest = float(arrays["initial_norm"]), float(arrays["lowest"])
        self._good = below("good", arrays)


def _norm(training: Training) -> float:
    """The norm of the weights that are trained."""
    return float(np.sqrt(np.square(training.trainer.network.flat, dtype=np.float64).sum()))


def _loss_of_frequencies(training: Training) -> float:
    """The loss in nats per symbol of a model that knows only how often each symbol occurs."""
    counts = training.model.counts
    return float(-(counts * np.log(scoring.first_symbol_probabilities(counts))).sum() / counts.sum())


def _loss(training: Training) -> float:
    """The loss of the model's weights on a window of the text, in nats per symbol; NaN if it has none."""
    network = training.model.network
    if not np.isfinite(network.flat).all():
        return math.nan
    batch, _, _ = training.reader.at(0)
    window = Batch(*(array[: training.reader.seq_length].copy() for array in vars(batch).values()))
    return scoring.mean_loss(network, window)
