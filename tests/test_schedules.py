"""Learning-rate schedules are compared with PyTorch's, at extreme settings and in a training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers import assert_close

import fastrnn
from fastrnn import schedules
from fastrnn.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    Linear,
    Plateau,
    Progress,
    Schedule,
    Step,
    get_schedule,
)

#: The number of all updates, and of those in an epoch.
STEPS, EPOCH = 1000, 7

TEXT = "the quick brown fox jumps over the lazy dog. " * 20


def progress(steps: int = STEPS, losses: Sequence[float] = ()) -> Progress:
    """The progress before each update of a whole training."""
    updates = np.arange(steps)
    return Progress(updates, updates / steps, updates // EPOCH, losses)


def theirs(make: Any, steps: int, losses: Sequence[float] | None = None) -> list[float]:
    """The factors of a PyTorch scheduler before each of ``steps`` steps."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the schedule does steps without steps of the optimizer
        scheduler = make(torch.optim.lr_scheduler, optimizer)
        factors = []
        for step in range(steps):
            factors.append(optimizer.param_groups[0]["lr"])
            scheduler.step(*([] if losses is None else [losses[step]]))
    return factors


# ---- Against PyTorch and formulas ----------------------------------------------------------------------


def test_constant():
    np.testing.assert_array_equal(Constant().factors(progress()), 1)


def test_linear():
    linear = Linear().factors(progress())
    updates = np.arange(1000.0)
    np.testing.assert_array_equal(linear, np.minimum(1, (updates + 1) / 100) * (1 - updates / 1000))
    assert linear[0] == 0.01
    assert linear[99] == 1 - 0.099
    assert linear.argmax() == 99
    assert (np.diff(linear[99:]) < 0).all()
    assert linear[-1] == pytest.approx(0.001)


@pytest.mark.parametrize("schedule", [Step(), Step(step_size=1, gamma=0.7), Step(step_size=3)], ids=repr)
def test_step_is_pytorch_s(schedule: Step):
    expected = theirs(lambda kinds, o: kinds.StepLR(o, schedule.step_size, schedule.gamma), 143)
    assert_close(schedule.factors(progress()), np.repeat(expected, EPOCH)[:STEPS], 1e-14)


@pytest.mark.parametrize("gamma", [0.97, 0.5, 1.0])
def test_exponential_is_pytorch_s(gamma: float):
    expected = theirs(lambda kinds, o: kinds.ExponentialLR(o, gamma), 143)
    assert_close(Exponential(gamma).factors(progress()), np.repeat(expected, EPOCH)[:STEPS], 1e-14)


def test_exponential_after_ten_epochs_is_char_rnn_s():
    """char-rnn multiplies the learning rate after each epoch, from the tenth on."""
    rate, expected = 1.0, []
    for epoch in range(1, 144):
        expected += [rate] * EPOCH
        rate *= 0.97 if epoch >= 10 else 1
    assert_close(Exponential(after=10).factors(progress()), expected[:STEPS], 1e-14)


@pytest.mark.parametrize("steps", [101, 102, 137, 1000])
@pytest.mark.parametrize(
    ("warmup", "final"), [(0, 0.0), (1, 0.0), (2, 0.3), (100, 0.0), (100, 0.1), (7, 1.0)]
)
def test_cosine_is_pytorch_s_behind_a_warm_up(warmup: int, final: float, steps: int):
    def make(kinds: Any, optimizer: Any) -> Any:
        cosine = kinds.CosineAnnealingLR(optimizer, steps - warmup, eta_min=final)
        if warmup < 2:
            return cosine
        rise = kinds.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
        return kinds.SequentialLR(optimizer, [rise, cosine], [warmup])

    # a warm-up of one update has the full learning rate
    expected = [1, *theirs(make, steps - 1)] if warmup == 1 else theirs(make, steps)
    actual = Cosine(warmup, final).factors(progress(steps))
    assert_close(actual, expected, 1e-12)
    assert actual.min() >= 0
    assert actual.max() <= 1


LOSSES = np.round(2 + np.random.default_rng(0).random(200) / (1 + np.arange(200) // 30), 2)


@pytest.mark.parametrize(
    "schedule",
    [
        Plateau(),
        Plateau(patience=0),
        Plateau(patience=2, factor=0.5, cooldown=3),
        Plateau(patience=1, threshold=0.1, min_factor=0.02),
        Plateau(patience=3, threshold=0.0, cooldown=1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("losses", [LOSSES, LOSSES[::-1], np.ones(60), np.zeros(60)])
def test_plateau_is_pytorch_s(schedule: Plateau, losses: Any):
    settings = {**vars(schedule), "min_lr": schedule.min_factor}
    del settings["min_factor"]
    expected = theirs(lambda kinds, o: kinds.ReduceLROnPlateau(o, eps=0, **settings), len(losses), losses)
    actual = [schedule.factors(progress(1, losses[:n].tolist()))[0] for n in range(len(losses))]
    assert_close(actual, expected, 1e-14)
    if schedule.patience < 3:
        assert actual[-1] < 1


# ---- Extreme settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCHEDULES.values())
@pytest.mark.parametrize("steps", [1, 2, 99, 100, 101])
def test_short_trainings_have_factors_from_zero_to_one(kind: type[Schedule], steps: int):
    factors = kind().factors(progress(steps))
    assert factors.shape == (steps,)
    assert factors.dtype == np.float64
    assert ((factors > 0) & (factors <= 1)).all()


@pytest.mark.parametrize("kind", SCHEDULES.values())
def test_factors_do_not_depend_on_the_chunks(kind: type[Schedule]):
    whole, schedule = progress(), kind()
    parts = [
        Progress(whole.updates[i : i + 33], whole.fraction[i : i + 33], whole.epochs[i : i + 33])
        for i in range(0, STEPS, 33)
    ]
    expected = schedule.factors(whole)
    np.testing.assert_array_equal(np.concatenate([schedule.factors(part) for part in parts]), expected)


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Cosine(warmup=0), Cosine(warmup=5)], ids=repr)
@pytest.mark.parametrize("fraction", [0.0, 1e-300, 0.5, 1.0])
def test_a_time_limit_may_have_come_to_any_fraction(schedule: Schedule, fraction: float):
    """All updates of a native call have the same ``fraction``, for any number of updates."""
    updates = np.arange(200)
    factors = schedule.factors(Progress(updates, np.full(200, fraction), updates // EPOCH))
    assert ((factors >= 0) & (factors <= 1)).all()


def test_linear_without_warm_up_begins_at_one():
    assert Linear(warmup=0).factors(progress())[0] == 1
    assert Cosine(warmup=0).factors(progress())[0] == 1


def test_a_cosine_ends_at_its_final_factor():
    end = Progress(np.array([STEPS]), np.array([1.0]), np.array([0]))
    assert Cosine().factors(end)[0] == 0
    assert Cosine(final=0.25).factors(end)[0] == 0.25


def test_steps_and_powers_fade_to_zero():
    late = Progress(np.array([0]), np.array([0.5]), np.array([10**12]))
    assert Step().factors(late)[0] == 0
    assert Exponential().factors(late)[0] == 0
    assert Exponential(gamma=1.0).factors(late)[0] == 1


def test_a_plateau_stays_above_its_least_factor():
    assert Plateau(patience=0, min_factor=1e-3).factors(progress(1, [1.0] * 100))[0] == 1e-3
    assert 0 <= Plateau(patience=0).factors(progress(1, [1.0] * 1000))[0] < 1e-300


# ---- In a training ---------------------------------------------------------------------------------------


class Rates:
    """Records the learning rates of a training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[float]] = []
        real_advance = fastrnn.Trainer.advance

        def advance(trainer: Any, batch: Any, T: int, first: int, learning_rates: Any) -> Any:
            self.calls.append(learning_rates.tolist())
            return real_advance(trainer, batch, T, first, learning_rates)

        monkeypatch.setattr(fastrnn.Trainer, "advance", advance)

    @property
    def all(self) -> list[float]:
        return [rate for call in self.calls for rate in call]


def train(schedule: str | Schedule, **settings: Any) -> fastrnn.Model:
    sizes = {"hidden_size": 8, "seq_length": 10, "batch_size": 4, "steps": 120, "backend": "numpy"}
    return fastrnn.train(TEXT, schedule=schedule, rng=0, progress=False, **{**sizes, **settings})


@pytest.mark.parametrize("name", SCHEDULES)
def test_training_follows_a_schedule(name: str, monkeypatch: pytest.MonkeyPatch):
    rates = Rates(monkeypatch)
    model = train(name, learning_rate=0.5, log_every=1000, validation=0.0)
    updates, windows = np.arange(120), 23  # of 899 transitions in 4 rows
    expected = get_schedule(name).factors(Progress(updates, updates / 120, updates // windows))
    np.testing.assert_array_equal(rates.all, 0.5 * expected)
    assert model.settings["schedule"] == SCHEDULES[name]().describe()
    assert fastrnn.Model.from_bytes(model.to_bytes()).settings == model.settings


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_a_plateau_changes_the_rate_only_at_a_record(validation: float, monkeypatch: pytest.MonkeyPatch):
    schedule = Plateau(patience=0, threshold=0.3, factor=0.5)
    found = set()
    for seconds in (0, 0.01, 10):
        with monkeypatch.context() as patch:
            patch.setattr("fastrnn.training.pace.CALL_SECONDS", seconds)
            rates = Rates(patch)
            model = train(schedule, learning_rate=0.01, log_every=7, validation=validation)
        found.add((tuple(rates.all), model.to_bytes()))
        key = "validation_loss" if validation else "loss"
        losses = [record[key] for record in model.history]
        for update, rate in enumerate(rates.all):
            recorded = losses[: -(-update // 7)]  # after updates 0, 7, 14 …
            assert rate == 0.01 * schedule.factors(progress(1, recorded))[0]
        assert rates.all[-1] < 0.01 / 2**4
    assert len(found) == 1


# ---- Settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCHEDULES.values())
def test_describes_itself_as_plain_data(kind: type[Schedule]):
    described = kind().describe()
    assert SCHEDULES[described.pop("name")](**described) == kind()
    assert all(type(value) in (int, float) for value in described.values())


def test_settings_may_be_numpy_s_numbers():
    schedule = Plateau(np.float32(0.5), np.int64(3), np.float64(0.25))
    assert schedule.describe() == Plateau(0.5, 3, 0.25).describe()
    assert type(schedule.patience) is int


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: get_schedule("cyclic"),
            ValueError,
            "schedule='cyclic' is not known; it is one of",
        ),
        (lambda: get_schedule(0.5), ValueError, "schedule=0.5 is not known"),
        (lambda: get_schedule(Cosine), ValueError, "is not known"),
        (lambda: get_schedule(type("Mine", (Constant,), {})()), TypeError, "must be one of fastrnn's"),
        (lambda: Linear(warmup=-1), ValueError, "warmup=-1 must be at least 0"),
        (lambda: Linear(warmup=1.5), TypeError, "warmup=1.5 must be a whole number"),
        (lambda: Step(step_size=0), ValueError, "step_size=0 must be at least 1"),
        (lambda: Step(gamma=0), ValueError, "gamma=0 must be a finite number above zero"),
        (lambda: Step(gamma=1.5), ValueError, "gamma=1.5 must be at most one"),
        (lambda: Exponential(gamma=float("nan")), ValueError, "gamma=nan must be"),
        (lambda: Exponential(after=0), ValueError, "after=0 must be at least 1"),
        (lambda: Cosine(warmup=True), TypeError, "warmup=True must be a whole number"),
        (lambda: Cosine(final=-0.1), ValueError, "final=-0.1 must be"),
        (lambda: Cosine(final=2), ValueError, "final=2 must be at most one"),
        (lambda: Plateau(factor=1), ValueError, "factor=1 must be below one"),
        (lambda: Plateau(patience=-1), ValueError, "patience=-1 must be at least 0"),
        (lambda: Plateau(threshold=1), ValueError, "threshold=1 must be below one"),
        (lambda: Plateau(cooldown="0"), TypeError, "cooldown='0' must be"),
        (lambda: Plateau(min_factor=1.5), ValueError, "min_factor=1.5 must be at most one"),
    ],
)
def test_refuses_bad_settings(make: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        make()


def test_the_module_is_public():
    assert fastrnn.schedules is schedules
    assert fastrnn.schedules.Cosine is Cosine
