"""Models whose network is mixed with counts: training, scores, adaptation, files and refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require_backend
from helpers.bits import made_up_text
from helpers.program import run

import fastrnn
from fastrnn.inference import scoring

TEXT = made_up_text(6000)
LINES = TEXT.splitlines()


def quick(text: Any = TEXT[:4500], **changes: Any) -> fastrnn.Model:
    settings: dict[str, Any] = {"cell": "rnn", "hidden_size": 16, "steps": 30, "rng": 0, "progress": False}
    return fastrnn.train(text, **{**settings, "count_order": 4, **changes})


@pytest.fixture(scope="module")
def model() -> fastrnn.Model:
    return quick()


@pytest.mark.parametrize(
    "text",
    [TEXT[:4500], TEXT[:4500].encode(), LINES[:100], list(TEXT[:3000].encode())],
    ids=["characters", "bytes", "documents", "tokens"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_counts_lower_the_bits_of_a_text_like_theirs(backend: str, dtype: str, text: Any):
    tokens = {"vocabulary": 256} if isinstance(text[0], int) and isinstance(text, list) else {}
    counted = quick(text, backend=backend, dtype=dtype, **tokens)
    alone = quick(text, backend=backend, dtype=dtype, count_order=0, **tokens)
    other = {str: TEXT[4500:], bytes: TEXT[4500:].encode(), list: list(TEXT[4500:].encode())}[type(text)]
    other = LINES[103] if isinstance(text[0], str) and isinstance(text, list) else other
    fixed, adapted = counted.surprisal(other), counted.surprisal(other, adapt="counts")
    assert adapted.mean() < 1.2 * fixed.mean() < 1.2 * 0.8 * alone.surprisal(other).mean()
    assert (counted.without_counts().surprisal(other) == alone.surprisal(other)).all()
    assert (counted.network.flat == alone.network.flat).all()
    assert counted.mixture is not None and alone.mixture is None
    assert fixed.max() <= 30, "a probability is at least 2^-30"


def test_the_backends_and_threads_give_the_same_file():
    """Also when the counts do not fit into their memory."""
    found = []
    for backend in ("c", "numba"):
        require_backend(backend)
        for threads in (1, 2):
            made = quick(backend=backend, threads=threads, count_memory=30_000)
            found.append((made.to_bytes(), made.surprisal(TEXT[4500:], adapt="counts").tobytes()))
    assert all(one == found[0] for one in found)
    assert found[0][0] != quick(backend="c").to_bytes()


@pytest.mark.parametrize("adapt", [None, "counts"])
@pytest.mark.parametrize("text", [TEXT[:4500], LINES[:100]], ids=["text", "documents"])
def test_many_texts_have_the_scores_of_each(text: Any, adapt: str | None, monkeypatch: pytest.MonkeyPatch):
    """In batches, alone, from an iterator, and in pieces of any length."""
    counted = quick(text)
    end = counted.vocabulary.boundary
    texts = [TEXT[4500:4700], "", "a", TEXT[4700:5500]]
    texts = [one.replace("\n", " ") for one in texts] if end else texts
    each = [counted.surprisal(one, adapt=adapt, end=end) for one in texts]
    many = counted.score_many(texts, adapt=adapt, end=end)
    lazy = list(counted.score_many(iter(texts), adapt=adapt, end=end))
    monkeypatch.setattr(scoring, "SYMBOLS_AT_ONCE", 7)
    pieces = [counted.surprisal(one, adapt=adapt, end=end) for one in texts]
    for found in (many, lazy, pieces):
        for one, other in zip(each, found, strict=True):
            assert (one == other).all()
    for name in ("log_prob", "bits_per_symbol", "bits_per_byte", "perplexity"):
        value, bits = (
            getattr(counted, name)(texts[0], adapt=adapt),
            counted.surprisal(texts[0], adapt=adapt).sum(),
        )
        expected = {"log_prob": -bits * math.log(2), "perplexity": 2 ** (bits / 200)}
        n_bytes = len(texts[0].encode())
        assert value == pytest.approx(
            expected.get(name, bits / (n_bytes if name == "bits_per_byte" else 200)), rel=1e-12
        )


def test_what_is_learnt_is_carried_on_if_it_is_asked(model: fastrnn.Model):
    text = TEXT[4500:4900]
    once, again = model.score_many([text, text], adapt="counts", carry=True)
    assert again.sum() < 0.7 * once.sum()
    assert (once == model.surprisal(text, adapt="counts")).all()
    alone, second = model.score_many([text, text], adapt="counts")
    assert (alone == second).all()
    lazy = list(model.score_many(iter([text, text]), adapt="counts", carry=True))
    assert (lazy[1] == again).all()


def test_no_symbol_is_scored_with_knowledge_of_what_follows(model: fastrnn.Model):
    text = TEXT[4500:5000]
    before = model.surprisal(text, adapt="counts")
    for place in (0, 1, 250, 499):
        changed = text[:place] + ("a" if text[place] != "a" else "b") + text[place + 1 :]
        assert (model.surprisal(changed, adapt="counts")[:place] == before[:place]).all()


def test_a_model_does_not_change_as_it_adapts(model: fastrnn.Model):
    before = model.to_bytes()
    model.surprisal(TEXT[4500:], adapt="counts")
    assert model.to_bytes() == before


def test_a_refit_counts_what_was_held_out():
    without, with_it = quick(), quick(refit=True)
    assert without.mixture is not None and with_it.mixture is not None
    assert with_it.mixture.table.n_nodes > without.mixture.table.n_nodes


@pytest.mark.parametrize("changes", [{"validation": 0}, {"split": "rows"}, {"validation": TEXT[4500:]}])
def test_any_validation_will_do(changes: dict[str, Any]):
    text = TEXT[4500:5500]
    assert quick(**changes).bits_per_symbol(text) < 0.8 * quick(count_order=0, **changes).bits_per_symbol(
        text
    )


@pytest.mark.parametrize("text", ["ab", "aaaa", ["a"], ["", "a", ""], b"\x00\x01"])
def test_tiny_texts_are_counted(backend: str, text: Any):
    counted = quick(text, backend=backend, validation=0, count_order=15)
    one = text[-1] if isinstance(text, list) else text
    assert np.isfinite(counted.surprisal(one, adapt="counts")).all()
    assert fastrnn.Model.from_bytes(counted.to_bytes()).to_bytes() == counted.to_bytes()


def test_a_resumed_training_has_the_same_counts(tmp_path: Path):
    settings: dict[str, Any] = {"checkpoint": tmp_path / "run", "backend": "c"}
    require_backend("c")

    class Ends(fastrnn.Callback):
        def after_updates(self, training: Any, updates: Any) -> None:
            if training.updates >= 10:
                raise KeyboardInterrupt

    with pytest.raises(fastrnn.TrainingInterrupted) as caught:
        quick(callbacks=[Ends()], **settings)
    assert caught.value.model is not None and caught.value.model.mixture is None
    assert quick(resume=True, **settings).to_bytes() == quick(backend="c").to_bytes()


def test_ctrl_c_while_contexts_are_counted_leaves_the_network(monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastrnn.training.counting.mixture_of", interrupted)
    with pytest.raises(fastrnn.TrainingInterrupted, match="as contexts were counted") as caught:
        quick()
    assert caught.value.model is not None
    assert (caught.value.model.network.flat == quick(count_order=0).network.flat).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"count_order": -1}, ValueError, "count_order=-1 must be at least 0"),
        ({"count_order": 16}, ValueError, "count_order=16"),
        ({"count_order": True}, TypeError, "count_order=True must be a whole number"),
        ({"count_order": 2.5}, TypeError, "count_order=2.5 must be a whole number"),
        ({"count_memory": 9999}, ValueError, "count_memory=9999 must be at least 10000"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        quick(**changes)


def test_bad_options_of_scores_are_refused(model: fastrnn.Model):
    with pytest.raises(ValueError, match="adapt='weight' is not known; it is one of 'counts'"):
        model.surprisal("a", adapt="weight")
    with pytest.raises(ValueError, match="this one has none: train with count_order"):
        model.without_counts().surprisal("a", adapt="counts")
    with pytest.raises(ValueError, match="give adapt='counts' too"):
        model.score_many(["a"], carry=True)
    with pytest.raises(TypeError, match="carry"):
        model.score_many(["a"], adapt="counts", carry="yes")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.sample(3),
        lambda model: model.sample_many(2, 3),
        lambda model: next(model.sample_stream(3)),
        lambda model: model.stream(),
        fastrnn.Streams,
        lambda model: model.next_distribution("a"),
        lambda model: model.next_probabilities(["a"]),
        lambda model: model.rank("a", ["b"]),
        lambda model: model.best_path([[("a", 0.0), ("b", 0.0)]]),
        lambda model: model.decoder_lm(),
        lambda model: model.beam_search(3),
        lambda model: fastrnn.show(model, "ab"),
    ],
)
def test_what_does_not_know_counts_says_so(model: fastrnn.Model, use: Any):
    with pytest.raises(ValueError, match=r"mixes its network with counts .* model\.without_counts\(\)"):
        use(model)
    use(model.without_counts())


@pytest.mark.parametrize("use", [lambda model: next(model.top(2)), lambda model: model.guess_samples(5)])
def test_what_does_not_know_counts_of_documents_says_so(use: Any):
    with pytest.raises(ValueError, match="mixes its network with counts"):
        use(quick(LINES[:100]))


def test_hidden_states_are_those_of_the_network(model: fastrnn.Model):
    assert (model.hidden(["the sea"]) == model.without_counts().hidden(["the sea"])).all()


def test_a_model_needs_counts_over_its_symbols(model: fastrnn.Model):
    other = quick("hello world")
    with pytest.raises(ValueError, match="the counts are over 8 symbols"):
        model.mixture = other.mixture
    with pytest.raises(TypeError, match="mixture is str"):
        model.mixture = "counts"  # type: ignore[assignment]


# ---- The command line --------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "text").write_text(TEXT[:4500], newline="")
    (tmp_path / "other").write_text(TEXT[4500:], newline="")
    trained = run(
        "train", tmp_path / "text", "--count-order", 4, "--steps", 30, "--hidden-size", 16, "--seed", 0,
        "-o", tmp_path / "model",
    )  # fmt: skip
    assert trained.exit_code == 0
    assert "contexts of up to 4 symbols" in trained.stderr
    return tmp_path / "model", tmp_path / "other"


def test_the_commands_know_counts(files: tuple[Path, Path]):
    path, other = files
    loaded = fastrnn.load(path)
    for options, adapt in (((), None), (("--adapt", "counts"), "counts")):
        told = run("eval", path, other, *options)
        assert f"{loaded.bits_per_symbol(TEXT[4500:], adapt=adapt):,.4f}" in told.stdout
        lines = run("score", path, other, *options).stdout.splitlines()
        scores = [float(line.split("\t")[0]) for line in lines]
        assert sum(scores) == pytest.approx(loaded.surprisal(TEXT[4500:], adapt=adapt).sum(), abs=0.1)
    assert "contexts of up to 4 symbols" in run("info", path).stdout
    refused = run("eval", path, other, "--adapt", "weights")
    assert refused.exit_code == 1
    assert "adapt='weights'" in refused.stderr


@pytest.mark.parametrize("adapt", [(), ("--adapt", "counts")])
def test_a_long_line_that_cannot_be_read_leaves_no_trace(
    files: tuple[Path, Path], tmp_path: Path, adapt: tuple[str, ...]
):
    """Without an adaptation, the lines after it have the scores that they have without it."""
    path, _ = files
    bad = "the sea was grey " * 100_000 + "\0"
    (tmp_path / "with").write_text(f"the sea\n{bad}\nand a boat\n", newline="")
    (tmp_path / "without").write_text("the sea\nand a boat\n", newline="")
    one, other = (
        run("score", path, tmp_path / name, "--carry", *adapt).stdout.splitlines()
        for name in ("with", "without")
    )
    assert one[1].startswith("nan")
    assert len(one) == 3
    assert one[0] == other[0]
    if not adapt:
        assert one[2] == other[1]
