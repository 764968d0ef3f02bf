"""Columns of pandas, polars and Arrow as documents and as tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import require_library

import fastrnn
from fastrnn.data.corpus import Documents
from fastrnn.data.sources import read_corpus

NAMES = ["anna", "böb", "", "clara\r\n", "🙂"]

LIBRARIES = ["pandas", "polars", "pyarrow"]


def train(text: Any, **changes: Any) -> fastrnn.Model:
    settings = {"hidden_size": 8, "steps": 30, "rng": 0, "progress": False, "backend": "numpy", **changes}
    return fastrnn.train(text, **settings)


#: Ways to make a column of texts; a way takes the library and the texts.
COLUMNS: dict[str, list[Callable[[Any, list[Any]], Any]]] = {
    "pandas": [
        lambda pd, texts: pd.Series(texts),
        lambda pd, texts: pd.Series(texts, dtype=object),
        lambda pd, texts: pd.Series(texts, dtype="string"),
        lambda pd, texts: pd.Series(texts, dtype="category"),
        lambda pd, texts: pd.Series(["x", *texts], index=range(5, 6 + len(texts)))[1:],
        lambda pd, texts: pd.DataFrame({"text": texts})["text"],
        lambda pd, texts: pd.Index(texts),
    ],
    "polars": [
        lambda pl, texts: pl.Series(texts, dtype=pl.String),
        lambda pl, texts: pl.Series(texts, dtype=pl.Categorical),
        lambda pl, texts: pl.Series(
            texts, dtype=pl.Enum(sorted({text for text in texts if text is not None}))
        ),
        lambda pl, texts: pl.DataFrame({"text": texts}, schema={"text": pl.String})["text"],
        lambda pl, texts: pl.concat(
            [pl.Series(texts[:2], dtype=pl.String), pl.Series(texts[2:], dtype=pl.String)]
        ),
    ],
    "pyarrow": [
        lambda pa, texts: pa.array(texts, pa.string()),
        lambda pa, texts: pa.array(texts, pa.large_string()),
        lambda pa, texts: pa.array(texts, pa.string()).dictionary_encode(),
        lambda pa, texts: pa.chunked_array([texts[:2], texts[2:], []], pa.string()),
        lambda pa, texts: pa.table({"text": pa.array(texts, pa.string())})["text"],
        lambda pa, texts: pa.array(["x", *texts], pa.string())[1:],
    ],
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_columns_of_texts_are_documents(name: str):
    library = require_library(name)
    for make in COLUMNS[name]:
        with read_corpus(make(library, NAMES), newlines="keep") as corpus:
            assert isinstance(corpus, Documents)
            assert list(corpus.texts) == NAMES


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_column_is_learnt_and_scored_as_a_list(name: str):
    library, texts = require_library(name), NAMES * 8
    model, column = train(texts), COLUMNS[name][0](library, texts)
    assert train(column).to_bytes() == model.to_bytes()
    for actual, expected in zip(model.score_many(column), model.score_many(texts), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_value_is_an_error_that_names_its_row(name: str):
    library = require_library(name)
    for make in COLUMNS[name]:
        column = make(library, ["anna", "bob", "clara", None, "dora"])
        with pytest.raises(
            TypeError, match=r"document 3: .* a missing value: leave such rows out, with drop"
        ):
            train(column)
        with pytest.raises(TypeError, match=r"text 3 of 5: .* a missing value"):
            train(["abcdlnor"]).score_many(column)


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_empty_column_has_no_text(name: str):
    library = require_library(name)
    for make in COLUMNS[name]:
        with pytest.raises(ValueError, match="the text to train on has 0 symbols"):
            train(make(library, []))


@pytest.mark.parametrize("name", LIBRARIES)
def test_columns_of_bytes_numbers_and_lists(name: str):
    library = require_library(name)
    column: Any = library.array if name == "pyarrow" else library.Series
    with read_corpus(column([b"ab", b"\xff"])) as corpus:
        assert (corpus.unit, corpus.size) == ("byte", 3)
    with pytest.raises(TypeError, match="document 0: .* this is int; whole numbers need vocabulary="):
        train(column([1, 2, 3]))
    with pytest.raises(TypeError, match="document 0: a text must be str or bytes, and this is (float|int)"):
        train(column([1.5, 2.0]))
    expected = train([1, 2, 0, 2] * 9, vocabulary=3).to_bytes()
    assert train(column([1, 2, 0, 2] * 9), vocabulary=3).to_bytes() == expected
    expected = train([[1, 2], [0], [2, 2, 1]] * 9, vocabulary=3).to_bytes()
    assert train(column([[1, 2], [0], [2, 2, 1]] * 9), vocabulary=3).to_bytes() == expected
    with pytest.raises(TypeError, match="the token at position 2 is .*, a missing value"):
        train(column([1, 2, None, 0]), vocabulary=3)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_table_is_no_text(name: str):
    library = require_library(name)
    table = library.table({"text": NAMES}) if name == "pyarrow" else library.DataFrame({"text": NAMES})
    for wrong in (table, table[["text"]] if name == "pandas" else table.select(["text"])):
        with pytest.raises(TypeError, match="names of its columns: pass the texts themselves"):
            train(wrong)


def test_a_categorical_of_missing_values_is_refused():
    pandas = require_library("pandas")
    with pytest.raises(TypeError, match="document 0: .* a missing value"):
        train(pandas.Series(pandas.Categorical([None, None])))
