"""A short search for the learning rate: a few updates with each of some rates."""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import replace
from typing import Any, cast

import numpy as np

from fastrnn.errors import DivergenceError
from fastrnn.inference import scoring, sums
from fastrnn.model.model import Model
from fastrnn.schedules import Progress
from fastrnn.training.events import Training
from fastrnn.training.pace import Floats, Pace
from fastrnn.training.preparation import Prepared

logger = logging.getLogger("fastrnn")

#: What the rates are, beside the one that would be chosen.
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)

#: The fraction of the updates that each rate gets, the fewest and the most of them.
FRACTION, FEWEST, MOST = 0.04, 20, 500

#: The updates that are timed for a training that only a time ends.
TIMED = 8


def with_best_rate(
    prepared: Prepared, backend: str, threads: int | None, rng: Any, initial: Model | None
) -> Prepared:
    """Return what is prepared with the learning rate whose short training ends with the lowest loss.

    Each begins with the same weights. The loss is that of the held-out batch, or that of the last quarter of
    the updates if nothing is held out. The time limit has the seconds of the search in it.
    """
    began, config = time.monotonic(), prepared.config
    guess = cast("float", config.learning_rate)

    def begin(rate: float) -> Training:
        tried = replace(prepared, config=replace(config, learning_rate=rate))
        return tried.training(backend, threads, copy.deepcopy(rng), initial)

    steps = _updates(begin(guess))
    losses = {rate: _loss_after(begin(rate), steps) for rate in (factor * guess for factor in FACTORS)}
    best = min(losses, key=lambda rate: losses[rate])
    found = ", ".join(f"{rate:.3g}: {loss / math.log(2):.3f}" for rate, loss in losses.items())
    logger.info("bits after %d updates by learning rate: %s; it will be %.3g", steps, found, best)
    return replace(
        prepared, config=replace(config, learning_rate=best), seconds_before=time.monotonic() - began
    )


def _updates(training: Training) -> int:
    """How many updates each rate gets."""
    steps = training.steps or math.inf
    if training.config.time_limit is not None:
        _updated(training, 1, TIMED)  # the kernels may be compiled here
        began = time.monotonic()
        _updated(training, TIMED, TIMED)
        one = max(time.monotonic() - began, 1e-9) / TIMED
        steps = min(steps, cast("float", training.config.time_limit) / one)
    return int(min(max(FRACTION * steps, FEWEST), MOST, steps))


def _loss_after(training: Training, steps: int) -> float:
    """The loss in nats per symbol after so many updates; infinity if training diverges."""
    try:
        losses = _updated(training, steps, steps)
        if training.held_out is not None:
            return scoring.mean_loss(training.model.network, training.held_out)
    except DivergenceError:
        return math.inf
    first = steps - max(1, steps // 4)
    return sums.total(losses[first:]) / training.symbols(first, steps - first)


def _updated(training: Training, count: int, steps: int) -> Floats:
    """Do some updates of a training that has ``steps`` in all; return the loss of each window."""
    pace, reader, end = Pace(), training.reader, training.updates + count
    losses: list[float] = []

    def advance(number: int) -> Floats:
        batch, first, _ = reader.at(training.updates)
        numbers = np.arange(training.updates, training.updates + number)
        progress = Progress(numbers, numbers / steps, numbers // reader.windows)
        rates = training.learning_rate * training.config.schedule.factors(progress)
        found: Floats = training.trainer.advance(batch, reader.seq_length, first, rates)[0]
        return found

    while training.updates < end:
        _, _, windows = reader.at(training.updates)
        losses += pace.call(advance, min(windows, end - training.updates)).tolist()
    return np.array(losses)
