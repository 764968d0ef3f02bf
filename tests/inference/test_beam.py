"""Beam search finds the most probable texts if it is wide enough."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from helpers import draw_parameters

from fastrnn import Model, Network
from fastrnn.data.vocabulary import Vocabulary

ALPHABET = "abc"


def model_of(backend: str, *, boundary: bool = False, cell: str = "gru", alphabet: str = ALPHABET) -> Model:
    vocabulary = Vocabulary.of_alphabet(alphabet, boundary=boundary)
    network = draw_parameters(Network(vocabulary.size, 5, cell=cell, backend=backend), most=1.5)
    return Model(network, vocabulary, np.arange(vocabulary.size) * (np.arange(vocabulary.size) < 3))


def every_text(model: Model, n: int, prime: str) -> dict[str, float]:
    """The log probability of every continuation of at most n symbols, by the model's scores."""
    found, before = {}, model.log_prob(prime)
    for length in range(n + 1) if model.vocabulary.boundary else [n]:
        for text in map("".join, itertools.product(ALPHABET, repeat=length)):
            found[text] = model.log_prob(prime + text, end=length < n) - before
    return found


@pytest.mark.parametrize("boundary", [False, True])
@pytest.mark.parametrize("prime", ["", "cab"])
def test_a_wide_search_finds_the_most_probable_texts(backend: str, boundary: bool, prime: str):
    model = model_of(backend, boundary=boundary)
    for n in (1, 2, 4):
        expected = sorted(every_text(model, n, prime).items(), key=lambda item: -item[1])[:10]
        found = model.beam_search(n, prime, width=100, count=10)
        assert [text for text, _ in found] == [text for text, _ in expected[: len(found)]]
        np.testing.assert_allclose([score for _, score in found], [p for _, p in expected], atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_same_search_with_numba_and_c(cell: str):
    found: list[Any] = []
    for backend, threads in (("c", 1), ("numba", 2)):
        model = model_of(backend, boundary=True, cell=cell)
        model.network.threads = threads
        found.append(model.beam_search(12, "ab", width=7, count=5))
    assert found[0] == found[1]
    assert len(found[0]) == 5


def test_a_search_of_width_one_is_the_greedy_sample(compiled: str):
    model = model_of(compiled)
    ((text, score),) = model.beam_search(15, "ca", width=1)
    assert text == model.sample(15, "ca", temperature=0)
    assert math.isclose(score, model.log_prob("ca" + text) - model.log_prob("ca"), rel_tol=1e-5)


@pytest.mark.parametrize("boundary", [False, True])
def test_a_search_keeps_to_a_pattern(compiled: str, boundary: bool):
    model = model_of(compiled, boundary=boundary)
    found = model.beam_search(4, width=50, count=50, pattern="(?:ab|c)*", allowed="abc")
    expected = {"abab", "abcc", "cabc", "ccab", "cccc"} | {"cab", "abc", "ccc", "cc", "ab", "c", ""}
    assert {text for text, _ in found} == (expected if boundary else {t for t in expected if len(t) == 4})
    scores = every_text(model, 4, "")
    for text, score in found:
        assert math.isclose(score, scores[text], rel_tol=1e-4)


def test_a_match_that_is_complete_ends_the_search_early(compiled: str):
    assert [text for text, _ in model_of(compiled).beam_search(9, width=3, pattern="ab|c")] in (["ab"], ["c"])


def test_searches_of_little(compiled: str):
    model = model_of(compiled)
    assert model.beam_search(0, "ab") == [("", 0.0)]
    assert len(model.beam_search(1, width=9, count=9)) == 3
    single = model_of(compiled, alphabet="a")
    assert single.beam_search(5, "a", width=4, count=4) == [("aaaaa", 0.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({"width": 0}, "width=0"),
            ({"count": 0}, "count=0"),
            ({"width": 2, "count": 3}, "count=3 must be"),
        ),
        *(
            ({"pattern": "x"}, "pattern='x' matches no text"),
            ({"prime": "x"}, "'x'"),
            ({"top_k": 2}, "top_k=2 is no option here; the options are allowed, pattern, valid_utf8"),
        ),
    ],
)
def test_wrong_searches_are_refused(options: dict[str, Any], message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        model_of("numpy").beam_search(5, **options)
