"""Model files: one file holds everything, equal models give equal bytes, and hostile files are refused."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

import fastrnn
from fastrnn.core import memory
from fastrnn.model import safetensors_format, serialization
from fastrnn.training.presets import TrainingConfig

TEXTS: dict[str, Any] = {
    "characters": "hello é😀\0",
    "bytes": b"\x00\xff\x00hello",
    "documents": ["ab", "", "cd"],
    "documents of bytes": [b"ab", b"\xff"],
    "tokens": [3, 1, 4, 1, 5],
    "documents of tokens": [[3, 1], [], [4, 1, 5]],
}


#: The folder with files in the first version of the format.
OLD = Path(__file__).parents[1] / "files"

NAMES = ["", "the", "café", "\0 \n", "😀", "x"]


def make(text: Any = "hello", **changes: Any) -> fastrnn.Model:
    settings = {"cell": "rnn", "hidden_size": 3, "steps": 16, "log_every": 5, "backend": "numpy", "rng": 0}
    settings |= {"embedding_size": None, "clip_norm": 1.0, **changes}
    if text in (TEXTS["tokens"], TEXTS["documents of tokens"]):
        settings["vocabulary"] = NAMES
    return fastrnn.train(text, **settings)


@pytest.fixture(scope="module")
def data() -> bytes:
    return make().to_bytes()


# ---- Round trips -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_everything_comes_back(backend: str, text: Any, dtype: str, tmp_path: Path):
    model = make(text, dtype=dtype, backend=backend, validation=0.0)
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = fastrnn.load(path, backend=backend)
    assert again.to_bytes() == model.to_bytes() == path.read_bytes()
    assert again.history == model.history
    assert again.settings == model.settings
    np.testing.assert_array_equal(again.counts, model.counts)
    np.testing.assert_array_equal(again.vocabulary.symbols, model.vocabulary.symbols)
    assert again.network.dtype == model.network.dtype
    assert again.network.backend is model.network.backend
    assert getattr(again.vocabulary, "tokens", None) == getattr(model.vocabulary, "tokens", None)
    scored = text[0] if model.vocabulary.boundary else text
    np.testing.assert_array_equal(again.surprisal(scored), model.surprisal(scored))
    assert list(again.sample(30, rng=1)) == list(model.sample(30, rng=1))


def test_records_with_and_without_validation_come_back():
    model = make("abc" * 200, validation=0.2)
    model.history.append({"step": 99, "loss": 0.5})
    again = fastrnn.Model.from_bytes(model.to_bytes())
    assert again.history == model.history
    assert isinstance(again.history[0]["step"], int)


def test_any_safetensors_reader_finds_the_parameters(tmp_path: Path):
    model, path = make(), tmp_path / "m.safetensors"
    model.save(path)
    with safe_open(path, "numpy") as file:
        assert list(file.metadata()) == ["fastrnn"]
        np.testing.assert_array_equal(
            file.get_tensor("weight_ih_l0"), model.network.parameters["weight_ih_l0"]
        )
        description = json.loads(file.metadata()["fastrnn"])
    assert description["format_version"] == 6
    assert list(description) == sorted(description)


def test_a_file_holds_no_clock_path_backend_or_thread_count(data: bytes):
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    description = json.loads(header["__metadata__"]["fastrnn"])
    assert set(description) == {
        *("cell", "checksum", "documents", "dtype", "format_version", "hidden_size", "name_bytes"),
        *("record_keys", "records", "settings", "unit", "vocab_size"),
        *("activation", "num_layers", "embedding_size", "tied", "dropout", "newlines"),
        *("normalization", "unknown", "input_dropout", "count_order", "count_nodes"),
    }
    assert set(description["settings"]) == {field.name for field in dataclasses.fields(TrainingConfig)}
    assert description["record_keys"] == ["gradient_norm", "learning_rate", "loss", "step"]


@pytest.mark.parametrize(
    ("name", "text", "bits"),
    [
        ("version-1-text", "hello", [2.80735492, 2.90296224, 3.38982483, 2.6607515, 2.66885533]),
        ("version-1-documents", "cab", [2.34081544, 1.3898854, 2.25641498, 2.67853362]),
        ("version-2-text", "hello", [2.67242534, 2.96430535, 2.98096084, 3.01178564, 3.06290920]),
        ("version-2-tokens", [0, 1, 2], [2.00348971, 2.00048981, 2.00007843, 1.99642070]),
        ("version-3-text", "hello", [2.75488755, 2.79819092, 2.37295711, 2.26889110, 2.35340578]),
        ("version-4-text", "hello", [3.39793759, 3.48563395, 3.94101787, 3.55880466, 3.61084936]),
        ("version-5-text", "hello", [3.07528813, 3.37023944, 3.47890427, 3.48972405, 3.67086924]),
    ],
)
def test_files_of_earlier_versions_are_read(backend: str, name: str, text: str, bits: list[float]):
    model = fastrnn.load(OLD / f"{name}.safetensors", backend=backend)
    np.testing.assert_allclose(model.surprisal(text, end=model.vocabulary.boundary), bits, rtol=1e-6)
    again = fastrnn.Model.from_bytes(model.to_bytes())
    assert again.settings == model.settings
    assert again.history == model.history


def test_a_file_of_the_first_version_has_just_its_keys():
    old = (OLD / "version-1-text.safetensors").read_bytes()
    assert forge(old) == old
    with pytest.raises(fastrnn.CheckpointError, match="other keys, .*name_bytes"):
        fastrnn.Model.from_bytes(forge(old, name_bytes=None))


# ---- Damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["characters", "tokens"])
def test_a_flip_of_any_bit_is_noticed(kind: str):
    data = make(TEXTS[kind]).to_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(fastrnn.CheckpointError):
            fastrnn.Model.from_bytes(bytes(damaged))


@pytest.mark.parametrize("kind", ["characters", "tokens"])
def test_any_truncation_is_noticed(kind: str):
    data = make(TEXTS[kind]).to_bytes()
    for size in range(0, len(data), 7):
        with pytest.raises(fastrnn.CheckpointError):
            fastrnn.Model.from_bytes(data[:size])


@pytest.mark.parametrize("extra", [b"\0", b"x" * 1000])
def test_an_extension_is_noticed(data: bytes, extra: bytes):
    with pytest.raises(fastrnn.CheckpointError):
        fastrnn.Model.from_bytes(data + extra)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes):
    with pytest.raises(fastrnn.CheckpointError):
        fastrnn.Model.from_bytes(noise)


@given(position=st.integers(0, 3000), noise=st.binary(min_size=1, max_size=40))
@settings(deadline=None)
def test_noise_inside_is_refused(data: bytes, position: int, noise: bytes):
    position %= len(data)
    damaged = data[:position] + noise + data[position + len(noise) :]
    if damaged != data:
        with pytest.raises(fastrnn.CheckpointError):
            fastrnn.Model.from_bytes(damaged)


# ---- Hostile files, with a checksum that is right ----------------------------------------------------


def forge(data: bytes, tensors: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """The model with other tensors and another description, and a valid checksum."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    description = json.loads(header["__metadata__"]["fastrnn"])
    description.pop("checksum")
    description = {key: value for key, value in {**description, **changes}.items() if value is not ...}
    merged = {
        key: value for key, value in {**load_tensors(data), **(tensors or {})}.items() if value is not None
    }
    description["checksum"] = safetensors_format.checksum_of(description, merged)
    return save_tensors(merged, {"fastrnn": safetensors_format.to_json(description)})


def test_a_file_with_counts_comes_back(backend: str, tmp_path: Path):
    model = make("hello, hello", backend=backend, count_order=3)
    model.save(tmp_path / "model")
    again = fastrnn.load(tmp_path / "model", backend=backend)
    assert again.to_bytes() == model.to_bytes() == (tmp_path / "model").read_bytes()
    for adapt in (None, "counts"):
        assert (again.surprisal("hello", adapt=adapt) == model.surprisal("hello", adapt=adapt)).all()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("counts.nodes", lambda nodes: nodes.__setitem__((0, 2), 9), "before its parent"),
        ("counts.nodes", lambda nodes: nodes.__setitem__((1, 2), 99), "symbol that does not exist"),
        ("counts.nodes", lambda nodes: nodes.__setitem__((2, 2), 0), "no count"),
        ("counts.nodes", lambda nodes: nodes.__setitem__((2, 2), 1 << 31), "too large"),
        ("counts.nodes", lambda nodes: nodes.__setitem__((slice(2), 2), nodes[:2, 1]), "a node twice"),
        ("counts.fixed_gate", lambda gate: gate.__setitem__(0, math.nan), "not all finite"),
        ("counts.learning_gate", lambda gate: gate.__setitem__(0, math.inf), "not all finite"),
        ("counts.learning_gate", lambda gate: gate.__setitem__(1, -1.0), "a square is negative"),
    ],
)
def test_damaged_counts_are_refused(name: str, change: Any, message: str):
    """With a correct checksum."""
    data = make("hello, hello", count_order=2).to_bytes()
    tensor = load_tensors(data)[name].copy()
    change(tensor)
    with pytest.raises(fastrnn.CheckpointError, match=message):
        fastrnn.Model.from_bytes(forge(data, {name: tensor}))


@pytest.mark.parametrize(
    "changes", [{"count_order": 0}, {"count_nodes": 1}, {"count_order": 16}, {"count_nodes": -1}]
)
def test_counts_of_other_sizes_are_refused(changes: dict[str, int]):
    data = make("hello, hello", count_order=2).to_bytes()
    with pytest.raises(fastrnn.CheckpointError):
        fastrnn.Model.from_bytes(forge(data, **changes))


def test_a_forgery_that_changes_nothing_is_read(data: bytes):
    assert forge(data) == data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 7}, "its format is 7, and this version of fastrnn reads 1 to 6"),
        ({"format_version": 0}, "its format is 0"),
        ({"format_version": 1}, "other keys, .*count_order"),
        ({"format_version": "1"}, "its format is '1'"),
        ({"cell": "gru"}, "its tensors are not"),
        ({"cell": ...}, "other keys, ..cell"),
        ({"clock": 1}, "other keys, ..clock"),
        ({"format_version": True}, "its format is True"),
        ({"format_version": 1.0}, "its format is 1.0"),
        ({"dtype": "float16"}, "dtype='float16'"),
        ({"dtype": "float64"}, "tensor weight_ih_l0 is F32"),
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"hidden_size": 4}, "its settings ask for"),
        ({"hidden_size": 10**300}, "hidden_size=10000.* must be at most"),
        ({"hidden_size": 10**18}, "its settings ask for"),
        ({"hidden_size": 2.5}, "hidden_size=2.5"),
        ({"hidden_size": True}, "hidden_size=True"),
        ({"vocab_size": 10**9}, "metadata is wrong"),
        ({"vocab_size": -1}, "vocab_size=-1"),
        ({"unit": "word"}, "unit='word'"),
        ({"unit": "byte"}, "metadata is wrong"),
        ({"documents": True}, "its settings ask for"),
        ({"documents": 1}, "metadata is wrong"),
        ({"records": 10**12}, "tensor history.gradient_norm is F64"),
        ({"records": 3}, "tensor history.gradient_norm is F64"),
        ({"record_keys": []}, "metadata is wrong"),
        ({"record_keys": ["loss", "loss"]}, "metadata is wrong"),
        ({"record_keys": "loss"}, "metadata is wrong"),
        ({"record_keys": ["loss"]}, "metadata is wrong"),
        ({"record_keys": ["step"]}, "metadata is wrong"),
        ({"settings": []}, "metadata is wrong"),
        ({"activation": "sine"}, "activation='sine'"),
        ({"num_layers": 2}, "its settings ask for|its tensors are not"),
        ({"num_layers": 10**9}, "num_layers=1000000000 must be at most 1000"),
        ({"embedding_size": 3}, "its tensors are not"),
        ({"embedding_size": -1}, "embedding_size=-1"),
        ({"tied": 1}, "tied=1 must be True or False"),
        ({"tied": True}, "tied=True needs embedding_size"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"count_order": 1}, "its tensors are not"),
        ({"count_nodes": 1}, "metadata is wrong"),
        ({"count_order": 16}, "count_order=16"),
        ({"count_nodes": -1}, "count_nodes=-1"),
        ({"name_bytes": 3}, "metadata is wrong"),
        ({"name_bytes": -1}, "name_bytes=-1"),
        ({"name_bytes": "3"}, "name_bytes='3'"),
    ],
)
def test_a_wrong_description_is_refused(data: bytes, changes: dict[str, Any], message: str):
    with pytest.raises(fastrnn.CheckpointError, match=message):
        fastrnn.Model.from_bytes(forge(data, **changes))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"bias_l0": None}, "bias_l0"),
        ({"bias_l1": np.zeros(3, np.float32)}, "bias_l1"),
        ({"bias_l0": np.zeros(4, np.float32)}, r"tensor bias_l0 is F32 \[4\]"),
        ({"bias_l0": np.zeros(3, np.float64)}, "tensor bias_l0 is F64"),
        ({"bias_l0": np.zeros((3, 1), np.float32)}, "tensor bias_l0"),
        ({"bias_l0": np.full(3, np.nan, np.float32)}, "not all finite"),
        ({"bias_l0": np.full(3, np.inf, np.float32)}, "not all finite"),
        ({"vocabulary.symbols": np.array([3, 2, 1, 0], np.uint32)}, "vocabulary is not in order"),
        ({"vocabulary.symbols": np.array([1, 1, 2, 3], np.uint32)}, "vocabulary is not in order"),
        ({"vocabulary.symbols": np.array([1, 2, 3, 2**31], np.uint32)}, "vocabulary is not in order"),
        ({"vocabulary.symbols": np.array([1, 2, 3, 0xD800], np.uint32)}, "lone surrogates"),
        ({"vocabulary.counts": np.array([-1, 1, 1, 1])}, "counts are out of range"),
        ({"vocabulary.counts": np.full(4, 2**61)}, "counts are out of range"),
        ({"history.step": np.array([0, np.nan, 1, 2])}, "history is wrong"),
        ({"history.step": np.array([0, np.inf, 1, 2])}, "history is wrong"),
        ({"history.step": np.array([0, 0.5, 1, 2])}, "history is wrong"),
        ({"history.loss": np.array([0, np.nan, 1, 2])}, "history is wrong"),
    ],
)
def test_wrong_tensors_are_refused(data: bytes, tensors: dict[str, Any], message: str):
    with pytest.raises(fastrnn.CheckpointError, match=message):
        fastrnn.Model.from_bytes(forge(data, tensors))


def test_a_vocabulary_that_is_not_all_bytes_is_refused():
    symbols = np.arange(1, 257, dtype=np.uint32)
    with pytest.raises(fastrnn.CheckpointError, match="not all bytes"):
        fastrnn.Model.from_bytes(forge(make(b"hello").to_bytes(), {"vocabulary.symbols": symbols}))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"vocabulary.symbols": np.array([0, 1, 2, 3, 4, 6], np.uint32)}, "not all tokens"),
        ({"vocabulary.symbols": np.array([0, 1, 2, 3, 5, 4], np.uint32)}, "not in order"),
        ({"vocabulary.names": None}, "they differ in ..vocabulary.names"),
        ({"vocabulary.names": np.full(16, 0xFF, np.uint8)}, "not UTF-8"),
        ({"vocabulary.names": np.full(16, 0x61, np.uint8)}, "have 16 characters, and not 12"),
        ({"vocabulary.lengths": None}, "they differ in ..vocabulary.lengths"),
        ({"vocabulary.lengths": np.array([0, 3, 4, 3, 1, 2], np.uint32)}, "have 12 characters, and not 13"),
        ({"vocabulary.lengths": np.full(6, 2**32 - 1, np.uint32)}, "have 12 characters, and not 25769803770"),
        ({"vocabulary.lengths": np.array([0, 3, 4, 5, 0, 0], np.uint32)}, "not distinct"),
        ({"vocabulary.lengths": np.array([0, 3, 4, 3, 1], np.uint32)}, "tensor vocabulary.lengths"),
    ],
)
def test_wrong_names_are_refused(tensors: dict[str, Any], message: str):
    data = make(TEXTS["tokens"]).to_bytes()
    with pytest.raises(fastrnn.CheckpointError, match=message):
        fastrnn.Model.from_bytes(forge(data, tensors))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name_bytes": 17}, r"tensor vocabulary.names is U8 \[16\]"),
        ({"name_bytes": None}, "they differ in ..vocabulary.lengths., .vocabulary.names"),
        ({"unit": "character"}, "metadata is wrong"),
        ({"vocab_size": 2**31}, "metadata is wrong"),
    ],
)
def test_a_wrong_description_of_tokens_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(fastrnn.CheckpointError, match=message):
        fastrnn.Model.from_bytes(forge(make(TEXTS["tokens"]).to_bytes(), **changes))


def test_names_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch):
    names = [f"{token:04}" for token in range(5000)]
    data = fastrnn.train([0, 1, 2], vocabulary=names, hidden_size=1, steps=1, backend="numpy").to_bytes()
    monkeypatch.setattr(memory, "available", lambda: 1_400_000)
    with pytest.raises(MemoryError, match="reading the names of a model's tokens needs 1.4 MB"):
        fastrnn.Model.from_bytes(data)


def test_any_buffer_of_bytes_is_read(data: bytes):
    for kind in (bytearray, memoryview):
        assert fastrnn.Model.from_bytes(kind(data)).to_bytes() == data


def raw(header: bytes, rest: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + rest


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (b"1234567", "truncated"),
        (raw(b"{}", size=2**63), "truncated"),
        (raw(b"{}" + b" " * (1 << 20)), "its header has 1048578 bytes"),
        (raw(b"[" * 100_000), "not JSON"),
        (raw(b'{"a":' * 50_000), "not JSON"),
        (raw(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
        (raw(b"[]"), "not a JSON object"),
        (raw(b"\xff\xfe"), "not JSON"),
        (raw(b"{}"), "no fastrnn metadata"),
        (raw(b'{"__metadata__": {"format": "pt"}}'), "no fastrnn metadata"),
        (raw(b'{"__metadata__": {"fastrnn": 1}}'), "metadata is not text"),
        (raw(b'{"__metadata__": {"fastrnn": "[1]"}}'), "metadata is not a JSON object"),
        (raw(b'{"__metadata__": {"fastrnn": "{\\"a\\": NaN}"}}'), "NaN is not a finite number"),
        (raw(b'{"__metadata__": {"fastrnn": "{\\"a\\": 1e400}"}}'), "1e400 is not a finite number"),
        (raw(b'{"a": 1, "a": 2}'), "a key occurs twice"),
    ],
)
def test_hostile_headers_are_refused(data: bytes, message: str, tmp_path: Path):
    with pytest.raises(fastrnn.CheckpointError, match=message):
        fastrnn.Model.from_bytes(data)
    path = tmp_path / "hostile"
    path.write_bytes(data)
    with pytest.raises(fastrnn.CheckpointError, match=message):
        fastrnn.load(path)


def test_overlapping_tensors_are_refused(data: bytes):
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["head.bias"]["data_offsets"] = header["vocabulary.symbols"]["data_offsets"]
    with pytest.raises(fastrnn.CheckpointError, match="its header is not what fastrnn writes"):
        fastrnn.Model.from_bytes(raw(json.dumps(header).encode(), data[8 + size :]))


def test_a_huge_sparse_file_is_refused_without_reading_it(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "huge"
    path.write_bytes(data)
    os.truncate(path, 1 << 40)
    with pytest.raises(MemoryError, match="reading .*huge needs 3.3 TB"):
        fastrnn.load(path)
    monkeypatch.setattr(memory, "available", lambda: None)
    with pytest.raises(fastrnn.CheckpointError, match="it has 1099511627776 bytes"):
        fastrnn.load(path)


# ---- Files with the contents that `save` writes, in another spelling ------------------------------------


def parts_of(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header's entries, the description, and the tensors of a file."""
    size = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + size])
    return entries, json.loads(entries["__metadata__"]["fastrnn"]), data[8 + size :]


def test_the_bytes_are_those_that_safetensors_writes():
    keys = ('"quoted"\\', "é日😀", "\x01\n\t\x7f\u2028", "Z", "a" * 300, "")
    for text in TEXTS.values():
        for dtype in ("float32", "float64"):
            model = make(text, dtype=dtype, cell="gru", num_layers=2, embedding_size=5)
            for place, key in enumerate(keys):
                model.history.append({"step": place, "loss": 1.0, key: 0.5})
            model.settings["odd"] = ["é", "\ud800", '\x01"\\', -0.0, 1e-300]
            data = model.to_bytes()
            entries, _, _ = parts_of(data)
            assert save_tensors(load_tensors(data), entries["__metadata__"]) == data
            assert fastrnn.Model.from_bytes(data).to_bytes() == data


def respelt(data: bytes, spell: Any) -> bytes:
    """The file with its metadata, which is JSON, in another spelling."""
    entries, description, tensors = parts_of(data)
    entries["__metadata__"]["fastrnn"] = spell(description)
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return raw(header + b" " * (-len(header) % 8), tensors)


SPELLINGS: dict[str, Any] = {
    "spaces": lambda d: json.dumps(d, sort_keys=True),
    "order": lambda d: json.dumps(dict(sorted(d.items(), reverse=True)), separators=(",", ":")),
    "white": lambda d: safetensors_format.to_json(d) + " ",
    "zeros": lambda d: safetensors_format.to_json(d).replace('"clip_norm":1.0', '"clip_norm":1.00'),
    "exponent": lambda d: safetensors_format.to_json(d).replace('"clip_norm":1.0', '"clip_norm":1e0'),
    "negative zero": lambda d: safetensors_format.to_json(d).replace('"batch_size":1', '"batch_size":-0'),
    "escape": lambda d: safetensors_format.to_json(d).replace('"rnn"', '"\\u0072nn"'),
    "slash": lambda d: safetensors_format.to_json(d).replace('"dtype"', '"dt\\u0079pe"'),
    "twice": lambda d: safetensors_format.to_json(d).replace('"cell":"rnn"', '"cell":"rnn","cell":"rnn"', 1),
}


def test_a_spelling_that_changes_nothing_is_read(data: bytes):
    assert respelt(data, safetensors_format.to_json) == data


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_metadata_in_another_spelling_is_refused(data: bytes, spelling: str):
    other = respelt(data, SPELLINGS[spelling])
    assert other != data
    with pytest.raises(fastrnn.CheckpointError, match="not what fastrnn writes|not JSON|metadata is wrong"):
        fastrnn.Model.from_bytes(other)


def test_a_header_in_another_spelling_is_refused(data: bytes):
    entries, _, tensors = parts_of(data)
    compact = json.dumps(entries, separators=(",", ":")).encode()
    shuffled = {name: entries[name] for name in sorted(entries)}
    fields = {name: dict(reversed(entry.items())) for name, entry in entries.items()}
    more = {name: {**entry, "more": 1} if "dtype" in entry else entry for name, entry in entries.items()}
    others = [
        json.dumps(entries).encode(), compact + b" " * 8 + b" " * (-len(compact) % 8), compact + b"\n" * 8,
        b" " * 8 + compact,
        *(json.dumps(e, separators=(",", ":")).encode() for e in (shuffled, fields, more)),
        compact.replace(b'"shape":[4]', b'"shape":[4.0]'), compact.replace(b'"shape":[4]', b'"shape":[true]'),
        compact.replace(b"[0,", b"[-0,"), compact.replace(b'"F32"', b'"F\\u00332"'),
    ]  # fmt: skip
    for header in others:
        assert header.rstrip() != compact or header + tensors != data
        padded = header + b" " * (-len(header) % 8)
        with pytest.raises(fastrnn.CheckpointError):
            fastrnn.Model.from_bytes(raw(padded, tensors))


@pytest.mark.parametrize(
    ("tensors", "changes"),
    [
        ({"history.step": np.array([-0.0, 5, 10, 15])}, {}),
        ({"history.gradient_norm": np.full(4, np.nan)}, {}),
        ({"history.gradient_norm": np.array([1, -np.nan, 1, 1])}, {}),
        ({"history.gradient_norm": np.array([0x7FF8000000000001] * 4, np.uint64).view(float)}, {}),
        ({"history.gradient_norm": np.array([0, 0x7FF0000000000001, 0, 0], np.uint64).view(float)}, {}),
        ({}, {"record_keys": ["step", "loss", "gradient_norm"]}),
        ({}, {"dropout": 0}),
        ({}, {"dropout": False}),
        ({}, {"tied": 0}),
        ({}, {"hidden_size": 3.0}),
        ({}, {"records": 4.0}),
        ({}, {"documents": 0}),
    ],
)
def test_what_would_be_saved_as_something_else_is_refused(data: bytes, tensors: Any, changes: Any):
    with pytest.raises(fastrnn.CheckpointError):
        fastrnn.Model.from_bytes(forge(data, tensors, **changes))


def test_numbers_that_are_odd_and_allowed_come_back(data: bytes):
    for tensors in (
        {"history.loss": np.array([-0.0, 5e-324, -1.0, 1e308])},
        {"history.gradient_norm": np.array([np.inf, -np.inf, np.nan, -0.0])},
        {"history.step": np.array([(1 << 53) - 1.0, 0, 0, 7])},
        {"bias_l0": np.array([-0.0, 1e-45, 3e38], np.float32)},
    ):
        forged = forge(data, tensors)
        model = fastrnn.Model.from_bytes(forged)
        assert model.to_bytes() == forged
        model.history = list(model.history)
        assert model.to_bytes() == forged


#: Values in place of a number of JSON that no model has.
ODD = (
    *("9" * 4300, "9" * 4301, "9" * 100_000, "-" + "9" * 4300, "1" + "0" * 19, "4611686018427387904"),
    *("1e400", "1e30", "NaN", "-Infinity", "[" * 90 + "]" * 90, "[" * 900 + "]" * 900, "{}", "true"),
    *('"\\u0000"', '"' + "x" * 9999 + '"'),
)

SIZES = ("hidden_size", "vocab_size", "num_layers", "embedding_size", "records", "name_bytes")


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("number", ODD)
def test_numbers_of_any_size_are_told_as_wrong(data: bytes, key: str, number: str):
    other = respelt(data, lambda d: safetensors_format.to_json({**d, key: "HERE"}).replace('"HERE"', number))
    with pytest.raises(fastrnn.CheckpointError) as caught:
        fastrnn.Model.from_bytes(other)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("number", ODD)
def test_shapes_and_offsets_of_any_size_are_told_as_wrong(data: bytes, number: str):
    entries, _, tensors = parts_of(data)
    for field in ("shape", "data_offsets", "dtype"):
        changed = {**entries, "bias_l0": {**entries["bias_l0"], field: ["HERE", 3]}}
        header = json.dumps(changed).replace('"HERE"', number).encode()
        with pytest.raises(fastrnn.CheckpointError) as caught:
            fastrnn.Model.from_bytes(raw(header, tensors))
        assert len(str(caught.value)) < 500


def test_settings_that_are_too_deep_or_too_long_are_refused(data: bytes):
    for value in ("[" * 101 + "]" * 101, '{"a":' * 900 + "1" + "}" * 900, "9" * 1001, '{"a":1e400}'):

        def spell(description: Any, value: str = value) -> str:
            changed = {**description, "settings": {"a": "HERE"}}
            return safetensors_format.to_json(changed).replace('"HERE"', value)

        other = respelt(data, spell)
        with pytest.raises(fastrnn.CheckpointError, match="metadata is"):
            fastrnn.Model.from_bytes(other)


# ---- Reading and writing files -----------------------------------------------------------------------


def test_what_is_no_regular_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        (tmp_path / "link").symlink_to("pipe")
        for path in ("pipe", tmp_path / "pipe", "link", "socket", "/dev/zero", "/dev/null", "/dev/tty"):
            if Path(path).exists():
                with pytest.raises(fastrnn.CheckpointError, match="not a regular file"):
                    fastrnn.load(path)
    for path in ("/proc/version", "/proc/self/mem", "/proc/kmsg", "/sys/kernel/notes"):
        if Path(path).exists():
            with pytest.raises(fastrnn.CheckpointError, match="truncated"):
                fastrnn.load(path)
    for path in (tmp_path, "."):
        with pytest.raises(IsADirectoryError):
            fastrnn.load(path)
    for path in (tmp_path / "none", ""):
        with pytest.raises(FileNotFoundError):
            fastrnn.load(path)
    with pytest.raises(ValueError, match="has a NUL"):
        fastrnn.load("a\0b")
    with pytest.raises(TypeError, match="not int"):
        fastrnn.load(0)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, opening = tmp_path / "m", os.open
    path.write_bytes(data)

    def replaced(name: Any, flags: int, *mode: int) -> int:
        if name == str(path):
            path.unlink()
            os.mkfifo(path)
        return opening(name, flags, *mode)

    monkeypatch.setattr(os, "open", replaced)
    with pytest.raises(fastrnn.CheckpointError, match="not a regular file"):
        fastrnn.load(path)


def test_a_file_that_changes_while_it_is_read_is_refused(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, parse = tmp_path / "m", serialization._parse_header
    other = make("other text").to_bytes()
    for change in (other, data[:-1], data + b"x", data.replace(b"tanh", b"relu")):
        path.write_bytes(data)

        def changed(header: bytes, total: int, change: bytes = change) -> Any:
            found = parse(header, total)
            path.write_bytes(change)
            return found

        monkeypatch.setattr(serialization, "_parse_header", changed)
        with pytest.raises(fastrnn.CheckpointError, match="it changed while it was read"):
            fastrnn.load(path)
        monkeypatch.undo()


#: Loads a file, and prints the bytes by which the process grew at most, and the seconds.
MEASURE = """
import resource, sys, time, fastrnn
fastrnn.load(sys.argv[2], backend="numpy")  # the memory of imports is not counted
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
model = fastrnn.load(sys.argv[1], backend="numpy")
seconds = time.perf_counter() - start
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert len(model.history) == int(sys.argv[3])
print(grown * 1024, seconds)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes here")
@pytest.mark.parametrize("what", ["history", "parameters", "names"])
def test_loading_takes_at_most_three_times_the_file(data: bytes, tmp_path: Path, what: str):
    """4 million records in 64 MB would take 2.15 GB and 15 s as dicts."""
    small, path, records = tmp_path / "small", tmp_path / "large", 0
    small.write_bytes(data)
    if what == "history":
        records = 4_000_000
        columns = {"step": np.arange(records, dtype=float), "loss": np.ones(records)}
        model = fastrnn.Model.from_bytes(data)
        model.history = fastrnn.model.history.History.of_columns(columns)
        model.save(path)
    elif what == "parameters":
        make(hidden_size=2500, steps=1, validation=0.0).save(path)
    else:
        names = fastrnn.data.tokens.TokenVocabulary.of_names(tuple(f"{i:0200}" for i in range(60_000)))
        fastrnn.Model(fastrnn.Network(60_000, 1), names, np.ones(60_000)).save(path)
    command = [
        sys.executable,
        "-c",
        MEASURE,
        str(path),
        str(small),
        str(records or int(what != "names")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, seconds = map(float, done.stdout.split())
    size = path.stat().st_size
    assert size > 10_000_000
    assert grown < 3 * size
    assert seconds < 2 or what != "history"


def test_the_error_names_the_file(tmp_path: Path):
    path = tmp_path / "some.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(fastrnn.CheckpointError, match=r"some\.safetensors is not a model"):
        fastrnn.load(path)
