"""Scores of unknown symbols, of iterators and files, of texts in pieces, and of models that overflow."""

from __future__ import annotations

import array
import io
import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from helpers import assert_close

import fastrnn
from fastrnn import Model, Network
from fastrnn.core.constants import ABORT
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference import sums
from fastrnn.inference.scoring import Scorer

TEXT = "abc def abd\n" * 20
LINES = TEXT.splitlines()
IDS = [[ord(c) - 97 for c in line if c != " "] for line in LINES]

KINDS = ("text", "documents", "tokens", "documents of tokens")


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    """A model of each kind."""
    settings: dict[str, Any] = {"hidden_size": 12, "steps": 60, "backend": "numpy", "rng": 0}
    return {
        "text": fastrnn.train(TEXT, **settings),
        "documents": fastrnn.train(LINES, **settings),
        "tokens": fastrnn.train([token for ids in IDS for token in ids], vocabulary=6, **settings),
        "documents of tokens": fastrnn.train(IDS, vocabulary=6, **settings),
    }


def on(backend: str, model: Model) -> Model:
    return Model.from_bytes(model.to_bytes(), backend=backend)


def symbols_of(kind: str, text: str) -> Any:
    """A text over "abcdef" and "X", which no model knows."""
    return text if "tokens" not in kind else [-7 if c == "X" else ord(c) - 97 for c in text]


# ---- Unknown symbols ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["Xab", "aXXb", "abX", "X", "XX", "", "ab"])
def test_an_unknown_symbol_is_as_if_absent(backend: str, models: dict[str, Model], kind: str, text: str):
    model, p = on(backend, models[kind]), 2.0**-20
    for end in (False, True) if model.vocabulary.boundary else (False,):
        whole, known = symbols_of(kind, text), symbols_of(kind, text.replace("X", ""))
        expected = model.surprisal(known, end=end)
        np.testing.assert_array_equal(model.surprisal(whole, end=end, unknown="skip"), expected)
        filled = model.surprisal(whole, end=end, unknown=p)
        is_known = np.array([c != "X" for c in text] + [True] * end, bool)
        np.testing.assert_array_equal(filled[is_known], expected)
        np.testing.assert_array_equal(filled[~is_known], np.full(text.count("X"), 20.0))
        assert model.log_prob(whole, end=end, unknown="skip") == model.log_prob(known, end=end)
        bits_of_unknown = 20 * text.count("X")
        assert model.log_prob(whole, end=end, unknown=p) == pytest.approx(
            model.log_prob(known, end=end) - bits_of_unknown * np.log(2)
        )
        if expected.size:
            assert model.bits_per_symbol(whole, end=end, unknown="skip") == math.fsum(expected) / len(
                expected
            )
            assert model.perplexity(whole, end=end, unknown="skip") == pytest.approx(2 ** expected.mean())
        if filled.size:
            assert model.bits_per_symbol(whole, end=end, unknown=p) == math.fsum(filled) / len(filled)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unknown", ["skip", 0.25])
def test_many_texts_with_unknown_symbols_are_scored_like_each(
    backend: str, models: dict[str, Model], kind: str, unknown: str | float
):
    model, rng = on(backend, models[kind]), np.random.default_rng(0)
    texts = [symbols_of(kind, "".join(rng.choice(list("abcdefX"), n))) for n in rng.integers(0, 9, 60)]
    texts += [symbols_of(kind, "XXX"), symbols_of(kind, ""), symbols_of(kind, "X")]
    for end in (False, True) if model.vocabulary.boundary else (False,):
        scored = model.score_many(texts, end=end, unknown=unknown)
        for text, bits in zip(texts, scored, strict=True):
            assert_close(bits, model.surprisal(text, end=end, unknown=unknown), 1e-6)


def test_a_probability_of_one_costs_nothing(models: dict[str, Model]):
    bits = models["text"].surprisal("X", unknown=1)
    assert bits.tolist() == [0.0]
    assert not np.signbit(bits).any()


def test_a_lone_surrogate_is_an_unknown_character(models: dict[str, Model]):
    with pytest.raises(ValueError, match=r"lone surrogate, '\\udcff', at position 1"):
        models["text"].surprisal("a\udcffb")
    expected = models["text"].surprisal("ab")
    np.testing.assert_array_equal(models["text"].surprisal("a\udcffb", unknown="skip"), expected)


def test_no_byte_is_unknown():
    model = fastrnn.train(b"hello" * 9, hidden_size=4, steps=3, backend="numpy", rng=0)
    data = bytes(range(256))
    for unknown in ("skip", 0.5):
        np.testing.assert_array_equal(model.surprisal(data, unknown=unknown), model.surprisal(data))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.uint32, np.int64, np.uint64])
def test_a_token_of_any_dtype_may_be_unknown(models: dict[str, Model], dtype: type):
    largest = np.iinfo(dtype).max
    tokens = np.array([1, largest, 2, 6, 3], dtype)  # 6 is the boundary of documents
    for kind in ("tokens", "documents of tokens"):
        expected = models[kind].surprisal([1, 2, 3])
        np.testing.assert_array_equal(models[kind].surprisal(tokens, unknown="skip"), expected)
        (scored,) = models[kind].score_many([tokens], unknown="skip")
        np.testing.assert_array_equal(scored, expected)


def test_a_prime_may_have_unknown_symbols(backend: str, models: dict[str, Model]):
    for kind in KINDS:
        model = on(backend, models[kind])
        for prime, known in (("XaXbX", "ab"), ("X", ""), ("XX", "")):
            expected = model.sample(30, symbols_of(kind, known), rng=3)
            for unknown in ("skip", 0.1):
                sampled = model.sample(30, symbols_of(kind, prime), rng=3, unknown=unknown)
                np.testing.assert_array_equal(list(sampled), list(expected))
        with pytest.raises(ValueError, match=r"^prime: the t.* at position 1"):
            model.sample(3, symbols_of(kind, "aX"))


@pytest.mark.parametrize(
    ("unknown", "error"),
    [
        ("ignore", ValueError),
        ("", ValueError),
        (0, ValueError),
        (-0.5, ValueError),
        (1.5, ValueError),
        (float("nan"), ValueError),
        (True, TypeError),
        ([0.5], TypeError),
        (b"skip", TypeError),
    ],
)
def test_refuses_what_cannot_become_of_an_unknown_symbol(
    models: dict[str, Model], unknown: Any, error: type[Exception]
):
    model = models["text"]
    for call in (model.surprisal, model.log_prob, model.bits_per_symbol, model.perplexity):
        with pytest.raises(error, match="unknown=.* must be 'error', 'skip', 'symbol', or a probability"):
            call("ab", unknown=unknown)
    for texts in (["ab"], iter(["ab"])):  # the error comes before a text is read
        with pytest.raises(error, match="unknown="):
            model.score_many(texts, unknown=unknown)
    with pytest.raises(error, match="unknown="):
        model.sample(3, unknown=unknown)


def test_a_text_of_unknown_symbols_has_no_mean(models: dict[str, Model]):
    with pytest.raises(ValueError, match="the text has no symbol that the model knows"):
        models["text"].bits_per_symbol("XX", unknown="skip")
    assert models["text"].log_prob("XX", unknown="skip") == 0
    assert models["text"].bits_per_symbol("XX", unknown=0.5) == 1


# ---- Iterators and files -----------------------------------------------------------------------------


def test_an_iterator_gives_an_iterator(backend: str, models: dict[str, Model]):
    model = on(backend, models["documents"])
    expected = model.score_many(LINES, end=True)
    assert isinstance(expected, list)
    actual = model.score_many(iter(LINES), end=True)
    assert iter(actual) is actual
    for bits, wanted in zip(actual, expected, strict=True):
        assert_close(bits, wanted, 0 if backend != "numpy" else 1e-6)
    assert isinstance(model.score_many(np.array(LINES)), list)
    assert list(model.score_many(iter([]))) == []


@pytest.mark.parametrize("text", ["abc", ""])
def test_an_iterator_may_be_endless_and_is_read_as_it_is_asked_for(models: dict[str, Model], text: str):
    taken = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield text

    scored = models["text"].score_many(texts())
    assert taken == 0
    next(scored)
    assert taken <= 2000
    assert len(list(itertools.islice(scored, 5000))) == 5000


def test_progress_changes_no_score(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    model = models["documents"]
    expected = model.score_many(LINES)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("fastrnn.core.terminal.BestEffort.isatty", lambda _: True)
    found = model.score_many(LINES, progress=True)
    assert isinstance(found, list)
    assert f"{len(LINES)}/{len(LINES)}" in capsys.readouterr().err
    lazy = model.score_many(iter(LINES), progress=True)
    assert capsys.readouterr().err == ""
    for actual in (found, list(lazy)):
        np.testing.assert_array_equal(np.concatenate(actual), np.concatenate(expected))
    assert f"{len(LINES)}text" in capsys.readouterr().err
    with pytest.raises(TypeError, match="progress='yes' must be True or False"):
        model.score_many(LINES, progress="yes")


def test_what_is_wrong_with_an_iterator_s_argument_is_said_at_once(models: dict[str, Model]):
    with pytest.raises(ValueError, match="end=True is for a model of documents"):
        models["text"].score_many(iter(["a"]), end=True)


def test_an_error_says_which_text(models: dict[str, Model]):
    good = ["abc"] * 1000
    with pytest.raises(ValueError, match=r"^text 1000 of 1001: the text has 'X' at position 1,"):
        models["text"].score_many([*good, "aX"])
    with pytest.raises(ValueError, match=r"^text 1000: the text has 'X' at position 1,"):
        list(models["text"].score_many(iter([*good, "aX"])))
    with pytest.raises(TypeError, match=r"^text 1000: a text must be str or bytes, and this is int"):
        list(models["text"].score_many(iter([*good, 5])))
    with pytest.raises(ValueError, match=r"^line 1001: the text has 'X' at position 1,"):
        list(models["text"].score_many(io.StringIO("abc\n" * 1000 + "aX\n")))
    with pytest.raises(ValueError, match=r"^text 1: the token at position 1 is -7"):
        list(models["tokens"].score_many(iter([[1, 2], [3, -7]])))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_lines_of_a_file_are_texts_without_their_ends(models: dict[str, Model], tmp_path: Path, end: str):
    expected = models["documents"].score_many([*LINES, "", "abc"])
    (tmp_path / "t").write_bytes(end.join([*LINES, "", "abc"]).encode())
    with (tmp_path / "t").open() as file:
        actual = list(models["documents"].score_many(file))
    assert_close(np.concatenate(actual), np.concatenate(expected), 1e-6)
    if end != "\r":  # a lone CR does not end a line there
        with (tmp_path / "t").open(newline="\n") as file:
            assert list(map(len, models["documents"].score_many(file))) == list(map(len, expected))


def test_the_lines_of_a_binary_file_are_texts_of_a_model_of_bytes():
    model = fastrnn.train([b"ab", b"cd"], hidden_size=4, steps=3, backend="numpy", rng=0)
    assert list(map(len, model.score_many(io.BytesIO(b"ab\r\n\ncde\n")))) == [2, 0, 3]


# ---- Texts in pieces ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unknown", ["skip", 0.25])
def test_bits_do_not_depend_on_the_pieces(
    backend: str, models: dict[str, Model], kind: str, unknown: str | float
):
    model, rng = on(backend, models[kind]), np.random.default_rng(0)
    tolerance = 0 if backend != "numpy" else 1e-6
    texts = ["".join(rng.choice(list("abcdefX"), n)) for n in (40, 0, 1, 3, 200, 7, 7, 0, 50)]
    end = model.vocabulary.boundary
    expected = model.score_many([symbols_of(kind, text) for text in texts], end=end, unknown=unknown)
    for longest in (1, 2, 7, 100):
        pieces = []
        for text in texts:
            cuts = [0, *np.cumsum(rng.integers(0, longest + 1, 400)).tolist()]
            parts = [text[a:b] for a, b in itertools.pairwise(cuts) if a < len(text)] or [""]
            pieces += [
                (symbols_of(kind, part), left == 1)
                for part, left in zip(parts, range(len(parts), 0, -1), strict=True)
            ]
        scored = model.score_pieces(iter(pieces), "text {}: ".format, unknown=unknown)
        found: list[list[float]] = [[]]
        for bits, (_, is_last) in zip(scored, pieces, strict=True):
            found[-1] += bits.tolist()
            found += [[]] if is_last else []
        for actual, wanted in zip(found[:-1], expected, strict=True):
            assert_close(actual, wanted, tolerance)


def test_a_long_prime_is_read_in_pieces(
    backend: str, models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
):
    for kind in KINDS:
        model, prime = on(backend, models[kind]), symbols_of(kind, "abcdefabd" * 20)
        expected = model.sample(30, prime, rng=0)
        monkeypatch.setattr("fastrnn.inference.scoring.SYMBOLS_AT_ONCE", 7)
        np.testing.assert_array_equal(list(model.sample(30, prime, rng=0)), list(expected))
        bad = symbols_of(kind, "abcdefabd" * 2 + "X")
        with pytest.raises(ValueError, match="prime: .* at position 18"):
            model.sample(3, bad)
        monkeypatch.undo()


GROWTH = """
import sys
from pathlib import Path
import fastrnn
from fastrnn.cli.main import main

def most():
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l)

path, text, how = sys.argv[1:]
model = fastrnn.load(path, backend="c")
model.score_many(["ab"] * 100)
model.sample(10)
before = most()
if how == "eval":
    main(["eval", path, text, "--backend", "c"], standalone_mode=False)
elif how == "score":
    with open(text) as file:
        print(sum(map(len, model.score_many(file))))
elif how == "prime":
    model.sample(3, Path(text).read_text())
else:
    model.sample(10**8)
print("kB:", most() - before)
"""


def growth(*arguments: object) -> float:
    """The MB by which a process grows at most."""
    command = [sys.executable, "-c", GROWTH, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split("kB:")[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
def test_memory_does_not_grow_with_the_file(models: dict[str, Model], tmp_path: Path):
    """At 25 bytes for each character, each of these files would take more."""
    require_backend("c")
    files = {
        "lines": "abc def abd\n" * 400_000,
        "long": "abc def abd " * 400_000,
        "empty": "\n" * 2_000_000,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for kind in ("documents", "text"):
        models[kind].save(tmp_path / kind)
    assert growth(tmp_path / "documents", tmp_path / "lines", "eval") < 60
    assert growth(tmp_path / "documents", tmp_path / "lines", "score") < 60
    assert growth(tmp_path / "documents", tmp_path / "long", "eval") < 60
    assert growth(tmp_path / "documents", tmp_path / "empty", "eval") < 60
    assert growth(tmp_path / "text", tmp_path / "lines", "eval") < 60
    assert growth(tmp_path / "text", tmp_path / "lines", "prime") < 60
    assert growth(tmp_path / "documents", "", "sample") < 20


# ---- Parameters out of range -------------------------------------------------------------------------


def of_weights(backend: str, dtype: str = "float32", *, documents: bool = False, **settings: Any) -> Model:
    """A model of "abcd" whose weights are finite, and whose logits or state overflow."""
    settings = {"initialization": "zeros", "dtype": dtype, **settings}
    network = Network(4 + documents, 3, backend=backend, **settings)
    network.flat[:] = np.finfo(dtype).max / 2
    if network.cell == "gru":
        network.parameters["weight_ih_l0"][3:6] *= -1  # z is 0.5
    vocabulary = Vocabulary("character", np.array([97, 98, 99, 100], np.uint32), documents)
    return Model(network, vocabulary, np.ones(4 + documents, np.int64))


SETTINGS: dict[str, dict[str, Any]] = {
    "tanh": {},
    "relu": {"activation": "relu"},
    "gru": {"cell": "gru"},
    "lstm": {"cell": "lstm", "num_layers": 2},
    "tied": {"embedding_size": 3, "tied": True},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_number_that_is_not_finite_is_an_error_that_names_the_symbol(
    backend: str, dtype: str, settings: dict[str, Any]
):
    model = of_weights(backend, dtype, **settings)
    wanted = r"the model gives 'b' at position 1 (nan|inf) bits: the model's parameters are out of range"
    for call in (model.surprisal, model.bits_per_symbol, model.perplexity):
        with pytest.raises(ValueError, match=f"^{wanted}"):
            call("ab")
    with pytest.raises(ValueError, match=r"^the model gives 'b' at position 1 (nan|inf) nats"):
        model.log_prob("ab")
    with pytest.raises(ValueError, match=f"^text 2 of 4: {wanted}"):
        model.score_many(["a", "", "ab", "abc"])
    with pytest.raises(ValueError, match=r"^text 1: the model gives 'b' at position 2"):
        list(model.score_many(iter(["a", "aXb"]), unknown="skip"))
    with pytest.raises(ValueError, match=r"^text 1: the model gives 'b' at position 2"):
        list(model.score_many(iter(["a", "aXb"]), unknown=0.5))
    with pytest.raises(ValueError, match=r"^prime: the model gives 'b' at position 1 .* out of range"):
        model.sample(5, "ab")
    for arguments in ({"n": 5}, {"n": 5, "prime": "a"}, {"n": 3000, "prime": "c", "temperature": 0.5}):
        with pytest.raises(ValueError, match="^the model's parameters are out of range"):
            model.sample(**arguments)
    assert np.isfinite(model.surprisal("a")).all()  # it is scored by its frequency


def test_a_document_whose_end_has_no_finite_number(backend: str):
    model = of_weights(backend, documents=True)
    with pytest.raises(ValueError, match="the model gives 'a' at position 0 (nan|inf) bits"):
        model.surprisal("a")
    with pytest.raises(ValueError, match="the model gives the end of a document at position 0"):
        model.surprisal("", end=True)
    with pytest.raises(ValueError, match="^the model's parameters are out of range"):
        model.sample(5)


def test_a_relu_that_overflows_after_a_while(backend: str):
    """The state grows tenfold at each step."""
    network = Network(4, 2, activation="relu", backend=backend, initialization="zeros")
    network.parameters["weight_hh_l0"][...] = 10 * np.eye(2)
    network.parameters["weight_ih_l0"][...] = 1
    network.parameters["head.weight"][...] = np.arange(8).reshape(4, 2)
    model = Model(
        network, Vocabulary("character", np.array([97, 98, 99, 100], np.uint32)), np.ones(4, np.int64)
    )
    assert np.isfinite(model.surprisal("d" * 30)).all()
    with pytest.raises(ValueError, match=r"'d' at position 3\d (nan|inf) bits"):
        model.surprisal("d" * 100)
    assert model.sample(30, "d", rng=0) == "d" * 30
    for n in (100, 3000):
        with pytest.raises(ValueError, match="^the model's parameters are out of range"):
            model.sample(n, "d", rng=0)


def test_sums_that_overflow(backend: str):
    """Each symbol has a finite number of bits, and their sum overflows."""
    model = of_weights(backend, "float64")
    model.network.flat[:] = 0
    model.network.parameters["head.bias"][:] = [1e308, 0, 0, 0]
    assert np.isfinite(model.surprisal("ab")).all()
    for call in (model.log_prob, model.bits_per_symbol):
        with pytest.raises(ValueError, match="parameters are out of range"):
            call("ab" * 50)


def test_names_of_tokens_in_errors():
    network = Network(3, 2, initialization="zeros", backend="numpy")
    network.flat[:] = 3e38
    model = Model(network, TokenVocabulary.of_names(("x", "y", "z")), np.ones(3, np.int64))
    with pytest.raises(ValueError, match="the model gives the token 2 at position 1"):
        model.surprisal([0, 2])


def test_a_scorer_is_what_a_model_s_methods_use(models: dict[str, Model]):
    model = models["documents"]
    scorer = Scorer(model.network, model.vocabulary, model.counts, end=True)
    scores, lengths = scorer.of_texts(["ab", "", "abc"], "{}".format)
    assert lengths.tolist() == [3, 1, 4]
    np.testing.assert_array_equal(scores, np.concatenate(model.score_many(["ab", "", "abc"], end=True)))


def test_bits_per_byte_divides_by_the_bytes_that_are_scored():
    model = fastrnn.train("hé\u20acllo wörld " * 9, hidden_size=8, steps=30, rng=0, progress=False)
    text = "wé\r\nllo"
    with pytest.raises(ValueError, match="has '\\\\n' at position 2"):
        model.bits_per_byte(text)
    for unknown, n_bytes in (("skip", 6), (0.01, 7)):  # CR LF is read as one symbol
        bits = model.surprisal(text, unknown=unknown).sum()
        assert model.bits_per_byte(text, unknown=unknown) == pytest.approx(bits / n_bytes, rel=1e-12)
    for empty in ("", "\n"):
        with pytest.raises(ValueError, match="has no mean"):
            model.bits_per_byte(empty, unknown="skip")
    documents = fastrnn.train(["hé", "llo"], hidden_size=8, steps=30, rng=0, progress=False)
    bits = documents.surprisal("hé", end=True).sum()
    assert documents.bits_per_byte("hé", end=True) == pytest.approx(bits / 4, rel=1e-12)
    of_bytes = fastrnn.train(b"hello" * 9, hidden_size=8, steps=5, rng=0, progress=False)
    assert of_bytes.bits_per_byte(b"\xffhe") == of_bytes.bits_per_symbol(b"\xffhe")
    tokens = fastrnn.train([0, 1, 2] * 9, vocabulary=3, hidden_size=8, steps=5, rng=0, progress=False)
    with pytest.raises(ValueError, match="a token has no bytes"):
        tokens.bits_per_byte([0, 1])


def test_sums_are_rounded_once(models: dict[str, Model]):
    """Their order, which may depend on the processor, does not matter."""
    model = models["text"]
    text = "abd fad ebb " * 9
    bits = model.surprisal(text)
    assert model.bits_per_symbol(text) == float(sum(map(Fraction, bits.tolist()))) / len(bits)
    assert sums.total(np.array([1e308, 1e308])) == math.inf
    assert sums.total(np.array([1e16, 1.0, 1.0])) == 1e16 + 2


@pytest.mark.parametrize(
    "text",
    [
        *(np.array([97, 98], dtype) for dtype in (np.int64, np.uint8, np.float32)),
        *(np.array([None, "a"], object), np.zeros((2, 0), np.uint8), np.array(97, np.uint8)),
        *(array.array("I", [97, 98]), array.array("B", [97, 98]), memoryview(array.array("I", [97, 98]))),
        *(memoryview(np.zeros((2, 2), np.uint8)), 5, None, "ab", [97, 98]),
    ],
)
def test_only_bytes_are_a_text_of_bytes(text: Any):
    """Other buffers, whose elements may be larger or addresses, would be read as the bytes in memory."""
    model = fastrnn.train(b"abcab" * 40, steps=2, hidden_size=4, backend="numpy", rng=0)
    streams = fastrnn.Streams(model)
    streams.add(1)
    calls: list[Callable[[], Any]] = [
        lambda: model.surprisal(text),
        lambda: model.score_many([b"abc", text]),
        lambda: list(model.score_many(iter([b"abc", text]))),
        lambda: model.rank(b"a", [text]),
        lambda: model.next_probabilities([text]),
        lambda: model.sample(1, text, rng=0) if text is not None else model.log_prob(text),
        lambda: model.stream().feed(text),
        lambda: streams.feed({1: text}),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert streams.stream(1).n_symbols == 0


def test_a_part_of_a_memoryview_is_its_bytes():
    model = fastrnn.train(b"abcab" * 40, steps=2, hidden_size=4, backend="numpy", rng=0)
    part, expected = memoryview(b"abcab")[::2], model.surprisal(b"acb")
    streams = fastrnn.Streams(model)
    streams.add(1)
    for found in (
        model.surprisal(part),
        model.score_many([b"a", part])[1],
        model.score_many([part])[0],
        model.stream().feed(part),
        streams.feed({1: part})[1],
    ):
        np.testing.assert_array_equal(found, expected)


def test_the_end_is_asked_for_by_true_or_false(models: dict[str, Model]):
    for call in (models["documents"].surprisal, models["documents"].log_prob):
        with pytest.raises(TypeError, match="end='no' must be True or False"):
            call("abc", end="no")


def test_a_call_that_was_interrupted_leaves_no_mark_for_others(models: dict[str, Model], compiled: str):
    """An interrupted call of several threads leaves its workspace with the mark that ends the workers."""
    model = Model.from_bytes(models["documents"].to_bytes(), backend=compiled)
    calls: list[Callable[[], Any]] = [
        lambda: model.top(2),
        lambda: next(model.above(1e-3)),
        lambda: model.guess_number("abc def abd", samples=20, rng=0),
        lambda: model.decoder_lm().initial_state("ab"),
        lambda: model.hidden(["abc"], pool="each"),
        lambda: model.next_distribution("ab"),
        lambda: model.rank("ab", ["c", "d"]),
        lambda: model.beam_search(3),
        lambda: model.sample(9, rng=0),
        lambda: model.sample_many(3, 9, rng=0),
        lambda: model.stream().feed("abc"),
        lambda: model.stream().next_probabilities(),
        lambda: model.surprisal("abc"),
        lambda: model.score_many(["abc", "d"]),
    ]
    for call in calls:
        with model.network.workspace(0) as workspace:
            workspace.team.barrier[ABORT] = 1
        call()
