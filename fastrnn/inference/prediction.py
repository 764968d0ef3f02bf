"""The probabilities of what could follow a prefix, by symbol, and for many prefixes at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from fastrnn.core import memory
from fastrnn.data.vocabulary import Text
from fastrnn.inference.continuations import Places, scores_of_continuations
from fastrnn.inference.distribution import by_symbol, next_probabilities
from fastrnn.inference.scoring import Floats, Named, Scorer, first_symbol_probabilities, named_from

#: So many prefixes are read at a time.
PREFIXES_AT_ONCE = 1 << 10


def distribution_after(scorer: Scorer, prefix: Text | None) -> dict[Any, float]:
    """The probability of each symbol that could follow a prefix; see `Model.next_distribution`."""
    prefixes = [scorer.vocabulary.joined([]) if prefix is None else prefix]
    (probabilities,) = probabilities_after(scorer, prefixes, lambda _: "prefix: ")
    return by_symbol(scorer.vocabulary, probabilities)


def probabilities_after(scorer: Scorer, prefixes: Iterable[Text], named: Named) -> Floats:
    """The probabilities (n, V) of the symbols that could follow each prefix."""
    V = scorer.vocabulary.size
    found, left = [np.empty((0, V))], iter(prefixes)
    while some := list(itertools.islice(left, PREFIXES_AT_ONCE)):
        first = (len(found) - 1) * PREFIXES_AT_ONCE
        n = first + len(some)
        memory.require(8 * V * (n + len(some)), f"the probabilities after {n:,} prefixes")
        places = Places.at_beginnings(scorer, len(some))
        scores_of_continuations(scorer, places, some, partial(named_from, named, first))
        found.append(_after(scorer, places))
    return np.concatenate(found)


def _after(scorer: Scorer, places: Places) -> Floats:
    """The probabilities (B, V) of what follows each place."""
    probabilities = np.tile(first_symbol_probabilities(scorer.counts), (len(places.before), 1))
    begun = np.flatnonzero(places.before >= 0)
    if begun.size:
        some = places.at(begun)
        probabilities[begun] = next_probabilities(scorer.network, some.before, some.state)
    return probabilities
