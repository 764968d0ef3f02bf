"""score prints the bits of each line, of files and pipes of any bytes."""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.program import run
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import Model, Network
from fastrnn.core.terminal import escaped
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary

LETTERS = np.array(sorted(map(ord, "\n abé\x1b\x9b\x00\t")), np.uint32)

VOCABULARIES = {
    "text": Vocabulary("character", LETTERS, newlines="universal"),
    "documents": Vocabulary("character", LETTERS, True, newlines="universal"),
    "lines": Vocabulary("character", LETTERS[ord("\n") != LETTERS], True, newlines="universal"),
    "bytes": Vocabulary.of([], unit="byte"),
    "tokens": TokenVocabulary.of_names(("a", "b")),
}


def saved(folder: Path, name: str, hidden_size: int = 4) -> Path:
    """The file of a model."""
    vocabulary = VOCABULARIES[name]
    network = Network(vocabulary.size, hidden_size, rng=0, initialization="normal")
    place = folder / name
    Model(network, vocabulary, np.ones(vocabulary.size, np.int64)).save(place)
    return place


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: saved(folder, name) for name in VOCABULARIES}


def records(output: str) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in output.splitlines()]


# ---- What is written ---------------------------------------------------------------------------------


def test_columns_and_json_are_the_library_s_scores(models: dict[str, Path], tmp_path: Path):
    lines = ["ab", "", "a\tb ", "é"]
    (tmp_path / "t").write_text("\n".join(lines))
    model = fastrnn.load(models["documents"])
    bits = model.score_many(lines, end=True)
    totals = [math.fsum(one) for one in bits]
    means = [total / len(one) for total, one in zip(totals, bits, strict=True)]
    each = [" ".join(f"{number:.4f}" for number in one) for one in bits]

    def columns(*parts: list[Any]) -> str:
        return "".join("\t".join(row) + "\n" for row in zip(*parts, lines, strict=True))

    shown = [[f"{number:.4f}" for number in numbers] for numbers in (totals, means)]
    command = ["score", models["documents"], tmp_path / "t"]
    assert run(*command).stdout == columns(shown[0])
    assert run(*command, "--bits-per-symbol").stdout == columns(shown[1])
    assert run(*command, "--per-symbol").stdout == columns(shown[0], each)
    result = run(*command, "--json", "--per-symbol")
    assert (result.exit_code, result.stderr) == (0, "")
    assert records(result.stdout) == [
        {
            "line": number,
            "bits": totals[number - 1],
            "bits_per_symbol": means[number - 1],
            "symbols": len(bits[number - 1]),
            "per_symbol": bits[number - 1].tolist(),
            "text": line,
        }
        for number, line in enumerate(lines, 1)
    ]
    assert "per_symbol" not in records(run(*command, "--json").stdout)[0]


@pytest.mark.parametrize("name", ["text", "documents", "bytes"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_scores_of_lines_that_are_carried_are_those_of_one_text(
    models: dict[str, Path], name: str, end: str
):
    content = "ab\r\n\né a\nb" + end
    loaded = fastrnn.load(models[name])
    text: Any = content if name != "bytes" else content.encode()
    expected = loaded.surprisal(text).tolist()
    result = run("score", models[name], "--carry", "--json", "--per-symbol", stdin=content.encode())
    assert [bits for record in records(result.stdout) for bits in record["per_symbol"]] == expected
    if name != "documents":
        assert run("score", models[name], "--json", "--per-symbol", stdin=content.encode()).stdout == (
            result.stdout
        )
        scored = json.loads(run("eval", models[name], "-", "--json", stdin=content.encode()).stdout)
        assert scored["bits"] == math.fsum(expected)


def test_lines_of_a_running_text_may_be_texts_of_their_own(models: dict[str, Path]):
    result = run("score", models["text"], "--lines", "--json", "--per-symbol", stdin=b"ab\nb\n\n")
    expected = [one.tolist() for one in fastrnn.load(models["text"]).score_many(["ab", "b", ""])]
    assert [record["per_symbol"] for record in records(result.stdout)] == expected
    assert [record["bits_per_symbol"] for record in records(result.stdout)][-1] is None
    assert run("score", models["text"], "--lines", "--bits-per-symbol", stdin=b"\n").stdout == "nan\t\n"


def test_unknown_symbols_are_treated_as_everywhere(models: dict[str, Path]):
    model = fastrnn.load(models["lines"])
    for unknown in ("skip", 0.125):
        result = run("score", models["lines"], "--json", "--per-symbol", "--unknown", unknown, stdin=b"axb\n")
        expected = model.surprisal("axb", end=True, unknown=unknown).tolist()
        assert records(result.stdout)[0]["per_symbol"] == expected
    for unknown, error in (
        ("leave", "must be 'error', 'skip'"),
        ("symbol", "for a model with an unknown"),
    ):
        result = run("score", models["lines"], "--unknown", unknown, stdin=b"a")
        assert (result.exit_code, result.stdout) == (2, "")
        assert error in result.stderr
    result = run("score", models["lines"], "--carry", stdin=b"a\n")
    assert result.exit_code == 2
    assert "--carry scores the ends of lines, and the model does not know the line feed" in result.stderr
    assert run("score", models["lines"], "--carry", "--unknown", "skip", stdin=b"a\nb").exit_code == 0


def test_a_line_that_cannot_be_scored_is_written_and_the_others_are_scored(models: dict[str, Path]):
    stdin = b"ab\nax\n\xff\xfe\nb\n"
    result = run("score", models["documents"], "-", stdin=stdin)
    model = fastrnn.load(models["documents"])
    first, last = (f"{math.fsum(model.surprisal(text, end=True)):.4f}\t{text}\n" for text in ["ab", "b"])
    assert result.exit_code == 2
    assert result.stdout_bytes == first.encode() + b"nan\tax\nnan\t\xff\xfe\n" + last.encode()
    assert result.stderr == (
        "Error: stdin, line 2: the text has 'x' at position 1, which is not among the 9 characters that the "
        "model was trained on\nstdin: 2 lines could not be scored\n"
    )
    result = run("score", models["documents"], "--json", "--per-symbol", "--threshold", 1e9, stdin=stdin)
    assert records(result.stdout) == [
        {
            "line": line,
            "bits": None,
            "bits_per_symbol": None,
            "symbols": None,
            "error": error,
            "per_symbol": [],
            "text": text,
        }
        for line, error, text in (
            (2, result.stderr.splitlines()[0].removeprefix("Error: stdin, line 2: "), "ax"),
            (3, "the line is not UTF-8: byte 0xff at offset 0; it begins as UTF-16 does", "\\xff\\xfe"),
        )
    ]


def test_json_holds_bytes_that_are_no_utf_8(models: dict[str, Path]):
    line = bytes(byte for byte in range(256) if byte not in b"\r\n")
    (record,) = records(run("score", models["bytes"], "--lines", "--json", stdin=line).stdout)
    assert record["text"].encode("utf-8", "surrogateescape") == line


def test_the_exit_status_is_that_of_grep(models: dict[str, Path], tmp_path: Path):
    model = fastrnn.load(models["lines"])
    low, high = sorted(float(model.surprisal(text, end=True).sum()) for text in ("a", "abé"))
    stdin = "a\nabé\n".encode()
    for threshold, status, count in ((0, 0, 2), (low, 0, 1), ((low + high) / 2, 0, 1), (high, 1, 0)):
        result = run("score", models["lines"], "--threshold", threshold, stdin=stdin)
        assert (result.exit_code, result.stdout.count("\n")) == (status, count)
    for stdin, arguments in ((b"", []), (b"a", []), (b"", ["--json"])):
        assert run("score", models["lines"], *arguments, stdin=stdin).exit_code == 0
    assert run("score", models["lines"], "--threshold", 0, stdin=b"").exit_code == 1
    (tmp_path / "no model").write_bytes(b"{}")
    for command in (
        [models["lines"], tmp_path / "none"],
        [models["lines"], tmp_path],
        [tmp_path / "none"],
        [tmp_path / "no model"],
        [models["tokens"]],
        [models["lines"], "--threshold", "nan"],
        [models["lines"], "--threshold", "much"],
        [models["lines"], "--encoding", "utf-16"],
        [models["lines"], "--threads", 0],
        [models["lines"], "--none"],
    ):
        result = run("score", *command, stdin=b"a\n")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "rror: " in result.stderr


# ---- Pipes -------------------------------------------------------------------------------------------


@contextmanager
def piped(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "fastrnn", "score", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def soon(process: subprocess.Popen[bytes], n: int) -> bytes:
    """So many lines of the output, which must be there within 20 seconds."""
    found, stdout = b"", process.stdout
    assert stdout is not None
    while found.count(b"\n") < n:
        ready, _, _ = select.select([stdout], [], [], 20)
        assert ready, found
        found += os.read(stdout.fileno(), 65536)
    return found


def test_a_line_is_scored_as_soon_as_it_is_in_the_pipe(models: dict[str, Path]):
    with piped(models["lines"], "-", "--lines", "--json") as process:
        assert process.stdin is not None
        for number, piece in enumerate((b"ab\n", b"a\nb\n", b"a", b"b\n", b"\xffx\r\n", b"\n"), 1):
            process.stdin.write(piece)
            if n := piece.count(b"\n"):
                found = records(soon(process, n).decode())
                assert len(found) == n, number
        process.stdin.write(b"ab")
        process.stdin.close()
        (last,) = records(soon(process, 1).decode())
        assert (last["line"], last["text"]) == (7, "ab")
        assert process.wait(20) == 2


def test_a_reader_that_ends_ends_the_program(models: dict[str, Path]):
    with piped(models["bytes"]) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(b"ab\n")
        soon(process, 1)
        process.stdout.close()
        process.stdin.write(b"ab\n")
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


def test_a_pipe_that_does_not_block_is_waited_for(models: dict[str, Path]):
    script = (
        "import os, sys\nos.set_blocking(0, False)\nfrom fastrnn.cli.main import main\n"
        f"sys.exit(main(['score', {str(models['bytes'])!r}]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        time.sleep(1)
        out, _ = process.communicate(b"ab\n", timeout=20)
    assert out.endswith(b"\tab\n")


def test_a_long_line_is_scored_in_little_memory(tmp_path: Path):
    model, file = saved(tmp_path, "text", 1), tmp_path / "t"
    peaks = []
    for size in (1 << 10, 1 << 22):
        file.write_bytes(b"ab" * (size // 2) + b"\nab")
        command = [sys.executable, "-m", "fastrnn", "score", str(model), str(file), "--lines"]
        with (tmp_path / "out").open("wb") as out:
            process = subprocess.Popen(command, stdout=out)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
        assert status == 0
        peaks.append(usage.ru_maxrss)
    assert (peaks[1] - peaks[0]) * 1024 < 1 << 25
    with (tmp_path / "out").open("rb") as out:
        first, last = out.read().splitlines()
    score, text = first.split(b"\t")
    assert text == b"ab" * (1 << 21)
    assert float(score) > 1 << 22
    assert last.endswith(b"\tab")


@pytest.mark.parametrize("form", [[], ["--json"], ["--per-symbol"], ["--json", "--per-symbol"]])
def test_a_long_line_is_written_as_a_short_one(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, form: list[str]
):
    content = "a\n" + "abé\x00 " * 20 + "\nxa\n" + "aa" * 30 + "x" + "\nab"
    content = content.encode() + b"\n" + b"ab" * 20 + b"\xc3\nab" + b"aaaaa\xc3\xa9a\xffb" * 2
    for name in ("documents", "bytes", "text"):
        expected = run("score", models[name], *form, stdin=content)
        for long, chunk in ((0, 3), (1, 7), (10, 64)):
            monkeypatch.setattr("fastrnn.data.lines.LONG", long)
            monkeypatch.setattr("fastrnn.cli.score.CHUNK", chunk)
            actual = run("score", models[name], *form, stdin=content)
            assert (actual.exit_code, actual.stdout_bytes) == (expected.exit_code, expected.stdout_bytes)
        monkeypatch.undo()


def test_compressed_files_are_read(models: dict[str, Path], tmp_path: Path):
    import gzip

    content = b"ab\nb\n" * 1000
    (tmp_path / "t.gz").write_bytes(gzip.compress(content))
    expected = run("score", models["bytes"], stdin=content).stdout
    assert run("score", models["bytes"], tmp_path / "t.gz").stdout == expected
    (tmp_path / "t.gz").write_bytes(gzip.compress(content)[:-9])
    result = run("score", models["bytes"], tmp_path / "t.gz")
    assert (result.exit_code, "t.gz is damaged" in result.stderr) == (2, True)


# ---- Any bytes ---------------------------------------------------------------------------------------

OPTIONS = st.lists(
    st.sampled_from([
        ["--lines"],
        ["--carry"],
        ["--json"],
        ["--per-symbol"],
        ["--bits-per-symbol"],
        ["--threshold", "9"],
        ["--unknown", "skip"],
        ["--unknown", "0.5"],
        ["--encoding", "shift_jis"],
        ["--raw"],
    ]),
    max_size=5,
).map(lambda options: [word for option in options for word in option])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200), options=OPTIONS, name=st.sampled_from(["text", "documents", "bytes"]))
def test_any_bytes_are_scored(models: dict[str, Path], content: bytes, options: list[str], name: str):
    result = run("score", models[name], *options, stdin=content)
    assert result.exit_code in (0, 1, 2)
    assert isinstance(result.exception, SystemExit | None)
    assert "Traceback" not in result.stderr
    if "--json" in options:
        assert all(record.keys() >= {"line", "bits", "text"} for record in records(result.stdout))


@settings(max_examples=60, deadline=None)
@given(
    content=st.binary(max_size=200) | st.text(max_size=99).map(str.encode), long=st.sampled_from([0, 5, 999])
)
def test_any_bytes_are_harmless_on_a_terminal(models: dict[str, Path], content: bytes, long: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastrnn.data.lines.LONG", long)
        written = run("score", models["bytes"], "--lines", stdin=content).stdout_bytes
        patch.setattr("fastrnn.cli.scored_lines.escapes", lambda _: True)
        shown = run("score", models["bytes"], "--lines", stdin=content).stdout
    assert [
        c for c in shown if not c.isprintable() and c not in "\n\t" and unicodedata.category(c) != "Zs"
    ] == []
    expected = [line.decode("utf-8", "backslashreplace") for line in written.split(b"\n")]
    assert shown.split("\n") == [escaped(line, "\t") for line in expected]


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200), name=st.sampled_from(["text", "documents", "bytes"]))
def test_any_bytes_are_text_or_an_error_for_the_other_commands(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
):
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(content)
    for command in (
        ["eval", models[name], "-"],
        ["eval", models[name], file, "--json"],
        ["tokens", file],
        ["tokens", "-", "--bytes", "--json"],
        ["score", file],
        ["sample", file],
        ["info", file],
    ):
        result = run(*command, stdin=content)
        assert result.exit_code in (0, 1, 2)
        assert isinstance(result.exception, SystemExit | None)
        assert result.stderr.count("\n") == (result.exit_code != 0)
