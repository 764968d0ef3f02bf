"""Callbacks of `fastrnn.train` that write what happens: `JsonLines` for programs, `Samples` for people."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from fastrnn.core import checks
from fastrnn.model.history import Record
from fastrnn.training.events import Callback, Training, Updates

__all__ = ["JsonLines", "Samples"]

logger = logging.getLogger("fastrnn")


class JsonLines(Callback):
    """Writes each record as a line of JSON when it is made, with ``seconds``: those of training so far.

    If a checkpoint is resumed, the lines of its records are kept, and later ones are left out. Without one,
    a file that exists is replaced. If the file cannot be written, the log says so, and training goes on.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._has_failed = False

    def before_training(self, training: Training) -> None:
        """Begin the file, with the lines of the records that were made before."""
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines() if training.updates else []
        except OSError:
            lines = []
        kept = [line for line in lines if _step(line) < training.updates]
        self._write("w", "".join(f"{line}\n" for line in kept))

    def after_record(self, training: Training, record: Record) -> None:
        """Add a line."""
        self._write("a", json.dumps({**record, "seconds": round(training.seconds, 3)}) + "\n")

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
        return float("inf")


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
        Where to write; ``None`` is stderr.

    Raises
    ------
    ValueError, TypeError
        ``every`` or ``n`` is not a whole number above zero.
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

    def after_updates(self, training: Training, updates: Updates) -> None:
        """Write a sample; its draws are the same each time, and take none of those of training."""
        if training.updates % (self.every or 1):
            return
        drawn = training.model.sample(self._n, rng=0, **self._options)
        file = self._file or sys.stderr
        if file is not None:
            file.write(f"update {training.updates:,}: {drawn!r}\n")
            file.flush()
