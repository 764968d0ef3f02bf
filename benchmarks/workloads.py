"""The sizes that every benchmark uses, stated once.

T time steps · B batch rows · V vocabulary · H hidden units
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastrnn
from fastrnn.optimizers import Adagrad


@dataclass(frozen=True)
class Workload:
    """A training job: the sizes of its windows, and how many of them one measurement takes."""

    name: str
    T: int
    B: int
    V: int
    H: int
    dtype: str
    optimizer: str | fastrnn.optimizers.Optimizer
    windows: int

    @property
    def characters(self) -> int:
        """The characters of one measurement."""
        return self.windows * self.T * self.B

    @property
    def operations(self) -> int:
        """Floating-point operations of one measurement: 6·T·B·(H² + H·V) a window."""
        return self.windows * 6 * self.T * self.B * (self.H**2 + self.H * self.V)

    def streams(self) -> np.ndarray:
        """Ids (N + 1, B), as many as the windows need."""
        rng = np.random.default_rng(0)
        return rng.integers(0, self.V, (self.windows * self.T + 1, self.B), dtype=np.int32)

    def trainer(self, backend: str) -> fastrnn.Trainer:
        """A trainer on a new network."""
        network = fastrnn.Network(
            self.V, self.H, dtype=self.dtype, backend=backend, initialization="normal", rng=0
        )
        return fastrnn.Trainer(network, optimizer=self.optimizer, learning_rate=0.01, clip_value=5.0)


ADAGRAD = Adagrad(initial_accumulator_value=1e-8, eps=0.0)

WORKLOADS = (
    Workload("seed", T=4, B=1, V=4, H=16, dtype="float64", optimizer="sgd", windows=2000),
    Workload("min-char-rnn", T=25, B=1, V=65, H=100, dtype="float64", optimizer=ADAGRAD, windows=40),
    Workload("batched", T=50, B=32, V=65, H=128, dtype="float32", optimizer=ADAGRAD, windows=10),
)
