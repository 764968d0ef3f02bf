"""The callbacks that fastrnn has: JSON lines and samples."""

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest

import fastrnn

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40


def quick(**options) -> fastrnn.Model:
    options = {"steps": 50, "rng": 0, "progress": False, "log_every": 10, "hidden_size": 5} | options
    return fastrnn.train(TEXT, **options)


def records(path: Path) -> list[dict]:
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all(record.pop("seconds") >= 0 for record in found)
    return found


def test_each_record_is_a_line(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("what another training wrote\n")
    model = quick(callbacks=[fastrnn.callbacks.JsonLines(path)])
    assert records(path) == list(model.history)
    rates = [record["learning_rate"] for record in model.history]
    assert max(rates) <= model.settings["learning_rate"]
    assert rates[-1] < rates[2]


def test_a_resumed_training_goes_on_with_its_lines(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"

    class Stop(fastrnn.Callback):
        every = 1

        def after_updates(self, training, updates):
            if training.updates == 33:
                raise ZeroDivisionError

    saved = {"checkpoint": tmp_path / "run", "checkpoint_every": 15}
    with pytest.raises(ZeroDivisionError):
        quick(callbacks=[fastrnn.callbacks.JsonLines(path), Stop()], **saved)
    with path.open("a") as file:
        file.write('{"step": 40, "lo')  # torn
    model = quick(callbacks=[fastrnn.callbacks.JsonLines(path)], resume=True, **saved)
    assert records(path) == list(model.history)


def test_the_lines_are_those_of_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also if training went back after a divergence, and if a callback's value is a number of NumPy's."""
    real, failed = fastrnn.Trainer.advance, []

    def advance(self, *arguments):
        if self.updates >= 31 and not failed:
            failed.append(1)
            raise fastrnn.DivergenceError("the loss is nan")
        return real(self, *arguments)

    class Adds(fastrnn.Callback):
        def before_record(self, training, record):
            record["largest"] = np.abs(training.model.network.flat).max()

    monkeypatch.setattr(fastrnn.Trainer, "advance", advance)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\xff\xfe")
    model = quick(callbacks=[Adds(), fastrnn.callbacks.JsonLines(path)], learning_rate=1e-6)
    assert failed
    assert records(path) == list(model.history)
    assert [record["step"] for record in model.history] == [0, 10, 20, 30, 40, 49]


def test_a_file_that_cannot_be_written_does_not_end_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, "fastrnn"):
        model = quick(callbacks=[fastrnn.callbacks.JsonLines(tmp_path / "no" / "folder")])
    assert len(model.history) == 6
    assert caplog.text.count("cannot be written") == 1


def test_samples_are_written_and_change_nothing():
    file = io.StringIO()
    samples = fastrnn.callbacks.Samples(20, 30, prime="the ", temperature=0.5, file=file)
    model = quick(callbacks=[samples])
    lines = file.getvalue().splitlines()
    assert [line[:11] for line in lines] == ["update 20: ", "update 40: "]
    assert all(len(line) >= 40 for line in lines)
    assert model.to_bytes() == quick().to_bytes()


def test_a_wrong_sample_is_an_error_before_training():
    with pytest.raises(ValueError, match="Z"):
        quick(callbacks=[fastrnn.callbacks.Samples(20, prime="Z")])


@pytest.mark.parametrize("wrong", [(0, 5), (1.5, 5), (5, 0), ("5", 5)])
def test_samples_are_checked(wrong: tuple):
    with pytest.raises((TypeError, ValueError)):
        fastrnn.callbacks.Samples(*wrong)
