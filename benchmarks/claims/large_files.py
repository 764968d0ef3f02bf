"""Memory and time of a training on a file of 1 GB and on ten million lines: ``make claim-large-files``.

It takes 3 minutes and writes 1.1 GB to the folder for temporary files. The files have lines of all texts in
FASTRNN_DATA in a random order. Each training runs in its own process; its peak is that of its resident
memory, without the cache of files. The first window counts as done when its record is written.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

GIGABYTE, LINES = 10**9, 10**7

#: The updates of each training.
UPDATES = 200

#: The most bytes of memory for a file of 1 GB and for the lines; the most seconds to the first record.
MEMORY, MEMORY_OF_LINES = 400e6, 1e9
SECONDS = {"bytes": 10.0, "characters": 60.0, "lines": 60.0}

IN_PYTHON = f"""
import pathlib, sys, fastrnn
source, metrics, backend, unit = sys.argv[1:]
fastrnn.train(
    pathlib.Path(source), unit=unit, backend=backend, steps={UPDATES}, rng=0,
    callbacks=[fastrnn.callbacks.JsonLines(metrics)],
)
"""


def lines_of(folder: Path) -> list[str]:
    """The lines of all texts, and some with characters of two, three and four bytes."""
    texts = sorted(path for path in folder.iterdir() if path.suffix in {".txt", ".log", ".csv"})
    found = [line for path in texts for line in path.read_text(encoding="utf-8").splitlines()]
    return [*found, "naïve café", "Пьер Безухов", "戦争と平和", "🙂 Ω"] * 2


def write_parts(path: Path, parts: Iterator[bytes], size: int) -> None:
    """Write a file from parts until it has a size, and no part of a character."""
    with path.open("wb") as file:
        while (left := size - file.tell()) > 0:
            part = next(parts)
            file.write(part if len(part) <= left else part[:left].decode(errors="ignore").encode())
            if len(part) > left:
                return


def drawn(lines: list[str], longest: int, seed: int) -> Iterator[bytes]:
    """Parts of 100,000 lines in a random order, each cut to a length."""
    rng = random.Random(seed)  # noqa: S311  (it orders lines)
    while True:
        yield "".join(f"{line[:longest]}\n" for line in rng.choices(lines, k=100_000)).encode()


def measure(command: list[object], metrics: Path) -> tuple[float, float, float]:
    """Run a training: the seconds until its first record and in all, and its peak of memory in bytes."""
    metrics.unlink(missing_ok=True)
    began, first = time.perf_counter(), None
    process = subprocess.Popen([sys.executable, *map(str, command)], stderr=subprocess.DEVNULL)
    while process.poll() is None and first is None:
        time.sleep(0.02)
        if metrics.exists() and metrics.stat().st_size:
            first = time.perf_counter() - began
    _, status, usage = os.wait4(process.pid, 0) if process.returncode is None else (0, 1, None)
    process.returncode = status
    if status or usage is None or first is None:
        sys.exit(f"a training failed: {command}")
    return first, time.perf_counter() - began, 1024 * usage.ru_maxrss


def main() -> None:
    """Measure each training, print what it took, and compare with what is allowed."""
    texts, good = lines_of(Path(os.environ["FASTRNN_DATA"])), []
    with tempfile.TemporaryDirectory() as name:
        large, short, metrics, out = (Path(name, file) for file in ("1 GB", "lines", "metrics", "model"))
        write_parts(large, drawn(texts, 1000, seed=0), GIGABYTE)
        some = drawn(texts, 12, seed=1)
        with short.open("wb") as file:
            for _ in range(LINES // 100_000):
                file.write(next(some))
        command = ["-m", "fastrnn", "train", "-o", out, "--metrics", metrics, "--steps", UPDATES, "--seed", 0]
        saving = ["--checkpoint", Path(name, "checkpoint")]
        runs = {
            ("bytes", "in Python, C"): ["-c", IN_PYTHON, large, metrics, "c", "byte"],
            ("bytes", "fastrnn train, C"): [*command, large, "--bytes", "--backend", "c"],
            ("bytes", "fastrnn train, Numba"): [*command, large, "--bytes", "--backend", "numba"],
            ("bytes", "with --checkpoint"): [*command, large, "--bytes", "--backend", "c", *saving],
            ("characters", "in Python, C"): ["-c", IN_PYTHON, large, metrics, "c", "character"],
            ("characters", "fastrnn train, C"): [*command, large, "--backend", "c"],
            ("lines", "fastrnn train --lines, C"): [*command, short, "--lines", "--backend", "c"],
        }
        for (unit, how), run in runs.items():
            first, seconds, peak = measure(run, metrics)
            most = MEMORY_OF_LINES if unit == "lines" else MEMORY
            good.append(peak <= most and first <= SECONDS[unit])
            print(
                f"{unit} ({how}): {peak / 1e6:.0f} MB at the peak (at most {most / 1e6:.0f}), {first:.1f} s "
                f"to the first record (at most {SECONDS[unit]:.0f}), {seconds:.1f} s in all",
                flush=True,
            )
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
