"""Training recipes: every setting of `fastrnn.train`, checked, and the presets that name some.

A preset is a system that people know, reproduced exactly. The default recipe is our own.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from fastrnn.core import checks
from fastrnn.core.cells import ACTIVATIONS, CELLS
from fastrnn.core.constants import REDUCTIONS
from fastrnn.core.layout import Shape
from fastrnn.network.initialization import check_initialization
from fastrnn.network.network import checked_shape
from fastrnn.optimizers import SGD, Adagrad, Adam, Optimizer, RMSprop, get_optimizer
from fastrnn.schedules import Constant, Exponential, Linear, Schedule, get_schedule

#: The fewest symbols that are worth holding out; with fewer, none are unless `validation` says so.
LEAST_TO_HOLD_OUT = 20

#: The updates of plain ``train(text)``: so many passes over the text and so many more, up to a most. Found by
#: trying texts of 600 to a million symbols: with many more, the validation loss of a short text rises again.
PASSES, MORE_UPDATES, MOST_UPDATES = 32, 200, 5000

#: The records that a training makes by default, about, and the fewest and most updates between two.
RECORDS, LEAST_BETWEEN, MOST_BETWEEN = 16, 10, 250

#: Of a short text the best weights come early: records are not further apart than so many passes, or updates.
PASSES_BETWEEN, SHORT_BETWEEN = 4, 50

#: Stands for a setting that depends on the text.
AUTO = "auto"


Check = Callable[[str, Any], Any]


def _one_of(names: Iterable[str]) -> Check:
    return lambda name, value: checks.one_of(name, value, names)


def _or_none(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _part(name: str, value: Any) -> float:
    return checks.part_of_one(name, value, zero=True)


def _or_auto(check: Check) -> Check:
    return lambda name, value: AUTO if isinstance(value, str) and value == AUTO else check(name, value)


#: Which weights a model has: the best ones by the validation loss, or the last ones.
KEEPS = ("best", "last")

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
    "steps": _or_auto(_or_none(checks.whole_number)),
    "epochs": _or_none(checks.whole_number),
    "time_limit": _or_none(checks.real_number),
    "validation": _or_none(_part),
    "split": _one_of(SPLITS),
    "shuffle": checks.flag,
    "keep": _one_of(KEEPS),
    "log_every": _or_auto(checks.whole_number),
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
        When training ends: after so many updates, passes over the text, or seconds. ``steps="auto"`` is 200
        updates and 32 passes, at most 5,000 updates.
    validation
        The part of the text that is held out; ``None`` is a tenth, or nothing where that has less than 20
        symbols.
    split
        Where that part is: ``"end"``, of the text, or ``"rows"``, of each row of a batch, in whole windows,
        as char-rnn has it.
    shuffle
        Whether documents are trained on, and held out, in an order that is drawn.
    keep
        ``"best"``: the model has the weights that had the least validation loss, where a part is held out.
        ``"last"``: the last ones.
    carry_state
        Whether the state is carried from one pass to the next.
    drop_last
        Whether a pass leaves out what is left at its end, as min-char-rnn does: it asks for a whole
        window and one symbol beyond the last target.
    record_last
        Whether the last update has a record if it is not due: the programs that presets reproduce print none.
    log_every
        Updates between the records of the history; ``"auto"`` makes about 16 records.
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
    steps: int | str | None = AUTO
    epochs: int | None = None
    time_limit: float | None = None
    validation: float | None = None
    split: str = "end"
    shuffle: bool = True
    keep: str = "best"
    carry_state: bool = False
    drop_last: bool = False
    record_last: bool = True
    log_every: int | str = AUTO

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

    def fitted(self, T: int, B: int, windows: int) -> Recipe:
        """The recipe for a text that has so many windows of T steps and B rows: nothing in it is "auto"."""
        steps = min(MOST_UPDATES, MORE_UPDATES + PASSES * windows) if self.steps == AUTO else self.steps
        updates = steps if self.epochs is None else self.epochs * windows
        log_every = self.log_every
        if log_every == AUTO:
            most = min(MOST_BETWEEN, max(SHORT_BETWEEN, PASSES_BETWEEN * windows))
            some = most if updates is None else cast("int", updates) // RECORDS
            log_every = max(LEAST_BETWEEN, min(most, some))
        return replace(self, seq_length=T, batch_size=B, steps=steps, log_every=log_every)

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
        shuffle=False,
        keep="last",
        carry_state=True,
        record_last=False,
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
        shuffle=False,
        keep="last",
        drop_last=True,
        record_last=False,
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
        shuffle=False,
        keep="last",
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
    is_number = isinstance(rng, numbers.Integral) and not isinstance(rng, bool)
    if preset == "scratch" and (rng is None or is_number):
        return np.random.RandomState(42 if rng is None else checks.whole_number("rng", rng, minimum=0))
    return checks.random_generator(rng)
