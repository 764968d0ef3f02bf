"""Training configurations: the settings of `fastrnn.train` with their checks, and the presets.

A preset reproduces a well-known program exactly. The default configuration is fastrnn's own.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from fastrnn.core import checks
from fastrnn.core.constants import REDUCTIONS
from fastrnn.core.durations import seconds
from fastrnn.core.layout import parameter_layout
from fastrnn.inference.counts import MOST_SYMBOLS
from fastrnn.network import config
from fastrnn.network.config import Check, NetworkConfig
from fastrnn.network.initialization import check_initialization
from fastrnn.optimizers import SGD, Adagrad, Adam, Optimizer, RMSprop, get_optimizer
from fastrnn.schedules import Constant, Exponential, Linear, Schedule, get_schedule
from fastrnn.training import groups

#: The fewest symbols that are held out by default; if a tenth of the text has fewer, nothing is held out.
MIN_TO_HOLD_OUT = 20

#: The most updates of plain ``train(text)``: those of PASSES passes over the text and MORE_UPDATES more. With
#: many more, the validation loss of a short text rises again; docs/quality.md has the figures.
PASSES, MORE_UPDATES = 20, 200

#: About how many records a training makes by default, and the fewest and most updates between two.
RECORDS, MIN_BETWEEN, MAX_BETWEEN = 16, 10, 250

#: A short text has its best weights early, so the updates between two records are at most those of
#: PASSES_BETWEEN passes or, if that is more, SHORT_BETWEEN.
PASSES_BETWEEN, SHORT_BETWEEN = 4, 50

#: The share of the symbols that are shown as unknown, by default, if the vocabulary has an unknown symbol.
#: With a share of 0, 0.0005, 0.002, 0.01 and 0.05 and 1,500 updates on tinyshakespeare, known characters need
#: 2.351, 2.350, 2.353, 2.373 and 2.490 bits, and an unseen one 19.1, 11.8, 9.7, 7.1 and 4.4 bits. Without an
#: unknown symbol, known characters need 2.356.
UNKNOWN_SHARE = 0.002

#: The value of a setting that is chosen for the text; see `fastrnn.training.choice`.
AUTO = "auto"

#: The value of a learning rate that is found by short trainings; see `fastrnn.training.rate_search`.
SEARCH = "search"

#: The settings that are chosen before the windows are known.
CHOSEN = ("hidden_size", "embedding_size", "dropout", "learning_rate")


def _one_of(names: Iterable[str]) -> Check:
    return lambda name, value: checks.one_of(name, value, names)


def _or_none(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _fraction(name: str, value: Any) -> float:
    return checks.fraction(name, value, zero=True)


def _or_auto(check: Check) -> Check:
    return lambda name, value: AUTO if isinstance(value, str) and value == AUTO else check(name, value)


#: The weights that the model gets: those with the lowest validation loss, or the last ones.
KEEPS = ("best", "last")

#: The place of the held-out part: the end of the text, the end of each row of a batch, or documents at even
#: distances.
SPLITS = ("end", "rows", "every")

#: The setting ``validation`` if a text of its own is validated on.
OWN_TEXT = "text"


def _held_out(name: str, value: Any) -> float | str:
    return OWN_TEXT if isinstance(value, str) and value == OWN_TEXT else _fraction(name, value)


def _learning_rate(name: str, value: Any) -> float | str:
    if not isinstance(value, str):
        return checks.real_number(name, value)
    return checks.one_of(name, value, (AUTO, SEARCH))


#: What the weights of a model are multiplied by before it learns another text; see docs/performance.md.
INIT_SCALE = 0.5

#: The settings that end training; any of them replaces those of a preset.
ENDS = {"steps", "epochs", "time_limit"}

#: The check of each setting of a configuration.
SETTING_CHECKS: dict[str, Check] = {
    **{name: config.CHECKS[name] for name in config.OPTIONS},
    **{name: _or_auto(config.CHECKS[name]) for name in ("hidden_size", "embedding_size", "dropout")},
    "initialization": _or_none(lambda _, value: check_initialization(value)),
    "init": _or_none(checks.text),
    "init_scale": _or_none(lambda name, value: checks.fraction(name, value, one=True)),
    "seq_length": _or_none(checks.whole_number),
    "batch_size": checks.whole_number,
    "optimizer": lambda _, value: get_optimizer(value),
    "learning_rate": _learning_rate,
    "schedule": lambda _, value: get_schedule(value),
    "clip_value": _or_none(checks.real_number),
    "clip_norm": _or_none(checks.real_number),
    "reduction": _one_of(REDUCTIONS),
    "averaging": _or_none(_fraction),
    **groups.CHECKS,
    "steps": _or_auto(_or_none(checks.whole_number)),
    "epochs": _or_none(checks.whole_number),
    "time_limit": _or_none(seconds),
    "validation": _or_none(_held_out),
    "split": _one_of(SPLITS),
    "shuffle": checks.flag,
    "min_count": _or_none(checks.whole_number),
    "unknown_share": _or_none(_fraction),
    "keep": _one_of(KEEPS),
    "refit": checks.flag,
    "patience": _or_none(checks.whole_number),
    "count_order": lambda name, value: checks.whole_number(name, value, minimum=0, maximum=MOST_SYMBOLS),
    "count_memory": lambda name, value: checks.whole_number(name, value, minimum=10_000),
    "retries": lambda name, value: checks.whole_number(name, value, minimum=0),
    "log_every": _or_auto(checks.whole_number),
}


@dataclass(frozen=True)
class TrainingConfig:
    """All settings of one training run; the defaults are those of plain ``train(text)``.

    Attributes
    ----------
    cell, activation, hidden_size, num_layers, embedding_size, tied
        Settings of the network; see `fastrnn.Network`. ``"auto"``: chosen for the text.
    dropout, input_dropout, dtype, initialization
        More of them.
    init
        SHA-256 of the parameters of the model that training began with; ``None`` if it drew them.
    init_scale
        What these parameters were multiplied by, except the frozen ones.
    seq_length, batch_size
        T and B of a window, before they are reduced to fit a short text. A ``seq_length`` of ``None`` puts
        the whole text into one window.
    optimizer, learning_rate, schedule, clip_value, clip_norm, reduction
        Settings of the updates; see `fastrnn.Trainer` and `fastrnn.schedules`.
    averaging
        The decay of an exponential moving average of the parameters, which the model then gets; ``None``
        makes no average. See `fastrnn.Trainer`.
    freeze, learning_rate_factors, weight_decay_factors
        Names or patterns of parameters that are not trained, and factors of the learning rate and the weight
        decay of others; see `fastrnn.Trainer`.
    steps, epochs, time_limit
        When training ends: after this number of updates, passes over the text, or seconds; a time may also be
        a str such as ``"10m"``. ``steps="auto"`` is 200 updates and those of 20 passes, and at most those of
        about half a minute or, with a time limit, of the limit.
    validation
        The fraction of the text that is held out; ``None`` is a tenth, or nothing if a tenth has fewer than
        20 symbols or there are fewer than 10 documents. ``"text"``: a text of its own is validated on.
    split
        Which part is held out. ``"end"``: the end of the text. ``"rows"``: the end of each row of a batch, in
        whole windows, as in char-rnn. ``"every"``: documents at even distances, such as each tenth.
    shuffle
        Whether documents are put in a random order before a part is held out; with ``split="every"``, after
        it.
    min_count
        Characters that the training text has fewer times are shown to the network as one unknown symbol;
        ``None``: there is no such symbol.
    unknown_share
        The share of all other symbols that are shown as unknown too, drawn at random; ``None`` is 0.002 with
        a ``min_count``.
    keep
        ``"best"``: the model gets the weights with the lowest validation loss, if a part is held out.
        ``"last"``: it gets the last ones.
    refit
        Whether training goes on over the whole text when it has ended, from the weights that it keeps.
    patience
        Training ends when so many records in a row have brought no better validation loss; ``None`` never
        ends it so.
    count_order
        The longest context whose symbols are counted beside the network, or 0; see docs/adaptation.md.
    count_memory
        The most bytes of the counts.
    retries
        How often training that diverges goes back to its last good state, with a lower learning rate.
    carry_state
        Whether the state is carried from one pass to the next.
    drop_last
        Whether a pass leaves out an incomplete window at its end, as min-char-rnn does: a window there needs
        one symbol after its last target.
    record_last
        Whether the last update always has a record. The programs of some presets do not print one.
    log_every
        The number of updates from one record of the history to the next; ``"auto"`` makes about 16 records.
    """

    cell: str = "gru"
    activation: str = NetworkConfig.activation
    hidden_size: int | str = AUTO
    num_layers: int = NetworkConfig.num_layers
    embedding_size: int | str | None = AUTO
    tied: bool = NetworkConfig.tied
    dropout: float | str = AUTO
    input_dropout: float = NetworkConfig.input_dropout
    dtype: str = NetworkConfig.dtype
    initialization: str | None = None
    init: str | None = None
    init_scale: float | None = None
    seq_length: int | None = 64
    batch_size: int = 32
    optimizer: Optimizer = Adam()  # noqa: RUF009  (it is frozen)
    learning_rate: float | str = AUTO
    schedule: Schedule = Linear()  # noqa: RUF009
    clip_value: float | None = None
    clip_norm: float | None = 0.25
    reduction: str = "mean"
    averaging: float | None = None
    freeze: tuple[str, ...] = ()
    learning_rate_factors: dict[str, float] = field(default_factory=dict)
    weight_decay_factors: dict[str, float] = field(default_factory=dict)
    steps: int | str | None = AUTO
    epochs: int | None = None
    time_limit: float | str | None = None
    validation: float | str | None = None
    split: str = "end"
    shuffle: bool = True
    min_count: int | None = None
    unknown_share: float | None = None
    keep: str = "best"
    refit: bool = False
    patience: int | None = None
    count_order: int = 0
    count_memory: int = 64_000_000
    retries: int = 3
    carry_state: bool = False
    drop_last: bool = False
    record_last: bool = True
    log_every: int | str = AUTO

    def __post_init__(self) -> None:
        for name, check in SETTING_CHECKS.items():
            # a check returns a plain int, float or str, for NumPy's types too
            object.__setattr__(self, name, check(name, getattr(self, name)))
        own = groups.Groups(self.freeze, self.learning_rate_factors, self.weight_decay_factors)
        own.ranges(parameter_layout(self._possible_network().shape), self.optimizer)
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps={self.steps!r} and epochs={self.epochs!r} exclude each other: give one")
        if self.steps is None and self.epochs is None and self.time_limit is None:
            raise ValueError("training needs an end: give steps, epochs or time_limit")
        if self.refit and self.validation == 0:
            raise ValueError(
                "refit=True goes on over what was held out, and validation=0 holds out nothing: give a "
                "fraction too, such as validation=0.1"
            )
        if self.init is None and self.init_scale is not None:
            raise ValueError(f"init_scale={self.init_scale} scales the weights of a model: give init")
        if self.init is not None and self.init_scale is None:
            object.__setattr__(self, "init_scale", INIT_SCALE)
        if self.min_count is None and self.unknown_share is not None:
            raise ValueError(f"unknown_share={self.unknown_share} needs an unknown symbol: give min_count")
        if self.min_count is not None and self.unknown_share is None:
            object.__setattr__(self, "unknown_share", UNKNOWN_SHARE)

    @property
    def open_settings(self) -> list[str]:
        """The settings that are to be chosen before the windows are known."""
        return [name for name in CHOSEN if getattr(self, name) in (AUTO, SEARCH)]

    def _possible_network(self) -> NetworkConfig:
        """A network that these settings allow, whatever is chosen for the text, or a ``ValueError``."""
        sizes = [size for size in (self.hidden_size, self.embedding_size) if size not in (AUTO, None)]
        size = sizes[0] if sizes and self.tied else 1
        possible = {"hidden_size": size, "embedding_size": size, "dropout": 0.0}
        chosen = {name: value for name, value in possible.items() if getattr(self, name) == AUTO}
        return NetworkConfig(1, **{**{name: getattr(self, name) for name in config.OPTIONS}, **chosen})

    def network(self, vocab_size: int) -> NetworkConfig:
        """The configuration of the network for this number of symbols; nothing of it may be "auto"."""
        return NetworkConfig(vocab_size, **{name: getattr(self, name) for name in config.OPTIONS})

    def replaced(self, **changes: Any) -> TrainingConfig:
        """Return a copy with changed settings; a new end of training replaces the old one.

        With a time limit alone, steps that were to be chosen for the text still are.
        """
        if any(changes.get(name) is not None for name in ("steps", "epochs")):
            changes = {"steps": None, "epochs": None, "time_limit": None, **changes}
        elif changes.get("time_limit") is not None:
            changes = {"steps": AUTO if self.steps == AUTO else None, "epochs": None, **changes}
        return replace(self, **changes)

    def fitted(self, T: int, B: int, windows: int, most: int) -> TrainingConfig:
        """Return the configuration for a text with so many windows (T, B); its steps are at most ``most``.

        No setting of it is "auto", if size, dropout and learning rate were chosen before.
        """
        steps = min(most, MORE_UPDATES + PASSES * windows) if self.steps == AUTO else self.steps
        updates = steps if self.epochs is None else self.epochs * windows
        log_every = self.log_every
        if log_every == AUTO:
            highest = min(MAX_BETWEEN, max(SHORT_BETWEEN, PASSES_BETWEEN * windows))
            some = highest if updates is None else cast("int", updates) // RECORDS
            log_every = max(MIN_BETWEEN, min(highest, some))
        return replace(self, seq_length=T, batch_size=B, steps=steps, log_every=log_every)

    def describe(self) -> dict[str, Any]:
        """Return the settings as plain data, for the model file."""
        plain = {"optimizer": self.optimizer.describe(), "schedule": self.schedule.describe()}
        return {**vars(self), **plain}


#: The configurations by name.
PRESETS: dict[str, TrainingConfig] = {
    # The script that fastrnn began as: 2,000 updates on "hello", which is one window.
    "scratch": TrainingConfig(
        cell="rnn",
        hidden_size=16,
        embedding_size=None,
        dropout=0.0,
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
        retries=0,
        carry_state=True,
        record_last=False,
        log_every=200,
    ),
    # Karpathy's min-char-rnn.py (2015). The script itself never ends.
    "min-char-rnn": TrainingConfig(
        cell="rnn",
        hidden_size=100,
        embedding_size=None,
        dropout=0.0,
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
        retries=0,
        drop_last=True,
        record_last=False,
        log_every=100,
    ),
    # Karpathy's char-rnn (2015) with the default options of train.lua: the state is carried from pass to
    # pass, and the learning rate decays after the tenth pass. Three things differ: char-rnn adds two biases,
    # and fastrnn one. Its last target is the text's first symbol, so it has one more window if the text
    # divides into whole windows. Its losses "at iteration 1,000" are those after 1,000 updates, and the
    # record of step 1,000 here is made after 1,001.
    "char-rnn": TrainingConfig(
        cell="lstm",
        hidden_size=128,
        num_layers=2,
        embedding_size=None,
        dropout=0.0,
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
        retries=0,
        carry_state=True,
        log_every=1000,
    ),
}


def get_config(preset: str | None = None, **changes: Any) -> TrainingConfig:
    """Return the configuration of a preset, or the default one, with changed settings.

    An activation without a cell is that of a vanilla RNN, which alone has a choice.
    """
    if preset is None and "activation" in changes:
        changes = {"cell": "rnn", **changes}
    base = TrainingConfig() if preset is None else PRESETS[checks.one_of("preset", preset, PRESETS)]
    return base.replaced(**changes)


def random_generator(preset: str | None, rng: Any) -> np.random.Generator | np.random.RandomState:
    """Return the random generator for ``rng`` and a preset.

    For the preset scratch, an int seeds a ``RandomState``, as in its script, and ``None`` is the seed 42.
    """
    is_number = isinstance(rng, numbers.Integral) and not isinstance(rng, bool)
    if preset == "scratch" and (rng is None or is_number):
        return np.random.RandomState(42 if rng is None else checks.whole_number("rng", rng, minimum=0))
    return checks.random_generator(rng)
