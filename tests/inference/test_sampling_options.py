"""The options of sampling: each draws from the distribution that it states, on every backend."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import draw_parameters
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import Model, Network
from fastrnn.backends.registry import get_backend
from fastrnn.inference.distribution import next_probabilities
from fastrnn.inference.sampling import draw_first
from fastrnn.inference.stops import StopSearch
from fastrnn.network.drawing import Automaton, Rows, Rules

TEXT = "abc def abd\n" * 20
SETTINGS: dict[str, Any] = {"hidden_size": 12, "steps": 60, "backend": "numpy", "rng": 0}

MODELS: dict[str, Any] = {
    "characters": (TEXT, {}),
    "documents": (["abcde", "abde", "edcba", ""] * 9, {"cell": "lstm"}),
    "bytes": ("aé€😀b".encode() * 9, {"cell": "gru", "dtype": "float64"}),
    "tokens": (np.arange(40) % 7, {"vocabulary": 7, "cell": "rnn"}),
    "unknown": ("abcdeabcdeabcdeabcxdyz", {"min_count": 2}),
}

OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "temperature": {"temperature": 0.6},
    "greedy": {"temperature": 0},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.7},
    "min_p": {"min_p": 0.3},
    "penalty": {"repetition_penalty": 1.8, "repetition_window": 5},
    "ngram": {"no_repeat_ngram": 3},
    "all": {"temperature": 1.3, "top_k": 6, "top_p": 0.9, "min_p": 0.05, "no_repeat_ngram": 4},
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    text, own = MODELS[request.param]
    return fastrnn.train(text, **{**SETTINGS, **own})


@pytest.fixture(scope="module")
def plain() -> Model:
    """A model of one running text of characters."""
    return fastrnn.train(TEXT, **SETTINGS)


def on(backend: str, model: Model) -> Model:
    return Model.from_bytes(model.to_bytes(), backend=backend)


def listed(text: Any) -> list[Any]:
    return list(text)


# ---- The distribution ----------------------------------------------------------------------------------

#: The symbols of the vocabulary of `drawn`, and symbols that its rows have already.
V, BEFORE = 11, np.array([4, 1, 4, 2, 9, 4, 1], np.int32)

RULES: dict[str, Rules] = {
    "plain": Rules(),
    "temperature": Rules(temperature=0.5),
    "top_k": Rules(top_k=4),
    "top_p": Rules(top_p=0.6),
    "min_p": Rules(min_p=0.4),
    "all three": Rules(temperature=1.7, top_k=8, top_p=0.8, min_p=0.2),
    "penalty": Rules(penalty=2.5, window=4),
    "ngram": Rules(ngram=2),
    "automaton": Rules(
        automaton=Automaton(
            np.array([[1, -1, 1, 2, -1, 1, 2, -1, 1, 0, 1], [-1] * V, [1] * V], np.int32),
            np.array([1, 0, 1], np.int32),
        )
    ),
}


def expected_weights(logits: np.ndarray, rules: Rules) -> np.ndarray:
    """The probabilities of the symbols by a slow definition, in float64."""
    logits = logits.astype(np.float64)
    for symbol in set(BEFORE[len(BEFORE) - rules.window :].tolist()) if rules.window else ():
        logits[symbol] *= 1 / rules.penalty if logits[symbol] > 0 else rules.penalty
    p = np.exp((logits - logits.max()) / rules.temperature)
    if rules.ngram:  # two: the symbols that followed the last one
        p[[b for a, b in itertools.pairwise(BEFORE) if a == BEFORE[-1]]] = 0
    if rules.automaton is not None:  # one symbol: it must lead to the accepting state
        p[rules.automaton.transitions[0] != 1] = 0
    order = sorted(range(V), key=lambda v: (-p[v], v))[: rules.top_k]
    total, kept = sum(p[v] for v in order), []
    for v in order:
        kept.append(v)
        if sum(p[w] for w in kept) >= rules.top_p * total:
            break
    q = np.zeros(V)
    for v in kept:
        q[v] = p[v] if p[v] >= rules.min_p * p.max() else 0
    return q / q.sum()


def drawn(backend: str, rules: Rules, count: int, B: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """``count`` symbols that follow the symbol 3, and the logits of what follows it."""
    network = draw_parameters(Network(V, 5, backend=backend), most=1.5)
    rng, found, prepared = np.random.default_rng(7), [], network.prepare_steps()
    for _ in range(count // B):
        rows = Rows(
            np.full(B, 3, np.int32), np.zeros(B, np.int32), network.checked_state(None, B),
            np.repeat(BEFORE[:, np.newaxis], B, axis=1),
        )  # fmt: skip
        found.append(network.draw(rows, rng.random((1, B)), rules, room=1, prepared=prepared)[0])
    logits, _ = network.forward([[3]])
    return np.concatenate(found), logits[0, 0]


def require_agreement(counts: np.ndarray, probabilities: np.ndarray) -> None:
    """Pearson's chi-square test: the statistic is less than five standard deviations above its mean."""
    assert not counts[probabilities == 0].any()
    expected = counts.sum() * probabilities[probabilities > 0]
    statistic = ((counts[probabilities > 0] - expected) ** 2 / expected).sum()
    degrees = len(expected) - 1
    assert statistic <= degrees + 5 * np.sqrt(2 * degrees), (statistic, degrees)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_hundred_thousand_draws_have_the_stated_frequencies(compiled: str, rules: Rules):
    symbols, logits = drawn(compiled, rules, 100_000)
    probabilities = expected_weights(logits, rules)
    require_agreement(np.bincount(symbols, minlength=V), probabilities)
    reference, _ = drawn("numpy", rules, 100, B=100)
    assert np.mean(symbols[:100] == reference) >= 0.99  # a float32 logit may differ in its last bit


def test_plain_draws_have_the_probabilities_of_what_may_come_next(compiled: str):
    network = draw_parameters(Network(V, 5, backend=compiled), most=1.5)
    stated = next_probabilities(network, np.array([3], np.int32), network.checked_state(None, 1))[0]
    require_agreement(np.bincount(drawn(compiled, Rules(), 100_000)[0], minlength=V), stated)


@pytest.mark.parametrize("name", [name for name in RULES if name not in {"penalty", "ngram"}])
def test_first_symbols_have_the_stated_frequencies(backend: str, name: str):
    rules, logits = RULES[name], np.random.default_rng(0).normal(size=V)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    allowed = np.ones(V, bool) if rules.automaton is None else rules.automaton.transitions[0] == 1
    uniforms = np.random.default_rng(1).random(100_000)
    found = draw_first(get_backend(backend), probabilities, uniforms, rules, allowed)
    require_agreement(np.bincount(found, minlength=V), expected_weights(logits, rules))


def test_of_equal_symbols_the_first_are_kept(compiled: str):
    network = Network(V, 5, backend=compiled, initialization="zeros")
    for rules in (Rules(top_k=3), Rules(top_p=2.5 / V)):
        rows = Rows(
            np.zeros(500, np.int32), np.zeros(500, np.int32), network.checked_state(None, 500),
            np.empty((0, 500), np.int32),
        )  # fmt: skip
        uniforms = np.random.default_rng(0).random((1, 500))
        ids = network.draw(rows, uniforms, rules, room=1, prepared=network.prepare_steps())
        assert set(ids[0].tolist()) == {0, 1, 2}


# ---- The same text everywhere --------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_samples_are_the_same_with_numba_and_c(
    model: Model, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fastrnn.network.execution.MIN_WORK", 1)  # threads even for the smallest work
    found = []
    for backend, threads, shares_columns in (("c", 1, False), ("numba", 2, False), ("c", 2, True)):
        if shares_columns:
            monkeypatch.setattr("fastrnn.network.execution.MIN_STEP_WORK", 1)
            monkeypatch.setattr("fastrnn.network.execution.MIN_COLUMNS", 1)
            monkeypatch.setattr("fastrnn.network.execution.MIN_ROWS", 99)
        own = on(backend, model)
        own.network.threads = threads
        many = own.sample_many(9, 15, rng=3, **options)
        alone = [own.sample(15, rng=rng, **options) for rng in np.random.default_rng(3).spawn(9)]
        assert list(map(listed, many)) == list(map(listed, alone))
        assert list(map(listed, own.sample_many(2, 15, rng=3, **options))) == list(map(listed, many[:2]))
        pieces = own.sample_stream(15, rng=np.random.default_rng(3).spawn(1)[0], **options)
        assert [symbol for piece in pieces for symbol in listed(piece)] == listed(many[0])
        found.append(list(map(listed, many)))
    assert found[0] == found[1] == found[2]


def test_options_that_change_nothing_change_nothing(model: Model, compiled: str):
    own = on(compiled, model)
    expected = listed(own.sample(40, rng=5))
    nothing: dict[str, Any] = {
        "top_k": 10**9,
        "top_p": 1,
        "min_p": 0,
        "repetition_penalty": 1,
        "no_repeat_ngram": 50,
        "stop": [],
    }
    assert listed(own.sample(40, rng=5, **nothing)) == expected
    assert listed(own.sample(40, rng=5, top_k=own.vocabulary.size)) == expected


def test_the_prime_counts_for_repetitions(plain: Model, compiled: str):
    model = on(compiled, plain)
    for prime in ("abc", "abcabcabd"):
        text = prime + model.sample(30, prime, rng=1, no_repeat_ngram=3)
        ngrams = [text[i : i + 3] for i in range(len(prime) - 2, len(text) - 2)]
        assert len(set(ngrams)) == len(ngrams)
        assert not set(ngrams) & {prime[i : i + 3] for i in range(len(prime) - 2)}


def test_what_must_repeat_repeats(plain: Model, compiled: str):
    model = on(compiled, plain)
    assert model.sample(9, no_repeat_ngram=1, allowed="a", rng=0) == "a" * 9


# ---- Stops ---------------------------------------------------------------------------------------------


@given(
    text=st.lists(st.integers(0, 2), max_size=12),
    stops=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 12), max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_a_text_ends_before_its_first_stop(text: list[int], stops: list[list[int]], cuts: list[int]):
    ends = [
        (start + len(stop), start)
        for stop in stops
        for start in range(len(text))
        if text[start : start + len(stop)] == stop
    ]
    expected = text[: min(ends)[1]] if ends else text
    search, found, stopped = StopSearch([np.array(stop, np.int32) for stop in stops]), [], False
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, stop in itertools.pairwise(places):
        known, stopped = search.feed(np.array(text[start:stop], np.int32))
        found += known.tolist()
        assert found == expected[: len(found)]  # what is out is never taken back
        if stopped:
            break
    if not stopped:
        found += search.rest().tolist()
    assert (found, stopped) == (expected, bool(ends))


def test_stops_of_every_kind_of_text(model: Model, compiled: str):
    own = on(compiled, model)
    whole = [own.sample(60, rng=seed) for seed in range(4)]
    for seed, text in enumerate(whole):
        if len(text) < 5:
            continue
        stop = text[3:5]
        end = next(i for i in range(len(text)) if listed(text[i : i + 2]) == listed(stop))
        for stops in (stop, [stop], [text[-1:] if end == len(text) - 2 else stop, stop]):
            assert listed(own.sample(60, rng=seed, stop=stops))[:end] == listed(text[:end])
        assert listed(own.sample(60, rng=seed, stop=stop)) == listed(text[:end])


# ---- Odd arguments -------------------------------------------------------------------------------------

WRONG: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 0},
    "top_k=": {"top_k": 2.0},
    "top_p": {"top_p": 0},
    "top_p=": {"top_p": 1.01},
    "min_p": {"min_p": float("nan")},
    "min_p=": {"min_p": -0.1},
    "temperature": {"temperature": float("nan")},
    "temperature=": {"temperature": float("inf")},
    "repetition_penalty": {"repetition_penalty": 0.9},
    "repetition_penalty=": {"repetition_penalty": float("nan")},
    "repetition_window": {"repetition_window": 0},
    "no_repeat_ngram": {"no_repeat_ngram": 0},
    "no_repeat_ngram=": {"no_repeat_ngram": True},
    "stop": {"stop": ["ab", ""]},
    "stop:": {"stop": "X"},
    "stop=": {"stop": 5},
    "allowed": {"allowed": ""},
    "allowed:": {"allowed": "\0"},
    "allowed: ": {"allowed": "\ud800"},
    "allowed:  ": {"allowed": b"a"},
    "valid_utf8": {"valid_utf8": True},
    "valid_utf8=": {"valid_utf8": 1},
    "pattern": {"pattern": "X+"},
    "pattern=": {"pattern": b"a"},
    "pattern= ": {"pattern": "("},
    "n": {"pattern": "aaaaaaaaaaaa"},
    "stop and pattern": {"pattern": "a*", "stop": "a"},
}


@pytest.mark.parametrize(("name", "options"), WRONG.items(), ids=WRONG)
def test_wrong_options_are_refused_by_name(plain: Model, name: str, options: dict[str, Any]):
    rng = np.random.default_rng(0)
    before = plain.to_bytes(), rng.bit_generator.state
    for draw in (
        lambda: plain.sample(10, rng=rng, **options),
        lambda: plain.sample_many(3, 10, rng=rng, **options),
        lambda: plain.sample_stream(10, rng=rng, **options),
    ):
        with pytest.raises((ValueError, TypeError), match=name.strip(" =:")):
            draw()
    assert (plain.to_bytes(), rng.bit_generator.state) == before


def test_unknown_options_are_refused(plain: Model):
    for draw in (partial(plain.sample_many, 3), plain.sample_stream):
        with pytest.raises(TypeError, match="top_q=1 is no option here; the options are allowed, "):
            draw(3, top_q=1)


def test_samples_of_nothing(model: Model, compiled: str):
    own = on(compiled, model)
    assert own.sample_many(0, 5, rng=0) == []
    assert [len(text) for text in own.sample_many(3, 0, rng=0)] == [0, 0, 0]
    assert list(own.sample_stream(0)) == []
    assert len(own.sample(0, stop=own.sample(1, rng=0) if own.vocabulary.boundary is False else None)) == 0


def test_texts_that_cannot_fit_are_refused_before_they_are_drawn(plain: Model):
    with pytest.raises(MemoryError, match=r"\d+ texts needs?"):
        plain.sample_many(10**15, 1)


def test_an_endless_stream_is_there_at_once(plain: Model, compiled: str):
    model = on(compiled, plain)
    stream = model.sample_stream(None, "abc", rng=0)
    assert "".join(next(stream) for _ in range(600)) == model.sample(600, "abc", rng=0)


def test_a_model_out_of_range_is_an_error(plain: Model, compiled: str):
    model = on(compiled, plain)
    model.network.parameters["head.weight"][...] = np.finfo("float32").max
    for draw in (lambda: model.sample(5, "abc", top_k=2), lambda: model.sample_many(5, 3, "abc")):
        with pytest.raises(ValueError, match="parameters are out of range"):
            draw()


# ---- Many texts ----------------------------------------------------------------------------------------


def test_distinct_texts_are_the_first_different_ones(model: Model, compiled: str):
    own = on(compiled, model)
    every = [tuple(listed(text)) for text in own.sample_many(400, 2, rng=4)]
    expected = list(dict.fromkeys(every))[:8]
    assert [tuple(listed(text)) for text in own.sample_many(8, 2, rng=4, unique=True)] == expected


def test_too_few_distinct_texts_are_an_error(plain: Model, compiled: str):
    model = on(compiled, plain)
    with pytest.raises(ValueError, match="unique=True, count=3: .* only 1 different"):
        model.sample_many(3, 5, rng=0, unique=True, temperature=0)


def test_many_texts_need_a_source_that_spawns(plain: Model):
    for rng in (np.random.RandomState(0), np.random.Generator(np.random.MT19937(np.random.SeedSequence(0)))):
        if isinstance(rng, np.random.RandomState):
            with pytest.raises(TypeError, match="rng=.* spawn"):
                plain.sample_many(2, 5, rng=rng)
        else:
            assert len(plain.sample_many(2, 5, rng=rng)) == 2


def test_two_threads_may_share_a_model(plain: Model, compiled: str):
    from concurrent.futures import ThreadPoolExecutor

    model = on(compiled, plain)
    expected = [model.sample_many(20, 50, rng=seed, top_p=0.9) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda seed: model.sample_many(20, 50, rng=seed, top_p=0.9), range(4))
        assert list(found) == expected


def test_texts_come_while_others_are_drawn(plain: Model):
    many = plain.sample_each(10**6, 5, rng=3)
    assert [next(many) for _ in range(3)] == plain.sample_many(3, 5, rng=3)
    different = plain.sample_each(10**6, 9, unique=True, rng=3)
    assert len({next(different) for _ in range(20)}) == 20
