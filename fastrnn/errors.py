"""The errors that are fastrnn's own; wrong arguments are ``ValueError`` and ``TypeError``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastrnn.model import Model


class FastrnnError(Exception):
    """The base of fastrnn's errors, but for `TrainingInterrupted`, which is a ``KeyboardInterrupt``."""


class BackendUnavailableError(FastrnnError):
    """A backend was asked for that cannot run here; the message says why, and how to get it."""


class CheckpointError(FastrnnError):
    """A model file that is damaged, not a model, or of a format that this version cannot read."""


class DivergenceError(FastrnnError):
    """Training reached a loss, a gradient or parameters that are not finite.

    ``model``, where `fastrnn.train` raised it, is the one that training had reached: the best where a part of
    the text was held out, else as before that update or, where the update itself overflowed, as at the last
    record. It is ``None`` where nothing was learnt.
    """

    model: Model | None = None


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `fastrnn.train`; ``model`` is what it had reached after so many ``updates``."""

    def __init__(self, message: str, model: Model, updates: int) -> None:
        super().__init__(message)
        self.model = model
        self.updates = updates
