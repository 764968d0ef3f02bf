"""Truncated BPTT: windows, carried state, divergence, and what a trainer refuses."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Window, assert_close, flatten
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn import DivergenceError, Network, Trainer
from fastrnn.trainer import Pace


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
    assert together.gradient_norm == one_by_one.gradient_norm  # of the last update that was done


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

    def call(most: int) -> None:
        pace.call(lambda count: asked.append(count) or np.empty(count), most)

    for most in (1000, 1000, 1000, 3):
        call(most)
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
    for rate in (float("nan"), 0, -1):
        with pytest.raises(ValueError, match="learning_rate="):
            trainer.learning_rate = rate


def test_counts_may_be_numpy_s(backend: str):
    losses = make(backend).steps([[0], [1], [2]], np.uint8(1), passes=np.uint8(200))
    assert len(losses) == 400


def test_repr_says_what_it_does():
    assert "learning_rate=0.05" in repr(make("numpy"))
    assert "0 updates done" in repr(make("numpy"))
