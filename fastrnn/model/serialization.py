"""Model files: one safetensors file holds everything, and it is used only after all of it was checked.

The tensors are the parameters by name, ``vocabulary.symbols``, ``vocabulary.counts`` and one column for
each key of the history. If tokens have names, there are two more: ``vocabulary.names`` has all names in
UTF-8, and ``vocabulary.lengths`` the number of characters of each. If the network is mixed with counts,
there are three more: ``counts.nodes`` has the parent, the symbol and the count of each node of the tree, and
``counts.fixed_gate`` and ``counts.learning_gate`` the weights of the gates, the latter also their squared
gradients. The only metadata key, ``fastrnn``, is
sorted JSON: the format's version, the options of the network and the vocabulary, the training's settings,
and a SHA-256 checksum over all of this and every tensor. A file holds no time, path, backend or number of
threads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.core.atomic import checked_path
from fastrnn.core.checks import shown
from fastrnn.core.constants import BINS, COLUMNS
from fastrnn.core.layout import parameter_layout
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import UNITS, Vocabulary
from fastrnn.errors import CheckpointError
from fastrnn.inference.counts import MOST_SYMBOLS, bytes_of
from fastrnn.inference.mixture import Mixture
from fastrnn.model.checkpoint_file import CheckpointFile, is_checkpoint
from fastrnn.model.history import REQUIRED, History, checked_key
from fastrnn.model.model_file import SYMBOLS, ModelFile, checked_settings
from fastrnn.model.safetensors_format import (
    TYPE_NAMES,
    TensorSpec,
    header_of,
    header_size,
    read_description,
    read_tensors,
    to_json,
    write_tensors,
)
from fastrnn.network.config import CHECKS, NetworkConfig
from fastrnn.network.network import Network

FORMAT_VERSION = 6

#: The names of the history's columns begin with this.
HISTORY_PREFIX = "history."

#: The most bytes of memory that reading takes for each byte of a file, before the file is checked.
READING_COST = 3

#: The most bytes of memory that a token's name takes without its characters, and that a character takes.
NAME_COST, CHARACTER_COST = 256, 8

#: The keys of the metadata of version 1.
KEYS = {
    *("cell", "checksum", "documents", "dtype", "format_version", "hidden_size", "record_keys"),
    *("records", "settings", "unit", "vocab_size"),
}

#: The keys that each later version added, and their values for a file of an earlier version.
#: ``name_bytes`` is the number of bytes of the tokens' names, or null if they have none; ``count_order`` is
#: the longest context of the counts, or 0 if there are none.
ADDED: dict[int, dict[str, Any]] = {
    2: {
        "name_bytes": None,
        "activation": "tanh",
        "num_layers": 1,
        "embedding_size": None,
        "tied": False,
        "dropout": 0.0,
    },
    3: {"newlines": "keep"},
    4: {"normalization": None, "unknown": False},
    5: {"input_dropout": 0.0},
    6: {"count_order": 0, "count_nodes": 0},
}


# ---- Writing -----------------------------------------------------------------------------------------


def to_bytes(model_file: ModelFile) -> bytes:
    """The bytes of a model's file.

    Raises
    ------
    TypeError, ValueError
        A file cannot hold the model.
    """
    model_file = ModelFile.checked(**vars(model_file))
    tensors = _tensors(model_file)
    return write_tensors(_describe(model_file, tensors), tensors)


def _describe(
    model_file: ModelFile, tensors: Mapping[str, NDArray[Any]], version: int = FORMAT_VERSION
) -> dict[str, Any]:
    """The metadata of a model with these tensors in a version of the format, without the checksum."""
    network, vocabulary = model_file.network, model_file.vocabulary
    description = {
        "format_version": version,
        **vars(network.config),
        "unit": vocabulary.unit,
        "documents": bool(vocabulary.boundary),
        "newlines": vocabulary.newlines,
        "normalization": vocabulary.normalization,
        "unknown": bool(vocabulary.unknown),
        "name_bytes": tensors["vocabulary.names"].size if "vocabulary.names" in tensors else None,
        "records": len(model_file.history),
        "record_keys": sorted(
            name.removeprefix(HISTORY_PREFIX) for name in tensors if name.startswith(HISTORY_PREFIX)
        ),
        "settings": model_file.settings,
        "count_order": model_file.mixture.table.order if model_file.mixture else 0,
        "count_nodes": model_file.mixture.table.n_nodes - 1 if model_file.mixture else 0,
    }
    keys = _keys(version)
    return {key: value for key, value in description.items() if key in keys}


def _tensors(model_file: ModelFile) -> dict[str, NDArray[Any]]:
    """The tensors of a model's file."""
    return {
        **model_file.network.parameters,
        "vocabulary.symbols": model_file.vocabulary.symbols,
        "vocabulary.counts": model_file.counts,
        **_name_tensors(model_file.vocabulary),
        **(model_file.mixture.tensors() if model_file.mixture else {}),
        **{f"{HISTORY_PREFIX}{key}": column for key, column in model_file.history.columns().items()},
    }


def _name_tensors(vocabulary: Vocabulary) -> dict[str, NDArray[Any]]:
    """The names of tokens as tensors, if they have names."""
    names = vocabulary.tokens if isinstance(vocabulary, TokenVocabulary) else None
    if names is None:
        return {}
    return {
        "vocabulary.names": np.frombuffer("".join(names).encode(), np.uint8),
        "vocabulary.lengths": np.fromiter(map(len, names), np.uint32, len(names)),
    }


# ---- Reading -----------------------------------------------------------------------------------------


def read_file(path: str | os.PathLike[str], backend: str = "auto") -> ModelFile:
    """Read a model's file, or the model of a checkpoint; the header is checked before the rest is read."""
    try:
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            memory.require(READING_COST * size, f"reading {os.fspath(path)}")
            start = file.read(8) if size else b""  # a file of /proc has size 0, and may never end
            header = file.read(header_size(start, size))
            if is_checkpoint(read_description(header)[0]):
                file.seek(0)
                return from_bytes(CheckpointFile.from_bytes(file.read()).model, backend)
            found = _parse_header(header, size)
            file.seek(0)
            return _read_tensors(_unchanged(file.read(), start + header, size), *found, backend)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)} is not a model that fastrnn can read: {error}") from error


def _unchanged(data: bytes, beginning: bytes, size: int) -> bytes:
    if len(data) != size or not data.startswith(beginning):
        raise CheckpointError("it changed while it was read")
    return data


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a regular file. Any other, such as a pipe, is refused without waiting for data."""
    name = checked_path(path)
    _require_regular(os.stat(name))  # noqa: PTH116  (a Path reads "" as ".")

    def without_waiting(name: Any, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    # unbuffered: joining a buffer with the rest of the file would take more memory
    with open(name, "rb", buffering=0, opener=without_waiting) as file:
        _require_regular(os.fstat(file.fileno()))  # the file may have been replaced since the check
        yield file


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # opening a folder is an error
        raise CheckpointError("it is not a regular file")


def from_bytes(data: bytes, backend: str = "auto") -> ModelFile:
    """Read what `to_bytes` wrote, and nothing else: `to_bytes` of the result gives the same bytes.

    Nothing is allocated before the header is found to be exactly what is written for the network's settings,
    and nothing is used before the checksum is found correct. For a file of an earlier version, the same
    description of that version must result.
    """
    data = bytes(data)
    header = data[8 : 8 + header_size(data[:8], len(data))]
    return _read_tensors(data, *_parse_header(header, len(data)), backend)


def _read_tensors(
    data: bytes, description: dict[str, Any], expected: Mapping[str, TensorSpec], backend: str
) -> ModelFile:
    """Read the tensors, which are the last bytes of a file, and make the model file."""
    tensors = read_tensors(data, description, expected)
    model_file = _build(_as_newest(description), tensors, backend)
    if to_json(_describe(model_file, tensors, description["format_version"])) != to_json(description):
        raise CheckpointError("its metadata is not what fastrnn writes for such a model")
    return model_file


def _parse_header(header: bytes, total: int) -> tuple[dict[str, Any], dict[str, TensorSpec]]:
    """Return a header's description and its tensors; both must be exactly as fastrnn writes them."""
    description, entries = read_description(header)
    _check_keys(description)
    expected = _expected_tensors(_as_newest(description))
    if entries.keys() != expected.keys():
        different = sorted(entries.keys() ^ expected.keys())
        raise CheckpointError(
            f"its tensors are not those of its settings; they differ in {shown(different[:4])}"
        )
    for name, tensor in expected.items():
        entry = entries[name] if isinstance(entries[name], dict) else {}
        if entry.get("dtype") != tensor.type_name or entry.get("shape") != list(tensor.shape):
            raise CheckpointError(
                f"tensor {_unquoted(name)} is {_unquoted(entry.get('dtype'))} {shown(entry.get('shape'))}; "
                f"its settings ask for {tensor.dtype} {list(tensor.shape)}"
            )
    expected_size = 8 + len(header) + sum(tensor.nbytes for tensor in expected.values())
    if total != expected_size:
        raise CheckpointError(f"it has {total} bytes, and its settings ask for {expected_size}")
    if header != header_of(description, expected):
        raise CheckpointError("its header is not what fastrnn writes for such a model")
    return description, expected


def _unquoted(value: object) -> str:
    """A value in an error's message; a str without its quotes."""
    return shown(value)[1:-1] if isinstance(value, str) else shown(value)


def _check_keys(description: Mapping[str, Any]) -> None:
    """Require a known version, and exactly its keys."""
    version = description.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise CheckpointError(
            f"its format is {shown(version)}, and this version of fastrnn reads 1 to {FORMAT_VERSION}"
        )
    different = sorted(description.keys() ^ _keys(version))
    if different:
        raise CheckpointError(f"its metadata has other keys, {shown(different[:4])}")


def _keys(version: int) -> set[str]:
    """The keys of the metadata of a version."""
    return KEYS.union(*(added for since, added in ADDED.items() if since <= version))


def _as_newest(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description as in the newest version."""
    version = description["format_version"]
    later = [added for since, added in ADDED.items() if since > version]
    return {**description, **{key: value for added in later for key, value in added.items()}}


def _expected_tensors(description: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """Check a description, and return the tensors that its file must have."""
    try:
        unit = checks.one_of("unit", description["unit"], UNITS)
        checks.one_of("dtype", description["dtype"], checks.DTYPES)
        config = NetworkConfig(**{name: description[name] for name in CHECKS})
        V = config.vocab_size
        records = checks.whole_number("records", description["records"], minimum=0)
        keys = description["record_keys"]
        documents, unknown = description["documents"], description["unknown"]
        name_bytes = description["name_bytes"]
        F = checks.whole_number("count_order", description["count_order"], minimum=0, maximum=MOST_SYMBOLS)
        nodes = checks.whole_number("count_nodes", description["count_nodes"], minimum=0)
        checked_settings(description["settings"])
        for key in keys:
            checked_key("record_keys", key)
        if name_bytes is not None:
            checks.whole_number("name_bytes", name_bytes, minimum=0)
        low, high = SYMBOLS[unit]
        good = (
            isinstance(description["checksum"], str)
            and isinstance(documents, bool)
            and isinstance(unknown, bool)
            and isinstance(keys, list)
            and len(set(keys)) == len(keys)
            and (set(REQUIRED) <= set(keys) if records else not keys)
            and low <= V - documents - unknown <= high
            and (name_bytes is None or unit == "token")
            and (F > 0 or nodes == 0)
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"its metadata is wrong: {error}") from error
    if not good:
        raise CheckpointError("its metadata is wrong")
    dtype, symbols = np.dtype(description["dtype"]).newbyteorder("<"), V - documents - unknown
    names = {
        "vocabulary.names": TensorSpec(TYPE_NAMES["U8"], (name_bytes,)),
        "vocabulary.lengths": TensorSpec(TYPE_NAMES["U32"], (symbols,)),
    }
    counts = {
        "counts.nodes": TensorSpec(TYPE_NAMES["U32"], (3, nodes)),
        "counts.fixed_gate": TensorSpec(TYPE_NAMES["F64"], (F, BINS, COLUMNS)),
        "counts.learning_gate": TensorSpec(TYPE_NAMES["F64"], (2, 2, F, BINS, COLUMNS)),
    }
    return {
        **{entry.name: TensorSpec(dtype, entry.shape) for entry in parameter_layout(config.shape).entries},
        "vocabulary.symbols": TensorSpec(TYPE_NAMES["U32"], (symbols,)),
        "vocabulary.counts": TensorSpec(TYPE_NAMES["I64"], (V,)),
        **(names if name_bytes is not None else {}),
        **(counts if F else {}),
        **{f"{HISTORY_PREFIX}{key}": TensorSpec(TYPE_NAMES["F64"], (records,)) for key in keys},
    }


def _build(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], backend: str) -> ModelFile:
    """Make the model's parts, and check them."""
    network = Network(
        **{name: description[name] for name in CHECKS},
        backend=backend,
        initialization="zeros",
    )
    for name, parameter in network.parameters.items():
        parameter[...] = tensors[name]
    columns = {key: tensors[f"{HISTORY_PREFIX}{key}"] for key in description["record_keys"]}
    vocabulary, counts = _build_vocabulary(description, tensors), tensors["vocabulary.counts"]
    try:
        history, mixture = History.of_columns(columns), None
        if description["count_order"]:
            nodes = description["count_nodes"] + 1
            memory.require(2 * bytes_of(nodes), f"reading the counts of a model, of {nodes:,} contexts")
            own = network.backend, description["count_order"], network.vocab_size
            mixture = Mixture.of_tensors(*own, tensors)
        return ModelFile.checked(network, vocabulary, counts, description["settings"], history, mixture)
    except (TypeError, ValueError) as error:
        raise CheckpointError(str(error)) from error


def _build_vocabulary(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Vocabulary:
    """Make the vocabulary; it is checked with the rest of the model file."""
    unit, boundary = description["unit"], description["documents"]
    reading = {name: description[name] for name in ("newlines", "normalization", "unknown")}
    symbols = tensors["vocabulary.symbols"].astype(np.uint32)  # a copy, so that the file's bytes can be freed
    if unit == "token":
        return TokenVocabulary(unit, symbols, boundary, tokens=_names(tensors), **reading)
    return Vocabulary(unit, symbols, boundary, **reading)


def _names(tensors: Mapping[str, NDArray[Any]]) -> tuple[str, ...] | None:
    """The tokens' names, if they have names."""
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
    return tuple(map(text.__getitem__, map(slice, [0, *ends], ends)))
