"""The errors of fastrnn. A wrong argument is a ``ValueError`` or a ``TypeError`` instead."""

from __future__ import annotations

from typing import Any


class FastrnnError(Exception):
    """The base class of fastrnn's errors except `TrainingInterrupted`, which is a ``KeyboardInterrupt``."""


class BackendUnavailableError(FastrnnError):
    """The requested backend cannot run here; the message says why, and how to get it."""


class CheckpointError(FastrnnError):
    """A file is damaged, is not a model, or has a format that this version cannot read.

    Or it is a checkpoint of another text, setting or ``rng``, and was to be resumed.
    """


class DivergenceError(FastrnnError):
    """Training reached a loss, a gradient or parameters that are not finite, or a loss that exploded.

    Attributes
    ----------
    model
        If `fastrnn.train` raises the error, the `fastrnn.Model` that training had reached: the best one if
        the best weights are kept, else the last good one; ``None`` if nothing was learnt.
    step, learning_rate
        The updates that were done, and the learning rate before the schedule; ``None`` if a `Trainer` raises
        the error.
    checkpoint
        The number of updates of the checkpoint that was written last, or ``None``.
    """

    model: Any = None
    step: int | None = None
    learning_rate: float | None = None
    checkpoint: int | None = None


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during `fastrnn.train`.

    Attributes
    ----------
    model
        The `fastrnn.Model` that training had reached.
    updates
        The updates that were done.
    signal
        The number of the signal, as in the module ``signal``.
    checkpoint
        The number of updates of the checkpoint that was written last, or ``None``. If it is that of
        ``updates``, nothing is lost.
    """

    def __init__(
        self, message: str, model: Any, updates: int, signal: int, checkpoint: int | None = None
    ) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint
        self.model = model
        self.updates = updates
        self.signal = signal
