"""Hidden states as features."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from helpers import CELLS, parts_of
from helpers.models import KINDS_AND_CELLS, random_model, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import Model

TEXTS = ["abc", "", "cabbaca", "b", "ac" * 6]


def states_one_by_one(model: Model, text: Any, layer: int) -> np.ndarray:
    """The states of a layer before the first symbol and after each one (n + 1, H), by `Network.forward`."""
    ids = model.vocabulary.encode(text).tolist()
    network, state = model.network, None
    found = [np.zeros(network.hidden_size)]
    for symbol in [model.vocabulary.boundary_id] * model.vocabulary.boundary + ids:
        _, state = network.forward([[symbol]], state)
        found.append(parts_of(state)[0][layer, 0])
    return np.array(found[model.vocabulary.boundary :])


@pytest.mark.parametrize(("kind", "cell"), KINDS_AND_CELLS)
def test_features_are_the_states_of_the_network(backend: str, kind: str, cell: str):
    model = random_model(backend, kind, num_layers=2, embedding_size=3, **CELLS[cell])
    texts = [text_of(kind, text) for text in TEXTS]
    for layer in (0, 1, -1):
        each, mean = (
            model.hidden(texts, layer=layer, pool="each"),
            model.hidden(texts, layer=layer, pool="mean"),
        )
        last = model.hidden(texts, layer=layer)
        assert last.shape == mean.shape == (len(texts), 5)
        for place, text in enumerate(texts):
            expected = states_one_by_one(model, text, layer)
            np.testing.assert_allclose(each[place], expected[1:], atol=1e-12)
            np.testing.assert_allclose(last[place], expected[-1], atol=1e-12)
            of_mean = expected[1:].mean(0) if len(text) else expected[0]
            np.testing.assert_allclose(mean[place], of_mean, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(
    texts=st.lists(st.text("abc", max_size=20), min_size=1, max_size=9),
    pool=st.sampled_from(["last", "mean", "each"]),
)
def test_each_text_has_the_bits_that_it_has_alone(texts: list[str], pool: str):
    require_backend("c")
    model = random_model("c", dtype="float32", hidden_size=17)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastrnn.inference.features.MAX_ROWS", 4)
        found = model.hidden(texts, pool=pool)
    for text, one in zip(texts, found, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, model.hidden([text], pool=pool)[0])
    for one, other in zip(model.hidden(iter(texts), pool=pool), found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_texts_have_no_features(backend: str):
    model = random_model(backend)
    assert model.hidden([]).shape == model.hidden([], pool="mean").shape == (0, 5)
    assert model.hidden([], pool="each") == []
    assert list(model.hidden(iter([]))) == []


def test_an_iterator_gives_an_iterator_that_reads_ahead_a_little(backend: str):
    model, taken = random_model(backend), 0

    def texts() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "abc"

    found = model.hidden(texts())
    assert taken == 0
    next(found)
    assert taken <= 2000
    assert len(list(itertools.islice(found, 1000))) == 1000
    assert len(list(model.hidden(io.StringIO("ab\nc\n")))) == 2


def test_a_symbol_that_is_left_out_has_no_state(backend: str):
    model = random_model(backend)
    with pytest.raises(ValueError, match="^text 1 of 2: the text has 'X' at position 1"):
        model.hidden(["a", "bX"])
    for unknown in ("skip", 0.5):
        (found,) = model.hidden(["aXXb"], pool="each", unknown=unknown)
        np.testing.assert_array_equal(found, model.hidden(["ab"], pool="each")[0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": 2}, ValueError, "layer=2 must be at most 1"),
        ({"layer": -3}, ValueError, "layer=-3 must be at least -2"),
        ({"layer": 1.0}, TypeError, "layer=1.0 must be a whole number"),
        ({"pool": "max"}, ValueError, "pool='max' is not known; it is one of 'last', 'mean', 'each'"),
        ({"pool": None}, ValueError, "pool=None is not known"),
        ({"unknown": "no"}, ValueError, "unknown='no'"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str):
    model = random_model("numpy", num_layers=2)
    for texts in (["a"], iter(["a"])):
        with pytest.raises(error, match=message):
            model.hidden(texts, **options)
