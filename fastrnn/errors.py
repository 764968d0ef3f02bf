"""The errors that are fastrnn's own; wrong arguments are ``ValueError`` and ``TypeError``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastrnn.model import Model


class FastrnnError(Exception):
    """The base of every error that fastrnn defines."""


class BackendUnavailableError(FastrnnError):
    """A backend was asked for that cannot run here; the message says why, and how to get it."""


class CheckpointError(FastrnnError):
    """A model file that is damaged, not a model, or of a format that this version cannot read."""


class DivergenceError(FastrnnError):
    """Training reached a loss or a gradient that is not finite.

    ``model`` holds the parameters before the update that failed; they are finite. It is ``None`` where
    a `Trainer` raised the error: its network has them.
    """

    model: Model | None = None


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `fastrnn.train`; ``model`` is what training had reached."""

    def __init__(self, message: str, model: Model) -> None:
        super().__init__(message)
        self.model = model
