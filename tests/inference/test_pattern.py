"""Samples under constraints: every sample is allowed, and none is stuck."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from helpers import draw_parameters
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import Model, Network
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference.automaton import Dfa, utf_8
from fastrnn.inference.options import automaton_of
from fastrnn.inference.pattern import compiled as automaton_of_pattern

ALPHABET = "Ab\n"

#: Every text of at most four symbols.
TEXTS = ["".join(text) for n in range(5) for text in itertools.product(ALPHABET, repeat=n)]


def accepts(dfa: Dfa, ids: Any) -> bool:
    state = dfa.after(ids)
    return state >= 0 and bool(dfa.accepting[state])


def matched(pattern: Any, alphabet: Any = ALPHABET) -> set[Any]:
    """The texts of at most four symbols that the automaton accepts."""
    dfa = automaton_of_pattern(pattern, list(alphabet), len(alphabet))
    return {text for text in TEXTS if accepts(dfa, map(alphabet.index, text))}


@pytest.fixture(scope="module")
def wild() -> Network:
    """A network whose next symbols are neither certain nor equal."""
    return draw_parameters(Network(256, 6, backend="numpy"), most=1.0)


def model_of(alphabet: str, backend: str, *, boundary: bool = False) -> Model:
    vocabulary = Vocabulary.of_alphabet(alphabet, boundary=boundary)
    network = draw_parameters(Network(vocabulary.size, 6, backend=backend), most=1.0)
    return Model(network, vocabulary, np.ones(vocabulary.size, int))


# ---- The language --------------------------------------------------------------------------------------

pieces = st.sampled_from(["A", "b", ".", "[Ab]", "[^A]", r"\w", r"\s", "a", "(?i:a)", "(?s:.)", "", "c"])
patterns = st.recursive(
    pieces,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: f"(?:{'|'.join(some)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "??", "{0,2}?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)


@given(pattern=patterns)
@settings(max_examples=150, deadline=None)
def test_an_automaton_accepts_what_re_matches(pattern: str):
    assert matched(pattern) == {text for text in TEXTS if re.fullmatch(pattern, text)}


@pytest.mark.parametrize(
    "pattern",
    [
        "", "^A*$", r"\AA\Z", "(?i)aB", "(?x) A  b # c", "(A)(b)", "(?P<name>A)+", "A|", "|",
        "[A-Z]b?", r"\D+",
        "(A*)*", "((A|b)*)+", re.compile("a|B", re.IGNORECASE),
        re.compile("."), re.compile("A.b", re.DOTALL), "(?i:a(?-i:b))",
    ],
)  # fmt: skip
def test_patterns_of_every_kind(pattern: Any):
    assert matched(pattern) == {text for text in TEXTS if re.fullmatch(pattern, text)}


@pytest.mark.parametrize("pattern", ["(?:){99999999}", "(?:){0,99999999}", "(?:(?:){2,}){99999999}"])
def test_endless_repetitions_of_nothing_end(pattern: str):
    assert matched(pattern) == {""}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        *((r"(A)\1", "backreference"), ("A(?=b)", "lookahead"), ("(?<!A)b", "negative look")),
        *((r"A\b", "anchor"), ("A^b", "anchor"), ("(?:A$)b", "anchor"), ("(?>A)b", "atomic")),
        *(("A*+", "possessive"), ("(A)?(?(1)b|A)", "condition"), ("(", "no regular expression")),
        *(("(A|b)*A(A|b){20}", "more than 10,000 states"), ("((A{99}){99}){99}", "more than 10,000 states")),
        *(("(" * 9999 + ")" * 9999, "no regular expression"), ("A{99999999999}", "no regular expression")),
    ],
)
def test_what_is_not_supported_is_refused_by_name(pattern: str, message: str):
    with pytest.raises(ValueError, match=f"(?s)pattern=.*{message}"):
        automaton_of_pattern(pattern, list(ALPHABET), len(ALPHABET))


def test_a_pattern_of_bytes():
    alphabet = [bytes([byte]) for byte in range(256)]
    dfa = automaton_of_pattern(rb"[\x80-\xff]+\x00?", alphabet, 256)
    for text in (b"\x80", b"\xff\x00", b"\x00", b"a", b"\x80\x00\x00"):
        assert accepts(dfa, text) == bool(re.fullmatch(rb"[\x80-\xff]+\x00?", text))


@given(pattern=patterns, n=st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_a_symbol_is_allowed_if_a_match_can_be_completed(pattern: str, n: int):
    vocabulary = Vocabulary.of_alphabet(ALPHABET)
    matching = [text for text in TEXTS if len(text) <= n and re.fullmatch(pattern, text)]
    symbols = "".join(map(chr, vocabulary.symbols))
    if not matching:
        with pytest.raises(ValueError, match=r"matches no text|n=\d must be at least"):
            automaton_of(vocabulary, None, n, pattern=pattern)
        return
    automaton = automaton_of(vocabulary, None, n, pattern=pattern)
    assert automaton is not None
    for prefix in {text[:k] for text in matching for k in range(len(text) + 1)}:
        state = 0
        for symbol in prefix:
            state = automaton.transitions[state, symbols.index(symbol)]
        after = automaton.transitions[state]
        allowed = (after >= 0) & (automaton.distances[after] <= n - len(prefix) - 1)
        expected = {text[len(prefix)] for text in matching if text.startswith(prefix) and text != prefix}
        assert {symbols[v] for v in np.flatnonzero(allowed)} == expected


@given(first=patterns, second=patterns)
@settings(max_examples=40, deadline=None)
def test_an_intersection_accepts_what_both_accept(first: str, second: str):
    one, other = (automaton_of_pattern(p, list(ALPHABET), 3) for p in (first, second))
    both = one.intersection(other)
    for text in TEXTS:
        ids = list(map(ALPHABET.index, text))
        assert accepts(both, ids) == (accepts(one, ids) and accepts(other, ids))


# ---- Samples -------------------------------------------------------------------------------------------

PATTERNS = [
    r"[a-z]{2,6}@(?:[a-z]+\.)+(?:com|org)", r"\d{1,3}(?:,\d{3})*", "(?:ab|cd)*e?", "[^a]*",
    "(?i:hello) ?world!*",
]  # fmt: skip


@pytest.mark.parametrize("boundary", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_sample_matches_its_pattern(pattern: str, boundary: bool):
    texts = []
    for backend in ("c", "numba"):
        model = model_of("ascii", backend, boundary=boundary)
        some = model.sample_many(60, 14, rng=1, pattern=pattern)
        some += [model.sample(14, "x", rng=seed, pattern=pattern, temperature=0.7) for seed in range(5)]
        assert all(re.fullmatch(pattern, text) and len(text) <= 14 for text in some)
        texts.append(some)
    assert texts[0] == texts[1]


@given(pattern=patterns, n=st.integers(0, 6), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_samples_of_any_pattern_match_it(pattern: str, n: int, seed: int):
    for boundary in (False, True):
        model = model_of(ALPHABET, "c", boundary=boundary)
        try:
            texts = model.sample_many(5, n, rng=seed, pattern=pattern)
        except ValueError:
            assume(n <= 4)
            assert not any(re.fullmatch(pattern, text) for text in TEXTS if len(text) <= n)
            return
        assert all(re.fullmatch(pattern, text) for text in texts)


def test_a_document_may_end_only_where_the_pattern_does():
    model = model_of("ab", "c", boundary=True)
    texts = model.sample_many(200, 9, rng=0, pattern="(?:aab)*")
    assert {len(text) for text in texts} == {0, 3, 6, 9}
    running = model_of("ab", "c").sample_many(50, 10, rng=0, pattern="(?:aab)*")
    assert set(running) == {"aabaabaab"}  # a running text goes on as long as a match allows


def test_only_allowed_symbols_are_drawn(compiled: str):
    model = model_of("abcdef", compiled)
    assert set("".join(model.sample_many(50, 20, rng=0, allowed="fab"))) == set("abf")
    assert model.sample(5, "abc", rng=0, allowed="bd", pattern="a*b{5}c*") == "bbbbb"
    with pytest.raises(ValueError, match="pattern='a' matches no text"):
        model.sample(5, allowed="bd", pattern="a")


def test_only_allowed_tokens_are_drawn(compiled: str):
    model = fastrnn.train([0, 1, 2, 3] * 20, vocabulary=4, hidden_size=6, steps=2, backend=compiled, rng=0)
    assert set(model.sample(50, rng=0, allowed=[1, 3]).tolist()) == {1, 3}  # type: ignore[union-attr]
    assert len(model.sample(50, [0], rng=0, stop=[[3, 2], [2]], no_repeat_ngram=3)) <= 50
    with pytest.raises(ValueError, match="pattern is for a model of characters or bytes"):
        model.sample(5, pattern="a")


# ---- UTF-8 ---------------------------------------------------------------------------------------------

UTF_8 = utf_8()


def is_valid(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(
    st.one_of(
        st.binary(max_size=9), st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )
)
@settings(max_examples=150, deadline=None)
def test_the_automaton_of_utf_8_accepts_what_decodes(data: bytes):
    assert accepts(UTF_8, data) == is_valid(data)


def test_the_automaton_of_utf_8_at_every_border():
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xEC, 0xED, 0xEE)
    edges += (0xEF, 0xF0, 0xF3, 0xF4, 0xF5, 0xFF)
    for data in itertools.chain(*(itertools.product(edges, repeat=n) for n in (1, 2, 3))):
        assert accepts(UTF_8, data) == is_valid(bytes(data))
    for first in (0xF0, 0xF1, 0xF3, 0xF4):
        for second in edges:
            data = bytes([first, second, 0x80, 0xBF])
            assert accepts(UTF_8, data) == is_valid(data)


@pytest.mark.parametrize(
    "prime", [None, b"", "é".encode(), b"\xc3", b"a\xe2\x82", b"\xf0\x9f\x98", b"\xff", b"\x80"]
)
def test_samples_of_bytes_are_valid_utf_8(wild: Network, compiled: str, prime: bytes | None):
    vocabulary = Vocabulary("byte", np.arange(256, dtype=np.uint32))
    network = Network(256, 6, backend=compiled)
    network.flat[...] = wild.flat
    model = Model(network, vocabulary, np.ones(256, int))
    begun = prime if prime in (b"\xc3", b"a\xe2\x82", b"\xf0\x9f\x98") else b""
    for n in (4, 7, 30):
        for text in model.sample_many(20, n, prime, rng=n, valid_utf8=True, top_k=200):
            assert is_valid((begun or b"") + text)  # type: ignore[operator]
    both = model.sample(12, rng=0, valid_utf8=True, pattern=rb"[\x80-\xff]+")
    assert is_valid(both) and min(both) >= 0x80  # type: ignore[arg-type]
    assert is_valid(model.sample(40, rng=1, valid_utf8=True, stop="é".encode()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stop=.* is no valid UTF-8"):
        model.sample(5, valid_utf8=True, stop=b"\xc3")
