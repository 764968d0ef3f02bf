"""The errors that are fastrnn's own; wrong arguments are ``ValueError`` and ``TypeError``."""

from __future__ import annotations

from typing import Any


class FastrnnError(Exception):
    """The base of fastrnn's errors, but for `TrainingInterrupted`, which is a ``KeyboardInterrupt``."""


class BackendUnavailableError(FastrnnError):
    """A backend was asked for that cannot run here; the message says why, and how to get it."""


class CheckpointError(FastrnnError):
    """A model file that is damaged, not a model, or of a format that this version cannot read."""


class DivergenceError(FastrnnError):
    """Training reached a loss, a gradient or parameters that are not finite.

    Where `fastrnn.train` raised it, ``model`` is the `fastrnn.Model` that training had reached: the best one
    where a part of the text was held out; else the one before that update or, where the update itself
    overflowed, the one of the last record. It is ``None`` where nothing was learnt.
    """

    model: Any = None


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `fastrnn.train`: the `fastrnn.Model` that it had reached after so many ``updates``."""

    def __init__(self, message: str, model: Any, updates: int) -> None:
        super().__init__(message)
        self.model = model
        self.updates = updates
