"""sample draws with the options of `Model.sample`, many texts at once, or searches for the most probable."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.program import run

import fastrnn
from fastrnn import Model

NAMES = ["anna", "hannah", "otto", "ada", "bob"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of models of each kind."""
    folder = tmp_path_factory.mktemp("models")
    settings: dict[str, Any] = {"hidden_size": 8, "steps": 60, "rng": 0, "progress": False}
    trained = {
        "text": fastrnn.train("hello world\n" * 20, **settings),
        "documents": fastrnn.train(NAMES, **settings),
        "bytes": fastrnn.train("héllo wörld\n".encode() * 20, **settings),
        "tokens": fastrnn.train([0, 1, 2] * 50, vocabulary=["the", "cat", "sat"], **settings),
    }
    for name, model in trained.items():
        model.save(folder / name)
    return {name: folder / name for name in trained}


def loaded(models: dict[str, Path], name: str) -> Model:
    return fastrnn.load(models[name])


OPTIONS: list[tuple[list[object], dict[str, Any]]] = [
    ([], {}),
    (["--temperature", 0], {"temperature": 0.0}),
    (["--top-k", 2], {"top_k": 2}),
    (["--top-p", 0.5, "--temperature", 1.5], {"top_p": 0.5, "temperature": 1.5}),
    (["--min-p", 0.2], {"min_p": 0.2}),
    (
        ["--repetition-penalty", 2, "--repetition-window", 5],
        {"repetition_penalty": 2.0, "repetition_window": 5},
    ),
    (["--no-repeat-ngram", 2], {"no_repeat_ngram": 2}),
    (["--stop", "w", "--stop", r"\n"], {"stop": ["w", "\n"]}),
    (["--allowed", "helo"], {"allowed": "helo"}),
    (["--pattern", "[hel]{3}o*"], {"pattern": "[hel]{3}o*"}),
]


@pytest.mark.parametrize(("options", "arguments"), OPTIONS, ids=str)
def test_the_options_are_the_library_s(
    models: dict[str, Path], options: list[object], arguments: dict[str, Any]
):
    model = loaded(models, "text")
    expected = model.sample(20, "he", rng=3, **arguments)
    command = ["sample", models["text"], "-n", 20, "--prime", "he", "--seed", 3, *options]
    result = run(*command)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{expected}\n", "")
    assert run(*command, "--null").stdout == f"{expected}\0"
    assert json.loads(run(*command, "--json").stdout) == {"symbols": len(expected), "text": expected}


def test_many_texts_are_lines(models: dict[str, Path]):
    expected = loaded(models, "documents").sample_many(5, 20, rng=1, temperature=0.5, unique=True)
    command = [
        "sample",
        models["documents"],
        "-n",
        20,
        "--count",
        5,
        "--unique",
        "--temperature",
        0.5,
        "--seed",
        1,
    ]
    assert run(*command).stdout == "".join(f"{text}\n" for text in expected)
    assert run(*command, "-0").stdout == "".join(f"{text}\0" for text in expected)
    told = [json.loads(line) for line in run(*command, "--json").stdout.splitlines()]
    assert [one["text"] for one in told] == expected
    assert len(set(expected)) == 5


def test_bytes(models: dict[str, Path]):
    command = ["sample", models["bytes"], "-n", 30, "--seed", 0]
    result = run(*command, "--valid-utf8", "--stop", "w")
    expected = loaded(models, "bytes").sample(30, rng=0, valid_utf8=True, stop=[b"w"])
    assert result.stdout_bytes == bytes(expected) + b"\n"
    text = json.loads(run(*command, "-n", 9, "--pattern", "(é){2}[lo]+", "--json").stdout)["text"]
    assert re.fullmatch("(é){2}[lo]{5}", text)


def test_tokens(models: dict[str, Path]):
    command = ["sample", models["tokens"], "-n", 5, "--count", 2, "--prime", "the", "--allowed", "cat sat"]
    result = run(*command, "--seed", 0)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch("(cat|sat)( (cat|sat)){4}", line) for line in lines)
    texts = [json.loads(line)["text"] for line in run(*command, "--seed", 0, "--json").stdout.splitlines()]
    assert texts == lines


def test_a_search_tells_the_bits_of_what_it_finds(models: dict[str, Path]):
    model = loaded(models, "documents")
    found = model.beam_search(8, "a", width=8, count=3)
    result = run("sample", models["documents"], "-n", 8, "--prime", "a", "--beam", 8, "--count", 3)
    assert result.stdout == "".join(f"{-nats / math.log(2):.4f}\t{text}\n" for text, nats in found)
    told = run("sample", models["documents"], "-n", 8, "--prime", "a", "--beam", 8, "--json").stdout
    assert json.loads(told) == {
        "bits": -found[0][1] / math.log(2),
        "symbols": len(found[0][0]),
        "text": found[0][0],
    }


def test_the_share_that_is_verbatim_is_told(models: dict[str, Path], tmp_path: Path):
    (tmp_path / "t").write_text("hello world\n" * 20)
    model = loaded(models, "text")
    command = ["sample", models["text"], "-n", 50, "--seed", 2, "--verbatim", tmp_path / "t"]
    text = model.sample(50, rng=2)
    share = model.verbatim_share(text, tmp_path / "t", length=4)
    result = run(*command, "--verbatim-length", 4)
    assert result.stdout == f"{text}\n"
    assert result.stderr == (
        f"verbatim: {share:.1%} of the symbols are in passages of at least 4 symbols that {tmp_path / 't'} "
        "has\n"
    )
    told = json.loads(run(*command, "--json").stdout)
    assert told["verbatim"] == model.verbatim_share(text, tmp_path / "t")
    texts = model.sample_many(3, 50, rng=2)
    mean = sum(model.verbatim_share(text, tmp_path / "t") for text in texts) / 3
    assert f"verbatim: {mean:.1%} of the symbols are in passages of at least 20" in (
        run(*command, "--count", 3).stderr
    )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--unique"], "--unique is for texts that are drawn with --count"),
        (["--unique", "--count", 2, "--beam", 2], "--unique is for texts that are drawn with --count"),
        (["--verbatim-length", 3], "--verbatim-length is for --verbatim"),
        (
            ["--beam", 2, "--top-k", 3, "--seed", 1, "--temperature", 0],
            "--beam draws nothing: leave out --seed, --temperature, --top-k",
        ),
        (["--count", 0], "0 is not in the range"),
        (["--count", 3, "--beam", 2], "--count 3 must be at most --beam 2"),
    ],
)
def test_options_that_do_not_fit_are_errors_of_usage(
    models: dict[str, Path], options: list[object], error: str
):
    result = run("sample", models["documents"], *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert error in result.stderr


def test_the_library_s_errors_are_shown(models: dict[str, Path]):
    for options in (["--top-p", 2], ["--pattern", "("], ["--stop", r"\x"], ["--allowed", ""]):
        result = run("sample", models["text"], *options)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert result.stderr.startswith("Error: ")
