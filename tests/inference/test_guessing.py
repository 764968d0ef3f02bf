"""Guess numbers, against counting all documents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.models import all_documents, random_model

from fastrnn.inference.guessing import GuessSamples

N = 4000


@pytest.mark.parametrize("unknown", [False, True])
def test_estimates_are_what_is_counted(backend: str, unknown: bool):
    model = random_model(backend, unknown=unknown, seed=2)
    model.network.parameters["head.bias"][-1] = 2.5  # documents are short
    documents = all_documents(model, 6)
    samples = model.guess_samples(N, rng=0, max_length=6)
    deviations = []
    for place in (0, 1, 2, 5, 10, 30, 100, 300):
        text = documents[place][0]
        guesses, error = model.guess_number(text, samples=samples)
        assert abs(guesses - (place + 1)) <= 4 * error + 1e-9
        assert error <= 0.2 * place + 1e-9
        deviations.append((guesses - place - 1) / error if error else 0)
    assert np.abs(deviations).max() > 0.01


def test_the_standard_error_is_that_of_many_estimates():
    model = random_model("numpy", seed=2)
    model.network.parameters["head.bias"][-1] = 2.5
    text = all_documents(model, 6)[25][0]
    estimates = [
        model.guess_samples(300, rng=seed, max_length=6).guess_number(model.log_prob(text, end=True))
        for seed in range(60)
    ]
    guesses = np.array([one.guesses for one in estimates])
    stated = np.mean([one.standard_error for one in estimates])
    assert 0.7 <= guesses.std() / stated <= 1.4
    assert abs(guesses.mean() - 26) <= 4 * stated / np.sqrt(60)


def test_samples_are_repeatable(backend: str):
    model = random_model(backend)
    samples = model.guess_samples(500, rng=3)
    again = model.guess_samples(500, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(samples.counts, again.counts)
    for text in ("", "a", "cabcab"):
        assert model.guess_number(text, samples=500, rng=3) == model.guess_number(text, samples=samples)
    assert isinstance(model.guess_number("a"), tuple)


def test_documents_that_are_too_long_do_not_count(backend: str):
    model = random_model(backend)
    samples = model.guess_samples(200, rng=0, max_length=0)
    assert len(samples.counts) < 200
    assert set(np.round(samples.log_probabilities, 9)) == {round(model.log_prob("", end=True), 9)}
    model.network.parameters["head.bias"][-1] = -1e6
    never = model.guess_samples(10, rng=0, max_length=3)
    assert never.guess_number(-5.0) == (1.0, 0.0)


def test_unknown_symbols_of_the_text(backend: str):
    model = random_model(backend)
    samples = model.guess_samples(50, rng=0)
    with pytest.raises(ValueError, match="the text has 'X' at position 1"):
        model.guess_number("aX", samples=samples)
    assert model.guess_number("aXb", samples=samples, unknown="skip") == model.guess_number(
        "ab", samples=samples
    )
    assert (
        model.guess_number("X", samples=samples, unknown=1e-9).guesses
        >= model.guess_number("", samples=samples).guesses
    )


def test_numbers_that_are_too_large():
    samples = GuessSamples(2, np.array([-1.0, -800.0]), np.array([math.e, math.inf]))
    assert samples.guess_number(-900.0) == (math.inf, math.inf)
    assert samples.guess_number(-500.0) == pytest.approx((1 + math.e / 2, math.e / 2))
    large = GuessSamples(2, np.array([-1.0, -700.0]), np.array([math.e, 1e304]))
    assert large.guess_number(-900.0) == pytest.approx((5e303, 5e303))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"samples": 0}, ValueError, "samples=0 must be at least 2"),
        ({"samples": 1.5}, TypeError, "samples=1.5 must be a whole number"),
        ({"samples": None}, TypeError, "samples=None must be a whole number"),
        ({"rng": -1}, ValueError, "rng=-1 must be"),
        ({"rng": True}, TypeError, "rng=True must be"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        random_model("numpy").guess_number("a", **options)
