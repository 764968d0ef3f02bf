"""Checkpoint files: a training between two updates, as one safetensors file.

The metadata says what was trained, and with what; the tensors are the state of training, and ``model``: the
bytes of a model file with the weights that the model would get if training ended here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.checks import shown
from fastrnn.errors import CheckpointError
from fastrnn.model.safetensors_format import (
    TYPE_NAMES,
    TensorSpec,
    header_of,
    header_size,
    read_description,
    read_tensors,
    write_tensors,
)

#: What a file's metadata says of its kind, and the version of its format.
KIND, VERSION = "checkpoint", 1

#: The tensor that holds a model file.
MODEL = "model"


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint.

    Attributes
    ----------
    about
        What was trained, and with what: values that JSON has.
    arrays
        The state of training, `fastrnn.training.events.Training.snapshot`.
    model
        The bytes of a model file.
    """

    about: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    model: bytes

    def to_bytes(self) -> bytes:
        """The bytes of the file."""
        model = np.frombuffer(self.model, np.uint8)
        description = {"kind": KIND, "format_version": VERSION, "about": self.about}
        return write_tensors(description, {MODEL: model, **self.arrays})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote, and nothing else.

        Raises
        ------
        CheckpointError
            It is not a checkpoint, or it was damaged.
        """
        header = data[8 : 8 + header_size(data[:8], len(data))]
        description, entries = read_description(header)
        if not is_checkpoint(description):
            raise CheckpointError("it is not a checkpoint")
        if description.get("format_version") != VERSION:
            raise CheckpointError(
                f"its format is {shown(description.get('format_version'))}, and this version of fastrnn "
                f"reads {VERSION}"
            )
        expected = {name: _spec(entry) for name, entry in entries.items()}
        size = 8 + len(header) + sum(tensor.nbytes for tensor in expected.values())
        if header != header_of(description, expected) or len(data) != size:
            raise CheckpointError("its header is not what fastrnn writes")
        arrays = read_tensors(data, description, expected)
        if MODEL not in arrays or not isinstance(description.get("about"), dict):
            raise CheckpointError("it has no model, or does not say what was trained")
        return cls(description["about"], arrays, arrays.pop(MODEL).tobytes())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file; errors are those of `from_bytes`, with the path, and ``OSError``."""
        try:
            return cls.from_bytes(Path(path).read_bytes())
        except CheckpointError as error:
            raise CheckpointError(f"{os.fspath(path)} cannot be resumed: {error}") from error


def is_checkpoint(description: dict[str, Any]) -> bool:
    """Whether a file with this metadata is a checkpoint."""
    return description.get("kind") == KIND


def _spec(entry: Any) -> TensorSpec:
    """The type and shape of a tensor from its entry in a header."""
    try:
        shape = tuple(entry["shape"])
        dtype = TYPE_NAMES[entry["dtype"]]
    except (KeyError, TypeError) as error:
        raise CheckpointError("its header is not what fastrnn writes") from error
    if not all(type(size) is int and size >= 0 for size in shape):
        raise CheckpointError("its header is not what fastrnn writes")
    return TensorSpec(dtype, shape)
