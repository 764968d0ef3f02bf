"""What a model expects before each symbol and its hidden units after it, beside runs of single prefixes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import CELLS, assert_close, parts_of
from helpers.report_models import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import Model
from fastrnn.inference.scoring import first_symbol_probabilities
from fastrnn.report import excerpt as excerpt_module
from fastrnn.report.excerpt import Excerpt
from fastrnn.report.trace import Trace

TEXT = 'abc (def) "aß"\nÉ.é'
KINDS = [(unit, documents) for unit in ("character", "byte", "token") for documents in (False, True)]


def trace_of(model: Model, source: Any, unknown: str | float | None = None) -> Trace:
    return Trace.of(model, Excerpt.of(model.vocabulary, source), unknown)


def text_of(unit: str) -> Any:
    if unit == "token":
        return [3, 1, 4, 1, 5, 2, 6, 0, 7, 3]
    return "abc (A) é\n\t0 ab" if unit == "character" else "aé\0\xff".encode("latin-1") * 3


def brute_force(model: Model, prefix: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The probabilities after a prefix of known ids, and the hidden units, from one run."""
    boundary = model.vocabulary.boundary_id
    inputs = prefix if boundary is None else np.append(boundary, prefix)
    if not len(inputs):
        return first_symbol_probabilities(model.counts), None
    logits, state = model.network.forward(inputs[:, np.newaxis])
    powers = np.exp(logits[-1, 0].astype(np.float64) - logits[-1, 0].max())
    return powers / powers.sum(), parts_of(state)[0][:, 0].ravel()


def check(model: Model, trace: Trace) -> None:
    for begin, end in zip(trace.begins[:-1], trace.begins[1:], strict=True):
        for place in range(begin, end):
            known = trace.ids[begin:place]
            expected, _ = brute_force(model, known[known >= 0])
            order = np.argsort(-expected, kind="stable")[: trace.forecast.symbols.shape[1]]
            np.testing.assert_array_equal(trace.forecast.symbols[place], order)
            assert_close(trace.forecast.probabilities[place], expected[order], 1e-12)
            possible = expected[expected > 0]
            assert_close(trace.forecast.entropy[place], -(possible * np.log2(possible)).sum(), 1e-12)
            target = trace.ids[place]
            rank = 1 + (expected > expected[target]).sum() if target >= 0 else 0
            assert trace.forecast.rank[place] == rank
            if target != model.vocabulary.boundary_id:
                read = trace.ids[begin : place + 1]
                _, hidden = brute_force(model, read[read >= 0])
                assert_close(
                    trace.hidden[place], np.zeros(trace.hidden.shape[1]) if hidden is None else hidden, 1e-6
                )


@pytest.mark.parametrize(("unit", "documents"), KINDS)
def test_it_is_what_single_prefixes_give(backend: str, unit: str, documents: bool):
    model = random_model(unit, documents=documents, dtype="float64", backend=backend)
    text = text_of(unit)
    trace = trace_of(model, text)
    np.testing.assert_array_equal(trace.bits, model.surprisal(text, end=documents))
    check(model, trace)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_works_for_every_cell_and_number_of_layers(compiled: str, cell: str, dtype: str):
    model = random_model(num_layers=2, dtype=dtype, backend=compiled, **CELLS[cell])
    trace = trace_of(model, text_of("character"))
    np.testing.assert_array_equal(trace.bits, model.surprisal(text_of("character")))
    assert trace.hidden.shape == (len(trace.ids), 12)
    if dtype == "float64":
        check(model, trace)


@given(lengths=st.lists(st.integers(0, 20), max_size=5), documents=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_texts_are_independent(lengths: list[int], documents: bool, seed: int):
    model = random_model(documents=documents, dtype="float64", backend="numpy")
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(list("abcd \n"), n)) for n in lengths]
    trace = trace_of(model, texts)
    assert len(trace.begins) == len(texts) + 1
    check(model, trace)
    many = model.score_many(texts, end=documents)
    np.testing.assert_array_equal(trace.bits, np.concatenate([np.empty(0), *many]))


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("unknown", ["skip", 0.25, "symbol"])
def test_unknown_symbols_are_as_in_surprisal(documents: bool, unknown: str | float):
    model = random_model(documents=documents, unknown=unknown == "symbol", dtype="float64", backend="numpy")
    for text in ("XXab", "aXb\ud800", "X", "abX"):
        trace = trace_of(model, [text, "b", text], unknown)
        check(model, trace)
        expected = np.concatenate(model.score_many([text, "b", text], end=documents, unknown=unknown))
        scored = ~np.isnan(trace.bits)
        np.testing.assert_array_equal(trace.bits[scored], expected)
        assert scored.all() or unknown == "skip"
    with pytest.raises(ValueError, match="text 1: the text has 'X' at position 1"):
        trace_of(model, ["a", "aX"], "error")


def test_a_long_text_is_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(excerpt_module, "MAX_SYMBOLS", 7)
    model = random_model(dtype="float64", backend="numpy")
    for text, is_whole in (("abcdefg", True), ("abcdefgh", False), ("ab\r\n" * 50, False)):
        found = Excerpt.of(model.vocabulary, text)
        assert (found.texts, found.is_whole) == ([text[:7]], is_whole)
    for texts, kept, is_whole in [
        (["abc", "abc"], ["abc", "abc"], True),
        (["abc", "abcde"], ["abc", "abcd"], False),
        (["abcdefg", ""], ["abcdefg"], False),
        (("" for _ in iter(int, 1)), [""] * 7, False),
    ]:
        found = Excerpt.of(model.vocabulary, texts)
        assert (found.texts, found.is_whole) == (kept, is_whole)


def test_the_end_of_a_cut_document_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(excerpt_module, "MAX_SYMBOLS", 7)
    model = random_model(documents=True, backend="numpy")
    trace = trace_of(model, ["ab", "cdefghij"])
    np.testing.assert_array_equal(np.flatnonzero(trace.ids == model.vocabulary.boundary_id), [2])
    assert_close(trace.bits, np.append(model.surprisal("ab", end=True), model.surprisal("cdef")), 1e-5)


@pytest.mark.parametrize(
    ("unit", "source", "message"),
    [
        ("character", 5, "text is int; it must be a text or an iterable"),
        ("character", None, "text is NoneType"),
        ("character", {"a": 1}, "which gives its keys"),
        ("character", {"a"}, "which has no order"),
        ("character", ["a", 5], "text 1 is 5; it must be str or bytes"),
        ("character", [float("nan")], "text 0 is nan; it must be str or bytes"),
        ("character", b"ab", "this model's unit is the character"),
        ("byte", "ab", "this model's unit is the byte"),
        ("token", "ab", "text is str"),
        ("token", [1.5], "whole numbers"),
        ("token", np.array([0.0, np.nan]), "must be whole numbers"),
    ],
)
def test_what_is_no_text_is_an_error(unit: str, source: Any, message: str):
    with pytest.raises(TypeError, match=message):
        trace_of(random_model(unit, backend="numpy"), source)


def test_tokens_in_any_form_are_the_same():
    model = random_model("token", backend="numpy")
    expected = trace_of(model, [1, 2, 3]).bits
    for source in ((1, 2, 3), np.array([1, 2, 3], np.uint8), [[1, 2, 3]], iter([[1, 2, 3]])):
        np.testing.assert_array_equal(trace_of(model, source).bits, expected)


def test_parameters_out_of_range_are_an_error(backend: str):
    model = random_model(activation="relu", backend=backend)
    model.network.parameters["weight_hh_l0"][...] = 1e30
    with pytest.raises(ValueError, match="out of range"):
        trace_of(model, "abcabcabc")
