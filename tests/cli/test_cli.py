"""The commands, run as users run them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from helpers import SEED_LOSSES
from helpers.program import QUICK, run, started

import fastrnn
from fastrnn.backends.registry import AUTO_REASONS
from fastrnn.cli.main import main
from fastrnn.core.cells import CELLS
from fastrnn.core.constants import REDUCTIONS
from fastrnn.network.initialization import INITIALIZATIONS
from fastrnn.optimizers import OPTIMIZERS
from fastrnn.schedules import SCHEDULES
from fastrnn.training.choice import SIZES
from fastrnn.training.presets import (
    CHOSEN,
    MORE_UPDATES,
    PASSES,
    PRESETS,
    RECORDS,
    SETTING_CHECKS,
    TrainingConfig,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    assert run("train", "--text", "hello world", "-o", path, *QUICK).exit_code == 0
    return path


def test_the_seed_digit_for_digit(backend: str, tmp_path: Path):
    out = tmp_path / "m"
    arguments = ["--text", "hello", "--preset", "scratch", "--sample", 5, "--prime", "h"]
    result = run("train", *arguments, "-o", out, "--backend", backend)
    assert result.exit_code == 0
    assert result.stdout == "elloe\n"
    logged = [line.split()[-1] for line in result.stderr.splitlines() if line.startswith("update")]
    assert logged == SEED_LOSSES
    assert [f"{record['loss']:.4f}" for record in fastrnn.load(out).history] == SEED_LOSSES


@pytest.mark.parametrize("content", [b"hello world\n" * 3, b"\x00\xff\xfe" * 9])
def test_trains_on_files_and_stdin(tmp_path: Path, content: bytes):
    file, by_file, by_stdin = tmp_path / "f", tmp_path / "a", tmp_path / "b"
    file.write_bytes(content)
    flags = [] if content.isascii() else ["--bytes"]
    assert run("train", file, "-o", by_file, *flags, *QUICK).exit_code == 0
    assert run("train", "-", "-o", by_stdin, *flags, *QUICK, stdin=content).exit_code == 0
    assert by_file.read_bytes() == by_stdin.read_bytes()
    sample = run("sample", by_file, "-n", 7, "--seed", 1).stdout_bytes
    assert len(sample) == 8
    assert set(sample[:-1]) <= set(content if content.isascii() else range(256))


@pytest.mark.parametrize("names", [["the", "cat", "sat"], None])
def test_a_sample_of_tokens_is_their_names_or_ids(names: list[str] | None, tmp_path: Path):
    trained = fastrnn.train([0, 1, 2] * 50, vocabulary=names or 3, hidden_size=8, steps=100, rng=0)
    trained.save(tmp_path / "m")
    expected = "sat the cat sat\n" if names else "2 0 1 2\n"
    prime = "the cat" if names else "0 1"
    result = run("sample", tmp_path / "m", "-n", 4, "--prime", prime, "--temperature", 0)
    assert (result.exit_code, result.stdout) == (0, expected)
    result = run("sample", tmp_path / "m", "--prime", "the dog")
    assert result.exit_code == 1
    assert f"{'dog' if names else 'the'!r} is not among the model's 3 tokens" in result.stderr
    assert '"vocabulary": "3 tokens"' in run("info", tmp_path / "m", "--json").stdout


def test_a_model_of_tokens_is_scored_in_python(tmp_path: Path):
    fastrnn.train([0, 1, 2], vocabulary=3, hidden_size=8, steps=1, backend="numpy").save(tmp_path / "m")
    (tmp_path / "f").write_text("0 1 2")
    result = run("eval", tmp_path / "m", tmp_path / "f")
    assert result.exit_code == 1
    assert "m is a model of tokens, and a file is a text; score tokens in Python" in result.stderr


def test_lines_are_documents(tmp_path: Path):
    file, out = tmp_path / "f", tmp_path / "m"
    file.write_bytes(b"anna\r\notto\n\nhannah\nada")
    assert run("train", file, "--lines", "-o", out, *QUICK).exit_code == 0
    model = fastrnn.load(out)
    assert model.vocabulary.boundary
    assert "".join(map(chr, model.vocabulary.symbols)) == "adhnot"
    assert model.counts[-1] == 6  # five documents, and the boundary before the first
    assert model.counts.sum() == 4 + 4 + 6 + 3 + 6
    scored = json.loads(run("eval", out, file, "--json").stdout)
    assert scored["symbols"] == 4 + 4 + 6 + 3 + 5


def test_eval_agrees_with_the_library(model: Path, tmp_path: Path):
    text = "hello hello"
    (tmp_path / "t").write_text(text)
    scored = json.loads(run("eval", model, tmp_path / "t", "--json").stdout)
    loaded = fastrnn.load(model)
    assert scored["symbols"] == len(text)
    assert scored["bits_per_symbol"] == pytest.approx(loaded.bits_per_symbol(text))
    assert scored["nats_per_symbol"] == pytest.approx(-loaded.log_prob(text) / len(text))
    assert scored["perplexity"] == pytest.approx(loaded.perplexity(text))
    assert f"{scored['bits_per_symbol']:.4f}" in run("eval", model, tmp_path / "t").stdout
    assert run("eval", model, "-", "--json", stdin=text.encode()).stdout == json.dumps(scored) + "\n"


def test_samples_are_the_library_s(model: Path):
    result = run("sample", model, "-n", 9, "--prime", "he", "--temperature", 0.5, "--seed", 3)
    assert result.stdout == fastrnn.load(model).sample(9, "he", temperature=0.5, rng=3) + "\n"


def test_a_model_of_bytes_is_primed_and_scored(tmp_path: Path):
    out, file = tmp_path / "m", tmp_path / "f"
    file.write_bytes(b"\xff\x00hello" * 9)
    assert run("train", file, "--bytes", "-o", out, *QUICK).exit_code == 0
    assert len(run("sample", out, "--prime", "h\u00e9", "-n", 5).stdout_bytes) == 6
    assert json.loads(run("eval", out, file, "--json").stdout)["symbols"] == 63


def test_a_sample_may_hold_any_character(tmp_path: Path):
    out = tmp_path / "m"
    assert run("train", "--text", "é😀\0" * 5, "-o", out, *QUICK).exit_code == 0
    assert run("sample", out, "-n", 4, "--seed", 0).stdout_bytes.decode()


def test_info_tells_of_the_system():
    told = json.loads(run("info", "--json").stdout)
    assert told["fastrnn"] == fastrnn.__version__
    assert set(told["backends"]) == {"numba", "c", "numpy"}
    assert told["threads"] >= 1
    assert "numpy" in run("info").stdout
    for name in os.environ.get("FASTRNN_REQUIRE_BACKENDS", "numpy").split(","):
        assert "missing" not in told["backends"][name]


@pytest.mark.parametrize("name", AUTO_REASONS)
def test_info_says_which_backend_auto_takes_and_why(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fastrnn, "get_backend", lambda _: SimpleNamespace(name=name), raising=False)
    told = json.loads(run("info", "--json").stdout)
    assert (told["auto"], told["auto_reason"]) == (name, AUTO_REASONS[name])
    assert re.search(rf"^auto +{name} \({AUTO_REASONS[name]}\)$", run("info").stdout, re.MULTILINE)


def test_info_says_why_a_backend_is_missing(monkeypatch: pytest.MonkeyPatch):
    from fastrnn.backends import registry

    def missing() -> None:
        raise fastrnn.BackendUnavailableError("no such thing here")

    monkeypatch.setitem(registry._LOADERS, "c", missing)
    registry._load.cache_clear()
    try:
        assert "c      missing: no such thing here" in run("info").stdout
    finally:
        monkeypatch.undo()
        registry._load.cache_clear()


def test_info_tells_of_a_model(model: Path):
    told = json.loads(run("info", model, "--json").stdout)
    assert told["hidden_size"] == 8
    assert told["vocabulary"] == "8 characters"
    assert told["last_record"]["step"] == 29
    assert "hidden_size" in run("info", model).stdout


def test_quiet_is_quiet_and_otherwise_stderr_tells(tmp_path: Path):
    out = tmp_path / "m"
    quiet = run("train", "--text", "hello", "-o", out, *QUICK, "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    loud = run("train", "--text", "hello", "-o", out, *QUICK)
    assert loud.stdout == ""
    assert "seq_length is 4 instead of 64" in loud.stderr
    assert "bits/character" in loud.stderr
    assert f"wrote {out}" in loud.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "-o", "m"], "give FILES, or --text"),
        (["train", "f", "--text", "t", "-o", "m"], "give FILES, or --text"),
        (["train", "--text", "hello"], "Missing option"),
        (["train", "--text", "hello", "-o", "m", "--prime", "h"], "--prime is what --sample continues"),
        (["train", "--text", "hello", "-o", ""], "'' is a directory"),
        (
            ["train", "--text", "hello", "-o", "m", "--preset", "scratch", "--seed", "5000000000"],
            "Seed must be between",
        ),
        (["train", "none", "-o", "m"], "No such file"),
        (["train", ".", "-o", "m"], "Is a directory"),
        (["train", "--text", "h", "-o", "m"], "must have at least 2"),
        (["train", "--text", "hello", "-o", "."], "is a directory; the model needs the path of a file"),
        (["train", "--text", "hello", "-o", "none/m"], "the folder of 'none/m' does not exist"),
        (["train", "--text", "hello", "-o", "m", "--hidden-size", "0"], "hidden_size=0 must be at least 1"),
        (["train", "--text", "hello", "-o", "m", "--learning-rate", "nan"], "learning_rate=nan must be"),
        (["train", "--text", "hello", "-o", "m", "--backend", "gpu"], "backend='gpu' is not known"),
        (["train", "--text", "hello", "-o", "m", "--preset", "x"], "preset='x' is not known"),
        (["train", "--text", "hello", "-o", "m", "--seed", "-1"], "is not in the range x>=0"),
        (["train", "latin", "-o", "m"], "latin is not UTF-8: byte 0xe9 at offset 3; unit='byte' (--bytes)"),
        (["train", "latin", "--lines", "-o", "m"], "latin is not UTF-8: byte 0xe9 at offset 3; unit="),
        (["demo", "-o", "none/m"], "the folder of 'none/m' does not exist"),
        (["sample", "none"], "No such file"),
        (["sample", "latin"], "latin is not a model that fastrnn can read"),
        (["sample", "good", "--prime", "x"], "'x' at position 0"),
        (["sample", "good", "-n", "-1"], "-1 is not in the range x>=0"),
        (["eval", "good", "empty"], "the file is empty"),
        (["eval", "good", "latin"], "latin is not UTF-8"),
        (["info", "latin"], "latin is not a model"),
    ],
)
def test_errors_are_one_clear_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("latin").write_bytes(b"caf\xe9 au lait")
    Path("empty").touch()
    assert run("train", "--text", "hello", "-o", "good", *QUICK).exit_code == 0
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not Path("m").exists()


def test_help_states_the_defaults_of_the_config():
    config = TrainingConfig()
    options = {
        option.name: option.help or ""
        for option in main.commands["train"].params
        if isinstance(option, click.Option)
    }
    for name in (*CHOSEN, "seq_length", "batch_size", "clip_norm"):
        expected = "chosen for the text" if name in CHOSEN else f"{getattr(config, name):g}"
        assert f"[default: {expected}]" in options[name]
    for name in ("retries", "dtype", "cell", "activation", "split", "keep"):
        assert f"[default: {getattr(config, name)}]" in options[name]
    assert config.initialization is None
    assert (
        f"about half a minute, but no more than {MORE_UPDATES} and those of {PASSES} passes]"
        in options["steps"]
    )
    assert f"[default: {RECORDS} lines]" in options["log_every"]
    assert config.shuffle
    assert "[default: shuffle]" in options["shuffle"]
    assert "[default: orthogonal]" in options["initialization"]
    assert all(name in options["initialization"] for name in INITIALIZATIONS if name != "zeros")
    assert all(name in options["cell"] for name in CELLS)
    assert all(name in options["preset"] for name in PRESETS)
    for name, kinds in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        assert f"[default: {getattr(config, name).name}]" in options[name]
        assert all(re.search(rf"\b{kind}\b", options[name]) for kind in kinds)
    assert all(name in options["reduction"] for name in REDUCTIONS)


def test_every_setting_of_the_config_is_an_option():
    assert set(SETTING_CHECKS) <= {option.name for option in main.commands["train"].params}


def on_a_terminal(*arguments: object) -> str:
    """Return what the program writes to a terminal of 100 columns."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 100))
    command = [sys.executable, "-m", "fastrnn", *map(str, arguments)]
    written = b""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal in this way
            while chunk := os.read(ours, 65536):
                written += chunk
    os.close(ours)
    return written.decode()


def test_a_terminal_shows_progress_and_the_falling_bits(tmp_path: Path, backend: str):
    text = tmp_path / "t"
    text.write_text("hello world " * 2000)
    settings = ["--steps", 60, "--hidden-size", 8, "--log-every", 20, "--backend", backend]
    shown = on_a_terminal("train", text, "-o", tmp_path / "m", *settings)
    assert "100%" in shown
    assert "█" in shown
    assert "update 60: " in shown
    assert shown.count("validation") > 4
    assert ("compiling" in shown) == (backend == "numba")
    quiet = on_a_terminal("train", text, "-o", tmp_path / "m", *settings, "--quiet")
    assert quiet == ""


def test_python_m_fastrnn_is_the_command_line():
    with started("--version") as process:
        printed = process.communicate(timeout=60)[0].decode()
    assert printed.split() == ["fastrnn,", "version", fastrnn.__version__]


def test_ctrl_c_saves_the_model_so_far(tmp_path: Path, backend: str):
    text, out = tmp_path / "t", tmp_path / "m"
    text.write_text("hello world " * 500)
    settings = ["--steps", 10**9, "--backend", backend, "--log-every", 10, "--hidden-size", 16]
    with started("train", text, "-o", out, *settings) as process:
        for line in process.stderr:
            if line.startswith(b"update 10:"):
                break
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert b"the model so far is in" in errors
    assert fastrnn.load(out).sample(3, rng=0)


@pytest.mark.parametrize(
    "where", ["fastrnn.training.trainer.Trainer.advance", "fastrnn.training.train.read_corpus"]
)
def test_ctrl_c_before_the_first_update_writes_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    before = model.read_bytes()

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    result = run("train", "--text", "hello world", "-o", model, *QUICK)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert model.read_bytes() == before


def test_a_killed_training_leaves_the_old_model(model: Path):
    before = model.read_bytes()
    settings = ["--steps", 10**9, "--backend", "numpy"]
    with started("train", "--text", "hello world", "-o", model, *settings) as process:
        process.stderr.readline()
        time.sleep(0.1)
        process.kill()
    assert model.read_bytes() == before


def test_a_closed_pipe_is_no_traceback(model: Path):
    with started("sample", model, "-n", 20_000, "--backend", "numpy") as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert b"Traceback" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["info", "info MODEL", "sample MODEL", "eval MODEL MODEL"])
def test_a_full_disk_is_one_clear_line(command: str, tmp_path: Path):
    out = tmp_path / "m"
    out.write_bytes(fastrnn.train(b"hello", steps=3, hidden_size=2, backend="numpy").to_bytes())
    arguments = [str(out) if word == "MODEL" else word for word in command.split()]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastrnn", *arguments], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"Error: [Errno 28] No space left on device\n"


def test_a_closed_stdout_is_one_clear_line(model: Path):
    command = f"{sys.executable} -m fastrnn sample {model} >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"Error: stdout is closed\n"


def test_info_prints_nothing_that_a_terminal_obeys(tmp_path: Path):
    model = fastrnn.train("hello", steps=3, hidden_size=2, backend="numpy")
    model.settings["cell"] = "\x1b[31m\ud800"
    model.save(tmp_path / "m")
    assert "\\x1b[31m\\ud800" in run("info", tmp_path / "m").stdout


def test_a_terrible_model_is_scored_all_the_same(tmp_path: Path):
    model = fastrnn.train("hello", steps=3, hidden_size=2, backend="numpy")
    model.network.parameters["head.bias"][:] = [0, 3000, 0, 0]
    model.save(tmp_path / "m")
    (tmp_path / "t").write_text("llll")
    assert model.perplexity("llll") == float("inf")
    assert "perplexity       inf" in run("eval", tmp_path / "m", tmp_path / "t").stdout
    told = json.loads(run("eval", tmp_path / "m", tmp_path / "t", "--json").stdout)
    assert told["perplexity"] is None  # JSON has no infinity


def test_demo(tmp_path: Path):
    out = tmp_path / "demo"
    result = run("demo", "--seconds", 0.5, "-o", out)
    assert result.exit_code == 0
    for words in ("a sample:", "fastrnn", "gzip -9, alone", "xz, alone", "it gives the same"):
        assert words in result.stdout
    assert "bits/character" in result.stderr
    assert fastrnn.load(out).network.hidden_size in SIZES
