"""The geometry of the charts: axes, ticks and paths of SVG. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fastrnn.model.model import Model
from fastrnn.report.trace import Floats

#: The size of a chart in its own units, and the margins of its plot.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 300, 52, 16, 12, 44

#: The most points of a curve.
MOST_POINTS = 400

#: From this number on, labels have exponents; losses of a larger magnitude are drawn at the largest one.
FEW_DIGITS, LARGEST = 1e9, 1e100

#: The shortest range of an axis, relative to its numbers.
SHORTEST = 1e-6


@dataclass(frozen=True)
class Axis:
    """A linear axis from ``low`` to ``high``, which are drawn at ``start`` and ``stop``."""

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """Where a value is drawn."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of round numbers."""
        step = _round_step((self.high - self.low) / 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        form = f",.{digits}f" if max(abs(self.low), abs(self.high)) < FEW_DIGITS else "g"
        return [(self.at(k * step), format(k * step, form)) for k in range(first, last + 1)]


def _round_step(step: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below a step."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


def horizontal(low: float, high: float) -> Axis:
    """A horizontal axis of a chart."""
    return Axis(low, _above(low, high), LEFT, WIDTH - RIGHT)


def vertical(low: float, high: float) -> Axis:
    """A vertical axis of a chart."""
    return Axis(low, _above(low, high), HEIGHT - BOTTOM, TOP)


def _above(low: float, high: float) -> float:
    """The upper end of an axis, which is clearly above the lower one."""
    return max(high, low + SHORTEST * max(1.0, abs(low)))


def path(x: Axis, y: Axis, points: Iterable[tuple[float, float]]) -> str:
    """The path of SVG through some points."""
    return "M" + "L".join(f"{x.at(a)} {y.at(b)}" for a, b in points)


@dataclass(frozen=True)
class Curve:
    """A curve of a chart: its name, its path, and its first, last and lowest values."""

    name: str
    path: str
    first: float
    last: float
    lowest: float


@dataclass(frozen=True)
class LossChart:
    """The loss during a training.

    Attributes
    ----------
    x, y
        The axes: updates, and nats.
    curves
        The training's loss, and that on the text that was held out.
    unit
        The unit of the loss.
    kept
        The update whose weights the model has.
    """

    x: Axis
    y: Axis
    curves: list[Curve]
    unit: str
    kept: int

    @classmethod
    def of(cls, model: Model) -> LossChart | None:
        """The chart of a model; ``None`` if it has no records of a training."""
        columns, record = model.history.columns(), model.kept_record
        if record is None:
            return None
        named = {"training text": columns["loss"]}
        if "validation_loss" in columns:
            named["held-out text"] = columns["validation_loss"]
        named = {name: column.clip(-LARGEST, LARGEST) for name, column in named.items()}
        values = np.concatenate([column[np.isfinite(column)] for column in named.values()])
        x = horizontal(0.0, max(1.0, float(columns["step"].max())))
        y = vertical(min(0.0, float(values.min())), float(values.max()))
        is_sum = model.settings.get("reduction") == "sum"
        unit = "nats per window" if is_sum else f"nats per {model.vocabulary.unit}"
        curves = [_curve(name, x, y, columns["step"], column) for name, column in named.items()]
        return cls(x, y, curves, unit, int(record["step"]))


def _curve(name: str, x: Axis, y: Axis, steps: Floats, values: Floats) -> Curve:
    """A curve through at most `MOST_POINTS` of the records, evenly chosen."""
    is_there = np.isfinite(values)
    steps, values = steps[is_there], values[is_there]
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).astype(np.int64))
    points = zip(steps[places].tolist(), values[places].tolist(), strict=True)
    return Curve(name, path(x, y, points), float(values[0]), float(values[-1]), float(values.min()))
