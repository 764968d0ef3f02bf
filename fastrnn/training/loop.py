"""The loop of `fastrnn.train`: it does the updates, records them, and keeps the best or the last weights."""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.terminal import STDERR
from fastrnn.data.batches import Batch, WindowReader
from fastrnn.errors import DivergenceError, TrainingInterrupted
from fastrnn.inference import scoring
from fastrnn.model.history import Record
from fastrnn.model.model import Model
from fastrnn.schedules import Progress
from fastrnn.training.pace import Pace
from fastrnn.training.presets import TrainingConfig
from fastrnn.training.trainer import Trainer

logger = logging.getLogger("fastrnn")

#: Seconds from one line of progress to the next, if no bar is shown.
PROGRESS_SECONDS = 5.0


@dataclass
class Run:
    """One training run: its data, and when it ends. No setting of its configuration is ``"auto"``."""

    config: TrainingConfig
    trainer: Trainer
    model: Model
    reader: WindowReader
    held_out: Batch | None
    #: When the first update began; the time limit is counted from there.
    began: float | None = None

    @property
    def steps(self) -> int | None:
        """The number of updates, or ``None`` if only the time limits it."""
        if self.config.epochs is not None:
            return self.config.epochs * self.reader.windows
        return cast("int | None", self.config.steps)

    @property
    def log_every(self) -> int:
        """The number of updates from one record to the next."""
        return cast("int", self.config.log_every)

    def fraction_done(self, updates: Any) -> Any:
        """The fraction of training that is done after these numbers of updates, from 0 to 1."""
        fraction = updates / self.steps if self.steps else np.zeros_like(updates)
        if self.config.time_limit and self.began is not None:
            fraction = np.maximum(fraction, (time.monotonic() - self.began) / self.config.time_limit)
        return np.minimum(fraction, 1.0)


def fit(run: Run, *, progress: bool) -> None:
    """Do the updates, record them in the history, and show the progress.

    Raises
    ------
    DivergenceError, TrainingInterrupted
        The error has the model that training had reached.
    """
    trainer, recorder, pace = run.trainer, Recorder(run), Pace()
    with ProgressDisplay(progress) as display:
        try:
            _compile(run, display)
            run.began = display.began = time.monotonic()
            while trainer.updates == 0 or run.fraction_done(trainer.updates) < 1:
                done = trainer.updates
                losses, norms = pace.call(lambda n: _advance(run, n), _until_next_stop(run, done))
                recorder.add(done, losses, norms)
                display.show(recorder.summary(), float(run.fraction_done(trainer.updates)))
            recorder.finish()
        except KeyboardInterrupt as error:
            recorder.finish_early()
            message = f"interrupted after {trainer.updates} updates"
            raise TrainingInterrupted(message, run.model, trainer.updates) from error
        except DivergenceError as error:
            if trainer.updates and recorder.recover():
                error.model = run.model
            raise


def _compile(run: Run, display: ProgressDisplay) -> None:
    """Let the backend compile the kernels of training; the time limit does not count this."""
    kernels = {"training": _train_nothing}
    if run.held_out is not None:
        kernels["validation"] = _validate_little
    for number, (name, call) in enumerate(kernels.items(), 1):
        if run.trainer.network.backend.name == "numba":
            display.announce(
                f"compiling {name}, kernel {number} of {len(kernels)}; it takes seconds if it is not cached"
            )
        call(run)


def _train_nothing(run: Run) -> None:
    batch, _, _ = run.reader.at(0)
    run.trainer.advance(batch, run.reader.seq_length, 0, np.empty(0))


def _validate_little(run: Run) -> None:
    little = (array[:1, :1].copy() for array in vars(run.held_out).values())
    scoring.losses_of_batch(run.model.network, Batch(*little))


def _advance(run: Run, count: int) -> NDArray[np.float64]:
    """Do ``count`` updates in one native call; return their losses and gradients' norms, (2, count)."""
    done, config = run.trainer.updates, run.config
    updates = np.arange(done, done + count)
    progress = Progress(updates, run.fraction_done(updates), updates // run.reader.windows, _losses(run))
    learning_rates = config.learning_rate * config.schedule.factors(progress)
    batch, first, _ = run.reader.at(done)
    return run.trainer.advance(batch, run.reader.seq_length, first, learning_rates)


def _losses(run: Run) -> list[float]:
    """The losses that the schedule reads: those of validation if there are any, else those of training."""
    if not run.config.schedule.reads_losses:
        return []
    columns = run.model.history.columns()
    losses = columns.get("validation_loss", columns.get("loss", np.empty(0)))
    return [loss for loss in losses.tolist() if not math.isnan(loss)]


def _until_next_stop(run: Run, done: int) -> int:
    """The most updates before the loop must stop: at a record that is needed now, the end, or a new block."""
    _, _, windows = run.reader.at(done)
    left = min(windows, run.steps - done if run.steps is not None else 1 << 16)
    if run.held_out is None and not run.config.schedule.reads_losses:
        return left
    return min(left, -done % run.log_every + 1)


class Recorder:
    """Writes the model's history from the losses of the updates, and keeps the best or the last weights.

    It makes a record at every `log_every`-th update and, unless the configuration says otherwise, at the
    last one.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        #: The losses of the updates since the last record; each is a sum over a window.
        self._pending: list[float] = []
        self._first_pending = 0
        #: The norm of the last update's gradient.
        self._norm = math.nan
        self._bits = math.nan
        #: The weights of the best record or, if the best are not kept, of the last one.
        self._kept: NDArray[Any] | None = None
        self._kept_record: Record = {}

    @property
    def _keeps_best(self) -> bool:
        return self._run.config.keep == "best" and self._run.held_out is not None

    def add(self, done: int, losses: NDArray[np.float64], norms: NDArray[np.float64]) -> None:
        """Take the losses of the updates from number ``done`` on, and the norms of their gradients."""
        self._bits = losses.sum() / self._symbols(done, len(losses)) / math.log(2)
        every, start = self._run.log_every, 0
        for position in range(-done % every, len(losses), every):
            self._pending += losses[start : position + 1].tolist()
            self._norm = float(norms[position])
            self._record()
            start = position + 1
        self._pending += losses[start:].tolist()
        self._norm = float(norms[-1])

    def finish(self) -> None:
        """Record the last update, and give the model the weights that were kept."""
        if self._pending and (self._run.config.record_last or self._run.held_out is not None):
            self._record()
        if self._keeps_best:
            self._restore()
        _log_outcome(self._run, self._kept_record)

    def finish_early(self) -> None:
        """Finish after Ctrl-C; a second Ctrl-C stops this."""
        try:
            if self._run.trainer.updates:
                self.finish()
        except KeyboardInterrupt:
            logger.info("interrupted again: the model has the last weights")

    def recover(self) -> bool:
        """After a divergence, restore weights if needed; return whether the model can be used."""
        if self._keeps_best or not self._is_usable():
            self._restore()
        return self._is_usable()

    def _is_usable(self) -> bool:
        """Whether the model's weights, and its losses on a window of the text, are finite."""
        run = self._run
        batch, _, _ = run.reader.at(0)
        window = Batch(*(array[: run.reader.seq_length].copy() for array in vars(batch).values()))
        return bool(
            np.isfinite(self._flat()).all()
            and np.isfinite(scoring.losses_of_batch(run.model.network, window)).all()
        )

    def summary(self) -> str:
        """The state of training in a line."""
        unit = self._run.model.vocabulary.unit
        last = self._run.model.history[-1] if self._run.model.history else {}
        line = f"update {self._run.trainer.updates:,}: {self._bits:.3f} bits/{unit}"
        return line + _validation_text(last)

    def _flat(self) -> NDArray[Any]:
        return self._run.model.network.flat

    def _restore(self) -> None:
        if self._kept is not None:
            self._flat()[...] = self._kept

    def _symbols(self, done: int, count: int) -> int:
        """The number of targets of ``count`` updates, from number ``done`` on."""
        reader, T = self._run.reader, self._run.reader.seq_length
        starts = (done + np.arange(count)) % reader.windows * T
        return int(np.minimum(T, reader.layout.n_steps - starts).sum()) * reader.layout.batch_size

    def _record(self) -> None:
        """Make a record of the pending updates. The sum is exact, so it depends on no order."""
        run, count = self._run, len(self._pending)
        if run.config.reduction == "sum":
            loss = self._pending[-1]
        else:
            loss = math.fsum(self._pending) / self._symbols(self._first_pending, count)
        step = self._first_pending + count - 1
        record: Record = {"step": step, "loss": loss, "gradient_norm": self._norm}
        if run.held_out is not None:
            record["validation_loss"] = self._validation_loss(run.held_out)
        self._first_pending += count
        self._pending = []
        run.model.history.append(record)
        self._keep(record)
        _log_record(run, record)

    def _validation_loss(self, held_out: Batch) -> float:
        run = self._run
        loss = scoring.mean_loss(run.model.network, held_out)
        if not math.isfinite(loss):
            raise DivergenceError(
                f"training diverged: the validation loss is {loss:.4g} after {run.trainer.updates} updates. "
                f"A lower learning_rate (it was {run.config.learning_rate:g}) or a clip_norm usually helps"
            )
        return loss

    def _keep(self, record: Record) -> None:
        """Keep the weights of a record if they are the best so far; if the best are not kept, always."""
        best = self._kept_record.get("validation_loss", math.inf)
        if not self._keeps_best or record["validation_loss"] < best:
            self._kept = self._flat().copy()
            self._kept_record = record


def _log_record(run: Run, record: Record) -> None:
    """Log a record: a summed loss as it is, any other in bits per symbol."""
    if run.config.reduction == "sum":
        text = f"loss {record['loss']:.4f}"
    else:
        text = f"{record['loss'] / math.log(2):.3f} bits/{run.model.vocabulary.unit}"
    logger.info("update %d: %s%s", record["step"], text, _validation_text(record))


def _validation_text(record: Record) -> str:
    if "validation_loss" not in record:
        return ""
    return f", validation {record['validation_loss'] / math.log(2):.3f}"


def _log_outcome(run: Run, kept: Record) -> None:
    """Log the result of training: how well the model predicts the held-out part."""
    unit = run.model.vocabulary.unit
    if run.held_out is None or not run.model.history:
        logger.info("nothing was held out: how well the model does on other texts was not measured")
        return
    last = run.model.history[-1]
    reached, at_end = (record["validation_loss"] / math.log(2) for record in (kept, last))
    targets = run.held_out.targets
    first = scoring.first_symbol_probabilities(run.model.counts)
    guessing = float(-np.log2(first[targets]).mean())
    message = f"the model is that of update {kept['step']}: validation {reached:.3f} bits/{unit}"
    if kept["step"] != last["step"]:
        message += f", the best; at the end it was {at_end:.3f}"
    logger.info("%s; the frequencies of the symbols alone give %.3f", message, guessing)


class ProgressDisplay:
    """Shows the progress: a bar on a terminal or in a notebook, else a line of the log every few seconds."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._bar: Any = None
        self._done = 0.0
        #: When training began.
        self.began = self._told = time.monotonic()

    def __enter__(self) -> Self:
        if self._wanted:
            self._bar = _bar()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def announce(self, summary: str) -> None:
        """Show a message before training begins."""
        if self._bar is not None:
            self._bar.set_description_str(summary)
        elif self._wanted:
            logger.info(summary)

    def show(self, summary: str, done: float) -> None:
        """Show the fraction of training that is done, from 0 to 1."""
        if self._bar is not None:
            self._bar.set_description_str(summary, refresh=False)
            self._bar.update(done - self._done)
            self._done = done
        elif self._wanted and time.monotonic() - self._told >= PROGRESS_SECONDS:
            self._told = time.monotonic()
            left = (self._told - self.began) * (1 - done) / done if done else math.inf
            logger.info("%3.0f %% done, about %.0f s left: %s", 100 * done, left, summary)


def _bar() -> Any:
    """A bar that counts to one, or ``None`` if stderr is neither a terminal nor in a notebook."""
    notebook = _in_notebook()
    if not notebook and not STDERR.isatty():
        return None
    if notebook:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets, tqdm warns and shows a bar of characters
            from tqdm.auto import tqdm
    else:
        from tqdm import tqdm
    layout = "{percentage:3.0f}% {bar} {elapsed}<{remaining} {desc}"
    return tqdm(total=1.0, file=STDERR, bar_format=layout, dynamic_ncols=True)


def _in_notebook() -> bool:
    """Whether this runs in Jupyter or a similar notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
