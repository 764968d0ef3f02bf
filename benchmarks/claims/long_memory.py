"""How well each cell remembers over a hundred steps: ``make claim-long-memory``, 1 to 2 minutes on one core.

The copy memory task (Hochreiter & Schmidhuber 1997, "Long short-term memory"; as in Arjovsky, Shah & Bengio
2016, "Unitary evolution recurrent neural networks"): ten symbols of eight kinds, a blank stretch of T = 100
steps with a marker at its end, and then the ten symbols again. The loss is the mean cross-entropy over all T
+ 20 steps, blank ones included; a network that only guesses the symbols scores 10 ln 8 / (T + 20) = 0.1733
nats. GRU and LSTM must score below a tenth of that on a thousand sequences that they were not trained on. The
tanh RNN and the IRNN (Le, Jaitly & Hinton 2015: rectified linear units, initialized with the identity) are
only reported.

All cells except the IRNN, which learns nothing in this way, are trained by a curriculum: the stretch is five
steps at first, and grows by a fifth each time the loss of a batch is less than a tenth of the loss of
guessing. The score is always that at T = 100. Every figure except the seconds is the same on each compiled
backend and with any number of threads.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from fastrnn import DivergenceError, Network, Trainer
from fastrnn.network.initialization import initialize

#: The number of kinds of symbols; the inputs have two more, blank and marker.
KINDS = 8
BLANK, MARKER = KINDS, KINDS + 1

#: A score is the mean over this number of sequences.
SCORED = 1000

#: The task counts as solved below this fraction of the loss of guessing.
SOLVED = 0.1

#: The sequences of an update.
BATCH = 32


@dataclass(frozen=True)
class Task:
    """The task to remember ``copied`` symbols over a blank stretch of ``stretch`` steps."""

    stretch: int
    copied: int

    @property
    def guessing(self) -> float:
        """The score of a network that predicts the blanks and guesses the symbols."""
        return self.copied * math.log(KINDS) / (self.stretch + 2 * self.copied)

    @property
    def bar(self) -> float:
        """The task counts as solved below this score."""
        return SOLVED * self.guessing

    def sequences(self, rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Random inputs and targets (T + 20, B)."""
        symbols = rng.integers(0, KINDS, (self.copied, rows))
        inputs = np.full((self.stretch + 2 * self.copied, rows), BLANK)
        targets = inputs.copy()
        inputs[: self.copied] = symbols
        inputs[self.copied + self.stretch - 1] = MARKER
        targets[self.copied + self.stretch :] = symbols
        return inputs, targets


#: The task of the papers.
HUNDRED = Task(stretch=100, copied=10)


@dataclass(frozen=True)
class Settings:
    """The training of a cell by Adam, with gradients clipped to a norm of one.

    The learning rate is constant for the first half of the updates, and then falls linearly to zero.
    ``gate_bias`` is the initial bias of the gate that keeps the state: the LSTM's f and the GRU's z.
    ``first_stretch`` is T at the start of the training.
    """

    cell: str
    learning_rate: float
    updates: int
    gate_bias: float = 0.0
    activation: str = "tanh"
    initialization: str = "orthogonal"
    hidden_size: int = 128
    first_stretch: int = 5

    @property
    def name(self) -> str:
        return "irnn" if self.activation == "relu" else self.cell


#: The cells that must solve the task; the others are only reported.
GATED = (
    Settings("gru", learning_rate=0.005, updates=4000, gate_bias=2.0),
    Settings("lstm", learning_rate=0.005, updates=4000, gate_bias=2.0),
)
SIMPLE = (
    Settings("rnn", learning_rate=0.001, updates=10_000),
    Settings(
        "rnn",
        learning_rate=0.0003,
        updates=10_000,
        activation="relu",
        initialization="identity",
        first_stretch=HUNDRED.stretch,
    ),
)


def new_network(settings: Settings, rng: np.random.Generator, backend: str) -> Network:
    """A network before its first update."""
    cell, H = settings.cell, settings.hidden_size
    network = Network(KINDS + 2, H, cell=cell, activation=settings.activation, backend=backend)
    initialize(network.parameters, settings.initialization, cell=cell, hidden_size=H, rng=rng)
    if cell != "rnn":
        network.parameters["bias_l0"][H : 2 * H] = settings.gate_bias
    return network


def train(settings: Settings, task: Task, seed: int, backend: str) -> Network:
    """Train a network on the task, by a curriculum that starts with shorter stretches."""
    rng = np.random.default_rng(seed)
    network = new_network(settings, rng, backend)
    trainer = Trainer(network, optimizer="adam", clip_norm=1.0, reduction="mean")
    now = replace(task, stretch=min(settings.first_stretch, task.stretch))
    for update in range(settings.updates):
        trainer.learning_rate = settings.learning_rate * min(1.0, 2 - 2 * update / settings.updates)
        inputs, targets = now.sequences(rng, BATCH)
        trainer.reset_state()
        if trainer.step(inputs, targets) / inputs.size < now.bar:
            longer = now.stretch + max(1, now.stretch // 5)
            now = replace(now, stretch=min(task.stretch, longer))
    return network


def score(network: Network, task: Task) -> float:
    """The mean loss in nats on new sequences, the same for every network."""
    losses, _ = network.losses(*task.sequences(np.random.default_rng(2**32), SCORED))
    return float(losses.mean())


def report(settings: Settings, seed: int, backend: str) -> bool:
    """Train, print a row of the table, and return whether the task was solved."""
    began = time.perf_counter()
    try:
        found = score(train(settings, HUNDRED, seed, backend), HUNDRED)
    except DivergenceError:
        found = math.inf
    seconds = time.perf_counter() - began
    print(
        f"{settings.name:<5} {seed:>4} {settings.hidden_size:>6} {settings.initialization:>10} "
        f"{settings.gate_bias:>4g} {settings.learning_rate:>6g} {settings.updates:>7} "
        f"{settings.first_stretch:>7} {found:>8.5f} {HUNDRED.guessing:>8.5f} {seconds:>7.1f}",
        flush=True,
    )
    return found < HUNDRED.bar


def main() -> None:
    """Train every cell with every seed; fail if a GRU or an LSTM has not solved the task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="c")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train each cell N times")
    options = parser.parse_args()
    print(f"copy memory, T = {HUNDRED.stretch}, batches of {BATCH}, backend {options.backend}")
    print("cell  seed hidden       init bias   rate updates first T    score guessing seconds")
    missed = [
        settings.name
        for settings in (*GATED, *SIMPLE)
        for seed in range(options.seeds)
        if not report(settings, seed, options.backend) and settings in GATED
    ]
    print(f"GRU and LSTM must score below {HUNDRED.bar:.5f}; missed by {missed or 'none'}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
