"""Reads models from files."""

from __future__ import annotations

import os

from fastrnn.model import serialization
from fastrnn.model.model import Model
from fastrnn.network.execution import checked_threads


def load(path: str | os.PathLike[str], *, backend: str = "auto", threads: int | None = None) -> Model:
    """Load a model from its file.

    Parameters
    ----------
    path
        A file that `Model.save` wrote, or a checkpoint: its model is the one that training had reached.
    backend
        As for `fastrnn.train`. A model that one backend trained runs on all others.
    threads
        The most threads that a call of the model uses; ``None`` is one for each core that the process may
        use. Results do not depend on it.

    Raises
    ------
    fastrnn.CheckpointError
        The file is damaged, or is not a model of fastrnn; the message says why.
    OSError
        The file cannot be read.
    ValueError, TypeError, fastrnn.BackendUnavailableError
        There is no such backend, or it cannot run here; ``threads`` is out of range or of the wrong type.
    MemoryError
        The model cannot fit.
    """
    checked_threads(threads)
    model_file = serialization.read_file(path, backend)
    model_file.network.threads = threads
    return Model._of(model_file)  # noqa: SLF001  (it is a constructor)
