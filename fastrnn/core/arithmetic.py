"""Powers and a cosine with the same bits on every machine: they use sums, products and quotients, no libm."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def integer_power(base: float, exponents: NDArray[np.int64]) -> Floats:
    """Return ``base ** exponents`` by repeated squaring; exponents are at least 0."""
    result = np.ones(len(exponents))
    square, left = base, exponents.copy()
    while left.max(initial=0) > 0:
        result[left % 2 == 1] *= square
        square *= square
        left //= 2
    return result


def cosine_of_half_turns(x: Floats) -> Floats:
    """Return the cosine of πx for x from 0 to 1. Its error is at most 1e-15, and 0 at both ends.

    Up to x = 1/2 it is 1 - 2 sin²(πx/2), with the Taylor series of the sine; above, it is -cos(π - πx).
    """
    a = math.pi / 2 * np.minimum(x, 1 - x)
    square, series = a * a, np.ones(len(x))
    for k in range(16, 0, -2):  # sin a = a (1 - a²/(2·3) (1 - a²/(4·5) (1 - …))), to the term a¹⁷
        series = 1 - square / (k * (k + 1)) * series
    sine = a * series
    return np.where(x < 0.5, 1, -1) * (1 - 2 * sine * sine)
