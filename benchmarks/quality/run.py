"""One training of the quality benchmark, and its result as plain data."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import fastrnn
from benchmarks.quality.jobs import REFERENCE_GFLOPS, Job
from benchmarks.quality.texts import Split

Result = dict[str, Any]

#: The settings of a result that its table shows, if they are not the plain defaults.
SHOWN = (
    *("cell", "hidden_size", "num_layers", "embedding_size", "dropout", "seq_length", "batch_size"),
    *("learning_rate", "averaging"),
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


def run(
    job: Job, settings: dict[str, Any], split: Split, machine: Machine, backend: str, seed: int
) -> Result:
    """Train within the job's time, as long as it is on this machine, and score."""
    limit = job.seconds * machine.scale
    held_out = {} if split.held_out is None else {"validation": split.held_out}
    began = time.perf_counter()
    model = fastrnn.train(
        split.training,
        time_limit=limit,
        backend=backend,
        threads=machine.cores,
        rng=seed,
        progress=False,
        **{**held_out, **settings},
    )
    seconds = time.perf_counter() - began
    return {
        "job": job.name,
        "seed": seed,
        "nats": split.nats(model),
        "limit": limit,
        "seconds": seconds,
        "updates": int(model.history[-1]["step"]) + 1,  # the first update has the number 0
        "settings": {name: model.settings[name] for name in SHOWN},
        "backend": model.network.backend.name,
        "machine": vars(machine),
    }
