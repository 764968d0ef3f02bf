"""The first argument of `train`: texts in any form, and what is refused or causes a warning."""

from __future__ import annotations

import collections
import gzip
import io
import logging
import os
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.data.corpus import Documents, RunningText
from fastrnn.data.sources import read_corpus
from fastrnn.data.text_file import TextFile

NAMES = ["anna", "bob", "clara", "dora", "emil", "fritz", "gerd", "hanna", "ida", "jan"]


def train(text: Any, **changes: Any) -> fastrnn.Model:
    settings = {"hidden_size": 8, "steps": 30, "rng": 0, "progress": False, "backend": "numpy", **changes}
    return fastrnn.train(text, **settings)


def texts_of(source: Any, **options: Any) -> list[Any]:
    """The documents that a source is read as."""
    with read_corpus(source, **options) as corpus:
        assert isinstance(corpus, Documents)
        return list(corpus.texts)


# ---- What is no text ---------------------------------------------------------------------------------


class Keyed:
    """A mapping that is not registered as one, like those of h5py and of e-mails."""

    def keys(self) -> list[str]:
        return ["text"]

    def __getitem__(self, name: str) -> list[str]:
        return NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())


class Table:
    """The common interface of tables in pandas, polars and Arrow."""

    def __init__(self, columns: dict[str, list[str]]) -> None:
        self.columns = columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"text": NAMES}, "text is dict, which gives its keys or the names of its columns: pass the texts"),
        (collections.Counter(NAMES), "text is Counter, which gives its keys"),
        (os.environ, "which gives its keys"),
        (Keyed(), "text is Keyed, which gives its keys"),
        (Table({"text": NAMES}), "text is Table, which gives its keys or the names of its columns"),
        (SimpleNamespace(__dataframe__=None), "which gives its keys or the names of its columns"),
        (set(NAMES), r"text is set, which has no order: pass a list, such as sorted\(text\)"),
        (frozenset(NAMES), "text is frozenset, which has no order"),
        ({"a": 1}.keys(), "text is dict_keys, which has no order"),
        ({"a": 1}.items(), "text is dict_items, which has no order"),
        (np.array("hello"), "text is ndarray; it must be a str, bytes, a path or an iterable of texts"),
        (5, "text is int; it must be"),
        (None, "text is NoneType; it must be"),
        ([*NAMES, 5], "document 10: a text must be str or bytes, and this is int; whole numbers need vocab"),
        ([*NAMES, None], "document 10: a text must be str or bytes, and this is NoneType"),
        ([*NAMES, float("nan")], "document 10: a text must be str or bytes, and this is float"),
        ([*NAMES, ["a", "b"]], "document 10: a text must be str or bytes, and this is list"),
        ([("a", "b")], "document 0: .* this is tuple"),
        (np.array([["a", "b"]]), "document 0: .* this is ndarray"),
        ([Path("a.txt"), "a"], r"document 0: .* pass what the file has, such as path.read_text\(\)"),
        ([b"ab", "cd"], "all str or all bytes, and are mixed"),
    ],
)
def test_what_is_no_text_is_a_type_error(source: Any, message: str):
    with pytest.raises(TypeError, match=message):
        train(source)


@pytest.mark.parametrize("source", [{1: 2}, {1, 2}, Table({"ids": []}), {"ids": [1, 2, 3]}])
def test_what_is_no_tokens_is_a_type_error(source: Any):
    with pytest.raises(TypeError, match="text is (dict|set|Table), which"):
        train(source, vocabulary=5)


def test_columns_are_documents():
    """Any iterable of str in a fixed order is accepted, such as a column of pandas, polars or Arrow."""
    scalars = [SimpleNamespace(as_py=lambda name=name: name) for name in NAMES]
    for source in (
        tuple(NAMES),
        iter(NAMES),
        np.array(NAMES),
        np.array(NAMES, object),
        dict.fromkeys(NAMES, 1),
    ):
        if isinstance(source, dict):
            source = {name: name for name in source}.values()  # noqa: PLW2901
        assert texts_of(source) == NAMES
    assert texts_of(scalars) == NAMES


@pytest.mark.parametrize("texts", [{"text": NAMES}, set(NAMES), Table({"text": NAMES}), {"a": 1}.items()])
def test_what_is_no_texts_is_not_scored(texts: Any):
    with pytest.raises(TypeError, match="texts is .*, which (gives its keys|has no order)"):
        train(NAMES).score_many(texts)


# ---- What may be meant -------------------------------------------------------------------------------


def test_the_name_of_a_file_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("hello")
    for source in ("names.txt", b"names.txt", str(tmp_path / "names.txt"), ["others.txt", "names.txt"]):
        with pytest.warns(UserWarning, match="is the name of a file, .* pass a pathlib.Path") as caught:
            train(source)
        assert caught[0].filename == __file__
    Path("names.txt").unlink()
    train("names.txt")
    train("nul\0 is in no name")
    train("x" * 5000)


@pytest.mark.parametrize("source", [list("hello world"), [b"a", b"b"], iter("ab")])
def test_single_symbols_as_documents_are_warned_of(source: Any):
    with pytest.warns(UserWarning, match="each document is a single symbol: to train on one text"):
        train(source)


@pytest.mark.parametrize(
    "lines", [["anna\n", "bob\n", "clara\n"], ["anna\r\n", "bob"], [b"anna\n", b"bob\n"]]
)
def test_lines_with_their_ends_are_warned_of(lines: list[Any]):
    with pytest.warns(UserWarning, match="each document ends with its line's end"):
        train(lines)
    train([*lines[:1], *[lines[1].strip() for _ in range(3)], lines[0]])


# ---- Open files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_an_open_file_gives_its_lines_without_their_ends(tmp_path: Path, ends: str):
    path = tmp_path / "names.txt"
    path.write_bytes((ends.join(NAMES) + ends).encode())
    with path.open() as file:
        assert texts_of(file) == NAMES
    with path.open(newline="") as file:
        assert texts_of(file) == NAMES
    assert texts_of(io.StringIO(path.read_text())) == NAMES
    with path.open(newline="\n") as file:
        assert texts_of(file) == NAMES
    with path.open("rb") as file:
        assert texts_of(file) == [name.encode() for name in NAMES]
    assert texts_of(path, lines=True) == NAMES


def test_an_open_file_is_read_line_by_line():
    class Endless(io.StringIO):
        def read(self, *_: Any) -> str:
            raise AssertionError

    assert texts_of(Endless("ab\nc\n\nd")) == ["ab", "c", "", "d"]


def test_the_end_of_a_name_of_an_open_file_is_known(tmp_path: Path):
    path = tmp_path / "names.txt"
    path.write_text("anna\n" * 100)
    with path.open() as file:
        model = train(file, steps=200)
    assert model.surprisal("anna", end=True)[-1] < 1


# ---- Lines of files, encodings -----------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["character", "byte"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_lines_of_a_file_are_learnt_as_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: str, unit: str, shuffle: bool
):
    lines = [name * (i % 3) + "é" for i in range(9) for name in NAMES]
    path = tmp_path / "lines"
    path.write_bytes("\n".join(lines).encode())
    source = lines if unit == "character" else [line.encode() for line in lines]
    same = {"shuffle": shuffle, "backend": compiled, "validation": 0.2}
    expected = train(source, **same)
    monkeypatch.setattr("fastrnn.data.streams.IN_MEMORY", 0)
    for where in (
        "text_file.BYTES_PER_ENTRY",
        "text_file.SEARCHED_AT_ONCE",
        "corpus.COUNTED_AT_ONCE",
        "batches.BLOCK_SYMBOLS",
    ):
        monkeypatch.setattr(f"fastrnn.data.{where}", 32)
    monkeypatch.setattr("fastrnn.data.batches.MIN_STEPS", 1)
    assert train(path, lines=True, unit=unit, **same).to_bytes() == expected.to_bytes()


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_an_encoding_is_read(tmp_path: Path, encoding: str):
    path, text = tmp_path / "text", "café au lait, s'il vous plaît\n" * 20
    path.write_bytes(text.encode(encoding))
    model = train(path, encoding=encoding)
    assert model.to_bytes() == train(text).to_bytes()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("hello", {"encoding": "latin-1"}, "encoding='latin-1' is for a file"),
        ("hello", {"lines": True}, "lines=True is for a file"),
        ("hello", {"separator": "l"}, "separator='l' is for a file"),
        (NAMES, {"separator": "l"}, "separator='l' is for a file"),
        (Path(__file__), {"separator": ""}, "separator='' is empty; it must have at least one character"),
        (
            Path(__file__),
            {"separator": "a", "lines": True},
            "separator='a' and lines=True exclude each other",
        ),
        (NAMES, {"encoding": "latin-1"}, "encoding='latin-1' is for a file"),
        (Path(__file__), {"encoding": "klingon"}, "encoding='klingon' is not a text encoding of Python"),
        (
            Path(__file__),
            {"encoding": "latin-1", "unit": "byte"},
            "encoding='latin-1' is for unit='character'",
        ),
        ("hello", {"newlines": "dos"}, "newlines='dos' is not known; it is one of 'universal', 'keep'"),
    ],
)
def test_wrong_options_are_named(source: Any, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        train(source, **options)


def test_newlines_are_read_as_one_kind_and_told(caplog: pytest.LogCaptureFixture):
    text = "\ufeffone\r\ntwo\rthree\n" * 20
    with caplog.at_level(logging.INFO, "fastrnn"):
        model = train(text)
    assert r"a byte order mark at the beginning is left out (newlines='keep'" in caplog.text
    assert r"line ends \r\n and \r are read as \n (newlines='keep'" in caplog.text
    assert "\r" not in model.vocabulary.decode(np.arange(model.vocabulary.size))
    again = fastrnn.Model.from_bytes(model.to_bytes(), backend="numpy")
    expected = model.surprisal("one\ntwo\nthree\n")
    for one in (model, again):
        np.testing.assert_array_equal(one.surprisal("\ufeffone\r\ntwo\rthree\n"), expected)
        scored = one.score_many(["one\r\ntwo\rthree\n"] * 2)
        np.testing.assert_allclose(scored[1], expected, rtol=1e-5)
        assert one.sample(9, prime="one\r\n", rng=0) == one.sample(9, prime="one\n", rng=0)
    kept = train(text, newlines="keep")
    assert len(kept.surprisal("one\r\n")) == 5
    assert len(fastrnn.Model.from_bytes(kept.to_bytes(), backend="numpy").surprisal("one\r\n")) == 5


# ---- Several files, and documents between a separator ------------------------------------------------


@pytest.fixture
def several(tmp_path: Path) -> list[Path]:
    """Three files: with a byte order mark, compressed, and without an end of its last line."""
    paths = [tmp_path / "a", tmp_path / "b.gz", tmp_path / "c"]
    paths[0].write_bytes("\ufeffanna\r\nbob\r\n".encode())
    paths[1].write_bytes(gzip.compress("clara é\n\ndora".encode()))
    paths[2].write_bytes(b"")
    return [*paths, paths[0]]


@pytest.mark.parametrize("in_memory", [0, 1 << 21])
def test_several_files_are_one_text(several: list[Path], monkeypatch: pytest.MonkeyPatch, in_memory: int):
    monkeypatch.setattr("fastrnn.data.streams.IN_MEMORY", in_memory)
    monkeypatch.setattr("fastrnn.data.sources.COPIED_AT_ONCE", 3)
    first, longest, slices = "anna\nbob\n", 0, TextFile.slices

    def watched(file: TextFile, starts: Any, stops: Any) -> list[Any]:
        nonlocal longest
        longest = max(longest, *np.subtract(stops, starts))
        return slices(file, starts, stops)

    monkeypatch.setattr(TextFile, "slices", watched)
    read_corpus(several).close()
    assert longest == 3  # no file is read at once
    with read_corpus(several) as corpus:
        assert isinstance(corpus, RunningText)
        assert corpus.text[:] == first + "clara é\n\ndora" + first
        assert corpus.changes == (
            "a byte order mark at the beginning is left out",
            r"line ends \r\n are read as \n",
        )
    with read_corpus(tuple(several), "byte") as corpus:
        assert isinstance(corpus, RunningText)
        raw = several[0].read_bytes()
        assert corpus.text[:] == raw + "clara é\n\ndora".encode() + raw
    lines = ["anna", "bob", "clara é", "", "dora", "anna", "bob"]
    assert texts_of(several, lines=True) == lines
    assert texts_of(several, lines=True, unit="byte")[1:5] == [b"bob", "clara é".encode(), b"", b"dora"]
    assert texts_of(several, separator="b\n") == ["anna\nbo", "clara é\n\ndora", "anna\nbo"]
    assert texts_of(several[:1], lines=True) == lines[:2]
    assert texts_of(several, lines=True, normalization="nfc_casefold") == lines


def test_an_error_of_one_of_several_files_has_its_name(several: list[Path]):
    several[2].write_bytes(b"a\xff")
    with pytest.raises(ValueError, match=r"c is not UTF-8: byte 0xff at offset 1"):
        read_corpus(several)
    with pytest.raises(FileNotFoundError):
        read_corpus([*several[:2], several[0].with_name("none")])


def test_documents_between_a_separator_are_learnt_as_a_list(tmp_path: Path, compiled: str):
    path = tmp_path / "paragraphs"
    path.write_text("\n%%\n".join(NAMES * 4) + "\n%%\n")
    same = {"backend": compiled, "validation": 0.2}
    data = [name.encode() for name in NAMES * 4]
    for texts, unit, separator in ((NAMES * 4, "character", "\n%%\n"), (data, "byte", b"\n%%\n")):
        expected, model = train(texts, **same), train(path, separator=separator, unit=unit, **same)
        assert model.settings.pop("separator") == "\n%%\n"
        assert model.to_bytes() == expected.to_bytes()


@pytest.mark.parametrize(("unit", "separator"), [("character", b"\n"), ("byte", "\n"), ("character", 7)])
def test_a_separator_has_the_type_of_the_text(unit: str, separator: Any):
    with pytest.raises(TypeError, match=f"separator is .*; for a file of {unit}s it must be"):
        train(Path(__file__), unit=unit, separator=separator)


# ---- Alphabets ---------------------------------------------------------------------------------------


def test_a_model_may_be_given_its_alphabet():
    model = train(NAMES, vocabulary=string.ascii_lowercase + "-")
    assert model.vocabulary.size == 28
    assert np.isfinite(model.surprisal("x-ray-queue")).all()
    assert train("abc" * 9, vocabulary="ascii").vocabulary.size == 128
    assert np.isfinite(fastrnn.Model.from_bytes(model.to_bytes()).surprisal("x-ray")).all()


@pytest.mark.parametrize(
    ("source", "alphabet", "error", "message"),
    [
        ("naïve", "ascii", ValueError, "1 characters that are not in vocabulary, such as 'ï'; it has 128"),
        ("hello", "", ValueError, "vocabulary='' has no character"),
        ("hello", "helo\ud800", ValueError, "lone surrogate"),
        (b"hello", "ascii", TypeError, "vocabulary is a str, .* and the text is bytes"),
        ([1, 2, 3], "ascii", TypeError, "this is int"),
    ],
)
def test_wrong_alphabets_are_named(source: Any, alphabet: str, error: type, message: str):
    with pytest.raises(error, match=message):
        train(source, vocabulary=alphabet)


# ---- Order -------------------------------------------------------------------------------------------


def test_documents_are_held_out_and_trained_on_as_the_seed_draws(caplog: pytest.LogCaptureFixture):
    lines = sorted(f"{letter}{number:03}" for letter in "abcdefghij" for number in range(100))
    with caplog.at_level(logging.INFO, "fastrnn"):
        model = train(lines)
    assert (
        "training on 900 documents (3,600 characters); 100 more (400 characters), drawn, are held out"
        in caplog.text
    )
    first, second = read_corpus(lines).shuffled(np.random.default_rng(0)).split(0.1)
    drawn = [lines[i] for i in second.order]
    assert len({line[0] for line in drawn}) == 10
    assert sorted(drawn + [lines[i] for i in first.order]) == lines
    assert [lines[i] for i in first.order] != sorted(lines[i] for i in first.order)
    assert model.to_bytes() == train(lines).to_bytes() != train(lines, rng=1).to_bytes()
    assert model.history[0]["validation_loss"] == pytest.approx(model.history[0]["loss"], abs=0.1)


def test_documents_may_keep_their_order(caplog: pytest.LogCaptureFixture):
    lines = ["ab" * 5] * 18 + ["cd" * 5] * 2
    with caplog.at_level(logging.INFO, "fastrnn"):
        model = train(lines, shuffle=False)
    assert (
        "training on 18 documents (180 characters); 2 more (20 characters), the last, are held out"
        in caplog.text
    )
    assert model.counts[: model.vocabulary.size - 1].tolist() == [90, 90, 0, 0]
    assert model.settings["shuffle"] is False


@pytest.mark.parametrize("preset", ["scratch", "min-char-rnn", "char-rnn"])
def test_presets_keep_the_order_and_the_last_weights(preset: str):
    model = train(["ab"] * 18 + ["cd"] * 2, preset=preset, validation=0.1, epochs=2, steps=None)
    assert model.counts[:4].tolist() in ([18, 18, 0, 0], [18, 18, 2, 2])  # split="rows" counts all
    assert (model.settings["shuffle"], model.settings["keep"]) == (False, "last")


def test_a_running_text_is_not_shuffled():
    assert train("abc" * 99, shuffle=False).network.flat.tobytes() == train("abc" * 99).network.flat.tobytes()


# ---- Whole numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [None, "scratch"])
def test_a_bool_is_no_seed(preset: str | None):
    with pytest.raises(TypeError, match="rng=True must be a whole number"):
        train("hello", preset=preset, rng=True)


@pytest.mark.parametrize("preset", [None, "scratch"])
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32])
def test_a_seed_of_numpy_is_the_seed(preset: str | None, kind: Any):
    text = "hello world, hello " * 20
    expected = train(text, preset=preset, rng=42, steps=3)
    assert train(text, preset=preset, rng=kind(42), steps=kind(3)).to_bytes() == expected.to_bytes()


# ---- Memory ------------------------------------------------------------------------------------------


def test_lines_of_a_file_take_little_memory(tmp_path: Path):
    """A line takes a few numbers in memory, and none of its text."""
    path = tmp_path / "lines"
    with path.open("wb") as file:
        for _ in range(40):
            file.write(b"the quick brown fox jumps over the lazy dog, and runs away\n" * 10_000)
    code = """
import pathlib, resource, sys, fastrnn
same = {"steps": 3, "backend": "numpy", "hidden_size": 4, "progress": False, "rng": 0}
fastrnn.train("to import what is needed " * 20, **same)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fastrnn.train(pathlib.Path(sys.argv[1]), lines=True, **same)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    printed = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True).stdout
    assert int(printed) < 100 * 400_000
