"""Callbacks: what they are told, and what they can do."""

import math

import numpy as np
import pytest

import fastrnn

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40


def quick(**options) -> fastrnn.Model:
    options = {"steps": 50, "rng": 0, "progress": False, "log_every": 10, "hidden_size": 5} | options
    return fastrnn.train(TEXT, **options)


class Log(fastrnn.Callback):
    """Keeps all events."""

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self.events = []

    def before_training(self, training):
        self.events.append(("before training", training.updates))

    def after_updates(self, training, updates):
        self.events.append(("updates", updates))
        assert training.updates == updates.first + len(updates.losses)

    def before_record(self, training, record):
        record["double"] = 2 * record["loss"]

    def after_record(self, training, record):
        assert training.model.history[-1] == record
        self.events.append(("record", record))

    def after_training(self, training):
        self.events.append(("after training", training.updates))

    def of(self, kind: str) -> list:
        return [event for name, event in self.events if name == kind]


def test_a_callback_is_told_everything(backend: str):
    log = Log()
    model = quick(callbacks=[log], backend=backend)
    assert log.of("before training") == [0]
    assert log.of("after training") == [50]
    assert log.of("record") == [
        {key: value for key, value in record.items() if not key.startswith("held_out_")}
        for record in model.history
    ]
    updates = log.of("updates")
    assert [one.first for one in updates] == np.cumsum(
        [0, *(len(one.losses) for one in updates[:-1])]
    ).tolist()
    rates = np.concatenate([one.learning_rates for one in updates])
    norms = np.concatenate([one.norms for one in updates])
    assert len(rates) == len(norms) == 50
    assert rates.argmax() > 0
    assert rates[-1] < rates.max() / 10
    for record in model.history:
        assert record["double"] == 2 * record["loss"]
        assert record["gradient_norm"] == norms[record["step"]]


def test_callbacks_change_no_bit(compiled: str):
    expected = quick(backend=compiled)
    for every in (1, 7, 1000):
        log = Log(every)
        model = quick(callbacks=[log, Log()], backend=compiled)
        assert model.network.flat.tobytes() == expected.network.flat.tobytes()
        ends = {one.first + len(one.losses) for one in log.of("updates")}
        assert set(range(every, 51, every)) <= ends


@pytest.mark.parametrize("method", ["before_training", "after_updates", "after_record"])
def test_a_callback_can_end_training(method: str):
    class Stop(fastrnn.Callback):
        every = 1

    for answer in (True, np.True_):
        setattr(Stop, method, lambda *_, answer=answer: answer)
        log = Log()
        model = quick(callbacks=[Stop(), log])
        assert log.of("after training")[0] <= 1
        assert len(model.history) == log.of("after training")[0]


def test_only_true_ends_training():
    class Answers(fastrnn.Callback):
        def after_updates(self, training, updates):
            return 1

    assert quick(callbacks=[Answers()]).history[-1]["step"] == 49


def test_an_error_of_a_callback_is_raised():
    class Wrong(fastrnn.Callback):
        def after_record(self, training, record):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        quick(callbacks=[Wrong()])


def test_callbacks_are_told_of_an_error():
    class Wrong(fastrnn.Callback):
        def after_record(self, training, record):
            raise ZeroDivisionError("it is zero")

    class Told(Log):
        def after_error(self, training, error):
            self.events.append(("error", error))

    log = Told()
    with pytest.raises(ZeroDivisionError) as caught:
        quick(callbacks=[Wrong(), log])
    assert log.of("error") == [caught.value]
    assert log.of("after training") == []


@pytest.mark.parametrize("wrong", [[print], [fastrnn.Callback], ["log"], 5])
def test_what_is_no_callback_is_refused(wrong):
    with pytest.raises(TypeError):
        quick(callbacks=wrong)


@pytest.mark.parametrize("every", [0, -1, 1.5, "5"])
def test_a_pace_is_checked(every):
    with pytest.raises((TypeError, ValueError), match="every of a callback"):
        quick(callbacks=[Log(every)])


def test_patience_ends_training_when_it_gets_no_better(caplog: pytest.LogCaptureFixture):
    misleading = "abcabcabd" * 40 + "cbadcba" * 6
    settings = {"learning_rate": 0.05, "batch_size": 1, "validation": 0.1, "steps": 400, "rng": 0}
    settings |= {"progress": False, "log_every": 10, "hidden_size": 16}
    whole = fastrnn.train(misleading, **settings)
    losses = whole.history.columns()["validation_loss"]
    with caplog.at_level("INFO", "fastrnn"):
        model = fastrnn.train(misleading, patience=3, **settings)
    ended = next(i for i in range(3, len(losses)) if i - losses[: i + 1].argmin() == 3)
    assert len(model.history) == ended + 1 < len(whole.history)
    assert model.history == whole.history[: ended + 1]
    assert math.isclose(losses[: ended + 1].min(), model.history.columns()["validation_loss"].min())
    assert "the validation loss has not fallen for 3 records: training ends" in caplog.text


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "x"])
def test_patience_is_checked(wrong):
    with pytest.raises((TypeError, ValueError), match="patience"):
        quick(patience=wrong)


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90.0), ("1.5m", 90.0), ("2h", 7200.0), ("3", 3.0), (4, 4.0)]
)
def test_a_time_limit_may_have_a_unit(given, seconds):
    assert quick(steps=1, time_limit=given).settings["time_limit"] == seconds
    with pytest.raises(ValueError, match="is not a duration"):
        quick(time_limit="1 hour")
