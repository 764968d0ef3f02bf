"""Scoring and sampling."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import CELLS, assert_close

import fastrnn
from fastrnn.backends.registry import get_backend
from fastrnn.core.constants import BARRIER
from fastrnn.core.layout import Shape
from fastrnn.core.plan import step_plan
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference.sampling import draw_first, weights_at
from fastrnn.network.drawing import Rules

TEXT = "abc def abd\n" * 20


@pytest.fixture(scope="module")
def model() -> fastrnn.Model:
    return fastrnn.train(
        TEXT, hidden_size=12, steps=60, dtype="float64", backend="numpy", validation=0.0, rng=0
    )


@pytest.fixture(scope="module")
def documents() -> fastrnn.Model:
    return fastrnn.train(TEXT.splitlines(), hidden_size=12, steps=60, dtype="float64", backend="numpy", rng=0)


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits.astype(np.float64) - logits.max())
    return p / p.sum()


def on(backend: str, model: fastrnn.Model) -> fastrnn.Model:
    return fastrnn.Model.from_bytes(model.to_bytes(), backend=backend)


def test_surprisal_is_that_of_the_softmax_step_by_step(backend: str, model: fastrnn.Model):
    text = "bad cab\n"
    ids = model.vocabulary.encode(text)
    p = [(model.counts[ids[0]] + 1) / (len(TEXT) + model.vocabulary.size)]
    state = None
    for before, after in itertools.pairwise(ids):
        logits, state = model.network.forward([[before]], state)
        p.append(softmax(logits[0, 0])[after])
    assert_close(on(backend, model).surprisal(text), -np.log2(p), 1e-10)


def test_surprisal_of_a_document_begins_and_ends_at_the_boundary(backend: str, documents: fastrnn.Model):
    ids = [documents.vocabulary.boundary_id, *documents.vocabulary.encode("cab")]
    logits, _ = documents.network.forward(np.array(ids)[:, None])
    p = [softmax(logits[t, 0])[symbol] for t, symbol in enumerate([*ids[1:], ids[0]])]
    assert_close(on(backend, documents).surprisal("cab", end=True), -np.log2(p), 1e-10)
    assert_close(on(backend, documents).surprisal("cab"), -np.log2(p[:-1]), 1e-10)


def test_a_long_text_is_scored_as_one(backend: str, model: fastrnn.Model, monkeypatch: pytest.MonkeyPatch):
    whole = on(backend, model).surprisal(TEXT)
    monkeypatch.setattr("fastrnn.inference.reading.WINDOW", 7)
    assert_close(on(backend, model).surprisal(TEXT), whole, 1e-12)


@pytest.mark.parametrize("rows", [1, 2, 5, 128])
def test_many_texts_are_scored_like_each(
    backend: str, model: fastrnn.Model, documents: fastrnn.Model, rows: int, monkeypatch: pytest.MonkeyPatch
):
    rng = np.random.default_rng(rows)
    alphabet = list("abcdef ")
    texts = ["".join(rng.choice(alphabet, n)) for n in [0, 1, 0, *rng.integers(0, 40, 60), 300, 0]]
    monkeypatch.setattr("fastrnn.inference.scoring.PARALLEL_ROWS", rows)
    monkeypatch.setattr("fastrnn.inference.scoring.SYMBOLS_AT_ONCE", 500)
    for trained, end in ((model, False), (documents, False), (documents, True)):
        ours = on(backend, trained)
        for text, bits in zip(texts, ours.score_many(iter(texts), end=end), strict=True):
            assert_close(bits, ours.surprisal(text, end=end), 0 if backend != "numpy" else 1e-12)
    assert model.score_many([]) == []


def test_many_texts_must_be_texts(model: fastrnn.Model):
    with pytest.raises(ValueError, match="text 1 of 3: the text has 'x' at position 2"):
        model.score_many(["abc", "abx", "abc"])
    with pytest.raises(TypeError, match="text 1 of 2: the text is bytes"):
        model.score_many(["abc", b"abc"])
    with pytest.raises(TypeError, match="texts is one str"):
        model.score_many("abc")


def test_scores_agree_with_each_other(model: fastrnn.Model):
    bits = model.surprisal(TEXT)
    assert bits.dtype == np.float64
    assert model.bits_per_symbol(TEXT) == pytest.approx(bits.mean())
    assert model.log_prob(TEXT) == pytest.approx(-bits.sum() * np.log(2))
    assert model.perplexity(TEXT) == pytest.approx(2 ** bits.mean())


def test_probabilities_of_all_texts_of_a_length_sum_to_one(model: fastrnn.Model):
    symbols = [chr(symbol) for symbol in model.vocabulary.symbols]
    total = sum(np.exp(model.log_prob(a + b)) for a in symbols for b in symbols)
    assert total == pytest.approx(1.0, abs=1e-12)


def test_empty_texts(model: fastrnn.Model, documents: fastrnn.Model):
    assert model.surprisal("").shape == (0,)
    assert model.log_prob("") == 0
    with pytest.raises(ValueError, match="the text is empty"):
        model.bits_per_symbol("")
    assert documents.surprisal("").shape == (0,)
    assert documents.surprisal("", end=True).shape == (1,)


def test_refuses_what_it_cannot_score(model: fastrnn.Model):
    with pytest.raises(ValueError, match="'x' at position 1"):
        model.surprisal("axb")
    with pytest.raises(TypeError, match="pass str"):
        model.surprisal(b"a")
    with pytest.raises(ValueError, match="end=True is for a model of documents"):
        model.surprisal("a", end=True)


def test_samples_are_repeatable_and_alike_on_every_backend(backend: str, model: fastrnn.Model):
    expected = model.sample(50, prime="abc", temperature=0.7, rng=3)
    assert on(backend, model).sample(50, prime="abc", temperature=0.7, rng=3) == expected
    assert model.sample(50, prime="abc", temperature=0.7, rng=4) != expected


def test_a_generator_s_draws_go_on(model: fastrnn.Model):
    rng, same = np.random.default_rng(5), np.random.default_rng(5)
    first, second = model.sample(30, rng=rng), model.sample(30, rng=rng)
    assert first != second
    assert model.sample(30, rng=same) == first


def sample_once(
    backend: str, logits: np.ndarray, uniforms: np.ndarray, temperature: float, dtype: str = "float64"
) -> list[int]:
    """What `sample` draws from these logits, which are the head's bias; all other weights are zero."""
    V, n = len(logits), len(uniforms)
    params = np.concatenate([np.zeros(V + 1 + 1 + V), logits]).astype(dtype)
    symbols, kernels = np.empty(n, np.int32), get_backend(backend)
    plan, size = step_plan(Shape("rnn_tanh", 1, V, 0, 1, tied=False), 1)
    prepared, scratch = np.empty(size, dtype), np.empty(plan.size, dtype)
    kernels.network_prepare(prepared=prepared, params=params, plan=plan.numbers, part=0, parts=1)
    kernels.sample(
        symbols=symbols[:, np.newaxis],
        inputs=np.zeros(1, np.int32),
        places=np.zeros(1, np.int32),
        state=np.zeros((1, 1, 1, 1), dtype),
        scratch=scratch,
        logits=np.empty((1, V), dtype),
        order=np.empty((1, V), np.int32),
        barrier=np.zeros(BARRIER, np.int32),
        prepared=prepared,
        params=params,
        uniforms=uniforms[:, np.newaxis].copy(),
        starts=np.zeros(1, np.uint8),
        transitions=np.empty((0, V), np.int32),
        distances=np.empty(0, np.int32),
        plan=plan.numbers,
        temperature=temperature,
        top_k=V,
        top_p=1.0,
        min_p=0.0,
        penalty=1.0,
        window=0,
        ngram=0,
        stop_symbol=-1,
        room=n,
        part=0,
        parts=1,
        D=0,
        Q=0,
        n=n,
        B=1,
    )
    return symbols.tolist()


def draw_first_at(backend: str, temperature: float, p: np.ndarray, uniforms: np.ndarray) -> list[int]:
    """First symbols with these probabilities, which need not come from counts."""
    allowed = np.ones(len(p), bool)
    return draw_first(get_backend(backend), p, uniforms, Rules(temperature), allowed).tolist()


def test_draws_as_random_state_choice_does(backend: str):
    p = np.array([0.1, 0.2, 0.0, 0.7])
    theirs = np.random.RandomState(3)
    expected = [theirs.choice(4, p=p) for _ in range(200)]
    with np.errstate(divide="ignore"):
        logits = np.log(p).clip(-1e4)
    assert sample_once(backend, logits, np.random.RandomState(3).random(200), 1.0) == expected
    assert draw_first_at(backend, 1.0, p, np.random.RandomState(3).random(200)) == expected


def test_temperature_sharpens_and_flattens(backend: str):
    logits, uniforms = np.array([1.0, 2.0, 0.0]), np.linspace(0, 1, 3000, endpoint=False)

    def shares(temperature: float) -> np.ndarray:
        return np.bincount(sample_once(backend, logits, uniforms, temperature), minlength=3) / len(uniforms)

    np.testing.assert_array_equal(shares(0), [0, 1, 0])
    np.testing.assert_array_equal(shares(1e-300), [0, 1, 0])
    assert_close(shares(1e9), np.full(3, 1 / 3), 1e-3)
    assert_close(shares(0.5), softmax(logits * 2), 1e-3)
    assert_close(shares(1), softmax(logits), 1e-3)


COLD, HOT = (0, 5e-324, 1e-320, 1e-310, 1e-46, 1e-45, 1e-40, 1e-30), (1e30, 1e39, 1e300, 1.7e308)


def test_first_symbols_at_a_temperature_have_the_same_bits_on_every_backend():
    """The weights are powers of the project's own, and near NumPy's."""
    p = np.random.default_rng(0).dirichlet(np.full(50, 0.3))
    for temperature in (0.01, 0.3, 1.7, 40.0):
        expected = (p / p.max()) ** (1 / temperature)
        c, numba, reference = (
            weights_at(get_backend(name), p, temperature) for name in ("c", "numba", "numpy")
        )
        np.testing.assert_array_equal(c, numba)
        for actual in (c, reference):
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_temperatures_have_their_limits(backend: str, dtype: str):
    logits, uniforms = np.array([1.0, 2.0, -1e30, 0.0]), np.linspace(0, 1, 100, endpoint=False)
    for temperature in COLD:
        assert set(sample_once(backend, logits, uniforms, temperature, dtype)) == {1}
    logits[2] = 1.5
    expected = np.repeat(np.arange(4), 25).tolist()
    for temperature in HOT:
        assert sample_once(backend, logits, uniforms, temperature, dtype) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_as_likely_is_drawn_alike_but_at_zero(backend: str, dtype: str):
    logits, uniforms = np.array([1.0, 2.0, 0.0, 2.0]), np.linspace(0, 1, 10, endpoint=False)
    for temperature in COLD:
        is_zero = np.dtype(dtype).type(temperature) == 0
        expected = [1] * 10 if is_zero else [1] * 5 + [3] * 5
        assert sample_once(backend, logits, uniforms, temperature, dtype) == expected


def test_the_first_symbol_has_the_same_limits(backend: str):
    def drawn(temperature: float) -> set[int]:
        uniforms = np.random.default_rng(0).random(40)
        return set(draw_first_at(backend, temperature, np.array([0.25, 0.5, 0.25]), uniforms))

    assert [drawn(temperature) for temperature in COLD] == [{1}] * len(COLD)
    assert [drawn(temperature) for temperature in HOT] == [{0, 1, 2}] * len(HOT)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [0, 1e-46, 0.7, 1, 1e300])
def test_logits_that_are_not_finite_give_no_symbol(backend: str, dtype: str, temperature: float):
    uniforms, nan, inf = np.array([0, 0.3, 0.99]), np.nan, np.inf
    for logits in ((1, nan, 0), (nan, 2, 3), (1, 0, inf), (-inf, 3, -inf)):
        assert sample_once(backend, np.array(logits), uniforms, temperature, dtype) == [-1] * 3, logits


def test_the_largest_draw_takes_the_last_of_many(backend: str):
    """A sum in another order may be larger than the last cumulative sum."""
    logits = np.random.default_rng(2).uniform(-3, 3, 5000)
    assert sample_once(backend, logits, np.array([np.nextafter(1, 0)]), 1.0)[0] >= 4990


def test_the_backends_draw_the_same_text(backend: str, model: fastrnn.Model, documents: fastrnn.Model):
    for trained in (model, documents):
        expected = [trained.sample(100, rng=seed, temperature=0.7) for seed in range(5)]
        assert [on(backend, trained).sample(100, rng=seed, temperature=0.7) for seed in range(5)] == expected


def test_a_long_sample_is_drawn_in_many_calls(
    backend: str, model: fastrnn.Model, monkeypatch: pytest.MonkeyPatch
):
    expected = on(backend, model).sample(50, prime="abc", rng=0)
    monkeypatch.setattr(
        "fastrnn.network.execution.SHORT_CALL_OPERATIONS", 7 * 2 * 12 * (12 + model.vocabulary.size)
    )
    assert on(backend, model).sample(50, prime="abc", rng=0) == expected


def test_temperature_zero_takes_the_likeliest(backend: str, model: fastrnn.Model):
    greedy = on(backend, model).sample(20, prime="a", temperature=0, rng=1)
    assert greedy == model.sample(20, prime="a", temperature=0, rng=2)


def test_temperature_holds_for_the_first_symbol_too(model: fastrnn.Model):
    assert {model.sample(1, temperature=0, rng=seed) for seed in range(20)} == {" "}


def test_without_a_prime_the_first_symbol_has_the_text_s_frequencies(model: fastrnn.Model):
    rng = np.random.default_rng(0)
    drawn = [model.sample(1, rng=rng) for _ in range(3000)]
    assert drawn.count("a") / 3000 == pytest.approx(TEXT.count("a") / len(TEXT), abs=0.03)


def test_sample_lengths(model: fastrnn.Model, documents: fastrnn.Model):
    assert model.sample(0) == ""
    assert len(model.sample(7, prime="", rng=0)) == 7
    assert len(documents.sample(3, rng=0)) <= 3
    assert "\n" not in documents.sample(1000, rng=0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": -1}, ValueError, "n=-1 must be at least 0"),
        ({"n": 1.5}, TypeError, "n=1.5 must be a whole number"),
        ({"n": 5, "temperature": -1}, ValueError, "temperature=-1 must be a finite number, zero or more"),
        ({"n": 5, "temperature": float("nan")}, ValueError, "temperature=nan"),
        ({"n": 5, "temperature": float("inf")}, ValueError, "temperature=inf"),
        ({"n": 5, "prime": "ax"}, ValueError, "'x' at position 1, which is not among the 8 characters"),
        ({"n": 5, "prime": b"a"}, TypeError, "pass str"),
        ({"n": 5, "rng": -1}, ValueError, "rng=-1"),
    ],
)
def test_refuses_bad_arguments_of_sample(model: fastrnn.Model, arguments: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        model.sample(**arguments)


def test_pickles_and_copies_through_the_file_s_bytes(backend: str, model: fastrnn.Model):
    there = on(backend, model)
    for again in (pickle.loads(pickle.dumps(there)), copy.deepcopy(there)):
        assert again.to_bytes() == model.to_bytes()
        assert again.network.backend is there.network.backend


def test_threads_are_given_to_what_is_read_and_pickling_keeps_them(tmp_path: Path, model: fastrnn.Model):
    path = tmp_path / "model"
    model.save(path)
    for threads in (1, 3, np.int64(5)):
        read = fastrnn.load(path, threads=threads)
        again = fastrnn.Model.from_bytes(model.to_bytes(), threads=threads)
        copies = (
            pickle.loads(pickle.dumps(read)),
            copy.deepcopy(read),
            pickle.loads(pickle.dumps(read.network)),
        )
        networks = [read.network, again.network, copies[0].network, copies[1].network, copies[2]]
        assert [network.threads for network in networks] == [threads] * 5


def test_threads_that_were_left_to_the_machine_stay_so(monkeypatch: pytest.MonkeyPatch, model: fastrnn.Model):
    data, network = pickle.dumps(model), pickle.dumps(model.network)
    monkeypatch.setattr("fastrnn.network.execution.usable_cores", lambda: 77)  # as if it were another machine
    assert pickle.loads(data).network.threads == pickle.loads(network).threads == 77
    assert fastrnn.Model.from_bytes(model.to_bytes()).network.threads == 77


@pytest.mark.parametrize(("threads", "error"), [(0, ValueError), (10**25, ValueError), (1.5, TypeError)])
def test_bad_threads_are_refused_before_a_file_is_read(
    tmp_path: Path, model: fastrnn.Model, threads: object, error: type
):
    with pytest.raises(error, match="threads="):
        fastrnn.load(tmp_path / "missing", threads=threads)
    with pytest.raises(error, match="threads="):
        fastrnn.Model.from_bytes(b"", threads=threads)
    with pytest.raises(error, match="threads="):
        model.network.threads = threads


def test_repr_says_what_it_is(model: fastrnn.Model, documents: fastrnn.Model):
    assert repr(model).startswith("<fastrnn.Model of text: 8 characters, Network(")
    assert "loss" in repr(model)
    assert "of documents" in repr(documents)


@pytest.mark.parametrize("prime", [None, "a", "abcdabcd"])
@pytest.mark.parametrize("cell", CELLS)
def test_parameters_that_overflow_are_what_sample_tells(
    backend: str, cell: str, prime: str | None, tmp_path: Path
):
    """A file with huge finite weights is read; the error names the parameters, since no state was given."""
    network = fastrnn.Network(4, 8, backend=backend, rng=0, **CELLS[cell])
    network.flat[:] = np.random.default_rng(0).uniform(-3e38, 3e38, network.flat.size)
    vocabulary = Vocabulary("character", np.arange(97, 101, dtype=np.uint32))
    fastrnn.Model(network, vocabulary, np.ones(4)).save(tmp_path / "m")
    model = fastrnn.load(tmp_path / "m", backend=backend)
    for temperature in (1.0, 0):
        with pytest.raises(ValueError, match="the model's parameters are out of range: .*, of [a-z_]+[._]"):
            model.sample(30, prime=prime, temperature=temperature, rng=0)
    assert model.sample(1, rng=0) in "abcd"  # the first symbol has the frequencies of the text


def test_parameters_that_only_saturate_are_in_range(backend: str):
    network = fastrnn.Network(4, 8, backend=backend, rng=0)
    network.flat[:] = np.random.default_rng(0).uniform(-1e36, 1e36, network.flat.size)
    vocabulary = Vocabulary("character", np.arange(97, 101, dtype=np.uint32))
    assert len(fastrnn.Model(network, vocabulary, np.ones(4)).sample(30, prime="abc", rng=0)) == 30
