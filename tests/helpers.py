"""What several test files use: the measure of agreement, and random windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fastrnn import Network

#: Sizes that find edges: one, primes, and a vector or a tile more or less than whole.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 11, 15, 16, 17, 31, 32, 33)

sizes = st.sampled_from(SIZES)


def difference(actual: Any, expected: Any) -> float:
    """``max|a - b| / max(1, max|b|)``, the measure of the tolerances."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    if not expected.size:
        return 0.0
    return float(np.max(np.abs(actual - expected)) / max(1.0, np.max(np.abs(expected))))


def assert_close(actual: Any, expected: Any, tolerance: float, what: str = "") -> None:
    """Require agreement within a tolerance; NaN never agrees."""
    found = difference(actual, expected)
    assert found <= tolerance, f"{what} differs by {found:.3g}, and may by {tolerance:g}"


SEED_LOSSES = [
    "5.5459",
    "0.0132",
    "0.0057",
    "0.0036",
    "0.0026",
    "0.0021",
    "0.0017",
    "0.0015",
    "0.0013",
    "0.0011",
]


def flatten(network: Network, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Arrays by parameter name as one vector, in the network's order."""
    flat = np.empty_like(network.flat)
    for name, view in network.layout.views(flat).items():
        view[...] = arrays[name]
    return flat


@dataclass
class Window:
    """Random arguments of a network: ids, targets some of which are -1, starts and a state."""

    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray
    state: np.ndarray

    @classmethod
    def random(cls, T: int, B: int, V: int, H: int, seed: int = 0) -> Window:
        rng = np.random.default_rng(seed)
        targets = rng.integers(0, V, (T, B))
        targets[rng.random((T, B)) < 0.2] = -1
        return cls(
            inputs=rng.integers(0, V, (T, B)),
            targets=targets,
            starts=(rng.random((T, B)) < 0.2).astype(np.uint8),
            state=rng.uniform(-1, 1, (1, B, H)),
        )
