"""The jobs of all benchmarks: their sizes, weights and data.

T time steps · B batch rows · V vocabulary · H hidden units · L layers · G gates of the cell
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastrnn.core.cells import CELLS

Weights = dict[str, np.ndarray]

CLIP = 5.0

#: The first value of Adagrad's sum of squares; epsilon is 0, as in min-char-rnn.
INITIAL_ACCUMULATOR = 1e-8


@dataclass(frozen=True)
class Workload:
    """A network and a kind of work."""

    name: str
    T: int
    B: int
    V: int
    H: int
    dtype: str
    cell: str = field(default="rnn", kw_only=True)
    num_layers: int = field(default=1, kw_only=True)

    @property
    def is_plain(self) -> bool:
        """Whether it is one layer of the vanilla cell; some peers support only this."""
        return (self.cell, self.num_layers) == ("rnn", 1)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes by letter; L only if there is more than one layer."""
        layers = {"L": self.num_layers} if self.num_layers > 1 else {}
        return {"T": self.T, "B": self.B, "V": self.V, "H": self.H, **layers}

    @property
    def characters(self) -> int:
        """The characters of one call."""
        return self.T * self.B

    @property
    def operations(self) -> int:
        """The floating-point operations of one call: 2·((2·L - 1)·G·H² + H·V) for each character.

        Each layer has a product with its state; each layer above the first also has one with its input. The
        input of the first layer is one-hot and costs no operations.
        """
        products = (2 * self.num_layers - 1) * len(CELLS[self.cell].gates)
        return 2 * self.characters * (products * self.H**2 + self.H * self.V)

    @property
    def checked(self) -> int:
        """How many of the first call's results must agree between libraries."""
        return 50

    def weights(self) -> Weights:
        """The initial weights of every library, with fastrnn's names, uniform within ±1/√H."""
        rng = np.random.default_rng(1)
        return {
            name: (rng.uniform(-1, 1, shape) / np.sqrt(self.H)).astype(self.dtype)
            for name, shape in self.shapes().items()
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights, in the order in which they are drawn."""
        V, H, rows = self.V, self.H, len(CELLS[self.cell].gates) * self.H
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_layers):
            shapes[f"weight_ih_l{layer}"] = rows, H if layer else V
            shapes[f"weight_hh_l{layer}"] = rows, H
            shapes[f"bias_l{layer}"] = (rows,)
            if split := CELLS[self.cell].split_bias:
                shapes[f"bias_h{split}_l{layer}"] = (H,)
        return {**shapes, "head.weight": (V, H), "head.bias": (V,)}

    def weights_of_check(self) -> Weights:
        """The weights of the first call, whose results are compared."""
        return self.weights()

    def streams(self) -> np.ndarray:
        """The ids (N + 1, B) that one call needs."""
        N = self.characters // self.B
        return np.random.default_rng(0).integers(0, self.V, (N + 1, self.B), dtype=np.int32)


@dataclass(frozen=True)
class Training(Workload):
    """An update for each window: forward, backward, clip by value, update; the state is carried."""

    optimizer: str
    learning_rate: float
    windows: int

    @property
    def characters(self) -> int:
        return self.windows * self.T * self.B

    @property
    def operations(self) -> int:
        """Three times those of the forward pass, such as 6·T·B·(H² + H·V) for an update."""
        return 3 * super().operations

    @property
    def checked(self) -> int:
        """The losses of the first windows; later ones are chaotic under Adagrad."""
        return 3

    def windows_of_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of each update, (windows, T, B)."""
        ids = self.streams()
        shape = self.windows, self.T, self.B
        return ids[:-1].reshape(shape), ids[1:].reshape(shape)


@dataclass(frozen=True)
class Sampling(Workload):
    """T characters are drawn one after the other, from id 0 and a state of zeros."""

    def weights_of_check(self) -> Weights:
        """Weights whose logits are so far apart that every random number gives the same draw."""
        weights = self.weights()
        for name in "head.weight", "head.bias":
            weights[name] *= 1e5
        return weights


@dataclass(frozen=True)
class Scoring(Workload):
    """The bits of all characters but the first, in B texts of T + 1 characters, from a state of zeros."""


@dataclass(frozen=True)
class Lines(Workload):
    """The same for B lines of different lengths: ``shortest`` to T characters are scored in each.

    ``may_sort`` says whether a peer that pads the lines of a batch may sort them by length before.
    """

    shortest: int
    may_sort: bool

    @property
    def lengths(self) -> np.ndarray:
        """How many characters of each line are scored; the first line is one of the longest."""
        lengths = np.random.default_rng(2).integers(self.shortest, self.T, self.B, endpoint=True)
        lengths[0] = self.T
        return lengths

    @property
    def characters(self) -> int:
        return int(self.lengths.sum())

    def lines(self) -> list[np.ndarray]:
        """The ids of each line: one more than are scored."""
        lengths = self.lengths + 1
        ids = np.random.default_rng(0).integers(0, self.V, lengths.sum(), dtype=np.int32)
        return np.split(ids, np.cumsum(lengths)[:-1])


TRAINING = (
    Training("seed", 4, 1, 4, 16, "float64", "sgd", 0.1, windows=2000),
    Training("min-char-rnn", 25, 1, 65, 100, "float64", "adagrad", 0.1, windows=200),
    Training("min-char-rnn-f32", 25, 1, 65, 100, "float32", "adagrad", 0.1, windows=200),
    Training("batched", 50, 32, 65, 128, "float32", "adagrad", 0.01, windows=10),
    Training("wide", 50, 64, 65, 512, "float32", "adagrad", 0.01, windows=4),
)

TRAINING_CELLS = (
    Training("lstm", 50, 32, 65, 128, "float32", "adagrad", 0.01, windows=10, cell="lstm"),
    Training("lstm-one-row", 25, 1, 65, 100, "float32", "adagrad", 0.01, windows=200, cell="lstm"),
    Training("gru", 50, 50, 65, 256, "float32", "adagrad", 0.01, windows=6, cell="gru"),
    Training("lstm-2x512", 50, 50, 65, 512, "float32", "adagrad", 0.01, windows=3, cell="lstm", num_layers=2),
)

WORKLOADS: tuple[Workload, ...] = (
    *TRAINING,
    *TRAINING_CELLS,
    Sampling("sampling", 1000, 1, 65, 128, "float32"),
    Sampling("sampling-lstm-512", 1000, 1, 65, 512, "float32", cell="lstm"),
    Scoring("scoring", 20000, 1, 65, 128, "float32"),
    Scoring("scoring-lines", 128, 512, 65, 128, "float32"),
    Lines("scoring-20k-sorted", 200, 20_000, 65, 128, "float32", shortest=20, may_sort=True),
    Lines("scoring-20k", 200, 20_000, 65, 128, "float32", shortest=20, may_sort=False),
)
