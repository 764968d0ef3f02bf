"""Checks of arguments and attributes. Each error names the argument, its value and what is allowed.

An array that a kernel reads is copied first and then checked, so that no other thread changes it in between.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Kind = TypeVar("Kind")

DTYPES = ("float32", "float64")

#: The types of arrays that a kernel reads.
INT32, UINT8, FLOAT64 = np.dtype(np.int32), np.dtype(np.uint8), np.dtype(np.float64)

#: The largest whole number that is allowed: sizes and counts are int64 in the kernels.
MAX_WHOLE_NUMBER = (1 << 63) - 1

#: The largest size that passes its check and is then refused with the memory that it would need.
LARGEST_SIZE = 10**100

#: How many elements of an array are copied and checked at a time: it takes milliseconds, so Ctrl-C works.
COPIED_AT_ONCE = 1 << 22

#: The most characters of a value that an error message shows.
LONGEST_SHOWN = 200


def shown(value: object) -> str:
    """Return the repr of a value for an error message; a long repr is shortened, a failing one replaced."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  (an int of more than 4,300 digits has no repr)
        return f"<{type(value).__name__} without a repr>"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def whole_number(name: str, value: Any, *, minimum: int = 1, maximum: int = MAX_WHOLE_NUMBER) -> int:
    """Return the value as an int from ``minimum`` to ``maximum``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={shown(value)} must be a whole number of at least {minimum}")
    number = int(value)
    if number < minimum:
        raise ValueError(f"{name}={shown(value)} must be at least {minimum}")
    if number > maximum:
        allowed = "below 2**63" if maximum == MAX_WHOLE_NUMBER else f"at most {maximum}"
        raise ValueError(f"{name}={shown(value)} must be {allowed}")
    return number


def real_number(name: str, value: Any, *, zero: bool = False) -> float:
    """Return the value as a finite float above zero; ``zero`` allows zero too."""
    allowed = "a finite number, zero or more" if zero else "a finite number above zero"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={shown(value)} must be {allowed}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{name}={shown(value)} must be {allowed}")
    return number


def fraction(name: str, value: Any, *, zero: bool = False, one: bool = False) -> float:
    """Return the value as a float between zero and one; ``zero`` and ``one`` allow the ends too."""
    number = real_number(name, value, zero=zero)
    if number > 1 or (number == 1 and not one):
        raise ValueError(f"{name}={shown(value)} must be {'at most' if one else 'below'} one")
    return number


def unknown(value: Any) -> str | float:
    """Return how to treat an unknown symbol: ``"error"``, ``"skip"``, ``"symbol"`` or its probability."""
    if isinstance(value, str) and value in ("error", "skip", "symbol"):
        return value
    try:
        return fraction("unknown", value, one=True)
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(value, str) else type(error)
        raise kind(
            f"unknown={value!r} must be 'error', 'skip', 'symbol', or a probability above zero and at "
            "most one"
        ) from None


def flag(name: str, value: Any) -> bool:
    """Return the value as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={shown(value)} must be True or False")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Return the value as a str."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={shown(value)} must be str")
    return str(value)


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return the value, one of the allowed names."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name}={shown(value)} is not known; it is one of {', '.join(map(repr, names))}")
    return value


def options(given: Mapping[str, Any], known: type) -> None:
    """Require that keyword arguments have the names of a ``TypedDict``."""
    for name, value in given.items():
        if name not in known.__annotations__:
            allowed = ", ".join(sorted(known.__annotations__))
            raise TypeError(f"{name}={shown(value)} is no option here; the options are {allowed}")


def kind_of(argument: str, value: Any, kinds: Mapping[str, type[Kind]]) -> Kind:
    """Make what a name, or a mapping of ``name`` and settings, describes; ``kinds`` are dataclasses."""
    settings = dict(value) if isinstance(value, Mapping) else {"name": value}
    if "name" not in settings:
        raise ValueError(f"{argument} has no name; it is one of {', '.join(map(repr, kinds))}")
    kind: Any = kinds[one_of(argument, settings.pop("name"), kinds)]
    allowed = [field.name for field in dataclasses.fields(kind)]
    for key, one in settings.items():
        if key not in allowed:
            raise ValueError(
                f"{argument} {kind.name!r} has no setting {shown(key)} (= {shown(one)}); "
                f"its settings are {', '.join(allowed) or 'none'}"
            )
    made: Kind = kind(**{key: tuple(one) if isinstance(one, list) else one for key, one in settings.items()})
    return made


def real_dtype(value: DTypeLike) -> np.dtype[Any]:
    """Return float32 or float64 as a NumPy dtype, in the machine's byte order."""
    try:
        name = np.dtype(value).name if value is not None else None
    except TypeError:
        name = None
    if name not in DTYPES:
        raise ValueError(f"dtype={shown(value)} must be {' or '.join(map(repr, DTYPES))}")
    return np.dtype(name)


def as_array(name: str, value: Any, allowed: str) -> NDArray[Any]:
    """Return the value as an array; nested lists of unequal lengths are a ``TypeError``."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be {allowed}: {error}") from error


def id_array(name: str, value: Any) -> NDArray[Any]:
    """Return whole numbers (T, B) as an array; `private_copy` checks its elements."""
    array = as_array(name, value, "whole numbers in an array (T, B)")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be whole numbers, and has dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; it must be (T, B), both at least 1")
    return array


def flag_array(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return zeros and ones of this shape as an array, or ``None``; `private_flags` checks its elements."""
    if value is None:
        return None
    array = as_array(name, value, "booleans, zeros or ones in an array (T, B)")
    if array.dtype.kind not in "biu":
        raise TypeError(f"{name} must be booleans, zeros or ones, and has dtype {array.dtype}")
    same_shape(name, array, shape)
    return array


def private_copy(name: str, array: NDArray[Any], dtype: Any, lowest: int, highest: int) -> NDArray[Any]:
    """Return a copy of an array (T, B); an element outside these bounds is a ``ValueError``.

    The copy is checked, because another thread may write to the array.
    """
    if array.size <= COPIED_AT_ONCE:
        return _within(name, np.array(array, order="C"), lowest, highest).astype(dtype, copy=False)
    copied = np.empty(array.shape, dtype)
    for piece in _pieces(*array.shape):
        copied[piece] = _within(name, np.array(array[piece]), lowest, highest)
    return copied


def private_flags(name: str, array: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return a copy of an array (T, B) of zeros and ones, which are checked; ``None`` is all zeros."""
    if array is None:
        return np.zeros(shape, np.uint8)
    try:
        return private_copy(name, array, np.uint8, 0, 1)
    except ValueError as error:
        raise ValueError(f"{name} must be booleans, zeros or ones") from error


def _pieces(T: int, B: int) -> Iterator[tuple[slice, slice]]:
    """The slices of an array (T, B) that cut it into parts of at most COPIED_AT_ONCE elements."""
    rows = min(B, COPIED_AT_ONCE)
    steps = max(1, COPIED_AT_ONCE // rows)
    for t in range(0, T, steps):
        for b in range(0, B, rows):
            yield slice(t, t + steps), slice(b, b + rows)


def _within(name: str, array: NDArray[Any], lowest: int, highest: int) -> NDArray[Any]:
    smallest, largest = array.min(), array.max()
    if smallest < lowest or largest > highest:
        raise ValueError(f"{name} runs from {smallest} to {largest}; it must be within {lowest} … {highest}")
    return array


def buffer(name: str, array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Require an array that a kernel can take: of this type and shape, C-contiguous and writable."""
    if (
        type(array) is not np.ndarray
        or array.dtype != dtype
        or array.shape != shape
        or not array.flags.carray
    ):
        raise ValueError(f"{name} must be a C-contiguous, writable array of {dtype} and shape {shape}")


def same_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Require an array of this shape."""
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; it must be {shape}")


def random_generator(rng: Any) -> np.random.Generator | np.random.RandomState:
    """Return the source of random numbers that ``rng`` names.

    A ``Generator`` or a ``RandomState`` is returned as it is. Anything else makes a new ``Generator`` (SPEC 7
    of Scientific Python): an int or a ``SeedSequence`` makes a repeatable one, ``None`` an unpredictable one.
    """
    if isinstance(rng, np.random.RandomState):
        return rng
    if isinstance(rng, bool | np.bool_):
        raise TypeError(f"rng={rng} must be a whole number of at least 0, and not a bool")
    if isinstance(rng, numbers.Integral):
        rng = int(rng)
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"rng={shown(rng)} must be a whole number of at least 0, a numpy Generator, a RandomState or None"
        ) from error


def uniforms(rng: Any, n: int) -> NDArray[np.float64]:
    """Return n draws, from 0 to below 1."""
    return uniforms_of_rows([rng], n)[:, 0]


def uniforms_of_rows(sources: Iterable[Any], n: int) -> NDArray[np.float64]:
    """Return n draws of each of B sources (n, B). They are checked: a user may have written a source."""
    drawn = np.array(as_array("rng.random(n)", [rng.random(n) for rng in sources], "an array of float64"))
    if drawn.shape[1:] != (n,) or drawn.dtype != np.float64:
        raise ValueError(
            f"rng.random({n}) returned {drawn.dtype} of shape {drawn.shape[1:]}; it must return {n} float64"
        )
    if n and not (drawn.min() >= 0 and drawn.max() < 1):
        raise ValueError(
            f"rng.random({n}) runs from {drawn.min()} to {drawn.max()}; it must be from 0 to below 1"
        )
    return drawn.T


def window_buffers(inputs: Any, targets: Any, starts: Any, shape: tuple[int, int]) -> None:
    """Require inputs, targets and starts (T, B) that a kernel can take; the kernel checks the ids itself."""
    buffer("inputs", inputs, INT32, shape)
    buffer("targets", targets, INT32, shape)
    buffer("starts", starts, UINT8, shape)


# ---- Attributes --------------------------------------------------------------------------------------


class Sealed:
    """An object whose public attributes cannot be set without a check.

    Its class declares attributes in annotations. An attribute that is declared ``Final`` is set once, by
    ``__init__``. A property can be set if it has a setter, which checks the value. Setting any other public
    attribute is an ``AttributeError``, and so is deleting one. A subclass may not replace a ``Final``
    attribute or a property.
    """

    #: What to do instead of setting an attribute, by its name.
    _instead: ClassVar[dict[str, str]] = {}
    #: Whether a declared attribute is final, by its name.
    _declared: ClassVar[dict[str, bool]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        above = super(cls, cls)
        replaced = [
            name
            for name in vars(cls)
            if cls._declared.get(name) or isinstance(getattr(above, name, None), property)
        ]
        if replaced:
            raise TypeError(f"{cls.__name__} may not replace {', '.join(replaced)} of {cls.__base__}")
        annotations = {name: str(what) for name, what in inspect.get_annotations(cls).items()}
        cls._declared = cls._declared | {
            name: "Final" in what for name, what in annotations.items() if "ClassVar" not in what
        }

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._may_be_set(name):
            raise AttributeError(self._refusal(name))
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} of a {type(self).__name__} cannot be deleted")

    def _may_be_set(self, name: str) -> bool:
        final = self._declared.get(name)
        if final is not None:
            return not (final and name in vars(self))
        found = getattr(type(self), name, None)
        if isinstance(found, property):
            return found.fset is not None
        return name.startswith("_") and not name.startswith("__")

    def _refusal(self, name: str) -> str:
        kind = type(self).__name__
        if name in self._declared or hasattr(self, name):
            return f"{name} of a {kind} cannot be set: {self._instead.get(name, f'make another {kind}')}"
        return f"a {kind} has no attribute {name!r}"
