"""The probabilities of all symbols that could come next."""

from __future__ import annotations

import numpy as np
import pytest

import fastrnn
from fastrnn.inference.distribution import next_probabilities, softmax


def test_they_are_those_that_surprisal_states(backend: str):
    network = fastrnn.Network(7, 5, cell="lstm", dtype="float64", backend=backend, rng=0)
    symbols = np.array([3, 0, 6], np.int32)
    state = network.checked_state(None, 3)
    found = next_probabilities(network, symbols, state)
    for target in range(7):
        losses, after = network.losses([symbols], [[target] * 3])
        np.testing.assert_allclose(-np.log(found[:, target]), losses[0], rtol=1e-12)
    np.testing.assert_array_equal(state, np.stack(after))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_logits_have_no_probability(backend: str, dtype: str):
    largest = np.finfo(dtype).max
    logits = np.array([[largest, -largest, 0], [0, -1e30, 0], [-largest] * 3], dtype)
    with np.errstate(over="ignore"):
        found = softmax(fastrnn.get_backend(backend), logits)
    np.testing.assert_allclose(found, [[1, 0, 0], [0.5, 0, 0.5], [1 / 3] * 3], atol=1e-150)


def test_logits_out_of_range_are_an_error(backend: str):
    network = fastrnn.Network(3, 2, backend=backend, rng=0)
    network.parameters["head.bias"][1] = np.finfo("float32").max
    network.parameters["head.weight"][1] = np.finfo("float32").max
    network.parameters["bias_l0"][...] = 10
    with pytest.raises(ValueError, match="parameters are out of range"):
        next_probabilities(network, np.array([0], np.int32), network.checked_state(None, 1))
