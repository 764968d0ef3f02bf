"""The surprisals are a code length: an arithmetic coder that a stream drives reaches it."""

from __future__ import annotations

from typing import Any

import numpy as np
from conftest import require_backend
from helpers import require_library
from helpers.bits import made_up_text

import fastrnn
from fastrnn import Model

TEXT = made_up_text(25_000)


def compressed(stream: Any, vocabulary: Any, text: str) -> np.ndarray:
    """The words of a range coder."""
    constriction = require_library("constriction")
    encoder = constriction.stream.queue.RangeEncoder()
    for symbol, id_ in zip(text, vocabulary.encode(text), strict=True):
        encoder.encode(int(id_), categorical(constriction, stream))
        stream.feed(symbol)
    return encoder.get_compressed()


def restored(stream: Any, vocabulary: Any, words: np.ndarray, n: int) -> str:
    """The text of n symbols that was compressed."""
    constriction = require_library("constriction")
    decoder = constriction.stream.queue.RangeDecoder(words)
    found = []
    for _ in range(n):
        id_ = decoder.decode(categorical(constriction, stream))
        found.append(vocabulary.decode(np.array([id_])))
        stream.feed(found[-1])
    return "".join(found)


def categorical(constriction: Any, stream: Any) -> Any:
    return constriction.stream.model.Categorical(stream.next_probabilities(), perfect=False)


def test_a_text_is_compressed_to_its_code_length_and_restored_with_another_backend():
    require_backend("numba")
    model = fastrnn.train(
        TEXT[:15_000],
        hidden_size=32,
        steps=150,
        batch_size=16,
        backend=require_backend("c"),
        threads=1,
        rng=0,
    )
    encoding = Model.from_bytes(model.to_bytes(), backend="numba")
    words = compressed(encoding.stream(), model.vocabulary, TEXT)
    code_length = model.surprisal(TEXT).sum()
    assert abs(32 * len(words) / code_length - 1) < 0.001
    assert restored(model.stream(), model.vocabulary, words, len(TEXT)) == TEXT
