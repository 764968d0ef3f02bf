"""The history of a training: its records, the validation loss, and the best weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.batches import Batch
from fastrnn.errors import DivergenceError
from fastrnn.inference import scoring, sums
from fastrnn.model.evaluation import Evaluation
from fastrnn.model.history import Record
from fastrnn.training.events import Arrays, Callback, Floats, Training, Updates
from fastrnn.training.held_out import HeldOut

logger = logging.getLogger("fastrnn")


class Recorder(Callback):
    """Makes the records: one at every `log_every`-th update and, unless the settings differ, at the last.

    It collects the updates. The loop makes the records between two updates, when all callbacks know of them.
    """

    def __init__(self, *, needs_weights: bool) -> None:
        #: Whether a record is made with the weights of its update, or only from losses.
        self._needs_weights = needs_weights
        #: Of the updates since the last record: their losses, gradients' norms and learning rates (3, W).
        self._pending = np.empty((3, 0))
        self._first_pending = 0

    def updates_to_call(self, training: Training) -> int | None:
        """Up to the next record, if it is made with the weights of its update."""
        return -training.updates % training.log_every + 1 if self._needs_weights else None

    def after_updates(self, training: Training, updates: Updates) -> None:
        """Take some updates."""
        some = np.stack([updates.losses, updates.norms, updates.learning_rates])
        self._pending = np.concatenate([self._pending, some], axis=1)

    def make_due(self, training: Training) -> None:
        """Make the records that are due."""
        while (count := -self._first_pending % training.log_every + 1) <= self._pending.shape[1]:
            self._record(training, count)

    def make_last(self, training: Training) -> None:
        """Make the record of the last update."""
        count = self._pending.shape[1]
        is_wanted = training.config.record_last or training.held_out is not None or training.is_refit
        if count and is_wanted:
            self._record(training, count)

    def _record(self, training: Training, count: int) -> None:
        """Make a record of the first pending updates. The sum is exact, so it depends on no order."""
        losses, norms, learning_rates = self._pending[:, :count].tolist()
        if training.config.reduction == "sum":
            loss = losses[-1]
        else:
            loss = math.fsum(losses) / training.symbols(self._first_pending, count)
        record: Record = {
            "step": self._first_pending + count - 1,
            "loss": loss,
            "gradient_norm": norms[-1],
            "learning_rate": learning_rates[-1],
            **({"refit": 1} if training.is_refit else {}),
        }
        training.tell("before_record", record)
        self._first_pending += count
        self._pending = self._pending[:, count:]
        training.model.history.append(record)
        _log_record(training, record)
        training.tell("after_record", training.model.history[-1])

    def snapshot(self) -> Arrays:
        return {"pending": self._pending, "first_pending": np.array(self._first_pending)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._pending, self._first_pending = arrays["pending"], int(arrays["first_pending"])


class Validation(Callback):
    """Measures each record's weights on the held-out part; in a refit there is none."""

    def before_record(self, training: Training, record: Record) -> None:
        """Add the validation loss."""
        if training.held_out is None:
            return
        with training.at_once():
            loss = scoring.mean_loss(training.model.network, training.held_out)
        if not math.isfinite(loss):
            raise DivergenceError(
                f"training diverged: the validation loss is {loss:.4g} after {training.updates} updates. A "
                f"lower learning_rate (it was {training.config.learning_rate:g}) or a clip_norm usually helps"
            )
        record["validation_loss"] = loss


class BestWeights(Callback):
    """Keeps the weights with the lowest validation loss; the model gets them when training ends.

    A refit goes on from them, and the model then gets its last ones; if it is interrupted, the model gets
    the best ones again.
    """

    def __init__(self) -> None:
        self._loss = math.inf
        #: The weights (n), or ``None`` before the first record. They are not written to.
        self.weights: NDArray[Any] | None = None
        #: Those from which a refit went on.
        self._before_refit: NDArray[Any] | None = None

    def after_record(self, training: Training, record: Record) -> None:
        """Keep the weights if they are the best so far."""
        if training.is_refit:
            return
        if record["validation_loss"] < self._loss:
            self.weights = training.model.network.flat.copy()
            self._loss = record["validation_loss"]

    def give(self, training: Training) -> None:
        """Give the model the best weights."""
        if self.weights is not None:
            training.model.network.flat[...] = self.weights

    def before_refit(self, training: Training) -> None:
        """Keep nothing from now on, but for an interruption."""
        self.weights, self._before_refit = None, self.weights

    def after_interruption(self, training: Training, is_between_updates: bool) -> None:
        """Give the model the weights of before a refit that did not end."""
        self.weights = self._before_refit if training.is_refit else self.weights

    def after_training(self, training: Training) -> None:
        """Give the model the best weights."""
        self.give(training)

    def snapshot(self) -> Arrays:
        kept = {"weights": self.weights, "before_refit": self._before_refit}
        return {
            "loss": np.array(self._loss),
            **{name: array for name, array in kept.items() if array is not None},
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._loss = float(arrays["loss"])
        self.weights, self._before_refit = arrays.get("weights"), arrays.get("before_refit")


class EarlyStopping(Callback):
    """Ends training when so many records in a row have brought no better validation loss."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def after_record(self, training: Training, record: Record) -> bool:
        """Whether the patience is at its end."""
        if training.is_refit:
            return False
        losses = training.model.history.columns()["validation_loss"]
        worse = len(losses) - 1 - int(losses.argmin())
        if worse < self._patience:
            return False
        logger.info("the validation loss has not fallen for %d records: training ends", worse)
        return True


class Outcome(Callback):
    """Logs the result of training: how well the model predicts the held-out part."""

    def after_evaluation(self, training: Training, evaluation: Evaluation) -> None:
        """Log how well the weights that are kept predict all that is held out."""
        model, unit = training.model, training.model.vocabulary.unit
        held_out, n = cast("Batch", training.held_out), cast("HeldOut", training.all_held_out).symbols
        some = f"{n:,}" if evaluation.symbols == n else f"{evaluation.symbols:,} of the {n:,}"
        frequencies = scoring.first_symbol_probabilities(model.counts)
        guessing = sums.total(-np.log2(frequencies[held_out.targets])) / held_out.targets.size
        logger.info(
            "on %s held-out %ss, the weights of update %s have %s; the frequencies of the symbols alone give "
            "%.3f bits/%s",
            some, unit, f"{cast('Record', model.kept_record)['step']:,}", evaluation.in_words(unit),
            guessing, unit,
        )  # fmt: skip

    def after_training(self, training: Training) -> None:
        """Log which weights the model has."""
        history, unit = training.model.history, training.model.vocabulary.unit
        kept = training.model.kept_record
        if kept is None or (training.held_out is None and not training.is_refit):
            logger.info("nothing was held out: how well the model does on other texts was not measured")
            return
        if training.is_refit:
            logger.info(
                "the model is that of update %s, the last of the refit: it was trained on the whole text, so "
                "how well it does on other texts was not measured",
                f"{kept['step']:,}",
            )
            return
        reached, at_end = (record["validation_loss"] / math.log(2) for record in (kept, history[-1]))
        message = f"the model is that of update {kept['step']}: validation {reached:.3f} bits/{unit}"
        if kept["step"] != history[-1]["step"]:
            message += f", the best; at the end it was {at_end:.3f}"
        logger.info(message)


def _log_record(training: Training, record: Record) -> None:
    """Log a record: a summed loss as it is, any other in bits per symbol."""
    if training.config.reduction == "sum":
        text = f"loss {record['loss']:.4f}"
    else:
        text = f"{record['loss'] / math.log(2):.3f} bits/{training.model.vocabulary.unit}"
    stage = "refit, " if training.is_refit else ""
    logger.info("%supdate %d: %s%s", stage, record["step"], text, validation_text(record))


def validation_text(record: Mapping[str, float]) -> str:
    """The validation loss of a record in bits, for the end of a line."""
    if "validation_loss" not in record:
        return ""
    return f", validation {record['validation_loss'] / math.log(2):.3f}"


def bits_per_symbol(training: Training, first: int, losses: Floats) -> float:
    """The mean loss of the updates from number ``first`` on."""
    return sums.total(losses) / training.symbols(first, len(losses)) / math.log(2)
