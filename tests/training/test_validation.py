"""What is held out, a text of its own to validate on, and the loss on all of it when training ends."""

import logging
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CELLS, assert_close

import fastrnn
from fastrnn.model.evaluation import Evaluation
from fastrnn.training import held_out, loop

TEXT = "the cat sat on the mat, and the dög saw the cat. " * 40
LINES = [f"line {i} of {i * i}" for i in range(120)]
TOKENS = (np.arange(2000) * 7 % 11 + np.arange(2000) // 3 % 2).tolist()


def quick(text: Any = TEXT, **options) -> fastrnn.Model:
    options = {"steps": 30, "rng": 0, "progress": False, "log_every": 8, "hidden_size": 7} | options
    return fastrnn.train(text, **options)


@pytest.fixture
def many_rows(monkeypatch: pytest.MonkeyPatch):
    """Short held-out parts are read in several rows too, in several calls."""
    monkeypatch.setattr(held_out, "SYMBOLS_OF_ROW", 37)
    monkeypatch.setattr("fastrnn.inference.reading.WINDOW", 11)


# ---- The evaluation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_all_that_is_held_out_is_measured(cell: str, dtype: str, backend: str):
    """It is what the model itself gives for the held-out text, in all units."""
    model = quick(dtype=dtype, backend=backend, **CELLS[cell])
    rest, found = TEXT[int(len(TEXT) * 0.9) :], model.evaluation
    assert_close(found.bits_per_symbol, model.bits_per_symbol(rest), 1e-12)
    assert_close(found.bits_per_byte, model.bits_per_byte(rest), 1e-12)
    assert_close(found.perplexity, model.perplexity(rest), 1e-12)
    assert (found.symbols, found.bytes) == (len(rest), len(rest.encode()))
    assert found.loss == pytest.approx(-model.log_prob(rest) / len(rest), rel=1e-12)
    assert found == fastrnn.Model.from_bytes(model.to_bytes()).evaluation


def test_documents_and_their_ends_are_measured(backend: str, many_rows: None):
    model = quick(LINES, shuffle=False, backend=backend)
    bits = np.concatenate(model.score_many(LINES[108:], end=True))
    assert_close(model.evaluation.bits_per_symbol, bits.mean(), 1e-6)
    assert (model.evaluation.symbols, model.evaluation.bytes) == (len(bits), len(bits))
    lines = [line + "é" for line in LINES]
    model = quick(lines, shuffle=False, backend=backend)
    n_bytes = sum(len(line.encode()) + 1 for line in lines[108:])
    bits = sum(model.surprisal(line, end=True).sum() for line in lines[108:])
    assert model.evaluation.bytes == n_bytes
    assert_close(model.evaluation.bits_per_byte, bits / n_bytes, 1e-6)


def test_bytes_and_tokens_are_measured():
    model = quick(TEXT.encode())
    rest = TEXT.encode()[int(len(TEXT.encode()) * 0.9) :]
    assert model.evaluation.bits_per_symbol == model.evaluation.bits_per_byte
    assert_close(model.evaluation.bits_per_byte, model.bits_per_byte(rest), 1e-12)
    model = quick(TOKENS, vocabulary=12)
    assert_close(model.evaluation.bits_per_symbol, model.bits_per_symbol(TOKENS[1800:]), 1e-12)
    assert (model.evaluation.bytes, model.evaluation.bits_per_byte) == (None, None)
    assert "held_out_bytes" not in model.kept_record


def test_a_row_begins_with_no_memory(many_rows: None):
    """Each symbol is counted once; only those at the beginnings of rows have other losses."""
    model = quick()
    rest = TEXT[int(len(TEXT) * 0.9) :]
    assert model.evaluation.symbols == len(rest)
    assert model.evaluation.bits_per_symbol == pytest.approx(model.bits_per_symbol(rest), rel=0.02)


def test_rows_of_a_batch_are_measured():
    model = quick(split="rows", batch_size=3, seq_length=9)
    record = model.history[-1]
    assert model.evaluation.loss == pytest.approx(record["validation_loss"], rel=1e-12)
    assert model.evaluation.symbols == 3 * 9 * 8  # each row has 72 windows, of which 64 are trained on


def test_it_is_that_of_the_weights_that_are_kept(caplog: pytest.LogCaptureFixture):
    misleading = "abcabcabd" * 40 + "cbadcba" * 6
    settings = {"learning_rate": 0.05, "batch_size": 1, "validation": 0.1, "steps": 200, "hidden_size": 16}
    rest = misleading[int(len(misleading) * 0.9) :]
    for keep in ("best", "last"):
        model = quick(misleading, keep=keep, **settings)
        assert_close(model.evaluation.bits_per_symbol, model.bits_per_symbol(rest), 1e-12)
        assert "held_out_loss" in model.kept_record
        assert sum("held_out_loss" in record for record in model.history) == 1
    assert quick(validation=0).evaluation is None
    with caplog.at_level(logging.INFO, "fastrnn"):
        model = quick()
    assert (
        f"on 196 held-out characters, the weights of update 29 have {model.evaluation.bits_per_symbol:.4f}"
        in (caplog.text)
    )
    assert f"{model.evaluation.bits_per_byte:.4f} bits/byte, perplexity" in caplog.text


def test_a_time_limit_bounds_the_evaluation(many_rows: None, monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.setattr(loop, "EVALUATION_TIME", 0.0)
    with caplog.at_level(logging.INFO, "fastrnn"):
        model = quick(steps=None, time_limit=0.05)
    assert 0 < model.evaluation.symbols < 196
    assert f"on {model.evaluation.symbols} of the 196 held-out characters" in caplog.text
    monkeypatch.setattr(loop, "EVALUATION_TIME", 1.0)
    assert quick(time_limit=1e9).evaluation.symbols == 196


def test_an_evaluation_has_its_units():
    found = Evaluation(math.log(4), 10, 16)
    assert (found.bits_per_symbol, found.bits_per_byte, found.perplexity) == (2.0, 1.25, 4.0)
    assert found.in_words("character") == (
        "2.0000 bits/character (1.3863 nats), 1.2500 bits/byte, perplexity 4"
    )
    assert Evaluation(1e4, 1, None).perplexity == math.inf
    assert Evaluation.of_record(found.as_record()) == found
    for wrong in ({}, {"held_out_loss": 1.0}, {"held_out_loss": 1.0, "held_out_symbols": math.inf}):
        assert Evaluation.of_record(wrong) is None
    few = {"held_out_loss": 1.0, "held_out_symbols": 3, "held_out_bytes": 0}
    assert Evaluation.of_record(few) == Evaluation(1.0, 3, None)


def test_a_loss_that_is_not_finite_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(held_out.HeldOut, "evaluate", lambda *_, **__: Evaluation(math.inf, 9, 9))
    model = quick(refit=True)
    assert model.evaluation is None
    assert "refit" in model.history[-1]
    assert "the loss on all that is held out is inf, and is not recorded" in caplog.text


def test_ctrl_c_in_the_evaluation(many_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Training is not over: what is resumed measures again."""
    expected = quick()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    real = held_out.HeldOut.evaluate

    def interrupted(self, *arguments, **options):
        def tell(_):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

        return real(self, *arguments, **{**options, "tell": tell})

    with monkeypatch.context() as patch:
        patch.setattr(held_out.HeldOut, "evaluate", interrupted)
        with pytest.raises(fastrnn.TrainingInterrupted) as caught:
            quick(checkpoint=tmp_path / "run")
    signal.signal(signal.SIGINT, before)
    assert caught.value.model.evaluation is None
    assert caught.value.model.network.flat.tobytes() == expected.network.flat.tobytes()
    assert quick(checkpoint=tmp_path / "run", resume=True).to_bytes() == expected.to_bytes()
    again = quick(checkpoint=tmp_path / "run", resume=True)
    assert again.to_bytes() == expected.to_bytes() == fastrnn.load(tmp_path / "run").to_bytes()


def test_the_progress_of_the_evaluation_is_told(many_rows: None, monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.setattr("fastrnn.training.progress.PROGRESS_SECONDS", 0)
    with caplog.at_level(logging.INFO, "fastrnn"):
        quick(progress=True)
    told = [message for message in caplog.messages if "of all that is held out was read" in message]
    assert len(told) > 2
    assert told[-1].startswith("100 %")


# ---- Each k-th document ------------------------------------------------------------------------------


def test_each_tenth_document_is_held_out(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "fastrnn"):
        model = quick(LINES, split="every")
    assert caplog.messages[0].startswith("training on 108 documents (")
    assert "; 12 more (" in caplog.messages[0]
    assert "at even distances, are held out for validation and not trained on" in caplog.messages[0]
    bits = np.concatenate(model.score_many(LINES[9::10], end=True))
    assert_close(model.evaluation.bits_per_symbol, bits.mean(), 1e-6)
    other = quick(LINES, split="every", rng=5)
    assert other.evaluation.symbols == model.evaluation.symbols
    assert other.counts.tolist() == model.counts.tolist()
    in_order, shuffled = (quick(LINES, split="every", shuffle=shuffle) for shuffle in (False, True))
    assert in_order.history[3]["loss"] != shuffled.history[3]["loss"]


@pytest.mark.parametrize("text", [TEXT, TEXT.encode(), TOKENS], ids=["characters", "bytes", "tokens"])
def test_a_running_text_has_no_documents_to_hold_out(text):
    options = {"vocabulary": 12} if isinstance(text, list) else {}
    with pytest.raises(ValueError, match=r"split='every' holds out documents.*lines=True \(--lines\)"):
        quick(text, split="every", **options)


# ---- A text of its own -------------------------------------------------------------------------------

OTHER = "the dög sat on the cat"


@pytest.mark.parametrize(
    ("text", "other", "options"),
    [
        (TEXT, OTHER, {}),
        (TEXT.encode(), OTHER.encode(), {}),
        (LINES, LINES[3:9], {}),
        (TOKENS, TOKENS[5:50], {"vocabulary": 12}),
        (np.array(TOKENS), np.array(TOKENS[5:50]), {"vocabulary": 12}),
        ([TOKENS[:99]] * 12, [TOKENS[:50], [], [3]], {"vocabulary": 12}),
        (LINES, iter(LINES[3:9]), {}),
    ],
    ids=["characters", "bytes", "documents", "tokens", "array", "documents of tokens", "iterator"],
)
def test_a_text_of_its_own_is_validated_on(text, other, options: dict, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "fastrnn"):
        model = quick(text, validation=other, **options)
    whole = quick(text, validation=0, keep="last", **options)
    assert model.counts.tolist() == whole.counts.tolist()
    assert model.network.flat.tobytes() == whole.network.flat.tobytes()  # it learns from all of the text
    assert "; another text, of " in caplog.messages[0]
    assert "validation=0.1, --validation 0.1, holds out a part of the text instead" in caplog.messages[0]
    assert model.settings["validation"] == "text"
    assert "validation_loss" in model.history[0]
    if not isinstance(other, str | bytes):
        return
    assert_close(model.evaluation.bits_per_symbol, model.bits_per_symbol(other), 1e-12)


def test_a_file_of_its_own_is_read_as_the_text_is(tmp_path: Path):
    file, other = tmp_path / "text", tmp_path / "other"
    file.write_bytes("\r\n".join(LINES).encode("utf-16"))
    other.write_bytes("\r\n".join(LINES[3:9]).encode("utf-16"))
    found = quick(file, lines=True, encoding="utf-16", validation=other)
    assert found.evaluation == quick(LINES, validation=LINES[3:9]).evaluation
    other.write_text("\n".join(LINES[3:9]) + "\n")
    assert quick(LINES, validation=other).evaluation == found.evaluation
    found = quick(file, unit="byte", validation=file)
    assert found.evaluation.symbols == found.evaluation.bytes == file.stat().st_size
    other.write_bytes(TEXT[:50].encode())
    assert quick(TEXT.encode(), validation=other).evaluation.symbols == 51


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        ("the é cat ß", ValueError, r"validation has 2 characters .* such as 'ß', 'é': give all"),
        ("0.1", TypeError, r"validation='0.1' is a str, which is a text: give the number, 0.1"),
        (b"the cat", TypeError, "validation is one running text of bytes, and the text to train on is one"),
        (["the cat"], TypeError, "validation is documents of characters, and the text to train on is one"),
        ("t", ValueError, "validation has 1 symbols; it must have at least 2"),
        ("", ValueError, "validation has 0 symbols"),
        ([1, 2], TypeError, "validation: document 0: .* whole numbers need vocabulary="),
        ({"the": 1}, TypeError, "validation: text is dict"),
        (object(), TypeError, "validation: text is object"),
        (True, TypeError, "validation=True must be"),
        (1.0, ValueError, "validation=1.0 must be below one"),
        (-0.1, ValueError, "validation=-0.1 must be"),
        (math.nan, ValueError, "validation=nan must be"),
        ("th\ud800", ValueError, "lone surrogate"),
        (Path("nowhere"), FileNotFoundError, "nowhere"),
    ],
)  # fmt: skip
def test_another_text_is_refused_if_it_does_not_fit(other, error: type, message: str):
    with pytest.raises(error, match=message):
        quick(validation=other)


def test_errors_of_tokens_and_of_options():
    with pytest.raises(ValueError, match="validation: document 1 of 2: the token at position 0 is 12"):
        quick([TOKENS] * 2, vocabulary=12, validation=[[1], [12]])
    with pytest.raises(ValueError, match="is 99"):
        quick(TOKENS, vocabulary=12, validation=[1, 99])
    with pytest.raises(
        TypeError, match="text is str, and vocabulary, or init with a model of tokens, is for whole numbers"
    ):
        quick(TOKENS, vocabulary=12, validation="the")
    with pytest.raises(ValueError, match="validation has 0 symbols; it must have at least 1"):
        quick(LINES, validation=["", ""])
    with pytest.raises(ValueError, match="split='rows' is for a fraction, and validation is a text"):
        quick(validation=OTHER, split="rows")
    assert quick(preset="char-rnn", steps=9, epochs=None, validation=OTHER).evaluation.symbols == len(OTHER)


def test_a_vocabulary_may_have_the_symbols_of_the_other_text():
    model = quick(validation="the ß cat", vocabulary=TEXT + "ß")
    assert_close(model.evaluation.bits_per_symbol, model.bits_per_symbol("the ß cat"), 1e-12)
    with pytest.raises(ValueError, match="validation has 1 characters .* such as 'Q'"):
        quick(validation="the Q cat", vocabulary=TEXT + "ß")


def test_the_name_of_a_file_as_a_str_is_doubtful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "the").write_text(OTHER)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="the text 'the' is the name of a file") as caught:
        quick(validation="the")
    assert caught[0].filename == __file__


def test_another_text_to_validate_on_is_not_resumed(tmp_path: Path):
    options = {"checkpoint": tmp_path / "run", "validation": OTHER}
    expected = quick(**options).to_bytes()
    assert quick(resume=True, **options).to_bytes() == expected
    with pytest.raises(fastrnn.CheckpointError, match=r"another text to validate on \(validation=, --val"):
        quick(resume=True, **{**options, "validation": OTHER[1:]})
    with pytest.raises(fastrnn.CheckpointError, match="made with validation='text', and this training has"):
        quick(resume=True, **{**options, "validation": 0.1})
    with pytest.raises(fastrnn.CheckpointError, match="made with another text: give the same"):
        quick(TEXT[1:] + TEXT[:1], resume=True, **options)
