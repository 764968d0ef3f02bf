"""The hidden states of a network that reads texts, as features.

B texts · Z arrays of a state · L layers · H hidden units
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.data.vocabulary import Text
from fastrnn.inference.continuations import Places
from fastrnn.inference.scoring import FIRST_AHEAD, MAX_AHEAD, Ids, Named, Scorer, in_groups, named_from
from fastrnn.inference.steps import MAX_ROWS, Steps
from fastrnn.network.execution import Array

#: How the states of a text's symbols become features.
POOLS = ("last", "mean", "each")


@dataclass(frozen=True)
class Features:
    """Makes features of texts.

    Attributes
    ----------
    scorer
        How texts are read.
    layer
        The layer whose states are taken, from 0.
    pool
        ``"last"``, ``"mean"`` or ``"each"``.
    """

    scorer: Scorer
    layer: int
    pool: str

    @classmethod
    def checked(cls, scorer: Scorer, layer: Any, pool: Any) -> Features:
        """The features with these options, which are checked: those of `Model.hidden`."""
        L = scorer.network.shape.L
        layer = checks.whole_number("layer", layer, minimum=-L, maximum=L - 1)
        return cls(scorer, layer % L, checks.one_of("pool", pool, POOLS))

    def of_texts(self, texts: Iterable[Text], named: Named) -> Iterator[Array]:
        """Yield the features of each text; some texts are read ahead."""
        whole = ((self.scorer.vocabulary.as_read(text), True) for text in texts)
        place, steps = 0, Steps(self.scorer.network)
        for group, _ in in_groups(whole, FIRST_AHEAD, MAX_AHEAD):
            named_here = partial(named_from, named, place)
            ids, lengths = self.scorer.vocabulary.encode_many(
                group, unknown=self.scorer.unknown, named=named_here
            )
            ends, known = np.cumsum(lengths), ids >= 0
            so_far = np.append(0, np.cumsum(known))
            yield from self._of_ids(steps, ids[known], so_far[ends] - so_far[ends - lengths])
            place += len(group)

    def _of_ids(self, steps: Steps, ids: Ids, lengths: NDArray[np.int64]) -> Iterable[Array]:
        """The features of texts, whose ids are joined."""
        if self.pool == "last":
            return self._last(steps, ids, lengths)
        return self._mean(steps, ids, lengths) if self.pool == "mean" else self._each(steps, ids, lengths)

    def _last(self, steps: Steps, ids: Ids, lengths: NDArray[np.int64]) -> Array:
        places = Places.at_beginnings(self.scorer, len(lengths))
        places.read(self.scorer, ids, lengths)
        begun = np.flatnonzero(places.before >= 0)  # not an empty running text
        some, found = places.at(begun), np.array(places.state[0, self.layer])
        steps.logits(some.before, some.state)
        found[begun] = some.state[0, self.layer]
        return found

    def _mean(self, steps: Steps, ids: Ids, lengths: NDArray[np.int64]) -> Array:
        sums = np.zeros((len(lengths), steps.network.shape.H))
        for rows, _, h in self._states(steps, ids, lengths):
            sums[rows] += h
        sums[lengths == 0] = self._first_state(steps)[0, self.layer]
        sums /= np.maximum(lengths, 1)[:, np.newaxis]
        return sums.astype(steps.network.dtype)

    def _each(self, steps: Steps, ids: Ids, lengths: NDArray[np.int64]) -> list[Array]:
        H, dtype = steps.network.shape.H, steps.network.dtype
        memory.require(len(ids) * H * dtype.itemsize, f"the states of {len(ids):,} symbols")
        found, ends = np.empty((len(ids), H), dtype), np.cumsum(lengths)
        for rows, t, h in self._states(steps, ids, lengths):
            found[(ends - lengths)[rows] + t] = h
        return np.split(found, ends[:-1])

    def _first_state(self, steps: Steps) -> Array:
        """The state before the first symbol of a text (Z, L, 1, H)."""
        places = Places.at_beginnings(self.scorer, 1)
        if self.scorer.vocabulary.boundary:
            steps.logits(places.before, places.state)
        return places.state

    def _states(
        self, steps: Steps, ids: Ids, lengths: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], int, Array]]:
        """Yield some texts, the number of a symbol in each, and the states after it (B, H).

        The symbols of a text come in their order. Texts are read side by side; the longest come first.
        """
        begins, by_length = np.cumsum(lengths) - lengths, np.argsort(-lengths, kind="stable")
        first = self._first_state(steps)
        for start in range(0, len(lengths), MAX_ROWS):
            rows = by_length[start : start + MAX_ROWS]
            state = np.repeat(first, len(rows), axis=2)
            for t in range(int(lengths[rows[0]])):
                rows = rows[lengths[rows] > t]
                state = np.ascontiguousarray(state[:, :, : len(rows)])
                steps.logits(ids[begins[rows] + t], state)
                yield rows, t, state[0, self.layer]
