"""Training recipes: every setting of `fastrnn.train`, checked, and the presets that name some.

A preset is a system that people know, reproduced exactly. The default recipe is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.initialization import check_initialization
from fastrnn.layout import Shape
from fastrnn.network import ACTIVATIONS, CELLS, checked_shape
from fastrnn.optimizers import SGD, Adagrad, Adam, Optimizer, RMSprop, get_optimizer
from fastrnn.schedules import Constant, Exponential, Linear, Schedule, get_schedule
from fastrnn.trainer import REDUCTIONS

#: The shortest text, in symbols, of which a part is held out unless `validation` says so.
LEAST_TO_HOLD_OUT = 10_000


Check = Callable[[str, Any], Any]


def _one_of(names: Iterable[str]) -> Check:
    return lambda name, value: checks.one_of(name, value, names)


def _or_none(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _part(name: str, value: Any) -> float:
    return checks.part_of_one(name, value, zero=True)


#: Where the held-out part is: at the end of the text, or at the end of each row of a batch.
SPLITS = ("end", "rows")

#: What each setting of a recipe must be.
CHECKS: dict[str, Check] = {
    "cell": _one_of(CELLS),
    "activation": _one_of(ACTIVATIONS),
    "hidden_size": checks.whole_number,
    "num_layers": checks.whole_number,
    "embedding_size": _or_none(checks.whole_number),
    "tied": checks.flag,
    "dropout": _part,
    "dtype": lambda _, value: checks.real_dtype(value).name,
    "initialization": _or_none(lambda _, value: check_initialization(value)),
    "seq_length": _or_none(checks.whole_number),
    "batch_size": checks.whole_number,
    "optimizer": lambda _, value: get_optimizer(value),
    "learning_rate": checks.real_number,
    "schedule": lambda _, value: get_schedule(value),
    "clip_value": _or_none(checks.real_number),
    "clip_norm": _or_none(checks.real_number),
    "reduction": _one_of(REDUCTIONS),
    "averaging": _or_none(_part),
    "steps": _or_none(checks.whole_number),
    "epochs": _or_none(checks.whole_number),
    "time_limit": _or_none(checks.real_number),
    "validation": _or_none(_part),
    "split": _one_of(SPLITS),
    "log_every": checks.whole_number,
}


@dataclass(frozen=True)
class Recipe:
    """All settings of one training run; the defaults are those of plain ``train(text)``.

    Attributes
    ----------
    cell, activation, hidden_size, num_layers, embedding_size, tied, dropout, dtype, initialization
        The network's; see `fastrnn.Network`.
    seq_length, batch_size
        T and B of a window, before they shrink to fit a short text. A ``seq_length`` of ``None`` is the
        whole text in one window.
    optimizer, learning_rate, schedule, clip_value, clip_norm, reduction
        The update's; see `fastrnn.Trainer` and `fastrnn.schedules`.
    averaging
        How much of their average the parameters' exponential mean keeps at each update: then the model has
        the average. ``None`` is none; see `fastrnn.Trainer`.
    steps, epochs, time_limit
        When training ends: after so many updates, passes over the text, or seconds.
    validation
        The part of the text, its end, that is held out; ``None`` is a tenth of a text of at least
        10,000 symbols, and nothing of a shorter one.
    split
        Where that part is: ``"end"``, of the text, or ``"rows"``, of each row of a batch, in whole windows,
        as char-rnn has it.
    carry_state
        Whether the state is carried from one pass to the next.
    drop_last
        Whether a pass leaves out what is left at its end, as min-char-rnn does: it asks for a whole
        window and one symbol beyond the last target.
    log_every
        Updates between the records of the history.
    """

    cell: str = "rnn"
    activation: str = "tanh"
    hidden_size: int = 128
    num_layers: int = 1
    embedding_size: int | None = None
    tied: bool = False
    dropout: float = 0.0
    dtype: str = "float32"
    initialization: str | None = None
    seq_length: int | None = 64
    batch_size: int = 32
    optimizer: Optimizer = Adam()  # noqa: RUF009  (it is frozen)
    learning_rate: float = 0.008
    schedule: Schedule = Linear()  # noqa: RUF009
    clip_value: float | None = None
    clip_norm: float | None = 1.0
    reduction: str = "mean"
    averaging: float | None = None
    steps: int | None = 5000
    epochs: int | None = None
    time_limit: float | None = None
    validation: float | None = None
    split: str = "end"
    carry_state: bool = False
    drop_last: bool = False
    log_every: int = 250

    def __post_init__(self) -> None:
        for name, check in CHECKS.items():
            # what was checked is a plain int, float or str, whatever was given
            object.__setattr__(self, name, check(name, getattr(self, name)))
        self.shape(1)
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps={self.steps!r} and epochs={self.epochs!r} exclude each other: give one")
        if self.steps is None and self.epochs is None and self.time_limit is None:
            raise ValueError("training needs an end: give steps, epochs or time_limit")

    def shape(self, V: int) -> Shape:
        """The shape of its network over V symbols."""
        return checked_shape(
            V, self.hidden_size, self.cell, self.activation, self.num_layers, self.embedding_size, self.tied
        )

    def replaced(self, **changes: Any) -> Recipe:
        """A copy with some settings changed; a new end of training replaces the old one."""
        if any(changes.get(name) is not None for name in ("steps", "epochs", "time_limit")):
            changes = {"steps": None, "epochs": None, "time_limit": None, **changes}
        return replace(self, **changes)

    def describe(self) -> dict[str, Any]:
        """The settings as plain data, for the model file."""
        plain = {"optimizer": self.optimizer.describe(), "schedule": self.schedule.describe()}
        return {**vars(self), **plain}


#: The recipes by name.
PRESETS: dict[str, Recipe] = {
    # The script that fastrnn grew from: 2,000 updates on the one window of "hello".
    "scratch": Recipe(
        hidden_size=16,
        dtype="float64",
        initialization="normal",
        seq_length=None,
        batch_size=1,
        optimizer=SGD(),
        learning_rate=0.1,
        schedule=Constant(),
        clip_value=5.0,
        clip_norm=None,
        reduction="sum",
        steps=2000,
        validation=0.0,
        carry_state=True,
        log_every=200,
    ),
    # Karpathy's min-char-rnn.py (2015). It has no end of its own.
    "min-char-rnn": Recipe(
        hidden_size=100,
        dtype="float64",
        initialization="normal",
        seq_length=25,
        batch_size=1,
        optimizer=Adagrad(initial_accumulator_value=1e-8, eps=0.0),
        learning_rate=0.1,
        schedule=Constant(),
        clip_value=5.0,
        clip_norm=None,
        reduction="sum",
        steps=100_000,
        validation=0.0,
        drop_last=True,
        log_every=100,
    ),
    # Karpathy's char-rnn (2015) with the options that train.lua has: the state is carried from pass to pass,
    # and the rate decays after the tenth. It adds two biases where one is here, and its last target is the
    # text's first symbol, so that a text of just whole windows has one window more there. Its losses "at
    # iteration 1,000" are after 1,000 updates, and the record of step 1,000 here is after 1,001.
    "char-rnn": Recipe(
        cell="lstm",
        hidden_size=128,
        num_layers=2,
        initialization="uniform(0.08)",
        seq_length=50,
        batch_size=50,
        optimizer=RMSprop(alpha=0.95, eps=1e-8),
        learning_rate=2e-3,
        schedule=Exponential(gamma=0.97, after=10),
        clip_value=5.0,
        clip_norm=None,
        reduction="batchmean",
        steps=None,
        epochs=50,
        validation=0.05,
        split="rows",
        carry_state=True,
        log_every=1000,
    ),
}


def get_recipe(preset: str | None = None, **changes: Any) -> Recipe:
    """The recipe of a preset, or the default one, with some settings changed."""
    base = Recipe() if preset is None else PRESETS[checks.one_of("preset", preset, PRESETS)]
    return base.replaced(**changes)


def random_generator(preset: str | None, rng: Any) -> np.random.Generator | np.random.RandomState:
    """What ``rng`` stands for beside a preset.

    For scratch an int is a ``RandomState``, as in the seed's script, and ``None`` is its 42.
    """
    if preset == "scratch" and (rng is None or isinstance(rng, int)):
        return np.random.RandomState(42 if rng is None else checks.whole_number("rng", rng, minimum=0))
    return checks.random_generator(rng)
