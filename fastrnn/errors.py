"""The errors of fastrnn. A wrong argument is a ``ValueError`` or a ``TypeError`` instead."""

from __future__ import annotations

from typing import Any


class FastrnnError(Exception):
    """The base class of fastrnn's errors except `TrainingInterrupted`, which is a ``KeyboardInterrupt``."""


class BackendUnavailableError(FastrnnError):
    """The requested backend cannot run here; the message says why, and how to get it."""


class CheckpointError(FastrnnError):
    """A model file is damaged, is not a model, or has a format that this version cannot read."""


class DivergenceError(FastrnnError):
    """Training reached a loss, a gradient or parameters that are not finite.

    If `fastrnn.train` raises it, ``model`` is the `fastrnn.Model` that training had reached: the best one if
    the best weights are kept; else the one before that update or, if the update itself overflowed, that of
    the last record. It is ``None`` if nothing was learnt.
    """

    model: Any = None


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `fastrnn.train`; ``model`` is the `fastrnn.Model` after this number of ``updates``."""

    def __init__(self, message: str, model: Any, updates: int) -> None:
        super().__init__(message)
        self.model = model
        self.updates = updates
