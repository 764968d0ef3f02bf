"""How fast `fastrnn score` scores a pipe of log lines: ``python -m benchmarks.pipes``, about a minute.

The lines of FASTRNN_DATA's HDFS_2k.log, many times over, go through a pipe into the program, whose output
goes through another pipe. The time is that of the whole program, with its start. Beside it is
`Model.score_many` in this process, on the same lines, and the time from writing a line into the pipe to
reading its score. The model is an RNN of 128 units in float32. Its weights are drawn at random, because the
time does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

import fastrnn
from fastrnn.data.vocabulary import Vocabulary

#: The options of the program that are measured.
FORMS = [["--lines"], ["--lines", "--json"], ["--lines", "--json", "--per-symbol"], ["--carry"]]

#: How many lines are sent one by one.
LINES_ONE_BY_ONE = 1000


def saved_model(folder: Path, text: str) -> Path:
    """The file of a model that knows the characters of a text."""
    vocabulary = Vocabulary.of([text], unit="character", boundary=True)
    network = fastrnn.Network(vocabulary.size, 128, dtype="float32", rng=0)
    place = folder / "model"
    fastrnn.Model(network, vocabulary, np.ones(vocabulary.size, np.int64)).save(place)
    return place


def program(model: Path, options: list[str], threads: int) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "fastrnn", "score", str(model), *options, "--threads", str(threads)]


def measured(run: Callable[[], object]) -> NDArray[np.float64]:
    """The seconds of a call by the clock and of processor time, with those of programs that it runs (2)."""
    began, before = time.perf_counter(), os.times()
    run()
    after = os.times()
    return np.array([time.perf_counter() - began, sum(after[:4]) - sum(before[:4])])


def latency(command: list[str], lines: list[bytes]) -> float:
    """The median seconds from writing a line to reading its score."""
    times = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in lines:
            began = time.perf_counter()
            process.stdin.write(line + b"\n")
            while not process.stdout.read(1 << 16).endswith(b"\n"):
                pass
            times.append(time.perf_counter() - began)
        process.stdin.close()
    return median(times)


def main() -> None:
    """Measure every form, with one thread or more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--copies", type=int, default=20, help="how often the file goes through the pipe")
    parser.add_argument("--rounds", type=int, default=3, help="the shortest time of so many counts")
    options = parser.parse_args()
    text = (Path(os.environ["FASTRNN_DATA"]) / "HDFS_2k.log").read_text()
    lines = text.splitlines() * options.copies
    content = ("\n".join(lines) + "\n").encode()
    with tempfile.TemporaryDirectory() as folder:
        place = saved_model(Path(folder), text)
        model = fastrnn.load(place, threads=options.threads)
        commands = {" ".join(form): program(place, form, options.threads) for form in FORMS}
        runs: dict[str, Callable[[], object]] = {"score_many": partial(model.score_many, lines, end=True)}
        for name, command in commands.items():
            runs[name] = partial(subprocess.run, command, input=content, stdout=subprocess.PIPE, check=True)
        times = [[measured(run) for run in runs.values()] for _ in range(options.rounds)]
        print(f"{len(lines):,} lines, {len(content):,} symbols, {options.threads} thread(s)")
        print("k symbols a second by the clock, and a second of processor time")
        for name, taken in zip(runs, np.min(times, axis=0), strict=True):
            clock, processor = len(content) / taken / 1e3
            print(f"{name:32} {clock:6.0f} {processor:6.0f}")
        one = latency(commands["--lines"], content.splitlines()[:LINES_ONE_BY_ONE])
        print(f"{'from a line to its score':32} {1e3 * one:6.2f} ms")


if __name__ == "__main__":
    main()
