"""Optimizers are compared with the formulas, with PyTorch and between the backends."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Window, assert_close, flatten

from fastrnn import Network, Trainer, optimizers
from fastrnn.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

#: Each optimizer, and its tolerance after ten updates.
ALL = [
    (SGD(), 1e-10),
    (SGD(momentum=0.9), 1e-10),
    (SGD(momentum=0.7, nesterov=True), 1e-10),
    (Adagrad(), 1e-8),
    (Adagrad(initial_accumulator_value=1e-8, eps=0.0), 1e-8),
    (Adam(), 1e-10),
    (Adam(betas=(0.5, 0.9), eps=1e-3), 1e-10),
    (AdamW(), 1e-10),
    (AdamW(betas=(0.5, 0.9), weight_decay=0.8), 1e-10),
    (RMSprop(), 1e-10),
    (RMSprop(alpha=0.5, eps=1e-3), 1e-10),
]
SETTINGS = {"clip_value": 0.8, "clip_norm": 2.0}
IDS = [repr(optimizer) for optimizer, _ in ALL]


def test_every_optimizer_is_here():
    assert {type(optimizer) for optimizer, _ in ALL} == set(optimizers.OPTIMIZERS.values())


def learning_rate(optimizer: Optimizer) -> float:
    """A learning rate for small updates; RMSprop's first step is ten times as large in each weight."""
    return 0.005 if isinstance(optimizer, RMSprop) else 0.05


def ten_updates(backend: str, optimizer: Optimizer, dtype: str = "float64", **settings: object) -> Network:
    """A network after ten updates on windows with starts, masked targets and carried state."""
    network = Network(11, 13, dtype=dtype, backend=backend, rng=0)
    network.flat[:] = network.flat.astype(np.float32)  # the same weights in either precision
    settings = {**SETTINGS, "learning_rate": learning_rate(optimizer), **settings}
    trainer = Trainer(network, optimizer=optimizer, **settings)
    for seed in range(10):
        window = Window.random(7, 3, 11, 13, seed)
        trainer.step(window.inputs, window.targets, window.starts)
    return network


@pytest.mark.parametrize(("optimizer", "tolerance"), ALL, ids=IDS)
@pytest.mark.parametrize("reduction", ["sum", "mean", "batchmean"])
def test_ten_updates_match_the_reference(
    compiled: str, optimizer: Optimizer, tolerance: float, reduction: str
):
    expected = ten_updates("numpy", optimizer, reduction=reduction)
    actual = ten_updates(compiled, optimizer, reduction=reduction)
    assert_close(actual.flat, expected.flat, tolerance)


@pytest.mark.parametrize(
    "optimizer", [SGD(), SGD(momentum=0.5, nesterov=True), Adam(), AdamW(), RMSprop()], ids=repr
)
def test_ten_updates_in_float32_are_near_those_in_float64(backend: str, optimizer: Optimizer):
    exact = ten_updates("numpy", optimizer, "float64")
    assert_close(ten_updates(backend, optimizer, "float32").flat, exact.flat, 1e-3)


@pytest.mark.parametrize(("optimizer", "tolerance"), ALL, ids=IDS)
@pytest.mark.parametrize("clip_norm", [None, 2.0])
def test_matches_pytorch_s_optimizer(
    backend: str, optimizer: Optimizer, tolerance: float, clip_norm: float | None
):
    torch = pytest.importorskip("torch")
    network = Network(11, 13, dtype="float64", backend=backend, rng=0)
    chosen = learning_rate(optimizer)
    trainer = Trainer(network, optimizer=optimizer, learning_rate=chosen, clip_norm=clip_norm)
    parameter = torch.nn.Parameter(torch.tensor(network.flat.copy()))
    kind = getattr(torch.optim, type(optimizer).__name__, None)
    if kind is None:
        pytest.skip("PyTorch does not have this optimizer")
    theirs = kind([parameter], lr=chosen, **vars(optimizer))
    exact = Network(11, 13, dtype="float64", backend="numpy", rng=0)
    state = None
    for seed in range(10):
        window = Window.random(7, 3, 11, 13, seed)
        exact.flat[:] = parameter.detach().numpy()
        _, gradients, state = exact.loss_and_gradients(window.inputs, window.targets, state, window.starts)
        parameter.grad = torch.tensor(flatten(exact, gradients))
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([parameter], clip_norm)  # PyTorch divides by the norm + 1e-6
        theirs.step()
        trainer.step(window.inputs, window.targets, window.starts)
    assert_close(network.flat, parameter.detach(), tolerance if clip_norm is None else 1e-5)


@pytest.mark.parametrize("chunks", [[10], [1] * 10, [3, 7]])
def test_adam_is_the_paper_s_whatever_the_chunks(backend: str, chunks: list[int]):
    """Updates in native calls of any length are compared with Algorithm 1 of Kingma & Ba (2015)."""
    network = Network(5, 4, dtype="float64", backend=backend, rng=0)
    trainer = Trainer(network, optimizer="adam", learning_rate=0.01)
    exact = Network(5, 4, dtype="float64", backend="numpy", rng=0)
    streams = np.random.default_rng(0).integers(0, 5, (71, 2))
    m = v = np.zeros_like(exact.flat)
    state = None
    for t in range(1, 11):
        window = slice(7 * (t - 1), 7 * t)
        _, gradients, state = exact.loss_and_gradients(streams[:-1][window], streams[1:][window], state)
        g = flatten(exact, gradients)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        exact.flat[:] -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    done = 0
    for chunk in chunks:
        trainer.steps(streams[7 * done : 7 * (done + chunk) + 1], 7)
        done += chunk
    assert_close(network.flat, exact.flat, 1e-10)


def test_clips_by_value_then_by_norm(backend: str):
    network = Network(5, 4, dtype="float64", backend=backend, rng=0)
    window = Window.random(6, 2, 5, 4)
    before = network.flat.copy()
    _, gradients, _ = network.loss_and_gradients(window.inputs, window.targets, None, window.starts)
    clipped = np.clip(flatten(network, gradients), -0.3, 0.3)
    clipped *= 0.5 / np.linalg.norm(clipped)
    trainer = Trainer(network, optimizer="sgd", learning_rate=0.1, clip_value=0.3, clip_norm=0.5)
    trainer.step(window.inputs, window.targets, window.starts)
    assert_close(network.flat, before - 0.1 * clipped, 1e-14)


def test_mean_divides_by_the_targets_that_count(backend: str):
    window = Window.random(6, 2, 5, 4)
    count = np.count_nonzero(window.targets >= 0)
    assert count < window.targets.size
    moved = {}
    for reduction, learning_rate in (("sum", 0.1 / count), ("mean", 0.1)):
        network = Network(5, 4, dtype="float64", backend=backend, rng=0)
        trainer = Trainer(network, optimizer="sgd", learning_rate=learning_rate, reduction=reduction)
        trainer.step(window.inputs, window.targets)
        moved[reduction] = network.flat
    assert_close(moved["mean"], moved["sum"], 1e-14)


def test_a_window_without_targets_changes_nothing(backend: str):
    network = Network(5, 4, dtype="float64", backend=backend, rng=0)
    before = network.flat.copy()
    trainer = Trainer(network, optimizer="sgd", learning_rate=0.1, reduction="mean")
    assert trainer.step([[0], [1]], [[-1], [-1]]) == 0
    np.testing.assert_array_equal(network.flat, before)


def test_batchmean_divides_by_the_rows(backend: str):
    window = Window.random(6, 4, 5, 4)
    moved = {}
    for reduction, learning_rate in (("sum", 0.1 / 4), ("batchmean", 0.1)):
        network = Network(5, 4, dtype="float64", backend=backend, rng=0)
        trainer = Trainer(network, optimizer="sgd", learning_rate=learning_rate, reduction=reduction)
        trainer.step(window.inputs, window.targets)
        moved[reduction] = network.flat
    assert_close(moved["batchmean"], moved["sum"], 1e-14)


def test_sgd_keeps_moments_only_for_momentum(backend: str):
    for optimizer, moments in ((SGD(), 0), (SGD(momentum=0.5), 1), (SGD(momentum=0.5, nesterov=True), 1)):
        assert optimizer.moments == moments
        trainer = Trainer(Network(5, 4, backend=backend, rng=0), optimizer=optimizer)
        assert trainer._moments.shape == (moments, trainer.network.flat.size)


def test_adamw_without_decay_is_adam_to_the_bit(compiled: str):
    adam = ten_updates(compiled, Adam(), "float32")
    adamw = ten_updates(compiled, AdamW(weight_decay=0.0), "float32")
    np.testing.assert_array_equal(adamw.flat, adam.flat)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Adam(betas=(0.9, 1.0)), ValueError, "betas=1.0 must be below one"),
        (lambda: Adam(betas=(-0.1, 0.9)), ValueError, "betas=-0.1 must be"),
        (lambda: Adam(betas=0.9), ValueError, "betas=0.9 must be two numbers"),
        (lambda: Adam(eps=0), ValueError, "eps=0 must be a finite number above zero"),
        (lambda: Adam(eps=float("nan")), ValueError, "eps=nan must be"),
        (lambda: Adagrad(eps=-1), ValueError, "eps=-1 must be"),
        (lambda: Adagrad(eps=0), ValueError, "eps=0 needs an initial_accumulator_value"),
        (lambda: Adagrad(initial_accumulator_value=np.inf), ValueError, "initial_accumulator_value=inf"),
        (lambda: Adagrad(eps="1"), TypeError, "eps='1' must be"),
        (lambda: SGD(momentum=1), ValueError, "momentum=1 must be below one"),
        (lambda: SGD(momentum=-0.5), ValueError, "momentum=-0.5 must be"),
        (lambda: SGD(momentum="0.9"), TypeError, "momentum='0.9' must be"),
        (lambda: SGD(nesterov=True), ValueError, "nesterov=True needs a momentum above zero"),
        (lambda: SGD(momentum=0.9, nesterov=1), TypeError, "nesterov=1 must be True or False"),
        (lambda: RMSprop(alpha=1.0), ValueError, "alpha=1.0 must be below one"),
        (lambda: RMSprop(eps=0.0), ValueError, "eps=0.0 must be a finite number above zero"),
        (lambda: AdamW(weight_decay=-1), ValueError, "weight_decay=-1 must be"),
        (lambda: AdamW(betas=(0.9,)), ValueError, "betas=.* must be two numbers"),
        (lambda: optimizers.get_optimizer(Optimizer()), TypeError, "must be one of fastrnn's"),
        (lambda: optimizers.get_optimizer("newton"), ValueError, "optimizer='newton' is not known"),
    ],
)
def test_refuses_bad_settings(make, error: type, message: str):
    with pytest.raises(error, match=message):
        make()
