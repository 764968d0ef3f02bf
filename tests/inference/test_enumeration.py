"""The most probable documents, against all documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import CELLS
from helpers.models import all_documents, random_model

import fastrnn


def assert_same(
    actual: list[tuple[Any, float]], expected: list[tuple[Any, float]], tolerance: float = 1e-10
) -> None:
    assert [text for text, _ in actual] == [text for text, _ in expected]
    np.testing.assert_allclose([one for _, one in actual], [one for _, one in expected], rtol=tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_against_all_documents(backend: str, cell: str):
    for seed, unknown in ((0, False), (1, True)):
        model = random_model(backend, seed=seed, unknown=unknown, **CELLS[cell])
        expected = all_documents(model, 5)
        assert_same(model.top(40, max_length=5), expected[:40])
        assert_same(model.top(10_000, max_length=5), expected)
        assert_same(model.top(1, max_length=5), expected[:1])
        for place in (0, 7, 100):
            probability = np.exp(expected[place][1]) * (1 - 1e-9)
            assert_same(list(model.above(probability, max_length=5)), expected[: place + 1])


def test_rows_and_sizes_do_not_matter(backend: str, monkeypatch: pytest.MonkeyPatch):
    model = random_model(backend, hidden_size=19, dtype="float32")
    expected = model.top(60, max_length=4)
    for rows in (1, 3):
        monkeypatch.setattr("fastrnn.inference.enumeration.MAX_ROWS", rows)
        found = model.top(60, max_length=4)
        assert_same(found, expected, 0 if backend != "numpy" else 1e-6)
        assert found[:9] == model.top(9, max_length=4)
    assert_same(expected, all_documents(model, 4)[:60], 1e-5)


def test_equally_probable_documents_are_in_the_order_of_ids(backend: str):
    model = random_model(backend)
    model.network.flat[:] = 0
    found = [text for text, _ in model.top(12, max_length=2)]
    assert found == ["", "a", "b", "c", "aa", "ab", "ac", "ba", "bb", "bc", "ca", "cb"]
    assert [text for text, _ in model.above(1 / 16 * (1 - 1e-12), max_length=2)] == ["", "a", "b", "c"]
    assert list(model.above(1.0)) == []


def test_documents_of_tokens(backend: str):
    model = random_model(backend, "documents of tokens")
    characters = random_model(backend)
    found = model.top(20, max_length=4)
    assert all(text.dtype == np.int32 for text, _ in found)
    as_text = [("".join(chr(97 + token) for token in text), one) for text, one in found]
    assert_same(as_text, characters.top(20, max_length=4))


def test_the_longest_documents(backend: str):
    model = random_model(backend)
    assert_same(model.top(5, max_length=0), [("", model.log_prob("", end=True))])
    assert max(len(text) for text, _ in model.top(1000, max_length=3)) == 3


def test_what_a_model_learnt_is_what_it_expects_most():
    names = ["anna", "hannah", "otto", "ada", "bob"]
    model = fastrnn.train(names, steps=800, rng=0, progress=False, cell="lstm", hidden_size=32)
    assert sorted(text for text, _ in model.top(5)) == sorted(names)
    assert sorted(text for text, _ in model.above(0.1)) == sorted(names)


def test_above_is_lazy_and_checks_at_once(backend: str):
    model = random_model(backend)
    assert next(model.above(1e-300))[0] == model.top(1)[0][0]
    for probability, error in (
        (0, ValueError),
        (1.5, ValueError),
        (float("nan"), ValueError),
        ("1", TypeError),
        (True, TypeError),
    ):
        with pytest.raises(error, match="probability="):
            model.above(probability)  # type: ignore[arg-type]


def test_memory_is_bounded(backend: str):
    model = random_model(backend)
    with pytest.raises(MemoryError, match=r"the search needs more than max_memory=100000 \(100.0 kB\)"):
        model.top(10_000, max_memory=100_000)
    found = []
    with pytest.raises(MemoryError, match="after [0-9,]+ documents, the search"):
        found.extend(model.above(1e-300, max_memory=100_000))
    assert len(model.top(10, max_memory=100_000)) == 10


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 0}, ValueError, "n=0 must be at least 1"),
        ({"n": 2.0}, TypeError, "n=2.0 must be a whole number"),
        ({"n": 1, "max_length": -1}, ValueError, "max_length=-1 must be at least 0"),
        ({"n": 1, "max_memory": 0}, ValueError, "max_memory=0 must be at least 1"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        random_model("numpy").top(**options)


def test_only_documents_can_be_listed():
    model = random_model("numpy", "text")
    for name, call in {
        "top": lambda: model.top(1),
        "above": lambda: model.above(0.5),
        "guess_samples": lambda: model.guess_samples(5),
        "guess_number": lambda: model.guess_number("a"),
    }.items():
        with pytest.raises(
            ValueError, match=f"{name} is for a model of documents, and this one learnt one running text"
        ):
            call()
