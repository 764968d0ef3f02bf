"""The unknown symbol: which symbols are shown as unknown, and what a model makes of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn.data.unknown import WithUnknown, random_words
from fastrnn.data.vocabulary import Vocabulary

#: Each of x, y and z occurs less than five times, and only in the part that is trained on.
TEXT = "x" + "abcab " * 60 + "yyzz" + "abcab " * 60
NAMES = ["abc", "cab", "bca", "q"] * 20 + ["xaz"]


def train(text: Any = TEXT, **changes: Any) -> fastrnn.Model:
    options = {"hidden_size": 8, "steps": 20, "rng": 0, "progress": False, "min_count": 5, **changes}
    return fastrnn.train(text, **options)


class Watch(fastrnn.Callback):
    """Keeps the targets of the first window of training and of the held-out part."""

    def before_training(self, training):
        batch, _, _ = training.reader.at(0)
        self.trained = batch
        self.held_out = training.held_out


# ---- Which symbols are shown as unknown --------------------------------------------------------------


def test_the_words_are_those_of_splitmix64():
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert random_words(1234567, 0, 4).tolist() == expected
    assert random_words(1234567, 2, 4).tolist() == expected[2:]


@dataclass
class Ids:
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.ids[start:stop]


@given(seed=st.integers(0, 2**53), share=st.sampled_from([0.0, 0.1, 0.5, 1 - 2**-53]), data=st.data())
def test_a_place_depends_on_the_seed_and_on_itself_alone(seed: int, share: float, data: st.DataObject):
    ids = Ids(np.arange(300, dtype=np.int32) % 7)
    sequence = WithUnknown(ids, 9, 3, share, seed)
    whole = sequence.read(0, 300)
    start = data.draw(st.integers(0, 300))
    stop = data.draw(st.integers(start, 300))
    np.testing.assert_array_equal(sequence.read(start, stop), whole[start:stop])
    changed = whole != ids.ids
    assert (whole[changed] == 9).all()
    assert (ids.ids[changed] != 3).all()  # the boundary stays
    assert changed.sum() == (whole == 9).sum()
    assert whole.dtype == np.int32
    if share in (0.0, 1 - 2**-53):
        assert changed.sum() == (0 if share == 0 else (ids.ids != 3).sum())


def test_the_share_is_that_of_the_symbols():
    sequence = WithUnknown(Ids(np.zeros(1_000_000, np.int32)), 1, None, 0.01, 12345)
    assert sequence.read(0, 1_000_000).mean() == pytest.approx(0.01, rel=0.03)
    other = WithUnknown(Ids(np.zeros(1_000_000, np.int32)), 1, None, 0.01, 12346)
    both = sequence.read(0, 1_000_000) & other.read(0, 1_000_000)
    assert both.mean() == pytest.approx(0.0001, rel=0.3)


@pytest.mark.parametrize("split", ["end", "rows"])
@pytest.mark.parametrize("source", [TEXT, NAMES], ids=["text", "documents"])
def test_only_what_is_trained_on_has_unknown_symbols_at_random(source: Any, split: str):
    watch = Watch()
    short = {"seq_length": 10, "batch_size": 4}
    model = train(source, validation=0.3, split=split, unknown_share=0.5, callbacks=[watch], **short)
    unknown = model.vocabulary.unknown_id
    assert 0.3 < (watch.trained.targets == unknown).mean() < 0.6
    np.testing.assert_array_equal(watch.trained.inputs[1:], watch.trained.targets[:-1])
    assert watch.held_out is not None
    assert (watch.held_out.targets == unknown).mean() < 0.05


def test_the_held_out_part_may_have_what_is_unknown():
    watch = Watch()
    model = train("ab" * 400 + "abQR" * 50, validation=0.2, unknown_share=0.0, callbacks=[watch])
    assert "".join(map(chr, model.vocabulary.symbols)) == "ab"
    assert (watch.held_out.targets == model.vocabulary.unknown_id).sum() in (100, 101, 102)  # rows overlap
    assert model.counts[model.vocabulary.unknown_id] == 0


# ---- The vocabulary ----------------------------------------------------------------------------------


def test_the_unknown_symbol_has_the_id_after_the_characters(backend: str):
    model = train(backend=backend)
    vocabulary = model.vocabulary
    assert "".join(map(chr, vocabulary.symbols)) == " abc"
    assert (vocabulary.size, vocabulary.unknown_id, vocabulary.boundary_id) == (5, 4, None)
    assert model.counts.tolist()[4] == 5
    assert model.counts.sum() == int(len(TEXT) * 0.9)
    documents = train(NAMES, backend=backend, validation=0).vocabulary
    assert "".join(map(chr, documents.symbols)) == "abcq"
    assert (documents.size, documents.unknown_id, documents.boundary_id) == (6, 4, 5)
    again = fastrnn.Model.from_bytes(model.to_bytes(), backend=backend)
    assert again.vocabulary.unknown
    assert again.settings["min_count"] == 5
    assert again.settings["unknown_share"] == 0.002
    np.testing.assert_array_equal(again.surprisal("a?b"), model.surprisal("a?b"))


def test_with_a_count_of_one_all_characters_are_known():
    model = train(min_count=1, validation=0)
    assert model.vocabulary.size == len(set(TEXT)) + 1
    assert model.counts[model.vocabulary.unknown_id] == 0
    assert np.isfinite(model.surprisal("é")).all()


def test_encode_and_decode():
    vocabulary = Vocabulary.of(["abc"], unit="character")
    known = Vocabulary("character", vocabulary.symbols, True, unknown=True)
    np.testing.assert_array_equal(known.encode("a?c\ud800", unknown="symbol"), [0, 3, 2, 3])
    np.testing.assert_array_equal(known.encode("a?c", unknown="skip"), [0, -1, 2])
    assert known.name_of(3) == "an unknown symbol"
    assert known.name_of(4) == "the end of a document"


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (b"abc" * 9, {}, "min_count=5 is for characters, and the text is bytes: no byte is ever unknown"),
        (
            [1, 2, 3],
            {"vocabulary": 4},
            "min_count=5 is for characters, and the text is tokens: vocabulary says",
        ),
        (TEXT, {"vocabulary": "ascii"}, "min_count=5 and vocabulary, a str, exclude each other"),
        (TEXT, {"min_count": 0}, "min_count=0 must be at least 1"),
        (TEXT, {"min_count": 1000}, "min_count=1000 leaves no character.* most frequent one occurs .* times"),
        (TEXT, {"unknown_share": 1.0}, "unknown_share=1.0 must be below one"),
        (TEXT, {"unknown_share": -0.1}, "unknown_share=-0.1 must be"),
        (
            TEXT,
            {"min_count": None, "unknown_share": 0.1},
            "unknown_share=0.1 needs an unknown symbol: give min",
        ),
    ],
)
def test_what_has_no_unknown_symbol_is_refused(source: Any, changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        train(source, backend="numpy", **changes)


# ---- Training ----------------------------------------------------------------------------------------


def test_a_file_gives_the_model_of_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: str):
    path = tmp_path / "text"
    path.write_text("\n".join(NAMES))
    monkeypatch.setattr("fastrnn.data.streams.IN_MEMORY", 0)
    same = {"backend": compiled, "unknown_share": 0.2}
    assert train(path, **same).to_bytes() == train("\n".join(NAMES), **same).to_bytes()
    expected = train(NAMES, **same)
    for where in ("text_file.BYTES_PER_ENTRY", "corpus.COUNTED_AT_ONCE", "batches.BLOCK_SYMBOLS"):
        monkeypatch.setattr(f"fastrnn.data.{where}", 32)
    monkeypatch.setattr("fastrnn.data.batches.MIN_STEPS", 1)
    assert train(path, lines=True, **same).to_bytes() == expected.to_bytes()


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_compiled_backends_give_the_same_model(cell: str):
    require_backend("c"), require_backend("numba")
    same = {"unknown_share": 0.3, "cell": cell, "dtype": "float64" if cell == "gru" else "float32"}
    assert (
        train(backend="c", threads=1, **same).to_bytes()
        == train(backend="numba", threads=2, **same).to_bytes()
    )


def test_what_is_unknown_is_told(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "fastrnn"):
        train(backend="numpy", unknown_share=0.25)
    assert "4 characters are known; those that occur fewer than 5 times, 0.767 % of the" in caplog.text
    assert "training text, are unknown, and 25 % of the others are shown as unknown" in caplog.text


def test_an_unseen_symbol_gets_about_the_probability_with_which_it_was_shown(compiled: str):
    model = train("ab" * 3000, min_count=1, unknown_share=0.02, steps=600, backend=compiled)
    bits = model.surprisal("abab?bab")
    assert bits[4] == pytest.approx(-np.log2(0.02), abs=1)
    assert bits[5] < 0.2  # the network knows how to go on after an unknown symbol
    never = train("ab" * 3000, min_count=1, unknown_share=0.0, steps=600, backend=compiled)
    assert never.surprisal("abab?bab")[4] > 9


# ---- Scores and samples ------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [TEXT, NAMES], ids=["text", "documents"])
def test_an_unknown_symbol_is_scored_as_one(backend: str, source: Any):
    model = train(source, backend=backend)
    bits = model.surprisal("a?bx")
    assert len(bits) == 4
    np.testing.assert_array_equal(model.surprisal("a!bé", unknown="symbol"), bits)
    np.testing.assert_array_equal(model.score_many(["a?bx"])[0], bits)
    (scored,) = model.score_many(iter(["a?bx"]))
    np.testing.assert_array_equal(scored, bits)
    pieces = model.score_pieces([("a?", False), ("", False), ("bx", True)], str)
    assert np.r_[tuple(pieces)][:4] == pytest.approx(bits, rel=1e-5)
    assert model.log_prob("a?bx") == pytest.approx(-bits.sum() * np.log(2))
    assert model.bits_per_symbol("???") == pytest.approx(model.surprisal("???").mean())
    assert len(model.surprisal("a?bx", unknown="skip")) == 2
    assert model.surprisal("a?bx", unknown=0.25)[1] == 2
    with pytest.raises(ValueError, match=r"has '\?' at position 1"):
        model.surprisal("a?bx", unknown="error")
    known = np.r_[model.vocabulary.encode("a"), model.vocabulary.unknown_id].astype(np.int32)
    begun = [] if model.vocabulary.boundary_id is None else [model.vocabulary.boundary_id]
    inputs = np.r_[begun, known[:-1]].astype(np.int32)[:, None]
    targets = known[-len(inputs) :, None]
    losses, _ = model.network.losses(inputs, targets)
    np.testing.assert_allclose(bits[1], losses[-1, 0] / np.log(2), rtol=1e-6)


def test_a_model_without_it_says_so(backend: str):
    model = train(min_count=None, backend=backend)
    for call in (model.surprisal, model.log_prob, model.bits_per_symbol, model.perplexity):
        with pytest.raises(
            ValueError, match="unknown='symbol' is for a model with an unknown symbol.* min_count"
        ):
            call("abc", unknown="symbol")
    with pytest.raises(ValueError, match="unknown='symbol' is for a model"):
        model.sample(3, prime="a", unknown="symbol")
    with pytest.raises(ValueError, match="which is not among the"):
        model.surprisal("?")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("source", [TEXT, NAMES], ids=["text", "documents"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_unknown_symbol_is_never_drawn(backend: str, source: Any, tied: bool, dtype: str):
    extra = {"embedding_size": 8, "tied": True} if tied else {}
    model = train(source, backend=backend, dtype=dtype, **extra)
    before = model.to_bytes()
    unknown = model.vocabulary.unknown_id
    model.network.parameters["head.bias"][unknown] = 50  # it is what the network expects
    for temperature in (0, 1e-6, 1.0, 1e6):
        for prime in (None, "", "a?"):
            text = model.sample(60, prime, temperature=temperature, rng=0)
            assert set(text) <= set(map(chr, model.vocabulary.symbols))
    assert model.network.parameters["head.bias"][unknown] == 50
    assert before != model.to_bytes()


def test_the_first_symbol_is_not_the_unknown_one():
    model = train("?!" * 2 + "ab" * 9, min_count=9, validation=0, backend="numpy")
    assert {model.sample(1, rng=seed) for seed in range(60)} == {"a", "b"}


def test_a_prime_shows_the_unknown_symbol(backend: str):
    model = train(backend=backend)
    assert model.sample(9, prime="ab?", rng=0) == model.sample(9, prime="abx", rng=0)
    reading = model._scorer(end=False, unknown=None).of_prime("ab?")
    assert reading.before == model.vocabulary.unknown_id
    assert model.sample(9, prime="ab?", rng=0, unknown="skip") == model.sample(9, prime="ab", rng=0)
    with pytest.raises(ValueError, match=r"prime: the text has '\?' at position 2"):
        model.sample(9, prime="ab?", unknown="error")
