"""The cost of a character in a text of 100 kB and in files of 10 and 100 MB: ``make claim-scale``, 2 minutes.

The same number of updates is done on each text, each in its own process, with default settings. The
processor time must be the same within a tenth, and a longer file must take no more memory. The texts repeat
a real one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

KILOBYTES = (100, 10_000, 100_000)
UPDATES = 3000
SYMBOLS = UPDATES * 64 * 32

#: The runs for each size; the median counts.
RUNS = 3

#: The largest cost may be this many times the smallest; a longer file may take this many bytes more.
COST = 1.1
MEMORY = 4_000_000


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """The seconds of processor time and of wall-clock time that a call takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(path: Path, backend: str) -> dict[str, float]:
    """Train on a file in this process, or on the shortest text as a str; return seconds and peak memory."""
    import resource  # not on every system

    import fastrnn

    source = path.read_bytes().decode() if path.stat().st_size <= 1000 * min(KILOBYTES) else path
    fastrnn.train("to compile, and to import what is needed", steps=2, validation=0.1, backend=backend)
    first, _ = timed(lambda: fastrnn.train(source, steps=1, validation=0.0, backend=backend))
    one_cpu, one_wall = timed(lambda: fastrnn.train(source, steps=1, backend=backend, rng=0))
    cpu, wall = timed(lambda: fastrnn.train(source, steps=1 + UPDATES, backend=backend, rng=0))
    return {
        "cost": 1e6 * (cpu - one_cpu) / SYMBOLS,
        "wall": 1e6 * (wall - one_wall) / SYMBOLS,
        "first": 1e3 * first,
        "memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def write_texts(folder: Path, text: bytes) -> list[Path]:
    """Write files of these sizes. Each repeats the text of the smallest, so all have the same symbols."""
    paths = [folder / f"{size} kB" for size in KILOBYTES]
    for path, size in zip(paths, KILOBYTES, strict=True):
        with path.open("wb") as file:
            for _ in range(size // min(KILOBYTES)):
                file.write(text[: 1000 * min(KILOBYTES)])
    return paths


def compare(paths: list[Path], backend: str) -> bool:
    """Measure each file in its own processes, print the results, and return whether the costs are equal."""
    command = [sys.executable, __file__, "--backend", backend, "--measure"]
    found: dict[Path, list[dict[str, float]]] = {path: [] for path in paths}
    for _ in range(RUNS):
        for path in paths:
            printed = subprocess.run([*command, path], check=True, stdout=subprocess.PIPE).stdout
            found[path].append(json.loads(printed))
    middle = {p: {key: median(run[key] for run in runs) for key in runs[0]} for p, runs in found.items()}
    print(f"{UPDATES} updates, backend {backend}, median of {RUNS} runs")
    for path, one in middle.items():
        megabytes = path.stat().st_size / 1e6
        print(
            f"{path.name:>10}: {one['cost']:.3f} µs of processor time a character ({one['wall']:.3f} by the "
            f"clock), {one['memory'] / 1e6:.1f} MB at the peak; {one['first']:.0f} ms to the first update "
            f"({one['first'] / megabytes:.1f} per MB)"
        )
    costs = [one["cost"] for one in middle.values()]
    memories = [one["memory"] for one in middle.values()]
    dearer, growth = max(costs) / min(costs), max(memories) - min(memories)
    print(f"{100 * dearer - 100:.1f} % between the costs (at most {100 * COST - 100:.0f}), ", end="")
    print(f"{growth / 1e6:.1f} MB between the peaks (at most {MEMORY / 1e6:.0f})")
    return dearer <= COST and growth <= MEMORY


def main() -> None:
    """Compare the sizes; with a file as an option, measure that one in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="c", help="c by default: compiling hides memory")
    parser.add_argument("--measure", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.backend)))
        return
    text = (Path(os.environ["FASTRNN_DATA"]) / "tinyshakespeare.txt").read_bytes()
    with tempfile.TemporaryDirectory() as name:
        sys.exit(not compare(write_texts(Path(name), text), options.backend))


if __name__ == "__main__":
    main()
