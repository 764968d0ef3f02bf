"""Tokens: whole numbers that stand for words or anything else."""

from __future__ import annotations

import array
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.core import memory
from fastrnn.data import corpus as corpus_module
from fastrnn.data.corpus import Documents
from fastrnn.data.sources import read_corpus
from fastrnn.data.tokens import TokenVocabulary

WORDS = ("the cat sat on the mat and the dog sat on the log " * 12).split()
NAMES = sorted(set(WORDS))
IDS = [NAMES.index(word) for word in WORDS]
LINES = [IDS[start : start + 5] for start in range(0, len(IDS), 5)]


def train(ids: Any, vocabulary: Any = NAMES, **changes: Any) -> fastrnn.Model:
    arguments = {"hidden_size": 16, "steps": 60, "seq_length": 8, "batch_size": 4, "log_every": 20, "rng": 0}
    return fastrnn.train(ids, vocabulary=vocabulary, **{"backend": "numpy", **arguments, **changes})


@pytest.fixture(scope="module")
def model() -> fastrnn.Model:
    return train(IDS)


@pytest.fixture(scope="module")
def documents() -> fastrnn.Model:
    return train(LINES)


# ---- Training, scoring, sampling ---------------------------------------------------------------------


def test_a_sequence_of_words_is_learnt(backend: str):
    model = train(IDS, steps=200, backend=backend)
    order = IDS[6:18]
    assert 2 * model.perplexity(order) < model.perplexity(order[::-1])
    assert model.bits_per_symbol(order) == pytest.approx(np.log2(model.perplexity(order)))
    assert model.log_prob(order) == pytest.approx(-model.surprisal(order).sum() * np.log(2))
    drawn = model.sample(40, prime=[NAMES.index("sat")], temperature=0, rng=0)
    assert drawn.dtype == np.int32
    assert NAMES[drawn[0]] == "on"
    assert model.vocabulary.tokens == tuple(NAMES)
    assert model.vocabulary.size == len(NAMES) == 8


def test_documents_of_tokens_have_a_boundary(backend: str):
    model = train(LINES, steps=200, backend=backend)
    assert model.vocabulary.boundary_id == len(NAMES)
    assert model.vocabulary.size == len(model.counts) == len(NAMES) + 1
    assert model.counts[-1] == len(LINES) + 1
    assert len(model.surprisal(LINES[0], end=True)) == 6
    drawn = model.sample(50, rng=0)
    assert drawn.dtype == np.int32
    assert len(drawn) < 50
    assert drawn.max() < len(NAMES)
    scored = model.score_many([*LINES[:3], []], end=True)
    assert [len(bits) for bits in scored] == [6, 6, 6, 1]
    assert_close(scored[1], model.surprisal(LINES[1], end=True), 0 if backend != "numpy" else 1e-6)


@pytest.mark.parametrize("as_documents", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_text_s_ids_are_trained_on_like_the_text(backend: str, dtype: str, as_documents: bool):
    text = "hello, hello, help! " * 30
    of_text: Any = [text[i : i + 9] for i in range(0, len(text), 9)] if as_documents else text
    symbols = sorted(set(text))
    of_ids: Any = [symbols.index(symbol) for symbol in text]
    if as_documents:
        of_ids = [of_ids[i : i + 9] for i in range(0, len(text), 9)]
    same = {"hidden_size": 9, "steps": 40, "dtype": dtype, "validation": 0.1, "rng": 3, "backend": backend}
    characters = fastrnn.train(of_text, **same)
    tokens = fastrnn.train(of_ids, vocabulary=symbols, **same)
    assert tokens.history == [  # a token has no bytes
        {key: value for key, value in record.items() if key != "held_out_bytes"}
        for record in characters.history
    ]
    assert tokens.settings == characters.settings
    np.testing.assert_array_equal(tokens.counts, characters.counts)
    np.testing.assert_array_equal(tokens.network.flat, characters.network.flat)
    scored = [symbols.index(symbol) for symbol in "hello help"]
    np.testing.assert_array_equal(tokens.surprisal(scored), characters.surprisal("hello help"))
    sampled = tokens.sample(30, prime=scored[:2], rng=1)
    assert "".join(symbols[token] for token in sampled) == characters.sample(30, prime="he", rng=1)


def test_tokens_need_no_names():
    model, named = train(IDS, len(NAMES)), train(IDS)
    assert model.vocabulary.tokens is None
    np.testing.assert_array_equal(model.network.flat, named.network.flat)
    assert repr(model) == repr(named)
    assert repr(model).startswith("<fastrnn.Model of text: 8 tokens, Network(vocab_size=8,")


def test_tokens_that_never_occur_are_known(model: fastrnn.Model):
    wide = train(IDS, 1000)
    assert wide.network.vocab_size == 1000
    assert np.isfinite(wide.surprisal([999, 998])).all()


def test_a_vocabulary_of_fifty_thousand(compiled: str):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50_000, 3000)
    model = train(ids, 50_000, hidden_size=4, steps=3, backend=compiled)
    assert np.isfinite(model.surprisal(ids[:300])).all()
    assert model.sample(5, rng=0).max() < 50_000


def test_the_end_is_held_out():
    model = train(IDS, validation=0.25)
    assert model.counts.sum() == int(len(IDS) * 0.75)
    assert all("validation_loss" in record for record in model.history)


# ---- Kinds of sequences ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        np.array,
        lambda ids: np.array(ids, np.uint8),
        lambda ids: np.array(ids, np.uint64),
        lambda ids: np.array(ids, ">i2"),
        lambda ids: np.repeat(ids, 3)[::3],
        lambda ids: array.array("i", ids),
        tuple,
        iter,
        lambda ids: list(np.array(ids)),
    ],
)
def test_any_sequence_of_whole_numbers_will_do(kind: Any, model: fastrnn.Model):
    assert train(kind(IDS)).to_bytes() == model.to_bytes()


@pytest.mark.parametrize("kind", [np.array, iter, lambda ids: [array.array("H", line) for line in ids]])
def test_any_iterable_of_sequences_is_documents(kind: Any, documents: fastrnn.Model):
    whole = [line for line in LINES if len(line) == 5]
    assert train(kind(whole)).to_bytes() == train(whole).to_bytes()


@given(
    ids=st.lists(st.integers(0, 2**31 - 3), max_size=20),
    dtype=st.sampled_from(["<i4", ">i4", "<i8", ">u4", "<u8"]),
)
def test_ids_in_range_are_encoded_as_they_are(ids: list[int], dtype: str):
    vocabulary = object.__new__(TokenVocabulary)  # no memory for two billion
    vocabulary.__dict__.update(unit="token", symbols=range(2**31 - 2), boundary=False, tokens=None)
    for text in (ids, np.array(ids, dtype)):
        encoded = vocabulary.encode(text)
        assert encoded.dtype == np.int32
        assert encoded.tolist() == ids
        assert vocabulary.decode(encoded).tolist() == ids
    joined, lengths = vocabulary.encode_many([ids, np.array(ids, dtype), []])
    assert joined.tolist() == ids + ids
    assert lengths.tolist() == [len(ids), len(ids), 0]


@given(ids=st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=9), V=st.integers(1, 300))
def test_ids_out_of_range_are_refused(ids: list[int], V: int):
    vocabulary = TokenVocabulary.of_tokens(V)
    if all(0 <= token < V for token in ids):
        assert vocabulary.encode(ids).tolist() == ids
    else:
        for attempt in (vocabulary.encode, lambda text: vocabulary.encode_many([text])):
            with pytest.raises((TypeError, ValueError)):
                attempt(ids)


@given(
    texts=st.lists(st.lists(st.integers(0, 8), max_size=9), max_size=9).filter(any),
    piece=st.integers(1, 20),
    data=st.data(),
)
def test_any_part_of_documents_is_the_whole_s(texts: list[list[int]], piece: int, data: st.DataObject):
    vocabulary = TokenVocabulary("token", np.arange(9, dtype=np.uint32), boundary=True)
    corpus = read_corpus(texts, vocabulary=vocabulary)
    expected = [9]
    for text in texts:
        expected += [*text, 9]
    sequence = corpus.sequence(vocabulary)
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    np.testing.assert_array_equal(sequence.read(start, stop), expected[start:stop])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "COUNTED_AT_ONCE", piece)
        counts = vocabulary.by_id(corpus.counts())
    symbols = [token for text in texts for token in text]
    np.testing.assert_array_equal(counts[:9], np.bincount(symbols, minlength=9))


def test_an_array_is_not_copied():
    ids = np.arange(1000, dtype=np.int32)
    vocabulary = TokenVocabulary.of_tokens(1000)
    running = read_corpus(ids, vocabulary=vocabulary)
    assert np.shares_memory(running.sequence(vocabulary).read(10, 20), ids)
    rows = read_corpus(ids.reshape(10, 100), vocabulary=vocabulary)
    assert isinstance(rows, Documents)
    assert all(np.shares_memory(text, ids) for text in rows.texts)
    before = ids.copy()
    train(ids, 1000, steps=2)
    train(ids.reshape(10, 100), 1000, steps=2)
    np.testing.assert_array_equal(ids, before)


def test_a_memmap_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: fastrnn.Model):
    np.array(IDS, np.uint16).tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", np.uint16, "r")
    longest = 0
    encode = TokenVocabulary.encode_as_is

    def watched(self: TokenVocabulary, text: Any, position: int = 0, **options: Any) -> Any:
        nonlocal longest
        longest = max(longest, len(text))
        return encode(self, text, position, **options)

    monkeypatch.setattr(corpus_module, "COUNTED_AT_ONCE", 16)
    monkeypatch.setattr("fastrnn.data.batches.BLOCK_SYMBOLS", 16)
    monkeypatch.setattr("fastrnn.data.batches.MIN_STEPS", 8)
    monkeypatch.setattr(TokenVocabulary, "encode_as_is", watched)
    assert train(mapped).to_bytes() == model.to_bytes()
    assert longest == 16


# ---- Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [NAMES, len(NAMES)])
@pytest.mark.parametrize("ids", [IDS, LINES])
def test_a_model_of_tokens_comes_back(backend: str, ids: Any, vocabulary: Any, tmp_path: Path):
    model = train(ids, vocabulary, backend=backend)
    model.save(tmp_path / "m")
    again = fastrnn.load(tmp_path / "m", backend=backend)
    assert again.to_bytes() == model.to_bytes() == pickle.loads(pickle.dumps(model)).to_bytes()
    assert again.vocabulary.tokens == model.vocabulary.tokens
    assert again.history == model.history
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again.surprisal(LINES[0]), model.surprisal(LINES[0]))
    np.testing.assert_array_equal(again.sample(9, rng=0), model.sample(9, rng=0))


@given(names=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, unique=True))
@settings(deadline=None, max_examples=30)
def test_any_names_come_back(names: list[str]):
    model = fastrnn.train([0, 0], vocabulary=names, hidden_size=1, steps=1, backend="numpy", rng=0)
    again = fastrnn.Model.from_bytes(model.to_bytes())
    assert again.vocabulary.tokens == tuple(names)


def test_names_of_numpy_s_str_are_str():
    tokens = train(IDS, np.array(NAMES)).vocabulary.tokens
    assert tokens == tuple(NAMES)
    assert {type(name) for name in tokens} == {str}


# ---- What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "vocabulary", "error", "message"),
    [
        ([0, 1, 2], None, TypeError, "this is int; whole numbers need vocabulary="),
        (np.array([0, 1]), None, TypeError, "this is int64; whole numbers need vocabulary="),
        ([[0, 1], [2]], None, TypeError, "this is list; whole numbers need vocabulary="),
        (np.zeros((2, 2), int), None, TypeError, "this is ndarray; whole numbers need vocabulary="),
        (
            "hello",
            9,
            TypeError,
            "text is str, and vocabulary, or init with .* is for whole numbers: leave it out",
        ),
        (b"hello", 9, TypeError, "text is bytes, and vocabulary"),
        (Path("x"), 9, TypeError, "text is PosixPath, and vocabulary"),
        (7, 9, TypeError, "text is int, and vocabulary"),
        (
            ["ab", "c"],
            9,
            TypeError,
            "document 0 of 2: tokens are whole numbers .* this is str",
        ),
        (
            [[1], b"c"],
            9,
            TypeError,
            "document 1 of 2: tokens are whole numbers .* this is bytes",
        ),
        ([[1], 2], 9, TypeError, "document 1 of 2: tokens are whole numbers .* this is int"),
        ([1, [2]], 9, TypeError, "tokens must be whole numbers in a sequence: .*inhomogeneous"),
        (np.zeros((2, 2, 2), int), 9, TypeError, r"document 0 of 2: .* this has shape \(2, 2\)"),
        (np.array(3), 9, TypeError, "tokens are whole numbers in a sequence, and this is ndarray"),
        ([0, 1, 9, 2], 9, ValueError, "the token at position 2 is 9; it must be within 0 … 8"),
        ([0, -1], 9, ValueError, "the token at position 1 is -1; it must be within 0 … 8"),
        (np.array([0, 2**63], np.uint64), 9, ValueError, "at position 1 is 9223372036854775808; it must be"),
        ([[0, 1], [8, 9]], 9, ValueError, "document 1 of 2: the token at position 1 is 9; it must be within"),
        ([0.5, 1], 9, TypeError, "tokens must be whole numbers, and have dtype float64"),
        (np.zeros(3), 9, TypeError, "tokens must be whole numbers, and have dtype float64"),
        ([True, False], 9, TypeError, "tokens must be whole numbers, and have dtype bool"),
        ([0, 2**70], 9, TypeError, "tokens must be whole numbers, and have dtype object"),
        (np.array([0, 1], object), 9, TypeError, "tokens must be whole numbers, and have dtype object"),
        ([], 9, ValueError, "the text to train on has 0 symbols; it must have at least 2"),
        (np.zeros(0, int), 9, ValueError, "the text to train on has 0 symbols"),
        ([[], []], 9, ValueError, "the text to train on has 0 symbols"),
        ([3], 9, ValueError, "the text to train on has 1 symbols"),
        ([0, 1], 0, ValueError, "vocabulary=0 must be at least 1"),
        ([0, 1], True, TypeError, "vocabulary=True must be a whole number"),
        ([0, 1], 2**31 - 1, ValueError, "vocabulary=2147483647 must be at most 2147483646"),
        ([0, 1], 2.0, TypeError, "vocabulary is float; it must be a sequence of distinct str"),
        (
            [0, 1],
            "ab",
            TypeError,
            "this is int; whole numbers need vocabulary=, the tokens' names or how many",
        ),
        ([0, 1], {"a": 0}, TypeError, "vocabulary is dict; it must be a sequence"),
        ([0, 1], {"a", "b"}, TypeError, "vocabulary is set; it must be a sequence"),
        ([0, 1], [], ValueError, "vocabulary is empty; there must be at least one token"),
        ([0, 1], ["a", 7], TypeError, r"vocabulary\[1\] is int; a token's name must be str"),
        (
            [0, 1],
            ["a", "b", "a"],
            ValueError,
            r"vocabulary\[2\] is 'a', and so is vocabulary\[0\]; .*distinct",
        ),
        ([0, 1], ["a", "\ud800"], ValueError, r"vocabulary\[1\] is '\\ud800', which has a lone surrogate"),
    ],
)
def test_wrong_arguments_are_named(ids: Any, vocabulary: Any, error: type, message: str):
    with pytest.raises(error, match=message):
        train(ids, vocabulary)


def test_a_position_counts_from_the_whole_sequence_s_beginning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus_module, "COUNTED_AT_ONCE", 16)
    with pytest.raises(ValueError, match="the token at position 100 is 8; it must be within 0 … 7"):
        train([*IDS[:100], 8, *IDS[100:]], validation=0.1)
    with pytest.raises(ValueError, match=f"the token at position {len(IDS)} is 8"):
        train([*IDS, 8], validation=0.1)


def test_a_unit_is_for_a_file():
    with pytest.raises(ValueError, match="unit='byte' is for a file"):
        train(IDS, unit="byte")
    with pytest.raises(ValueError, match="unit='token' is not known; it is one of 'character', 'byte'"):
        fastrnn.train(Path("x"), unit="token")


def test_a_vocabulary_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available", lambda: 10_000_000)
    with pytest.raises(MemoryError, match="a vocabulary of 1000000000 tokens needs 12.0 GB"):
        train(IDS, 1_000_000_000)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("the", TypeError, "tokens are whole numbers in a sequence, and this is str"),
        ([0, 8], ValueError, "at position 1 is 8; it must be within 0 … 7"),
        ([0.0], TypeError, "dtype float64"),
        (7, TypeError, "this is int"),
        ([[1, 2]], TypeError, r"shape \(1, 2\)"),
    ],
)
def test_only_tokens_are_scored(text: Any, error: type, message: str, model: fastrnn.Model):
    for use in (model.surprisal, model.log_prob, lambda text: model.sample(3, prime=text)):
        with pytest.raises(error, match=message):
            use(text)


def test_the_boundary_is_no_token(documents: fastrnn.Model):
    message = "is 8, the boundary, which fastrnn adds to documents; it must be within 0 … 7"
    with pytest.raises(ValueError, match=message):
        documents.surprisal([1, 8])
    with pytest.raises(ValueError, match=message):
        documents.sample(3, prime=[8])
    with pytest.raises(ValueError, match="text 1 of 2: the token at position 0 is 8"):
        documents.score_many([[1], [8]])


def test_many_texts_are_not_one(model: fastrnn.Model):
    with pytest.raises(
        TypeError, match="text 0 of 2: tokens are whole numbers in a sequence, and this is int"
    ):
        model.score_many([1, 2])


def test_texts_are_not_tokens_to_a_model_of_characters():
    model = fastrnn.train("hello", steps=1, backend="numpy")
    with pytest.raises(TypeError, match="a text must be str or bytes, and this is list"):
        model.surprisal([0, 1])
