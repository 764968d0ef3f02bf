"""The probabilities of what could follow a prefix, and of candidates."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from helpers import CELLS, require_library
from helpers.models import KINDS, KINDS_AND_CELLS, random_model, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import Model
from fastrnn.data.vocabulary import Vocabulary

PREFIXES = ["", "a", "ab", "cabacabbbcaaabc"]


def expected_distribution(model: Model, prefix: Any, symbols: list[Any]) -> list[float]:
    """The probability of each symbol, and of the end of a document, from the model's surprisal."""
    ends = [model.surprisal(prefix, end=True)[-1]] if model.vocabulary.boundary else []
    return [2.0**-bits for bits in [*(model.surprisal(prefix + symbol)[-1] for symbol in symbols), *ends]]


@pytest.mark.parametrize(("kind", "cell"), KINDS_AND_CELLS)
def test_the_distribution_is_what_surprisal_says(backend: str, kind: str, cell: str):
    model = random_model(backend, kind, **CELLS[cell])
    symbols = [text_of(kind, symbol) for symbol in "abc"]
    keys = [*([0, 1, 2] if "tokens" in kind else symbols), *["<end>"] * model.vocabulary.boundary]
    for prefix in PREFIXES:
        found = model.next_distribution(text_of(kind, prefix))
        expected = expected_distribution(model, text_of(kind, prefix), symbols)
        np.testing.assert_allclose([found[key] for key in keys], expected, rtol=1e-12)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert sum(found.values()) == pytest.approx(1, abs=1e-12)
        assert len(found) == model.vocabulary.size


def test_no_prefix_is_the_beginning(backend: str):
    for kind in KINDS:
        model = random_model(backend, kind)
        assert model.next_distribution() == model.next_distribution(text_of(kind, ""))
    assert random_model(backend, "text").next_distribution() == {"c": 4 / 9, "b": 3 / 9, "a": 2 / 9}


def test_equal_probabilities_are_in_the_order_of_ids(backend: str):
    model = random_model(backend, unknown=True)
    model.network.flat[:] = 0
    expected = dict.fromkeys(["a", "b", "c", "<unknown>", "<end>"], 0.2)
    assert list(model.next_distribution("ab").items()) == list(expected.items())


def test_unknown_symbols_of_a_prefix(backend: str):
    model, knowing = random_model(backend), random_model(backend, unknown=True)
    with pytest.raises(ValueError, match="^prefix: the text has 'X' at position 1"):
        model.next_distribution("aXb")
    for unknown in ("skip", 0.25):
        assert model.next_distribution("aXb", unknown=unknown) == model.next_distribution("ab")
        (row,) = model.next_probabilities(["aXb"], unknown=unknown)
        np.testing.assert_array_equal(row, model.next_probabilities(["ab"])[0])
    found = knowing.next_distribution("aX")
    assert found == knowing.next_distribution("aX", unknown="symbol")
    assert found["<unknown>"] == pytest.approx(2.0 ** -knowing.surprisal("aXX")[-1], rel=1e-12)
    for call in (model.next_distribution, lambda _, unknown: model.next_probabilities([], unknown=unknown)):
        with pytest.raises(ValueError, match="unknown='symbol' is for a model with an unknown symbol"):
            call("a", unknown="symbol")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(texts=st.lists(st.text("abc", max_size=20), max_size=9))
def test_many_prefixes_have_the_bits_of_each(kind: str, texts: list[str]):
    require_backend("c")
    model, symbols = random_model("c", kind), [text_of(kind, text) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastrnn.inference.prediction.PREFIXES_AT_ONCE", 4)
        found = model.next_probabilities(iter(symbols))
    assert found.shape == (len(texts), model.vocabulary.size)
    for text, row in zip(symbols, found, strict=True):
        assert sorted(row.tolist(), reverse=True) == list(model.next_distribution(text).values())


def test_prefixes_may_be_any_iterable_of_texts(backend: str):
    model = random_model(backend)
    expected = model.next_probabilities(PREFIXES)
    for texts in (tuple(PREFIXES), iter(PREFIXES), np.array(PREFIXES), io.StringIO("\n".join(PREFIXES))):
        np.testing.assert_array_equal(model.next_probabilities(texts), expected)
    for wrong, message in (
        ("abc", "is one str"),
        (b"a", "is one bytes"),
        (5, "is int"),
        ({"a": 1}, "its keys"),
        ({"a"}, "order"),
    ):
        for call in (model.next_probabilities, model.hidden, lambda texts: model.rank("a", texts)):
            with pytest.raises(TypeError, match=message):
                call(wrong)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["pandas", "polars", "pyarrow"])
def test_columns_of_texts(name: str):
    library, model = require_library(name), random_model("numpy")
    column = library.array(PREFIXES) if name == "pyarrow" else library.Series(PREFIXES)
    np.testing.assert_array_equal(model.next_probabilities(column), model.next_probabilities(PREFIXES))
    np.testing.assert_array_equal(model.hidden(column), model.hidden(PREFIXES))
    assert model.rank("a", column) == model.rank("a", PREFIXES)
    for actual, expected in zip(model.score_many(column), model.score_many(PREFIXES), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_an_error_names_the_prefix_and_changes_nothing(backend: str):
    model = random_model(backend)
    before = model.to_bytes()
    with pytest.raises(ValueError, match="^prefix 1 of 2: the text has 'd' at position 2"):
        model.next_probabilities(["a", "bbd"])
    with pytest.raises(
        TypeError, match="^prefix 1: a text must be str or bytes, and this is float, a missing value"
    ):
        model.next_probabilities(iter(["a", float("nan")]))
    with pytest.raises(TypeError, match="^prefix: .*int"):
        model.next_distribution(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^prefix: the text has a lone surrogate"):
        model.next_distribution("a\udc00")
    assert model.to_bytes() == before


def test_parameters_out_of_range(backend: str):
    model = random_model(backend, dtype="float32")
    model.network.flat[:] = np.finfo("float32").max / 2
    with pytest.raises(ValueError, match="parameters are out of range"):
        model.next_distribution()
    with pytest.raises(ValueError, match="parameters are out of range"):
        model.next_probabilities(["", "a"])
    with pytest.raises(ValueError, match="parameters are out of range"):
        model.top(2)


# ---- Candidates --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "cell"), KINDS_AND_CELLS)
def test_a_rank_is_a_difference_of_logarithms(backend: str, kind: str, cell: str):
    model = random_model(backend, kind, **CELLS[cell])
    candidates = ["", "a", "b", "cab", "aaaaaaaa", "ab", "ba"]
    for end in (False, True) if model.vocabulary.boundary else (False,):
        for prefix in PREFIXES:
            found = model.rank(text_of(kind, prefix), [text_of(kind, text) for text in candidates], end=end)
            assert sorted(map(str, (text for text, _ in found))) == sorted(
                str(text_of(kind, text)) for text in candidates
            )
            numbers = [number for _, number in found]
            assert numbers == sorted(numbers, reverse=True)
            before = model.log_prob(text_of(kind, prefix))
            whole = [model.log_prob(text_of(kind, prefix) + text, end=end) for text, _ in found]
            np.testing.assert_allclose(numbers, np.array(whole) - before, rtol=1e-9, atol=1e-9)


def test_the_kinds_of_unknown_symbols_in_candidates(backend: str):
    model, knowing = random_model(backend), random_model(backend, unknown=True)
    with pytest.raises(ValueError, match="^candidate 1: the text has 'X' at position 0"):
        model.rank("a", ["b", "Xc"])
    ((_, whole),) = model.rank("a", ["bc"])
    assert model.rank("aX", ["bXc"], unknown="skip") == [("bXc", whole)]
    ((_, filled),) = model.rank("aX", ["bXc"], unknown=0.25)
    assert filled == pytest.approx(whole + np.log(0.25))
    ((_, read),) = knowing.rank("a", ["bXc"])
    assert read == pytest.approx(knowing.log_prob("abXc") - knowing.log_prob("a"))


def test_equal_candidates_keep_their_order(backend: str):
    model = random_model(backend)
    model.network.flat[:] = 0
    assert [text for text, _ in model.rank("a", ["cb", "ab", "ba", "b", "aa"])] == [
        "b",
        "cb",
        "ab",
        "ba",
        "aa",
    ]
    assert model.rank(None, []) == []


@settings(max_examples=15, deadline=None)
@given(prefix=st.text("abc", max_size=9), texts=st.lists(st.text("abc", max_size=20), min_size=1, max_size=9))
def test_candidates_have_the_bits_of_each_alone(prefix: str, texts: list[str]):
    require_backend("c")
    model = random_model("c", dtype="float32", hidden_size=17)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastrnn.inference.ranking.CANDIDATES_AT_ONCE", 4)
        patch.setattr("fastrnn.inference.continuations.PARALLEL_ROWS", 3)
        found = model.rank(prefix, texts)
    for text, number in found:
        assert model.rank(prefix, [text]) == [(text, number)]


def test_only_documents_end(backend: str):
    with pytest.raises(ValueError, match="end=True is for a model of documents"):
        random_model(backend, "text").rank("a", ["b"], end=True)


def answers(model: Model) -> list[Any]:
    """What a model says of a few texts."""
    texts = [prefix * repeats for prefix in PREFIXES for repeats in (1, 7)]
    return [
        model.next_probabilities(texts).tobytes(),
        [model.hidden(texts, pool=pool).tobytes() for pool in ("last", "mean")],
        model.rank("ab", texts, end=True),
        model.best_path(
            [[("a", 0.1), ("b", 0)], [("", -1), ("cab", 0.5)], [("c", 0), ("a", 0)]], n=9, end=True
        ),
        model.top(30, max_length=6),
        list(model.above(0.003, max_length=6)),
        model.guess_number("abc", samples=300, rng=1),
        model.decoder_lm().score(model.decoder_lm().initial_state("ab"), "cab"),
    ]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backends_and_threads_give_the_same_answers(cell: str, dtype: str):
    require_backend("c"), require_backend("numba")
    model = random_model("c", dtype=dtype, hidden_size=19, num_layers=2, seed=3, **CELLS[cell])
    expected = answers(model)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(answers, [model, model])) == [expected, expected]
    for backend, threads in (("numba", 1), ("c", 2)):
        assert answers(Model.from_bytes(model.to_bytes(), backend=backend, threads=threads)) == expected


def test_normalized_texts(backend: str):
    vocabulary = Vocabulary(
        "character", np.array([10, 97, 233], np.uint32), True, newlines="universal", normalization="nfc"
    )
    network = fastrnn.Network(4, 5, backend=backend, rng=0)
    model = Model(network, vocabulary, np.array([1, 1, 1, 0]))
    assert model.next_distribution("e\u0301\r\n") == model.next_distribution("é\n")
    assert model.rank("a", ["e\u0301"])[0][1] == model.rank("a", ["é"])[0][1]
    np.testing.assert_array_equal(model.hidden(["e\u0301\r"]), model.hidden(["é\n"]))


texts_of_any_kind = st.one_of(
    st.text(max_size=9),
    st.text("abcX\0\ud800", max_size=9),
    st.binary(max_size=9),
    st.lists(st.integers(-(2**70), 2**70), max_size=4),
    st.none(),
    st.floats(),
    st.lists(st.floats(), max_size=3),
)


@pytest.mark.parametrize("kind", ["documents", "bytes", "tokens"])
@settings(max_examples=40, deadline=None)
@given(text=texts_of_any_kind, unknown=st.sampled_from([None, "error", "skip", "symbol", 0.5]))
def test_any_text_gives_an_answer_or_an_error_and_changes_nothing(kind: str, text: Any, unknown: Any):
    model = random_model("numpy", kind)
    before = model.network.flat.copy()
    for call in (
        lambda: sum(model.next_distribution(text, unknown=unknown).values()),
        lambda: model.next_probabilities([text], unknown=unknown).sum(),
        lambda: 1 + 0 * model.hidden([text], pool="mean", unknown=unknown).sum(),
        lambda: np.exp(model.rank(None, [text], unknown=unknown)[0][1]),
        lambda: np.exp(model.best_path([[(text, 0)]], unknown=unknown)[0][1]),
    ):
        try:
            found = call()
        except (TypeError, ValueError):
            continue
        assert 0 < found <= 1 + 1e-9
    np.testing.assert_array_equal(model.network.flat, before)
