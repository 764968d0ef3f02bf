"""The options of sampling: checks of them, and the rules that they give the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.data.vocabulary import Text, Vocabulary
from fastrnn.inference.automaton import NONE, Dfa, utf_8
from fastrnn.inference.pattern import compiled
from fastrnn.network.drawing import Automaton, Rules

Ids = NDArray[np.int32]

#: The highest penalty: logits that it multiplies stay finite.
HIGHEST_PENALTY = 1_000_000

#: The bytes of a character that may be missing their last ones.
LONGEST_CHARACTER = 4


class Constraints(TypedDict, total=False):
    """Which symbols a text may have; see `fastrnn.Model.sample`."""

    allowed: Text | None
    pattern: Any
    valid_utf8: bool


class SamplingOptions(Constraints, total=False):
    """The keyword arguments of `fastrnn.Model.sample` besides ``rng`` and ``unknown``."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    repetition_window: int
    no_repeat_ngram: int | None
    stop: Any


@dataclass(frozen=True)
class Options:
    """Checked options.

    Attributes
    ----------
    rules
        How symbols are drawn.
    stops
        Sequences of ids before which a text ends.
    """

    rules: Rules
    stops: tuple[Ids, ...]

    @classmethod
    def checked(
        cls,
        vocabulary: Vocabulary,
        prime: Text | None,
        n: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        repetition_window: int = 64,
        no_repeat_ngram: int | None = None,
        stop: Any = None,
        **constraints: Any,
    ) -> Self:
        """The options of a sample of n symbols after a prime."""
        window = checks.whole_number("repetition_window", repetition_window)
        penalty = 1.0 if repetition_penalty is None else _penalty(repetition_penalty)
        rules = Rules(
            temperature=checks.real_number("temperature", temperature, zero=True),
            top_k=checks.MAX_WHOLE_NUMBER if top_k is None else checks.whole_number("top_k", top_k),
            top_p=1.0 if top_p is None else checks.fraction("top_p", top_p, one=True),
            min_p=0.0 if min_p is None else checks.fraction("min_p", min_p, zero=True, one=True),
            penalty=penalty,
            window=window if penalty > 1 else 0,
            ngram=0 if no_repeat_ngram is None else checks.whole_number("no_repeat_ngram", no_repeat_ngram),
            automaton=automaton_of(vocabulary, prime, n, **constraints),
        )
        stops = _stops(vocabulary, stop)
        if stops and constraints.get("pattern") is not None:
            raise ValueError(
                "stop and pattern exclude each other: a text that stops early matches no pattern"
            )
        if stops and constraints.get("valid_utf8"):
            _require_utf8(vocabulary, stops)
        return cls(rules, stops)


def automaton_of(
    vocabulary: Vocabulary,
    prime: Text | None,
    n: int,
    *,
    allowed: Text | None = None,
    pattern: Any = None,
    valid_utf8: bool = False,
) -> Automaton | None:
    """The automaton of the texts that are allowed after a prime; ``None`` if all are."""
    symbols = np.arange(vocabulary.size) < len(vocabulary.symbols)
    if allowed is not None:
        symbols &= np.isin(np.arange(vocabulary.size), _allowed(vocabulary, allowed))
    dfa = Dfa.of_any(symbols)
    if pattern is not None:
        dfa = dfa.intersection(compiled(pattern, _symbols(vocabulary), vocabulary.size))
    if checks.flag("valid_utf8", valid_utf8):
        dfa = dfa.intersection(_valid_utf8(vocabulary, prime))
    if vocabulary.boundary_id is not None:
        dfa = dfa.with_end(vocabulary.boundary_id)
        symbols[vocabulary.boundary_id] = True
    if pattern is None and not valid_utf8 and symbols.all():
        return None
    automaton = dfa.trimmed()
    if automaton is None:
        raise ValueError(
            f"pattern={checks.shown(pattern)} matches no text of the symbols that the model knows and "
            "that are allowed"
        )
    if automaton.distances[0] > n:
        raise ValueError(
            f"n={n} must be at least {automaton.distances[0]}, the length of the shortest text that is "
            "allowed"
        )
    return automaton


def _penalty(value: Any) -> float:
    penalty = checks.real_number("repetition_penalty", value)
    if not 1 <= penalty <= HIGHEST_PENALTY:
        raise ValueError(f"repetition_penalty={checks.shown(value)} must be from 1 to {HIGHEST_PENALTY:,}")
    return penalty


def _encoded(name: str, vocabulary: Vocabulary, text: Any) -> Ids:
    """The ids of a text; the errors of `Vocabulary.encode` get the argument's name."""
    try:
        return vocabulary.encode(text)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def _allowed(vocabulary: Vocabulary, allowed: Any) -> Ids:
    ids = _encoded("allowed", vocabulary, allowed)
    if not ids.size:
        raise ValueError(f"allowed={checks.shown(allowed)} is empty; it must have at least one symbol")
    return ids


def _symbols(vocabulary: Vocabulary) -> list[Any]:
    """Each symbol as a text, in the order of the ids."""
    if vocabulary.unit == "token":
        raise ValueError("a pattern is for a model of characters or bytes, and this one is of tokens")
    return [vocabulary.decode(np.array([symbol])) for symbol in range(len(vocabulary.symbols))]


def _valid_utf8(vocabulary: Vocabulary, prime: Any) -> Dfa:
    """The automaton of bytes that are valid UTF-8 after a prime, which may end within a character."""
    if vocabulary.unit != "byte":
        raise ValueError(
            f"valid_utf8=True is for a model of bytes, and this one's unit is the {vocabulary.unit}"
        )
    valid = utf_8()
    limited = valid.starting_at(_begun_character(valid, bytes(prime or b"")))
    transitions = np.full((len(limited.accepting), vocabulary.size), NONE, np.int32)
    transitions[:, :256] = limited.transitions
    return Dfa(transitions, limited.accepting)


def _begun_character(valid: Dfa, prime: bytes) -> int:
    """The state of UTF-8 after the end of a prime; between characters if the end is invalid or complete."""
    for length in range(1, min(LONGEST_CHARACTER, len(prime) + 1)):
        state = valid.after(prime[-length:])
        if state > 0:
            return state
    return 0


def _stops(vocabulary: Vocabulary, stop: Any) -> tuple[Ids, ...]:
    """The ids of a stop text, or of several."""
    if stop is None:
        return ()
    is_one = isinstance(stop, str | bytes | bytearray | memoryview | np.ndarray)
    if not is_one and not isinstance(stop, Sequence):
        raise TypeError(f"stop={checks.shown(stop)} must be a text or a list of texts")
    if not is_one and len(stop) and all(isinstance(symbol, int | np.integer) for symbol in stop):
        is_one = True
    found = tuple(_encoded("stop", vocabulary, text) for text in ([stop] if is_one else stop))
    if any(not ids.size for ids in found):
        raise ValueError(f"stop={checks.shown(stop)} has an empty text; each must have at least one symbol")
    return found


def _require_utf8(vocabulary: Vocabulary, stops: Sequence[Ids]) -> None:
    """A text that ends before a whole character of UTF-8 is valid if it was valid with it."""
    for ids in stops:
        text: Any = vocabulary.decode(ids)
        try:
            text.decode()
        except UnicodeDecodeError:
            raise ValueError(f"stop={text!r} is no valid UTF-8, and valid_utf8=True asks for that") from None
