"""A stream gives the bits of the whole text, however it is cut, stored or copied."""

from __future__ import annotations

import copy
import hashlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CELLS, assert_close
from helpers.streams import CODES, KINDS, LETTERS, MODELS, VOCABULARIES, assert_same, made, symbols_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrnn import CheckpointError, Model
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference import stream_state
from fastrnn.network import execution


def cut(text: Any, places: list[int]) -> list[Any]:
    """The pieces of a text between these places."""
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:stop] for start, stop in pairwise(ends)]


def fed(stream: Any, pieces: list[Any]) -> np.ndarray:
    """The bits of all pieces and of the end."""
    return np.concatenate([*(stream.feed(piece) for piece in pieces), stream.end()])


texts = st.one_of(st.text(st.sampled_from(LETTERS + "X\r\u0301\ud800")), st.text())
quick = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("kind", KINDS)
@given(
    text=texts,
    places=st.lists(st.integers(0, 99), max_size=9),
    unknown=st.sampled_from(["skip", 0.25, "symbol"]),
)
@quick
def test_pieces_give_the_bits_of_the_whole(
    backend: str, kind: str, text: str, places: list[int], unknown: str | float
):
    model = MODELS[kind, backend]
    if unknown == "symbol" and kind != "with unknown":
        unknown = "skip"
    end = model.vocabulary.boundary
    whole = symbols_of(kind, text)
    stream = model.stream(unknown=unknown)
    found = fed(stream, cut(whole, places))
    assert_same(found, model.surprisal(whole, end=end, unknown=unknown), backend)
    assert (stream.n_symbols, stream.total_bits) == (len(found), sum(found.tolist()))
    assert_same(fed(stream, [whole]), found, backend)  # the next text begins anew


@pytest.mark.parametrize("kind", ["text", "documents", "normalized", "with unknown"])
@given(
    data=st.one_of(st.binary(), texts.map(lambda text: text.encode("utf-8", "surrogatepass"))),
    at=st.integers(0, 99),
)
@quick
def test_bytes_are_utf_8_and_others_are_unknown(kind: str, data: bytes, at: int):
    model = MODELS[kind, "c"]
    pieces, unknown = cut(data, [at, at + 1, 2 * at]), "symbol" if kind == "with unknown" else 0.5
    text, end = data.decode("utf-8", "surrogateescape"), model.vocabulary.boundary
    expected = model.surprisal(text, end=end, unknown=unknown)
    np.testing.assert_array_equal(fed(model.stream(unknown=unknown), pieces), expected)
    stream, before = model.stream(unknown="error"), b""
    try:
        for piece in pieces:
            before = stream.state()
            stream.feed(piece)
        before = stream.state()
        stream.end()
    except ValueError:
        assert stream.state() == before
    else:
        assert stream.total_bits == sum(model.surprisal(text, end=end).tolist())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "embedding_size": 11, "tied": True}])
def test_every_network_streams(backend: str, cell: str, dtype: str, options: dict[str, Any]):
    model = made("text", backend, dtype=dtype, **CELLS[cell], **options)
    text = "".join(np.random.default_rng(0).choice(list("abcdef\n"), 700))
    expected = model.surprisal(text)
    assert_same(fed(model.stream(), cut(text, [1, 2, 3, 300, 556])), expected, backend)
    assert_same(fed(model.stream(), [text]), expected, backend)


def test_threads_may_share_the_columns(monkeypatch: pytest.MonkeyPatch, compiled: str):
    model = made("text", compiled, hidden_size=64, cell="lstm", threads=2)
    expected = made("text", compiled, hidden_size=64, cell="lstm", threads=1).surprisal("abcdef" * 50)
    for name in ("MIN_WORK", "MIN_STEP_WORK", "MIN_COLUMNS"):
        monkeypatch.setattr(execution, name, 1)
    assert model.network.split(100, 1, passes=1) == (2, True)
    np.testing.assert_array_equal(fed(model.stream(), cut("abcdef" * 50, [1, 2, 9])), expected)


def test_a_long_text_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch):
    expected = MODELS["normalized", "c"].surprisal("e\u0301ab\r\n" * 30, end=True)
    monkeypatch.setattr("fastrnn.inference.reader.SYMBOLS_AT_ONCE", 7)
    for text in ("e\u0301ab\r\n" * 30, ("e\u0301ab\r\n" * 30).encode()):
        np.testing.assert_array_equal(fed(MODELS["normalized", "c"].stream(), [text]), expected)


# ---- The next symbol ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "documents", "with unknown", "bytes", "documents of tokens"])
def test_the_probabilities_are_those_that_the_bits_state(backend: str, kind: str):
    model = MODELS[kind, backend]
    stream, V = model.stream(), model.vocabulary.size
    for prefix in ("", "abc", "f"):
        stream.feed(symbols_of(kind, prefix))
        found, distribution = stream.next_probabilities(), stream.next_distribution()
        assert found.shape == (V,) and found.dtype == np.float64 and abs(found.sum() - 1) < 1e-12
        assert list(distribution.values()) == sorted(found.tolist(), reverse=True)
        for id_ in range(len(model.vocabulary.symbols)):
            symbol = model.vocabulary.decode(np.array([id_]))
            bits = stream.copy().feed(symbol)
            if symbol == "\ufeff" and not bits.size:  # at the beginning it is not part of the text
                continue
            assert_close(-np.log2(found[id_]), bits[0], 1e-5)
            assert distribution[symbol if isinstance(symbol, str | bytes) else int(symbol[0])] == found[id_]
        if model.vocabulary.boundary:
            assert_close(-np.log2(found[-1]), stream.copy().end()[0], 1e-5)
            assert distribution["<end>"] == found[-1]
        if model.vocabulary.unknown:
            assert_close(-np.log2(found[V - 1]), stream.copy().feed("X")[0], 1e-5)
            assert distribution["<unknown>"] == found[V - 1]


def test_the_probabilities_have_the_same_bits_with_c_and_numba():
    found = {}
    for backend in ("c", "numba"):
        stream = MODELS["documents", backend].stream()
        stream.feed("abcfed")
        found[backend] = stream.next_probabilities()
    np.testing.assert_array_equal(found["c"], found["numba"])


# ---- States and copies -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_continues_the_stream(backend: str, kind: str):
    model = MODELS[kind, backend]
    text = symbols_of(kind, "abc\u00e9def\nfab")
    if kind == "normalized":
        text = text.encode()
    expected = fed(model.stream(unknown=0.5), [text])
    for place in range(len(text) + 1):
        stream = model.stream(unknown=0.5)
        begun = stream.feed(text[:place])
        for again in (
            model.stream(state=stream.state()),
            model.stream(state=bytearray(stream.state()), unknown=0.5),
            pickle.loads(pickle.dumps(stream)),
            copy.copy(stream),
            copy.deepcopy(stream),
            stream.copy(),
        ):
            assert again.state() == stream.state()
            assert (again.n_symbols, again.total_bits, again.unknown) == (
                place_of(begun),
                sum(begun.tolist()),
                0.5,
            )
            rest = fed(again, [text[place:]])
            assert_same(np.concatenate([begun, rest]), expected, backend)


def place_of(bits: np.ndarray) -> int:
    return len(bits)


def test_a_state_is_small_and_the_same_bytes_with_c_and_numba():
    states = []
    for backend in ("c", "numba"):
        stream = made("text", backend, hidden_size=128).stream()
        stream.feed("abc\r")
        states.append(stream.state())
    assert states[0] == states[1]
    assert len(states[0]) < 4 * 128 + 500


def test_a_state_continues_in_another_process(tmp_path: Path):
    model = made("normalized", cell="gru")
    path, text = tmp_path / "m.safetensors", "abe\u0301\r\nfab".encode()
    model.save(path)
    stream = model.stream()
    stream.feed(text[:4])  # within a character
    code = (
        "import sys, fastrnn\n"
        "stream = fastrnn.load(sys.argv[1], backend='c').stream(state=bytes.fromhex(sys.argv[2]))\n"
        "print([*stream.feed(bytes.fromhex(sys.argv[3])), *stream.end()])"
    )
    arguments = [str(path), stream.state().hex(), text[4:].hex()]
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    expected = [*stream.feed(text[4:]), *stream.end()]
    assert found.stdout.strip() == str(expected)


def test_damaged_states_are_refused():
    model = MODELS["documents", "c"]
    stream = model.stream()
    stream.feed("abc")
    state = stream.state()
    for place in range(0, len(state), 7):
        damaged = bytearray(state)
        damaged[place] ^= 1
        with pytest.raises(CheckpointError, match="state (is not|has a format|is damaged)"):
            model.stream(state=bytes(damaged))
        with pytest.raises(CheckpointError, match="state (is not|has a format|is damaged)"):
            model.stream(state=state[:place])
    with pytest.raises(CheckpointError, match="format that this version"):
        model.stream(state=state.replace(b"stream 1", b"stream 2"))
    with pytest.raises(TypeError, match="state is str; it must be the bytes"):
        model.stream(state=state.hex())  # type: ignore[arg-type]


def changed(state: bytes, old: str, new: str) -> bytes:
    """A state with another text in its header, and the right digest."""
    start = len(stream_state.KIND + stream_state.VERSION) + stream_state.DIGEST_BYTES
    length = int.from_bytes(state[start : start + 4], "little")
    header, rest = state[start + 4 : start + 4 + length].decode(), state[start + 4 + length :]
    assert old in header
    written = header.replace(old, new).encode()
    body = len(written).to_bytes(4, "little") + written + rest
    return state[: len(stream_state.KIND + stream_state.VERSION)] + hashlib.sha256(body).digest()[:16] + body


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"before":3', '"before":9000'),
        ('"before":3', '"before":-1'),
        ('"before":3', '"before":true'),
        ('"before":3,', ""),
        ('"position":3', '"position":-3'),
        ('"n_symbols":3', '"n_symbols":1e3'),
        ('"total_bits":', '"total_bits":NaN,"x":'),
        ('"begun":true', '"begun":1'),
        ('"data":""', '"data":"c3c3c3c3"'),
        ('"data":""', '"data":"x"'),
        ('"segment":""', '"segment":null'),
        ('"rest":{', '"rest":5,"x":{'),
        ('"unknown":"error"', '"unknown":7'),
        ('"unknown":"error"', '"x":7'),
        ("{", "["),
    ],
)
def test_states_with_values_that_none_has_are_refused(old: str, new: str):
    model = MODELS["documents", "c"]
    stream = model.stream()
    stream.feed("abc")
    with pytest.raises((CheckpointError, ValueError), match="state is damaged|state is of a|unknown=7"):
        model.stream(state=changed(stream.state(), old, new))


def test_a_state_of_another_model_is_refused():
    model = made("text")
    stream = model.stream()
    state = stream.state()
    for other, what in (
        (made("text", hidden_size=12), "network differs: rnn_tanh 1x11, 9 symbols"),
        (made("text", dtype="float64"), "network differs"),
        (made("text", cell="gru"), "network differs"),
        (Model(model.network, VOCABULARIES["text"], np.ones(len(CODES), int)), "symbols differs"),
        (Model(model.network, Vocabulary("character", CODES), np.arange(len(CODES))), "symbols differs"),
    ):
        with pytest.raises(CheckpointError, match=f"state is of a stream of another model: its {what}"):
            other.stream(state=state)
    model.network.flat[0] += 1
    with pytest.raises(CheckpointError, match="its parameters differs"):
        model.stream(state=state)


def test_parameters_that_change_reach_new_streams_alone(backend: str):
    model = made("text", backend)
    stream = model.stream()
    expected = model.surprisal("abcdef")
    begun, state = stream.feed("abc"), stream.state()
    model.network.flat[...] *= 1.5
    assert_same(np.concatenate([begun, stream.copy().feed("def")]), expected, backend)
    assert_same(np.concatenate([begun, pickle.loads(pickle.dumps(stream)).feed("def")]), expected, backend)
    assert stream.copy().state() == state
    assert_same(model.stream().feed("abcdef"), model.surprisal("abcdef"), backend)
    assert not np.allclose(model.surprisal("abcdef"), expected)


# ---- Errors ------------------------------------------------------------------------------------------

BAD: dict[str, list[tuple[Any, str]]] = {
    "text": [
        ("abX", "the text has 'X' at position 6"),
        ("a\ud800", "the text has a lone surrogate, '\\\\ud800', at position 5"),
        (b"a\xff", "the bytes b'\\\\xff' at position 1 are not UTF-8"),
        (None, "a text must be str or bytes, and this is NoneType"),
        (3, "a text must be str or bytes"),
        (["a"], "a text must be str or bytes"),
        (np.array(["a"]), "a text must be str or bytes"),
    ],
    "bytes": [("abc", "this model.s unit is the byte"), (None, "a text must be"), ([1], "a text must be")],
    "tokens": [
        ([0, 6], "the token at position 5 is 6"),
        (np.array([-1]), "the token at position 4 is -1"),
        ([2**70], "tokens"),
        (np.array([1.0]), "tokens must be whole numbers"),
        ([float("nan")], "tokens must be whole numbers"),
        ([[1], [1, 2]], "tokens"),
        ("ab", "tokens are whole numbers"),
        (b"ab", "tokens are whole numbers"),
        (None, "tokens"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "message"), [(kind, *bad) for kind in BAD for bad in BAD[kind]])
def test_an_error_leaves_the_stream_as_it_was(kind: str, text: Any, message: str):
    stream = MODELS[kind, "c"].stream(unknown="error")
    begun = {"text": "abcd", "bytes": b"abcd", "tokens": [0, 1, 2, 3]}[kind]
    stream.feed(begun)
    before = stream.state()
    with pytest.raises((TypeError, ValueError), match=message):
        stream.feed(text)
    assert stream.state() == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_out_of_range_are_an_error(backend: str, dtype: str):
    model = made("documents", backend, dtype=dtype)
    model.network.parameters["head.bias"][0] = np.finfo(dtype).max
    model.network.parameters["head.weight"][0] = np.finfo(dtype).max
    model.network.parameters["bias_l0"][...] = 10
    stream = model.stream()
    before = stream.state()
    for call in (lambda: stream.feed("a"), stream.end, stream.next_probabilities):
        with pytest.raises(ValueError, match="parameters are out of range"):
            call()
        assert stream.state() == before


def test_options_are_checked():
    model = MODELS["text", "c"]
    with pytest.raises(ValueError, match="unknown='x' must be"):
        model.stream(unknown="x")
    with pytest.raises(ValueError, match="unknown='symbol' is for a model with an unknown symbol"):
        model.stream(unknown="symbol")
    stream = model.stream()
    for name in ("n_symbols", "total_bits", "unknown", "other"):
        with pytest.raises(AttributeError):
            setattr(stream, name, 1)
    assert repr(stream) == "<fastrnn.Stream: 0 symbols, 0.0 bits>"


def test_nothing_is_fed():
    for kind in KINDS:
        stream = MODELS[kind, "c"].stream()
        before = stream.state()
        assert stream.feed(symbols_of(kind, "")).shape == (0,)
        assert stream.state() == before
        assert len(stream.end()) == MODELS[kind, "c"].vocabulary.boundary
    assert MODELS["tokens", "c"].stream().feed([]).dtype == np.float64


# ---- Threads -----------------------------------------------------------------------------------------


def test_two_threads_share_a_model(compiled: str):
    model = MODELS["text", compiled]
    texts = ["abcdef" * 200, "fedcba" * 200]
    expected = [model.surprisal(text) for text in texts]

    def read(text: str) -> np.ndarray:
        return fed(model.stream(), [text[place : place + 3] for place in range(0, len(text), 3)])

    with ThreadPoolExecutor(2) as pool:
        for bits, wanted in zip(pool.map(read, texts), expected, strict=True):
            np.testing.assert_array_equal(bits, wanted)
