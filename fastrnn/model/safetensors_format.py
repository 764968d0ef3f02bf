"""The safetensors format, in the only form that fastrnn writes and reads.

A file has the size of its header, the header and the tensors. The header is JSON; it has the type, the shape
and the place of each tensor. The bytes are the same as those that the safetensors package writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.errors import CheckpointError
from fastrnn.model.model_file import MAX_DIGITS

METADATA_KEY = "fastrnn"

#: The most bytes of a header that is written or read: about a hundred times those of a model's header.
HEADER_LIMIT = 1 << 20

#: A header is padded so that the tensors begin at a multiple of this.
ALIGNMENT = 8

#: The types of a file's tensors by their names in safetensors, in the order by which it sorts tensors.
TYPE_NAMES: dict[str, np.dtype[Any]] = {
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "U8": np.dtype("u1"),
}
TYPES = list(TYPE_NAMES.values())


class TensorSpec(NamedTuple):
    """Type and shape of a tensor that a file must have."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def type_name(self) -> str:
        """The type's name in safetensors."""
        return list(TYPE_NAMES)[TYPES.index(self.dtype)]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def in_order(expected: Mapping[str, TensorSpec]) -> list[str]:
    """The names of tensors in the order in which safetensors writes them."""
    return sorted(expected, key=lambda name: (TYPES.index(expected[name].dtype), name.encode()))


def header_of(description: Mapping[str, Any], expected: Mapping[str, TensorSpec]) -> bytes:
    """The header of a file with this metadata and these tensors, as safetensors writes it."""
    entries: dict[str, Any] = {"__metadata__": {METADATA_KEY: to_json(description)}}
    start = 0
    for name in in_order(expected):
        tensor = expected[name]
        stop = start + tensor.nbytes
        entries[name] = {
            "dtype": tensor.type_name,
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % ALIGNMENT)


def to_json(description: Mapping[str, Any]) -> str:
    """Return a description as JSON; equal descriptions give the same text."""
    return json.dumps(description, sort_keys=True, allow_nan=False, separators=(",", ":"))


def checksum_of(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the description and each tensor's name, type, shape and values."""
    from hashlib import sha256

    digest = sha256(to_json(description).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype.newbyteorder('<').str} {tensor.shape}\n".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def header_size(start: bytes, total: int) -> int:
    """Return the size of the header, which the first eight bytes of a file hold."""
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > total - 8:
        raise CheckpointError("it is truncated, or not a safetensors file")
    if size > HEADER_LIMIT:
        raise CheckpointError(f"its header has {size} bytes; at most {HEADER_LIMIT} are allowed")
    return size


def parse_json(text: str | bytes, what: str) -> dict[str, Any]:
    """Return the object of a JSON text, or raise a `CheckpointError`; ``what`` is the text's name in it."""
    try:
        value = json.loads(
            text,
            parse_constant=_finite,
            parse_int=_whole,
            parse_float=_finite,
            object_pairs_hook=_without_duplicates,
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its {what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"its {what} is not a JSON object")
    return value


def _whole(number: str) -> int:
    if len(number.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(number)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not a finite number")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def write_tensors(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a file with this description, to which a checksum is added, and these tensors.

    Raises
    ------
    ValueError
        The header is too large.
    """
    tensors = {
        name: np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).reshape(tensor.shape)
        for name, tensor in tensors.items()
    }
    description = {**description, "checksum": checksum_of(description, tensors)}
    expected = {name: TensorSpec(tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    header = header_of(description, expected)
    if len(header) > HEADER_LIMIT:
        raise ValueError(
            f"settings, and the keys of the history, are too large: a file's header may have {HEADER_LIMIT} "
            f"bytes, and this one has {len(header)}"
        )
    parts = [tensors[name].data for name in in_order(expected) if tensors[name].size]
    return b"".join([len(header).to_bytes(8, "little"), header, *parts])


def read_description(header: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The description in a header, and the entries of its tensors."""
    entries = parse_json(header, "header")
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or list(metadata) != [METADATA_KEY]:
        raise CheckpointError("it has no fastrnn metadata")
    if not isinstance(metadata[METADATA_KEY], str):
        raise CheckpointError("its metadata is not text")
    return parse_json(metadata[METADATA_KEY], "metadata"), entries


def read_tensors(
    data: bytes, description: dict[str, Any], expected: Mapping[str, TensorSpec]
) -> dict[str, NDArray[Any]]:
    """The tensors, which are the last bytes of a file; the checksum is taken out of the description."""
    tensors, start = {}, len(data) - sum(tensor.nbytes for tensor in expected.values())
    for name in in_order(expected):
        dtype, shape = expected[name]
        tensors[name] = np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape)
        start += expected[name].nbytes
    if description.pop("checksum", None) != checksum_of(description, tensors):
        raise CheckpointError("its checksum is wrong: the file was damaged or changed")
    return tensors
