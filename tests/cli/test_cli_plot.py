"""``fastrnn plot``, and ``fastrnn train --metrics``."""

from pathlib import Path

import pytest
from helpers.program import run

pytest.importorskip("matplotlib")

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40


def test_a_training_is_drawn(tmp_path: Path):
    text, model, metrics, checkpoint = (tmp_path / name for name in ("text", "model", "metrics", "run"))
    text.write_text(TEXT)
    options = ["--steps", 30, "--hidden-size", 5, "--metrics", metrics, "--checkpoint", checkpoint]
    assert run("train", text, "-o", model, *options).exit_code == 0
    for source in (model, metrics, checkpoint):
        result = run("plot", source)
        assert result.exit_code == 0, result.stderr
        assert Path(f"{source}.png").read_bytes().startswith(b"\x89PNG")
    assert run("plot", model, "-o", tmp_path / "drawn.svg").exit_code == 0
    assert (tmp_path / "drawn.svg").read_bytes().startswith(b"<?xml")


def test_what_cannot_be_drawn_is_an_error(tmp_path: Path):
    for content in (b"", b"no model", b'{"a": 1}', b"[1]"):
        (tmp_path / "file").write_bytes(content)
        result = run("plot", tmp_path / "file")
        assert result.exit_code == 1
        assert "Error: " in result.stderr
    assert run("plot", tmp_path / "none").exit_code == 1
