"""Callbacks of `fastrnn.train` that write what happens.

`JsonLines` is for programs, `Samples` for people, and `TensorBoard` and `MLflow` are for the tools of these
names.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO, cast

from fastrnn.core import checks
from fastrnn.core.terminal import tell
from fastrnn.model.evaluation import Evaluation
from fastrnn.model.history import Record
from fastrnn.training.events import Callback, Training, Updates
from fastrnn.training.loggers import MLflow, TensorBoard

__all__ = ["JsonLines", "MLflow", "Samples", "TensorBoard"]

logger = logging.getLogger("fastrnn")


class JsonLines(Callback):
    """Writes each record as a line of JSON when it is made, with ``seconds``: those of training so far.

    The lines are those of the history: if a checkpoint is resumed, and when the first record is made after
    training went back, later lines are left out. A file of another training is replaced. If the file cannot
    be written, the log says so, and training goes on.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._has_failed = False
        #: The update of the last line.
        self._last = -1

    def before_training(self, training: Training) -> None:
        """Begin the file, with the lines of the records that were made before."""
        self._rewrite(training, math.inf)

    def after_record(self, training: Training, record: Record) -> None:
        """Add a line."""
        if record["step"] <= self._last:
            self._rewrite(training, record["step"])
        self._write("a", json.dumps({**record, "seconds": round(training.seconds, 3)}) + "\n")
        self._last = int(record["step"])

    def after_evaluation(self, training: Training, evaluation: Evaluation) -> None:
        """Add the evaluation to the line of its record."""
        kept = cast("Record", training.model.kept_record)
        self._rewrite(training, math.inf, {kept["step"]: evaluation.as_record()})

    def _rewrite(
        self, training: Training, end: float, more: Mapping[float, Mapping[str, float]] = MappingProxyType({})
    ) -> None:
        """Keep the lines of records that are in the history, of updates before ``end``.

        ``more`` has keys and values to add to lines, by update.
        """
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines() if training.updates else []
        except (OSError, ValueError):
            lines = []
        steps = {record["step"] for record in training.model.history if record["step"] < end}
        kept = {step: line for line in lines if (step := _step(line)) in steps}
        for step in kept.keys() & more.keys():
            kept[step] = json.dumps({**json.loads(kept[step]), **more[step]})
        self._write("w", "".join(f"{line}\n" for line in kept.values()))

    def _write(self, mode: str, text: str) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            if not self._has_failed:
                logger.warning("%s cannot be written: %s; training goes on", self._path, error)
            self._has_failed = True


def _step(line: str) -> float:
    """The update of a line; infinity if it is not a line that `JsonLines` wrote, such as a torn one."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class Samples(Callback):
    """Writes a sample of the model now and then.

    Parameters
    ----------
    every
        The number of updates from one sample to the next.
    n
        The number of symbols of a sample.
    prime
        A text that the sample continues, as for `fastrnn.Model.sample`.
    temperature
        The temperature of `fastrnn.Model.sample`.
    file
        Where to write; ``None`` is stderr, above a progress bar.

    Raises
    ------
    ValueError, TypeError
        ``every`` or ``n`` is not a whole number above zero; when training begins, also if the model cannot
        draw such samples.
    """

    def __init__(
        self,
        every: int,
        n: int = 200,
        *,
        prime: Any = None,
        temperature: float = 1.0,
        file: TextIO | None = None,
    ) -> None:
        self.every = checks.whole_number("every", every)
        self._n = checks.whole_number("n", n)
        self._options = {"prime": prime, "temperature": temperature}
        self._file = file

    def before_training(self, training: Training) -> None:
        """Draw a symbol, so that a wrong argument is an error now."""
        training.model.sample(1, rng=0, **self._options)

    def after_updates(self, training: Training, updates: Updates) -> None:
        """Write a sample; its draws are the same each time, and take none of those of training."""
        if training.updates % (self.every or 1):
            return
        line = f"update {training.updates:,}: {training.model.sample(self._n, rng=0, **self._options)!r}"
        if self._file is None:
            tell(line)
        else:
            self._file.write(line + "\n")
            self._file.flush()
