"""Callbacks that give the numbers of each record to a program that draws them: TensorBoard and MLflow.

A library that fails, such as on a full disk or without its server, does not end training: the log says so.
The libraries are extras, and are imported when training begins.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.model.evaluation import Evaluation
from fastrnn.model.history import Record
from fastrnn.model.model import Model
from fastrnn.training.events import Arrays, Callback, Training
from fastrnn.training.recorder import BestWeights

logger = logging.getLogger("fastrnn")


class Logger(Callback, ABC):
    """What the loggers share: the numbers of a record, samples, and what happens if a library fails.

    Attributes
    ----------
    name
        The library in messages.
    package, extra
        What must be installed, and the extra of fastrnn that installs it.
    """

    name: str
    package: str
    extra: str

    def __init__(self, samples: int) -> None:
        self._samples = checks.whole_number("samples", samples, minimum=0)
        if importlib.util.find_spec(self.package) is None:
            raise ValueError(
                f"{self.name} needs the package {self.package}: pip install 'fastrnn[{self.extra}]'"
            )
        self._has_failed = False
        #: How training ends: it is finished, interrupted or failed.
        self._outcome = "finished"
        #: The update of the last record, the updates that were done before it, and the seconds until then.
        self._last, self._updates, self._seconds = -1, 0, 0.0

    def before_training(self, training: Training) -> None:
        """Begin a run, or go on with the one of the checkpoint."""
        history = training.model.history
        self._last = int(history[-1]["step"]) if history else -1
        self._updates, self._seconds = training.updates, training.seconds
        self._has_failed, self._outcome = False, "finished"
        with self._failures_told():
            self._begin(training)

    def after_record(self, training: Training, record: Record) -> None:
        """Write the numbers of a record and, if asked for, a sample."""
        step = int(record["step"])
        numbers = self._numbers(training, record)
        with self._failures_told():
            sample = _sample(training.model, self._samples) if self._samples else None
            if step <= self._last:
                self._go_back(step)
            self._write(step, numbers, sample)
        self._last, self._updates, self._seconds = step, training.updates, training.seconds

    def after_evaluation(self, training: Training, evaluation: Evaluation) -> None:
        """Write how well the weights that are kept predict all that is held out."""
        step = int(cast("Record", training.model.kept_record)["step"])
        found = evaluation.describe().items()
        numbers = {f"held_out_{name}": float(value) for name, value in found if value is not None}
        with self._failures_told():
            self._write(step, numbers, None)

    def after_interruption(self, training: Training, is_between_updates: bool) -> None:
        """Note how training ends; a last record may come before its end."""
        self._outcome = "interrupted"

    def after_error(self, training: Training, error: Exception) -> None:
        """End the run."""
        self._outcome = "failed"
        self.after_training(training)

    def after_training(self, training: Training) -> None:
        """End the run."""
        with self._failures_told():
            self._end(training)

    def _numbers(self, training: Training, record: Record) -> dict[str, float]:
        """The numbers of a record, and what is computed from them, by name."""
        numbers = {name: float(value) for name, value in record.items() if name != "step"}
        loss = record["loss"]
        if training.config.reduction == "sum":
            loss /= training.symbols(int(record["step"]), 1)
        numbers["bits_per_symbol"] = loss / math.log(2)
        if "validation_loss" in record:
            numbers["validation_bits_per_symbol"] = record["validation_loss"] / math.log(2)
        count, seconds = training.updates - self._updates, training.seconds - self._seconds
        if count > 0 and seconds > 0:
            numbers["symbols_per_second"] = training.symbols(self._updates, count) / seconds
        return numbers

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Log the first failure of the library."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  (a library may raise anything)
            if not self._has_failed:
                logger.warning("%s cannot be written: %s; training goes on", self.name, error)
            self._has_failed = True
            self._drop()

    @abstractmethod
    def _begin(self, training: Training) -> None:
        """Begin or go on with a run; the last record that it should have is `_last`."""

    def _go_back(self, step: int) -> None:
        """Leave out what was written of this update and of later ones: training went back."""

    @abstractmethod
    def _write(self, step: int, numbers: Mapping[str, float], sample: str | None) -> None:
        """Write the numbers of a record, and a sample."""

    @abstractmethod
    def _end(self, training: Training) -> None:
        """End the run, if there is one."""

    @abstractmethod
    def _drop(self) -> None:
        """Give up what failed."""


class TensorBoard(Logger):
    """Writes an event file for TensorBoard: the numbers of each record, and the settings.

    If a checkpoint is resumed or training goes back, and if the directory has another training, TensorBoard
    leaves out what was written for these updates before. If a file cannot be written, the log says so,
    training goes on, and the next record begins another file.

    Parameters
    ----------
    directory
        The directory of the run; it is made if it does not exist.
    samples
        The number of symbols of a sample that is written with each record; 0 is no sample.

    Raises
    ------
    ValueError, TypeError
        The package tensorboardX is not installed (``pip install 'fastrnn[tensorboard]'``), or ``samples`` is
        not a whole number.
    """

    name, package, extra = "TensorBoard", "tensorboardX", "tensorboard"

    def __init__(self, directory: str | os.PathLike[str], *, samples: int = 0) -> None:
        super().__init__(samples)
        self._directory = Path(directory)
        #: The writer of an event file; `SummaryWriter` would write in a thread, and hang if the disk is full.
        self._writer: Any = None

    def _begin(self, training: Training) -> None:
        from tensorboardX import summary

        first = self._last + 1
        self._go_back(first)
        settings = _flat(training.model.settings)
        experiment, start, _ = summary.hparams(settings, {"loss": 0.0, "validation_loss": 0.0})
        table = "".join(f"| {name} | {value} |\n" for name, value in settings.items())
        for one in (
            experiment,
            start,
            summary.text("settings", f"| setting | value |\n| --- | --- |\n{table}"),
        ):
            self._add(first, summary=one)
        self._writer.flush()

    def _go_back(self, step: int) -> None:
        from tensorboardX.proto.event_pb2 import SessionLog

        self._add(step, session_log=SessionLog(status=SessionLog.START))

    def _write(self, step: int, numbers: Mapping[str, float], sample: str | None) -> None:
        from tensorboardX import summary

        for name, number in numbers.items():
            self._add(step, summary=summary.scalar(name, number))
        if sample is not None:
            self._add(step, summary=summary.text("sample", sample))
        self._writer.flush()

    def _add(self, step: int, **what: Any) -> None:
        """Write an event; begin a file if there is none."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event

        if self._writer is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(os.fspath(self._directory / "events"), f".{step:09}")
        self._writer.write_event(Event(step=step, wall_time=time.time(), **what))

    def _end(self, training: Training) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _drop(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._failures_told():
                writer.close()


class MLflow(Logger):
    """Logs to MLflow: the numbers of each record as metrics, and the settings as parameters of a run.

    If a checkpoint is resumed, its run goes on, and no metric is logged twice. If training goes back after a
    divergence, the run keeps what was logged before, because MLflow removes no metric. If MLflow fails, the
    log says so, and training goes on without it; how often and how long MLflow tries is in its variables
    ``MLFLOW_HTTP_REQUEST_MAX_RETRIES`` and ``MLFLOW_HTTP_REQUEST_TIMEOUT``.

    Parameters
    ----------
    experiment
        The name of the experiment; it is made if it does not exist.
    tracking_uri
        Where MLflow keeps its runs, such as the address of a server. ``None`` is what MLflow itself takes,
        the variable ``MLFLOW_TRACKING_URI``. For a folder, MLflow needs ``MLFLOW_ALLOW_FILE_STORE=true``, and
        for a database the package mlflow instead of mlflow-skinny, which the extra installs.
    run_name
        The name of the run; ``None`` lets MLflow make one.
    model
        Whether the run gets the file of the model when training ends, ``model.safetensors``.
    samples
        The number of symbols of a sample that is logged with each record; 0 is no sample.

    Raises
    ------
    ValueError, TypeError
        MLflow is not installed (``pip install 'fastrnn[mlflow]'``), or an argument has the wrong type.
    """

    name, package, extra = "MLflow", "mlflow", "mlflow"

    #: MLflow's words for how a run ended.
    STATES: ClassVar[dict[str, str]] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}

    def __init__(
        self,
        experiment: str = "fastrnn",
        *,
        tracking_uri: str | None = None,
        run_name: str | None = None,
        model: bool = False,
        samples: int = 0,
    ) -> None:
        super().__init__(samples)
        for name, value in (
            ("experiment", experiment), ("tracking_uri", tracking_uri), ("run_name", run_name)
        ):  # fmt: skip
            if not isinstance(value, str) and (value is not None or name == "experiment"):
                raise TypeError(f"{name}={checks.shown(value)} must be a str")
        self._experiment, self._uri, self._run_name = experiment, tracking_uri, run_name
        self._logs_model = checks.flag("model", model)
        #: MLflow's client while a run is written, and the run's id; a checkpoint keeps the id.
        self._client: Any = None
        self._run: str | None = None
        self._is_restored = False
        #: The updates whose records the run had when a checkpoint was resumed.
        self._logged: set[int] = set()

    def _begin(self, training: Training) -> None:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        if not self._is_restored:
            self._run, self._logged = None, set()
        self._is_restored = False
        if self._run is None:
            found = client.get_experiment_by_name(self._experiment)
            experiment = client.create_experiment(self._experiment) if found is None else found.experiment_id
            self._run = client.create_run(experiment, run_name=self._run_name).info.run_id
            for name, value in _flat(training.model.settings).items():
                client.log_param(self._run, name, value)
        else:
            client.update_run(self._run, "RUNNING")
            self._logged = {metric.step for metric in client.get_metric_history(self._run, "loss")}
        self._client = client

    def _write(self, step: int, numbers: Mapping[str, float], sample: str | None) -> None:
        if self._client is None or step in self._logged:
            return
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)
        if sample is not None:
            self._client.log_text(self._run, sample, f"samples/{step:09}.txt")

    def _go_back(self, step: int) -> None:
        self._logged.clear()

    def _end(self, training: Training) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if self._logs_model and self._outcome != "failed":
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model.safetensors")
                _final_model(training).save(path)
                client.log_artifact(self._run, os.fspath(path))
        client.set_terminated(self._run, self.STATES[self._outcome])

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # it has just failed
                client.set_terminated(self._run, self.STATES["failed"])

    def snapshot(self) -> Arrays:
        return {} if self._run is None else {"run": np.frombuffer(self._run.encode(), np.uint8)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        if self._client is None:  # else training goes back, and its run goes on
            self._run, self._is_restored = arrays["run"].tobytes().decode(), True


#: The settings that have settings of their own.
TABLES = ("optimizer", "schedule")


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without tables: those of an optimizer or a schedule get names such as ``optimizer.eps``."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and name in TABLES:
            found |= {f"{name}.{key}": one for key, one in _flat(value).items()}
        else:
            found[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def _sample(model: Model, n: int) -> str:
    """A sample as a text; its draws are the same each time, and take none of those of training."""
    drawn = model.sample(n, rng=0)
    if isinstance(drawn, bytes):
        return drawn.decode(errors="backslashreplace")
    return drawn if isinstance(drawn, str) else " ".join(map(str, drawn))


def _final_model(training: Training) -> Model:
    """The model that training gives if it ends now: with the best weights, if they are kept."""
    kept = [callback.weights for callback in training.callbacks if isinstance(callback, BestWeights)]
    model = training.model
    if not kept or kept[0] is None:
        return model
    weights = memory.lasting(kept[0].size, kept[0].dtype)
    weights[...] = kept[0]
    network = model.network.with_parameters(weights)
    return Model(network, model.vocabulary, model.counts, model.settings, model.history)
