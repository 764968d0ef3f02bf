"""Checks of arguments. Each error names the argument, the value it had and what is allowed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

DTYPES = ("float32", "float64")


def whole_number(name: str, value: Any, *, minimum: int = 1) -> int:
    """Return the value as an int of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r} must be a whole number of at least {minimum}")
    if value < minimum:
        raise ValueError(f"{name}={value!r} must be at least {minimum}")
    return int(value)


def real_number(name: str, value: Any, *, zero: bool = False) -> float:
    """Return the value as a finite float above zero, or from zero on."""
    allowed = "a finite number, zero or more" if zero else "a finite number above zero"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} must be {allowed}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{name}={value!r} must be {allowed}")
    return number


def part_of_one(name: str, value: Any, *, zero: bool = False, one: bool = False) -> float:
    """Return the value as a float between zero and one, either end only where it is allowed."""
    part = real_number(name, value, zero=zero)
    if part > 1 or (part == 1 and not one):
        raise ValueError(f"{name}={value!r} must be {'at most' if one else 'below'} one")
    return part


def unknown(value: Any) -> str | float:
    """Return what to do about a symbol that a model does not know: ``"error"``, ``"skip"``, a probability."""
    if isinstance(value, str) and value in ("error", "skip"):
        return value
    try:
        return part_of_one("unknown", value, one=True)
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(value, str) else type(error)
        raise kind(
            f"unknown={value!r} must be 'error', 'skip', or a probability above zero and at most one"
        ) from None


def flag(name: str, value: Any) -> bool:
    """Return the value as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r} must be True or False")
    return bool(value)


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return the value, one of the allowed names."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name}={value!r} is not known; it is one of {', '.join(map(repr, names))}")
    return value


def real_dtype(value: DTypeLike) -> np.dtype[Any]:
    """Return float32 or float64 as a NumPy dtype, in the machine's byte order."""
    try:
        name = np.dtype(value).name if value is not None else None
    except TypeError:
        name = None
    if name not in DTYPES:
        raise ValueError(f"dtype={value!r} must be {' or '.join(map(repr, DTYPES))}")
    return np.dtype(name)


def as_array(name: str, value: Any, allowed: str) -> NDArray[Any]:
    """Return the value as an array; nested lists of unequal lengths are none."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be {allowed}: {error}") from error


def symbol_ids(name: str, value: Any, *, lowest: int, V: int) -> NDArray[np.int32]:
    """Return (T, B) whole numbers from ``lowest`` to V - 1 as a C-contiguous int32 array."""
    array = as_array(name, value, "whole numbers in an array (T, B)")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be whole numbers, and has dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; it must be (T, B), both at least 1")
    if array.min() < lowest or array.max() >= V:
        raise ValueError(
            f"{name} runs from {array.min()} to {array.max()}; it must be within {lowest} … {V - 1}"
        )
    return np.require(array, np.int32, ["C", "W"])


def same_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Require an array of this shape."""
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; it must be {shape}")


def start_flags(value: Any, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return ``starts`` as zeros and ones of this shape; ``None`` is all zeros."""
    if value is None:
        return np.zeros(shape, np.uint8)
    array = as_array("starts", value, "booleans, zeros or ones in an array (T, B)")
    if array.dtype.kind not in "biu":
        raise TypeError(f"starts must be booleans, zeros or ones, and has dtype {array.dtype}")
    same_shape("starts", array, shape)
    if array.dtype.kind != "b" and array.size and (array.min() < 0 or array.max() > 1):
        raise ValueError("starts must be booleans, zeros or ones")
    return np.require(array, np.uint8, ["C", "W"])


def random_generator(rng: Any) -> np.random.Generator | np.random.RandomState:
    """Return the source of random numbers that ``rng`` names.

    A ``Generator`` or a ``RandomState`` is itself, and its draws go on; anything else makes a new
    ``Generator`` (SPEC 7): an int or a ``SeedSequence`` a repeatable one, ``None`` a fresh one.
    """
    if isinstance(rng, np.random.RandomState):
        return rng
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"rng={rng!r} must be a whole number of at least 0, a numpy Generator, a RandomState or None"
        ) from error
