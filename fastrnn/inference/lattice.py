"""The best paths through a lattice of alternatives, by their own weights and the model's probability.

A hypothesis is a path from the first node. Of the hypotheses with the same text at a node, the best is kept.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastrnn.core import checks
from fastrnn.data.vocabulary import Text
from fastrnn.inference.continuations import Places, scores_of_continuations
from fastrnn.inference.scoring import Floats, Named, Scorer
from fastrnn.inference.sums import finite, total

#: So many hypotheses are extended at a time.
EXTENDED_AT_ONCE = 1 << 10

#: What a lattice is, for errors.
ALLOWED = (
    "a lattice is a list of steps, each a list of (text, weight), or a list of edges, each "
    "(start, end, text, weight)"
)

#: The name in errors of the text of an edge.
UNNAMED: Named = "lattice: ".format


class Edge(NamedTuple):
    """An alternative: a text with a weight, from a node to a later one."""

    start: int
    end: int
    text: Text
    weight: float


class Hypothesis(NamedTuple):
    """A path from the first node: its text, its score, and the place that the model has reached."""

    text: Text
    score: float
    places: Places


class Beam:
    """The best hypotheses at a node, at most ``width``; of equal ones, those that came first."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._by_text: dict[Hashable, Hypothesis] = {}

    def add(self, new: Hypothesis) -> None:
        """Add a hypothesis."""
        key: Any = new.text.tobytes() if isinstance(new.text, np.ndarray) else new.text
        known = self._by_text.get(key)
        if known is None or new.score > known.score:
            self._by_text[key] = new
        if len(self._by_text) > 2 * self._width:
            best = sorted(self._by_text.items(), key=lambda item: -item[1].score)[: self._width]
            self._by_text = dict(best)

    def best(self) -> list[Hypothesis]:
        """The hypotheses, best first."""
        return sorted(self._by_text.values(), key=lambda one: -one.score)[: self._width]


@dataclass(frozen=True)
class Search:
    """A beam search.

    Attributes
    ----------
    scorer
        Scores texts in nats, without the ends of documents.
    width
        The most hypotheses that are kept at a node.
    model_weight
        The factor of the model's logarithms.
    """

    scorer: Scorer
    width: int
    model_weight: float

    def best(self, edges: list[Edge], prefix: Text | None, *, end: bool) -> list[Hypothesis]:
        """The best paths from the lowest node to the highest one, best first."""
        beams: dict[int, Beam] = defaultdict(lambda: Beam(self.width))
        leaving: dict[int, list[Edge]] = defaultdict(list)
        for edge in edges:
            leaving[edge.start].append(edge)
        first = min(leaving, default=0)
        last = max((edge.end for edge in edges), default=first)
        places, nats_left = Places.after(self.scorer, prefix)
        beams[first].add(Hypothesis(self._nothing, self.model_weight * nats_left, places))
        for node in sorted(leaving):
            pairs = itertools.product(beams.pop(node, Beam(1)).best(), leaving[node])
            while some := list(itertools.islice(pairs, EXTENDED_AT_ONCE)):
                for (_, edge), extended in zip(some, self._extended(some), strict=True):
                    beams[edge.end].add(extended)
        found = beams[last].best()
        if not found:
            raise ValueError(f"lattice has no path from its first node, {first}, to its last one, {last}")
        return self._ended(found, end=end)

    def _extended(self, pairs: list[tuple[Hypothesis, Edge]]) -> list[Hypothesis]:
        """Each hypothesis with the text and the weight of its edge."""
        places = Places.joined([one.places for one, _ in pairs])
        texts = [edge.text for _, edge in pairs]
        losses = scores_of_continuations(self.scorer, places, texts, UNNAMED, final=False)
        found = []
        for row, ((one, edge), nats) in enumerate(zip(pairs, losses, strict=True)):
            text = self.scorer.vocabulary.joined([one.text, edge.text])
            score = self._score(one.score + edge.weight, nats)
            found.append(Hypothesis(text, score, places.at(np.array([row]))))
        return found

    @property
    def _nothing(self) -> Text:
        return self.scorer.vocabulary.joined([])

    def _ended(self, found: list[Hypothesis], *, end: bool) -> list[Hypothesis]:
        """The hypotheses with what their texts have left, and the ends of documents if asked, best first."""
        places = Places.joined([one.places for one in found])
        scorer = replace(self.scorer, end=end)
        losses = scores_of_continuations(scorer, places, [self._nothing] * len(found), UNNAMED)
        ended = [
            one._replace(score=self._score(one.score, nats)) for one, nats in zip(found, losses, strict=True)
        ]
        return sorted(ended, key=lambda one: -one.score)

    def _score(self, before: float, losses: Floats) -> float:
        score = before - self.model_weight * finite(total(losses))
        if not math.isfinite(score):
            raise ValueError(f"lattice: a path has the score {score}: its weights are too large")
        return score


def checked_edges(lattice: Any) -> list[Edge]:
    """The edges of a lattice, which is checked."""
    if isinstance(lattice, str | bytes) or not isinstance(lattice, Iterable):
        raise TypeError(f"lattice is {type(lattice).__name__}; {ALLOWED}")
    items = list(lattice)
    if items and _is_edge(items[0]):
        return [_checked_edge(f"lattice[{place}]", item) for place, item in enumerate(items)]
    return [edge for place, step in enumerate(items) for edge in _edges_of_step(place, step)]


def _is_edge(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 4 and isinstance(item[0], numbers.Integral)


def _checked_edge(name: str, item: Any) -> Edge:
    if not _is_edge(item):
        raise TypeError(f"{name}={checks.shown(item)} must be an edge, as the first one; {ALLOWED}")
    start = checks.whole_number(f"{name}[0]", item[0], minimum=0)
    end = checks.whole_number(f"{name}[1]", item[1], minimum=start + 1)
    return Edge(start, end, item[2], _weight(f"{name}[3]", item[3]))


def _edges_of_step(place: int, step: Any) -> list[Edge]:
    """The edges of a step: from the node of its place to the next one."""
    if isinstance(step, str | bytes) or not isinstance(step, Iterable):
        raise TypeError(f"lattice[{place}]={checks.shown(step)} must be a step; {ALLOWED}")
    edges = []
    for alternative, pair in enumerate(step):
        name = f"lattice[{place}][{alternative}]"
        if isinstance(pair, str | bytes) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(f"{name}={checks.shown(pair)} must be (text, weight); {ALLOWED}")
        edges.append(Edge(place, place + 1, pair[0], _weight(f"{name}[1]", pair[1])))
    if not edges:
        raise ValueError(f"lattice[{place}] is empty; a step must have at least one alternative")
    return edges


def _weight(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={checks.shown(value)} must be a finite number")
    try:
        weight = float(value)
    except OverflowError:
        weight = math.inf
    if not math.isfinite(weight):
        raise ValueError(f"{name}={checks.shown(value)} must be a finite number")
    return weight
