"""Small models of every kind, with random weights, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import Model, Network
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary
from helpers import draw_parameters

NAMES = ("the", "cat", "<b>", "sat", "on", "\x1b[31m", "mat", "é")


def vocabulary_of(unit: str, *, documents: bool = False, unknown: bool = False) -> Vocabulary:
    if unit == "token":
        return TokenVocabulary.of_count(len(NAMES), documents, NAMES)
    if unit == "byte":
        return Vocabulary.of([], unit="byte", boundary=documents)
    codes = np.unique([ord(c) for c in "abcdefghij ABC.,()\n\"'éß\t0"]).astype(np.uint32)
    return Vocabulary("character", codes, documents, unknown=unknown)


def random_model(
    unit: str = "character",
    *,
    documents: bool = False,
    unknown: bool = False,
    hidden_size: int = 6,
    seed: int = 0,
    **settings: Any,
) -> Model:
    vocabulary = vocabulary_of(unit, documents=documents, unknown=unknown)
    network = Network(vocabulary.size, hidden_size, **settings)
    draw_parameters(network, seed, most=1.5)
    counts = np.arange(vocabulary.size)[::-1] % 7
    if documents:
        counts[-1] = 0
    return Model(network, vocabulary, counts)
