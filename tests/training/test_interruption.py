"""Ctrl-C and SIGTERM while a training runs, in Python and on the command line."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.program import started

import fastrnn
from fastrnn.model.checkpoint_file import CheckpointFile

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40


@pytest.fixture(autouse=True)
def usual_handlers():
    """Python's own handlers. A program that a shell runs in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def quick(**options) -> fastrnn.Model:
    options = {"steps": 60, "rng": 0, "progress": False, "log_every": 8, "hidden_size": 7} | options
    return fastrnn.train(TEXT, **options)


class Signal(fastrnn.Callback):
    """Sends signals to this process after an update."""

    every = 1

    def __init__(self, *numbers: int, update: int = 20) -> None:
        self._numbers, self._update = numbers, update

    def after_updates(self, training, updates):
        if training.updates == self._update:
            for number in self._numbers:
                os.kill(os.getpid(), number)


def interrupted_at_the_third(real):
    """A function that Ctrl-C interrupts in its third call."""
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return real(*arguments)

    return interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_after_the_update(number: int, backend: str, tmp_path: Path):
    path = tmp_path / "run"
    expected = quick(backend=backend).to_bytes()
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="interrupted after 20 updates") as caught:
        quick(backend=backend, checkpoint=path, callbacks=[Signal(number)])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert isinstance(caught.value, fastrnn.TrainingInterrupted)
    assert (caught.value.signal, caught.value.updates) == (number, 20)
    assert CheckpointFile.read(path).arrays["trainer.updates"] == 20
    assert fastrnn.load(path).history[-1]["step"] == 16  # the last record of before
    assert caught.value.model.history[-1]["step"] == 19
    assert quick(backend=backend, checkpoint=path, resume=True).to_bytes() == expected


def test_a_second_ctrl_c_is_immediate(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt) as caught:
        quick(checkpoint=tmp_path / "run", callbacks=[Signal(signal.SIGINT, signal.SIGINT)])
    assert isinstance(caught.value, fastrnn.TrainingInterrupted)
    assert not (tmp_path / "run").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_checkpoint_the_error_has_the_model(number: int, compiled: str):
    with pytest.raises(fastrnn.TrainingInterrupted) as caught:
        quick(backend=compiled, callbacks=[Signal(number)])
    assert (caught.value.signal, caught.value.updates, caught.value.checkpoint) == (number, 20, None)
    assert caught.value.model.history[-1]["step"] == 19
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


HANGING = """
import ctypes, os, signal, sys, threading, fastrnn

def hang(descriptor):
    # a call that no signal ends, as that of a disk that hangs: a mutex that its owner locks again
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)

class Interrupt(fastrnn.Callback):
    every = 1

    def after_updates(self, training, updates):
        if training.updates == 20:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
os.fsync = hang
try:
    options = {"steps": 60, "hidden_size": 7, "checkpoint": sys.argv[1], "backend": "numpy"}
    fastrnn.train("the cat sat. " * 40, callbacks=[Interrupt()], **options)
except fastrnn.TrainingInterrupted as error:
    print(error, error.checkpoint)
"""


def test_a_second_ctrl_c_ends_a_write_that_hangs(tmp_path: Path):
    command = [sys.executable, "-c", HANGING, tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "interrupted after 20 updates None\n"
    assert not (tmp_path / "run").exists()


def test_ctrl_c_in_a_validation_makes_its_record_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The record of update 16 is made when training is resumed."""
    from fastrnn.inference import scoring

    options = {"validation": 0.2, "checkpoint": tmp_path / "run"}
    expected = quick(validation=0.2).to_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "mean_loss", interrupted_at_the_third(scoring.mean_loss))
        with pytest.raises(fastrnn.TrainingInterrupted):
            quick(**options)
    arrays = CheckpointFile.read(tmp_path / "run").arrays
    assert (arrays["trainer.updates"], len(arrays["history.step"])) == (17, 2)
    assert quick(resume=True, **options).to_bytes() == expected


def test_ctrl_c_aborts_a_window_that_lasts(compiled: str, tmp_path: Path):
    """The state is that of before the window, which is read again when training is resumed."""
    text = "the cat sat on the mat. " * 4000
    options = {"backend": compiled, "cell": "lstm", "hidden_size": 64, "seq_length": 48_000, "batch_size": 1}
    options |= {
        "steps": 4,
        "rng": 0,
        "progress": False,
        "preset": "char-rnn",
        "epochs": None,
        "validation": 0,
    }
    options |= {"num_layers": 1}
    expected = fastrnn.train(text, **options).to_bytes()
    saved = {"checkpoint": tmp_path / "run", "checkpoint_every": 1}

    class Later(fastrnn.Callback):
        def after_updates(self, training, updates):
            if training.updates == 2:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(fastrnn.TrainingInterrupted) as caught:
        fastrnn.train(text, **options, **saved, callbacks=[Later()])
    assert caught.value.updates == 2
    assert CheckpointFile.read(tmp_path / "run").arrays["trainer.updates"] == 2
    assert fastrnn.train(text, **options, **saved, resume=True).to_bytes() == expected


def test_a_signal_at_the_very_end_is_not_lost(tmp_path: Path):
    class AtTheEnd(fastrnn.Callback):
        def after_training(self, training):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(fastrnn.TrainingInterrupted) as caught:
        quick(checkpoint=tmp_path / "run", callbacks=[AtTheEnd()])
    assert caught.value.model.to_bytes() == quick().to_bytes() == fastrnn.load(tmp_path / "run").to_bytes()
    assert caught.value.checkpoint == caught.value.updates == 60


def test_ctrl_c_before_the_first_update_ends_what_callbacks_began(tmp_path: Path):
    """A run of a logger, for example, is closed. There is nothing to save yet."""
    events = []

    class Told(fastrnn.Callback):
        def before_training(self, training):
            events.append("before_training")
            os.kill(os.getpid(), signal.SIGINT)

        def after_interruption(self, training, is_between_updates):
            events.append(f"after_interruption {is_between_updates}")

        def after_training(self, training):
            events.append("after_training")

    with pytest.raises(fastrnn.TrainingInterrupted) as caught:
        quick(checkpoint=tmp_path / "run", callbacks=[Told()])
    assert events == ["before_training", "after_interruption False", "after_training"]
    assert caught.value.updates == 0
    assert caught.value.checkpoint is None
    assert not (tmp_path / "run").exists()


def test_a_divergence_of_the_last_record_hides_no_ctrl_c(monkeypatch: pytest.MonkeyPatch):
    from fastrnn.inference import scoring

    real, updates = scoring.mean_loss, []
    monkeypatch.setattr(scoring, "mean_loss", lambda *window: float("nan") if updates else real(*window))

    class Later(fastrnn.Callback):
        every = 1

        def after_updates(self, training, some):
            if training.updates == 20:
                updates.append(1)
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(fastrnn.TrainingInterrupted):
        quick(validation=0.2, callbacks=[Later()])


def test_callbacks_know_of_all_updates_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also if Ctrl-C came in a validation."""
    from fastrnn.inference import scoring

    class Counts(fastrnn.Callback):
        updates = 0

        def after_updates(self, training, updates):
            self.updates += len(updates.losses)

        def snapshot(self):
            return {"updates": self.updates}

        def restore(self, arrays):
            self.updates = int(arrays["updates"])

    saved = {"validation": 0.2, "checkpoint": tmp_path / "run"}
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "mean_loss", interrupted_at_the_third(scoring.mean_loss))
        with pytest.raises(fastrnn.TrainingInterrupted):
            quick(callbacks=[Counts()], **saved)
    counts = Counts()
    quick(callbacks=[counts], resume=True, **saved)
    assert counts.updates == 60


def test_a_handler_of_the_user_is_left_alone(tmp_path: Path):
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    try:
        model = quick(checkpoint=tmp_path / "run", callbacks=[Signal(signal.SIGINT)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == [1]
    assert model.history[-1]["step"] == 59


def test_another_thread_trains_without_signals(tmp_path: Path):
    found = []
    thread = threading.Thread(target=lambda: found.append(quick(checkpoint=tmp_path / "run")))
    thread.start()
    thread.join()
    assert found[0].to_bytes() == quick().to_bytes()


def test_a_keyboard_interrupt_of_unknown_origin_writes_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It may come between an update and what callbacks are told of it."""
    real = fastrnn.Trainer.advance

    def advance(self, *arguments):
        found = real(self, *arguments)
        if self.updates > 20:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(fastrnn.Trainer, "advance", advance)
    with pytest.raises(fastrnn.TrainingInterrupted):
        quick(checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- The command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_how_to_go_on(number: int, status: int, tmp_path: Path):
    text, out, run = tmp_path / "text", tmp_path / "model", tmp_path / "run"
    text.write_text(TEXT * 20, encoding="utf-8")
    command = [sys.executable, "-m", "fastrnn", "train", str(text), "-o", str(out), "--seed", "1"]
    command += ["--steps", "400", "--log-every", "20", "--hidden-size", "24"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    expected = out.read_bytes()
    out.unlink()
    command += ["--checkpoint", str(run), "--checkpoint-every", "30"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not run.exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"updates; to go on: the same command with --resume, and {run}" in said
    assert not out.exists()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "exists: resume=True (--resume) goes on with it" in again.stderr
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True)
    assert f"going on with {run} from update" in done.stderr
    assert out.read_bytes() == expected


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_a_window_of_many_symbols_ends_soon_after_ctrl_c(compiled: str, threads: int):
    """It ends in a small part of the time that it takes; either all weights are updated or none is."""
    network = fastrnn.Network(50_000, 128, cell="gru", backend=compiled, threads=threads, rng=0)
    trainer = fastrnn.Trainer(network, learning_rate=1e-4)
    window = np.random.default_rng(0).integers(0, 50_000, (2, 64, 32))
    trainer.step(*window[:, :1])  # compiles
    assert network.lasts(64, 32)

    def update() -> float:
        trainer.reset_state()
        began = time.perf_counter()
        trainer.step(*window)
        return time.perf_counter() - began

    whole, came, waits = update(), [0.0], []

    def interrupt(*_: object) -> None:
        came.append(time.perf_counter())
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    for moment in np.linspace(0.03, 0.9, 10):
        weights, updates = network.flat.copy(), trainer.updates
        signal.setitimer(signal.ITIMER_REAL, whole * moment)
        try:
            took = update()
            signal.setitimer(signal.ITIMER_REAL, 0)
            whole = min(whole, took)  # the machine was busier before
        except KeyboardInterrupt:
            waits.append(time.perf_counter() - came[-1])
        assert (network.flat == weights).all() == (trainer.updates == updates)
    signal.signal(signal.SIGALRM, before)
    assert len(waits) > 5
    assert max(waits) < whole / 4


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_saves_the_model_so_far(number: int, status: int, tmp_path: Path):
    text, out, metrics = tmp_path / "text", tmp_path / "model", tmp_path / "metrics"
    text.write_text(TEXT * 20, encoding="utf-8")
    command = ["train", text, "-o", out, "--steps", 10**6, "--hidden-size", 24, "--log-every", 20]
    with started(*command, "--metrics", metrics) as process:
        while not metrics.exists() or not metrics.read_text(encoding="utf-8"):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"updates; the model so far is in {out}" in said.decode()
    assert fastrnn.load(out).history
