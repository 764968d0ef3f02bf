"""The copy memory task of `make claim-long-memory`, in a small form that takes a few seconds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.claims.long_memory import BLANK, KINDS, MARKER, Settings, Task, score, train
from fastrnn import Network

SMALL = Task(stretch=20, copied=3)


def test_the_symbols_come_after_the_marker():
    inputs, targets = SMALL.sequences(np.random.default_rng(0), 5)
    assert inputs.shape == targets.shape == (26, 5)
    assert (inputs[:3] < KINDS).all()
    assert (inputs[3:22] == BLANK).all() and (inputs[22] == MARKER).all() and (inputs[23:] == BLANK).all()
    assert (targets[:23] == BLANK).all()
    np.testing.assert_array_equal(targets[23:], inputs[:3])


def test_who_knows_only_when_to_answer_scores_what_guessing_does(compiled: str):
    network = Network(KINDS + 2, 1, activation="relu", backend=compiled)
    network.flat[...] = 0
    network.parameters["bias_l0"][...] = 1  # always h = 1
    network.parameters["head.bias"][[BLANK, MARKER]] = -50
    inputs, targets = SMALL.sequences(np.random.default_rng(0), 5)
    losses, _ = network.losses(inputs, np.where(targets == BLANK, -1, targets))
    np.testing.assert_allclose(losses.sum() / losses.size, SMALL.guessing, rtol=1e-6)
    assert math.isclose(Task(stretch=100, copied=10).guessing, 0.17329, rel_tol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gates_remember(compiled: str, cell: str):
    """A cell does not learn this without the gradients of its state and of the gate that keeps the state."""
    settings = Settings(
        cell, learning_rate=0.01, updates=1500, gate_bias=1.0, hidden_size=64, first_stretch=10
    )
    assert score(train(settings, SMALL, 0, compiled), SMALL) < SMALL.bar
