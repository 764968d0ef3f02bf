"""One training of the quality benchmark, and its result as plain data."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import fastrnn
from benchmarks.quality.jobs import REFERENCE_GFLOPS, Job
from benchmarks.quality.texts import Split
from fastrnn.training import choice
from fastrnn.training.events import Training, Updates

#: What a time limit chooses, beside the number of updates.
OPEN = ("hidden_size", "embedding_size", "dropout", "learning_rate")

#: For how long updates are timed before a training of so many updates as a time allows, and the part of that
#: time that updates may take; validation takes the rest.
TIMED_SECONDS, FOR_UPDATES = 5.0, 0.97

#: The shortest stretch of updates that is timed.
STRETCH_SECONDS = 0.5

#: How often the speed that settings are chosen for is measured; the highest counts.
SPEEDS = 30

Result = dict[str, Any]

#: The settings of a result that its table shows, if they are not the plain defaults.
SHOWN = (
    *("cell", "hidden_size", "num_layers", "embedding_size", "dropout", "input_dropout", "seq_length"),
    *("batch_size", "learning_rate", "averaging"),
)


@dataclass(frozen=True)
class Machine:
    """The processor, the cores that are used, and the GFLOP/s of each while all of them work."""

    processor: str
    cores: int
    gflops: float

    @property
    def scale(self) -> float:
        """How many times longer a training takes here than on the reference machine."""
        return REFERENCE_GFLOPS / self.gflops


class FastestUpdates(fastrnn.Callback):
    """Ends training after a while, and knows the seconds of an update when nothing disturbed it.

    A stretch has the updates of several calls, because one native call may be told of in parts.
    """

    def __init__(self) -> None:
        self.seconds = math.inf
        self._first = self._before = 0.0
        self._count = 0

    def before_training(self, training: Training) -> None:  # noqa: ARG002
        self._first = self._before = time.perf_counter()

    def after_updates(self, training: Training, updates: Updates) -> bool:  # noqa: ARG002
        now = time.perf_counter()
        self._count += len(updates.losses)
        if now - self._before > STRETCH_SECONDS:
            self.seconds = min(self.seconds, (now - self._before) / self._count)
            self._before, self._count = now, 0
        return now - self._first > TIMED_SECONDS and self.seconds < math.inf


def updates_within(limit: float, train: partial[fastrnn.Model]) -> dict[str, Any]:
    """The settings that are chosen for a time limit, with the number of updates that it allows here."""
    backend, threads = train.keywords["backend"], train.keywords["threads"]
    fastest = max(choice.operations_per_second(backend, threads, "float32") for _ in range(SPEEDS))
    speed = FastestUpdates()
    with patch.object(choice, "operations_per_second", return_value=fastest):
        chosen = train(time_limit=limit, callbacks=[speed]).settings
    fit = max(1, int(limit * FOR_UPDATES / speed.seconds))
    return {**{name: chosen[name] for name in OPEN}, "steps": min(fit, chosen["steps"] or fit)}


def run(
    job: Job,
    settings: dict[str, Any],
    split: Split,
    machine: Machine,
    backend: str,
    seed: int,
    *,
    by_updates: bool = False,
) -> Result:
    """Train within the job's time, as long as it is on this machine, and score."""
    limit = job.seconds * machine.scale
    held_out = {} if split.held_out is None else {"validation": split.held_out}
    train = partial(
        fastrnn.train, split.training, backend=backend, threads=machine.cores, rng=seed, progress=False,
        **{**held_out, **settings},
    )  # fmt: skip
    budget = updates_within(limit, train) if by_updates else {"time_limit": limit}
    began = time.perf_counter()
    model = train(**budget)
    seconds = time.perf_counter() - began
    counted = {}
    if model.mixture is not None:
        counted = {"fixed": split.nats(model), "adapted": split.nats(model, "counts")}
    return {
        "job": job.name,
        "seed": seed,
        "nats": split.nats(model.without_counts()),
        **counted,
        "limit": limit,
        "seconds": seconds,
        "by_updates": by_updates,
        "updates": int(model.history[-1]["step"]) + 1,  # the first update has the number 0
        "settings": {name: model.settings[name] for name in SHOWN},
        "backend": model.network.backend.name,
        "machine": vars(machine),
    }
