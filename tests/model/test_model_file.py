"""The constructor, `save` and `load` accept the same models, and refuse all others."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import OrderedDict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import Model, Network
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.model.history import History

LETTERS = Vocabulary("character", np.arange(97, 105, dtype=np.uint32))
TOKENS = TokenVocabulary.of_count(8)


def network(V: int = 8) -> Network:
    return Network(V, 3, backend="numpy", rng=0)


def make(
    vocabulary: Any = LETTERS, counts: Any = None, settings: Any = None, history: Any = None, **changes: Any
) -> Model:
    counts = np.arange(8) if counts is None else counts
    return Model(changes.get("network", network()), vocabulary, counts, settings, history)


def comes_back(model: Model) -> Model:
    """The model after its file was written and read."""
    data = model.to_bytes()
    again = Model.from_bytes(data)
    assert again.to_bytes() == data
    assert again.settings == model.settings
    assert again.history == model.history
    assert again.vocabulary.unit == model.vocabulary.unit
    np.testing.assert_array_equal(again.vocabulary.symbols, model.vocabulary.symbols)
    np.testing.assert_array_equal(again.counts, model.counts)
    return again


# ---- What is taken, and converted --------------------------------------------------------------------


def test_the_issue_s_model_is_saved_and_read(tmp_path: Any):
    model = Model(Network(8, 16), TokenVocabulary.of_count(8), np.ones(8))
    model.save(tmp_path / "m")
    again = fastrnn.load(tmp_path / "m")
    np.testing.assert_array_equal(again.counts, np.ones(8, np.int64))
    assert again.counts.dtype == model.counts.dtype == np.int64


@pytest.mark.parametrize(
    "counts",
    [
        np.arange(8, dtype=np.int32), np.arange(8, dtype=np.uint8), np.arange(8.0), list(range(8)),
        tuple(map(np.int16, range(8))), np.arange(8, dtype=">i8"), np.arange(16)[::2] // 2, range(8),
        np.arange(8, dtype=np.float16), np.arange(8, dtype=np.uint64),
    ],
)  # fmt: skip
def test_whole_counts_become_int64(counts: Any):
    model = make(counts=counts)
    assert model.counts.dtype == np.int64
    np.testing.assert_array_equal(comes_back(model).counts, np.arange(8))


def test_counts_are_the_model_s_own():
    counts = np.arange(8)
    model = make(counts=counts)
    counts[:] = -1
    np.testing.assert_array_equal(model.counts, np.arange(8))
    for held in (model, comes_back(model)):
        with pytest.raises(ValueError, match="read-only"):
            held.counts[0] = -1
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            held.counts.flags.writeable = True


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.float64, ">u4"])
def test_symbols_become_uint32(dtype: Any):
    for vocabulary in (
        Vocabulary("character", np.arange(97, 105).astype(dtype)),
        TokenVocabulary("token", np.arange(8).astype(dtype)),
        TokenVocabulary("token", list(range(7)), np.bool_(True)),
    ):
        model = make(vocabulary)
        assert model.vocabulary.symbols.dtype == np.uint32
        assert model.vocabulary.symbols.dtype.isnative
        comes_back(model)


def test_what_is_as_it_should_be_is_kept():
    given = network()
    model = make(TOKENS, network=given)
    assert model.network is given
    assert model.vocabulary is TOKENS


SETTINGS = {
    "none": None,
    "flags": [True, np.bool_(False)],
    "numbers": [
        0,
        -1,
        np.int64(7),
        10**999,
        -0.0,
        1e308,
        0.1,
        np.float32(0.1),
        np.float64(1) / 3,
        Fraction(1, 4),
    ],
    "texts": ["", "café", "\0\n\x1b", "😀", "\ud800", "\ud83d\ude00", np.str_("x")],
    "": {"nested": (1, (2, [3]))},
    "ordered": OrderedDict(b=1, a=2),
}


def test_settings_are_what_json_gives_back():
    model = make(settings=SETTINGS)
    assert model.settings == json.loads(json.dumps(model.settings))
    assert model.settings["texts"][5] == "😀"
    assert model.settings[""] == {"nested": [1, [2, [3]]]}
    assert [type(value) for value in model.settings["numbers"][:4]] == [int] * 4
    assert repr(comes_back(model).settings["numbers"]) == repr(model.settings["numbers"])
    SETTINGS["none"] = 1
    assert model.settings["none"] is None
    deepest: Any = 1
    for _ in range(99):
        deepest = [deepest]
    comes_back(make(settings={"deep": deepest}))


def test_settings_and_history_can_be_set():
    model = make()
    model.settings = {"a": (1, 2)}
    assert model.settings == {"a": [1, 2]}
    model.settings["b"] = np.int64(3)
    model.history = [{"step": 1, "loss": 2}]
    model.history.append({"step": 2, "loss": 1.0, "validation_loss": math.nan})
    again = comes_back(model)
    assert again.settings == {"a": [1, 2], "b": 3}
    assert again.history == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]


@pytest.mark.parametrize(
    "vocabulary",
    [
        Vocabulary("character", np.arange(97, 104), True),
        TokenVocabulary.of_names(("", "a", "café", "😀", "\0", "\n", "aa", "é")),
        TokenVocabulary("token", np.arange(7), True, ("", "a", "café", "😀", "\0", "\n", "aa")),
    ],
)
def test_every_kind_of_vocabulary_comes_back(vocabulary: Vocabulary):
    again = comes_back(make(vocabulary)).vocabulary
    assert getattr(again, "tokens", None) == getattr(vocabulary, "tokens", None)
    assert again.boundary == vocabulary.boundary


# ---- What is refused, by the constructor and again by save -------------------------------------------


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        (np.arange(7), ValueError, "counts has shape (7,); it must be (8,)"),
        (np.arange(9), ValueError, "counts has shape (9,); it must be (8,)"),
        (np.ones((8, 1)), ValueError, "counts has shape (8, 1)"),
        (3, ValueError, "counts has shape ()"),
        ([], ValueError, "counts has shape (0,)"),
        (np.arange(-1, 7), ValueError, "counts are out of range: from -1 to 6"),
        (np.full(8, 1 << 60), ValueError, "counts are out of range"),
        (np.full(8, 1 << 63, np.uint64), ValueError, "counts are out of range"),
        (np.full(8, 1e300), ValueError, "counts are out of range"),
        (np.full(8, math.inf), ValueError, "counts are out of range"),
        (np.full(8, 0.5), ValueError, "counts must be whole numbers"),
        (np.full(8, math.nan), ValueError, "counts must be whole numbers"),
        (np.full(8, 1j), TypeError, "counts must be whole numbers, and has dtype complex128"),
        (np.full(8, "1"), TypeError, "counts must be whole numbers, and has dtype <U1"),
        (np.full(8, True), TypeError, "counts must be whole numbers, and has dtype bool"),
        ([10**30] * 8, TypeError, "counts must be whole numbers, and has dtype object"),
        ([[1], [1, 2]], TypeError, "counts must be whole numbers"),
        ({"a": 1}, TypeError, "counts must be whole numbers, and has dtype object"),
    ],
)
def test_other_counts_are_refused(counts: Any, error: type, message: str):
    with pytest.raises(error) as caught:
        make(counts=counts)
    assert message in str(caught.value)


def letters(*symbols: int) -> Vocabulary:
    return Vocabulary("character", np.array(symbols))


@pytest.mark.parametrize(
    ("vocabulary", "error", "message"),
    [
        ("abcdefgh", TypeError, "vocabulary is str; it must be a fastrnn.data.vocabulary.Vocabulary"),
        (8, TypeError, "vocabulary is int"),
        (letters(*range(7)), ValueError, "the vocabulary has 7 symbols, and the network 8"),
        (TokenVocabulary.of_count(9), ValueError, "the vocabulary has 9 symbols, and the network 8"),
        (dataclasses.replace(TOKENS, boundary=True), ValueError, "the vocabulary has 9 symbols"),
        (letters(*range(8, 0, -1)), ValueError, "the vocabulary is not in order"),
        (letters(0, 1, 2, 3, 4, 5, 6, 6), ValueError, "the vocabulary is not in order"),
        (letters(0, 1, 2, 3, 4, 5, 6, 0x110000), ValueError, "1114112 is no code point"),
        (letters(0, 1, 2, 3, 4, 5, 6, 0xD800), ValueError, "the vocabulary has lone surrogates"),
        (letters(0, 1, 2, 3, 4, 5, 6, 1 << 32), ValueError, "vocabulary.symbols are out of range"),
        (letters(-1, 1, 2, 3, 4, 5, 6, 7), ValueError, "vocabulary.symbols are out of range"),
        (Vocabulary("character", np.ones((8, 2))), ValueError, "vocabulary.symbols has shape (8, 2)"),
        (Vocabulary("character", np.array(list("abcdefgh"))), TypeError, "must be whole numbers"),
        (Vocabulary("byte", np.arange(8)), ValueError, "the vocabulary has 8 bytes; it must have from 256"),
        (Vocabulary("byte", np.arange(1, 257)), ValueError, "the vocabulary is not all bytes"),
        (Vocabulary("token", np.arange(8)), TypeError, "a Vocabulary of tokens"),
        (TokenVocabulary("character", np.arange(8)), TypeError, "a TokenVocabulary of characters"),
        (TokenVocabulary("token", np.arange(1, 9)), ValueError, "the vocabulary is not all tokens"),
        (TokenVocabulary("token", np.arange(0), True), ValueError, "the vocabulary has 0 tokens"),
        (Vocabulary("word", np.arange(8)), ValueError, "vocabulary.unit='word' is not known"),
        (Vocabulary("character", np.arange(7), 1), TypeError, "vocabulary.boundary=1 must be True or False"),
    ],
)
def test_other_vocabularies_are_refused(vocabulary: Any, error: type, message: str):
    with pytest.raises(error) as caught:
        make(vocabulary)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (tuple("abcdefg"), ValueError, "vocabulary.tokens must be a tuple of 8 str"),
        (tuple("abcdefghi"), ValueError, "vocabulary.tokens must be a tuple of 8 str"),
        (list("abcdefgh"), ValueError, "vocabulary.tokens must be a tuple of 8 str"),
        ("abcdefgh", ValueError, "vocabulary.tokens must be a tuple of 8 str"),
        ((*"abcdefg", 8), TypeError, "vocabulary[7] is int; a token's name must be str"),
        ((*"abcdefg", b"h"), TypeError, "vocabulary[7] is bytes"),
        ((*"abcdefg", "a"), ValueError, "vocabulary[7] is 'a', and so is vocabulary[0]"),
        ((*"abcdefg", "\ud800"), ValueError, "vocabulary[7] is '\\ud800', which has a lone surrogate"),
    ],
)
def test_other_names_of_tokens_are_refused(names: Any, error: type, message: str):
    with pytest.raises(error) as caught:
        make(dataclasses.replace(TOKENS, tokens=names))
    assert message in str(caught.value)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (3, TypeError, "settings is int; it must be a dict"),
        ([("a", 1)], TypeError, "settings is list"),
        ("a", TypeError, "settings is str"),
        ({1: 2}, TypeError, "settings has the key 1; it must be str"),
        ({"a": {None: 2}}, TypeError, "settings['a'] has the key None"),
        ({"a": [1, {2}]}, TypeError, "settings['a'][1] is {2}; it must be a value that JSON has"),
        ({"a": b"x"}, TypeError, "settings['a'] is b'x'"),
        ({"a": np.zeros(3)}, TypeError, "settings['a'] is array"),
        ({"a": 1j}, TypeError, "settings['a'] is 1j"),
        ({"a": print}, TypeError, "settings['a'] is <built-in"),
        ({"a": math.nan}, ValueError, "settings['a'] is nan; it must be a finite float64"),
        ({"a": [-math.inf]}, ValueError, "settings['a'][0] is -inf"),
        ({"a": np.float32("inf")}, ValueError, "settings['a'] is"),
        ({"a": Fraction(1, 3)}, ValueError, "settings['a'] is Fraction(1, 3); it must be a finite float64"),
        ({"a": Fraction(10**400, 3)}, ValueError, "it must be a finite float64"),
        ({"a": 10**1000}, ValueError, "settings['a'] has more than 1000 digits"),
        ({"a": 10**5000}, ValueError, "settings['a'] has more than 1000 digits"),
        ({"a": nested(100)}, ValueError, "settings have more than 100 levels"),
        ({"a": nested(100_000)}, ValueError, "settings have more than 100 levels"),
        ({"😀": 1, "\ud83d\ude00": 2}, ValueError, "settings has two keys that are equal in JSON"),
    ],
)
def test_other_settings_are_refused_at_once_and_by_save(settings: Any, error: type, message: str):
    with pytest.raises(error) as caught:
        make(settings=settings)
    assert message in str(caught.value)
    model = make()
    with pytest.raises(error):
        model.settings = settings
    if isinstance(settings, dict):
        model.settings.update(settings)
        with pytest.raises(error) as caught:
            model.to_bytes()
        assert message in str(caught.value)


def test_a_header_that_would_not_be_read_is_not_written():
    for model in (
        make(settings={"a": "x" * (1 << 20)}),
        make(history=[{"step": 0, "loss": 1.0, "x" * (1 << 20): 2.0}]),
    ):
        with pytest.raises(ValueError, match="settings, and the keys of the history, are too large"):
            model.to_bytes()
    size = (1 << 20) - 2500
    comes_back(make(settings={"a": "x" * size}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_l0", "head.weight", "head.bias"])
def test_a_parameter_that_is_not_finite_is_refused_at_once_and_by_save(name: str, value: float):
    model = make()
    model.network.parameters[name].flat[-1] = value
    for attempt in (
        lambda: make(network=model.network),
        model.to_bytes,
        lambda: model.save("never-written"),
        model.__reduce__,
    ):
        with pytest.raises(ValueError, match=f"parameters are not all finite: {name} has NaN or infinity"):
            attempt()


@pytest.mark.parametrize("given", [None, 3, "net", np.zeros(3), Network])
def test_what_is_no_network_is_refused(given: Any):
    with pytest.raises(TypeError, match="network is .*; it must be a fastrnn.Network"):
        make(network=given)


@pytest.mark.parametrize("history", [3, {"step": 0, "loss": 1.0}, [3], [{"step": 0}], "ab"])
def test_other_histories_are_refused(history: Any):
    with pytest.raises((TypeError, ValueError), match="history"):
        make(history=history)


def test_symbols_that_were_changed_since_are_refused_by_save():
    model = make(Vocabulary("character", np.arange(97, 105, dtype=np.uint32)))
    model.vocabulary.symbols[0] = 200
    with pytest.raises(ValueError, match="the vocabulary is not in order"):
        model.to_bytes()


@pytest.mark.parametrize("name", ["network", "vocabulary", "counts"])
def test_what_belongs_together_cannot_be_set_apart(name: str):
    """Ids of another vocabulary would be outside the network's weights."""
    model, other = make(), make(letters(1, 2), network=network(2), counts=[1, 1])
    with pytest.raises(AttributeError, match=name):
        setattr(model, name, getattr(other, name))
    assert model.surprisal("abcdefgh").size == 8


def test_a_history_is_taken_as_it_is():
    history = History([{"step": 0, "loss": 1.0}])
    assert make(history=history).history is history
