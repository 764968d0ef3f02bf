"""Samples are drawn in pieces, and are the same as if they were drawn at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import Model
from fastrnn.core import checks
from fastrnn.inference.sampling import draw_first
from fastrnn.inference.scoring import first_symbol_probabilities
from fastrnn.network.drawing import Rules

TEXT = "abc def abd\n" * 20
SETTINGS: dict[str, Any] = {"hidden_size": 12, "steps": 60, "backend": "numpy", "rng": 0}

CELLS: dict[str, dict[str, Any]] = {"tanh": {}, "relu": {"activation": "relu"}, "lstm": {"cell": "lstm"}}


@pytest.fixture(scope="module", params=CELLS)
def model(request: pytest.FixtureRequest) -> Model:
    return fastrnn.train(TEXT, **SETTINGS, **CELLS[request.param])


@pytest.fixture(scope="module")
def documents() -> Model:
    """A model whose documents are long enough for many pieces."""
    return fastrnn.train(["abcdef" * 20, "fedcba" * 30], **SETTINGS)


def on(backend: str, model: Model) -> Model:
    return Model.from_bytes(model.to_bytes(), backend=backend)


def at_once(model: Model, n: int, prime: str, rng: Any, temperature: float = 1.0) -> Any:
    """A sample whose n uniform draws are made in one call, and whose symbols are drawn in one call."""
    boundary = model.vocabulary.boundary_id
    known = [] if boundary is None else [boundary]
    known += model.vocabulary.encode(prime).tolist()
    begun = []
    if not known:
        probabilities = first_symbol_probabilities(model.counts)
        known = begun = draw_first(
            model.network.backend, probabilities, checks.uniforms(rng, 1), Rules(temperature),
            np.ones(len(probabilities), bool),
        ).tolist()  # fmt: skip
    network = model.network
    state = None
    for symbol in known[:-1]:
        _, state = network.forward([[symbol]], state)
    ids = network.sample(
        n - len(begun), known[-1], network.checked_state(state, 1), temperature=temperature, rng=rng,
        stop_symbol=boundary,
    )  # fmt: skip
    return model.vocabulary.decode(np.array([*begun, *ids[ids != (-1 if boundary is None else boundary)]]))


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
@pytest.mark.parametrize("prime", ["", "abc"])
def test_a_sample_is_what_is_drawn_at_once(
    backend: str, model: Model, documents: Model, make: Any, prime: str
):
    last = (3000, 1.0) if backend != "numpy" else (1100, 0)  # more than all pieces before the largest one
    for trained in (on(backend, model), on(backend, documents)):
        for n, temperature in ((1, 1.0), (2, 0.5), (300, 0.7), last):
            expected = at_once(trained, n, prime, make(3), temperature)
            assert trained.sample(n, prime, rng=make(3), temperature=temperature) == expected
            pieces = trained.sample_pieces(n, prime, rng=make(3), temperature=temperature)
            assert "".join(pieces) == expected


def test_each_symbol_takes_one_draw(model: Model):
    for n in (1, 2, 700, 3000):
        rng, same = np.random.RandomState(5), np.random.RandomState(5)
        model.sample(n, rng=rng, prime="a")
        same.random_sample(n)
        assert rng.random_sample() == same.random_sample()


def test_a_document_takes_the_draws_of_its_pieces(documents: Model):
    for n in (1, 500, 10**6):
        rng, same = np.random.default_rng(5), np.random.default_rng(5)
        sampled = documents.sample(n, rng=rng)
        assert len(sampled) < 1024
        same.random(min(n, 1024))
        assert rng.random() == same.random()


@pytest.mark.parametrize("n", [10**9, 10**12, 2**62])
def test_the_first_symbols_of_a_sample_of_any_length_are_there_at_once(backend: str, model: Model, n: int):
    pieces = on(backend, model).sample_pieces(n, "a", rng=0)
    found = [next(pieces) for _ in range(5)]
    assert list(map(len, found)) == [1, 2, 4, 8, 16]
    assert "".join(found) == on(backend, model).sample(31, "a", rng=0)


def test_a_document_s_sample_of_any_length_is_there_when_it_ends(documents: Model):
    assert documents.sample(2**62, rng=0) == documents.sample(1000, rng=0)


def test_pieces_stop_growing(backend: str, documents: Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastrnn.inference.sampling.MAX_AT_ONCE", 8)
    model = on(backend, fastrnn.train(TEXT, **SETTINGS))
    sizes = list(map(len, model.sample_pieces(40, "a", rng=0)))
    assert sizes == [1, 2, 4, 8, 8, 8, 8, 1]


def test_a_text_that_cannot_fit_is_refused_before_it_is_drawn(model: Model):
    with pytest.raises(MemoryError, match=r"a text of \d+ symbols needs"):
        model.sample(10**18)


def test_arguments_are_checked_before_a_piece_is_asked_for(model: Model):
    for arguments in ({"n": -1}, {"n": 3, "prime": "X"}, {"n": 3, "temperature": -1}, {"n": 3, "unknown": 0}):
        with pytest.raises(ValueError, match="."):
            model.sample_pieces(**arguments)


def test_a_sample_of_nothing(model: Model):
    assert model.sample(0) == model.sample(0, "abc") == ""
    assert list(model.sample_pieces(0)) == []
    tokens = fastrnn.train([0, 1, 2] * 9, vocabulary=3, **SETTINGS)
    assert tokens.sample(0).dtype == tokens.sample(5).dtype == np.int32
