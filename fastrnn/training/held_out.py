"""What is held out from training, and the loss of the model on all of it, measured when training ends."""

from __future__ import annotations

import itertools
import math
import numbers
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.batches import Batch
from fastrnn.data.corpus import Corpus, Documents, Sequence
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference import scoring, sums
from fastrnn.inference.reading import steps_at_once
from fastrnn.model.evaluation import Evaluation
from fastrnn.network.network import Network

#: The most rows in which the held-out part is read side by side, and the fewest symbols of a row. The state
#: is zero where a row begins, which so costs next to nothing.
ROWS, SYMBOLS_OF_ROW = 32, 1 << 14

#: The most symbols of a native call: few, so that a long held-out part takes no more memory than a short one.
AT_ONCE = 1 << 14


@dataclass(frozen=True)
class HeldOut:
    """All that is held out.

    Attributes
    ----------
    batch
        What each record of the training is measured on.
    ids
        All of it, or ``None`` if the batch is all of it.
    cuts
        Where the rows begin in which the ids are read, and the last place at which an id is an input.
    vocabulary
        The vocabulary of the ids.
    byte_lengths
        How many bytes each id has (V), or ``None`` for tokens.
    """

    batch: Batch
    ids: Sequence | None
    cuts: tuple[int, ...]
    vocabulary: Vocabulary
    byte_lengths: NDArray[np.float64] | None

    @classmethod
    def of_corpus(cls, batch: Batch, corpus: Corpus, ids: Sequence, vocabulary: Vocabulary) -> Self:
        """A text or documents. A row begins where a document does."""
        n = len(ids) - 1
        rows = max(1, min(ROWS, n // SYMBOLS_OF_ROW))
        cuts = np.arange(rows + 1) * n // rows
        if isinstance(corpus, Documents):
            begins = corpus.boundaries
            cuts = np.unique(begins[np.searchsorted(begins, cuts, side="right") - 1])
        return cls(batch, ids, tuple(cuts.tolist()), vocabulary, vocabulary.byte_lengths(corpus.counts))

    @classmethod
    def of_rows(cls, batch: Batch, corpus: Corpus, vocabulary: Vocabulary) -> Self:
        """The ends of the rows of the corpus that is trained on."""
        return cls(batch, None, (), vocabulary, vocabulary.byte_lengths(corpus.counts))

    def evaluate(
        self,
        network: Network,
        counts: NDArray[np.int64],
        *,
        seconds: float = math.inf,
        tell: Callable[[float], None] = lambda _: None,
    ) -> Evaluation:
        """The loss of a network on all that is held out, as `fastrnn.Model.bits_per_symbol` scores it.

        It is read in short native calls, and never whole in memory. After ``seconds`` no further call is
        made, and the loss is that of the beginnings of the rows. The ends of documents count. The first
        symbol of a running text is predicted from ``counts``; that of a row of a batch is not predicted.

        Parameters
        ----------
        network
            The network.
        counts
            How often each symbol occurs in the training text (V).
        seconds
            The most time that it may take, about; at least one call is made.
        tell
            It is called with the fraction that is done.
        """
        began, found = time.monotonic(), np.zeros(self.vocabulary.size, np.int64)
        losses = []
        if self.ids is not None and not self.vocabulary.boundary:
            (first,) = self.ids.read(0, 1)
            losses.append(float(-np.log(scoring.first_symbol_probabilities(counts)[first])))
            found[first] += 1
        state = network.checked_state(None, self._rows)
        for window in self._windows(lambda B: min(steps_at_once(network, B), max(1, AT_ONCE // B))):
            state = np.ascontiguousarray(state[:, :, : window.batch_size])
            some = np.empty(window.inputs.shape)
            network.run_losses(some, state, window.inputs, window.targets, window.starts)
            losses.append(sums.total(some))
            found += np.bincount(window.targets.ravel(), minlength=len(found))
            tell(int(found.sum()) / self.symbols)
            if time.monotonic() - began > seconds:
                break
        symbols, lengths = int(found.sum()), self.byte_lengths
        n_bytes = None if lengths is None else round(float((found * lengths).sum()))
        return Evaluation(math.fsum(losses) / symbols, symbols, n_bytes)

    @property
    def symbols(self) -> int:
        """How many symbols are held out and predicted, with the ends of documents."""
        if self.ids is None:
            return self.batch.targets.size
        return len(self.ids) - self.vocabulary.boundary

    @property
    def _rows(self) -> int:
        """The number of rows of the first window."""
        return self.batch.batch_size if self.ids is None else len(self.cuts) - 1

    def _windows(self, steps_at_once: Callable[[int], int]) -> Iterator[Batch]:
        """All windows, the longest rows first; a row that ends leaves the window."""
        if self.ids is None:
            T = steps_at_once(self.batch.batch_size)
            for start in range(0, self.batch.n_steps, T):
                yield Batch(*(array[start : start + T] for array in vars(self.batch).values()))
            return
        rows = sorted(itertools.pairwise(self.cuts), key=lambda row: row[0] - row[1])
        while rows:
            shortest = rows[-1][1] - rows[-1][0]
            T = min(steps_at_once(len(rows)), shortest)
            symbols = np.stack([self.ids.read(start, start + T + 1) for start, _ in rows], axis=1)
            starts = np.zeros((T, len(rows)), np.uint8)
            if self.vocabulary.boundary:
                starts[symbols[:-1] == self.vocabulary.boundary_id] = 1
            yield Batch(symbols[:-1], symbols[1:], starts)
            rows = [(start + T, stop) for start, stop in rows if start + T < stop]


def is_text(name: str, value: Any) -> bool:
    """Whether a value is a text, and not a fraction. A str that is a number is refused: it is a mistake."""
    if value is None or isinstance(value, numbers.Real):
        return False
    if isinstance(value, str):
        with suppress(ValueError):
            raise TypeError(f"{name}={value!r} is a str, which is a text: give the number, {float(value):g}")
    return True
