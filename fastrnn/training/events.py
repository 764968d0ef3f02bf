"""A training under way, and what happens in it: the loop tells its callbacks, which do everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.batches import Batch, WindowReader
from fastrnn.model.evaluation import Evaluation
from fastrnn.model.history import Record
from fastrnn.model.model import Model
from fastrnn.model.safetensors_format import TYPES
from fastrnn.schedules import Linear, Schedule
from fastrnn.training.held_out import HeldOut
from fastrnn.training.presets import TrainingConfig
from fastrnn.training.trainer import Trainer

#: A refit has one update for so many of those that the best length has, and begins with so many of warm-up at
#: most. If time limits training, it has this part of the time. ``docs/guide.md`` says how they were found.
UPDATES_OF_BEST, REFIT_WARMUP, REFIT_TIME = 3, 20, 0.25

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Updates:
    """Some updates that were done in one native call.

    Attributes
    ----------
    first
        The number of the first of them, from 0 on.
    losses, norms, learning_rates
        float64 (W): the sum of each window's cross-entropies in nats, before its update; the norm of its
        gradient, after the clip by value and before the clip by norm; and its learning rate.
    """

    first: int
    losses: Floats
    norms: Floats
    learning_rates: Floats


class Callback:
    """Follows a training: `fastrnn.train` calls a method for each event. All of them do nothing here.

    A method that returns True ends training, as if this update were its last one; with ``refit``, it ends the
    stage: first training, and later the refit. An exception ends it too,
    and `fastrnn.train` raises it. Callbacks are called in their order. They may read everything that a
    `Training` has, and must change nothing of it.

    Attributes
    ----------
    every
        `after_updates` is called after each multiple of this number of updates, and also at other times.
        ``None``: only at other times, about every 50 ms. A small number makes training slower.
    """

    every: int | None = None

    def updates_to_call(self, training: Training) -> int | None:
        """The most updates before `after_updates` must be called; ``None`` is any number."""
        return None if self.every is None else self.every - training.updates % self.every

    def before_training(self, training: Training) -> bool | None:
        """The kernels are compiled, and the first update of this process comes next."""

    def after_updates(self, training: Training, updates: Updates) -> bool | None:
        """Some updates were done in one native call."""

    def before_record(self, training: Training, record: Record) -> None:
        """A record will be added to the history; keys with floats may be added to it."""

    def after_record(self, training: Training, record: Record) -> bool | None:
        """A record was added to the history."""

    def after_evaluation(self, training: Training, evaluation: Evaluation) -> None:
        """The weights that are kept were measured on all that is held out; their record has it now."""

    def before_refit(self, training: Training) -> None:
        """Training goes on over the whole text, from the weights that are kept: ``training.is_refit``."""

    def after_interruption(self, training: Training, is_between_updates: bool) -> None:
        """Ctrl-C or SIGTERM ends training early; `after_training` comes next.

        ``is_between_updates`` is false if an update may be unknown to the callbacks, or if none was done.
        Before the first update, `before_training` may have been called for some of the callbacks only.
        """

    def after_error(self, training: Training, error: Exception) -> None:
        """An exception ends training, and is raised after this; `after_training` does not come."""

    def after_training(self, training: Training) -> None:
        """No update comes any more."""

    def snapshot(self) -> Arrays:
        """What a checkpoint keeps of this callback: arrays of int64, uint8, float32 or float64 by name."""
        return {}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `snapshot` returned, before a training goes on."""


@dataclass
class Training:
    """A training under way. Callbacks read it; only the loop changes it.

    Attributes
    ----------
    config
        All settings; none of them is ``"auto"``.
    trainer, model
        The `fastrnn.Trainer`, and the `fastrnn.Model` with its history.
    reader, held_out
        The windows that are trained on, and what each record is measured on: a batch that is held out, or
        ``None``.
    all_held_out
        All that is held out, or ``None``.
    refit_reader
        The windows of the whole text, or ``None`` if there is no refit.
    is_refit
        Whether this is the refit: training goes on over the whole text, and nothing is held out any more.
    updates_before
        The number of updates before the refit.
    seconds_before
        The seconds of training of earlier processes, if a checkpoint was resumed.
    rate_factor
        The learning rates are multiplied by it; it falls when training diverges.
    is_stopped
        Whether a callback has ended training.
    told
        The number of updates that the callbacks know of.
    saved
        The number of updates of the checkpoint that was written last, or ``None``.
    """

    config: TrainingConfig
    trainer: Trainer
    model: Model
    reader: WindowReader
    held_out: Batch | None
    all_held_out: HeldOut | None = None
    refit_reader: WindowReader | None = None
    callbacks: list[Callback] = field(default_factory=list)
    began: float | None = None
    seconds_before: float = 0.0
    rate_factor: float = 1.0
    is_stopped: bool = False
    told: int = 0
    saved: int | None = None
    is_refit: bool = False
    updates_before: int = 0
    #: The number of updates of the refit.
    refit_steps: int = 0
    #: The seconds before this stage: of the search for a learning rate or, for the refit, of all before it.
    stage_began: float = 0.0
    #: Makes a context in which Ctrl-C raises at once; else training ends after the native call.
    at_once: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def updates(self) -> int:
        """The number of updates that were done, those before the refit included."""
        return self.updates_before + self.trainer.updates

    @property
    def steps(self) -> int | None:
        """The number of updates at the end of this stage, or ``None`` if only the time limits it."""
        if self.is_refit:
            return self.updates_before + self.refit_steps
        if self.config.epochs is not None:
            return self.config.epochs * self.reader.windows
        return cast("int | None", self.config.steps)

    @property
    def learning_rate(self) -> float:
        """The learning rate that the schedule multiplies."""
        return cast("float", self.config.learning_rate) * self.rate_factor

    @property
    def log_every(self) -> int:
        """The number of updates from one record to the next."""
        return cast("int", self.config.log_every)

    @property
    def seconds(self) -> float:
        """The seconds of training so far, with those of earlier processes."""
        return self.seconds_before + (0.0 if self.began is None else time.monotonic() - self.began)

    @property
    def is_done(self) -> bool:
        """Whether no update of this stage is left."""
        return self.is_stopped or (self.trainer.updates > 0 and self.fraction_done(self.updates) >= 1)

    def fraction_done(self, updates: Any) -> Any:
        """The fraction of this stage that is done after these numbers of updates, from 0 to 1."""
        before, steps = self.updates_before, self.steps
        fraction = (updates - before) / (steps - before) if steps else np.zeros_like(updates)
        if self.config.time_limit:
            fraction = np.maximum(fraction, (self.seconds - self.stage_began) / self._seconds_of_stage)
        return np.minimum(fraction, 1.0)

    @property
    def _seconds_of_stage(self) -> float:
        """The time limit of this stage."""
        limit = cast("float", self.config.time_limit)
        if self.refit_reader is not None and not self.is_refit:
            limit *= 1 - REFIT_TIME
        return max(limit - self.stage_began, 1e-9)

    @property
    def schedule(self) -> Schedule:
        """The schedule of this stage."""
        if self.is_refit:
            return Linear(warmup=min(REFIT_WARMUP, self.refit_steps // 10))
        return self.config.schedule

    def begin_refit(self) -> None:
        """Go on over the whole text, from the weights that the model has."""
        best = int(cast("Record", self.model.kept_record)["step"]) + 1
        self._enter_refit(self.updates, max(1, round(best / UPDATES_OF_BEST)))
        self.stage_began = self.seconds
        _begin_again(self.trainer, self.model.network.flat)
        self.is_stopped, self.told = False, self.updates

    def _enter_refit(self, updates_before: int, steps: int) -> None:
        if not self.is_refit:
            self.reader, self.held_out = cast("WindowReader", self.refit_reader), None
            self.trainer.dropout_seed ^= 1  # else the masks are those of the first updates
        self.is_refit, self.updates_before, self.refit_steps = True, updates_before, steps

    def updates_to_next_call(self) -> int:
        """The most updates that may be done before a callback must be called."""
        wanted = [callback.updates_to_call(self) for callback in self.callbacks]
        left = 1 << 16 if self.steps is None else self.steps - self.updates
        return min([left, *(count for count in wanted if count is not None)])

    def symbols(self, first: int, count: int) -> int:
        """The number of targets of ``count`` updates, from number ``first`` on."""
        reader, T = self.reader, self.reader.seq_length
        starts = (first - self.updates_before + np.arange(count)) % reader.windows * T
        return int(np.minimum(T, reader.layout.n_steps - starts).sum()) * reader.layout.batch_size

    def tell(self, method: str, *event: Any) -> None:
        """Call a method of each callback; any of them may end training."""
        for callback in self.callbacks:
            answer = getattr(callback, method)(self, *event)
            if isinstance(answer, bool | np.bool_) and answer:
                self.is_stopped = True

    def snapshot(self) -> Arrays:
        """Copies of all that the next updates and records depend on, beside settings and text."""
        return {
            **{f"trainer.{name}": array for name, array in self.trainer.snapshot().items()},
            **{f"history.{key}": column for key, column in self.model.history.columns().items()},
            "seconds": np.array(self.seconds),
            "rate_factor": np.array(self.rate_factor),
            "is_stopped": np.array(self.is_stopped, np.uint8),
            "stage_began": np.array(self.stage_began),
            **self._refit_snapshot(),
            **{
                f"{name}.{key}": _copied(f"{name}.{key}", array)
                for name, callback in self._named_callbacks()
                for key, array in callback.snapshot().items()
            },
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `snapshot` returned; the next update is then the same as it would have been."""
        if "refit.steps" in arrays:
            refit = below("refit", arrays)
            self._enter_refit(int(refit["updates_before"]), int(refit["steps"]))
        self.trainer.restore(below("trainer", arrays))
        self.model.history = type(self.model.history).of_columns(below("history", arrays))
        self.stage_began = float(arrays["stage_began"])
        self.seconds_before, self.began = float(arrays["seconds"]), self.began and time.monotonic()
        self.rate_factor = float(arrays["rate_factor"])
        self.is_stopped, self.told = bool(arrays["is_stopped"]), self.updates
        for name, callback in self._named_callbacks():
            if any(key.startswith(f"{name}.") for key in arrays):
                callback.restore(below(name, arrays))

    def _refit_snapshot(self) -> Arrays:
        """What a checkpoint keeps of the refit, if it has begun."""
        if not self.is_refit:
            return {}
        return {
            "refit.updates_before": np.array(self.updates_before),
            "refit.steps": np.array(self.refit_steps),
        }

    def _named_callbacks(self) -> Iterator[tuple[str, Callback]]:
        """The callbacks with the beginning of the names of their arrays: their class, and a number."""
        found: dict[str, int] = {}
        for callback in self.callbacks:
            kind = type(callback).__name__
            found[kind] = found.get(kind, -1) + 1
            yield f"{kind}.{found[kind]}", callback


def _begin_again(trainer: Trainer, weights: NDArray[Any]) -> None:
    """Let a trainer forget its updates, and begin with these weights."""
    before = trainer.snapshot()
    new = {
        "parameters": weights.copy(),
        "average": np.broadcast_to(weights, before["average"].shape),
        "moments": trainer.optimizer.initial_moments(weights.size, weights.dtype),
        "updates": np.array(0),
        "gradient_norm": np.array(np.nan),
    }
    trainer.restore(new)


def _copied(name: str, array: Any) -> NDArray[Any]:
    """A copy of an array of a callback, which training will go on to change."""
    copied = np.array(array)
    if copied.dtype.newbyteorder("<") not in TYPES:
        raise TypeError(f"{name} has dtype {copied.dtype}; a snapshot is of {', '.join(map(str, TYPES))}")
    return copied


def below(name: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """The arrays whose names begin with a name and a dot, by the rest of the name."""
    start = f"{name}."
    return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}
