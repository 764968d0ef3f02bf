"""The hidden units whose activation is best explained by one simple property of the text.

Karpathy, Johnson & Fei-Fei (2015) found such units by eye. Here the measure is r², the square of the
correlation (Pearson) between the activation of a unit after each symbol and a property of the symbol: the
share of the activation's variance that a straight line through the property explains.
n symbols · U hidden units · F properties
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrnn.report.trace import Floats

#: The most units that are shown, and for one property; the least share of the variance.
MOST, MOST_ALIKE, LEAST_SHARE = 8, 2, 0.1

#: The fewest symbols from which anything is said of units.
MIN_SYMBOLS = 100

#: How many units are compared at a time.
AT_ONCE = 64

#: An activation is shown as one of the levels from -4 to 4.
LEVELS = 4

#: How many symbols the picture of a unit has.
PICTURE = 240


@dataclass(frozen=True)
class Unit:
    """A hidden unit, and the property that explains it best.

    Attributes
    ----------
    layer, place
        Its layer, from 1, and its place in the layer, from 0.
    feature
        The name of the property.
    correlation
        Pearson's correlation with the property, from -1 to 1.
    lowest, highest
        The range of its activation.
    levels
        int8 (n): the activation after each symbol, from -4 to 4; 4 is the largest distance from zero.
    picture
        The symbols of its picture: where the property varies most.
    """

    layer: int
    place: int
    feature: str
    correlation: float
    lowest: float
    highest: float
    levels: NDArray[np.int8]
    picture: slice

    @property
    def name(self) -> str:
        """Its name for people."""
        return f"layer {self.layer}, unit {self.place}"


def explained_units(
    hidden: NDArray[np.float32], features: Mapping[str, Floats], hidden_size: int
) -> list[Unit]:
    """The units that are explained best, the best one first."""
    n = len(hidden)
    if n < MIN_SYMBOLS or not features:
        return []
    correlations = _correlations(hidden, np.stack(list(features.values()), axis=1))
    names = list(features)
    shares = correlations * correlations
    best = shares.argmax(axis=1)
    found: list[Unit] = []
    shown = dict.fromkeys(names, 0)
    for u in np.argsort(-shares.max(axis=1), kind="stable").tolist():
        name = names[best[u]]
        if len(found) == MOST or shares[u, best[u]] < LEAST_SHARE:
            break
        if shown[name] < MOST_ALIKE:
            shown[name] += 1
            layer, place = divmod(u, hidden_size)
            activation = hidden[:, u].astype(np.float64)
            found.append(
                Unit(
                    layer=layer + 1,
                    place=place,
                    feature=name,
                    correlation=float(correlations[u, best[u]]),
                    lowest=float(activation.min()),
                    highest=float(activation.max()),
                    levels=_levels(activation),
                    picture=_liveliest(features[name]),
                )
            )
    return found


def _correlations(hidden: NDArray[np.float32], features: Floats) -> Floats:
    """Pearson's correlation of each unit with each property (U, F); 0 where a unit never changes.

    Sums are in the order of the symbols, so that the order of the units is the same on every machine.
    """
    n = len(hidden)
    wanted = _standardized(features)
    found = np.zeros((hidden.shape[1], features.shape[1]))
    for start in range(0, hidden.shape[1], AT_ONCE):
        units = _standardized(hidden[:, start : start + AT_ONCE].astype(np.float64))
        for f in range(features.shape[1]):
            found[start : start + AT_ONCE, f] = _sums(units * wanted[:, f : f + 1]) / n
    return found


def _standardized(columns: Floats) -> Floats:
    """Columns (n, ·) with mean 0 and variance 1; a column that does not vary is 0."""
    centred = columns - _sums(columns) / len(columns)
    deviation = np.sqrt(_sums(centred * centred) / len(columns))
    varies = deviation > 1e-9 * np.abs(columns).max(axis=0)
    result: Floats = np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0)
    return result


def _sums(columns: Floats) -> Floats:
    sums: Floats = columns.cumsum(axis=0)[-1]
    return sums


def _levels(activation: Floats) -> NDArray[np.int8]:
    largest = np.abs(activation).max()
    return np.rint(LEVELS * activation / (largest or 1.0)).astype(np.int8)


def _liveliest(feature: Floats) -> slice:
    """The `PICTURE` symbols in which a property has the largest variance."""
    length = min(PICTURE, len(feature))
    before = np.append(0.0, feature.cumsum()), np.append(0.0, (feature * feature).cumsum())
    total, squares = (sums[length:] - sums[:-length] for sums in before)
    start = int((squares / length - (total / length) ** 2).argmax())
    return slice(start, start + length)
