"""A corpus is split, counted and read in parts, with the same results as in one piece."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers import write_as_before
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import corpus as module
from fastrnn.data.corpus import Corpus, Documents, RunningText
from fastrnn.data.sources import read_corpus
from fastrnn.data.text_file import OpenFile
from fastrnn.data.vocabulary import Vocabulary

documents = st.lists(st.text(st.sampled_from("ab\0\nyé\U0001f600"), max_size=9), max_size=9)


def vocabulary_of(corpus: Corpus) -> Vocabulary:
    boundary = isinstance(corpus, Documents)
    return Vocabulary.of_counts([corpus.counts()], unit=corpus.unit, boundary=boundary)


def whole(corpus: Corpus) -> np.ndarray:
    """The sequence of a corpus, read at once."""
    sequence = corpus.sequence(vocabulary_of(corpus))
    return sequence.read(0, len(sequence))


def spelled(corpus: Corpus) -> object:
    """The part of a running text, or the documents."""
    assert isinstance(corpus, RunningText | Documents)
    if isinstance(corpus, Documents):
        return [corpus.texts[place] for place in corpus.order]
    return corpus.text[corpus.start : corpus.stop]


def test_documents_are_one_sequence_with_boundaries():
    np.testing.assert_array_equal(whole(read_corpus(["ab", "", "b"])), [2, 0, 1, 2, 2, 1, 2])
    np.testing.assert_array_equal(whole(read_corpus([b"ab", b""])), [256, 97, 98, 256, 256])


@pytest.mark.filterwarnings("ignore:each document")
@given(texts=documents.filter(any), as_bytes=st.booleans(), data=st.data())
def test_any_part_of_documents_is_the_whole_s(texts: list, as_bytes: bool, data: st.DataObject):
    texts = [text.encode() for text in texts] if as_bytes else texts
    corpus = read_corpus(texts)
    vocabulary = vocabulary_of(corpus)
    expected = [vocabulary.boundary_id]
    for text in texts:
        expected += [*vocabulary.encode(text).tolist(), vocabulary.boundary_id]
    sequence = corpus.sequence(vocabulary)
    assert len(sequence) == len(expected) == corpus.size + len(texts) + 1
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    np.testing.assert_array_equal(sequence.read(start, stop), expected[start:stop])


@pytest.mark.filterwarnings("ignore:each document")
@given(texts=documents, piece=st.integers(1, 20), held_out=st.floats(0, 0.99))
def test_counts_are_those_of_all_pieces(texts: list[str], piece: int, held_out: float):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COUNTED_AT_ONCE", piece)
        for source in (texts, "".join(texts), "".join(texts).encode()):
            for part in read_corpus(source).split(held_out):
                counts = part.counts()
                symbols = [
                    symbol
                    for text in (spelled(part) if source is texts else [spelled(part)])
                    for symbol in text
                ]
                codes = [ord(symbol) if isinstance(symbol, str) else symbol for symbol in symbols]
                np.testing.assert_array_equal(counts, np.bincount(codes, minlength=len(counts)).astype(int))
                assert counts.sum() == part.size


def test_the_end_of_a_text_is_split_off():
    assert [spelled(part) for part in read_corpus("abcdefghij").split(0.3)] == ["abcdefg", "hij"]
    assert [spelled(part) for part in read_corpus(["ab", "b", "c", "d"]).split(0.25)] == [
        ["ab", "b", "c"],
        ["d"],
    ]


def test_one_rule_of_newlines_for_str_files_documents_and_stdin(tmp_path: Path):
    path = tmp_path / "text"
    text = "\ufeffa\r\nb\rc\n"
    path.write_bytes(text.encode())
    for source in (path, text, [text], OpenFile(io.BytesIO(text.encode()), "stdin")):
        for newlines, expected in (("universal", "a\nb\nc\n"), ("keep", text)):
            if isinstance(source, OpenFile):
                source.file.seek(0)
            with read_corpus(source, newlines=newlines) as corpus:
                assert spelled(corpus) == ([expected] if isinstance(source, list) else expected)
                assert len(corpus.changes) == 2 * (newlines == "universal")
    with read_corpus(path, lines=True) as corpus:
        assert spelled(corpus) == ["a", "b", "c"]
    with read_corpus(path, "byte") as corpus:
        assert spelled(corpus) == b"\xef\xbb\xbfa\r\nb\rc\n"


def test_a_file_is_open_until_the_corpus_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastrnn.data.streams.IN_MEMORY", 0)
    path = tmp_path / "text"
    path.write_bytes(b"abcd")
    with read_corpus(path) as corpus:
        _, part = corpus.split(0.5)
        assert spelled(part) == "cd"
        _, other = read_corpus(path).split(0.5)
        other.close()
    with pytest.raises(ValueError, match="closed file"):
        spelled(other)


def test_a_symbol_that_a_file_did_not_have_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastrnn.data.streams.IN_MEMORY", 0)
    monkeypatch.setattr("fastrnn.data.text_file.BYTES_PER_ENTRY", 1)
    monkeypatch.setattr(module, "COUNTED_AT_ONCE", 1)
    path = tmp_path / "text"
    path.write_bytes(b"abcd")
    with read_corpus(path) as corpus:
        sequence = corpus.sequence(vocabulary_of(corpus))
        write_as_before(path, b"abce")
        np.testing.assert_array_equal(sequence.read(0, 3), [0, 1, 2])
        with pytest.raises(ValueError, match="text changed while it was trained on"):
            sequence.read(0, 4)


def test_a_lone_surrogate_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COUNTED_AT_ONCE", 4)
    with pytest.raises(ValueError, match=r"lone surrogate, '\\ud800', at position 6,"):
        read_corpus("abcdef\ud800").counts()
    _, part = read_corpus("abcdef\ud800").split(0.5)
    with pytest.raises(ValueError, match="at position 6,"):
        part.counts()
    with pytest.raises(ValueError, match="at position 1,"):  # its position in the document
        read_corpus(["abcdef", "a\ud800"]).counts()


@pytest.mark.parametrize(
    ("source", "unit", "error", "message"),
    [
        (7, None, TypeError, "text is int; it must be a str, bytes, a path or an iterable"),
        (["a", 7], None, TypeError, "a text must be str or bytes, and this is int"),
        (["a", b"a"], None, TypeError, "all str or all bytes"),
        ("a", "byte", ValueError, "unit='byte' is for a file"),
        (Path("x"), "word", ValueError, "unit='word' is not known"),
    ],
)
def test_refuses_what_is_no_text(source: object, unit: str | None, error: type, message: str):
    with pytest.raises(error, match=message):
        read_corpus(source, unit)  # type: ignore[arg-type]


def test_a_file_that_is_not_utf_8_is_named_with_the_place(tmp_path: Path):
    path = tmp_path / "latin"
    path.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ValueError, match=r"latin is not UTF-8: byte 0xe9 at offset 3; unit='byte'"):
        read_corpus(path)
    with read_corpus(path, "byte") as corpus:
        assert corpus.size == 12


def test_a_directory_and_a_missing_file_are_os_errors(tmp_path: Path):
    with pytest.raises(IsADirectoryError):
        read_corpus(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_corpus(tmp_path / "none")


@given(n=st.integers(0, 300), k=st.integers(2, 40))
def test_each_kth_document_is_split_off(n: int, k: int):
    training, held_out = Documents.of(["ab"] * n, "character").split_evenly(1 / k)
    assert held_out.order.tolist() == list(range(k - 1, n, k))
    assert sorted([*training.order.tolist(), *held_out.order.tolist()]) == list(range(n))
    assert len(Documents.of(["ab"] * n, "character").split_evenly(0.0)[1]) == 0


@pytest.mark.filterwarnings("ignore:each document")
@given(first=documents.filter(any), second=documents, running=st.booleans(), data=st.data())
def test_two_sequences_are_read_as_one(first: list, second: list, running: bool, data: st.DataObject):
    """Documents have one boundary between them."""
    texts: list = ["".join(first), "".join(second)] if running else [first, second]
    corpora = [read_corpus(text) for text in texts]
    expected = read_corpus(texts[0] + texts[1])
    vocabulary = vocabulary_of(expected)
    joined = module.JoinedSequence(*(one.sequence(vocabulary) for one in corpora), vocabulary.boundary_id)
    wanted = expected.sequence(vocabulary)
    assert len(joined) == len(wanted)
    start = data.draw(st.integers(0, len(joined)))
    stop = data.draw(st.integers(start, len(joined)))
    np.testing.assert_array_equal(joined.read(start, stop), wanted.read(start, stop))
