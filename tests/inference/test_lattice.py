"""The best paths through lattices, against all paths."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from helpers import CELLS
from helpers.models import KINDS, KINDS_AND_CELLS, random_model, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import Model

STEPS = [
    [("a", -0.5), ("b", 0.3), ("", 0.1)],
    [("ca", 0.0), ("", -1.0), ("c", 0.2)],
    [("a", 0.7), ("b", 0.0)],
]


def all_paths(edges: list[Any], last: int, node: int, empty: Any) -> list[tuple[Any, float]]:
    """The text and the weight of each path from a node to the last one."""
    if node == last:
        return [(empty, 0.0)]
    return [
        (text + rest, weight + of_rest)
        for start, end, text, weight in edges
        if start == node
        for rest, of_rest in all_paths(edges, last, end, empty)
    ]


def best_by_brute_force(
    model: Model, edges: list[Any], prefix: Any, empty: Any, *, model_weight: float = 1.0, end: bool = False
) -> dict[Any, float]:
    """The best score of each text."""
    first, last = min(edge[0] for edge in edges), max(edge[1] for edge in edges)
    found: dict[Any, float] = {}
    before = model.log_prob(prefix)
    for text, weight in all_paths(edges, last, first, empty):
        score = weight + model_weight * (model.log_prob(prefix + text, end=end) - before)
        key = str(text)
        found[key] = max(found.get(key, -np.inf), score)
    return found


def assert_best(actual: list[tuple[Any, float]], expected: dict[Any, float]) -> None:
    """Require the best texts of all, with their scores."""
    best = sorted(expected.values(), reverse=True)[: len(actual)]
    np.testing.assert_allclose([score for _, score in actual], best, rtol=1e-9, atol=1e-9)
    for text, score in actual:
        assert score == pytest.approx(
            expected[str(text if isinstance(text, str | bytes) else text.tolist())], abs=1e-9
        )


@pytest.mark.parametrize(("kind", "cell"), KINDS_AND_CELLS)
def test_steps_against_all_paths(backend: str, kind: str, cell: str):
    model = random_model(backend, kind, **CELLS[cell])
    steps = [[(text_of(kind, text), weight) for text, weight in step] for step in STEPS]
    edges = [(place, place + 1, *pair) for place, step in enumerate(steps) for pair in step]
    empty = text_of(kind, "")
    for end, prefix in itertools.product({False, model.vocabulary.boundary}, ("", "bca")):
        for model_weight in (1.0, 0.3):
            options: dict[str, Any] = {
                "prefix": text_of(kind, prefix),
                "model_weight": model_weight,
                "end": end,
            }
            expected = best_by_brute_force(model, edges, **options, empty=empty)
            actual = model.best_path(steps, n=100, width=100, **options)
            assert len(actual) == len(expected)
            assert_best(actual, expected)
            for (text, score), (same, other) in zip(
                actual, model.best_path(edges, n=20, width=20, **options), strict=False
            ):
                assert (str(text), score) == (str(same), other)


edges_of_graphs = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 3), st.text("ab", max_size=3), st.integers(-8, 8)),
    min_size=1,
    max_size=9,
).map(lambda drawn: [(start, start + more, text, weight / 4) for start, more, text, weight in drawn])


@settings(max_examples=60, deadline=None)
@given(edges=edges_of_graphs, n=st.integers(1, 5), end=st.booleans())
def test_graphs_against_all_paths(edges: list[Any], n: int, end: bool):
    require_backend("c")
    model = random_model("c")
    expected = best_by_brute_force(model, edges, "", "", end=end)
    if not expected:
        with pytest.raises(ValueError, match="lattice has no path from its first node"):
            model.best_path(edges, end=end)
        return
    actual = model.best_path(edges, n=n, width=500, end=end)
    assert len(actual) == min(n, len(expected))
    assert_best(actual, expected)


def test_a_narrow_beam_keeps_the_best_so_far(backend: str):
    model = random_model(backend)
    (best, score), *_ = model.best_path(STEPS, width=1)
    expected = best_by_brute_force(
        model, [(place, place + 1, *pair) for place, step in enumerate(STEPS) for pair in step], "", ""
    )
    assert expected[best] == pytest.approx(score)
    greedy = max(STEPS[0], key=lambda pair: pair[1] + model.log_prob(pair[0]))[0]
    assert best.startswith(greedy)


def test_the_model_may_have_no_weight(backend: str):
    model = random_model(backend)
    assert model.best_path(STEPS, model_weight=0)[0] == ("bca", pytest.approx(1.2))


def test_a_lattice_without_steps_has_the_empty_text(backend: str):
    for kind in KINDS:
        ((text, score),) = random_model(backend, kind).best_path([])
        assert len(text) == 0
        assert score == 0


def test_unknown_symbols_of_a_lattice(backend: str):
    model, knowing = random_model(backend), random_model(backend, unknown=True)
    lattice = [[("aX", 0.0)], [("b", 0.0)]]
    with pytest.raises(ValueError, match="^lattice: the text has 'X' at position 1"):
        model.best_path(lattice)
    assert model.best_path(lattice, unknown="skip") == [("aXb", pytest.approx(model.log_prob("ab")))]
    assert model.best_path(lattice, unknown=0.5) == [
        ("aXb", pytest.approx(model.log_prob("ab") + np.log(0.5)))
    ]
    assert knowing.best_path(lattice) == [("aXb", pytest.approx(knowing.log_prob("aXb")))]
    two = model.best_path([[("X", 0.0), ("Y", 0.1)]], n=2, unknown="skip")
    assert two == [("Y", 0.1), ("X", 0.0)]  # they are different texts


@pytest.mark.parametrize(
    ("lattice", "options", "error", "message"),
    [
        ("ab", {}, TypeError, "lattice is str; a lattice is a list of steps"),
        (5, {}, TypeError, "lattice is int"),
        (["ab"], {}, TypeError, r"lattice\[0\]='ab' must be a step"),
        ([5], {}, TypeError, r"lattice\[0\]=5 must be a step"),
        ([[]], {}, ValueError, r"lattice\[0\] is empty"),
        ([["a"]], {}, TypeError, r"lattice\[0\]\[0\]='a' must be \(text, weight\)"),
        ([["ab"]], {}, TypeError, r"lattice\[0\]\[0\]='ab' must be \(text, weight\)"),
        ([[("a", 0), ("b", "1")]], {}, TypeError, r"lattice\[0\]\[1\]\[1\]='1' must be a finite number"),
        ([[("a", float("nan"))]], {}, ValueError, "must be a finite number"),
        ([[("a", float("-inf"))]], {}, ValueError, "must be a finite number"),
        ([[("a", 10**400)]], {}, ValueError, "must be a finite number"),
        ([[("a", True)]], {}, TypeError, "must be a finite number"),
        ([[("a", 1.7e308)], [("a", 1.7e308)]], {}, ValueError, "a path has the score inf"),
        ([[(3, 0.0)]], {}, TypeError, "lattice: a text must be str or bytes"),
        ([(0, 1, "a", 0), (1, 1, "a", 0)], {}, ValueError, r"lattice\[1\]\[1\]=1 must be at least 2"),
        ([(0, 1, "a", 0), [("a", 0)]], {}, TypeError, r"lattice\[1\]=.* must be an edge, as the first one"),
        ([(-1, 1, "a", 0)], {}, ValueError, r"lattice\[0\]\[0\]=-1 must be at least 0"),
        (
            [(0, 1, "a", 0), (2, 3, "b", 0)],
            {},
            ValueError,
            "no path from its first node, 0, to its last one, 3",
        ),
        ([], {"n": 0}, ValueError, "n=0 must be at least 1"),
        ([], {"n": 3, "width": 2}, ValueError, "width=2 must be at least 3"),
        ([], {"model_weight": -1.0}, ValueError, "model_weight=-1.0 must be"),
        ([], {"prefix": "X"}, ValueError, "^prefix: the text has 'X'"),
    ],
)
def test_what_is_no_lattice(lattice: Any, options: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        random_model("numpy").best_path(lattice, **options)


def test_only_documents_end():
    with pytest.raises(ValueError, match="end=True is for a model of documents"):
        random_model("numpy", "text").best_path([], end=True)


#: Parts of texts whose seams change what is read: CR LF is one line end, and an accent joins its letter.
SEAMS = ("ab\r", "\ncd", "\r", "\n", "e", "\u0301", "\ufeff", "d\r\n", "")


@pytest.mark.parametrize("normalization", [None, "nfc"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_seams_are_read_as_in_the_whole_text(normalization: str | None, data: st.DataObject):
    model = seam_model(normalization)
    parts = data.draw(st.lists(st.sampled_from(SEAMS), min_size=1, max_size=6))
    prefix = data.draw(st.sampled_from([None, *SEAMS]))
    before, after = prefix or "", "".join(parts)
    given = {"unknown": 1e-6}  # an accent alone
    expected = model.log_prob(before + after, **given) - model.log_prob(before, **given)
    ((text, score),) = model.best_path([[(part, 0.0)] for part in parts], prefix=prefix, **given)
    assert text == after
    assert score == pytest.approx(expected, abs=1e-4)
    ((_, score),) = model.rank(prefix, [after], **given)
    assert score == pytest.approx(expected, abs=1e-4)


@cache
def seam_model(normalization: str | None) -> Model:
    text = "ab\ncd\ne\u00e9e\u0301\ufeffd" * 30
    return fastrnn.train(
        text, steps=20, hidden_size=8, backend="numpy", rng=0, progress=False, normalization=normalization
    )
