"""Checkpoints: what they hold, when they are written, and that training goes on as if it had not ended."""

import errno
import itertools
import json
import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import require_backend

import fastrnn
from fastrnn.core import atomic
from fastrnn.model.checkpoint_file import CheckpointFile

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40

#: Trainings whose state is not the same: each has something that the others have not.
KINDS = {
    "rnn": {},
    "lstm": {"cell": "lstm", "num_layers": 2, "averaging": 0.9, "dtype": "float64"},
    "gru": {"cell": "gru", "dropout": 0.3, "num_layers": 2, "embedding_size": 3, "optimizer": "rmsprop"},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.5, "schedule": "plateau", "validation": 0},
    "adagrad": {"optimizer": "adagrad", "activation": "relu", "split": "rows", "schedule": "step"},
    "min-char-rnn": {"preset": "min-char-rnn", "log_every": 7},
    "char-rnn": {"preset": "char-rnn", "steps": None, "epochs": 6, "batch_size": 4, "seq_length": 10},
    "unknown": {"min_count": 41, "unknown_share": 0.1, "normalization": "nfc_casefold"},
    "last": {"keep": "last", "schedule": "cosine", "clip_value": 0.1, "reduction": "sum"},
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


def quick(text=TEXT, **options) -> fastrnn.Model:
    options = {"steps": 60, "rng": 0, "progress": False, "log_every": 8, "hidden_size": 7} | options
    return fastrnn.train(text, **options)


def killed(update: int, **options) -> None:
    with pytest.raises(KilledError):
        quick(callbacks=[Killer(update)], **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_gives_the_same_model(kind: str, tmp_path: Path):
    """Each part of it runs on another backend and with another number of threads."""
    require_backend("c"), require_backend("numba")
    options = KINDS[kind]
    expected = quick(backend="c", threads=1, **options).to_bytes()
    options = {**options, "checkpoint": tmp_path / "run", "checkpoint_every": 5, "resume": True}
    for update, backend, threads in [(3, "c", 1), (11, "numba", 2), (12, "c", 2), (29, "numba", 1)]:
        killed(update, backend=backend, threads=threads, **options)
        exists = (tmp_path / "run").exists()
        assert exists == (update > 3)
        if exists:
            model = fastrnn.load(tmp_path / "run")
            assert model.settings["hidden_size"] == 7
    resumed = quick(backend="numba", threads=2, **options)
    assert resumed.to_bytes() == expected
    assert fastrnn.load(tmp_path / "run").to_bytes() == expected
    again = quick(backend="c", **options)
    assert again.to_bytes() == expected


def test_numpy_resumes_too(tmp_path: Path):
    options = {"backend": "numpy", "checkpoint": tmp_path / "run", "checkpoint_every": 10}
    expected = quick(backend="numpy").to_bytes()
    killed(25, **options)
    assert quick(resume=True, **options).to_bytes() == expected


@pytest.mark.parametrize(
    "text",
    [["first", "second one", "third"] * 20, b"\0\1bytes\xff" * 60, np.arange(900) % 7],
    ids=["documents", "bytes", "tokens"],
)
def test_any_text_resumes(text, tmp_path: Path):
    options = {"vocabulary": 7} if isinstance(text, np.ndarray) else {}
    expected = quick(text, **options).to_bytes()
    options |= {"checkpoint": tmp_path / "run", "checkpoint_every": 10}
    killed(25, text=text, **options)
    assert quick(text, resume=True, **options).to_bytes() == expected


@pytest.mark.parametrize(
    "kind",
    [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM],
)
def test_the_generator_goes_on_where_it_was(kind: type, tmp_path: Path):
    """A checkpoint has the state with which training began, so what is drawn after it is the same too."""
    first, second = (np.random.Generator(kind(5)) for _ in range(2))
    options = {"checkpoint": tmp_path / "run", "checkpoint_every": 10, "text": ["one", "two", "six"] * 20}
    killed(25, rng=first, **options)
    model = quick(resume=True, **{**options, "rng": second})
    assert model.to_bytes() == quick(["one", "two", "six"] * 20, rng=np.random.Generator(kind(5))).to_bytes()
    assert first.random() == second.random()


def test_without_a_seed_the_checkpoint_has_the_draws(tmp_path: Path):
    options = {"checkpoint": tmp_path / "run", "checkpoint_every": 10, "rng": None}
    killed(25, **options)
    before = CheckpointFile.read(tmp_path / "run")
    model = quick(resume=True, **options)
    assert model.history[0] == fastrnn.Model.from_bytes(before.model).history[0]
    (tmp_path / "run").unlink()
    other = np.random.RandomState(8)
    killed(25, **{**options, "rng": other})
    quick(resume=True, **{**options, "rng": np.random.RandomState(8)})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 8}, "made with hidden_size=7, and this training has hidden_size=8"),
        ({"learning_rate": 0.1}, "made with learning_rate=0.008, and this training has learning_rate=0.1"),
        ({"steps": 61}, "made with steps=60"),
        ({"optimizer": "sgd"}, "made with optimizer="),
        ({"text": TEXT[:-1] + "!"}, "made with another vocabulary"),
        ({"newlines": "keep"}, "made with another newlines or normalization"),
        ({"normalization": "nfc"}, "made with another newlines or normalization"),
        ({"min_count": 1}, "made with min_count=None, and this training has min_count=1"),
        ({"text": TEXT[1:] + TEXT[:1]}, "made with another text"),
        ({"rng": 1}, "made with another rng"),
        ({"rng": np.random.Generator(np.random.Philox(0))}, "made with another rng"),
    ],
)
def test_another_training_is_refused(changed: dict, message: str, tmp_path: Path):
    options = {"checkpoint": tmp_path / "run", "checkpoint_every": 10, "hidden_size": 7}
    killed(25, **options)
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(fastrnn.CheckpointError, match=message):
        quick(resume=True, **{**options, **changed})
    assert (tmp_path / "run").read_bytes() == before


def test_a_checkpoint_is_not_overwritten(tmp_path: Path):
    killed(25, checkpoint=tmp_path / "run", checkpoint_every=10)
    with pytest.raises(FileExistsError, match=r"run exists: resume=True \(--resume\) goes on with it"):
        quick(checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="resume=True needs a checkpoint"):
        quick(resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path):
    path = tmp_path / "run"
    killed(25, checkpoint=path, checkpoint_every=10)
    good = path.read_bytes()
    model = quick().to_bytes()
    for wrong in (b"", good[:-1], good + b"\0", good[: len(good) // 2], b"text" * 99, model):
        path.write_bytes(wrong)
        with pytest.raises(fastrnn.CheckpointError, match="run cannot be resumed"):
            quick(checkpoint=path, resume=True)
    rng = np.random.default_rng(0)
    for place in [*range(0, 200, 7), *rng.integers(0, len(good), 60).tolist()]:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(fastrnn.CheckpointError):
            quick(checkpoint=path, resume=True)
        with pytest.raises(fastrnn.CheckpointError):
            fastrnn.load(path)


def test_safetensors_reads_a_checkpoint(tmp_path: Path):
    safetensors = pytest.importorskip("safetensors.numpy")
    killed(25, checkpoint=tmp_path / "run", checkpoint_every=10)
    tensors = safetensors.load_file(tmp_path / "run")
    assert int(tensors["trainer.updates"]) in {10, 20}  # one that is due while another is written is left out
    assert tensors["trainer.parameters"].shape == fastrnn.load(tmp_path / "run").network.flat.shape


def test_the_best_weights_are_in_a_checkpoint(tmp_path: Path):
    misleading = "abcabcabd" * 40 + "cbadcba" * 6
    options = {"learning_rate": 0.05, "batch_size": 1, "validation": 0.1, "steps": 200}
    killed(190, text=misleading, checkpoint=tmp_path / "run", checkpoint_every=10, **options)
    model = fastrnn.load(tmp_path / "run")
    assert model.network.flat.tobytes() == quick(misleading, **options).network.flat.tobytes()
    assert model.history[-1]["step"] < 200


def test_checkpoints_come_at_their_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written = []
    real = CheckpointFile.to_bytes

    def to_bytes(self):
        written.append(int(self.arrays["trainer.updates"]))
        return real(self)

    monkeypatch.setattr(CheckpointFile, "to_bytes", to_bytes)

    class AtOnce(threading.Thread):
        start = threading.Thread.run

        def join(self, timeout=None):
            pass

    monkeypatch.setattr("fastrnn.training.checkpoints.Thread", AtOnce)
    quick(checkpoint=tmp_path / "run", checkpoint_every=25)
    assert written == [25, 50, 60]
    written.clear()
    clock = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("fastrnn.training.pace.CALL_SECONDS", 0)
    quick(checkpoint=tmp_path / "timed", checkpoint_every="10s")
    assert 4 <= len(written) <= 8
    for wrong in (0, -1, 1.5, "", "m", "5x", "5 m m", None, "0s", "0", True):
        with pytest.raises((TypeError, ValueError), match="checkpoint_every"):
            quick(checkpoint=tmp_path / "wrong", checkpoint_every=wrong)


# ---- Disks that fail ---------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["open", "fsync", "fdopen"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_training_goes_on_when_a_checkpoint_cannot_be_written(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "run"
    expected = quick().to_bytes()
    real, calls = getattr(atomic.os, call), []

    def failing(*arguments, **options):
        if threading.current_thread() is not threading.main_thread() or training_is_at_its_end():
            calls.append(1)
            if len(calls) > 1:
                raise OSError(number, "the disk fails")
        return real(*arguments, **options)

    def training_is_at_its_end() -> bool:
        return bool(calls)

    monkeypatch.setattr(atomic.os, call, failing)
    with caplog.at_level(logging.WARNING, "fastrnn"):
        model = quick(checkpoint=path, checkpoint_every=10, callbacks=[Slow()])
    assert model.to_bytes() == expected
    assert "could not be written" in caplog.text
    assert "the disk fails" in caplog.text
    assert "the one of update 10 stays; training goes on" in caplog.text
    monkeypatch.undo()
    assert CheckpointFile.read(path).arrays["trainer.updates"] == 10
    assert [one.name for one in tmp_path.iterdir()] == ["run"]
    assert quick(checkpoint=path, resume=True).to_bytes() == expected


class Slow(fastrnn.Callback):
    """Waits until the threads that write have ended."""

    every = 10

    def after_updates(self, training, updates):
        for thread in threading.enumerate():
            if thread.name == "fastrnn checkpoint":
                thread.join()


def test_a_checkpoint_needs_a_place(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="folder"):
        quick(checkpoint=tmp_path / "no" / "run")
    with pytest.raises(IsADirectoryError):
        quick(checkpoint=tmp_path, resume=False)


def test_no_checkpoint_has_weights_that_are_not_finite(tmp_path: Path):
    settings = {"optimizer": "sgd", "learning_rate": 1e38, "clip_norm": None, "schedule": "constant"}
    with pytest.raises(fastrnn.DivergenceError):
        quick(checkpoint=tmp_path / "run", checkpoint_every=1, retries=2, **settings)
    arrays = CheckpointFile.read(tmp_path / "run").arrays
    assert np.isfinite(arrays["trainer.parameters"]).all()


def test_a_time_limit_counts_what_was_before(tmp_path: Path):
    options = {"steps": None, "time_limit": "2s", "checkpoint": tmp_path / "run", "checkpoint_every": "1s"}

    class Until(fastrnn.Callback):
        def after_updates(self, training, updates):
            if training.seconds > 1.7:
                raise KilledError

    with pytest.raises(KilledError):
        quick(callbacks=[Until()], **options)
    before = float(CheckpointFile.read(tmp_path / "run").arrays["seconds"])
    assert 1 <= before < 1.7
    began = time.monotonic()
    assert quick(resume=True, **options).history
    assert time.monotonic() - began < 2 - before + 0.5
    assert CheckpointFile.read(tmp_path / "run").arrays["seconds"] >= 2


def test_a_model_that_no_file_can_hold_does_not_end_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The key of a record is longer than a header may be."""

    class Adds(fastrnn.Callback):
        def before_record(self, training, record):
            record["x" * (1 << 20)] = 1.0

    with caplog.at_level(logging.WARNING, "fastrnn"):
        model = quick(checkpoint=tmp_path / "run", callbacks=[Adds()])
    assert model.history[-1]["step"] == 59
    assert "a checkpoint could not be written" in caplog.text
    assert not (tmp_path / "run").exists()


def test_what_a_callback_keeps_is_copied(tmp_path: Path):
    """It may change while a checkpoint is written; what no file can hold is an error."""

    class Counts(fastrnn.Callback):
        every = 1

        def __init__(self):
            self.counts = np.zeros(100_000)

        def after_updates(self, training, updates):
            self.counts += 1

        def snapshot(self):
            return {"counts": self.counts, "place": 1.5}

        def restore(self, arrays):
            self.counts = arrays["counts"].copy()
            assert arrays["place"] == 1.5

    counts = Counts()
    saved = {"checkpoint": tmp_path / "run", "checkpoint_every": 1}
    quick(callbacks=[counts], **saved)
    assert CheckpointFile.read(tmp_path / "run").arrays["Counts.0.counts"][0] == 60
    again = Counts()
    quick(callbacks=[again], resume=True, **saved)
    assert again.counts[0] == 60

    class Wrong(fastrnn.Callback):
        def snapshot(self):
            return {"name": "text"}

    with pytest.raises(TypeError, match="Wrong.0.name has dtype"):
        quick(callbacks=[Wrong()], checkpoint=tmp_path / "wrong", checkpoint_every=1)


def test_what_was_trained_is_in_the_file(tmp_path: Path):
    killed(25, checkpoint=tmp_path / "run", checkpoint_every=10)
    about = CheckpointFile.read(tmp_path / "run").about
    assert about["fastrnn"] == fastrnn.__version__
    assert about["settings"]["hidden_size"] == 7
    assert len(about["text"]) == 64
    json.dumps(about)
