"""What a model has, and all checks of it.

The same checks are made of a user's arguments to `Model`, before a file is written, and when one is read:
each of them accepts what the others accept.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.core.checks import shown
from fastrnn.data.normalization import NEWLINES, NORMALIZATIONS
from fastrnn.data.tokens import MAX_TOKENS, TokenVocabulary
from fastrnn.data.vocabulary import UNITS, Vocabulary
from fastrnn.inference.mixture import Mixture
from fastrnn.model.history import History, as_history
from fastrnn.network.network import Network

MAX_CODE_POINT = 0x10FFFF

#: The fewest and the most symbols of each unit, without the unknown symbol and the boundary.
SYMBOLS = {"character": (0, MAX_CODE_POINT + 1), "byte": (256, 256), "token": (1, MAX_TOKENS)}

#: The most levels of nested dicts and lists in the settings, and the most digits of a whole number there.
MAX_LEVELS, MAX_DIGITS = 100, 1000


@dataclass(frozen=True)
class ModelFile:
    """Everything that a model has and its file holds."""

    network: Network
    vocabulary: Vocabulary
    counts: NDArray[np.int64]
    settings: dict[str, Any]
    history: History
    mixture: Mixture | None = None

    @classmethod
    def checked(
        cls, network: Any, vocabulary: Any, counts: Any, settings: Any, history: Any, mixture: Any = None
    ) -> Self:
        """Return a model file of these arguments; they are converted if that loses nothing.

        Raises
        ------
        TypeError, ValueError
            A file cannot hold them; the message says what is wrong.
        """
        if not isinstance(network, Network):
            raise TypeError(f"network is {type(network).__name__}; it must be a fastrnn.Network")
        vocabulary = checked_vocabulary(vocabulary)
        if vocabulary.size != network.vocab_size:
            raise ValueError(
                f"the vocabulary has {vocabulary.size} symbols, and the network {network.vocab_size}; "
                "they must have the same number"
            )
        for name, parameter in network.parameters.items() if not _all_finite(network.flat) else ():
            if not _all_finite(parameter):
                raise ValueError(f"the network's parameters are not all finite: {name} has NaN or infinity")
        return cls(
            network,
            vocabulary,
            _checked_counts(counts, network.vocab_size),
            checked_settings(settings),
            as_history(history),
            None if mixture is None else checked_mixture(mixture, network),
        )


def checked_mixture(mixture: Any, network: Network) -> Mixture:
    """Return a mixture whose counts are over the symbols of the network."""
    if not isinstance(mixture, Mixture):
        raise TypeError(
            f"mixture is {type(mixture).__name__}; it must be a fastrnn.inference.mixture.Mixture"
        )
    if mixture.vocab_size != network.vocab_size:
        raise ValueError(
            f"the counts are over {mixture.vocab_size} symbols, and the network has {network.vocab_size}"
        )
    return mixture


def _all_finite(array: NDArray[Any]) -> bool:
    return bool(np.isfinite(array).all())


def checked_vocabulary(vocabulary: object) -> Vocabulary:
    """Return the vocabulary with its symbols as uint32; they must be possible symbols of its unit."""
    if not isinstance(vocabulary, Vocabulary):
        raise TypeError(
            f"vocabulary is {type(vocabulary).__name__}; it must be a fastrnn.data.vocabulary.Vocabulary"
        )
    unit = _checked_unit(vocabulary)
    given = _vector("vocabulary.symbols", vocabulary.symbols)
    low, high = SYMBOLS[unit]
    if vocabulary.unknown:
        low = 1  # else there would be nothing to sample
    if not low <= len(given) <= high:
        raise ValueError(f"the vocabulary has {len(given)} {unit}s; it must have from {low} to {high}")
    symbols = _whole_numbers("vocabulary.symbols", given, np.uint32, (1 << 32) - 1)
    if np.any(symbols[1:] <= symbols[:-1]):
        raise ValueError("the vocabulary is not in order: its symbols must ascend")
    if unit != "character" and symbols[-1] != len(symbols) - 1:
        raise ValueError(f"the vocabulary is not all {unit}s from 0 on")
    if unit == "character" and symbols.max(initial=0) > MAX_CODE_POINT:
        raise ValueError(f"the vocabulary is not in order: {symbols[-1]} is no code point")
    if unit == "character" and np.any((symbols >= 0xD800) & (symbols <= 0xDFFF)):
        raise ValueError("the vocabulary has lone surrogates, which are not characters")
    if isinstance(vocabulary, TokenVocabulary) and vocabulary.tokens is not None:
        _check_names(vocabulary.tokens, len(symbols))
    if symbols is not vocabulary.symbols:
        return replace(vocabulary, symbols=symbols)
    return vocabulary


def _checked_unit(vocabulary: Vocabulary) -> str:
    """Return the unit of a vocabulary; its class and its options must fit the unit."""
    unit = checks.one_of("vocabulary.unit", vocabulary.unit, UNITS)
    if isinstance(vocabulary, TokenVocabulary) != (unit == "token"):
        raise TypeError(
            f"vocabulary is a {type(vocabulary).__name__} of {unit}s; a TokenVocabulary is for tokens only, "
            "and they need one"
        )
    checks.flag("vocabulary.boundary", vocabulary.boundary)
    newlines = checks.one_of("vocabulary.newlines", vocabulary.newlines, NEWLINES)
    if newlines != "keep" and unit != "character":
        raise ValueError(f"vocabulary.newlines={newlines!r} is for characters, and these are {unit}s")
    if vocabulary.normalization is not None:
        checks.one_of("vocabulary.normalization", vocabulary.normalization, NORMALIZATIONS)
    checks.flag("vocabulary.unknown", vocabulary.unknown)
    for name, value in (("normalization", vocabulary.normalization), ("unknown", vocabulary.unknown or None)):
        if value is not None and unit != "character":
            raise ValueError(f"vocabulary.{name}={value!r} is for characters, and these are {unit}s")
    return unit


def _check_names(names: Any, count: int) -> None:
    """Require that tokens have distinct names."""
    if not isinstance(names, tuple) or len(names) != count:
        raise ValueError(f"vocabulary.tokens must be a tuple of {count} str, one for each token")
    try:
        TokenVocabulary.of_names(names)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the tokens' names are not distinct str: {error}") from error


def _checked_counts(counts: Any, V: int) -> NDArray[np.int64]:
    """Return a copy of counts as int64 (V) that cannot be made writable."""
    given = _vector("counts", counts)
    checks.same_shape("counts", given, (V,))
    found = _whole_numbers("counts", given, np.int64, (1 << 62) // V)
    if isinstance(found.base, bytes) and len(found.base) == found.nbytes:
        return found  # an array of bytes cannot be made writable
    return np.frombuffer(found.tobytes(), np.int64)


def _vector(name: str, value: Any) -> NDArray[Any]:
    """Return numbers as a vector. Its elements are not read, because it may be longer than memory is."""
    array = checks.as_array(name, value, "whole numbers in a vector")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be whole numbers, and has dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it must be a vector")
    return array


def _whole_numbers(name: str, array: NDArray[Any], dtype: Any, largest: int) -> NDArray[Any]:
    """Return whole numbers from 0 to ``largest`` in this dtype; an array that has it is not copied."""
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        raise ValueError(f"{name} must be whole numbers, and not all of them are")
    low, high = (array.min().item(), array.max().item()) if array.size else (0, 0)
    if low < 0 or high > largest:
        raise ValueError(f"{name} are out of range: from {low} to {high}; they must be within 0 … {largest}")
    return np.ascontiguousarray(array, dtype)


def checked_settings(settings: Any) -> dict[str, Any]:
    """Return settings as JSON would return them: dicts with str keys, lists, str, bool, finite numbers, None.

    Numbers of NumPy become Python's, and tuples become lists.
    """
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings is {type(settings).__name__}; it must be a dict of values that JSON has")
    found: dict[str, Any] = _plain("settings", settings, MAX_LEVELS)
    return found


def _plain(name: str, value: Any, levels: int) -> Any:
    """Return a value of the settings as JSON would return it; ``name`` is its name in errors."""
    if value is None or isinstance(value, bool | np.bool_):
        return value if value is None else bool(value)
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, numbers.Real):
        return _plain_number(name, value)
    if not isinstance(value, Mapping | list | tuple):
        raise TypeError(f"{name} is {shown(value)}; it must be a value that JSON has")
    if not levels:
        raise ValueError(f"settings have more than {MAX_LEVELS} levels")
    if isinstance(value, Mapping):
        return _plain_dict(name, value, levels)
    return [_plain(f"{name}[{place}]", one, levels - 1) for place, one in enumerate(value)]


def _plain_dict(name: str, value: Mapping[Any, Any], levels: int) -> dict[str, Any]:
    found = {}
    for key, one in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{name} has the key {shown(key)}; it must be str")
        found[_plain_text(key)] = _plain(f"{name}[{shown(key)}]", one, levels - 1)
    if len(found) != len(value):
        raise ValueError(f"{name} has two keys that are equal in JSON")
    return found


def _plain_text(value: str) -> str:
    """Return a str; a pair of surrogates becomes the character that it encodes."""
    text = str(value)
    return text if text.isascii() else str(json.loads(json.dumps(text)))


def _plain_number(name: str, value: numbers.Real) -> int | float:
    if isinstance(value, numbers.Integral):
        number = int(value)
        if abs(number) >= 10**MAX_DIGITS:
            raise ValueError(f"{name} has more than {MAX_DIGITS} digits")
        return number
    try:
        real = float(value)
    except OverflowError:
        real = math.inf
    if not math.isfinite(real) or real != value:
        raise ValueError(f"{name} is {shown(value)}; it must be a finite float64")
    return real
