"""The loop of `fastrnn.train`: it does the updates, and tells the callbacks of each event."""

from __future__ import annotations

import logging
import math
import signal
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastrnn.data.batches import Batch
from fastrnn.errors import DivergenceError, TrainingInterrupted
from fastrnn.inference import scoring
from fastrnn.model.evaluation import kept_place
from fastrnn.model.history import Record
from fastrnn.schedules import Progress
from fastrnn.training.divergence import Divergence
from fastrnn.training.events import Training, Updates
from fastrnn.training.held_out import HeldOut
from fastrnn.training.interruption import Interruptions
from fastrnn.training.pace import Pace
from fastrnn.training.recorder import BestWeights, Recorder

if TYPE_CHECKING:
    from fastrnn.training.progress import ProgressDisplay

logger = logging.getLogger("fastrnn")

#: The evaluation at the end may take this part of a time limit.
EVALUATION_TIME = 0.1


def fit(
    training: Training,
    recorder: Recorder,
    divergence: Divergence,
    best: BestWeights | None,
    display: ProgressDisplay | None,
) -> None:
    """Do the updates, and tell the callbacks.

    Raises
    ------
    DivergenceError, TrainingInterrupted
        The error has the model that training had reached.
    """
    is_over = False
    with Interruptions() as interruptions:
        training.at_once = interruptions.at_once
        try:
            with training.at_once():
                _compile(training, display)
            training.began = time.monotonic()
            training.tell("before_training")
            _update(training, recorder, divergence, interruptions)
            if training.held_out is not None and training.model.history:
                _evaluate(training, best, display)
                if training.refit_reader is not None:
                    _begin_refit(training, divergence)
                    _update(training, recorder, divergence, interruptions)
            training.tell("after_training")
            is_over = True
            interruptions.raise_if_asked()
        except KeyboardInterrupt as error:
            training.at_once = nullcontext
            number, updates = interruptions.asked, training.updates
            if not is_over and not interruptions.is_second:
                is_between_updates = number is not None and 0 < training.told == updates
                _finish_early(training, recorder, is_between_updates=is_between_updates)
            message, number = f"interrupted after {updates} updates", number or signal.SIGINT
            raise TrainingInterrupted(message, training.model, updates, number, training.saved) from error
        except Exception as error:
            training.tell("after_error", error)
            raise


def _update(
    training: Training, recorder: Recorder, divergence: Divergence, interruptions: Interruptions
) -> None:
    """Do the updates of a stage that are left, and make the records. After a divergence, go back and on."""
    pace = Pace()
    lasts = training.trainer.network.lasts(training.reader.seq_length, training.reader.layout.batch_size)
    while True:
        try:
            recorder.make_due(training)
            interruptions.raise_if_asked()
            if training.is_done:
                recorder.make_last(training)
                return
            training.tell("after_updates", _advance(training, pace, lasts=lasts))
            training.told = training.updates
        except DivergenceError as error:
            error.step, error.checkpoint = training.updates, training.saved
            error.learning_rate = training.learning_rate
            if not divergence.goes_on(training, error):
                error.model = training.model if divergence.recover(training) else None
                raise


def _advance(training: Training, pace: Pace, *, lasts: bool) -> Updates:
    """Do some updates in one native call."""
    done, of_stage, reader = training.updates, training.trainer.updates, training.reader
    batch, first, windows = reader.at(of_stage)
    # with one window in a call that lasts, Ctrl-C aborts it, and the state is that of before
    state = training.trainer.state if lasts else None

    def advance(count: int) -> Updates:
        numbers = np.arange(of_stage, of_stage + count)
        fractions = training.fraction_done(training.updates_before + numbers)
        progress = Progress(numbers, fractions, numbers // reader.windows, _losses(training))
        rates = training.learning_rate * training.schedule.factors(progress)
        losses, norms = training.trainer.advance(batch, reader.seq_length, first, rates)
        return Updates(done, losses, norms, rates)

    if not lasts:
        return pace.call(advance, min(windows, training.updates_to_next_call()))
    try:
        with training.at_once():
            return advance(1)
    except KeyboardInterrupt:
        if training.updates == done:
            training.trainer.state = state
        raise


def _losses(training: Training) -> list[float]:
    """The losses that the schedule reads: those of validation if there are any, else those of training."""
    if not training.schedule.reads_losses:
        return []
    columns = training.model.history.columns()
    losses = columns.get("validation_loss", columns.get("loss", np.empty(0)))
    return [loss for loss in losses.tolist() if not math.isnan(loss)]


def _finish_early(training: Training, recorder: Recorder, *, is_between_updates: bool) -> None:
    """Finish after Ctrl-C; a second Ctrl-C stops this, and the model has the weights that it has.

    A ``KeyboardInterrupt`` that is not from `Interruptions` may come at any instruction.
    """
    with suppress(KeyboardInterrupt):
        if training.began is None:  # no callback knows of this training
            return
        training.tell("after_interruption", is_between_updates)
        if training.updates:
            with suppress(DivergenceError):  # the last record is then not made
                recorder.make_due(training)
                recorder.make_last(training)
        training.tell("after_training")


# ---- After the last update -------------------------------------------------------------------------------


def _evaluate(training: Training, best: BestWeights | None, display: ProgressDisplay | None) -> None:
    """Measure the weights that the model gets on all that is held out; their record gets the result.

    It comes when the time limit of training is over, and may take a tenth of the limit.
    """
    if best is not None:
        best.give(training)
    model, limit = training.model, training.config.time_limit
    if model.evaluation is not None:  # a checkpoint of the end of training was resumed
        return
    seconds = math.inf if limit is None else EVALUATION_TIME * cast("float", limit)
    with training.at_once():
        evaluation = cast("HeldOut", training.all_held_out).evaluate(
            model.network,
            model.counts,
            seconds=seconds,
            tell=_tell_nothing if display is None else display.evaluated,
        )
    if not math.isfinite(evaluation.loss):
        logger.warning("the loss on all that is held out is %g, and is not recorded", evaluation.loss)
        return
    model.history.amend(kept_place(model.history, model.settings), evaluation.as_record())
    training.tell("after_evaluation", evaluation)


def _tell_nothing(_fraction: float) -> None:
    """Nobody wants to know how much is done."""


def _begin_refit(training: Training, divergence: Divergence) -> None:
    """Let training go on over the whole text."""
    kept = cast("Record", training.model.kept_record)
    training.begin_refit()
    logger.info(
        "refit: training goes on over the whole text, from the weights of update %s, for %s updates",
        f"{kept['step']:,}", f"{training.refit_steps:,}",
    )  # fmt: skip
    training.tell("before_refit")
    divergence.begin(training)


# ---- Before the first update -------------------------------------------------------------------------


def _compile(training: Training, display: ProgressDisplay | None) -> None:
    """Let the backend compile the kernels of training; the time limit does not count this."""
    kernels: dict[str, Any] = {"training": _train_nothing}
    if training.held_out is not None or training.config.retries:
        kernels["validation"] = _validate_little
    for number, (name, call) in enumerate(kernels.items(), 1):
        if display is not None and training.trainer.network.backend.name == "numba":
            display.announce(
                f"compiling {name}, kernel {number} of {len(kernels)}; it takes seconds if it is not cached"
            )
        call(training)


def _train_nothing(training: Training) -> None:
    batch, _, _ = training.reader.at(0)
    training.trainer.advance(batch, training.reader.seq_length, 0, np.empty(0))


def _validate_little(training: Training) -> None:
    batch, _, _ = training.reader.at(0)
    little = (array[:1, :1].copy() for array in vars(batch).values())
    scoring.losses_of_batch(training.model.network, Batch(*little))
