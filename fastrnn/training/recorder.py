"""The history of a training: its records, the validation loss, and the best weights."""

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
from fastrnn.training.events import Arrays, Callback, Floats, Training, Updates

logger = logging.getLogger("fastrnn")


class Recorder(Callback):
    """Makes the records: one at every `log_every`-th update and, unless the settings differ, at the last."""

    def __init__(self, *, needs_weights: bool) -> None:
        #: Whether a record is made with the weights of its update, or only from losses.
        self._needs_weights = needs_weights
        #: The losses of the updates since the last record; each is a sum over a window.
        self._pending: list[float] = []
        self._first_pending = 0
        #: The norm of the gradient of the last of them, and its learning rate.
        self._norm = self._learning_rate = math.nan

    def updates_to_call(self, training: Training) -> int | None:
        """Up to the next record, if it is made with the weights of its update."""
        return -training.updates % training.log_every + 1 if self._needs_weights else None

    def before_training(self, training: Training) -> None:
        """Make the record that Ctrl-C prevented, if a checkpoint is resumed."""
        last = self._first_pending + len(self._pending) - 1
        if self._pending and last % training.log_every == 0:
            self._record(training)

    def after_updates(self, training: Training, updates: Updates) -> None:
        """Take the losses of some updates."""
        losses, every, start = updates.losses, training.log_every, 0
        for position in range(-updates.first % every, len(losses), every):
            self._add(updates, start, position + 1)
            self._record(training)
            start = position + 1
        self._add(updates, start, len(losses))

    def _add(self, updates: Updates, start: int, stop: int) -> None:
        if start < stop:
            self._pending += updates.losses[start:stop].tolist()
            self._norm = float(updates.norms[stop - 1])
            self._learning_rate = float(updates.learning_rates[stop - 1])

    def after_training(self, training: Training) -> None:
        """Record the last update."""
        if self._pending and (training.config.record_last or training.held_out is not None):
            self._record(training)

    def _record(self, training: Training) -> None:
        """Make a record of the pending updates. The sum is exact, so it depends on no order."""
        count = len(self._pending)
        if training.config.reduction == "sum":
            loss = self._pending[-1]
        else:
            loss = math.fsum(self._pending) / training.symbols(self._first_pending, count)
        step = self._first_pending + count - 1
        record: Record = {
            "step": step,
            "loss": loss,
            "gradient_norm": self._norm,
            "learning_rate": self._learning_rate,
        }
        training.tell("before_record", record)
        self._first_pending += count
        self._pending = []
        training.model.history.append(record)
        _log_record(training, record)
        training.tell("after_record", record)

    def snapshot(self) -> Arrays:
        return {
            "pending": np.array(self._pending),
            "first_pending": np.array(self._first_pending),
            "norm": np.array(self._norm),
            "learning_rate": np.array(self._learning_rate),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._pending = arrays["pending"].tolist()
        self._first_pending = int(arrays["first_pending"])
        self._norm = float(arrays["norm"])
        self._learning_rate = float(arrays["learning_rate"])


class Validation(Callback):
    """Measures each record's weights on the held-out part."""

    def __init__(self, held_out: Batch) -> None:
        self._held_out = held_out

    def before_record(self, training: Training, record: Record) -> None:
        """Add the validation loss."""
        with training.at_once():
            loss = scoring.mean_loss(training.model.network, self._held_out)
        if not math.isfinite(loss):
            raise DivergenceError(
                f"training diverged: the validation loss is {loss:.4g} after {training.updates} updates. A "
                f"lower learning_rate (it was {training.config.learning_rate:g}) or a clip_norm usually helps"
            )
        record["validation_loss"] = loss


class BestWeights(Callback):
    """Keeps the weights with the lowest validation loss; the model gets them when training ends."""

    def __init__(self) -> None:
        self._loss = math.inf
        #: The weights (n), or ``None`` before the first record. They are not written to.
        self.weights: NDArray[Any] | None = None

    def after_record(self, training: Training, record: Record) -> None:
        """Keep the weights if they are the best so far."""
        if record["validation_loss"] < self._loss:
            self.weights = training.model.network.flat.copy()
            self._loss = record["validation_loss"]

    def after_training(self, training: Training) -> None:
        """Give the model the best weights."""
        if self.weights is not None:
            training.model.network.flat[...] = self.weights

    def snapshot(self) -> Arrays:
        kept = {} if self.weights is None else {"weights": self.weights}
        return {"loss": np.array(self._loss), **kept}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._loss = float(arrays["loss"])
        self.weights = arrays.get("weights")


class EarlyStopping(Callback):
    """Ends training when so many records in a row have brought no better validation loss."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def after_record(self, training: Training, record: Record) -> bool:
        """Whether the patience is at its end."""
        losses = training.model.history.columns()["validation_loss"]
        worse = len(losses) - 1 - int(losses.argmin())
        if worse < self._patience:
            return False
        logger.info("the validation loss has not fallen for %d records: training ends", worse)
        return True


class Outcome(Callback):
    """Logs the result of training: how well the model predicts the held-out part."""

    def after_training(self, training: Training) -> None:
        """Log it."""
        history, unit = training.model.history, training.model.vocabulary.unit
        if training.held_out is None or not history:
            logger.info("nothing was held out: how well the model does on other texts was not measured")
            return
        last = history[-1]
        kept = last
        if training.config.keep == "best":
            kept = history[int(history.columns()["validation_loss"].argmin())]
        reached, at_end = (record["validation_loss"] / math.log(2) for record in (kept, last))
        message = f"the model is that of update {kept['step']}: validation {reached:.3f} bits/{unit}"
        if kept["step"] != last["step"]:
            message += f", the best; at the end it was {at_end:.3f}"
        frequencies = scoring.first_symbol_probabilities(training.model.counts)
        guessing = float(-np.log2(frequencies[training.held_out.targets]).mean())
        logger.info("%s; the frequencies of the symbols alone give %.3f", message, guessing)


def _log_record(training: Training, record: Record) -> None:
    """Log a record: a summed loss as it is, any other in bits per symbol."""
    if training.config.reduction == "sum":
        text = f"loss {record['loss']:.4f}"
    else:
        text = f"{record['loss'] / math.log(2):.3f} bits/{training.model.vocabulary.unit}"
    logger.info("update %d: %s%s", record["step"], text, validation_text(record))


def validation_text(record: Mapping[str, float]) -> str:
    """The validation loss of a record in bits, for the end of a line."""
    if "validation_loss" not in record:
        return ""
    return f", validation {record['validation_loss'] / math.log(2):.3f}"


def bits_per_symbol(training: Training, first: int, losses: Floats) -> float:
    """The mean loss of the updates from number ``first`` on."""
    return float(losses.sum() / training.symbols(first, len(losses)) / math.log(2))
