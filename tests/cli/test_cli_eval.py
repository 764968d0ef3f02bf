"""eval reads its file in pieces; eval and sample accept symbols that a model does not know."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastrnn
from fastrnn.cli.main import main
from fastrnn.data.lines import iter_lines


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    fastrnn.train("hello world", hidden_size=8, steps=30, rng=0, backend="numpy").save(path)
    return path


@pytest.fixture
def of_lines(tmp_path: Path) -> Path:
    path = tmp_path / "documents"
    fastrnn.train(["héllo", "wörld"], hidden_size=8, steps=30, rng=0).save(path)
    return path


def test_eval_says_which_line_of_which_file(of_lines: Path, tmp_path: Path):
    file = tmp_path / "t"
    file.write_text("héllo\n" * 1763 + "wör-ld\n" + "héllo\n" * 200)
    where = "line 1764: the text has '-' at position 3, which is not among the 8 characters"
    result = run("eval", of_lines, file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {file}, {where}")
    result = run("eval", of_lines, "-", stdin=file.read_bytes())
    assert result.stderr.startswith(f"Error: stdin, {where}")
    assert f"{file}, {where}" in run("eval", of_lines, file, "--unknown", "error").stderr


def test_eval_says_where_in_a_running_text(model: Path, tmp_path: Path):
    file = tmp_path / "t"
    file.write_text("hello world" * 100_000 + "x")
    result = run("eval", model, file)
    assert result.stderr.startswith(
        f"Error: {file}: the text has 'x' at position 1100000, which is not among"
    )


@pytest.mark.parametrize("documents", [True, False])
def test_eval_goes_on_without_what_is_unknown(model: Path, of_lines: Path, tmp_path: Path, documents: bool):
    path, file = of_lines if documents else model, tmp_path / "t"
    file.write_text("xxhelloxxhellxoxx" if not documents else "xxllo\nxx\n\nwxxrld")
    loaded = fastrnn.load(path)
    texts = file.read_text().split("\n")
    for unknown in ("skip", 0.25):
        told = json.loads(run("eval", path, file, "--json", "--unknown", unknown).stdout)
        bits = loaded.score_many(texts, end=documents, unknown=unknown)
        assert told["symbols"] == sum(map(len, bits))
        assert told["bits"] == pytest.approx(sum(one.sum() for one in bits))
    file.write_text("xxx\n" if documents else "xxx")
    if documents:  # the end of the document is scored
        assert json.loads(run("eval", path, file, "--json", "--unknown", "skip").stdout)["symbols"] == 1
    else:
        result = run("eval", path, file, "--unknown", "skip")
        assert (result.exit_code, result.stderr) == (
            1,
            f"Error: {file} has nothing to score: it has no symbol that the model knows\n",
        )
    for unknown in ("0", "1.5", "nan", "leave"):
        result = run("eval", path, file, "--unknown", unknown)
        assert result.exit_code == 1
        assert (
            "must be 'error', 'skip', 'symbol', or a probability above zero and at most one" in result.stderr
        )


def test_documents_are_those_of_the_training(tmp_path: Path):
    file, model = tmp_path / "text", tmp_path / "model"
    file.write_text("a\nb%%bc%%cab%%" * 30)
    run("train", file, "-o", model, "--separator", "%%", "--steps", 3, "--hidden-size", 4)
    as_trained, as_lines = (
        json.loads(run("eval", model, file, "--json", *options).stdout)
        for options in ([], ["--separator", r"\n", "--unknown", "skip"])
    )
    assert as_trained["symbols"] == 30 * (4 + 3 + 4)
    assert as_lines["symbols"] != as_trained["symbols"]


def test_documents_may_be_between_a_separator(of_lines: Path, model: Path, tmp_path: Path):
    file = tmp_path / "t"
    file.write_text("héllo%%wörld%%lo")
    told = json.loads(run("eval", of_lines, file, "--json", "--separator", "%%").stdout)
    bits = fastrnn.load(of_lines).score_many(["héllo", "wörld", "lo"], end=True)
    assert told["bits"] == pytest.approx(sum(one.sum() for one in bits))
    file.write_text("héllo%%w-ld")
    assert f"{file}, document 2: the text has '-'" in run("eval", of_lines, file, "--separator", "%%").stderr
    assert "separator='' is empty" in run("eval", of_lines, file, "--separator", "").stderr
    assert "--separator is for a model of documents" in run("eval", model, file, "--separator", "a").stderr


def test_a_prime_may_have_what_is_unknown(model: Path):
    expected = run("sample", model, "-n", 9, "--prime", "he", "--seed", 3).stdout
    for unknown in ("skip", "0.1"):
        arguments = ["-n", 9, "--prime", "xhxex", "--seed", 3, "--unknown", unknown]
        assert run("sample", model, *arguments).stdout == expected
    assert "prime: the text has 'x' at position 0" in run("sample", model, "--prime", "xh").stderr


def test_threads_change_nothing(of_lines: Path, tmp_path: Path, compiled: str):
    (tmp_path / "t").write_text("héllo wörld\n".replace(" ", "") * 3000)
    for command in (["eval", of_lines, tmp_path / "t", "--json"], ["sample", of_lines, "--seed", 1]):
        expected = run(*command, "--backend", compiled)
        assert expected.exit_code == 0
        for threads in (1, 2, 3):
            result = run(*command, "--backend", compiled, "--threads", threads)
            assert (result.exit_code, result.stdout) == (0, expected.stdout)
        assert "threads=0 must be at least 1" in run(*command, "--threads", 0).stderr


@pytest.mark.parametrize("documents", [True, False])
def test_what_eval_says_does_not_depend_on_the_pieces(
    compiled: str, of_lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: bool
):
    path, file = of_lines, tmp_path / "t"
    text = "héllo\r\nwörld\n\nh\n" + "wörldhéllo" * 50 + "\n\rdlröw"
    if not documents:
        path, text = tmp_path / "m", text.replace("\r", "")
        fastrnn.train(text, hidden_size=8, steps=3, rng=0).save(path)
    file.write_bytes(text.encode())
    expected = run("eval", path, file, "--json", "--backend", compiled)
    assert expected.exit_code == 0
    assert json.loads(expected.stdout)["symbols"] == (
        len(text) if not documents else 5 + 5 + 0 + 1 + 500 + 0 + 5 + 7  # and the ends of seven documents
    )
    for chunk in (1, 2, 3, 7, 64):
        for long in (1, 5, 10_000):
            monkeypatch.setattr("fastrnn.data.text_file.CHUNK", chunk)
            monkeypatch.setattr("fastrnn.data.lines.LONG", long)
            actual = run("eval", path, file, "--json", "--backend", compiled)
            assert (actual.exit_code, actual.stdout) == (0, expected.stdout)
            assert run("eval", path, "-", "--json", "--backend", compiled, stdin=text.encode()).stdout == (
                expected.stdout
            )


def test_eval_finds_what_is_no_utf_8_in_any_piece(
    of_lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "t"
    for data, offset in ((b"h\xc3\xa9llo\n\xff", 7), (b"\xc3\xa9\xc3", 2), (b"\xc3\xa9\xc3l", 2)):
        file.write_bytes(data)
        for chunk in (1, 2, 3, 100):
            monkeypatch.setattr("fastrnn.data.text_file.CHUNK", chunk)
            result = run("eval", of_lines, file)
            assert result.exit_code == 1
            assert f"is not UTF-8: byte 0x{data[offset]:02x} at offset {offset}" in result.stderr


def test_eval_is_about_as_quick_as_score_many(data: Path, tmp_path: Path):
    """One call for each line would take twenty times as long."""
    file, path = data / "names.txt", tmp_path / "m"
    lines = file.read_text().splitlines()
    fastrnn.train(lines, hidden_size=64, steps=5, rng=0).save(path)
    model, ratios = fastrnn.load(path), []
    for _ in range(5):
        started = time.perf_counter()
        bits = model.score_many(lines, end=True)
        between = time.perf_counter()
        told = json.loads(run("eval", path, file, "--json").stdout)
        ratios.append((time.perf_counter() - between) / (between - started))
    assert told["bits"] == math.fsum(itertools.chain.from_iterable(one.tolist() for one in bits))
    assert min(ratios) < 2


@pytest.mark.parametrize("of_bytes", [False, True])
def test_lines_in_pieces(of_bytes: bool, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    for _ in range(500):
        text = "".join(rng.choice(list("aé\r\n"), rng.integers(0, 14)))
        expected = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if not expected[-1]:
            expected.pop()
        data: Any = text.encode() if of_bytes else text
        monkeypatch.setattr("fastrnn.data.lines.LONG", int(rng.integers(1, 9)))
        cuts = [0, *np.cumsum(rng.integers(1, 5, 40)).tolist()]
        pieces = [data[a:b] for a, b in itertools.pairwise(cuts) if a < len(data)]
        lines = [data[:0]]
        for piece, is_last in iter_lines(pieces):
            lines[-1] += piece
            lines += [data[:0]] if is_last else []
        assert [line.decode() if of_bytes else line for line in lines] == [*expected, ""]


@pytest.mark.parametrize("unknown", ["error", "skip", "0.01"])
def test_eval_tells_bits_per_byte(model: Path, of_lines: Path, tmp_path: Path, unknown: str):
    file = tmp_path / "t"
    file.write_bytes(b"hello\r\nworld\n" if unknown != "error" else b"hello world")
    told = json.loads(run("eval", model, file, "--unknown", unknown, "--json").stdout)
    assert told["bytes"] == {"error": 11, "skip": 10, "0.01": 12}[unknown]
    assert told["bits_per_byte"] == told["bits"] / told["bytes"]
    file.write_text("héllo\nwörld")  # the last line has no end
    told = json.loads(run("eval", of_lines, file, "--unknown", unknown, "--json").stdout)
    assert (told["symbols"], told["bytes"]) == (12, 14)
    assert "bits_per_byte    " in run("eval", of_lines, file).stdout
