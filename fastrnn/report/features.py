"""Simple properties of a text, one number for each symbol, that may explain what a hidden unit does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fastrnn.report.symbols import Sign
from fastrnn.report.trace import Floats, Trace

#: A property must be above its mean, and below, at so many symbols at least.
MIN_OCCURRENCES = 8

#: The brackets that open and close, and the quotation marks that open, close, or do either.
OPENING, CLOSING = frozenset("([{"), frozenset(")]}")
OPENING_QUOTES, CLOSING_QUOTES, QUOTES = frozenset("“„«"), frozenset("”»"), frozenset('"')

VOWELS = frozenset("aeiouyAEIOUY")

#: A property of the symbols of one text.
Property = Callable[[Sequence[str]], list[float]]


def position_in_line(text: Sequence[str]) -> list[float]:
    """How many symbols of the line came before each symbol; a line feed is at the end of its line."""
    found, position = [], 0
    for c in text:
        found.append(float(position))
        position = 0 if c == "\n" else position + 1
    return found


def position_in_word(text: Sequence[str]) -> list[float]:
    """How many letters of the word there are so far; 0 outside a word."""
    found, position = [], 0
    for c in text:
        position = position + 1 if c.isalpha() else 0
        found.append(float(position))
    return found


def indentation(text: Sequence[str]) -> list[float]:
    """How many spaces or tabs the line began with, so far."""
    found, depth, is_at_start = [], 0, True
    for c in text:
        if c == "\n":
            depth, is_at_start = 0, True
        elif is_at_start and c in " \t":
            depth += 1
        else:
            is_at_start = False
        found.append(float(depth))
    return found


def inside_brackets(text: Sequence[str]) -> list[float]:
    """Whether a round, square or curly bracket is open."""
    found, depth = [], 0
    for c in text:
        depth = depth + 1 if c in OPENING else max(0, depth - (c in CLOSING))
        found.append(float(depth > 0))
    return found


def inside_quotes(text: Sequence[str]) -> list[float]:
    """Whether a quotation is open; an empty line ends it."""
    found, is_open, before = [], False, ""
    for c in text:
        if c in QUOTES:
            is_open = not is_open
        elif c in OPENING_QUOTES:
            is_open = True
        elif c in CLOSING_QUOTES or c == before == "\n":
            is_open = False
        before = c
        found.append(float(is_open))
    return found


def _each(is_so: Callable[[str], bool]) -> Property:
    return lambda text: [float(is_so(c)) for c in text]


#: The properties of characters and bytes, by the words that name them.
PROPERTIES: dict[str, Property] = {
    "position in the line": position_in_line,
    "position in the word": position_in_word,
    "indentation of the line": indentation,
    "inside brackets": inside_brackets,
    "inside quotation marks": inside_quotes,
    "upper-case letter": _each(str.isupper),
    "letter": _each(str.isalpha),
    "vowel": _each(VOWELS.__contains__),
    "digit": _each(str.isdigit),
    "space": _each(lambda c: c == " "),
    "punctuation": _each(lambda c: c.isprintable() and not c.isalnum() and not c.isspace()),
    "end of a line": _each(lambda c: c == "\n"),
}


def features(trace: Trace, signs: Sequence[Sign], unit: str) -> dict[str, Floats]:
    """The properties (n) that vary, by name."""
    found = dict(_of_characters(trace, signs)) if unit != "token" else {}
    lengths = np.diff(trace.begins)
    if len(lengths) > 1 or unit == "token":
        found["position in the text"] = np.arange(trace.begins[-1]) - np.repeat(
            trace.begins[:-1], lengths
        ).astype(np.float64)
    if unit == "token":
        found["same token as before"] = np.append(0.0, trace.ids[1:] == trace.ids[:-1])[: len(trace.ids)]
    found["surprisal of the symbol"] = np.where(np.isnan(trace.bits), 0.0, trace.bits)
    found["uncertainty about the next symbol"] = np.append(trace.forecast.entropy[1:], 0.0)[: len(trace.ids)]
    return {name: values for name, values in found.items() if _varies(values)}


def _of_characters(trace: Trace, signs: Sequence[Sign]) -> Iterator[tuple[str, Floats]]:
    characters = ["\n" if sign.ends_line else sign.text[:1] for sign in signs]
    bounds = trace.begins.tolist()
    texts = [characters[start:stop] for start, stop in itertools.pairwise(bounds)]
    for name, of_text in PROPERTIES.items():
        values = [value for text in texts for value in of_text(text)]
        yield name, np.array(values, np.float64)


def _varies(values: NDArray[np.float64]) -> bool:
    if not values.size:
        return False
    mean = values.cumsum()[-1] / len(values)
    return bool(min((values > mean).sum(), (values < mean).sum()) >= MIN_OCCURRENCES)
