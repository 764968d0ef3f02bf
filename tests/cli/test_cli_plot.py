"""``fastrnn plot``, and ``fastrnn train --metrics``."""

import re
import signal
from pathlib import Path

import pytest
from helpers.program import run, started

import fastrnn

pytest.importorskip("matplotlib")

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40


def test_a_training_is_drawn(tmp_path: Path):
    text, model, metrics, checkpoint = (tmp_path / name for name in ("text", "model", "metrics", "run"))
    text.write_text(TEXT)
    options = ["--steps", 30, "--hidden-size", 5, "--metrics", metrics, "--checkpoint", checkpoint]
    result = run("train", text, "-o", model, *options, "--sample-every", 15)
    assert result.exit_code == 0
    assert "update 15: '" in result.stderr
    assert "update 30: '" in result.stderr
    for source in (model, metrics, checkpoint):
        result = run("plot", source)
        assert result.exit_code == 0, result.stderr
        assert Path(f"{source}.png").read_bytes().startswith(b"\x89PNG")
    assert run("plot", model, "-o", tmp_path / "drawn.svg").exit_code == 0
    assert (tmp_path / "drawn.svg").read_bytes().startswith(b"<?xml")


def test_a_run_is_not_replaced_and_a_picture_may_go_to_stdout(tmp_path: Path):
    model = tmp_path / "model"
    fastrnn.train(TEXT, steps=2, hidden_size=4, backend="numpy").save(model)
    before = model.read_bytes()
    result = run("plot", model, "-o", model)
    assert (result.exit_code, model.read_bytes()) == (1, before)
    assert "is the file that is drawn: it would be replaced" in result.stderr
    result = run("plot", model, "-o", "-")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes.startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_an_error(tmp_path: Path):
    for content in (b"", b"no model", b'{"a": 1}', b"[1]"):
        (tmp_path / "file").write_bytes(content)
        result = run("plot", tmp_path / "file")
        assert result.exit_code == 1
        assert "Error: " in result.stderr
    assert run("plot", tmp_path / "none").exit_code == 1


def test_files_that_are_one_are_refused(tmp_path: Path):
    text = tmp_path / "text"
    text.write_text(TEXT)
    model, other = tmp_path / "model", tmp_path / "other"
    for options, message in [
        (["--metrics", text], "--metrics .* is the file that is trained on"),
        (["--metrics", model], "--output and --metrics are one file"),
        (["--checkpoint", model], "--output and --checkpoint are one file"),
        (
            ["--checkpoint", other, "--metrics", tmp_path / "." / "other"],
            "--checkpoint and --metrics are one",
        ),
    ]:
        result = run("train", text, "-o", model, "--steps", 2, *options)
        assert result.exit_code == 1
        assert re.search(message, result.stderr)
    assert text.read_text() == TEXT
    assert not model.exists()


def test_a_model_is_saved_if_its_checkpoint_cannot_be(tmp_path: Path):
    """The folder of the checkpoint vanishes during training; then Ctrl-C."""
    text, model, folder = tmp_path / "text", tmp_path / "model", tmp_path / "folder"
    text.write_text(TEXT)
    folder.mkdir()
    arguments = ["train", text, "-o", model, "--steps", 10_000_000, "--hidden-size", 5]
    arguments += ["--checkpoint", folder / "run", "--checkpoint-every", "1h", "--sample-every", 50]
    with started(*arguments) as process:
        while b"update" not in process.stderr.readline():
            pass
        folder.rmdir()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
    assert process.returncode == 130
    assert "a checkpoint could not be written" in said
    assert f"the model so far is in {model}" in said
    assert fastrnn.load(model).sample(3)
