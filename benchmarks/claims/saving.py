"""What checkpoints cost a training: ``make claim-saving``, 5 to 10 minutes.

The same updates on tinyshakespeare are done with a checkpoint every 200 updates and without, in turn. The
medians of the processor time and of the time by the clock must differ by less than 2 %. The models are the
default one, with about a second from one checkpoint to the next, and an LSTM of 512 units, whose checkpoints
are large.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import fastrnn

EVERY = 200

#: The settings of each model, with as many updates as take some checkpoints.
MODELS: dict[str, dict[str, Any]] = {
    "default model": {"steps": 2000},
    "LSTM of 512": {"cell": "lstm", "hidden_size": 512, "steps": 400},
}

#: The most that a training with checkpoints may take, as a multiple of one without.
COST = 1.02


def timed(path: Path, settings: dict[str, Any]) -> tuple[float, float]:
    """The seconds of processor time and by the clock of a training."""
    cpu, wall = time.process_time(), time.perf_counter()
    fastrnn.train(path, rng=0, backend="c", progress=False, **settings)
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(name: str, path: Path, folder: Path, rounds: int) -> bool:
    """Measure a model with and without checkpoints in turn, and return whether their costs are small."""
    checkpoint = folder / "checkpoint"
    saving = {"checkpoint": checkpoint, "checkpoint_every": EVERY}
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    size = 0
    for number in range(rounds):
        for saves in (False, True) if number % 2 else (True, False):
            found[saves].append(timed(path, {**MODELS[name], **(saving if saves else {})}))
            if saves:
                size = checkpoint.stat().st_size
                checkpoint.unlink()
            print(f"{name}, {'with' if saves else 'without'} checkpoints: ", end="")
            print(f"{found[saves][-1][0]:.2f} s of processor time, {found[saves][-1][1]:.2f} s", flush=True)
    cpu, wall = (
        median(one[part] for one in found[True]) / median(one[part] for one in found[False])
        for part in (0, 1)
    )
    print(
        f"{name}, a checkpoint of {size / 1e6:.1f} MB every {EVERY} updates: {100 * cpu - 100:+.2f} % of the "
        f"processor time, {100 * wall - 100:+.2f} % by the clock (medians of {rounds} runs; at most "
        f"{100 * COST - 100:.0f})"
    )
    return max(cpu, wall) <= COST


def main() -> None:
    """Compare each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="the runs of each kind")
    options = parser.parse_args()
    path = Path(os.environ["FASTRNN_DATA"]) / "tinyshakespeare.txt"
    with tempfile.TemporaryDirectory() as name:
        costs = [compare(model, path, Path(name), options.rounds) for model in MODELS]
    sys.exit(not all(costs))


if __name__ == "__main__":
    main()
