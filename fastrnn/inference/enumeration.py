"""The most probable documents of a model, in order: a best-first search over their beginnings.

No document is more probable than its beginning. So a document is the next one as soon as it is more probable
than every beginning that was not extended yet.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.memory import readable
from fastrnn.data.vocabulary import Text, Vocabulary
from fastrnn.inference.scoring import Floats
from fastrnn.inference.steps import MAX_ROWS, Steps
from fastrnn.network.execution import Array
from fastrnn.network.network import Network

#: About the bytes of Python's objects for a beginning or a document, and for each of its symbols.
OBJECT_BYTES, SYMBOL_BYTES = 600, 8


@dataclass(frozen=True)
class Beginning:
    """The beginning of documents.

    Attributes
    ----------
    ids
        Its symbols.
    state
        The state after them (Z, L, H).
    followers
        The ids that follow and are probable enough, the most probable first.
    logarithms
        The natural logarithms of the probabilities of the beginning with each of these.
    """

    ids: tuple[int, ...]
    state: Array
    followers: NDArray[np.int64]
    logarithms: Floats

    @property
    def n_bytes(self) -> int:
        """About the memory that it takes."""
        arrays = self.state.nbytes + self.followers.nbytes + self.logarithms.nbytes
        return OBJECT_BYTES + SYMBOL_BYTES * len(self.ids) + arrays


class Enumeration:
    """The documents of a model, the most probable first, with the natural logarithms of their probabilities.

    Equally probable ones are in the order of their ids. A document with the unknown symbol is left out.

    Parameters
    ----------
    network, vocabulary
        The model's.
    max_length
        Longer documents are left out.
    max_memory
        The most bytes that may be kept.
    least
        Documents whose logarithm is below this are left out.
    count
        How many documents are wanted; ``None`` is all.
    """

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        *,
        max_length: int,
        max_memory: int,
        least: float = -math.inf,
        count: int | None = None,
    ) -> None:
        self._steps, self._vocabulary = Steps(network), vocabulary
        self._max_length, self._max_memory = max_length, max_memory
        self._least, self._count = least, count
        #: The logarithms of the best ``count`` documents, the least first.
        self._best: list[float] = []
        #: Each beginning once, by the logarithm of its next follower, with the place of this follower.
        self._queue: list[tuple[float, int, Beginning, int]] = []
        #: The documents that are known and not yet the next ones.
        self._found: list[tuple[float, tuple[int, ...]]] = []
        self._numbers = itertools.count()
        self._memory = 0

    def documents(self) -> Iterator[tuple[Text, float]]:
        """Yield each document with its logarithm.

        Raises
        ------
        MemoryError
            The search would keep more than ``max_memory`` bytes.
        ValueError
            The model's parameters are out of range.
        """
        shape, boundary = self._steps.network.shape, self._vocabulary.size - 1
        nothing = np.zeros((shape.Z, shape.L, 1, shape.H), self._steps.network.dtype)
        self._extend([()], np.array([boundary], np.int32), nothing, np.zeros(1))
        yielded = 0
        while self._found or self._queue:
            while self._found and (not self._queue or self._found[0][0] < self._queue[0][0]):
                negative, ids = heapq.heappop(self._found)
                self._memory -= OBJECT_BYTES + SYMBOL_BYTES * len(ids)
                yield self._vocabulary.decode(np.array(ids, np.int64)), -negative
                yielded += 1
                if yielded == self._count:
                    return
            self._extend_some()
            if self._memory > self._max_memory:
                raise MemoryError(
                    f"after {yielded:,} documents, the search needs more than max_memory={self._max_memory} "
                    f"({readable(self._max_memory)}): allow more, or ask for fewer or shorter documents"
                )

    def _extend_some(self) -> None:
        """Extend the most probable beginnings, each by its next follower."""
        taken: list[tuple[Beginning, int, float]] = []
        while self._queue and len(taken) < MAX_ROWS:
            negative, _, beginning, place = heapq.heappop(self._queue)
            if -negative < self._least:
                self._queue.clear()
                break
            self._memory -= beginning.n_bytes
            taken.append((beginning, int(beginning.followers[place]), -negative))
            self._keep(beginning, place + 1)
        if taken:
            self._extend(
                [(*beginning.ids, symbol) for beginning, symbol, _ in taken],
                np.array([symbol for _, symbol, _ in taken], np.int32),
                np.stack([beginning.state for beginning, _, _ in taken], axis=2),
                np.array([logarithm for _, _, logarithm in taken]),
            )

    def _extend(
        self, beginnings: list[tuple[int, ...]], symbols: NDArray[np.int32], state: Array, logarithms: Floats
    ) -> None:
        """Keep beginnings (B) and the documents that end after them.

        The state (Z, L, B, H) is the one before their last symbols. It is replaced.
        """
        followed = logarithms[:, np.newaxis] + self._steps.log_probabilities(symbols, state)
        for ids, logarithm in zip(beginnings, followed[:, -1].tolist(), strict=True):
            self._find(ids, logarithm)
        characters = followed[:, : len(self._vocabulary.symbols)]
        order = np.argsort(-characters, axis=1, kind="stable")
        ordered = np.take_along_axis(characters, order, axis=1)
        enough = np.count_nonzero((ordered >= self._least) & (ordered > -math.inf), axis=1).tolist()
        for row, ids in enumerate(beginnings):
            if len(ids) < self._max_length:
                followers, after = order[row, : enough[row]].copy(), ordered[row, : enough[row]].copy()
                self._keep(Beginning(ids, state[:, :, row].copy(), followers, after), 0)

    def _find(self, ids: tuple[int, ...], logarithm: float) -> None:
        """Keep a document."""
        if logarithm < self._least or logarithm == -math.inf:
            return
        heapq.heappush(self._found, (-logarithm, ids))
        self._memory += OBJECT_BYTES + SYMBOL_BYTES * len(ids)
        if self._count is not None:
            heapq.heappush(self._best, logarithm)
            if len(self._best) > self._count:
                heapq.heappop(self._best)
            if len(self._best) == self._count:
                self._least = self._best[0]

    def _keep(self, beginning: Beginning, place: int) -> None:
        """Keep a beginning, to extend it by its follower at this place, if that is probable enough."""
        if place < len(beginning.followers) and beginning.logarithms[place] >= self._least:
            item = -float(beginning.logarithms[place]), next(self._numbers), beginning, place
            heapq.heappush(self._queue, item)
            self._memory += beginning.n_bytes
