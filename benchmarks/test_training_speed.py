"""Training speed of each backend on each workload: forward, backward, clip and update."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peers.fastrnn import trainer
from benchmarks.workloads import TRAINING, TRAINING_CELLS, Training
from fastrnn.backends.registry import BACKENDS, find_backend


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("workload", [*TRAINING, *TRAINING_CELLS], ids=lambda workload: workload.name)
def test_training(benchmark, workload: Training, backend: str):
    found = find_backend(backend)
    if isinstance(found, str):
        pytest.skip(found)
    trained, streams = trainer(workload, workload.weights(), 1, backend), workload.streams()
    trained.steps(streams[: workload.T + 1], workload.T)  # this compiles the kernels, before the measurement
    losses = benchmark(trained.steps, streams, workload.T)
    assert len(losses) == workload.windows
    assert np.isfinite(losses).all()
    if benchmark.stats is not None:  # there is no result with --benchmark-disable
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["microseconds_per_update"] = round(1e6 * seconds / workload.windows, 2)
        benchmark.extra_info["characters_per_second"] = round(workload.characters / seconds)
        benchmark.extra_info["gflops"] = round(workload.operations / seconds / 1e9, 2)
