"""`fastrnn train`: its text, its output, errors, interrupts and messages."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.program import QUICK, run, started

import fastrnn
from fastrnn.training import loop

TEXT = "hello world, hello there. " * 40


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


# ---- Its output is not its input ---------------------------------------------------------------------


def other_names(path: Path) -> list[str]:
    """The same file under other names."""
    link, hard, folder = path.with_name("link"), path.with_name("hard"), path.with_name("folder")
    link.symlink_to(path)
    hard.hardlink_to(path)
    folder.symlink_to(path.parent)
    return [str(path), f"{path.parent}/./{path.name}", str(link), str(hard), f"{folder}/{path.name}"]


def test_an_output_that_is_the_input_is_refused(text: Path):
    for name in other_names(text):
        result = run("train", text, "-o", name, *QUICK)
        assert result.exit_code == 1
        assert f"--output {name} is the file that is trained on" in result.stderr
        assert run("train", name, "-o", text, *QUICK).exit_code == 1
    assert text.read_text() == TEXT


def test_an_output_that_is_stdin_is_refused(text: Path):
    command = [sys.executable, "-m", "fastrnn", "train", "-", "-o", str(text), *QUICK]
    with text.open("rb") as file:
        result = subprocess.run(command, stdin=file, capture_output=True, check=False)
    assert result.returncode == 1
    assert b"is the file that is trained on" in result.stderr
    assert text.read_text() == TEXT


# ---- Nothing is lost ---------------------------------------------------------------------------------


def test_a_model_before_a_divergence_is_written(tmp_path: Path, data: Path):
    out = tmp_path / "m"
    arguments = ["--activation", "relu", "--optimizer", "sgd", "--learning-rate", 0.6, "--clip-norm", 1e9]
    result = run("train", data / "alice29.txt", "-o", out, *arguments, "--seed", 0, "--retries", 0)
    assert result.exit_code == 1
    assert f"the model before training diverged is in {out}" in result.stderr
    assert "Error: training diverged at update" in result.stderr
    assert fastrnn.load(out).bits_per_symbol("Alice was beginning to get very tired") < 7


def test_a_model_that_was_there_is_not_replaced_by_one_that_diverged(text: Path, tmp_path: Path):
    out, settings = tmp_path / "m", ["--optimizer", "sgd", "--activation", "relu", "--learning-rate", 1e30]
    assert run("train", text, "-o", out, *QUICK).exit_code == 0
    before = out.read_bytes()
    result = run("train", text, "-o", out, *QUICK, *settings, "--clip-norm", 1e30, "--validation", 0)
    assert result.exit_code == 1
    assert out.read_bytes() == before
    if f"is in {out}.diverged" in result.stderr:
        assert fastrnn.load(f"{out}.diverged").bits_per_symbol(TEXT) > 0


def test_another_place_is_not_the_input_either(
    text: Path, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    places = iter([str(text), "a\0b", str(tmp_path / "elsewhere")])
    monkeypatch.setattr("fastrnn.cli.saving._other_places", lambda _: places)
    result = run("train", text, "-o", full / "m", *QUICK)
    assert f"--output {text} is the file that is trained on" in result.stderr
    assert text.read_text() == TEXT
    assert fastrnn.load(tmp_path / "elsewhere").history


def test_ctrl_c_during_the_first_validation_keeps_the_model(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.scoring, "mean_loss", interrupt)
    result = run("train", text, "-o", tmp_path / "m", *QUICK)
    assert result.exit_code == 130
    assert f"the model so far is in {tmp_path / 'm'}" in result.stderr
    assert fastrnn.load(tmp_path / "m").history == []


def test_ctrl_c_while_the_model_is_saved_loses_nothing(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real_save, calls = fastrnn.Model.save, []

    def save(self: fastrnn.Model, path: str) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real_save(self, path)

    monkeypatch.setattr(fastrnn.Model, "save", save)
    assert run("train", text, "-o", tmp_path / "m", *QUICK).exit_code == 0
    assert fastrnn.load(tmp_path / "m").history


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a disk that becomes full; the folder for temporary files is on another disk."""
    folder, real_save = tmp_path / "full", fastrnn.Model.save
    folder.mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def save(self: fastrnn.Model, path: str) -> None:
        if str(path).startswith(str(folder)):
            raise OSError(28, "No space left on device")
        real_save(self, path)

    monkeypatch.setattr(fastrnn.Model, "save", save)
    return folder


def test_a_full_disk_loses_no_model(text: Path, full: Path, tmp_path: Path):
    (full / "m.safetensors").write_bytes(b"what was there")
    result = run("train", text, "-o", full / "m.safetensors", *QUICK)
    assert result.exit_code == 1
    assert "m.safetensors cannot be written: [Errno 28] No space left on device" in result.stderr
    (found,) = (tmp_path / "tmp").iterdir()
    assert f"wrote {found}" in result.stderr
    assert fastrnn.load(found).history
    assert (full / "m.safetensors").read_bytes() == b"what was there"
    assert list(full.iterdir()) == [full / "m.safetensors"]


def test_a_disk_that_is_full_everywhere_is_said(
    text: Path, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for variable in ("HOME",):
        monkeypatch.setenv(variable, str(full))
    monkeypatch.setattr("tempfile.tempdir", str(full))
    monkeypatch.chdir(full)
    result = run("train", text, "-o", full / "m.safetensors", *QUICK)
    assert result.exit_code == 1
    assert "the model could not be written anywhere" in result.stderr
    assert list(full.iterdir()) == []


FULL_DISK = """
import sys, fastrnn
from fastrnn.cli.main import main
real_save = fastrnn.Model.save
def save(self, path):
    if "full" in str(path):
        raise OSError(28, "No space left on device")
    real_save(self, path)
fastrnn.Model.save = save
main(sys.argv[1:])
"""


def test_on_a_terminal_another_place_is_asked_for(text: Path, tmp_path: Path):
    controller, terminal = pty.openpty()
    elsewhere = tmp_path / "elsewhere"
    command = ["train", str(text), "-o", str(tmp_path / "full"), *QUICK, "--quiet"]
    with subprocess.Popen(
        [sys.executable, "-c", FULL_DISK, *command], stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        said = b""
        while b"another --output" not in said:
            said += os.read(controller, 1000)
        os.write(controller, f"{tmp_path}/full again\n".encode())
        while said.count(b"another --output") < 2:
            said += os.read(controller, 1000)
        os.write(controller, f"{elsewhere}\n".encode())
        threading.Thread(target=drain, args=(controller,), daemon=True).start()
    assert process.returncode == 1
    assert fastrnn.load(elsewhere).history


def drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 1000):
            pass
    except OSError:
        pass


# ---- Texts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("café\n".encode("latin-1"), ["--encoding", "latin-1"]),
        ("café\n".encode("utf-16"), ["--encoding", "utf-16"]),
        ("\ufeffcafé\r\n".encode(), []),
        ("café\r".encode(), []),
    ],
)
@pytest.mark.parametrize("lines", [[], ["--lines"]])
@pytest.mark.parametrize("stdin", [True, False])
def test_the_same_text_in_other_files(
    tmp_path: Path, content: bytes, options: list[str], lines: list[str], stdin: bool
):
    path, plain = tmp_path / "text", tmp_path / "plain"
    repeated = "café\n" * 50
    marks = {"utf-16": b"\xff\xfe"}.get(
        options[-1] if options else "", b"\xef\xbb\xbf" * (b"\xbb" in content)
    )
    path.write_bytes(marks + content.removeprefix(marks) * 50)
    plain.write_text(repeated)
    same = [*lines, *QUICK, "--quiet"]
    assert run("train", plain, "-o", tmp_path / "expected", *same).exit_code == 0
    source = ["-"] if stdin else [path]
    result = run(
        "train", *source, "-o", tmp_path / "m", *options, *same, stdin=path.read_bytes() if stdin else None
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "m").read_bytes() == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_texts_of_the_command_line_are_utf_8_in_any_locale(tmp_path: Path, locale: str):
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "fastrnn", "train", "--text", "тест тест " * 30, "--vocabulary", "тес "]
    command += ["-o", tmp_path / "m", *QUICK, "--sample", "5", "--prime", "тест", "--quiet"]
    result = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert result.stderr == b""
    assert len(result.stdout.decode()) == 6
    assert fastrnn.load(tmp_path / "m").vocabulary.size == 4


def test_the_vocabulary_may_be_given(text: Path, tmp_path: Path):
    assert run("train", text, "-o", tmp_path / "m", "--vocabulary", "ascii", *QUICK).exit_code == 0
    assert fastrnn.load(tmp_path / "m").vocabulary.size == 128


def test_several_files_and_patterns_are_one_text(tmp_path: Path):
    for name in ("1.txt", "2.txt", "x"):
        (tmp_path / name).write_text(TEXT[: 40 * (len(name))] + f"\n{name}")
    whole = "".join((tmp_path / name).read_text() for name in ("x", "1.txt", "2.txt", "x"))
    (tmp_path / "whole").write_text(whole)
    assert run("train", tmp_path / "whole", "-o", tmp_path / "expected", *QUICK).exit_code == 0
    files = [tmp_path / "x", tmp_path / "*.txt", "-"]
    result = run("train", *files, "-o", tmp_path / "m", *QUICK, stdin=(tmp_path / "x").read_bytes())
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "m").read_bytes() == (tmp_path / "expected").read_bytes()
    result = run("train", tmp_path / "x", tmp_path / "*.none", "-o", tmp_path / "m", *QUICK)
    assert (result.exit_code, result.stderr) == (1, f"Error: no file matches {tmp_path}/*.none\n")
    (tmp_path / "folder").mkdir()
    result = run("train", tmp_path / "fold*", "-o", tmp_path / "m", *QUICK)
    assert (result.exit_code, result.stderr) == (1, f"Error: no file matches {tmp_path}/fold*\n")
    result = run("train", tmp_path / "x", tmp_path / "2.txt", "-o", tmp_path / "2.txt", *QUICK)
    assert "2.txt is the file that is trained on" in result.stderr
    (tmp_path / "[x]").write_text(TEXT)  # a pattern that is a file
    assert run("train", tmp_path / "[x]", "-o", tmp_path / "m", *QUICK).exit_code == 0
    assert fastrnn.load(tmp_path / "m").counts.sum() == int(0.9 * len(TEXT))


@pytest.mark.parametrize("as_bytes", [[], ["--bytes"]])
def test_documents_between_a_separator(tmp_path: Path, as_bytes: list[str]):
    (tmp_path / "f").write_text("é\n\\\0".join(["hello", "world"] * 20))
    options = ["--separator", r"é\n\\\0", *as_bytes, *QUICK]
    assert run("train", tmp_path / "f", "-o", tmp_path / "m", *options).exit_code == 0
    model = fastrnn.load(tmp_path / "m")
    assert model.vocabulary.boundary
    assert model.counts.sum() == 36 * 5 + 37
    result = run("train", tmp_path / "f", "-o", tmp_path / "m", "--separator", r"\x", *QUICK)
    assert result.exit_code == 1
    assert r"--separator has the escape '\\x'; it may have" in result.stderr


def test_an_unknown_symbol_and_a_normalization(tmp_path: Path):
    (tmp_path / "f").write_text("Cafe\u0301 " * 60 + "xyz")
    options = ["--min-count", 2, "--unknown-share", 0.05, "--normalization", "nfc_casefold"]
    result = run("train", tmp_path / "f", "-o", tmp_path / "m", *options, *QUICK)
    assert "5 characters are known; those that occur fewer than 2 times" in result.stderr
    model = fastrnn.load(tmp_path / "m")
    assert model.settings["unknown_share"] == 0.05
    info = json.loads(run("info", tmp_path / "m", "--json").stdout)
    assert info["vocabulary"] == "6 characters, one of them the unknown symbol"
    assert info["normalization"] == "nfc_casefold"
    (tmp_path / "t").write_bytes("CAFE\u0301?".encode())
    told = json.loads(run("eval", tmp_path / "m", tmp_path / "t", "--json").stdout)
    assert told["symbols"] == 5
    assert told["bits"] == pytest.approx(model.surprisal("café?").sum())
    assert run("eval", tmp_path / "m", tmp_path / "t", "--unknown", "error").exit_code == 1
    sample = run("sample", tmp_path / "m", "-n", 5, "--prime", "CAFÉ?", "--seed", 1).stdout
    assert sample == model.sample(5, prime="café?", rng=1) + "\n"


def test_a_setting_of_every_kind_reaches_the_training(text: Path, tmp_path: Path):
    options = ["--no-shuffle", "--keep", "last", "--newlines", "keep", "--log-every", 7]
    result = run("train", text, "-o", tmp_path / "m", *QUICK, *options)
    assert result.exit_code == 0
    model = fastrnn.load(tmp_path / "m")
    assert (model.settings["shuffle"], model.settings["keep"], model.settings["log_every"]) == (
        False,
        "last",
        7,
    )
    assert model.vocabulary.newlines == "keep"


# ---- What is told ------------------------------------------------------------------------------------


def test_a_model_is_continued_with_parameters_of_its_own_settings(text: Path, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("train", text, "-o", first, *QUICK).exit_code == 0
    more = tmp_path / "more.txt"
    more.write_text("HELLO world. " * 40)
    options = ["--freeze", "weight_hh*", "--freeze", "bias*", "--learning-rate-factor", "head.*=0.5"]
    options += ["--optimizer", "adamw", "--weight-decay-factor", "head.bias=0"]
    result = run("train", more, "-o", second, "--init", first, *options, "--steps", "5", "--backend", "numpy")
    assert result.exit_code == 0, result.stderr
    old, new = fastrnn.load(first), fastrnn.load(second)
    assert new.network.hidden_size == 8
    assert new.vocabulary.size > old.vocabulary.size
    assert (new.network.parameters["weight_hh_l0"] == old.network.parameters["weight_hh_l0"]).all()
    assert new.settings["freeze"] == ["weight_hh*", "bias*"]
    assert new.settings["learning_rate_factors"] == {"head.*": 0.5}
    assert new.settings["weight_decay_factors"] == {"head.bias": 0}
    read_as_bytes = run("train", more, "-o", second, "--init", first, "--bytes", "--steps", "5")
    assert "the text is of bytes, and init is a model of characters" in read_as_bytes.stderr
    for wrong in ("head.bias", "head.bias=x", "=2", "a=1 --learning-rate-factor a=2"):
        result = run("train", more, "-o", second, *f"--learning-rate-factor {wrong}".split())
        assert result.exit_code == 2
        assert "must be NAME=FACTOR" in result.stderr


def test_where_no_terminal_is_lines_tell_how_far_it_is(text: Path, tmp_path: Path):
    settings = ["--steps", 10**9, "--log-every", 10**9, "--backend", "numpy", "--validation", 0]
    with started("train", text, "-o", tmp_path / "m", *settings) as process:
        for line in process.stderr:
            if b"% done, about" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


def test_the_time_limit_does_not_count_what_it_takes_to_compile(text: Path, tmp_path: Path):
    """With an empty cache, Numba compiles for longer than the limit."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [
        sys.executable,
        "-m",
        "fastrnn",
        "train",
        str(text),
        "-o",
        str(tmp_path / "m"),
        "--time-limit",
        "1",
    ]
    subprocess.run([*command, "--backend", "numba"], env=environment, check=True, capture_output=True)
    assert fastrnn.load(tmp_path / "m").history[-1]["step"] > 50


# ---- What is validated on ----------------------------------------------------------------------------


def test_a_file_is_validated_on(text: Path, tmp_path: Path):
    other, model = tmp_path / "other", tmp_path / "m"
    other.write_text("hello there")
    result = run("train", text, "-o", model, "--validation-file", other, "--refit", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(
        "training on 1,040 characters; another text, of 11 characters, is held out"
    )
    found = fastrnn.load(model)
    assert found.evaluation.symbols == 11
    assert found.settings["refit"] is True
    assert "evaluation" in run("info", model).stdout
    expected = fastrnn.load(model).to_bytes()
    command = [sys.executable, "-m", "fastrnn", "train", str(text), "-o", str(model), *QUICK, "--refit"]
    with other.open("rb") as file:
        subprocess.run([*command, "--validation-file", "-"], stdin=file, check=True, capture_output=True)
    assert model.read_bytes() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--validation-file", "text.txt", "--validation", "0.1"], "give --validation or --validation-file"),
        (["--validation-file", "nowhere"], "nowhere"),
        (["--validation-file", "m"], "--output m is the file that is validated on"),
        (["--validation-file", "other"], "validation has 1 characters that neither the text to train on nor"),
        (["--split", "every"], "split='every' holds out documents"),
        (["--refit", "--validation", "0"], "refit=True goes on over what was held out"),
    ],
)
def test_errors_of_validation(text: Path, arguments: list, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(text.parent)
    Path("m").write_text(TEXT)
    Path("other").write_text("hello\u20ac")
    result = run("train", "text.txt", "-o", "m", *arguments, *QUICK)
    assert result.exit_code
    assert message in result.stderr
    assert Path("m").read_text() == TEXT


def test_stdin_is_read_once(tmp_path: Path):
    result = run("train", "-", "-o", tmp_path / "m", "--validation-file", "-", *QUICK)
    assert result.exit_code == 2
    assert "FILES and --validation-file are both stdin" in result.stderr


def test_each_tenth_line_is_held_out(text: Path, tmp_path: Path):
    text.write_text(TEXT.replace(" ", "\n"))
    result = run("train", text, "--lines", "-o", tmp_path / "m", "--split", "every", *QUICK)
    assert "at even distances, are held out" in result.stderr


def test_a_training_without_a_seed_is_resumed(tmp_path: Path):
    """The checkpoint has the state of the generator with which training began."""
    out, checkpoint = tmp_path / "m", tmp_path / "run"
    command = ["train", "--text", "hello world " * 40, "-o", out, "--checkpoint", checkpoint, "--resume"]
    assert run(*command, *QUICK[:4]).exit_code == 0
    expected = out.read_bytes()
    resumed = run(*command, *QUICK[:4])
    assert resumed.exit_code == 0, resumed.stderr
    assert out.read_bytes() == expected


def test_fine_tuning_reads_a_file_in_the_unit_of_its_model(tmp_path: Path):
    text, first, second = tmp_path / "text", tmp_path / "first", tmp_path / "second"
    text.write_text("hello world " * 40)
    assert run("train", text, "--bytes", "-o", first, *QUICK).exit_code == 0
    tuned = run("train", text, "--init", first, "-o", second, "--steps", 4)
    assert tuned.exit_code == 0, tuned.stderr
    assert fastrnn.load(second).vocabulary.unit == "byte"
    refused = run("train", text, "--init", first, "-o", second, "--metrics", first)
    assert refused.exit_code == 1
    assert "is the file that is begun with" in refused.stderr
