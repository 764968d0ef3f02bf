"""Sums and means of bits and nats, which are the same in any order."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.vocabulary import Text

#: Two to this power, and to any higher one, is infinite as a float.
MAX_EXPONENT = 1024


def perplexity(bits_per_symbol: float) -> float:
    """``2 ** bits_per_symbol``; infinity if that is too large for a float."""
    return 2.0**bits_per_symbol if bits_per_symbol < MAX_EXPONENT else math.inf


def mean(bits: NDArray[np.float64], n: int, text: Text) -> float:
    """The sum of a text's bits, divided by n; a text without any is a ``ValueError``."""
    if not bits.size:
        raise ValueError(
            "the text is empty: it has no mean"
            if not len(text)
            else "the text has no symbol that the model knows: it has no mean"
        )
    return finite(total(bits) / n)


def total(bits: NDArray[np.float64]) -> float:
    """The sum, rounded once: NumPy's sum adds in an order of its own."""
    try:
        return math.fsum(bits.ravel().tolist())
    except OverflowError:
        return math.inf


def finite(bits: float) -> float:
    """Return a sum or a mean as a float; raise a ``ValueError`` if it overflowed."""
    if not math.isfinite(bits):
        raise ValueError(f"the text has {bits} bits or nats: the model's parameters are out of range")
    return bits
