"""How well a model predicts the text that was held out from its training, in the usual units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fastrnn.inference import sums
from fastrnn.model.history import History

#: The keys of a record that have an evaluation of its weights: loss, symbols and bytes.
LOSS, SYMBOLS, BYTES = "held_out_loss", "held_out_symbols", "held_out_bytes"


@dataclass(frozen=True)
class Evaluation:
    """The loss of a model on a text.

    Attributes
    ----------
    loss
        The mean cross-entropy in nats per symbol.
    symbols
        The number of symbols that it is the mean of; the end of a document is one too.
    bytes
        How many bytes these have in UTF-8; the end of a document has one, as a line end. ``None`` for tokens.
    """

    loss: float
    symbols: int
    bytes: int | None

    @property
    def bits_per_symbol(self) -> float:
        """The mean bits of a symbol."""
        return self.loss / math.log(2)

    @property
    def bits_per_byte(self) -> float | None:
        """The mean bits of a byte of UTF-8; ``None`` for tokens."""
        return None if self.bytes is None else self.bits_per_symbol * (self.symbols / self.bytes)

    @property
    def perplexity(self) -> float:
        """``2 ** bits_per_symbol``; infinity if that is too large for a float."""
        return sums.perplexity(self.bits_per_symbol)

    @classmethod
    def of_history(cls, history: History) -> Self | None:
        """The last evaluation of a history; ``None`` if it has none."""
        losses = history.columns().get(LOSS)
        if losses is None:
            return None
        return cls.of_record(history[int(np.flatnonzero(~np.isnan(losses))[-1])])

    @classmethod
    def of_record(cls, record: Mapping[str, float]) -> Self | None:
        """The evaluation that a record has; ``None`` if it has none."""
        symbols, n_bytes = record.get(SYMBOLS, 0), record.get(BYTES, 0)
        if LOSS not in record or not 1 <= symbols < math.inf:
            return None
        return cls(record[LOSS], int(symbols), int(n_bytes) if 1 <= n_bytes < math.inf else None)

    def as_record(self) -> dict[str, float]:
        """The keys and values of a record that has this evaluation."""
        n_bytes = {} if self.bytes is None else {BYTES: self.bytes}
        return {LOSS: self.loss, SYMBOLS: self.symbols, **n_bytes}

    def describe(self) -> dict[str, float | None]:
        """The evaluation in all units, as plain data."""
        return {
            "symbols": self.symbols,
            "bytes": self.bytes,
            "nats_per_symbol": self.loss,
            "bits_per_symbol": self.bits_per_symbol,
            "bits_per_byte": self.bits_per_byte,
            "perplexity": self.perplexity,
        }

    def in_words(self, unit: str) -> str:
        """The evaluation in all units, for the log."""
        per_byte = "" if self.bits_per_byte is None else f"{self.bits_per_byte:.4f} bits/byte, "
        return (
            f"{self.bits_per_symbol:.4f} bits/{unit} ({self.loss:.4f} nats), {per_byte}"
            f"perplexity {self.perplexity:.4g}"
        )


def kept_place(history: History, settings: Mapping[str, Any]) -> int:
    """The place in a history of the record of the weights that a model got."""
    losses = history.columns().get("validation_loss")
    if settings.get("keep") != "best" or losses is None or "refit" in history[-1]:
        return -1
    return int(np.nanargmin(losses))
