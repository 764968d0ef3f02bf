"""Candidates that could continue a prefix, by their probability."""

from __future__ import annotations

from functools import partial

from fastrnn.data.vocabulary import Text
from fastrnn.inference.continuations import Places, scores_of_continuations
from fastrnn.inference.scoring import Scorer, named_from
from fastrnn.inference.sums import finite, total

#: So many candidates are read at a time.
CANDIDATES_AT_ONCE = 1 << 10


def ranked(scorer: Scorer, prefix: Text | None, candidates: list[Text]) -> list[tuple[Text, float]]:
    """The candidates with the natural logarithms of their probabilities, best first; see `Model.rank`."""
    places, nats_left = Places.after(scorer, prefix)
    found: list[float] = []
    for first in range(0, len(candidates), CANDIDATES_AT_ONCE):
        some = candidates[first : first + CANDIDATES_AT_ONCE]
        named = partial(named_from, "candidate {}: ".format, first)
        losses = scores_of_continuations(scorer, places.repeated(len(some)), some, named)
        found += [nats_left - finite(total(one)) for one in losses]
    order = sorted(range(len(found)), key=found.__getitem__, reverse=True)
    return [(candidates[place], found[place]) for place in order]
