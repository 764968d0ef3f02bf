"""The shape of a model that decoders use."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from helpers import CELLS
from helpers.models import KINDS_AND_CELLS, random_model, text_of
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(("kind", "cell"), KINDS_AND_CELLS)
def test_its_scores_add_up_to_those_of_the_model(backend: str, kind: str, cell: str):
    model, text = random_model(backend, kind, **CELLS[cell]), text_of(kind, "abcacb")
    lm = model.decoder_lm()
    state, total = lm.initial_state(), 0.0
    for symbol in text:  # an int for bytes and tokens
        total += lm.score(state, symbol)
        state = lm.advance(state, symbol)
    assert total == pytest.approx(model.log_prob(text), rel=1e-12)
    assert total == lm.score(lm.initial_state(), text)
    assert state == lm.initial_state(text) == lm.advance(lm.initial_state(), text)
    np.testing.assert_allclose(
        sorted(np.exp(state.log_probabilities)), sorted(model.next_distribution(text).values()), rtol=1e-12
    )
    if model.vocabulary.boundary:
        assert total + lm.score_end(state) == pytest.approx(model.log_prob(text, end=True), rel=1e-12)
    else:
        with pytest.raises(ValueError, match="score_end is for a model of documents"):
            lm.score_end(state)


def test_states_are_values(compiled: str):
    lm = random_model(compiled).decoder_lm()
    states = [lm.initial_state(text) for text in ("", "a", "b", "ab", "ab")]
    assert len(set(states)) == 4
    assert states[3] == states[4]
    assert pickle.loads(pickle.dumps(states[3])) == states[3]
    with pytest.raises(FrozenInstanceError):
        states[0].network_state = b""  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        states[0].log_probabilities[0] = 0
    before = lm.score(states[1], "b")
    lm.advance(states[1], "cab")
    assert lm.score(states[1], "b") == before


def test_later_changes_of_the_parameters_do_not_reach_it(backend: str):
    model = random_model(backend)
    lm = model.decoder_lm()
    expected = lm.score(lm.initial_state("ab"), "c")
    model.network.flat[:] = 0
    assert (
        lm.score(lm.advance(lm.advance(lm.initial_state("a"), "b"), ""), "c") != expected
    )  # its prefix is read anew
    state = lm.initial_state()
    assert lm.score(lm.advance(state, "ab"), "c") == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["text", "documents"])
def test_unknown_symbols(backend: str, kind: str):
    model = random_model(backend, kind)
    for unknown, expected in (("skip", 0.0), (0.25, np.log(0.25))):
        lm = model.decoder_lm(unknown=unknown)
        state = lm.initial_state("a")
        assert lm.score(state, "X") == expected
        assert lm.advance(state, "X") == state
    lm = model.decoder_lm()
    for call in (lm.score, lm.advance):
        with pytest.raises(ValueError, match="the text has 'X' at position 0"):
            call(lm.initial_state(), "X")
    knowing = random_model(backend, kind, unknown=True)
    lm = knowing.decoder_lm()
    assert lm.score(lm.initial_state("a"), "X") == pytest.approx(
        np.log(knowing.next_distribution("a")["<unknown>"])
    )


@settings(max_examples=30, deadline=None)
@given(
    symbol=st.one_of(
        st.text(max_size=3), st.binary(max_size=3), st.integers(), st.none(), st.floats(), st.booleans()
    )
)
def test_any_symbol_gives_a_score_or_an_error(symbol: Any):
    for kind in ("documents", "bytes", "tokens"):
        lm = random_model("numpy", kind).decoder_lm()
        state = lm.initial_state()
        try:
            score = lm.score(state, symbol)
        except (TypeError, ValueError):
            continue
        assert score <= 0
        assert lm.score(state, symbol) == score


def test_threads_share_one(compiled: str):
    lm = random_model(compiled, hidden_size=19).decoder_lm()

    def score(text: str) -> float:
        return lm.score(lm.initial_state(), text)

    texts = ["abcabc" * 20, "cba" * 40]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(score, texts * 4)) == list(map(score, texts * 4))
