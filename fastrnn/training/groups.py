"""Parameter groups: which parameters are trained, and the learning rate and the weight decay of each.

A pattern stands for the parameters whose names it matches, as a shell matches the names of files:
``"head.weight"``, ``"embedding.*"``, ``"*_l0"``, ``"*bias*"``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.core.arithmetic import Floats
from fastrnn.core.layout import Layout
from fastrnn.optimizers import AdamW, Optimizer

#: The most names of parameters that an error lists.
LISTED = 24


def checked_patterns(name: str, value: Any) -> tuple[str, ...]:
    """Return patterns as a tuple."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{name}={checks.shown(value)} must be a list of names or patterns of parameters")
    patterns = tuple(value)
    for pattern in patterns:
        _check_pattern(name, pattern)
    return tuple(map(str, patterns))


def checked_factors(name: str, value: Any, *, zero: bool = False) -> dict[str, float]:
    """Return a factor for each pattern as a dict; ``zero`` allows factors of zero."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}={checks.shown(value)} must be a dict of a factor for each name or pattern")
    for pattern in value:
        _check_pattern(name, pattern)
    return {
        str(pattern): checks.real_number(f"{name}[{pattern!r}]", factor, zero=zero)
        for pattern, factor in value.items()
    }


def _check_pattern(name: str, pattern: Any) -> None:
    if not isinstance(pattern, str):
        raise TypeError(f"{name} has {checks.shown(pattern)}; a name or pattern of parameters must be str")


#: The check of each setting of the groups.
CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "freeze": checked_patterns,
    "learning_rate_factors": checked_factors,
    "weight_decay_factors": lambda name, value: checked_factors(name, value, zero=True),
}


@dataclass(frozen=True)
class Range:
    """Elements of the flat vector of parameters that are updated with the same settings.

    Attributes
    ----------
    begin, end
        They are the elements from ``begin`` up to ``end``.
    optimizer
        The optimizer, with the weight decay of these elements.
    learning_rate_factor
        What their learning rates are multiplied by.
    """

    begin: int
    end: int
    optimizer: Optimizer
    learning_rate_factor: float

    def settings(self, learning_rates: Floats, done: int) -> Floats:
        """A row of settings for each of these learning rates; ``done`` updates were done before."""
        return self.optimizer.settings(learning_rates * self.learning_rate_factor, done)


@dataclass(frozen=True)
class Groups:
    """Which parameters are frozen, and factors of the learning rates and weight decays of others, by pattern.

    Attributes are as the arguments of `Trainer`. A parameter that no pattern matches has a factor of 1.

    Raises
    ------
    ValueError, TypeError
        A pattern is no str, or a factor is out of range.
    """

    freeze: Iterable[str]
    learning_rate_factors: Mapping[str, float]
    weight_decay_factors: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, check in CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))

    def ranges(self, layout: Layout, optimizer: Optimizer) -> tuple[Range, ...]:
        """The ranges of the parameters that are trained, in ascending order; equal neighbours are one range.

        Raises
        ------
        ValueError
            A pattern matches no parameter, two patterns with factors match the same one, all parameters are
            frozen, or the optimizer has no weight decay.
        """
        if self.weight_decay_factors and not isinstance(optimizer, AdamW):
            raise ValueError(
                f"weight_decay_factors needs an optimizer with weight decay, 'adamw', and it is "
                f"{optimizer.name!r}"
            )
        names = [entry.name for entry in layout.entries]
        frozen = {name for pattern in self.freeze for name in _matched("freeze", pattern, names)}
        rates = _factors_of("learning_rate_factors", self.learning_rate_factors, names)
        decays = _factors_of("weight_decay_factors", self.weight_decay_factors, names)
        found: list[Range] = []
        offsets = layout.offsets()
        for entry in layout.entries:
            if entry.name in frozen:
                continue
            begin = offsets[entry.name]
            own = Range(
                begin,
                begin + math.prod(entry.shape),
                _with_decay(optimizer, decays.get(entry.name, 1.0)),
                rates.get(entry.name, 1.0),
            )
            if found and replace(found[-1], begin=own.begin, end=own.end) == own and found[-1].end == begin:
                own = replace(own, begin=found.pop().begin)
            found.append(own)
        if not found:
            raise ValueError(
                f"freeze={list(self.freeze)} leaves no parameter to train; they are {_listed(names)}"
            )
        return tuple(found)


def bounds(ranges: tuple[Range, ...]) -> NDArray[np.int64]:
    """Where each range begins and ends (R, 2), for the kernel."""
    return np.array([(each.begin, each.end) for each in ranges], np.int64)


def _with_decay(optimizer: Optimizer, factor: float) -> Optimizer:
    """The optimizer with its weight decay times a factor."""
    if factor == 1 or not isinstance(optimizer, AdamW):
        return optimizer
    return replace(optimizer, weight_decay=optimizer.weight_decay * factor)


def _factors_of(what: str, factors: Mapping[str, float], names: list[str]) -> dict[str, float]:
    """The factor of each parameter that a pattern matches."""
    found: dict[str, float] = {}
    matched_by: dict[str, str] = {}
    for pattern, factor in factors.items():
        for name in _matched(what, pattern, names):
            if name in found:
                raise ValueError(
                    f"{what} has two factors for {name}: {matched_by[name]!r} and {pattern!r} match it"
                )
            found[name], matched_by[name] = factor, pattern
    return found


def _matched(what: str, pattern: str, names: list[str]) -> list[str]:
    """The names that a pattern matches, at least one."""
    matched = [name for name in names if fnmatchcase(name, pattern)]
    if not matched:
        raise ValueError(f"{what} has {pattern!r}, which matches no parameter; they are {_listed(names)}")
    return matched


def _listed(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
