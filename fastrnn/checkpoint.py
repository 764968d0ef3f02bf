"""Model files: one safetensors file that holds everything, and is believed only after it was checked.

The tensors are the parameters by name, ``vocabulary.symbols``, ``vocabulary.counts`` and one column for
each key of the history; where tokens have names, ``vocabulary.names``, all of them in UTF-8, and
``vocabulary.lengths``, how many characters each has. The one metadata key, ``fastrnn``, is sorted JSON: the
format's version, what the network and the vocabulary are, the settings of the training, and a SHA-256
checksum over all of this and every tensor. A file holds no clock, path, backend or thread count.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import checks, memory
from fastrnn.errors import CheckpointError
from fastrnn.layout import parameter_layout
from fastrnn.network import OPTIONS, Network, checked_shape
from fastrnn.vocabulary import MOST_TOKENS, UNITS, TokenVocabulary, Vocabulary

FORMAT_VERSION = 2
METADATA_KEY = "fastrnn"

#: The largest header that is read, in bytes: some hundred times what a model has.
HEADER_LIMIT = 1 << 20

#: Types of a file's tensors, as safetensors names them.
TYPE_NAMES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"),
    "I64": np.dtype("<i8"),
}

MAX_CODE_POINT = 0x10FFFF

#: How many symbols a unit has, at least and at most, boundaries not counted.
SYMBOLS = {"character": (0, MAX_CODE_POINT + 1), "byte": (256, 256), "token": (1, MOST_TOKENS)}

#: Bytes of memory that reading a byte of a file takes, at most, before it is found right or wrong.
READING_COST = 3

#: Bytes of memory that a token's name takes, at most, beside its characters, and that a character takes.
NAME_COST, CHARACTER_COST = 256, 8

#: What the metadata of the first version has.
KEYS = {
    *("cell", "checksum", "documents", "dtype", "format_version", "hidden_size", "record_keys"),
    *("records", "settings", "unit", "vocab_size"),
}

#: What each later version added, and what it is in a file of an earlier one. ``name_bytes`` is the size of
#: the tokens' names, or null where they have none.
ADDED: dict[int, dict[str, Any]] = {
    2: {
        "name_bytes": None,
        "activation": "tanh",
        "num_layers": 1,
        "embedding_size": None,
        "tied": False,
        "dropout": 0.0,
    }
}


@dataclass(frozen=True)
class Contents:
    """All that a model file holds."""

    network: Network
    vocabulary: Vocabulary
    counts: NDArray[np.int64]
    settings: Mapping[str, Any]
    history: list[dict[str, float]]


class Expected(NamedTuple):
    """Type and shape of a tensor that a file must have."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


# ---- Writing -----------------------------------------------------------------------------------------


def to_bytes(contents: Contents) -> bytes:
    """The bytes of a model's file."""
    from safetensors.numpy import save

    network, vocabulary = contents.network, contents.vocabulary
    history = _columns(contents.history)
    names = _name_tensors(vocabulary)
    description = {
        "format_version": FORMAT_VERSION,
        "cell": network.cell,
        **network.options(),
        "dtype": network.dtype.name,
        "hidden_size": network.hidden_size,
        "vocab_size": vocabulary.size,
        "unit": vocabulary.unit,
        "documents": vocabulary.boundary,
        "name_bytes": names["vocabulary.names"].size if names else None,
        "records": len(contents.history),
        "record_keys": sorted(history),
        "settings": contents.settings,
    }
    tensors = {
        **network.parameters,
        "vocabulary.symbols": vocabulary.symbols,
        "vocabulary.counts": contents.counts,
        **names,
        **{f"history.{key}": column for key, column in history.items()},
    }
    # safetensors scrambles arrays that are not C-contiguous
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    checked = {**description, "checksum": _checksum(description, tensors)}
    return save(tensors, {METADATA_KEY: _to_json(checked)})


def _name_tensors(vocabulary: Vocabulary) -> dict[str, NDArray[Any]]:
    """The names of tokens as tensors, where they have names."""
    names = vocabulary.tokens if isinstance(vocabulary, TokenVocabulary) else None
    if names is None:
        return {}
    return {
        "vocabulary.names": np.frombuffer("".join(names).encode(), np.uint8),
        "vocabulary.lengths": np.fromiter(map(len, names), np.uint32, len(names)),
    }


def _columns(history: list[dict[str, float]]) -> dict[str, NDArray[np.float64]]:
    """The history as one column for each key; NaN where a record has not that key."""
    keys = {key for record in history for key in record}
    return {key: np.array([record.get(key, math.nan) for record in history], float) for key in keys}


def _records(columns: Mapping[str, NDArray[Any]]) -> list[dict[str, float]]:
    """The reverse of `_columns`; ``step`` is an int."""
    as_lists = {key: column.tolist() for key, column in columns.items()}
    rows = zip(*as_lists.values(), strict=True)
    records = [{k: v for k, v in zip(as_lists, row, strict=True) if not math.isnan(v)} for row in rows]
    return [{k: int(v) if k == "step" else v for k, v in record.items()} for record in records]


def _to_json(description: Mapping[str, Any]) -> str:
    return json.dumps(description, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _checksum(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the description and each tensor's name, type, shape and values."""
    from hashlib import sha256

    digest = sha256(_to_json(description).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        little_endian = tensor.dtype.newbyteorder("<")
        digest.update(f"\n{name} {little_endian.str} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor, little_endian).data)
    return digest.hexdigest()


def require_place(path: str | os.PathLike[str]) -> Path:
    """The file that a path stands for, links followed, if a model can be written there; else ``OSError``."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{os.fspath(path)!r} is a directory; the model needs the path of a file")
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{os.fspath(path)!r} is no regular file: a model would take its place")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder of {os.fspath(path)!r} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"the folder of {os.fspath(path)!r} is not writable")
    return target


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all: beside it first, synced, then moved into its place."""
    target = require_place(path)
    beside = target.with_name(f".fastrnn-{secrets.token_hex(8)}.tmp")
    file = beside.open("xb")
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    """Make a rename last; systems that cannot open a directory do without."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


# ---- Reading -----------------------------------------------------------------------------------------


def read_file(path: str | os.PathLike[str], backend: str = "auto") -> Contents:
    """Read a model's file; its header is checked before the rest of it is read."""
    try:
        with Path(path).open("rb") as file:
            size = _size_of_regular_file(file.fileno())
            memory.require(READING_COST * size, f"reading {os.fspath(path)}")
            start = file.read(8)
            header = file.read(_header_size(start, size))
            _parse_header(header, size)
            return from_bytes(start + header + file.read(), backend)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)} is not a model that fastrnn can read: {error}") from error


def from_bytes(data: bytes, backend: str = "auto") -> Contents:
    """Read what `to_bytes` wrote.

    Nothing is allocated before the header was found to describe just what the network's settings ask
    for, and nothing is used before the checksum was found right.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = bytes(data)
    size = _header_size(data[:8], len(data))
    description = _parse_header(data[8 : 8 + size], len(data))
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"safetensors refuses it: {error}") from error
    checksum = description.pop("checksum")
    if checksum != _checksum(description, tensors):
        raise CheckpointError("its checksum is wrong: the file was damaged or changed")
    return _build(_as_newest(description), tensors, backend)


def _size_of_regular_file(descriptor: int) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError("it is not a regular file")
    return status.st_size


def _header_size(start: bytes, total: int) -> int:
    """The size of the header that the first eight bytes announce."""
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > total - 8:
        raise CheckpointError("it is truncated, or no safetensors file")
    if size > HEADER_LIMIT:
        raise CheckpointError(f"its header has {size} bytes, and may have {HEADER_LIMIT}")
    return size


def _parse_header(header: bytes, total: int) -> dict[str, Any]:
    """The description in a header, if tensors and the file's total size are just those it asks for."""
    entries = _parse_json(header, "header")
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or list(metadata) != [METADATA_KEY]:
        raise CheckpointError("it has no fastrnn metadata")
    if not isinstance(metadata[METADATA_KEY], str):
        raise CheckpointError("its metadata is not text")
    description = _parse_json(metadata[METADATA_KEY], "metadata")
    _check_keys(description)
    expected = _expected_tensors(_as_newest(description))
    if entries.keys() != expected.keys():
        different = sorted(entries.keys() ^ expected.keys())
        raise CheckpointError(f"its tensors are not those of its settings; they differ in {different[:4]}")
    for name, tensor in expected.items():
        entry = entries[name] if isinstance(entries[name], dict) else {}
        if TYPE_NAMES.get(str(entry.get("dtype"))) != tensor.dtype or entry.get("shape") != list(
            tensor.shape
        ):
            raise CheckpointError(
                f"tensor {name} is {entry.get('dtype')} {entry.get('shape')}; "
                f"its settings ask for {tensor.dtype} {list(tensor.shape)}"
            )
    expected_size = 8 + len(header) + sum(tensor.nbytes for tensor in expected.values())
    if total != expected_size:
        raise CheckpointError(f"it has {total} bytes, and its settings ask for {expected_size}")
    return description


def _parse_json(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(
            text,
            parse_constant=_finite,
            parse_float=_finite,
            object_pairs_hook=_without_duplicates,
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its {what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"its {what} is not a JSON object")
    return value


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


def _check_keys(description: Mapping[str, Any]) -> None:
    """Require a version that is known, and just its keys."""
    version = description.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise CheckpointError(
            f"its format is {version!r}, and this version of fastrnn reads 1 to {FORMAT_VERSION}"
        )
    keys = KEYS.union(*(added for since, added in ADDED.items() if since <= version))
    if description.keys() != keys:
        raise CheckpointError(f"its metadata has other keys, {sorted(description.keys() ^ keys)[:4]}")


def _as_newest(description: Mapping[str, Any]) -> dict[str, Any]:
    """The description as the newest version has it."""
    version = description["format_version"]
    later = [added for since, added in ADDED.items() if since > version]
    return {**description, **{key: value for added in later for key, value in added.items()}}


def _expected_tensors(description: Mapping[str, Any]) -> dict[str, Expected]:
    """The tensors that a file of this description has; the description is checked on the way."""
    try:
        unit = checks.one_of("unit", description["unit"], UNITS)
        checks.one_of("dtype", description["dtype"], checks.DTYPES)
        V = checks.whole_number("vocab_size", description["vocab_size"])
        of_shape = ("hidden_size", "cell", "activation", "num_layers", "embedding_size", "tied")
        shape = checked_shape(V, *(description[key] for key in of_shape))
        checks.part_of_one("dropout", description["dropout"], zero=True)
        records = checks.whole_number("records", description["records"], minimum=0)
        keys = description["record_keys"]
        documents = description["documents"]
        name_bytes = description["name_bytes"]
        if name_bytes is not None:
            checks.whole_number("name_bytes", name_bytes, minimum=0)
        least, most = SYMBOLS[unit]
        good = (
            isinstance(description["checksum"], str)
            and isinstance(description["settings"], dict)
            and isinstance(documents, bool)
            and isinstance(keys, list)
            and all(isinstance(key, str) for key in keys)
            and len(set(keys)) == len(keys)
            and ({"step", "loss"} <= set(keys) if records else not keys)
            and least <= V - documents <= most
            and (name_bytes is None or unit == "token")
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"its metadata is wrong: {error}") from error
    if not good:
        raise CheckpointError("its metadata is wrong")
    dtype = np.dtype(description["dtype"]).newbyteorder("<")
    names = {
        "vocabulary.names": Expected(TYPE_NAMES["U8"], (name_bytes,)),
        "vocabulary.lengths": Expected(TYPE_NAMES["U32"], (V - documents,)),
    }
    return {
        **{entry.name: Expected(dtype, entry.shape) for entry in parameter_layout(shape).entries},
        "vocabulary.symbols": Expected(TYPE_NAMES["U32"], (V - documents,)),
        "vocabulary.counts": Expected(TYPE_NAMES["I64"], (V,)),
        **(names if name_bytes is not None else {}),
        **{f"history.{key}": Expected(TYPE_NAMES["F64"], (records,)) for key in keys},
    }


def _build(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], backend: str) -> Contents:
    """Make the model's parts, and check the values of its tensors."""
    counts = tensors["vocabulary.counts"]
    if counts.min() < 0 or counts.max() > (1 << 62) // len(counts):
        raise CheckpointError("its symbol counts are out of range")
    vocabulary = _build_vocabulary(description, tensors)
    network = Network(
        vocabulary.size,
        description["hidden_size"],
        cell=description["cell"],
        **{name: description[name] for name in OPTIONS},
        dtype=description["dtype"],
        backend=backend,
        initialization="zeros",
    )
    for name, parameter in network.parameters.items():
        parameter[...] = tensors[name]
    if not np.isfinite(network.flat).all():
        raise CheckpointError("its parameters are not all finite")
    columns = {key: tensors[f"history.{key}"] for key in description["record_keys"]}
    if columns and not (_are_steps(columns["step"]) and np.isfinite(columns["loss"]).all()):
        raise CheckpointError("its history is wrong")
    return Contents(network, vocabulary, counts, description["settings"], _records(columns))


def _build_vocabulary(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Vocabulary:
    """Make the vocabulary, and check that its symbols can be those of its unit."""
    unit, boundary, symbols = description["unit"], description["documents"], tensors["vocabulary.symbols"]
    if np.any(symbols[1:] <= symbols[:-1]):
        raise CheckpointError("its vocabulary is not in order")
    if unit != "character":
        if symbols[-1] != len(symbols) - 1:  # they ascend
            raise CheckpointError(f"its vocabulary is not all {unit}s")
        if unit == "token":
            return TokenVocabulary(unit, symbols, boundary, tokens=_names(tensors))
    elif symbols.max(initial=0) > MAX_CODE_POINT:
        raise CheckpointError("its vocabulary is not in order")
    elif np.any((symbols >= 0xD800) & (symbols <= 0xDFFF)):
        raise CheckpointError("its vocabulary has lone surrogates")
    return Vocabulary(unit, symbols, boundary)


def _names(tensors: Mapping[str, NDArray[Any]]) -> tuple[str, ...] | None:
    """The tokens' names, where they have names."""
    if "vocabulary.names" not in tensors:
        return None
    joined, lengths = tensors["vocabulary.names"], tensors["vocabulary.lengths"]
    memory.require(
        CHARACTER_COST * joined.size + NAME_COST * lengths.size, "reading the names of a model's tokens"
    )
    try:
        text = joined.tobytes().decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"the names of its tokens are not UTF-8: {error}") from error
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    if ends[-1] != len(text):
        raise CheckpointError(f"the names of its tokens have {len(text)} characters, and not {ends[-1]}")
    names = tuple(map(text.__getitem__, map(slice, [0, *ends], ends)))
    if len(set(names)) != len(names):
        raise CheckpointError("the names of its tokens are not distinct")
    return names


def _are_steps(column: NDArray[Any]) -> bool:
    """Whether these floats are whole numbers from 0 on."""
    return bool(np.all((column >= 0) & (column < 1 << 53) & (column == np.floor(column))))
