"""Texts that continue others: many rows side by side, each from the place that it has reached.

B rows · V vocabulary · Z arrays of a state · L layers · H hidden units
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.pieces import NOTHING, Rest, read_piece
from fastrnn.data.vocabulary import Text
from fastrnn.inference.reading import steps_at_once
from fastrnn.inference.scoring import (
    PARALLEL_ROWS,
    Floats,
    Ids,
    Named,
    Scorer,
    first_symbol_losses,
)
from fastrnn.inference.sums import total
from fastrnn.network.execution import Array
from fastrnn.network.network import Network


@dataclass
class Places:
    """The places that B rows have reached, each in its own text.

    Attributes
    ----------
    before
        The ids of the last symbols (B). Before the first symbol it is the boundary's; in a running text, -1.
    state
        The states before these symbols (Z, L, B, H).
    rests
        What each text has left for its next piece (B).
    """

    before: Ids
    state: Array
    rests: list[Rest]

    @classmethod
    def at_beginnings(cls, scorer: Scorer, B: int) -> Self:
        """The beginnings of B texts."""
        boundary = scorer.vocabulary.boundary_id
        before = np.full(B, -1 if boundary is None else boundary, np.int32)
        return cls(before, scorer.network.checked_state(None, B), [NOTHING] * B)

    @classmethod
    def after(cls, scorer: Scorer, prefix: Text | None) -> tuple[Self, float]:
        """The place after a prefix of one text, and the nats of what is left of it, which is not read yet.

        The text that follows may change its last symbol: CR LF is one line end, and an accent may follow.
        """
        scorer, places = replace(scorer, end=False), cls.at_beginnings(scorer, 1)
        if prefix is not None:
            scores_of_continuations(scorer, places, [prefix], lambda _: "prefix: ", final=False)
        nothing = [scorer.vocabulary.joined([])]
        left = scores_of_continuations(scorer, places.repeated(1), nothing, lambda _: "prefix: ")
        return places, total(left[0])

    @classmethod
    def joined(cls, places: list[Places]) -> Self:
        """The places of all of these."""
        before = np.concatenate([one.before for one in places])
        state = np.concatenate([one.state for one in places], axis=2)
        return cls(before, state, [rest for one in places for rest in one.rests])

    def at(self, rows: NDArray[np.int64]) -> Self:
        """A copy of the places of some rows."""
        rests = [self.rests[row] for row in rows.tolist()]
        return type(self)(self.before[rows], np.ascontiguousarray(self.state[:, :, rows]), rests)

    def repeated(self, B: int) -> Self:
        """A copy of the first row's place, B times."""
        return self.at(np.zeros(B, np.int64))

    def read(self, scorer: Scorer, ids: Ids, lengths: NDArray[np.int64]) -> Floats:
        """The nats of the next symbols of each row, given all before them; the places move behind them.

        ``ids`` joins the rows' ids, all of which are known, and ``lengths`` (B) are their numbers.
        """
        losses, left = np.empty(len(ids)), lengths.copy()
        begins = np.cumsum(lengths) - lengths
        new = np.flatnonzero((self.before < 0) & (lengths > 0))  # they begin a running text
        if new.size:
            self.before[new] = ids[begins[new]]
            losses[begins[new]] = first_symbol_losses(scorer.network, scorer.counts)[self.before[new]]
            begins[new] += 1
            left[new] -= 1
        by_length = np.argsort(-left, kind="stable")
        for start in range(0, len(by_length), PARALLEL_ROWS):
            rows = by_length[start : start + PARALLEL_ROWS]
            some = self.at(rows)
            _read_side_by_side(scorer.network, losses, some, ids, begins[rows], left[rows])
            self.before[rows], self.state[:, :, rows] = some.before, some.state
        return losses


def _read_side_by_side(
    network: Network,
    losses: Floats,
    places: Places,
    ids: Ids,
    begins: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> None:
    """Read the next ids of a few rows, of which the longest come first; a row leaves at its end."""
    done, B = 0, int(np.count_nonzero(lengths))
    while B:
        T = min(int(lengths[B - 1]) - done, steps_at_once(network, B))
        where = begins[:B] + np.arange(done, done + T)[:, np.newaxis]
        targets = ids[where]
        inputs = np.concatenate([places.before[np.newaxis, :B], targets[:-1]])
        state, found = np.ascontiguousarray(places.state[:, :, :B]), np.empty((T, B))
        network.run_losses(found, state, inputs, targets, np.zeros((T, B), np.uint8))
        places.before[:B], places.state[:, :, :B] = targets[-1], state
        losses[where] = found
        done += T
        B = int(np.count_nonzero(lengths > done))


def scores_of_continuations(
    scorer: Scorer, places: Places, texts: list[Text], named: Named, *, final: bool = True
) -> list[Floats]:
    """The scores of the symbols of a text for each row; the places move behind the texts.

    If the texts are not ``final``, what they leave for their next pieces has no scores yet. With
    ``scorer.end``, the score of the document's end follows, and the places are not to be used again.
    """
    vocabulary, texts = scorer.vocabulary, list(texts)
    for row, text in enumerate(texts):
        if isinstance(text, str) and vocabulary.unit == "character":
            texts[row], places.rests[row] = read_piece(
                text, places.rests[row], newlines=vocabulary.newlines,
                normalization=vocabulary.normalization, strict=True, final=final,
            )  # fmt: skip
    ids, lengths, known_lengths = scorer.encoded(texts, named)
    if scorer.end:
        ids = np.insert(ids, np.cumsum(lengths), np.int32(scorer.vocabulary.size - 1))
        lengths, known_lengths = lengths + 1, known_lengths + 1
    losses = places.read(scorer, ids[ids >= 0], known_lengths)
    scores = scorer.scores_of(losses, ids, lengths, named)
    ends = np.cumsum(known_lengths if scorer.unknown == "skip" else lengths)
    return np.split(scores, ends[:-1])
