"""`refit`: training goes on over the whole text, from the weights that it keeps."""

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require_backend

import fastrnn
from fastrnn.training import events

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40
LINES = [f"line {i} of {i * i}" for i in range(120)]

#: The first part of this text does not predict its last part, so its best weights are early ones.
MISLEADING = "abcabcabd" * 40 + "cbadcba" * 6

#: Trainings whose refits have different states.
KINDS: dict[str, dict[str, Any]] = {
    "rnn": {"activation": "tanh"},
    "lstm": {"cell": "lstm", "num_layers": 2, "averaging": 0.9, "dtype": "float64", "keep": "last"},
    "gru": {"dropout": 0.3, "num_layers": 2, "embedding_size": 3, "optimizer": "rmsprop"},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.5, "schedule": "plateau"},
    "adagrad": {"optimizer": "adagrad", "activation": "relu", "split": "rows", "seq_length": 20},
    "char-rnn": {"preset": "char-rnn", "steps": None, "epochs": 6, "batch_size": 4, "seq_length": 10},
    "min-char-rnn": {"preset": "min-char-rnn", "validation": 0.1, "log_every": 7},
    "a text of its own": {"validation": "the dog sat on the mat"},
    "misleading": {"text": MISLEADING, "learning_rate": 0.05, "batch_size": 1, "steps": 90, "patience": 3},
    "documents": {"text": LINES, "split": "every", "shuffle": True},
    "bytes": {"text": TEXT.encode()},
    "tokens": {"text": (np.arange(900) % 7).tolist(), "vocabulary": 7},
}


class KilledError(Exception):
    """What ends a training at once, as a kill does."""


class Killer(fastrnn.Callback):
    """Ends training when an update was done."""

    def __init__(self, update: int) -> None:
        self.every = self._update = update

    def after_updates(self, training, updates):
        if training.updates >= self._update:
            raise KilledError


class Log(fastrnn.Callback):
    """Keeps what happens, with the stage."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, bool]] = []

    def _add(self, name: str, training) -> None:
        self.events.append((name, training.updates, training.is_refit))

    def before_training(self, training):
        self._add("before training", training)

    def after_evaluation(self, training, evaluation):
        assert training.model.evaluation == evaluation
        self._add("evaluation", training)

    def before_refit(self, training):
        assert training.held_out is None
        self._add("before refit", training)

    def after_training(self, training):
        self._add("after training", training)


def quick(text: Any = TEXT, **options) -> fastrnn.Model:
    options = {"steps": 60, "rng": 0, "progress": False, "log_every": 8, "hidden_size": 7} | options
    return fastrnn.train(text, **{"refit": True} | options)


def test_a_refit_is_a_training_from_the_kept_weights_over_the_whole_text(backend: str):
    """It has the bits of a `fastrnn.Trainer` that begins with these weights."""
    options = {"backend": backend, "batch_size": 5, "seq_length": 20}
    first, model = quick(refit=False, **options), quick(**options)
    n = 20  # a third of 60 updates
    assert model.history[-1]["step"] == 59 + n
    ids = model.vocabulary.encode(TEXT)
    length = -(-(len(ids) - 1) // 5)
    places = [row * (len(ids) - 1 - length) // 4 for row in range(5)]
    rows = np.stack([ids[place : place + length + 1] for place in places], axis=1)
    trainer = fastrnn.Trainer(first.network, clip_norm=0.25, reduction="mean")
    for update in range(n):
        trainer.learning_rate = model.settings["learning_rate"] * min(1, (update + 1) / 2) * (1 - update / n)
        start = update * 20 % (length + 20 - length % 20)
        if start == 0:
            trainer.reset_state()
        window = rows[start : start + 21]
        trainer.step(window[:-1], window[1:])
    np.testing.assert_array_equal(model.network.flat, trainer.network.flat)
    assert model.counts.sum() == len(TEXT)
    assert model.evaluation.loss == pytest.approx(first.evaluation.loss, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refit_is_resumed_bit_for_bit(kind: str, tmp_path: Path):
    """A training is killed in both stages, and each part of it runs on another backend."""
    require_backend("c"), require_backend("numba")
    options = KINDS[kind]
    model = quick(backend="c", threads=1, **options)
    columns = model.history.columns()
    begun = int(columns["step"][np.isnan(columns["refit"])].max()) + 1
    end = int(columns["step"].max()) + 1
    assert end > begun
    options = {**options, "checkpoint": tmp_path / "run", "checkpoint_every": 5, "resume": True}
    for update, backend, threads in [
        (begun // 2, "c", 1), (begun + 1, "numba", 2), (begun + 6, "c", 2), (end - 1, "numba", 1)
    ]:  # fmt: skip
        if update < end:
            with pytest.raises(KilledError):
                quick(backend=backend, threads=threads, callbacks=[Killer(update)], **options)
    resumed = quick(backend="numba", threads=2, **options)
    assert resumed.to_bytes() == model.to_bytes() == fastrnn.load(tmp_path / "run").to_bytes()
    assert quick(backend="c", **options).to_bytes() == model.to_bytes()


def test_its_records_are_told_apart(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "fastrnn"):
        model = quick(MISLEADING, learning_rate=0.05, batch_size=1, steps=200, hidden_size=16)
    before = [record for record in model.history if "refit" not in record]
    after = [record for record in model.history if "refit" in record]
    best = min(before, key=lambda record: record["validation_loss"])
    assert best["held_out_loss"] == model.evaluation.loss
    assert before[-1]["step"] == 199 < after[0]["step"]
    assert after[-1]["step"] == 199 + max(1, round((best["step"] + 1) / 3))
    assert all(record["refit"] == 1 and "validation_loss" not in record for record in after)
    assert model.kept_record == after[-1]
    assert f"loss {after[-1]['loss']:.4f} at step" in repr(model)
    assert model.settings["refit"] is True
    assert "trained on only at the end, by the refit" in caplog.messages[0]
    assert f"the whole text, from the weights of update {best['step']}, for" in caplog.text
    assert f"refit, update {after[-1]['step']}: " in caplog.text
    assert "was trained on the whole text, so how well it does on other texts was not measured" in caplog.text


def test_callbacks_know_the_stage():
    log = Log()
    quick(callbacks=[log])
    assert log.events == [
        ("before training", 0, False),
        ("evaluation", 60, False),
        ("before refit", 60, True),
        ("after training", 80, True),
    ]


def test_a_callback_ends_a_stage():
    class Stop(fastrnn.Callback):
        every = 1

        def after_updates(self, training, updates):
            return training.updates == (36 if training.is_refit else 30)

    log = Log()
    model = quick(callbacks=[Stop(), log])
    assert [updates for _, updates, _ in log.events] == [0, 30, 30, 36]
    assert model.history[-1]["step"] == 35


def test_patience_ends_training_and_not_the_refit():
    settings = {"learning_rate": 0.05, "batch_size": 1, "steps": 400, "hidden_size": 16, "log_every": 4}
    settings |= {"embedding_size": None, "clip_norm": 1.0}
    model = quick(MISLEADING, patience=2, keep="last", **settings)
    columns = model.history.columns()
    ended = int(np.isnan(columns["refit"]).sum())
    losses = columns["validation_loss"][:ended]
    assert ended - 1 - losses.argmin() == 2
    assert len(model.history) > ended + 1


def test_a_time_limit_is_for_both_stages(monkeypatch: pytest.MonkeyPatch):
    class Watch(fastrnn.Callback):
        def before_training(self, training):
            self.began = time.monotonic()

        def before_refit(self, training):
            self.trained = time.monotonic() - self.began

        def after_training(self, training):
            self.total = time.monotonic() - self.began

    watch = Watch()
    model = quick(steps=None, time_limit=0.8, callbacks=[watch])
    assert 0.55 <= watch.trained < watch.total < 3  # its parts are 0.6 and 0.2 seconds
    rates = model.history.columns()["learning_rate"]
    assert rates[-1] < rates.max() / 4
    monkeypatch.setattr(events, "REFIT_TIME", 0.999)
    quick(steps=None, time_limit=60, epochs=1, callbacks=[watch])  # the number of updates ends both
    assert watch.total < 30


def test_a_refit_that_diverges_goes_back_to_its_beginning(caplog: pytest.LogCaptureFixture):
    """Not to the weights of before it, nor to those that a third of them were trained on."""

    class Explode(fastrnn.Callback):
        """Spoils the weights once, in the refit."""

        every = 1
        spoilt = 0

        def after_updates(self, training, updates):
            if training.is_refit and training.updates == 63 and self.spoilt < self.times:
                self.spoilt += 1
                training.trainer.network.flat[...] = np.inf

    explode = Explode()
    explode.times = 1
    with caplog.at_level(logging.WARNING, "fastrnn"):
        model = quick(callbacks=[explode])
    assert "It goes on from update 60 with learning rates times 0.1 (attempt 1 of 3)" in caplog.text
    assert model.history[-1]["step"] == 79
    assert np.isfinite(model.network.flat).all()
    explode.times, explode.spoilt = 9, 0
    with pytest.raises(fastrnn.DivergenceError) as caught:
        quick(callbacks=[explode])
    assert caught.value.model.network.flat.tobytes() == quick(refit=False).network.flat.tobytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_refit_writes_a_checkpoint(number: int, tmp_path: Path):
    class Send(fastrnn.Callback):
        every = 1

        def after_updates(self, training, updates):
            if training.updates == 70:
                os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(fastrnn.TrainingInterrupted, match="interrupted after 70 updates") as caught:
        quick(checkpoint=tmp_path / "run", callbacks=[Send()])
    signal.signal(signal.SIGINT, before)
    assert caught.value.checkpoint == caught.value.updates == 70
    assert caught.value.model.history[-1]["step"] == 69
    assert quick(checkpoint=tmp_path / "run", resume=True).to_bytes() == quick().to_bytes()


def test_an_interrupted_refit_gives_the_best_weights():
    class Interrupts(fastrnn.Callback):
        def after_updates(self, training, updates):
            if training.is_refit:
                raise KeyboardInterrupt

    with pytest.raises(fastrnn.TrainingInterrupted) as caught:
        quick(callbacks=[Interrupts()])
    np.testing.assert_array_equal(caught.value.model.network.flat, quick(refit=False).network.flat)


def test_a_refit_needs_a_part_that_is_held_out(caplog: pytest.LogCaptureFixture):
    for options in ({"validation": 0}, {"preset": "scratch"}, {"preset": "min-char-rnn"}):
        with pytest.raises(ValueError, match="refit=True goes on over what was held out, and validation=0"):
            quick(**options)
    with pytest.raises(TypeError, match="refit=1 must be True or False"):
        quick(refit=1)
    with caplog.at_level(logging.INFO, "fastrnn"):  # it is too short to hold out a part
        model = quick("ab" * 40)
    assert "training on all 80 characters; none are held out" in caplog.messages[0]
    assert model.network.flat.tobytes() == quick("ab" * 40, refit=False).network.flat.tobytes()


def test_the_progress_begins_anew(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr("fastrnn.training.progress.PROGRESS_SECONDS", 0)
    with caplog.at_level(logging.INFO, "fastrnn"):
        quick(progress=True)
    told = [message for message in caplog.messages if "% done, about" in message]
    refit = [message for message in told if "refit, update" in message]
    assert len(refit) > 1
    assert told[-1] == refit[-1]
    assert refit[-1].startswith("100 % done, about 0 s left: refit, update 80")


def test_metrics_have_the_evaluation_and_the_refit(tmp_path: Path):
    model = quick(callbacks=[fastrnn.callbacks.JsonLines(tmp_path / "metrics")])
    lines = (tmp_path / "metrics").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [{key: value for key, value in line.items() if key != "seconds"} for line in found] == list(
        model.history
    )
