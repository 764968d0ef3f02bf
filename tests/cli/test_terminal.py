"""Output to a terminal is escaped; streams may be closed or full, or their reader may have ended."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fastrnn
from fastrnn import Model, Network
from fastrnn.cli.main import main
from fastrnn.core.terminal import STDERR, escaped, tell
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Vocabulary

HOSTILE = "\x1b]0;title\x07\x9b31m\x7f\u202e\u2066\u2028\u200b\ufeff\ud800\r\n\t\x00"

has_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and a text."""
    place = tmp_path_factory.mktemp("models")
    settings: dict[str, Any] = {"hidden_size": 4, "steps": 3, "backend": "numpy", "rng": 0}
    fastrnn.train("hello\nworld\n", **settings).save(place / "m")
    fastrnn.train(["hello", "world"], **settings).save(place / "documents")
    (place / "t").write_text("hello\nworld\n")
    return place


def of_bias(vocabulary: Vocabulary, likeliest: int) -> Model:
    """A model that samples only one symbol."""
    network = Network(vocabulary.size, 1, initialization="zeros", backend="numpy")
    network.parameters["head.bias"][likeliest] = 99
    return Model(network, vocabulary, np.ones(vocabulary.size, np.int64))


def program(*arguments: object, environment: dict[str, str] | None = None, **options: Any) -> Any:
    """Run the program; return its output and its status."""
    command = [sys.executable, "-m", "fastrnn", *map(str, arguments)]
    return subprocess.run(command, check=False, env={**os.environ, **(environment or {})}, **options)


def in_shell(folder: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command line in a shell in which ``fastrnn`` is the program."""
    script = (
        f'fastrnn() {{ {shlex.quote(sys.executable)} -m fastrnn "$@"; }}\ncd {shlex.quote(str(folder))}\n'
    )
    return subprocess.run(["bash", "-c", script + command], capture_output=True, check=False)


def on_a_terminal(
    *arguments: object,
    program: tuple[str, ...] = ("-m", "fastrnn"),
    elsewhere: dict[str, Any] | None = None,
    **environment: str,
) -> str:
    """Return what the program writes to a terminal; ``elsewhere`` has streams that are not the terminal."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    written = b""
    command = [sys.executable, *program, *map(str, arguments)]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **(elsewhere or {})}
    with subprocess.Popen(command, env={**os.environ, **environment}, **streams):
        os.close(theirs)
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal in this way
            while chunk := os.read(ours, 65536):
                written += chunk
    os.close(ours)
    return written.decode("utf-8", "surrogateescape").replace("\r\n", "\n")


def require_harmless(shown: str, keep: str = "\n") -> None:
    """Require that the output has no control characters except those in ``keep``."""
    assert [c for c in shown if not c.isprintable() and c not in keep] == []


# ---- Escapes -----------------------------------------------------------------------------------------


def test_escapes_are_those_of_a_repr():
    assert escaped(HOSTILE) == repr(HOSTILE)[1:-1]
    assert escaped("a\tb\nc\rd", keep="\n\t") == "a\tb\nc\\rd"
    for harmless in ("plain", "é😀漢字", "\u3000\xa0", "back\\slash 'quote'", ""):
        assert escaped(harmless) == harmless
    every = "".join(map(chr, range(0x110000)))
    require_harmless(escaped(every), keep="".join(c for c in every if escaped(c) == c and c.isspace()))


def test_what_info_shows_is_harmless(folder: Path, tmp_path: Path):
    model = fastrnn.load(folder / "m")
    model.settings.update({HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE, {HOSTILE: None}]}})
    model.save(tmp_path / "m")
    shown = on_a_terminal("info", tmp_path / "m")
    require_harmless(shown)
    assert shown.count(escaped(HOSTILE)[:20]) >= 4
    told = program("info", tmp_path / "m", "--json", stdout=subprocess.PIPE).stdout.decode("ascii")
    require_harmless(told)
    assert json.loads(told)["settings"][HOSTILE] == HOSTILE
    assert json.loads(told)["settings"]["nested"] == {HOSTILE: [HOSTILE, {HOSTILE: None}]}


def test_json_has_no_number_that_is_not_finite(monkeypatch: pytest.MonkeyPatch):
    numbers = {"a": float("inf"), "b": [1.5, float("nan")], "c": {"d": -float("inf"), "e": 3, "f": True}}
    monkeypatch.setattr("fastrnn.cli.info._describe_system", lambda: numbers)
    told = CliRunner().invoke(main, ["info", "--json"]).stdout
    expected = {"a": None, "b": [1.5, None], "c": {"d": None, "e": 3, "f": True}}
    assert json.loads(told, parse_constant=pytest.fail) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "m", "no{}"],
        ["eval", "no{}", "t"],
        ["sample", "no{}"],
        ["info", "no{}"],
        ["no{}"],
        ["info", "--no{}"],
        ["sample", "m", "-n", "{}"],
        ["sample", "m", "--backend", "{}"],
        ["sample", "m", "--unknown", "{}"],
        ["sample", "m", "--prime", "{}"],
        ["sample", "hostile{}"],
        ["eval", "m", "hostile{}"],
        ["eval", "hostile model{}", "t"],
        ["train", "t", "-o", "none{}/m"],
    ],
)
def test_errors_are_harmless(folder: Path, tmp_path: Path, arguments: list[str]):
    name = HOSTILE.replace("\x00", "").replace("\ud800", "")
    (tmp_path / "m").write_bytes((folder / "m").read_bytes())
    (tmp_path / "t").write_text("hello")
    (tmp_path / f"hostile{name}").write_bytes(b"\xffno model and no text")
    of_tokens = fastrnn.train([0, 1, 2], vocabulary=3, hidden_size=2, steps=1, backend="numpy")
    of_tokens.save(tmp_path / f"hostile model{name}")
    places = [str(tmp_path / a.format(name)) if a in ("m", "t") or "hostile" in a else a for a in arguments]
    shown = on_a_terminal(*(place.format(name) for place in places))
    require_harmless(shown)
    assert "rror: " in shown
    assert "Traceback" not in shown


def test_what_train_tells_is_harmless(tmp_path: Path):
    name = HOSTILE.replace("\x00", "").replace("\ud800", "")
    (tmp_path / "t").write_text("hello world " * 500)
    settings = ["--hidden-size", 4, "--steps", 3, "--backend", "numpy"]
    shown = on_a_terminal("train", tmp_path / "t", "-o", tmp_path / name, *settings)
    require_harmless(shown, keep="\n\r\x1b")  # the bar moves the cursor up a line
    assert f"{escaped(name)}: <fastrnn.Model" in shown
    assert "\x1b]" not in shown


def test_the_log_is_harmless_and_above_the_bar():
    script = (
        "import logging\n"
        "from tqdm import tqdm\n"
        "from fastrnn.cli.program import log_on_stderr\n"
        "from fastrnn.core.terminal import STDERR\n"
        "with log_on_stderr(logging.INFO), tqdm(total=1, file=STDERR, desc='bar') as bar:\n"
        "    logging.getLogger('fastrnn').warning('a %s b', '\\x1b]0;x\\x07')\n"
    )
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", script], stderr=theirs, stdout=theirs):
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65536):
                written += chunk
    os.close(ours)
    before, after = written.decode().split("a \\x1b]0;x\\x07 b\r\n")
    assert "bar" in before
    assert before.endswith("\r")  # the bar was cleared
    assert "bar" in after


@pytest.mark.parametrize("symbol", [*"\x1b\x07\x9b\x7f\u202e\u2066\u2028\r\x00", "\n", "\t", "é", "\u3000"])
def test_a_sample_is_harmless_on_a_terminal_and_as_it_is_elsewhere(tmp_path: Path, symbol: str):
    symbols = np.sort(np.array([ord("~") + 9999, ord(symbol)], np.uint32))
    place = int(np.flatnonzero(symbols == ord(symbol))[0])
    of_bias(Vocabulary("character", symbols), place).save(tmp_path / "m")
    arguments = ["sample", tmp_path / "m", "-n", 5, "--prime", chr(int(symbols[1 - place])), "--seed", 0]
    expected = 5 * (symbol if symbol in "\n\té\u3000" else escaped(symbol)) + "\n"
    assert on_a_terminal(*arguments) == expected
    assert program(*arguments, stdout=subprocess.PIPE).stdout == (5 * symbol + "\n").encode()


def test_a_sample_of_bytes_is_harmless_on_a_terminal(tmp_path: Path):
    vocabulary = Vocabulary.of([], unit="byte")
    for byte, shown in ((0x1B, "\\x1b"), (0x9B, "\\x9b"), (0xFF, "\\xff"), (0x41, "A"), (0x0A, "\n")):
        of_bias(vocabulary, byte).save(tmp_path / "m")
        arguments = ["sample", tmp_path / "m", "-n", 5, "--prime", "x", "--seed", 0]
        assert on_a_terminal(*arguments) == 5 * shown + "\n"
        assert program(*arguments, stdout=subprocess.PIPE).stdout == bytes([byte]) * 5 + b"\n"


def test_a_character_whose_bytes_are_drawn_one_by_one_is_shown_whole(tmp_path: Path):
    text = "é漢😀" * 30
    model = fastrnn.train(text.encode(), hidden_size=32, steps=300, rng=0)
    model.save(tmp_path / "m")
    sampled = bytes(model.sample(60, "é".encode(), temperature=0))
    shown = on_a_terminal("sample", tmp_path / "m", "-n", 60, "--prime", "é", "--temperature", 0)
    assert shown == sampled.decode("utf-8", "backslashreplace") + "\n"
    assert "漢" in shown


def test_hostile_names_of_tokens_are_harmless(tmp_path: Path):
    names = ("\x1b]0;x\x07", "\u202eb")
    of_bias(TokenVocabulary.of_names(names), 0).save(tmp_path / "m")
    arguments = ["sample", tmp_path / "m", "-n", 3, "--prime", names[1], "--seed", 0]
    assert on_a_terminal(*arguments) == " ".join([escaped(names[0])] * 3) + "\n"
    expected = " ".join([names[0]] * 3) + "\n"
    assert program(*arguments, stdout=subprocess.PIPE).stdout.decode() == expected
    shown = on_a_terminal("sample", tmp_path / "m", "--prime", "\x1b]0;y\x07")
    require_harmless(shown)


def test_a_terminal_of_another_encoding_gets_what_it_can_show(tmp_path: Path):
    """In Latin-1, a byte of a character's UTF-8 may be a control character."""
    of_bias(Vocabulary("character", np.array([0x416, 0x6DB], np.uint32)), 1).save(tmp_path / "m")
    arguments = ["sample", tmp_path / "m", "-n", 2, "--prime", "Ж", "--seed", 0]
    assert on_a_terminal(*arguments, PYTHONIOENCODING="latin-1") == "\\u06db\\u06db\n"


# ---- Scored lines ------------------------------------------------------------------------------------

#: Lines, and how a terminal shows them.
HOSTILE_LINES = {
    "\x1b]0;title\x07 \x9b31m\x7f\u202e\u2066\t".encode(): r"\x1b]0;title\x07 \x9b31m\x7f\u202e\u2066" + "\t",
    b"\xff\x1b[2J\x9b": r"\xff\x1b[2J\x9b",
    b"\x00\x08\xed\xa0\x80": r"\x00\x08\xed\xa0\x80",
    "é漢".encode(): "é漢",
}


@pytest.mark.parametrize("is_long", [False, True])
def test_scored_lines_are_harmless_on_a_terminal_and_as_they_are_elsewhere(tmp_path: Path, is_long: bool):
    (tmp_path / "t").write_bytes(b"\n".join(HOSTILE_LINES))
    of_bias(Vocabulary.of([], unit="byte", boundary=True), 65).save(tmp_path / "m")
    script = "import fastrnn.data.lines\nfastrnn.data.lines.LONG = 2\n" * is_long
    script += "import sys\nfrom fastrnn.cli.main import main\nmain(sys.argv[1:])"
    program, arguments = ("-c", script), ["score", tmp_path / "m", tmp_path / "t"]
    shown = on_a_terminal(*arguments, program=program)
    assert [line.partition("\t")[2] for line in shown.splitlines()] == list(HOSTILE_LINES.values())
    command = [sys.executable, *program, *map(str, arguments)]
    written = subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout
    assert [line.partition(b"\t")[2] for line in written.split(b"\n")] == [*HOSTILE_LINES, b""]
    if not is_long:
        asked = on_a_terminal(*arguments, "--raw", program=program)
        assert asked.encode("utf-8", "surrogateescape") == written
    told = on_a_terminal(*arguments, "--json", "--raw", program=program)
    require_harmless(told)
    texts = [json.loads(line)["text"].encode("utf-8", "surrogateescape") for line in told.splitlines()]
    assert texts == list(HOSTILE_LINES)


def test_a_terminal_of_another_encoding_gets_lines_that_it_can_show(tmp_path: Path):
    (tmp_path / "t").write_text("é漢\n")
    of_bias(Vocabulary.of([], unit="byte", boundary=True), 65).save(tmp_path / "m")
    shown = on_a_terminal("score", tmp_path / "m", tmp_path / "t", PYTHONIOENCODING="ascii")
    assert shown.endswith("\t\\xe9\\u6f22\n")


# ---- Which stream is a terminal, and what is asked for -------------------------------------------------


def test_a_message_is_escaped_for_a_terminal_only(tmp_path: Path):
    name = "no\x1b[2Jmodel\u202e\n"
    (tmp_path / name).write_bytes(b"no model")
    arguments = ["info", tmp_path / name]
    shown = on_a_terminal(*arguments)
    require_harmless(shown)
    assert escaped(name) in shown
    as_it_is = name.replace("\n", "\\n")  # a message is one line
    assert as_it_is in on_a_terminal(*arguments, "--raw")
    told = program(*arguments, capture_output=True)
    assert (told.stdout, told.stderr.count(b"\n")) == (b"", 1)
    assert as_it_is.encode() in told.stderr
    shown = on_a_terminal("info", "--raw", f"--{name}")  # the other errors of usage are as before
    assert "rror: No such option" in shown


def test_every_command_may_be_asked_for_texts_as_they_are():
    for command in main.commands.values():
        assert [option.name for option in command.params].count("raw") == 1


def test_each_stream_is_looked_at_on_its_own(tmp_path: Path):
    of_bias(Vocabulary.of([], unit="byte", boundary=True), 0x1B).save(tmp_path / "m")
    (tmp_path / "t").write_bytes(b"a\x1b\nb")
    (tmp_path / "no\x1bmodel").write_bytes(b"no model")
    arguments = ["sample", tmp_path / "m", "-n", 2]
    assert on_a_terminal(*arguments, elsewhere={"stderr": subprocess.DEVNULL}) == "\\x1b\\x1b\n"
    assert on_a_terminal(*arguments, "--raw") == "\x1b\x1b\n"
    with (tmp_path / "out").open("w+b") as out:
        assert on_a_terminal("score", tmp_path / "m", tmp_path / "t", elsewhere={"stdout": out}) == ""
        shown = on_a_terminal("score", tmp_path / "no\x1bmodel", elsewhere={"stdout": out})
        require_harmless(shown)
        assert "no\\x1bmodel" in shown
        out.seek(0)
        assert b"\ta\x1b\n" in out.read()
    with (tmp_path / "out").open("w+b") as out:
        assert on_a_terminal("info", tmp_path / "no\x1bmodel", elsewhere={"stderr": out}) == ""
        out.seek(0)
        assert b"no\x1bmodel" in out.read()


def test_a_warning_is_harmless(tmp_path: Path):
    script = (
        "import sys, warnings, fastrnn\n"
        "from fastrnn.cli.main import main\n"
        "fastrnn.load = lambda *_, **__: warnings.warn('a \\x1b[2J\\nb')\n"
        "main(sys.argv[1:])"
    )
    shown = on_a_terminal("info", "m", program=("-c", script))
    require_harmless(shown)
    assert "UserWarning: a \\x1b[2J\\nb\n" in shown


# ---- stdout --------------------------------------------------------------------------------------------

COMMANDS = [
    "info", "info --json", "info m", "eval m t", "eval documents t --json", "sample m", "sample documents",
    "train t -o new --steps 2 --quiet --backend numpy --sample 3", "--version", "--help", "eval --help",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_stdout_is_an_error(folder: Path, command: str):
    done = in_shell(folder, f"fastrnn {command} >&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"Error: stdout is closed\n")


@pytest.mark.parametrize("where", [">&-", pytest.param(">/dev/full", marks=has_full_device)])
def test_score_has_another_status_for_errors(folder: Path, where: str):
    for command in ("score m t", "score none"):
        done = in_shell(folder, f"fastrnn {command} {where}")
        assert done.returncode == 2
        assert done.stderr.startswith(b"Error: ")
        assert done.stderr.count(b"\n") == 1


@has_full_device
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_an_error(folder: Path, command: str):
    done = in_shell(folder, f"fastrnn {command} >/dev/full")
    assert (done.returncode, done.stderr) == (1, b"Error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("command", ["score m t", *(c for c in COMMANDS if c[0] != "-" and "help" not in c)])
def test_a_broken_pipe_ends_quietly(folder: Path, command: str):
    done = in_shell(
        folder, f"(sleep 0.2; fastrnn {command}; echo $? >status) | true; wait; sleep 0.1; cat status"
    )
    assert (done.stdout, done.stderr) == (b"141\n", b"")


def test_demo_notices_that_stdout_is_closed(folder: Path):
    done = in_shell(folder, "fastrnn demo --seconds 0.1 --backend numpy -o demo >&-")
    assert done.returncode == 1
    assert done.stderr.endswith(b"Error: stdout is closed\n")
    assert fastrnn.load(folder / "demo").bits_per_symbol("def ") > 0  # it is saved although stdout is closed


def test_a_sample_is_written_while_it_is_drawn(folder: Path):
    """It would take hours to draw this whole sample first."""
    for model, first in (("m", 10), ("documents", 1)):
        command = f"fastrnn sample {model} -n 2000000000 --seed 0 --prime h | head -c {first}"
        started = time.monotonic()
        done = in_shell(folder, f"{command}; echo ${{PIPESTATUS[0]}}")
        assert time.monotonic() - started < 30
        assert done.stderr == b""
        sampled, status = done.stdout[:first], done.stdout[first:]
        assert fastrnn.load(folder / model).sample(first, "h", rng=0) == sampled.decode()
        assert status in ((b"141\n",) if model == "m" else (b"141\n", b"0\n"))


def test_stdout_that_is_replaced_is_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    sys.stdout.write("before\n")
    main(["info", str(folder / "m")], standalone_mode=False)
    assert raw.getvalue().startswith(b"before\ncell")


# ---- stderr and stdin ----------------------------------------------------------------------------------


class Failing(io.TextIOBase):
    """A stream that cannot be written."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def isatty(self) -> bool:
        return True


def streams() -> dict[str, Any]:
    closed = io.StringIO()
    closed.close()
    full = OSError(28, "No space left on device")
    return {"None": None, "full": Failing(full), "broken": Failing(BrokenPipeError()), "closed": closed}


@pytest.mark.parametrize("name", streams())
@pytest.mark.parametrize("progress", [True, False])
def test_training_does_not_need_stderr(monkeypatch: pytest.MonkeyPatch, name: str, progress: bool):
    settings: dict[str, Any] = {"hidden_size": 4, "steps": 5, "backend": "numpy", "rng": 0}
    expected = fastrnn.train("hello world", progress=False, **settings).to_bytes()
    monkeypatch.setattr("sys.stderr", streams()[name])
    assert fastrnn.train("hello world", progress=progress, **settings).to_bytes() == expected
    tell("this is not written")
    assert STDERR.write("nor this") == 8
    logging.getLogger("fastrnn").warning("nor this")


@has_full_device
@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "2>&- <&-", "2> >(true)"])
def test_the_program_does_not_need_stderr(folder: Path, where: str):
    done = in_shell(
        folder, f"rm -f new; fastrnn train t -o new --steps 5 --backend numpy --seed 0 --sample 4 {where}"
    )
    assert done.returncode == 0
    sampled = done.stdout
    expected = in_shell(folder, "fastrnn train t -o other --steps 5 --backend numpy --seed 0 --sample 4")
    assert (folder / "new").read_bytes() == (folder / "other").read_bytes()
    assert sampled == expected.stdout
    for command, status in (("info none", 1), ("info --none", 2), ("eval m none", 1)):
        assert in_shell(folder, f"fastrnn {command} {where}").returncode == status


def test_a_closed_stdin_is_said(folder: Path):
    for command in ("eval m -", "train - -o new", "train - --lines -o new"):
        done = in_shell(folder, f"fastrnn {command} <&-")
        assert (done.returncode, done.stderr) == (1, b"Error: stdin is closed: there is nothing to read\n")
    assert in_shell(folder, "fastrnn sample m -n 3 <&-").returncode == 0


def test_nothing_is_written_to_a_stream_s_place(folder: Path):
    """A file with the number of a closed stderr would get what libraries write to stderr."""
    script = (
        "import os, click\n"
        "from fastrnn.core.terminal import open_streams\n"
        "open_streams()\n"
        f"file = open({str(folder / 'kept')!r}, 'w')\n"
        "assert file.fileno() > 2\n"
        "os.write(2, b'lost')\n"
    )
    done = subprocess.run(
        ["bash", "-c", f"exec {shlex.quote(sys.executable)} -c {shlex.quote(script)} 0<&- >&- 2>&-"],
        check=False,
    )
    assert done.returncode == 0
    assert (folder / "kept").read_text() == ""


# ---- Odd arguments -------------------------------------------------------------------------------------

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_text_of_the_command_line_is_utf_8_in_every_locale(tmp_path: Path):
    settings: dict[str, Any] = {"hidden_size": 8, "steps": 30, "backend": "numpy", "rng": 0}
    fastrnn.train("тест " * 9, **settings).save(tmp_path / "characters")
    fastrnn.train("тест ".encode() * 9, **settings).save(tmp_path / "bytes")
    fastrnn.train([0, 1] * 9, vocabulary=["те", "ст"], **settings).save(tmp_path / "tokens")
    for name in ("characters", "bytes", "tokens"):
        arguments = ["sample", tmp_path / name, "-n", 9, "--prime", "те", "--seed", 1]
        expected = program(*arguments, stdout=subprocess.PIPE).stdout
        done = program(*arguments, environment=C_LOCALE, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")
    for name in ("characters", "tokens"):
        done = program("sample", tmp_path / name, "--prime", "те\udce9", capture_output=True)
        assert (done.returncode, done.stderr) == (1, b"Error: --prime is not UTF-8: byte 0xe9 at offset 4\n")
    text = program("train", "--text", "тест", "-o", tmp_path / "m", "--quiet", environment=C_LOCALE)
    assert text.returncode == 0
    assert fastrnn.load(tmp_path / "m").vocabulary.size == 3


@pytest.mark.parametrize("number", ["10" + "0" * 9, "1" + "0" * 25, "1" + "0" * 400, "1" + "0" * 5000])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "t", "-o", "new", "--steps", "2", "--backend", "numpy", "--hidden-size"],
        ["train", "t", "-o", "new", "--steps", "2", "--backend", "numpy", "--embedding-size"],
        ["eval", "m", "t", "--threads"],
        ["sample", "m", "-n", "3", "--threads"],
        ["sample", "m", "-n", "3", "--temperature"],
        ["eval", "m", "t", "--unknown"],
    ],
)
def test_a_huge_number_is_no_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], number: str
):
    monkeypatch.chdir(folder)
    done = program(*command, number, capture_output=True)
    assert b"Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith(b"Error: ")]
    assert len(errors) == (done.returncode != 0)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OverflowError("too large"), "Error: OverflowError: too large"),
        (RecursionError("too deep"), "Error: RecursionError: too deep"),
        (KeyError("x"), "Error: KeyError: 'x'"),
        (AssertionError(), "Error: AssertionError"),
        (MemoryError(), "Error: MemoryError"),
        (ValueError("said \x1b[2J"), "Error: said \x1b[2J"),  # stderr is no terminal
        (fastrnn.CheckpointError("two\nlines\r\x85\u2028"), "Error: two\\nlines\\r\\x85\\u2028"),
    ],
)
def test_an_error_nobody_expects_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
):
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("fastrnn.load", fail)
    for command in (["info", "m"], ["sample", "m"], ["eval", "m", "t"]):
        monkeypatch.setattr("fastrnn.cli.info._describe_model", fail)
        result = CliRunner().invoke(main, command)
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", told + "\n")
