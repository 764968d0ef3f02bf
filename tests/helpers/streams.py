"""Models of every kind for tests of streams, and texts for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import Model, Network
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary
from helpers import assert_close, draw_parameters

LETTERS = "\nabcdef\u00e9\ufeff"
CODES = np.unique([ord(letter) for letter in LETTERS]).astype(np.uint32)

#: Vocabularies of each kind of model.
VOCABULARIES: dict[str, Vocabulary] = {
    "text": Vocabulary("character", CODES, newlines="universal"),
    "documents": Vocabulary("character", CODES, boundary=True),
    "normalized": Vocabulary("character", CODES, boundary=True, newlines="universal", normalization="nfkc"),
    "with unknown": Vocabulary("character", CODES, newlines="universal", unknown=True),
    "bytes": Vocabulary("byte", np.arange(256, dtype=np.uint32)),
    "tokens": TokenVocabulary.of_tokens(6),
    "documents of tokens": TokenVocabulary.of_count(6, boundary=True),
}
KINDS = list(VOCABULARIES)


def made(kind: str, backend: str = "c", **options: Any) -> Model:
    """A model of this kind, which was not trained; its parameters are large enough to matter."""
    vocabulary = VOCABULARIES[kind]
    options = {"hidden_size": 11, "backend": backend, **options}
    network = draw_parameters(Network(vocabulary.size, **options))
    return Model(network, vocabulary, np.arange(vocabulary.size))


def symbols_of(kind: str, text: str) -> Any:
    """A text for a model of this kind; tokens from 0 to 5 are known."""
    if kind == "bytes":
        return text.encode("utf-8", "surrogatepass")
    return np.array([ord(symbol) % 8 - 1 for symbol in text], np.int64) if "tokens" in kind else text


class Models(dict[tuple[str, str], Model]):
    """The models by kind and backend; each is made when it is first needed."""

    def __missing__(self, key: tuple[str, str]) -> Model:
        self[key] = made(*key)
        return self[key]


MODELS = Models()


def assert_same(actual: np.ndarray, expected: np.ndarray, backend: str) -> None:
    """Require the same bits; NumPy's products may differ by a rounding."""
    if backend == "numpy":
        assert_close(actual, expected, 1e-5)
    else:
        np.testing.assert_array_equal(actual, expected)
