"""Small models with random parameters."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fastrnn import Model, Network
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary
from helpers import CELLS, draw_parameters

#: The kinds of texts: whether they are documents, and their unit.
KINDS: dict[str, tuple[bool, str]] = {
    "text": (False, "character"),
    "documents": (True, "character"),
    "bytes": (False, "byte"),
    "tokens": (False, "token"),
    "documents of tokens": (True, "token"),
}

#: Each kind with one cell, and each cell with documents.
KINDS_AND_CELLS = [
    *((kind, "tanh") for kind in KINDS),
    *(("documents", cell) for cell in CELLS if cell != "tanh"),
]


def random_model(
    backend: str,
    kind: str = "documents",
    *,
    symbols: int = 3,
    unknown: bool = False,
    seed: int = 0,
    **settings: Any,
) -> Model:
    """A model of "abc…", of bytes, or of tokens from 0, in float64 and with parameters within ±1."""
    boundary, unit = KINDS[kind]
    if unit == "token":
        vocabulary: Vocabulary = TokenVocabulary.of_count(symbols, boundary)
    else:
        codes = np.arange(256) if unit == "byte" else np.arange(97, 97 + symbols)
        vocabulary = Vocabulary(unit, codes.astype(np.uint32), boundary, unknown=unknown)
    settings = {"hidden_size": 5, "dtype": "float64", "initialization": "zeros", "threads": 1, **settings}
    network = draw_parameters(Network(vocabulary.size, backend=backend, **settings), seed, 1.0)
    counts = np.arange(1, vocabulary.size + 1)
    if boundary:
        counts[-1] = 0
    return Model(network, vocabulary, counts)


def text_of(kind: str, text: str) -> Any:
    """A text over "abc…" as a model of this kind reads it."""
    unit = KINDS[kind][1]
    if unit == "token":
        return [ord(c) - 97 for c in text]
    return text.encode() if unit == "byte" else text


def all_documents(model: Model, max_length: int, symbols: str = "abc") -> list[tuple[str, float]]:
    """Every document of up to so many symbols, the most probable first."""
    texts = ["".join(text) for n in range(max_length + 1) for text in itertools.product(symbols, repeat=n)]
    with_logarithms = [
        (text, -float(nats.sum() * math.log(2)))
        for text, nats in zip(texts, model.score_many(texts, end=True), strict=True)
    ]
    return sorted(with_logarithms, key=lambda pair: -pair[1])
