"""Many streams that are read side by side give the bits of single ones."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers import CELLS
from helpers.streams import KINDS, LETTERS, MODELS, assert_same, made, symbols_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn import CheckpointError, Model, Streams
from fastrnn.network import execution, snapshot

quick = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

odd_texts = st.text(st.sampled_from(LETTERS + "X\r"))

#: What is done with some streams: they are opened, fed, ended, or closed.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 9)),
        st.tuples(st.just("drop"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.sets(st.integers(0, 9))),
        st.tuples(st.just("feed"), st.dictionaries(st.integers(0, 9), odd_texts)),
    ),
    max_size=12,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@given(steps=steps, unknown=st.sampled_from(["skip", 0.25, "symbol"]))
@quick
def test_each_gives_the_bits_of_a_single_one(
    backend: str, kind: str, steps: list[tuple[str, Any]], unknown: str | float
):
    model = MODELS[kind, backend]
    if unknown == "symbol" and kind != "with unknown":
        unknown = "skip"
    many = Streams(model, unknown=unknown)
    single = {}
    for what, which in steps:
        if what == "add" and which not in single:
            many.add(which)
            single[which] = model.stream(unknown=unknown)
        elif what == "drop" and which in single:
            many.drop(which)
            del single[which]
        elif what == "end":
            keys = [key for key in which if key in single]
            compare(many.end(keys), {key: single[key].end() for key in keys}, backend)
        elif what == "feed":
            texts = {key: symbols_of(kind, text) for key, text in which.items() if key in single}
            compare(many.feed(texts), {key: single[key].feed(text) for key, text in texts.items()}, backend)
    assert list(many) == list(single) and len(many) == len(single)
    if backend != "numpy":
        assert [many.state(key) for key in many] == [stream.state() for stream in single.values()]


def compare(actual: dict[Any, np.ndarray], expected: dict[Any, np.ndarray], backend: str) -> None:
    assert list(actual) == list(expected)
    for key, bits in expected.items():
        assert_same(actual[key], bits, backend)


def texts_of(count: int, seed: int = 0) -> dict[int, str]:
    rng = np.random.default_rng(seed)
    return {key: "".join(rng.choice(list("abcdef\n"), rng.integers(0, 40))) for key in range(count)}


def opened(model: Model, count: int) -> Streams:
    many = Streams(model)
    for key in range(count):
        many.add(key)
    return many


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "embedding_size": 7}])
def test_every_network_reads_many(backend: str, cell: str, dtype: str, options: dict[str, Any]):
    model, texts = made("text", backend, dtype=dtype, **CELLS[cell], **options), texts_of(20)
    many = opened(model, 20)
    once = many.feed(texts)
    for key, bits in many.feed({key: texts[key] for key in (7, 3, 0)}).items():
        assert_same(np.append(once[key], bits), model.surprisal(texts[key] * 2), backend)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_blocks_change_no_bit(monkeypatch: pytest.MonkeyPatch, compiled: str, threads: int):
    monkeypatch.setattr(execution, "MIN_WORK", 1)
    monkeypatch.setattr(snapshot, "ROWS_AT_ONCE", 7)
    model, texts = made("documents", compiled, threads=threads), texts_of(60)
    for key, bits in opened(model, 60).feed(texts).items():
        np.testing.assert_array_equal(bits, model.surprisal(texts[key]))


def test_ten_thousand_are_open_at_once(compiled: str):
    model = MODELS["documents", compiled]
    many, text = opened(model, 10_000), "abcdef"
    for symbol in text[:3]:
        many.feed(dict.fromkeys(range(10_000), symbol))
    expected = model.surprisal(text)[3]
    found = many.feed(dict.fromkeys(many, text[3]))
    assert len(found) == 10_000
    assert set(np.concatenate(list(found.values())).tolist()) == {float(expected)}


def test_a_place_that_was_free_begins_anew(backend: str):
    model = MODELS["text", backend]
    many = opened(model, 16)  # all the room that there is at first
    many.feed(dict.fromkeys(range(16), "abc\r"))
    for key in range(16):
        many.drop(key)
        many.add(("new", key))
    assert many._rows.room == 16
    for bits in many.feed(dict.fromkeys(many, "\nb")).values():
        assert_same(bits, model.surprisal("\nb"), backend)


def test_a_state_moves_between_objects_and_a_single_stream():
    model = MODELS["normalized", "c"]
    text, many = "abe\u0301\r\nfab".encode(), Streams(model)
    expected = model.surprisal(text.decode(), end=True)
    many.add("x")
    begun = many.feed({"x": text[:4]})["x"]
    other = Streams(model)
    other.add("y", state=many.state("x"))
    single, branch = model.stream(state=other.state("y")), other.stream("y")
    for feed, end in (
        (single.feed, single.end),
        (branch.feed, branch.end),
        (lambda some: other.feed({"y": some})["y"], lambda: other.end(["y"])["y"]),
    ):
        np.testing.assert_array_equal(np.concatenate([begun, feed(text[4:]), end()]), expected)
    with pytest.raises(CheckpointError, match="state is of a stream of another model"):
        Streams(MODELS["text", "c"]).add("z", state=single.state())


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("text", "abX", "'b': the text has 'X' at position 5"),
        ("text", b"\xff", "'b': the bytes b'\\\\xff' at position 0 are not UTF-8"),
        ("text", None, "'b': a text must be str or bytes, and this is NoneType"),
        ("bytes", "abc", "'b': the text is str, and this model's unit is the byte"),
        ("tokens", [0, 7], "'b': the token at position 4 is 7"),
        ("tokens", 3.5, "'b': tokens are whole numbers"),
    ],
)
def test_an_error_leaves_all_streams_as_they_were(kind: str, text: Any, message: str):
    many, begun = Streams(MODELS[kind, "c"], unknown="error"), symbols_of(kind, "\nab")
    for key in "abc":
        many.add(key)
    many.feed(dict.fromkeys("abc", begun))
    before = [many.state(key) for key in "abc"]
    with pytest.raises((TypeError, ValueError), match=message):
        many.feed({"a": begun, "b": text, "c": begun})
    with pytest.raises(ValueError, match="'d' is the key of no open stream"):
        many.feed({"a": begun, "d": begun})
    assert [many.state(key) for key in "abc"] == before
    assert list(many.feed({"c": begun, "a": begun})) == ["c", "a"]


def test_parameters_out_of_range_are_an_error(backend: str):
    model = made("documents", backend)
    model.network.parameters["head.weight"][0] = np.finfo(np.float32).max
    model.network.parameters["bias_l0"][...] = 10
    many = opened(model, 3)
    before = [many.state(key) for key in many]
    for call in (lambda: many.feed({2: "", 1: "ab"}), lambda: many.end([0, 1])):
        with pytest.raises(ValueError, match="^[01]: the model gives .* parameters are out of range"):
            call()
    assert [many.state(key) for key in many] == before


def test_keys_and_arguments_are_checked():
    many = Streams(MODELS["text", "c"])
    many.add(None)
    with pytest.raises(ValueError, match="key=None is that of an open stream"):
        many.add(None)
    for call in (many.drop, many.state, many.stream):
        with pytest.raises(ValueError, match="'x' is the key of no open stream"):
            call("x")
    with pytest.raises(TypeError, match="texts is list; it must be a mapping"):
        many.feed(["a"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unhashable"):
        many.add([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="state is int"):
        many.add(1, state=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model is str; it must be a fastrnn.Model"):
        Streams("m.safetensors")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown=2 must be"):
        Streams(MODELS["text", "c"], unknown=2)
    assert many.feed({}) == many.end([]) == {}
    assert None in many and "x" not in many and list(many) == [None]


def test_streams_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch):
    many = opened(MODELS["text", "c"], 16)
    monkeypatch.setattr("fastrnn.core.memory.ALWAYS_FITS", 0)
    monkeypatch.setattr("fastrnn.core.memory.available", lambda: 100)
    with pytest.raises(MemoryError, match="32 streams needs"):
        many.add("more")
    assert len(many) == 16


def test_two_threads_share_one_object(compiled: str):
    model = MODELS["documents", compiled]
    many, texts = opened(model, 40), texts_of(40)

    def read(keys: range) -> None:
        for place in range(40):
            many.feed({key: texts[key][place : place + 1] for key in keys})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, (range(20), range(20, 40))))
    for key, text in texts.items():
        assert many.stream(key).total_bits == sum(model.surprisal(text).tolist())


def test_the_parameters_are_freed_with_the_streams():
    model = made("text")
    stream, many = model.stream(), opened(model, 2)
    stream.feed("a")
    many.feed({0: "ab", 1: "c"})
    references = [weakref.ref(model.network), weakref.ref(model.network.snapshot())]
    del model, stream, many
    assert [reference() for reference in references] == [None, None]
