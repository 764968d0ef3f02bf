"""Changed model files with a correct checksum are refused, unless `save` writes the same bytes.

``FASTRNN_MUTATIONS=31000`` tries so many changes of each file; the default is a thousand.
"""

from __future__ import annotations

import json
import os
import random
import warnings
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

import fastrnn

COUNT = int(os.environ.get("FASTRNN_MUTATIONS", "1000"))

#: Values that replace values of JSON: other types, limits and other spellings.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, 4, -1, 5, 8, 255, 256, 257, 1 << 31, 1 << 53, 1 << 63, 10**30, -0.0, 0.0,
    0.5, 1.0, 2.0, 3.0, 1e-320, 1e308, "", "a", "é", "\ud800", "\0", "tanh", "relu", "gru", "lstm", "rnn",
    "float32", "float64", "character", "byte", "token", "nfc", "step", "loss", "gradient_norm", [], [1],
    ["loss", "step"], {}, {"a": 1}, {"é": [1.0, None]},
)  # fmt: skip

#: The bits of special floats: zeros, the smallest, the largest, infinities, NaN.
BITS = {
    8: (0, 1 << 63, 1, 0x7FEF << 48 | 0xFFFFFFFFFFFF, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, 0xFFF8 << 48,
        0x7FF8 << 48 | 1, 0x7FF0 << 48 | 1, 0x3FF0 << 48, 0x4014 << 48, 0x4340 << 48),
    4: (0, 1 << 31, 1, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0xFFC00001, 0xD800, 0x110000, 97, 5),
    1: (0, 1, 0x7F, 0x80, 0xBF, 0xC0, 0xED, 0xF4, 0xFF, 97),
}  # fmt: skip

TYPES = {"F32": "<f4", "F64": "<f8", "U8": "u1", "U32": "<u4", "I64": "<i8"}


class File:
    """A model file in pieces that can be changed. It uses no code of the package."""

    def __init__(self, data: bytes) -> None:
        size = int.from_bytes(data[:8], "little")
        self.entries: dict[str, Any] = json.loads(data[8 : 8 + size])
        self.description = json.loads(self.entries.pop("__metadata__")["fastrnn"])
        self.description.pop("checksum")
        self.tensors = {}
        for name, entry in self.entries.items():
            start, stop = entry["data_offsets"]
            self.tensors[name] = bytearray(data[8 + size + start : 8 + size + stop])
        self.ascii, self.compact, self.sort, self.padding, self.metadata_last = False, True, True, b"", False

    def to_bytes(self) -> bytes:
        """The file with correct offsets and a correct checksum."""
        entries, start = {}, 0
        for name, tensor in self.tensors.items():
            entries[name] = {**self.entries[name], "data_offsets": [start, start + len(tensor)]}
            start += len(tensor)
        sorted_json = json.dumps(self.description, sort_keys=True, separators=(",", ":"))
        digest = sha256(sorted_json.encode())
        for name in sorted(self.tensors):
            entry = entries[name]
            kind = np.dtype(TYPES.get(str(entry["dtype"]), "u1")).str
            shape = tuple(entry["shape"]) if isinstance(entry["shape"], list) else entry["shape"]
            digest.update(f"\n{name} {kind} {shape}\n".encode(errors="replace") + self.tensors[name])
        described = {**self.description, "checksum": digest.hexdigest()}
        separators = (",", ":") if self.compact else None
        text = json.dumps(described, sort_keys=self.sort, separators=separators)
        metadata = {"__metadata__": {"fastrnn": text}}
        whole = {**entries, **metadata} if self.metadata_last else {**metadata, **entries}
        header = json.dumps(whole, ensure_ascii=self.ascii, separators=(",", ":")).encode(errors="replace")
        header += b" " * (-len(header) % 8) + self.padding
        return len(header).to_bytes(8, "little") + header + b"".join(self.tensors.values())


def change_value(file: File, rng: random.Random) -> None:
    """Change a value of the description, or remove or add a key."""
    place = rng.choice([file.description] * 3 + [file.description["settings"]])
    key = rng.choice(list(place))
    change = rng.randrange(8)
    if change == 0:
        place.pop(key)
    elif change == 1:
        place[rng.choice(("a", "é", "name_bytes", "tied", ""))] = rng.choice(VALUES)
    elif change == 2 and isinstance(place[key], int | float):
        place[key] = rng.choice((float, int, lambda x: x + 1, lambda x: -x, bool))(place[key])
    elif change == 3 and isinstance(place[key], list):
        rng.shuffle(place[key])
    else:
        place[key] = rng.choice(VALUES)


def change_element(file: File, rng: random.Random) -> None:
    """Change an element of a tensor, mostly of a small one, whose values are checked."""
    name = rng.choice([name for name, tensor in file.tensors.items() if tensor])
    tensor, size = file.tensors[name], np.dtype(TYPES[file.entries[name]["dtype"]]).itemsize
    place = rng.randrange(len(tensor) // size) * size
    change = rng.randrange(4)
    if change == 0:
        tensor[rng.randrange(len(tensor))] ^= 1 << rng.randrange(8)
    elif change == 1 and len(tensor) >= 2 * size:  # two elements are swapped
        other = rng.randrange(len(tensor) // size) * size
        tensor[place : place + size], tensor[other : other + size] = (
            tensor[other : other + size],
            tensor[place : place + size],
        )
    else:
        bits = rng.choice(BITS[size]).to_bytes(size, "little")
        last = len(tensor) if change == 2 else place + size  # all elements from there on, or one
        tensor[place:last] = bits * ((last - place) // size)


def change_tensors(file: File, rng: random.Random) -> None:
    """Change names, shapes, types, lengths and the order of tensors."""
    name = rng.choice(list(file.tensors))
    entry, change = file.entries[name], rng.randrange(7)
    if change == 0:
        items = list(file.tensors.items())
        rng.shuffle(items)
        file.tensors = dict(items)
    elif change == 1:
        del file.tensors[name]
    elif change == 2:
        new = rng.choice(("history.x", "history.", "history.é", "history.a\ud800", "x", name.upper()))
        file.tensors[new], file.entries[new] = file.tensors.pop(name), file.entries.pop(name)
        if name.startswith("history.") and new.startswith("history."):
            keys = file.description["record_keys"]
            keys[keys.index(name[8:])] = new[8:]
            keys.sort()
    elif change == 3:
        file.entries[name] = {
            **entry,
            "shape": rng.choice((entry["shape"][::-1], [*entry["shape"], 1], [-1], [])),
        }
    elif change == 4:
        file.entries[name] = {**entry, "dtype": rng.choice((*TYPES, "F16", "f32", "BOOL", None, 3))}
    elif change == 5:
        new = f"history.{rng.choice(('a', 'validation_loss', 'z' * 50, '日', chr(7), ''))}"
        value = rng.choice(BITS[8]).to_bytes(8, "little")
        column = file.tensors.get("history.loss", bytearray())
        file.tensors = {**file.tensors, new: bytearray(value * (len(column) // 8))}
        file.entries[new] = {"dtype": "F64", "shape": [len(column) // 8]}
        file.description["record_keys"] = sorted({*file.description["record_keys"], new[8:]})
        file.tensors = dict(sorted(file.tensors.items(), key=lambda item: order(file, item[0])))
    else:  # one record fewer, or no record
        kept = rng.randrange(max(1, int(file.description["records"])))
        file.description["records"] = kept
        for column in [key for key in file.tensors if key.startswith("history.")]:
            del file.tensors[column][8 * kept :]
            file.entries[column]["shape"] = [kept]


def order(file: File, name: str) -> tuple[int, bytes]:
    """The sort key of a tensor in safetensors' order."""
    kinds = ("I64", "F64", "F32", "U32", "U8")
    kind = file.entries[name]["dtype"]
    return kinds.index(kind) if kind in kinds else 9, name.encode(errors="replace")


def change_spelling(file: File, rng: random.Random) -> None:
    """Write the same contents with other bytes."""
    change = rng.randrange(6)
    if change == 0:
        file.ascii = True
    elif change == 1:
        file.compact = False
    elif change == 2:
        file.padding = rng.choice((b" " * 8, b"\n" * 8, b"\0" * 8, b" "))
    elif change == 3:
        file.metadata_last = True
    elif change == 4:
        file.sort = False
        items = list(file.description.items())
        rng.shuffle(items)
        file.description = dict(items)
    else:
        name = rng.choice(list(file.entries))
        file.entries[name] = dict(reversed(file.entries[name].items()))


CHANGES = (change_value, change_element, change_element, change_tensors, change_spelling)


def trained(text: Any, **settings: Any) -> bytes:
    model = fastrnn.train(text, hidden_size=3, steps=20, log_every=5, backend="numpy", rng=0, **settings)
    model.history.append({"step": 30, "loss": 0.5, "é": -0.0})
    return model.to_bytes()


FILES: dict[str, Any] = {
    "text": lambda: trained("hello é😀\0" * 4, validation=0.2),
    "documents": lambda: trained(["ab", "", "cd"], cell="gru", dropout=0.1, averaging=0.9),
    "tokens": lambda: trained(
        [3, 1, 4, 1, 5], vocabulary=["", "the", "café", "\0 \n", "😀", "x"], dtype="float64"
    ),
    "bytes": lambda: trained(b"\xff\0hello", cell="lstm", embedding_size=3, tied=True),
    "counts": lambda: trained("hello, hello", count_order=2),
    "unknown": lambda: trained(["ab", "ba", "x"], min_count=2, normalization="nfkc_casefold"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_consistent_file_is_refused_or_is_what_save_writes(name: str):
    data = FILES[name]()
    assert File(data).to_bytes() == data
    rng, read = random.Random(name), 0
    for number in range(COUNT):
        file = File(data)
        try:
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                rng.choice(CHANGES)(file, rng)
            mutated = file.to_bytes()
        except (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError):
            continue  # two changes exclude each other
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                model = fastrnn.Model.from_bytes(mutated, backend="numpy")
        except fastrnn.CheckpointError as error:
            assert len(str(error)) < 1000, number
            continue
        read += mutated != data
        assert model.to_bytes() == mutated, number
        model.history, model.settings = list(model.history), model.settings
        assert model.to_bytes() == mutated, number
    assert read > COUNT // 50  # allowed changes are read
