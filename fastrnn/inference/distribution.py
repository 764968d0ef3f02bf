"""The probability of every symbol that could come next, in the arithmetic of the kernels that draw symbols.

B prefixes · V vocabulary · Z arrays of a state · L layers · H hidden units
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.backends.backend import Backend
from fastrnn.core.constants import FUNCTIONS
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.network.network import Network

Floats = NDArray[np.float64]


def elementary(backend: Backend, function: str, x: NDArray[Any]) -> NDArray[Any]:
    """Return one of `FUNCTIONS`, by its name, of each element, with the same bits on every machine."""
    x = np.ascontiguousarray(x)
    y = np.empty_like(x)
    backend.elementary(y=y, x=x, function=FUNCTIONS.index(function), n=x.size)
    return y


def softmax(backend: Backend, logits: NDArray[Any]) -> Floats:
    """The probabilities (B, V) of logits (B, V), with the same bits on every machine.

    The exponentials are those of the kernels, and each row is summed in float64, in the order of the symbols.
    """
    powers = elementary(backend, "exp", logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = powers.astype(np.float64)
    probabilities /= probabilities.cumsum(axis=1)[:, -1:]
    return probabilities


def log_softmax(backend: Backend, logits: NDArray[Any]) -> Floats:
    """The natural logarithms of `softmax`, computed in float64; none is infinite for finite logits."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    sums = elementary(backend, "exp", shifted).cumsum(axis=1)[:, -1:]
    logarithms: Floats = shifted - elementary(backend, "log", sums)
    return logarithms


def next_probabilities(network: Network, symbols: NDArray[np.int32], state: NDArray[Any]) -> Floats:
    """The probabilities (B, V) of the symbols that follow each of ``symbols`` (B).

    The state (Z, L, B, H) is the one before these symbols; it is replaced by the one after them.
    """
    B = len(symbols)
    logits = np.empty((1, B, network.shape.V), network.dtype)
    network.run_logits(logits, state, symbols[np.newaxis], np.zeros((1, B), np.uint8))
    if not np.isfinite(logits).all():
        raise network.out_of_range()
    return softmax(network.backend, logits[0])


#: The keys of the end of a document and of the unknown symbol. No symbol is a str of several characters.
END, UNKNOWN = "<end>", "<unknown>"


def keys_of(vocabulary: Vocabulary) -> list[Any]:
    """What each id stands for (V): a str or bytes of one symbol, a token's number, `UNKNOWN` or `END`."""
    ids = np.arange(len(vocabulary.symbols))
    if vocabulary.unit == "byte":
        keys: list[Any] = [bytes([code]) for code in vocabulary.symbols.tolist()]
    else:
        keys = ids.tolist() if vocabulary.unit == "token" else list(vocabulary.decode(ids))
    return keys + [UNKNOWN] * vocabulary.unknown + [END] * vocabulary.boundary


def by_symbol(vocabulary: Vocabulary, probabilities: Floats) -> dict[Any, float]:
    """Probabilities (V) by what each symbol is, the most probable first."""
    keys = keys_of(vocabulary)
    order = np.argsort(-probabilities, kind="stable").tolist()
    return {keys[symbol]: float(probabilities[symbol]) for symbol in order}
