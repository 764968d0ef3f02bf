"""Training that begins with the weights of a model: `fastrnn.train(text, init=…)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_close

import fastrnn
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.errors import CheckpointError
from fastrnn.network.network import Network
from fastrnn.training import finetuning
from fastrnn.training.settings import settings_of

COMMON: dict[str, Any] = {"rng": 0, "progress": False, "backend": "numpy"}
TEXT, OTHER = "hello world. " * 20, "Hollow Zürich words! " * 12


def made(text: Any = TEXT, **settings: Any) -> fastrnn.Model:
    return fastrnn.train(
        text, **{"hidden_size": 7, "embedding_size": None, "steps": 15, **COMMON, **settings}
    )


def continued(text: Any, init: Any, **settings: Any) -> fastrnn.Model:
    return fastrnn.train(text, init=init, **{"steps": 15, **COMMON, **settings})


def untrained(text: Any, init: fastrnn.Model, **settings: Any) -> fastrnn.Model:
    """The new model before its first update: a learning rate that is lost to rounding."""
    return continued(text, init, **{"steps": 1, "learning_rate": 1e-300, "init_scale": 1, **settings})


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("inputs", [{}, {"embedding_size": 5}, {"embedding_size": 7, "tied": True}], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_weights_of_known_symbols_move_with_them(cell: str, inputs: dict[str, Any], dtype: str):
    old = made(cell=cell, dtype=dtype, **inputs)
    new = untrained(OTHER, old)
    symbols = sorted(set(TEXT) | set(OTHER))
    assert [chr(code) for code in new.vocabulary.symbols] == symbols
    assert len(symbols) > len(set(TEXT))
    places = [symbols.index(symbol) for symbol in sorted(set(TEXT))]
    for name, array in new.network.parameters.items():
        kept = array
        if name in ("embedding.weight", "head.weight", "head.bias"):
            kept = array[places]
        elif name == "weight_ih_l0" and not inputs:
            kept = array[:, places]
        np.testing.assert_array_equal(kept, old.network.parameters[name], name)


def test_a_text_without_new_symbols_continues_with_the_same_scores(backend: str):
    old = made(backend=backend)
    new = untrained("hello " * 30, old, backend=backend)
    np.testing.assert_array_equal(new.network.flat, old.network.flat)
    assert new.settings["init"] == finetuning.digest_of(old.network)
    assert old.settings["init"] is None


def test_the_weights_are_halved_unless_they_are_frozen(backend: str):
    old = made(backend=backend, cell="lstm", num_layers=2)
    new = untrained("hello " * 30, old, backend=backend, freeze=["*_l0"], init_scale=None)
    assert new.settings["init_scale"] == 0.5
    for name, array in new.network.parameters.items():
        scale = 1 if name.endswith("_l0") else 0.5
        np.testing.assert_array_equal(array, scale * old.network.parameters[name], name)
    assert "init_scale" not in settings_of(new)


@pytest.mark.parametrize("scale", [0, -1, 1.01, float("nan"), "half"])
def test_refuses_another_scale(scale: Any):
    with pytest.raises((ValueError, TypeError), match="init_scale="):
        continued(TEXT, made(), init_scale=scale)


def test_refuses_a_scale_without_a_model():
    with pytest.raises(ValueError, match=r"init_scale=0\.7 scales the weights of a model: give init"):
        made(init_scale=0.7)


def test_the_model_may_be_a_file_and_is_not_changed(tmp_path: Path, compiled: str):
    old = made(backend=compiled)
    before = old.to_bytes()
    old.save(tmp_path / "old.safetensors")
    kept = [continued(OTHER, init, backend=compiled) for init in (old, tmp_path / "old.safetensors")]
    assert kept[0].to_bytes() == kept[1].to_bytes()
    assert old.to_bytes() == before
    assert not np.array_equal(kept[0].network.flat, untrained(OTHER, old, backend=compiled).network.flat)


def test_a_new_symbol_has_rows_of_zeros_and_the_bias_of_its_frequency(backend: str):
    old = made(dtype="float64", backend=backend)
    new = untrained(OTHER, old, validation=0, backend=backend)
    counts = new.counts + 1.0
    known = np.isin(new.vocabulary.symbols, old.vocabulary.symbols)
    weights = counts[known] / counts[known].sum()
    after = new.network.parameters
    assert_close(after["head.weight"][~known], 0 * after["head.weight"][~known], 1e-300)
    assert_close(after["weight_ih_l0"][:, ~known], 0 * after["weight_ih_l0"][:, ~known], 1e-300)
    bias = weights @ (old.network.parameters["head.bias"] - np.log(counts[known]))
    assert_close(after["head.bias"][~known], bias + np.log(counts[~known]), 1e-12)


def test_compiled_backends_give_new_symbols_the_same_bits():
    old = made(backend="c")
    flats = [untrained(OTHER, old, backend=backend).network.flat for backend in ("c", "numba")]
    np.testing.assert_array_equal(*flats)


def test_documents_and_running_text(backend: str):
    """A boundary joins the symbols as a new one, and leaves them with its weights."""
    running = made(backend=backend)
    documents = continued(["hello", "word"] * 20, running, backend=backend)
    assert documents.vocabulary.boundary
    assert documents.vocabulary.size == running.vocabulary.size + 1
    assert len(documents.sample(50, rng=0)) <= 50
    back = untrained("hello", documents, backend=backend, validation=0)
    assert not back.vocabulary.boundary
    np.testing.assert_array_equal(
        back.network.parameters["head.weight"], documents.network.parameters["head.weight"][:-1]
    )


def test_more_documents_keep_the_boundary_behind_new_symbols():
    old = made(["hello", "word"] * 20)
    new = untrained(["Zoo", "hello"] * 20, old)
    assert new.vocabulary.size == old.vocabulary.size + 1  # the Z, which is before all others
    rows, before = (model.network.parameters["head.weight"] for model in (new, old))
    np.testing.assert_array_equal(rows[1:], before)


def test_the_first_symbol_is_predicted_from_the_new_text():
    new = continued("oooo world " * 30, made(), validation=0)
    assert new.counts.tolist() == [("oooo world " * 30).count(chr(code)) for code in new.vocabulary.symbols]


def test_bytes_keep_their_256_symbols(tmp_path: Path):
    old = made(TEXT.encode())
    path = tmp_path / "text"
    path.write_text(OTHER)
    new = untrained(path, old)  # a file is read in the model's unit
    assert new.vocabulary.unit == "byte"
    np.testing.assert_array_equal(new.network.flat, old.network.flat)


def test_tokens_may_join_behind_those_of_the_model():
    ids = np.random.default_rng(0).integers(0, 5, 300)
    old, names = made(ids, vocabulary=list("abcde")), list("abcdefg")
    same = untrained(ids, old)
    assert isinstance(same.vocabulary, TokenVocabulary)
    assert same.vocabulary.tokens == tuple("abcde")
    grown = untrained(ids % 7, old, vocabulary=names)
    assert isinstance(grown.vocabulary, TokenVocabulary)
    assert grown.vocabulary.tokens == tuple(names)
    np.testing.assert_array_equal(
        grown.network.parameters["head.weight"][:5], old.network.parameters["head.weight"]
    )
    assert untrained(ids, made(ids, vocabulary=5), vocabulary=9).vocabulary.size == 9
    for vocabulary, error, message in (
        (list("abxde"), ValueError, "vocabulary has other names than init, whose token 2 is 'c'"),
        (7, ValueError, "vocabulary has other names than init"),
        (4, ValueError, "vocabulary has 4 tokens; it must begin with the 5 of init"),
    ):
        with pytest.raises(error, match=message):
            untrained(ids, old, vocabulary=vocabulary)
    with pytest.raises(TypeError, match="init with a model of tokens, is for whole numbers"):
        untrained(TEXT, old)


def test_an_alphabet_joins_the_symbols_of_the_model():
    new = untrained("hello " * 20, made("Ω hello " * 20), vocabulary="ascii")
    assert new.vocabulary.size == 129
    with pytest.raises(ValueError, match="characters that are not in vocabulary, such as 'é'"):
        untrained("hé" * 20, made(), vocabulary="ascii")


def test_newlines_are_read_as_the_model_reads_them():
    kept = made(TEXT + "\r\n", newlines="keep")
    new = continued("hello\r\n" * 20, kept)
    assert new.vocabulary.newlines == "keep"
    assert "\r" in {chr(code) for code in new.vocabulary.symbols}
    with pytest.raises(ValueError, match="newlines='universal' contradicts init, which has newlines='keep'"):
        continued("hello\r\n" * 20, kept, newlines="universal")
    assert continued("hello\r\n" * 20, made()).vocabulary.newlines == "universal"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"cell": "lstm"}, ValueError, "cell='lstm' contradicts init, whose network has cell='gru'"),
        ({"hidden_size": 8}, ValueError, "hidden_size=8 contradicts init, .* hidden_size=7: leave it out"),
        ({"num_layers": 2}, ValueError, "num_layers=2 contradicts init"),
        ({"embedding_size": 7}, ValueError, "embedding_size=7 contradicts init"),
        ({"dtype": "float64"}, ValueError, "dtype='float64' contradicts init"),
        ({"activation": "relu"}, ValueError, "activation='relu' contradicts init"),
        (
            {"initialization": "normal"},
            ValueError,
            "initialization='normal' draws weights, and init has them",
        ),
        ({"init": 3}, TypeError, "init=3 must be a fastrnn.Model, or the path"),
        ({"init": "no such file"}, FileNotFoundError, "no such file"),
        ({"vocabulary": 8}, TypeError, "vocabulary is of tokens, and init is a model of characters"),
    ],
)
def test_refuses_what_contradicts_the_model(settings: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        fastrnn.train(TEXT, **{"init": made(), **COMMON, **settings})


def test_refuses_weights_that_are_not_finite():
    old = made()
    old.network.flat[3] = np.nan
    with pytest.raises(ValueError, match="init has weights that are NaN or infinite"):
        continued(TEXT, old)


def test_refuses_another_unit():
    with pytest.raises(TypeError, match="the text is of bytes, and init is a model of characters"):
        continued(b"hello" * 20, made())
    with pytest.raises(TypeError, match="the text is of characters, and init is a model of bytes"):
        continued("hello" * 20, made(b"hello" * 20))


def test_settings_that_agree_with_the_model_may_be_given():
    new = continued(TEXT, made(cell="lstm"), cell="lstm", hidden_size=7, dtype=np.float32, dropout=0.2)
    assert new.network.dropout == 0.2
    assert new.settings["learning_rate"] == made(cell="lstm").settings["learning_rate"]
    assert continued(TEXT, made(), learning_rate=0.03).settings["learning_rate"] == 0.03


def test_a_preset_has_the_sizes_of_the_model():
    new = continued(TEXT, made(), preset="min-char-rnn")
    assert (new.network.cell, new.network.hidden_size, new.network.dtype) == ("gru", 7, np.float32)
    assert (new.settings["learning_rate"], new.settings["seq_length"]) == (0.1, 25)


@pytest.mark.parametrize("averaging", [None, 0.9])
def test_resumes_bit_for_bit_and_refuses_another_model(
    compiled: str, tmp_path: Path, averaging: float | None
):
    old, path = made(backend=compiled), tmp_path / "run.checkpoint"
    settings = {"backend": compiled, "steps": 30, "averaging": averaging, "freeze": ["weight_hh*"]}
    whole = continued(OTHER, old, **settings)

    class End(fastrnn.Callback):
        every = 11

        def after_updates(self, training, updates):
            if training.updates >= 22:
                raise OSError

    again = {**settings, "checkpoint": path, "checkpoint_every": 11}
    with pytest.raises(OSError):
        continued(OTHER, old, **again, callbacks=[End()])
    assert path.exists()
    with pytest.raises(CheckpointError, match=r"made with init='[0-9a-f]{64}', and this training has init="):
        continued(OTHER, made(backend=compiled, rng=1), **again, resume=True)
    with pytest.raises(CheckpointError, match="made with .*, and this training has"):
        fastrnn.train(OTHER, **{**COMMON, **again}, hidden_size=7, resume=True)
    assert continued(OTHER, old, **again, resume=True).to_bytes() == whole.to_bytes()


def test_the_unknown_symbol_joins_and_leaves():
    plain = made(TEXT)
    rare = untrained(OTHER, plain, min_count=3)
    assert rare.vocabulary.unknown
    assert set(TEXT) <= {chr(code) for code in rare.vocabulary.symbols}
    assert rare.surprisal("ж").shape == (1,)
    kept = untrained(OTHER, rare, min_count=3)
    np.testing.assert_array_equal(kept.network.flat, rare.network.flat)
    back = untrained(TEXT, rare)
    assert not back.vocabulary.unknown
    np.testing.assert_array_equal(
        back.network.parameters["head.weight"], rare.network.parameters["head.weight"][:-1]
    )


def test_characters_are_normalized_as_those_of_the_model():
    old = made(TEXT, normalization="nfc_casefold")
    new = continued("HELLO WORLD. " * 20, old)
    assert new.vocabulary.normalization == "nfc_casefold"
    assert new.vocabulary.size == old.vocabulary.size
    with pytest.raises(
        ValueError, match="normalization='nfc' contradicts init, .* 'nfc_casefold'|=.nfc_casefold"
    ):
        continued(TEXT, old, normalization="nfc")


def test_ids_in_another_vocabulary():
    one, other = (Vocabulary.of([text], unit="character", boundary=True) for text in ("bdé", "abcd"))
    assert one.ids_in(other).tolist() == [1, 3, -1, 4]
    assert other.ids_in(one).tolist() == [-1, 0, -1, 1, 3]
    empty = Vocabulary.of([""], unit="character")
    assert one.ids_in(empty).tolist() == [-1] * 4
    assert empty.ids_in(one).size == 0


def test_a_model_that_knows_no_symbol_of_the_text():
    old = Network(2, 4, backend="numpy", rng=0)
    vocabulary = Vocabulary.of(["xy"], unit="character")
    model = fastrnn.Model(old, vocabulary, [3, 3])
    new = continued("abab" * 20, model)
    assert np.isfinite(new.network.flat).all()
    assert new.bits_per_symbol("abab") > 0


def test_a_model_that_is_surer_than_it_should_be_has_not_diverged(tmp_path: Path):
    """At first, its loss on another text is far above that of guessing."""
    old = made("abcdefgh" * 60, hidden_size=32, steps=300)
    path, settings = tmp_path / "run.checkpoint", {"steps": 60, "schedule": "constant", "init_scale": 1}
    whole = continued("hgfedcba" * 60, old, **settings)
    assert whole.history[0]["loss"] > 1 + 1.5 * np.log(8)
    assert whole.history[-1]["loss"] < 1
    half = continued("hgfedcba" * 60, old, **settings, checkpoint=path, checkpoint_every=5)
    again = continued("hgfedcba" * 60, old, **settings, checkpoint=path, resume=True)
    assert again.to_bytes() == half.to_bytes() == whole.to_bytes()
