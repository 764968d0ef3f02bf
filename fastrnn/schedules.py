"""Learning-rate schedules: factors of the learning rate, which depend on the progress of training.

Each schedule is a pure function of a `Progress`, so a training can be continued from its history. It does not
use libm, so its values have the same bits on every machine. If PyTorch has the same schedule, the settings
have PyTorch's names and, unless a docstring says otherwise, its defaults.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.core.arithmetic import Floats, cosine_of_half_turns, integer_power

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Progress:
    """The progress of training before each of some updates.

    Attributes
    ----------
    updates
        int64 (W): the number of each update, from 0.
    fraction
        float64 (W): the fraction of training that is done before it, from 0 to 1.
    epochs
        int64 (W): the number of the pass over the text that it belongs to, from 0.
    losses
        The losses recorded so far.
    """

    updates: Ints
    fraction: Floats
    epochs: Ints
    losses: Sequence[float] = ()


class Schedule(ABC):
    """The base class of the schedules."""

    name: ClassVar[str]
    #: Whether it reads the losses; if so, a factor is valid only until the next loss is recorded.
    reads_losses: ClassVar[bool] = False

    def describe(self) -> dict[str, Any]:
        """Return the name and the settings as plain data, for the model file."""
        return {"name": self.name, **vars(self)}

    @abstractmethod
    def factors(self, progress: Progress) -> Floats:
        """Return the factor of the learning rate of each update, float64 (W)."""


def _warm_up(updates: Ints, warmup: int) -> Floats:
    """Factors that rise linearly and are 1 from the last of the ``warmup`` updates on."""
    return np.minimum(1, (updates + 1) / max(1, warmup))


@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate does not change."""

    name: ClassVar[str] = "constant"

    def factors(self, progress: Progress) -> Floats:
        return np.ones(len(progress.updates))


@dataclass(frozen=True)
class Linear(Schedule):
    """Warm-up, then linear decay to zero at the end of training.

    Parameters
    ----------
    warmup
        The number of updates over which the learning rate rises linearly; 0 is no warm-up.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or of the wrong type.
    """

    warmup: int = 100

    name: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "warmup", checks.whole_number("warmup", self.warmup, minimum=0))

    def factors(self, progress: Progress) -> Floats:
        return _warm_up(progress.updates, self.warmup) * (1 - progress.fraction)


@dataclass(frozen=True)
class Step(Schedule):
    """Multiplies by a factor every few epochs, as ``torch.optim.lr_scheduler.StepLR`` does.

    Parameters
    ----------
    step_size
        The number of epochs (passes over the text) from one step to the next.
    gamma
        The factor of each step; above zero, at most one.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or of the wrong type.
    """

    step_size: int = 10
    gamma: float = 0.1

    name: ClassVar[str] = "step"

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_size", checks.whole_number("step_size", self.step_size))
        object.__setattr__(self, "gamma", checks.fraction("gamma", self.gamma, one=True))

    def factors(self, progress: Progress) -> Floats:
        return integer_power(self.gamma, progress.epochs // self.step_size)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Multiplies by a factor after each epoch, as ``torch.optim.lr_scheduler.ExponentialLR`` does.

    Parameters
    ----------
    gamma
        The factor after each epoch (a pass over the text); above zero, at most one. The default is that
        of char-rnn; PyTorch has none.
    after
        The number of epochs before the first factor: 1 in PyTorch, 10 in char-rnn.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or of the wrong type.
    """

    gamma: float = 0.97
    after: int = 1

    name: ClassVar[str] = "exponential"

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", checks.fraction("gamma", self.gamma, one=True))
        object.__setattr__(self, "after", checks.whole_number("after", self.after))

    def factors(self, progress: Progress) -> Floats:
        return integer_power(self.gamma, np.maximum(0, progress.epochs - self.after + 1))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Warm-up, then half a cosine until the end of training (Loshchilov & Hutter 2017, without restarts).

    With n updates in all it is ``LinearLR(start_factor=1 / warmup, total_iters=warmup - 1)`` of
    ``torch.optim.lr_scheduler`` and then ``CosineAnnealingLR`` over ``n - warmup`` updates.

    Parameters
    ----------
    warmup
        The number of updates over which the learning rate rises linearly; 0 is no warm-up.
    final
        The last factor, from 0 to 1.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or of the wrong type.
    """

    warmup: int = 100
    final: float = 0.0

    name: ClassVar[str] = "cosine"

    def __post_init__(self) -> None:
        object.__setattr__(self, "warmup", checks.whole_number("warmup", self.warmup, minimum=0))
        object.__setattr__(self, "final", checks.fraction("final", self.final, zero=True, one=True))

    def factors(self, progress: Progress) -> Floats:
        updates, fraction = progress.updates, progress.fraction
        done = np.zeros(len(updates))
        # a time limit may end training, so the fraction that is done gives the number of all updates
        later = (updates > self.warmup) & (fraction > 0)
        in_all = updates[later] / fraction[later]
        done[later] = np.minimum(1, (updates[later] - self.warmup) / (in_all - self.warmup))
        fall = (1 + cosine_of_half_turns(done)) / 2
        return _warm_up(updates, self.warmup) * (self.final + (1 - self.final) * fall)


@dataclass(frozen=True)
class Plateau(Schedule):
    """Multiplies by a factor when the loss stops falling: PyTorch's ``ReduceLROnPlateau`` with ``eps=0``.

    It reads the losses of the history's records: the validation losses if there are any, else the training
    losses.

    Parameters
    ----------
    factor
        The factor of a reduction; above zero, below one.
    patience
        How many records in a row may be no better than the best one; the next one reduces the learning rate.
    threshold
        A loss is better if it is below ``(1 - threshold)`` times the best one; from zero to below one.
    cooldown
        How many records after a reduction are not counted as bad.
    min_factor
        The smallest factor, from 0 to 1.

    Raises
    ------
    ValueError, TypeError
        A setting is out of range or of the wrong type.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_factor: float = 0.0

    name: ClassVar[str] = "plateau"
    reads_losses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", checks.fraction("factor", self.factor))
        object.__setattr__(self, "patience", checks.whole_number("patience", self.patience, minimum=0))
        object.__setattr__(self, "threshold", checks.fraction("threshold", self.threshold, zero=True))
        object.__setattr__(self, "cooldown", checks.whole_number("cooldown", self.cooldown, minimum=0))
        min_factor = checks.fraction("min_factor", self.min_factor, zero=True, one=True)
        object.__setattr__(self, "min_factor", min_factor)

    def factors(self, progress: Progress) -> Floats:
        factor, best, bad, cooling = 1.0, math.inf, 0, 0
        for loss in progress.losses:
            if loss < best * (1 - self.threshold):
                best, bad = loss, 0
            else:
                bad += 1
            if cooling > 0:
                cooling, bad = cooling - 1, 0
            if bad > self.patience:
                factor, bad, cooling = max(factor * self.factor, self.min_factor), 0, self.cooldown
        return np.full(len(progress.updates), factor)


SCHEDULES: dict[str, type[Schedule]] = {
    kind.name: kind for kind in (Constant, Linear, Step, Exponential, Cosine, Plateau)
}


def get_schedule(value: str | Mapping[str, Any] | Schedule) -> Schedule:
    """Return the schedule that a name or a description says, or a schedule as it is.

    A description is a mapping of ``name`` and settings, as `Schedule.describe` returns it.
    """
    if isinstance(value, Schedule):
        if type(value) not in SCHEDULES.values():
            raise TypeError(f"schedule={value!r} must be one of fastrnn's: a model file names it")
        return value
    return checks.kind_of("schedule", value, SCHEDULES)
