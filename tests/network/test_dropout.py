"""Dropout: the published words of its generator, its statistics, and what its mask depends on."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from helpers import CELLS, Window, assert_close, draw_parameters, flatten, parts_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn import Network, Trainer
from fastrnn.backends.reference import kept, philox
from fastrnn.backends.registry import get_backend
from fastrnn.core.constants import INPUTS

#: Random123's kat_vectors for philox4x32-10: counter, key and words.
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def mask(backend: str, N: int, B: int, H: int, **numbers: Any) -> np.ndarray:
    """The result (N, H) of dropout on ones."""
    numbers = {"dropout": 0.5, "dropout_seed": 11, "update": 3, "layer": 0, "first": 0, **numbers}
    y = np.full((N, H), np.nan)
    get_backend(backend).dropout(y=y, x=np.ones((N, H)), N=N, B=B, H=H, **numbers)
    return y


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_the_reference_s_generator_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
):
    found = philox(np.array([counter], np.uint64), key[0] | key[1] << 32)
    assert found.tolist() == [list(words)]


@pytest.mark.parametrize(("counter", "key", "words"), [KNOWN_ANSWERS[0], KNOWN_ANSWERS[2]])
def test_the_kernel_s_generator_gives_the_published_words(
    backend: str, counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
):
    """A word is known to the bit from two dropout rates: one keeps its element, and the next does not.

    With four units and 2³² rows, a counter is layer, row, step and update. The step of the second published
    counter is too large.
    """
    layer, row, step, update = counter
    B = 1 << 32
    numbers = {
        "dropout_seed": key[0] | key[1] << 32,
        "layer": layer,
        "update": update,
        "first": step * B + row,
    }
    for k, word in enumerate(words):
        assert mask(backend, 1, B, 4, dropout=word / 2**32, **numbers)[0, k] > 0
        assert mask(backend, 1, B, 4, dropout=(word + 1) / 2**32, **numbers)[0, k] == 0


@given(
    N=st.integers(1, 40), B=st.integers(1, 9), H=st.sampled_from([1, 2, 3, 4, 5, 63, 64, 65, 67, 131]),
    dropout=st.floats(0, 0.999), dropout_seed=st.integers(0, 2**63 - 1), update=st.integers(0, 2**40),
    layer=st.integers(0, 1000), first=st.integers(0, 2**34),
)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_elements_are_kept_as_by_the_reference(
    compiled: str, N: int, B: int, H: int, dropout: float, dropout_seed: int, update: int, layer: int,
    first: int,
):  # fmt: skip
    numbers = {
        "dropout": dropout,
        "dropout_seed": dropout_seed,
        "update": update,
        "layer": layer,
        "first": first,
    }
    np.testing.assert_array_equal(mask(compiled, N, B, H, **numbers), mask("numpy", N, B, H, **numbers))


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_as_much_is_dropped_as_is_said_and_the_mean_is_kept(backend: str, dropout: float):
    N, B, H = 2000, 40, 129
    y = mask(backend, N, B, H, dropout=dropout)
    deviation = np.sqrt(dropout * (1 - dropout))
    kept_fraction, n = (y > 0).mean(), y.size
    assert abs(kept_fraction - (1 - dropout)) < 5 * deviation / np.sqrt(n)
    np.testing.assert_allclose(y[y > 0], 1 / (1 - dropout), rtol=1e-15)
    assert abs(y.mean() - 1) < 5 * deviation / (1 - dropout) / np.sqrt(n)
    # the fraction is also right for each unit and each row: none is six standard deviations away
    for axis in (0, 1):
        fractions = (y > 0).mean(axis=axis)
        assert np.abs(fractions - (1 - dropout)).max() < 6 * deviation / np.sqrt(y.shape[axis])
    # neighbouring elements are dropped independently
    dropped = (y == 0) - dropout
    for other in (np.roll(dropped, 1, axis=0), np.roll(dropped, 1, axis=1), np.roll(dropped, H // 4, axis=1)):
        assert abs((dropped * other).mean()) < 5 * dropout * (1 - dropout) / np.sqrt(n)


@pytest.mark.parametrize("number", ["dropout_seed", "update", "layer"])
def test_another_seed_update_or_layer_is_another_mask(backend: str, number: str):
    masks = [mask(backend, 30, 5, 33, **{number: value}) for value in (0, 1, 2, 3)]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert 0.4 < (one == other).mean() < 0.6
    np.testing.assert_array_equal(masks[2], mask(backend, 30, 5, 33, **{number: 2}))


def test_the_upper_half_of_a_seed_matters(backend: str):
    one, other = (mask(backend, 30, 5, 33, dropout_seed=seed) for seed in (7, 7 + (1 << 32)))
    assert 0.4 < (one == other).mean() < 0.6


@pytest.mark.parametrize("H", [3, 33])
def test_a_mask_depends_on_step_and_row_alone(backend: str, H: int):
    """The number of steps and of other rows, and the division into calls, do not change a mask."""
    T, B = 12, 7
    whole = mask(backend, T * B, B, H).reshape(T, B, H)
    np.testing.assert_array_equal(mask(backend, 4 * B, B, H).reshape(4, B, H), whole[:4])
    np.testing.assert_array_equal(mask(backend, T * 3, 3, H).reshape(T, 3, H), whole[:, :3])
    pieces = [mask(backend, N, B, H, first=first) for first, N in ((0, 5), (5, 1), (6, T * B - 6))]
    np.testing.assert_array_equal(np.concatenate(pieces), whole.reshape(T * B, H))


def test_no_dropout_is_the_identity_to_the_bit(backend: str):
    x = np.random.default_rng(0).standard_normal((9, 13)).astype(np.float32)
    y = np.empty_like(x)
    get_backend(backend).dropout(
        y=y, x=x, dropout=0.0, dropout_seed=1, update=2, layer=0, first=0, N=9, B=3, H=13
    )
    np.testing.assert_array_equal(y, x)
    get_backend(backend).dropout(
        y=x, x=x, dropout=0.3, dropout_seed=1, update=2, layer=0, first=0, N=9, B=3, H=13
    )  # in place
    np.testing.assert_array_equal(x == 0, ~kept(0.3, 1, 2, 0, np.arange(9), 3, 13))


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_a_dropout_that_is_none_is_refused(backend: str, dropout: float):
    with pytest.raises(RuntimeError, match="dropout of .*a size is"):
        mask(backend, 2, 2, 3, dropout=dropout)


# ---- In a network ------------------------------------------------------------------------------------


def make(backend: str, cell: str, dropout: float, **more: Any) -> Network:
    options = {"num_layers": 2, "embedding_size": 6, **CELLS[cell], **more}
    return draw_parameters(Network(7, 10, dropout=dropout, dtype="float64", backend=backend, **options))


def make_dropping(rates: tuple[float, float], backend: str, cell: str) -> Network:
    """A network that drops these fractions of outputs and of inputs."""
    return make(backend, cell, rates[0], input_dropout=rates[1])


@pytest.mark.parametrize("cell", CELLS)
def test_a_network_without_a_seed_or_with_a_dropout_of_zero_drops_nothing(backend: str, cell: str):
    plain, none, some = (make(backend, cell, dropout) for dropout in (0.0, 0.0, 0.4))
    window = Window.of(plain, 6, 5)
    arguments = window.inputs, window.targets, window.state, window.starts
    loss, gradients, _ = plain.loss_and_gradients(*arguments)
    for network, seed in ((none, 5), (some, None)):
        other_loss, other, _ = network.loss_and_gradients(*arguments, dropout_seed=seed)
        assert other_loss == loss
        np.testing.assert_array_equal(flatten(plain, other), flatten(plain, gradients))
    dropped_loss, _, _ = some.loss_and_gradients(*arguments, dropout_seed=5)
    assert dropped_loss != loss
    assert some.loss_and_gradients(*arguments, dropout_seed=5)[0] == dropped_loss
    assert some.loss_and_gradients(*arguments, dropout_seed=6)[0] != dropped_loss
    np.testing.assert_array_equal(some.forward(window.inputs)[0], plain.forward(window.inputs)[0])
    assert some.losses(*arguments)[0].sum() == pytest.approx(loss, rel=1e-14)


def test_what_is_carried_is_not_dropped(backend: str):
    """Dropout applies to the output of a layer; its state is the same without dropout."""
    plain, some = (make(backend, "lstm", dropout, num_layers=1) for dropout in (0.0, 0.9))
    window = Window.of(plain, 6, 5)
    expected = plain.loss_and_gradients(window.inputs, window.targets, window.state, window.starts)[2]
    found = some.loss_and_gradients(window.inputs, window.targets, window.state, window.starts, 5)[2]
    for actual, wanted in zip(parts_of(found), parts_of(expected), strict=True):
        np.testing.assert_array_equal(actual, wanted)


def test_rows_that_are_added_change_no_mask_of_the_others(backend: str):
    """The first rows and steps of a window have the same losses as in the whole window."""
    network = make(backend, "gru", 0.4)
    window = Window.of(network, 6, 5)
    targets = np.full((6, 5), -1)
    targets[:4, :3] = np.abs(window.targets[:4, :3])
    loss, gradients, _ = network.loss_and_gradients(window.inputs, targets, dropout_seed=5)
    inputs, few = window.inputs[:4, :3], targets[:4, :3]
    few_loss, few_gradients, _ = network.loss_and_gradients(inputs, few, dropout_seed=5)
    assert_close(loss, few_loss, 1e-13)
    assert_close(flatten(network, gradients), flatten(network, few_gradients), 1e-13)


def test_a_dropped_input_is_as_an_embedding_of_zeros_and_the_others_are_scaled(backend: str):
    """What is dropped depends on the row, the step, the seed and the update."""
    T, B, V, p, seed = 40, 5, 7, 0.3, 2**40 + 3
    hidden = ~kept(p, seed, 0, INPUTS, np.arange(T * B), B, 1).reshape(T, B)
    assert 0.15 < hidden.mean() < 0.45
    some = make(backend, "gru", 0.0, input_dropout=p)
    window = Window.of(some, T, B)
    # a network whose embedding has a symbol of zeros more, in which dropped inputs are that symbol
    plain = Network(V + 1, 10, cell="gru", num_layers=2, embedding_size=6, dtype="float64", backend=backend)
    for name, parameter in plain.parameters.items():
        parameter[...] = 0 if name == "head.weight" else -1e9 if name == "head.bias" else parameter
        parameter[tuple(map(slice, some.parameters[name].shape))] = some.parameters[name]
    plain.parameters["embedding.weight"][:V] /= 1 - p
    plain.parameters["embedding.weight"][V] = 0
    arguments = window.targets, window.state, window.starts
    loss, gradients, state = some.loss_and_gradients(window.inputs, *arguments, dropout_seed=seed)
    found, expected, after = plain.loss_and_gradients(np.where(hidden, V, window.inputs), *arguments)
    assert_close(loss, found, 1e-12)
    for actual, wanted in zip(parts_of(state), parts_of(after), strict=True):
        assert_close(actual, wanted, 1e-12)
    expected["embedding.weight"] /= 1 - p
    for name, gradient in gradients.items():
        assert_close(gradient, expected[name][tuple(map(slice, gradient.shape))], 1e-11)


def test_inputs_are_dropped_in_training_alone(backend: str):
    plain, some = (make(backend, "lstm", 0.0, input_dropout=rate) for rate in (0.0, 0.5))
    window = Window.of(plain, 6, 5)
    arguments = window.inputs, window.targets, window.state, window.starts
    np.testing.assert_array_equal(some.forward(window.inputs)[0], plain.forward(window.inputs)[0])
    assert some.losses(*arguments)[0].sum() == plain.losses(*arguments)[0].sum()
    assert some.loss_and_gradients(*arguments)[0] == plain.loss_and_gradients(*arguments)[0]
    assert some.loss_and_gradients(*arguments, dropout_seed=5)[0] != plain.loss_and_gradients(*arguments)[0]


def test_only_embeddings_are_dropped():
    with pytest.raises(ValueError, match=r"input_dropout=0\.1 drops embeddings .* needs an embedding_size"):
        Network(7, 10, input_dropout=0.1)
    for wrong in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="input_dropout="):
            Network(7, 10, embedding_size=3, input_dropout=wrong)


@pytest.mark.parametrize("rates", [(0.4, 0.0), (0.0, 0.4)], ids=["outputs", "inputs"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_trainer_s_masks_are_those_of_its_updates(backend: str, cell: str, rates: tuple[float, float]):
    """Each update has its own mask, for any number of updates in a native call, and in a new trainer."""
    streams = np.random.default_rng(0).integers(0, 7, (31, 3))
    make = partial(make_dropping, rates)
    together, alone, other = (
        Trainer(make(backend, cell), optimizer="sgd", learning_rate=0.01, dropout_seed=seed)
        for seed in (9, 9, 10)
    )
    losses = together.steps(streams, 5)
    assert len(set(losses)) == 6
    single = [alone.step(streams[s : s + 5], streams[s + 1 : s + 6]) for s in range(0, 30, 5)]
    np.testing.assert_array_equal(losses, single)
    np.testing.assert_array_equal(together.network.flat, alone.network.flat)
    assert other.steps(streams, 5)[0] != losses[0]
    first = make(backend, cell).loss_and_gradients(streams[:5], streams[1:6], dropout_seed=9)[0]
    assert_close(losses[0], first, 1e-14)
    resumed = Trainer(make(backend, cell), optimizer="sgd", learning_rate=0.01, dropout_seed=9)
    resumed.steps(streams[:16], 5)
    assert resumed.updates == 3
    np.testing.assert_array_equal(resumed.steps(streams[15:], 5), losses[3:])


def test_float32_and_float64_drop_the_same(compiled: str):
    require_backend(compiled)
    x = np.ones((20, 37))
    for y in (np.empty((20, 37), np.float32), np.empty((20, 37))):
        get_backend(compiled).dropout(
            y=y, x=x.astype(y.dtype), dropout=0.6, dropout_seed=1, update=2, layer=1, first=0, N=20, B=4, H=37
        )
        np.testing.assert_array_equal(y > 0, kept(0.6, 1, 2, 1, np.arange(20), 4, 37))
