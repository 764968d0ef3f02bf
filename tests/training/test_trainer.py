"""Truncated BPTT: windows, carried state, divergence, and refused arguments."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from helpers import CELLS, Window, assert_close, draw_parameters, flatten, parts_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn import DivergenceError, Network, Trainer
from fastrnn.training.pace import Pace


def make(backend: str, **settings: object) -> Trainer:
    network = Network(6, 9, dtype="float64", backend=backend, rng=0)
    return Trainer(network, **{"optimizer": "adagrad", "learning_rate": 0.05, "clip_value": 1.0, **settings})


@given(
    N=st.integers(1, 23),
    T=st.integers(1, 30),
    B=st.integers(1, 4),
    passes=st.integers(0, 3),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_steps_are_single_steps_with_the_state_carried(backend: str, N: int, T: int, B: int, passes: int):
    rng = np.random.default_rng(N * 100 + T)
    streams = rng.integers(0, 6, (N + 1, B))
    starts = (rng.random((N, B)) < 0.2).astype(np.uint8)
    together, one_by_one = make(backend), make(backend)
    losses = together.steps(streams, T, starts, passes=passes)
    expected = [
        one_by_one.step(streams[:-1][s : s + T], streams[1:][s : s + T], starts[s : s + T])
        for _ in range(passes)
        for s in range(0, N, T)
    ]
    np.testing.assert_array_equal(losses, expected)
    np.testing.assert_array_equal(together.network.flat, one_by_one.network.flat)
    assert together.updates == one_by_one.updates == len(losses)
    if passes:
        np.testing.assert_array_equal(together.state, one_by_one.state)


def test_the_norm_is_that_of_the_last_gradient_before_the_clip_by_norm(backend: str):
    trainer, window = (
        make(backend, clip_value=0.3, clip_norm=0.01, reduction="batchmean"),
        Window.random(7, 3, 6, 9),
    )
    assert np.isnan(trainer.gradient_norm)
    for _ in range(2):
        _, gradients, _ = trainer.network.loss_and_gradients(window.inputs, window.targets, trainer.state)
        clipped = np.clip(flatten(trainer.network, gradients) / 3, -0.3, 0.3)
        trainer.step(window.inputs, window.targets)
        assert trainer.gradient_norm == pytest.approx(np.linalg.norm(clipped), rel=1e-12)
    with pytest.raises(AttributeError):
        trainer.gradient_norm = 1.0


def test_the_norm_of_many_windows_is_the_last_one_s(backend: str):
    streams = np.random.default_rng(1).integers(0, 6, (41, 2))
    together, one_by_one = make(backend), make(backend)
    together.steps(streams, 10)
    for s in range(0, 40, 10):
        one_by_one.step(streams[s : s + 10], streams[s + 1 : s + 11])
    assert together.gradient_norm == one_by_one.gradient_norm
    together.network.flat[:] = np.nan
    with pytest.raises(DivergenceError):
        together.steps(streams, 10)
    assert together.gradient_norm == one_by_one.gradient_norm  # the norm of the last update that was done


def test_many_windows_match_the_reference(compiled: str):
    streams = np.random.default_rng(1).integers(0, 6, (100, 3))
    expected, actual = make("numpy", optimizer="adam"), make(compiled, optimizer="adam")
    assert_close(actual.steps(streams, 7), expected.steps(streams, 7), 1e-9)
    assert_close(actual.network.flat, expected.network.flat, 1e-9)
    assert_close(actual.state, expected.state, 1e-9)


def test_the_loss_falls(backend: str):
    trainer = make(backend, optimizer="adam", learning_rate=0.01)
    losses = trainer.steps(np.arange(61)[:, None] % 6, 10, passes=40)
    assert losses[-1] < losses[0] / 10


def test_the_state_is_carried_until_it_is_reset(backend: str):
    window = Window.random(5, 2, 6, 9)
    targets = np.abs(window.targets)
    trainer = make(backend, learning_rate=1e-12)
    first = trainer.step(window.inputs, targets)
    second = trainer.step(window.inputs, targets)
    trainer.reset_state()
    third = trainer.step(window.inputs, targets)
    assert abs(first - second) > 1e-6
    assert first == pytest.approx(third, rel=1e-9)


def test_divergence_keeps_the_last_finite_parameters(backend: str):
    trainer = make(backend, optimizer="sgd", learning_rate=1e308, clip_value=None)
    streams = np.arange(41)[:, None] % 6
    with pytest.raises(DivergenceError, match=r"diverged at update \d+: the loss is .* lower learning_rate"):
        trainer.steps(streams, 4, passes=100)
    assert np.isfinite(trainer.network.flat).all()
    assert trainer.state is None


def test_a_gradient_that_overflows_is_a_divergence_too(backend: str):
    network = Network(3, 2, dtype="float32", backend=backend, rng=0)
    network.parameters["weight_ih_l0"][:] = 0
    network.parameters["head.weight"][:] = [[3e38, -3e38], [-3e38, 3e38], [0, 0]]
    trainer = Trainer(network, optimizer="sgd", learning_rate=0.1)
    before = network.flat.copy()
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        trainer.step([[0], [1], [2]] * 4, [[0], [1], [2]] * 4)
    np.testing.assert_array_equal(network.flat, before)


def test_the_learning_rate_may_change_between_updates(backend: str):
    trainer = make(backend, optimizer="sgd")
    trainer.step([[0]], [[1]])
    before = trainer.network.flat.copy()
    trainer.learning_rate = 1e-30
    trainer.step([[0]], [[1]])
    np.testing.assert_array_equal(trainer.network.flat, before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizer": "adan"}, ValueError, "optimizer='adan' is not known; it is one of 'sgd'"),
        ({"learning_rate": 0}, ValueError, "learning_rate=0 must be a finite number above zero"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate=nan"),
        ({"learning_rate": -1}, ValueError, "learning_rate=-1"),
        ({"learning_rate": "1"}, TypeError, "learning_rate='1'"),
        ({"clip_value": 0}, ValueError, "clip_value=0"),
        ({"clip_norm": float("inf")}, ValueError, "clip_norm=inf"),
        ({"reduction": "max"}, ValueError, "reduction='max' is not known"),
        ({"averaging": 1}, ValueError, "averaging=1 must be below one"),
        ({"averaging": -0.5}, ValueError, "averaging=-0.5 must be"),
        ({"averaging": "0.9"}, TypeError, "averaging='0.9' must be"),
    ],
)
def test_refuses_bad_settings(arguments: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        make("numpy", **arguments)


def test_refuses_what_is_no_network():
    with pytest.raises(TypeError, match="network is int"):
        Trainer(7)  # type: ignore[arg-type]


def test_refuses_bad_streams(backend: str):
    trainer = make(backend)
    with pytest.raises(ValueError, match=r"streams has shape \(1, 2\)"):
        trainer.steps([[0, 1]], 5)
    with pytest.raises(ValueError, match="streams runs from 0 to 6"):
        trainer.steps([[0], [6]], 5)
    with pytest.raises(ValueError, match="seq_length=0"):
        trainer.steps([[0], [1]], 0)
    with pytest.raises(ValueError, match="passes=-1"):
        trainer.steps([[0], [1]], 1, passes=-1)
    with pytest.raises(MemoryError, match="the losses of 10+ passes needs"):
        trainer.steps([[0], [1]], 1, passes=10**30)
    trainer.step([[0, 0]], [[1, 1]])
    with pytest.raises(ValueError, match=r"3 rows and the carried state 2: call reset_state\(\)"):
        trainer.step([[0, 0, 0]], [[1, 1, 1]])


def test_native_calls_grow_and_stay_short(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 0.001, 1.0, 1.008, 2.0, 2.2, 3.0, 3.1])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    pace, asked = Pace(), []

    def call(highest: int) -> None:
        pace.call(lambda count: asked.append(count) or np.empty(count), highest)

    for highest in (1000, 1000, 1000, 3):
        call(highest)
    assert asked[:2] == [1, 8]  # 50 would fit, but no more than eight times as many
    assert 45 <= asked[2] <= 50
    assert asked[3] == 3


def test_a_learning_rate_that_overflows_the_parameters_is_a_divergence(backend: str):
    network = Network(6, 9, dtype="float32", backend=backend, rng=0)
    trainer = Trainer(network, optimizer="sgd", learning_rate=1e39)
    with pytest.raises(DivergenceError, match="an update overflowed"):
        trainer.step([[0], [1]], [[1], [2]])


def test_the_state_may_be_read_and_set(backend: str):
    trainer = make(backend, optimizer="sgd", learning_rate=1e-300)
    window = Window.random(5, 2, 6, 9)
    trainer.state = window.state
    loss = trainer.step(window.inputs, window.targets)
    expected, _, state = trainer.network.loss_and_gradients(window.inputs, window.targets, window.state)
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(trainer.state, state)
    trainer.state[:] = 0  # a copy
    np.testing.assert_array_equal(trainer.state, state)
    trainer.state = None
    assert trainer.state is None


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 2, 9), (2, 9), (9,), ()])
def test_refuses_a_state_of_another_shape(backend: str, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="state has shape"):
        make(backend).state = np.zeros(shape)


def test_what_the_kernels_rely_on_cannot_be_replaced():
    trainer = make("numpy")
    with pytest.raises(AttributeError):
        trainer.optimizer = "adam"
    for learning_rate in (float("nan"), 0, -1):
        with pytest.raises(ValueError, match="learning_rate="):
            trainer.learning_rate = learning_rate


def test_counts_may_be_numpy_s(backend: str):
    losses = make(backend).steps([[0], [1], [2]], np.uint8(1), passes=np.uint8(200))
    assert len(losses) == 400


# ---- Averages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_average_is_pytorch_s(backend: str, decay: float, cell: str):
    """The averages agree over ten updates, in native calls of any number of windows."""
    torch = pytest.importorskip("torch")
    network = Network(6, 9, cell=cell, dtype="float64", backend=backend, rng=0)
    trainer = Trainer(network, learning_rate=0.05, averaging=decay)
    single = Trainer(copy.deepcopy(network), learning_rate=0.05)
    streams = np.random.default_rng(0).integers(0, 6, (51, 3))
    theirs = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(network.flat))])
    averaged = torch.optim.swa_utils.AveragedModel(
        theirs, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    )
    for s in range(0, 50, 5):
        single.step(streams[s : s + 5], streams[s + 1 : s + 6])
        with torch.no_grad():
            theirs[0].copy_(torch.tensor(single.network.flat))
        averaged.update_parameters(theirs)
    for some in (slice(0, 6), slice(5, 31), slice(30, 51)):
        trainer.steps(streams[some], 5)
    assert trainer.updates == 10
    assert_close(trainer.averaged_network.flat, averaged.module[0].detach(), 1e-12)
    assert_close(network.flat, single.network.flat, 1e-12)


def test_the_averaged_network_is_a_network(backend: str):
    trainer = make(backend, averaging=0.9)
    averaged = trainer.averaged_network
    window = Window.random(7, 3, 6, 9)
    before = trainer.network.losses(window.inputs, window.targets)[0]
    np.testing.assert_array_equal(averaged.flat, trainer.network.flat)  # before any update
    np.testing.assert_array_equal(averaged.losses(window.inputs, window.targets)[0], before)
    trainer.step(window.inputs, window.targets)
    np.testing.assert_array_equal(averaged.flat, trainer.network.flat)  # the first update sets it
    first = averaged.flat.copy()
    trainer.step(window.inputs, window.targets)
    assert_close(averaged.flat, 0.9 * first + 0.1 * trainer.network.flat, 1e-15)
    assert repr(averaged) == repr(trainer.network)
    found, expected = (net.losses(window.inputs, window.targets)[0] for net in (averaged, trainer.network))
    assert found.sum() != expected.sum()
    assert pickle.loads(pickle.dumps(averaged)).flat.tobytes() == averaged.flat.tobytes()


def test_averaging_changes_no_parameter(backend: str):
    streams = np.random.default_rng(0).integers(0, 6, (51, 3))
    plain, averaging = make(backend), make(backend, averaging=0.9)
    np.testing.assert_array_equal(plain.steps(streams, 7), averaging.steps(streams, 7))
    np.testing.assert_array_equal(plain.network.flat, averaging.network.flat)
    with pytest.raises(ValueError, match="averaging=None keeps no average"):
        _ = plain.averaged_network


def test_a_divergence_leaves_the_average_as_it_was(backend: str):
    trainer = make(backend, averaging=0.5)
    streams = np.random.default_rng(0).integers(0, 6, (31, 3))
    trainer.steps(streams, 5)
    before = trainer.averaged_network.flat.copy()
    trainer.network.flat[:] = np.nan
    with pytest.raises(DivergenceError):
        trainer.steps(streams, 5)
    np.testing.assert_array_equal(trainer.averaged_network.flat, before)


# ---- Cells -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_many_windows_of_every_cell_match_the_reference(compiled: str, cell: str):
    streams = np.random.default_rng(1).integers(0, 6, (100, 3))
    options = {"num_layers": 2, "embedding_size": 9, "tied": True, "dropout": 0.2, **CELLS[cell]}
    expected, actual = (
        Trainer(
            draw_parameters(Network(6, 9, dtype="float64", backend=backend, **options)),
            learning_rate=0.01,
            averaging=0.9,
            clip_norm=1.0,
            reduction="mean",
            dropout_seed=5,
        )
        for backend in ("numpy", compiled)
    )
    assert_close(actual.steps(streams, 7), expected.steps(streams, 7), 1e-9)
    assert_close(actual.network.flat, expected.network.flat, 1e-9)
    assert_close(actual.averaged_network.flat, expected.averaged_network.flat, 1e-9)
    for found, wanted in zip(parts_of(actual.state), parts_of(expected.state), strict=True):
        assert_close(found, wanted, 1e-9)


def test_the_state_of_an_lstm_may_be_read_and_set(backend: str):
    network = draw_parameters(Network(6, 9, cell="lstm", num_layers=2, dtype="float64", backend=backend))
    trainer = Trainer(network, optimizer="sgd", learning_rate=1e-300)
    window = Window.of(network, 5, 2)
    trainer.state = window.state
    loss = trainer.step(window.inputs, window.targets)
    expected, _, state = network.loss_and_gradients(window.inputs, window.targets, window.state)
    assert loss == pytest.approx(expected, rel=1e-12)
    for part, wanted in zip(trainer.state, state, strict=True):
        np.testing.assert_array_equal(part, wanted)
        part[:] = 0  # a copy
    for part, wanted in zip(trainer.state, state, strict=True):
        np.testing.assert_array_equal(part, wanted)


def test_repr_says_what_it_does():
    assert "learning_rate=0.05" in repr(make("numpy"))
    assert "0 updates done" in repr(make("numpy"))
