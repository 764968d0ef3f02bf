"""The search for the learning rate."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

import fastrnn
from fastrnn.training import choice, rate_search
from fastrnn.training.events import Training
from fastrnn.training.rate_search import FACTORS

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40


def quick(**options) -> fastrnn.Model:
    options = {"steps": 60, "rng": 0, "progress": False, "hidden_size": 8} | options
    return fastrnn.train(TEXT, **options)


def slow_loss(*_: object) -> float:
    time.sleep(0.1)
    return 1.0


@pytest.mark.parametrize("options", [{}, {"validation": 0}, {"cell": "lstm", "schedule": "cosine"}])
def test_it_gives_the_model_of_the_rate_that_it_finds(options: dict, backend: str):
    found = quick(learning_rate="search", backend=backend, **options)
    rate = found.settings["learning_rate"]
    assert rate in [factor * choice.LEARNING_RATES[found.settings["cell"]] for factor in FACTORS]
    assert quick(learning_rate=rate, backend=backend, **options).to_bytes() == found.to_bytes()


def test_the_rate_with_the_lowest_loss_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    losses = iter([5.0, 4.0, 6.0, 3.0, float("inf")])
    monkeypatch.setattr(rate_search, "_loss_after", lambda *_: next(losses))
    with caplog.at_level(logging.INFO, "fastrnn"):
        model = quick(learning_rate="search")
    assert model.settings["learning_rate"] == FACTORS[3] * choice.LEARNING_RATES["gru"]
    assert "bits after 20 updates by learning rate" in caplog.text


def test_a_rate_that_diverges_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rate_search, "FACTORS", (1e9, 1.0))
    model = quick(learning_rate="search", optimizer="sgd", clip_norm=None, activation="relu", cell="rnn")
    assert model.settings["learning_rate"] == choice.LEARNING_RATES["rnn"]


def test_a_time_limit_has_the_search_in_it(monkeypatch: pytest.MonkeyPatch):
    began = []

    class Seconds(fastrnn.Callback):
        def before_training(self, training: Training) -> None:
            began.extend([training.seconds, training.fraction_done(0)])

    monkeypatch.setattr(rate_search, "_loss_after", slow_loss)
    model = quick(learning_rate="search", steps=None, time_limit=1.0, callbacks=[Seconds()])
    seconds, fraction = began
    assert seconds > 0.5
    assert fraction < 0.1, "the schedule begins after the search"
    assert model.settings["time_limit"] == 1.0


def test_a_search_that_takes_the_whole_limit_leaves_an_update(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rate_search, "_loss_after", slow_loss)
    assert len(quick(learning_rate="search", steps=None, time_limit=0.3).history) == 1


def test_a_resumed_training_does_not_search_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = {"learning_rate": "search", "checkpoint": tmp_path / "run", "resume": True}
    expected = quick(**options).to_bytes()
    monkeypatch.setattr(rate_search, "with_best_rate", None)
    assert quick(**options).to_bytes() == expected


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="learning_rate='find' is not known"):
        quick(learning_rate="find")
