"""Model files: everything in one, the same bytes for the same model, and nothing hostile gets through."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
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
from fastrnn import checkpoint, memory
from fastrnn.presets import Recipe

TEXTS: dict[str, Any] = {
    "characters": "hello é😀\0",
    "bytes": b"\x00\xff\x00hello",
    "documents": ["ab", "", "cd"],
    "documents of bytes": [b"ab", b"\xff"],
    "tokens": [3, 1, 4, 1, 5],
    "documents of tokens": [[3, 1], [], [4, 1, 5]],
}

#: Where files are that the first version of the format wrote.
OLD = Path(__file__).parent / "data"

NAMES = ["", "the", "café", "\0 \n", "😀", "x"]


def make(text: Any = "hello", **changes: Any) -> fastrnn.Model:
    settings = {"hidden_size": 3, "steps": 20, "log_every": 5, "backend": "numpy", "rng": 0, **changes}
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
    assert description["format_version"] == 2
    assert list(description) == sorted(description)


def test_a_file_holds_no_clock_path_backend_or_thread_count(data: bytes):
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    description = json.loads(header["__metadata__"]["fastrnn"])
    assert set(description) == {
        *("cell", "checksum", "documents", "dtype", "format_version", "hidden_size", "name_bytes"),
        *("record_keys", "records", "settings", "unit", "vocab_size"),
        *("activation", "num_layers", "embedding_size", "tied", "dropout"),
    }
    assert set(description["settings"]) == {field.name for field in dataclasses.fields(Recipe)}
    assert description["record_keys"] == ["gradient_norm", "loss", "step"]


@pytest.mark.parametrize(
    ("name", "text", "bits"),
    [
        ("version-1-text", "hello", [2.80735492, 2.90296224, 3.38982483, 2.6607515, 2.66885533]),
        ("version-1-documents", "cab", [2.34081544, 1.3898854, 2.25641498, 2.67853362]),
    ],
)
def test_files_of_the_first_version_are_read(backend: str, name: str, text: str, bits: list[float]):
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
    description["checksum"] = checkpoint._checksum(description, merged)
    return save_tensors(merged, {"fastrnn": checkpoint._to_json(description)})


def test_a_forgery_that_changes_nothing_is_read(data: bytes):
    assert forge(data) == data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "its format is 3, and this version of fastrnn reads 1 to 2"),
        ({"format_version": 0}, "its format is 0"),
        ({"format_version": 1}, "other keys, .*name_bytes"),
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
        ({"hidden_size": 10**30}, "hidden_size=10000.* must be at most"),
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


# ---- Reading and writing files -----------------------------------------------------------------------


def test_what_is_no_regular_file_is_refused(tmp_path: Path):
    with pytest.raises(fastrnn.CheckpointError, match="not a regular file"):
        fastrnn.load("/dev/zero")
    with pytest.raises(IsADirectoryError):
        fastrnn.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        fastrnn.load(tmp_path / "none")


def test_the_error_names_the_file(tmp_path: Path):
    path = tmp_path / "some.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(fastrnn.CheckpointError, match=r"some\.safetensors is not a model"):
        fastrnn.load(path)
