"""Trainings that diverge: they go back, and on with a lower learning rate."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn.training import divergence

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40


def quick(text=TEXT, **options) -> fastrnn.Model:
    options = {"steps": 200, "rng": 0, "progress": False, "hidden_size": 16, "backend": "c"} | options
    return fastrnn.train(text, **options)


def reached(model: fastrnn.Model) -> float:
    return float(np.nanmin(model.history.columns()["validation_loss"]))


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_learning_rate_that_is_a_hundred_times_too_high(cell: str, data, caplog: pytest.LogCaptureFixture):
    """It ends within a tenth of the good one."""
    text = (data / "tinyshakespeare.txt").read_text(encoding="utf-8")[:300_000]
    settings = {"cell": cell, "steps": 600, "hidden_size": 128}
    good = quick(text, **settings)
    rate = 100 * good.settings["learning_rate"]
    with caplog.at_level(logging.WARNING, "fastrnn"):
        assert reached(quick(text, learning_rate=rate, **settings)) < 1.1 * reached(good)
    assert "training diverged" in caplog.text
    assert "with learning rates times 0.1 (attempt 1 of 3)" in caplog.text


def test_a_good_training_is_not_touched(backend: str):
    expected = quick(backend=backend, retries=0)
    found = quick(backend=backend)
    assert found.network.flat.tobytes() == expected.network.flat.tobytes()
    assert found.history == expected.history


@pytest.mark.parametrize("averaging", [None, 0.9])
@pytest.mark.parametrize("validation", [0, 0.2])
def test_what_is_not_finite_is_never_in_a_model(averaging: float | None, validation: float, backend: str):
    settings = {"optimizer": "sgd", "learning_rate": 1e6, "clip_norm": None, "schedule": "constant"}
    settings |= {"averaging": averaging, "validation": validation, "backend": backend}
    model = quick(retries=9, **settings)
    assert np.isfinite(model.network.flat).all()
    assert all(math.isfinite(record["loss"]) for record in model.history)
    steps = model.history.columns()["step"]
    assert np.all(np.diff(steps) > 0)
    assert steps[-1] == 199


def test_the_error_says_what_was_tried():
    settings = {"optimizer": "sgd", "learning_rate": 1e30, "clip_norm": None, "retries": 2}
    with pytest.raises(fastrnn.DivergenceError, match="training diverged") as caught:
        quick(**settings)
    assert caught.value.learning_rate == pytest.approx(1e28)
    assert caught.value.step is not None


def test_it_goes_back_to_the_last_good_record(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """After an update that fails once, everything from the record before it is the same but the rate."""
    real, failed = fastrnn.Trainer.advance, []

    def advance(self, batch, seq_length, first, learning_rates):
        if self.updates >= 140 and not failed:
            failed.append(self.updates)
            raise fastrnn.DivergenceError("the loss is nan")
        return real(self, batch, seq_length, first, learning_rates)

    expected = quick(log_every=20)
    monkeypatch.setattr(fastrnn.Trainer, "advance", advance)
    with caplog.at_level(logging.WARNING, "fastrnn"):
        found = quick(log_every=20)
    assert (
        "the loss is nan. It goes on from update 141 with learning rates times 0.1 (attempt 1 of 3)"
        in caplog.text
    )
    assert found.history[:8] == expected.history[:8]
    assert found.history[8] != expected.history[8]
    assert found.history.columns()["step"].tolist() == expected.history.columns()["step"].tolist()


def test_before_a_record_is_good_it_goes_back_to_the_beginning(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "fastrnn"):
        quick(optimizer="sgd", learning_rate=1e5, clip_norm=None, retries=9, log_every=10)
    assert "It goes on from update 0 with" in caplog.text


def test_a_state_that_grows_is_no_divergence(data, caplog: pytest.LogCaptureFixture):
    """A network with relu has enormous losses at first, with any learning rate, and learns nevertheless."""
    text = (data / "tinyshakespeare.txt").read_text(encoding="utf-8")[:300_000]
    with caplog.at_level(logging.WARNING, "fastrnn"):
        settings = {"embedding_size": None, "dropout": 0, "learning_rate": 0.008, "clip_norm": 1.0}
        model = quick(text, activation="relu", steps=300, hidden_size=128, **settings)
    assert model.history.columns()["loss"].max() > 1000
    assert "diverged" not in caplog.text
    assert reached(model) < 3


def test_the_retry_is_the_same_after_a_checkpoint(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """The state to go back to, and the number of attempts, are in a checkpoint."""
    settings = {"optimizer": "sgd", "learning_rate": 1e4, "clip_norm": None, "retries": 9, "log_every": 10}
    expected = quick(**settings).to_bytes()
    calls = []

    class Stop(fastrnn.Callback):
        every = 1

        def after_updates(self, training, updates):
            calls.append(1)
            if len(calls) % 7 == 0:
                raise ZeroDivisionError

    for _ in range(200):
        saved = {"checkpoint": tmp_path / "run", "checkpoint_every": 2, "resume": True}
        try:
            found = quick(**settings, **saved, callbacks=[Stop()])
            break
        except ZeroDivisionError:
            continue
    assert found.to_bytes() == expected
    assert len(calls) > 100


@pytest.mark.parametrize("wrong", [-1, 1.5, "x", None])
def test_retries_are_checked(wrong):
    with pytest.raises((TypeError, ValueError), match="retries"):
        quick(retries=wrong)


def test_the_best_weights_are_those_of_the_best_record(monkeypatch: pytest.MonkeyPatch):
    """Also after training went back to a record that was the best one."""
    real, failed = fastrnn.Trainer.advance, []

    def advance(self, *arguments):
        if self.updates >= 101 and len(failed) < 3:
            failed.append(self.updates)
            raise fastrnn.DivergenceError("the loss is nan")
        return real(self, *arguments)

    monkeypatch.setattr(fastrnn.Trainer, "advance", advance)
    held_out = TEXT[int(len(TEXT) * 0.9) :]
    for retries in (3, 0):
        failed.clear()
        settings = {
            "log_every": 20,
            "retries": retries,
            "validation": 0.1,
            "batch_size": 1,
            "dtype": "float64",
        }
        try:
            model = quick(**settings)
        except fastrnn.DivergenceError as error:
            assert not retries
            model = error.model
        scored = math.fsum(model.surprisal(held_out)[1:].tolist()) * math.log(2) / (len(held_out) - 1)
        assert scored == pytest.approx(reached(model), rel=1e-9)


def test_an_explosion_that_the_last_record_finds_is_retried(caplog: pytest.LogCaptureFixture):
    settings = {"steps": 30, "log_every": 1000, "learning_rate": 3, "schedule": "constant"}
    with caplog.at_level(logging.WARNING, "fastrnn"):
        model = quick(**settings)
    assert "attempt 1 of 3" in caplog.text
    assert [record["step"] for record in model.history] == [0, 29]
    assert model.history[-1]["learning_rate"] < 3
    with pytest.raises(fastrnn.DivergenceError) as caught:
        quick(**{**settings, "learning_rate": 1e9}, retries=1)
    assert (caught.value.step, caught.value.model) == (30, None)
    assert caught.value.checkpoint is None


def test_the_constants_are_in_the_docs():
    guide = " ".join((Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8").split())
    assert (divergence.LOWER, divergence.EXPLOSION) == (0.1, 1)
    assert (divergence.GROWTH, divergence.WORSE) == (10, 1.1)
    assert "one nat per symbol above that of guessing" in guide
    assert "at most 1.1 times the lowest one, and its weights have not grown tenfold" in guide
    assert "learning rates times a tenth" in guide
