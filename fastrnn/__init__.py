"""Train, score and sample small recurrent language models on a CPU.

>>> import fastrnn
>>> model = fastrnn.train("hello", preset="scratch")
>>> round(model.history[-1]["loss"], 4)
0.0011

A public name is imported when it is first used, so ``import fastrnn`` takes almost no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastrnn.core.version import VERSION

if TYPE_CHECKING:
    from fastrnn import callbacks, optimizers, schedules
    from fastrnn.backends.registry import get_backend
    from fastrnn.errors import (
        BackendUnavailableError,
        CheckpointError,
        DivergenceError,
        FastrnnError,
        TrainingInterrupted,
    )
    from fastrnn.inference.many_streams import Streams
    from fastrnn.model.loading import load
    from fastrnn.model.model import Model
    from fastrnn.network.network import Network
    from fastrnn.report.show import show
    from fastrnn.training.events import Callback
    from fastrnn.training.settings import read_settings
    from fastrnn.training.train import train
    from fastrnn.training.trainer import Trainer

__version__ = VERSION

__all__ = [
    "BackendUnavailableError",
    "Callback",
    "CheckpointError",
    "DivergenceError",
    "FastrnnError",
    "Model",
    "Network",
    "Streams",
    "Trainer",
    "TrainingInterrupted",
    "callbacks",
    "get_backend",
    "load",
    "optimizers",
    "read_settings",
    "schedules",
    "show",
    "train",
]

_HOMES = {
    "BackendUnavailableError": "errors",
    "Callback": "training.events",
    "CheckpointError": "errors",
    "DivergenceError": "errors",
    "FastrnnError": "errors",
    "Model": "model.model",
    "Network": "network.network",
    "Streams": "inference.many_streams",
    "Trainer": "training.trainer",
    "TrainingInterrupted": "errors",
    "get_backend": "backends.registry",
    "load": "model.loading",
    "read_settings": "training.settings",
    "show": "report.show",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name in ("callbacks", "optimizers", "schedules"):
        return importlib.import_module(f"fastrnn.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
