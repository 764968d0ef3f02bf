"""Helpers of several test files: the measure of agreement, and random windows."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from fastrnn import Network
from fastrnn.core import cells
from fastrnn.core.cells import KINDS, Cell

#: Sizes for edge cases: one, primes, and the size of a vector or a tile, and one more or less.
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


#: Every cell, as arguments of a network.
CELLS: dict[str, dict[str, Any]] = {
    kind.removeprefix("rnn_"): {"cell": cell.name, "activation": cell.activation}
    for kind, cell in KINDS.items()
}


def torch_class(torch: Any, cell: Cell) -> Any:
    """PyTorch's class of a cell. A test is skipped if PyTorch does not have the cell."""
    if cell.module is None:
        pytest.skip(f"PyTorch does not have the cell {cell.name}")
    return getattr(torch.nn, cell.module)


def input_settings(kind: str, H: int) -> dict[str, Any]:
    """The arguments of a network for a one-hot input, an embedding, or a tied embedding."""
    return {
        "one-hot": {},
        "embedding": {"embedding_size": H // 2 + 2},
        "tied": {"embedding_size": H, "tied": True},
    }[kind]


def draw_parameters(network: Network, seed: int = 0, most: float = 0.4) -> Network:
    """Draw weights that are large enough to affect results, and biases."""
    network.flat[:] = np.random.default_rng(seed).uniform(-most, most, network.flat.size)
    return network


def parts_of(state: Any) -> list[np.ndarray]:
    """The arrays of a state: h, and for the LSTM c."""
    return list(state) if isinstance(state, tuple) else [state]


@dataclass
class Window:
    """Random arguments of a network: ids, targets of which some are -1, starts and a state."""

    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray
    state: Any

    @classmethod
    def random(
        cls, T: int, B: int, V: int, H: int, seed: int = 0, *, num_layers: int = 1, cell: str = "rnn"
    ) -> Window:
        rng = np.random.default_rng(seed)
        targets = rng.integers(0, V, (T, B))
        targets[rng.random((T, B)) < 0.2] = -1
        inputs, starts = rng.integers(0, V, (T, B)), (rng.random((T, B)) < 0.2).astype(np.uint8)
        state: Any = rng.uniform(-1, 1, (num_layers, B, H))
        if "c" in cells.CELLS[cell].state:
            state = state, rng.uniform(-1, 1, (num_layers, B, H))
        return cls(inputs, targets, starts, state)

    @classmethod
    def of(cls, network: Network, T: int, B: int, seed: int = 0) -> Window:
        """A window that fits a network."""
        sizes = network.vocab_size, network.hidden_size, seed
        return cls.random(T, B, *sizes, num_layers=network.num_layers, cell=network.cell)


def require_library(name: str) -> Any:
    """Import an optional library. If it is missing, skip, or fail if FASTRNN_REQUIRE_LIBRARIES is set."""
    if os.environ.get("FASTRNN_REQUIRE_LIBRARIES"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


def write_as_before(path: Path, data: bytes) -> None:
    """Write a file, and give it its old time."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
