"""Edge cases of every cell: smallest sizes, many layers, saturated, exploding and dead networks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import CELLS, Window, assert_close, draw_parameters, flatten, input_settings, parts_of

from fastrnn import DivergenceError, Network, Trainer

cells = pytest.mark.parametrize("cell", CELLS)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

#: T, B, V, H, L.
SMALLEST = [
    (1, 1, 1, 1, 1),
    (1, 1, 1, 1, 10),
    (7, 3, 5, 1, 2),
    (7, 3, 1, 5, 2),
    (1, 3, 5, 4, 2),
    (7, 1, 5, 4, 2),
    (5, 4, 6, 7, 10),
]


def tell(network: Network, window: Window, dropout_seed: int | None = None) -> dict[str, np.ndarray]:
    """All results of a network for a window, by name."""
    arguments = window.inputs, window.targets, window.state, window.starts
    loss, gradients, after = network.loss_and_gradients(*arguments, dropout_seed=dropout_seed)
    logits, _ = network.forward(window.inputs, window.state, window.starts)
    losses, _ = network.losses(*arguments)
    states = {f"state {i}": part for i, part in enumerate(parts_of(after))}
    return {"loss": np.array(loss), **gradients, **states, "logits": logits, "losses": losses}


@cells
@pytest.mark.parametrize(("T", "B", "V", "H", "L"), SMALLEST)
def test_the_smallest_and_the_deepest_are_as_the_reference_has_them(
    compiled: str, cell: str, T: int, B: int, V: int, H: int, L: int
):
    for kind, dropout_seed in itertools.product(("one-hot", "embedding", "tied"), (None, 3)):
        options = {"num_layers": L, "dropout": 0.5, **CELLS[cell], **input_settings(kind, H)}
        fast, exact = (
            draw_parameters(Network(V, H, dtype="float64", backend=backend, **options))
            for backend in (compiled, "numpy")
        )
        window = Window.of(fast, T, B)
        found = tell(fast, window, dropout_seed)
        for name, expected in tell(exact, window, dropout_seed).items():
            assert_close(found[name], expected, 1e-10, f"{name} of {fast!r}")


def saturate(network: Network, bias: float) -> Network:
    """Make weights a thousand times larger than usual, and set all biases to one value."""
    draw_parameters(network)
    network.flat *= 1000
    for name, parameter in network.parameters.items():
        if "bias" in name:
            parameter[...] = bias
    return network


@cells
@dtypes
@pytest.mark.parametrize("bias", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("kind", ["one-hot", "tied"])
def test_saturated_gates_give_no_nan(backend: str, cell: str, dtype: str, bias: float, kind: str):
    """In so few steps, nothing overflows."""
    options = {"num_layers": 2, **CELLS[cell], **input_settings(kind, 8)}
    network = saturate(Network(6, 8, dtype=dtype, backend=backend, **options), bias)
    window = Window.of(network, 3, 4)
    for name, value in tell(network, window).items():
        assert np.isfinite(value).all(), f"{name} of {network!r}"
    for part in parts_of(network.forward(window.inputs, window.state)[1]):
        assert cell in ("relu", "lstm") or np.abs(part).max() <= 1


@cells
@dtypes
@pytest.mark.parametrize("bias", [1e4, -1e4])
def test_gates_that_are_wide_open_or_shut_are_so_exactly(backend: str, cell: str, dtype: str, bias: float):
    network = Network(6, 8, dtype=dtype, backend=backend, initialization="zeros", **CELLS[cell])
    network.parameters["bias_l0"][...] = bias
    h, c = np.full((2, 1, 3, 8), 0.5)
    logits, after = network.forward(np.zeros((4, 3), int), (h, c) if cell == "lstm" else h)
    opened = bias > 0
    expected = {
        "tanh": [1.0 if opened else -1.0],
        "relu": [bias if opened else 0.0],
        "gru": [0.5 if opened else -1.0],  # the new state is the old one, or n = tanh(bias)
        "lstm": [np.tanh(4.5) if opened else 0.0, 4.5 if opened else 0.0],
    }[cell]
    for part, value in zip(parts_of(after), expected, strict=True):
        assert_close(part, np.full((1, 3, 8), value), 1e-6 if dtype == "float32" else 1e-15)
    assert (logits == 0).all()


def outcome(trainer: Trainer, window: Window, updates: int = 3) -> str:
    """Return ``"finite"`` or ``"diverged"``; in both cases the parameters are finite."""
    before = trainer.network.flat.copy()
    try:
        for _ in range(updates):
            before = trainer.network.flat.copy()
            loss = trainer.step(window.inputs, window.targets, window.starts)
            assert np.isfinite(loss)
    except DivergenceError:
        np.testing.assert_array_equal(
            trainer.network.flat, before
        )  # the parameters before the update that was not done
        assert trainer.state is None
        return "diverged"
    assert np.isfinite(trainer.network.flat).all()
    assert all(np.isfinite(part).all() for part in parts_of(trainer.state))
    return "finite"


@cells
@dtypes
@pytest.mark.parametrize("L", [1, 10])
def test_a_saturated_network_trains_or_diverges(backend: str, cell: str, dtype: str, L: int):
    network = Network(6, 8, num_layers=L, dtype=dtype, backend=backend, **CELLS[cell])
    trainer = Trainer(saturate(network, 0.0), optimizer="sgd", learning_rate=1e-3, clip_norm=1.0)
    found = outcome(trainer, Window.of(network, 20, 3))
    assert found == "finite" or cell == "relu"


def explode(network: Network) -> Network:
    """Let states or gradients triple at each step."""
    draw_parameters(network, most=0.1)
    H = network.hidden_size
    for layer in range(network.num_layers):
        weight = network.parameters[f"weight_hh_l{layer}"]
        weight[...] = np.vstack([3 * np.eye(H)] * (len(weight) // H))
    return network


@cells
@dtypes
def test_an_exploding_network_trains_or_diverges(backend: str, cell: str, dtype: str):
    network = explode(Network(6, 8, num_layers=2, dtype=dtype, backend=backend, **CELLS[cell]))
    window = Window.of(network, 1000, 3)
    window.starts[:] = 0
    trainer = Trainer(network, optimizer="sgd", learning_rate=1e-3, clip_norm=1.0)
    trainer.state = tuple(map(np.abs, parts_of(window.state))) if cell == "lstm" else np.abs(window.state)
    found = outcome(trainer, window)
    assert found == ("diverged" if cell == "relu" else "finite")


@pytest.mark.parametrize("T", [20, 60])
def test_a_relu_that_explodes_is_as_the_reference_has_it_as_long_as_it_is_finite(compiled: str, T: int):
    networks = [
        explode(Network(6, 8, activation="relu", dtype="float64", backend=backend))
        for backend in (compiled, "numpy")
    ]
    window = Window.of(networks[0], T, 3)
    found, expected = (tell(network, window) for network in networks)
    for name, value in expected.items():
        assert np.isfinite(value).all()
        assert_close(found[name], value, 1e-10, name)


@cells
@dtypes
@pytest.mark.parametrize("bias", [0.0, -1e4])
def test_a_dead_network_is_as_good_as_chance_and_can_be_trained(
    backend: str, cell: str, dtype: str, bias: float
):
    options = {"num_layers": 2, "embedding_size": 4, "dropout": 0.5, **CELLS[cell]}
    network = Network(6, 8, dtype=dtype, backend=backend, initialization="zeros", **options)
    for name, parameter in network.parameters.items():
        if name.startswith("bias"):
            parameter[...] = bias
    window = Window.of(network, 7, 3)
    found = tell(network, window, dropout_seed=1)
    assert_close(found["loss"], np.count_nonzero(window.targets >= 0) * np.log(6), 1e-6)
    assert all(np.isfinite(value).all() for value in found.values())
    for name in network.parameters:
        assert name.startswith("head") or not found[name].any()
    assert found["head.bias"].any()
    trainer = Trainer(network, learning_rate=0.1, dropout_seed=1)
    assert outcome(trainer, window, updates=30) == "finite"
    losses = network.losses(window.inputs, window.targets)[0]
    assert losses.sum() < found["loss"]


@cells
def test_nan_among_the_parameters_is_a_divergence(backend: str, cell: str):
    """A NaN in any parameter reaches the loss or the gradient."""
    options = {"num_layers": 2, "embedding_size": 4, **CELLS[cell]}
    for name in Network(6, 8, **options).parameters:
        network = draw_parameters(Network(6, 8, backend=backend, **options))
        network.parameters[name][...] = np.nan
        window = Window.of(network, 4, 3)
        window.targets[:] = 1
        assert not np.isfinite(network.losses(window.inputs, window.targets)[0]).all(), name
        with pytest.raises(DivergenceError):
            Trainer(network).step(window.inputs, window.targets)


@cells
def test_targets_that_are_all_masked_are_no_loss_and_no_gradient(backend: str, cell: str):
    network = draw_parameters(Network(6, 8, num_layers=2, dropout=0.3, backend=backend, **CELLS[cell]))
    window = Window.of(network, 4, 3)
    loss, gradients, _ = network.loss_and_gradients(
        window.inputs, np.full((4, 3), -1), window.state, window.starts, dropout_seed=4
    )
    assert loss == 0
    assert not flatten(network, gradients).any()


@cells
def test_a_thousand_layers_are_as_many_as_there_may_be(backend: str, cell: str):
    network = draw_parameters(Network(3, 2, num_layers=1000, backend=backend, **CELLS[cell]))
    loss, gradients, state = network.loss_and_gradients([[0, 1]], [[1, 2]])
    assert np.isfinite(loss)
    assert all(np.isfinite(value).all() for value in gradients.values())
    assert all(part.shape == (1000, 2, 2) for part in parts_of(state))
