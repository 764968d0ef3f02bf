"""Whether a model's confidence is deserved: the probability of its top prediction, and how often it came.

A model is calibrated if, of all symbols that it predicts with 70 %, 70 % come (Guo et al. 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastrnn.report.trace import Trace

#: How many bins of equal width the probabilities from 0 to 1 are put in.
BINS = 10

#: The quantile of the normal distribution for an interval of 95 %.
Z = 1.96


@dataclass(frozen=True)
class Bin:
    """The symbols whose top prediction has a probability within a bin.

    Attributes
    ----------
    low, high
        The range of probabilities.
    count
        How many symbols.
    predicted
        The mean probability of their top predictions.
    came
        The share of symbols where the top prediction came.
    interval
        The interval of 95 % for that share (Wilson 1927). It takes the symbols as independent.
    """

    low: float
    high: float
    count: int
    predicted: float
    came: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """The bins that have symbols, and the expected calibration error: the mean of |came - predicted|."""

    bins: list[Bin]
    count: int
    came: float
    error: float

    @classmethod
    def of(cls, trace: Trace) -> Calibration:
        """The calibration over the symbols that the model knows."""
        is_known = trace.ids >= 0
        confidence = trace.forecast.probabilities[is_known, 0]
        came = trace.forecast.symbols[is_known, 0] == trace.ids[is_known]
        places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        bins = []
        for place in np.unique(places).tolist():
            of_bin = places == place
            count, hits = int(of_bin.sum()), int(came[of_bin].sum())
            predicted = math.fsum(confidence[of_bin].tolist()) / count
            bins.append(
                Bin(
                    low=place / BINS,
                    high=(place + 1) / BINS,
                    count=count,
                    predicted=predicted,
                    came=hits / count,
                    interval=wilson(hits, count),
                )
            )
        n = int(is_known.sum())
        error = math.fsum(one.count * abs(one.came - one.predicted) for one in bins) / max(1, n)
        return cls(bins, n, int(came.sum()) / max(1, n), error)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a share of which ``hits`` of ``count`` were seen."""
    share, z2 = hits / count, Z * Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)
