"""Kill trainings and fail their writes, resume them, and compare the models with those of undisturbed runs.

``python tests/tools/faults.py --kills 200 --failures 200``. A training is started as a user starts it and
killed with SIGKILL at a random moment, again and again, each time on another backend and with another number
of threads. Between two processes the checkpoint must be loadable, from the first one on. In the end the model
file must have the bytes of that of a training that was never killed. For ``--failures``, the writes of
checkpoints fail with ENOSPC and EIO at random places of them.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fastrnn
from fastrnn.core import atomic

#: Trainings with different states, as options of the command line; each takes some seconds.
RUNS = {
    "gru": ["--steps", "1500"],
    "lstm, averaged": ["--cell", "lstm", "--num-layers", "2", "--averaging", "0.99"],
    "gru, dropout, tokens of lines": ["--cell", "gru", "--dropout", "0.2", "--num-layers", "2", "--lines"],
    "plateau, all is trained on": ["--schedule", "plateau", "--validation", "0", "--optimizer", "rmsprop"],
    "refit": ["--refit", "--steps", "600", "--split", "every", "--lines"],
    "char-rnn": ["--preset", "char-rnn", "--epochs", "4"],
    "too high a learning rate": ["--learning-rate", "0.8", "--steps", "800", "--batch-size", "8"],
}

#: The text, and the seconds that a process lives; it takes half a second to begin to train.
SENTENCES = "The {} {} of the {} {} was {} in the {} year, and no {} could say why the {} {} it.\n"
WORDS = ("old", "man", "river", "green", "seen", "third", "king", "child", "knew", "slow", "ship", "lost")
LIVES = 0.5, 2.0


def text() -> str:
    """A text of 200,000 characters that is the same everywhere."""
    rng = random.Random(0)
    return "".join(SENTENCES.format(*(rng.choice(WORDS) for _ in range(9))) for _ in range(2400))


def command(folder: Path, options: list[str], *more: str) -> list[str]:
    program = [sys.executable, "-m", "fastrnn", "train", str(folder / "text"), "--seed", "3", "--quiet"]
    return [*program, "--log-every", "25", "--hidden-size", "48", *options, *more]


def expected(folder: Path, options: list[str]) -> bytes:
    """The model of a training that nothing disturbs."""
    subprocess.run(command(folder, options, "-o", str(folder / "whole")), check=True)
    return (folder / "whole").read_bytes()


def kill(folder: Path, name: str, rng: random.Random) -> int:
    """Kill a training until it ends by itself; return how often it was killed."""
    wanted = expected(folder, RUNS[name])
    checkpoint, model = folder / "checkpoint", folder / "model"
    saved = ["-o", str(model), "--checkpoint", str(checkpoint), "--checkpoint-every", "10", "--resume"]
    kills = exists = 0
    while True:
        how = ["--backend", rng.choice(["c", "numba"]), "--threads", rng.choice("12")]
        process = subprocess.Popen(command(folder, RUNS[name], *saved, *how))
        try:
            status = process.wait(rng.uniform(*LIVES))
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
            kills += 1
        exists = exists or checkpoint.exists()
        if exists:
            fastrnn.load(checkpoint)
        if status == 0:
            break
        assert status == -signal.SIGKILL, f"{name}: exit status {status}"
    assert model.read_bytes() == wanted, f"{name}: after {kills} kills the model is another one"
    checkpoint.unlink()
    return kills


class Faults:
    """Takes the place of the module ``os`` where files are written: calls fail at random, and are counted."""

    def __init__(self, rng: random.Random, rate: float) -> None:
        self._rng, self._rate, self.count = rng, rate, 0

    def _may_fail(self, what: str) -> None:
        if self._rng.random() < self._rate:
            self.count += 1
            raise OSError(self._rng.choice([errno.ENOSPC, errno.EIO]), "injected", what)

    def __getattr__(self, name: str):
        return getattr(os, name)

    def open(self, *arguments):
        self._may_fail("open")
        return os.open(*arguments)

    def fsync(self, descriptor: int) -> None:
        self._may_fail("fsync")
        os.fsync(descriptor)

    def fdopen(self, *arguments):
        file = os.fdopen(*arguments)
        real = file.write

        def write(data: bytes) -> int:
            real(data[: self._rng.randrange(len(data))])
            self._may_fail("write")
            file.seek(0)
            return real(data)

        return Written(file, write)


class Written:
    """A file whose writes may fail within the data."""

    def __init__(self, file, write) -> None:
        self._file, self.write = file, write
        self.flush = file.flush

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()


def fail(rng: random.Random, folder: Path) -> int:
    """Train while writes fail; the checkpoint must stay loadable. Return the number of failures."""
    settings = {"rng": 3, "progress": False, "log_every": 25, "steps": 400, "hidden_size": 32}
    wanted = fastrnn.train(text(), **settings).to_bytes()
    checkpoint, seen = folder / "checkpoint", [0]

    class Loaded(fastrnn.Callback):
        every = 5

        def after_updates(self, *_event):
            if checkpoint.exists():
                seen[0] = max(seen[0], fastrnn.load(checkpoint).history[-1]["step"])

    atomic.os = faults = Faults(rng, rate=0.2)
    saved = {"checkpoint": checkpoint, "checkpoint_every": 5, "callbacks": [Loaded()]}
    try:
        model = fastrnn.train(text(), **settings, **saved)
    finally:
        atomic.os = os
    assert model.to_bytes() == wanted, "the model is another one"
    assert seen[0] > 0 and faults.count > 0, "nothing was written, or nothing failed"
    resumed = fastrnn.train(text(), **settings, **saved, resume=True)
    assert resumed.to_bytes() == wanted, "the resumed model is another one"
    checkpoint.unlink()
    return faults.count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--failures", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").write_text(text(), encoding="utf-8")
        kills = failures = turn = 0
        names = list(RUNS)
        while kills < options.kills:
            which = names[turn % len(names)]
            began = time.monotonic()
            more = kill(folder, which, rng)
            kills, turn = kills + more, turn + 1
            print(
                f"{which}: {more} kills in {time.monotonic() - began:.0f} s, and the same bytes", flush=True
            )
        while failures < options.failures:
            failures += fail(rng, folder)
        print(f"{kills} kills and {failures} failed writes: all models are those of undisturbed trainings")


if __name__ == "__main__":
    main()
