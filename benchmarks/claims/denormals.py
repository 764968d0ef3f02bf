"""How fast saturated, dead and fading networks train beside a healthy one: ``make claim-denormals``.

An update of an rnn, a gru or an lstm may take at most a fifth more time than the healthy network's, on each
compiled backend and in each precision. The networks are measured in turn, several times, and the shortest
time counts. tests/network/test_denormals.py has these networks; it finds denormal numbers also on processors
where they cost no time.
"""

from __future__ import annotations

import itertools
import sys
import time

import numpy as np
import test_denormals
from test_denormals import NETWORKS, SICK, healthy, trainer_of, window

from fastrnn import Trainer
from fastrnn.optimizers import Adam

#: The time of a network may be at most so many times that of the healthy one.
MAX = 1.2

#: The measurements of each network, and the updates of a measurement.
ROUNDS, UPDATES = 15, 20

#: The updates without a target before some measurements, in which the moments fade.
FADED = 3000


def seconds(trainer: Trainer, inputs: object, targets: object) -> float:
    """The seconds of an update."""
    began = time.perf_counter()
    for _ in range(UPDATES):
        trainer.step(inputs, targets)
    return (time.perf_counter() - began) / UPDATES


def compare(backend: str, dtype: str, which: str) -> bool:
    """Measure every kind of network, print the times, and return whether all are fast."""
    settings, runs = {"backend": backend, "dtype": dtype, **NETWORKS.get(which, {})}, {}
    for kind in (healthy, *SICK):
        trainer = trainer_of(kind, Adam(), **settings)
        runs[kind.__name__] = (trainer, *window(kind))
    inputs, targets = window(healthy)
    nothing = np.full_like(targets, -1)
    for beta in (0.9, 0.5):
        trainer = trainer_of(healthy, Adam(betas=(beta, beta)), **settings)
        trainer.step(inputs, targets)
        for _ in range(FADED):
            trainer.step(inputs[:1], nothing[:1])
        runs[f"faded, betas {beta}"] = (trainer, inputs, nothing)
    fastest = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            fastest[name] = min(fastest[name], seconds(*run))
    ratios = {name: time / fastest["healthy"] for name, time in fastest.items()}
    found = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    print(f"{which} {backend} {dtype}: {1e6 * fastest['healthy']:.0f} µs an update; times this: {found}")
    return max(ratios.values()) <= MAX


def main() -> None:
    """Compare on both compiled backends in both precisions."""
    test_denormals.T, test_denormals.B, test_denormals.H = 50, 32, 128
    cases = itertools.product(("c", "numba"), ("float32", "float64"), ("rnn", "gru", "lstm"))
    fast = [compare(*case) for case in cases]
    sys.exit(not all(fast))


if __name__ == "__main__":
    main()
