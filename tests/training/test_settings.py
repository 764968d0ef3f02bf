"""Settings in TOML files: they are read or refused, and those of a model can be given back."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from helpers.program import QUICK, run

import fastrnn
from fastrnn.optimizers import OPTIMIZERS, AdamW, get_optimizer
from fastrnn.schedules import SCHEDULES, Cosine, get_schedule
from fastrnn.training.presets import PRESETS
from fastrnn.training.settings import ALLOWED, settings_of, to_toml

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def read(file: Path, content: str) -> dict[str, Any]:
    file.write_text(content, encoding="utf-8")
    return fastrnn.read_settings(file)


# ---- Reading -----------------------------------------------------------------------------------------


def test_a_file_may_have_every_argument_but_the_text_and_callbacks():
    assert set(inspect.signature(fastrnn.train).parameters) - set(ALLOWED) == {"text", "callbacks"}
    assert set(ALLOWED) <= set(inspect.signature(fastrnn.train).parameters)


def test_a_file_is_arguments_of_train(file: Path):
    settings = read(
        file,
        """
        cell = "lstm"
        hidden_size = 7
        steps = 20
        time_limit = "10m"
        clip_norm = "none"
        clip_value = 5
        rng = 3
        backend = "numpy"
        progress = false

        [optimizer]
        name = "adamw"
        betas = [0.8, 0.99]
        weight_decay = 0.1

        [schedule]
        name = "cosine"
        warmup = 5
        """,
    )
    expected = {
        "cell": "lstm",
        "hidden_size": 7,
        "steps": 20,
        "time_limit": 600.0,
        "clip_norm": None,
        "clip_value": 5.0,
        "rng": 3,
        "backend": "numpy",
        "progress": False,
        "optimizer": AdamW((0.8, 0.99), weight_decay=0.1),
        "schedule": Cosine(warmup=5),
    }
    assert settings == expected
    assert fastrnn.train(TEXT, **settings).to_bytes() == fastrnn.train(TEXT, **expected).to_bytes()
    assert read(file, "") == {}
    assert read(file, 'optimizer = "sgd"') == {"optimizer": fastrnn.optimizers.SGD()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hiden_size = 5", "hiden_size = 5 is not a setting; did you mean hidden_size"),
        ("[network]\nx = 1", "network = {'x': 1} is not a setting; the settings are activation, averaging"),
        ("carry_state = true", "carry_state = True is not a setting"),
        ('hidden_size = "5"', "hidden_size='5' must be a whole number of at least 1"),
        ("hidden_size = 1.5", "hidden_size=1.5 must be a whole number"),
        ('hidden_size = "none"', "hidden_size=None must be a whole number"),
        ("hidden_size = [5]", r"hidden_size=\[5\] must be a whole number"),
        ("steps = 1979-05-27", "steps=datetime.date"),
        ("learning_rate = inf", "learning_rate=inf must be a finite number above zero"),
        ('cell = "transformer"', "cell='transformer' is not known; it is one of 'rnn'"),
        ("shuffle = 1", "shuffle=1 must be True or False"),
        ('checkpoint_every = "soon"', "checkpoint_every='soon' is not a duration"),
        ("checkpoint = 5", "checkpoint=5 must be a str"),
        ("rng = -1", "rng=-1 must be at least 0"),
        ('unit = "word"', "unit='word' is not known; it is one of 'character', 'byte'"),
        ('encoding = "klingon"', "encoding='klingon' is not a text encoding"),
        ("vocabulary = []", "vocabulary is empty"),
        ("[optimizer]\nweight_decay = 0.1", "optimizer has no name; it is one of 'sgd', 'adagrad'"),
        ('[optimizer]\nname = "adamx"', "optimizer='adamx' is not known; it is one of"),
        (
            '[optimizer]\nname = "adam"\nlr = 1',
            r"'adam' has no setting 'lr' \(= 1\); .* betas, eps",
        ),
        ('[optimizer]\nname = "adam"\nbetas = [1, 2, 3]', r"betas=\(1, 2, 3\) must be two numbers"),
        ('[schedule]\nname = "constant"\nx = 1', "schedule 'constant' has no setting 'x' .* are none"),
        ("cell = lstm", r"is not TOML: .*\(at line 1, column 8\)"),
    ],
)
def test_an_error_names_the_file_the_key_and_what_is_allowed(file: Path, content: str, message: str):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        read(file, content)
    assert str(caught.value).startswith(str(file))


def test_a_file_that_is_no_text_is_named(file: Path):
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="settings.toml is not TOML"):
        fastrnn.read_settings(file)
    with pytest.raises(FileNotFoundError):
        fastrnn.read_settings(file.with_name("absent"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_made_from_its_description(name: str):
    assert get_optimizer(get_optimizer(name).describe()) == get_optimizer(name)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_made_from_its_description(name: str):
    assert get_schedule(get_schedule(name).describe()) == get_schedule(name)


# ---- Giving a model's settings back ------------------------------------------------------------------

BYTES = bytes(range(256)) * 8
LINES = "anna\nböb\r\nclara\n" * 40

#: Trainings by a content of a file and options of the command line.
TRAININGS = {
    "default": (TEXT, QUICK),
    "bytes": (BYTES, ["--bytes", *QUICK]),
    "lines": (LINES, ["--lines", "--newlines", "keep", "--no-shuffle", *QUICK]),
    "alphabet": (TEXT, ["--vocabulary", 'abcdefghijklmnopqrstuvwxyz ,."\\\n\U0001f600', *QUICK]),
    "many": (
        TEXT,
        [
            *("--cell", "lstm", "--num-layers", 2, "--embedding-size", 8, "--tied", "--dropout", 0.1, *QUICK),
            *("--optimizer", "adamw", "--schedule", "plateau", "--averaging", 0.9, "--clip-value", 3),
            *("--initialization", "uniform(0.1)", "--validation", 0.2, "--split", "rows", "--patience", 9),
            *("--dtype", "float64", "--keep", "last", "--retries", 0, "--reduction", "sum", "--log-every", 7),
        ],
    ),
    "epochs": (TEXT, [*QUICK[:2], *QUICK[4:], "--epochs", 2]),
    "words": (TEXT, ["--embedding-size", "none", "--clip-norm", "none", "--min-count", 2, *QUICK]),
    "groups": (TEXT, ["--freeze", "head.*", "--learning-rate-factor", "*_l0=0.5", *QUICK]),
    **{preset: (TEXT, ["--preset", preset, *QUICK]) for preset in PRESETS},
}


@pytest.mark.parametrize("name", TRAININGS)
def test_the_settings_of_a_model_make_the_same_model(name: str, tmp_path: Path, file: Path):
    content, options = TRAININGS[name]
    text, first, again = tmp_path / "text", tmp_path / "first", tmp_path / "again"
    text.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run("train", text, "-o", first, *options).exit_code == 0
    printed = run("info", first, "--toml")
    assert printed.exit_code == 0
    assert printed.stdout.isascii()
    file.write_text(printed.stdout, encoding="ascii")
    assert run("train", text, "-o", again, "--config", file, *QUICK[4:]).exit_code == 0
    assert again.read_bytes() == first.read_bytes()


def test_settings_of_tokens_are_given_back(file: Path):
    tokens = {"vocabulary": ["the", 'a "b"', "ü"], "rng": 0}
    for vocabulary in (3, ["the", 'a "b"', "ü"]):
        tokens["vocabulary"] = vocabulary
        model = fastrnn.train([0, 1, 2, 1] * 99, steps=20, hidden_size=5, **tokens)
        settings = read(file, to_toml(settings_of(model)))
        assert fastrnn.train([0, 1, 2, 1] * 99, rng=0, **settings).to_bytes() == model.to_bytes()


def test_a_model_without_settings_is_told(tmp_path: Path):
    trained = fastrnn.train(TEXT, steps=2, hidden_size=5, backend="numpy")
    fastrnn.Model(trained.network, trained.vocabulary, trained.counts, {}).save(tmp_path / "m")
    result = run("info", tmp_path / "m", "--toml")
    assert result.exit_code == 1
    assert "the model does not have the settings of a training" in result.stderr


def test_the_settings_are_those_of_a_model():
    assert run("info", "--toml").exit_code == 2
    assert run("info", "m", "--toml", "--json").exit_code == 2


# ---- The command line --------------------------------------------------------------------------------


def test_options_come_before_the_file(tmp_path: Path, file: Path):
    file.write_text(
        'hidden_size = 9\nsteps = 20\ncell = "rnn"\nrng = 4\nbackend = "numpy"\nprogress = false\n'
    )
    text, out = ["--text", TEXT], tmp_path / "m"
    assert run("train", *text, "-o", out, "--config", file).exit_code == 0
    same = {"hidden_size": 9, "cell": "rnn", "backend": "numpy", "progress": False}
    assert out.read_bytes() == fastrnn.train(TEXT, steps=20, rng=4, **same).to_bytes()
    assert run("train", *text, "-o", out, "--config", file, "--epochs", 2, "--seed", 5).exit_code == 0
    assert out.read_bytes() == fastrnn.train(TEXT, epochs=2, rng=5, **same).to_bytes()
    assert run("train", *text, "-o", out, "--config", file, "--cell", "gru").exit_code == 0
    assert fastrnn.load(out).network.cell == "gru"


def test_a_file_may_name_the_checkpoint(tmp_path: Path, file: Path):
    file.write_text(f"checkpoint = '{tmp_path / 'run'}'\nresume = true\nlines = true\nunit = 'byte'\n")
    (tmp_path / "text").write_bytes(b"anna\nbob\n" * 40)
    command = ["train", tmp_path / "text", "-o", tmp_path / "m", "--config", file, *QUICK]
    assert run(*command).exit_code == 0
    assert "going on with" in run(*command).stderr
    model = fastrnn.load(tmp_path / "run")
    assert (model.vocabulary.unit, model.vocabulary.boundary) == ("byte", True)
    result = run("train", tmp_path / "text", "-o", tmp_path / "run", "--config", file, *QUICK)
    assert "--output and --checkpoint are one file" in result.stderr


def test_a_wrong_file_ends_the_command(tmp_path: Path, file: Path):
    file.write_text("hiden_size = 5")
    result = run("train", "--text", TEXT, "-o", tmp_path / "m", "--config", file)
    assert result.exit_code == 1
    assert f"Error: {file}: hiden_size = 5 is not a setting" in result.stderr


def test_a_text_to_validate_on_is_given_again(tmp_path: Path, file: Path):
    text, first, again = tmp_path / "text", tmp_path / "first", tmp_path / "again"
    text.write_text(TEXT, encoding="utf-8")
    common = [text, "--validation-file", text]
    assert run("train", *common, "-o", first, *QUICK).exit_code == 0
    file.write_text(run("info", first, "--toml").stdout, encoding="utf-8")
    assert run("train", *common, "-o", again, "--config", file, *QUICK[4:]).exit_code == 0
    assert again.read_bytes() == first.read_bytes()


def test_none_is_none_and_a_text_is_no_fraction(file: Path):
    file.write_text('normalization = "none"\nvocabulary = "none"\nclip_norm = "none"\n', encoding="utf-8")
    assert fastrnn.read_settings(file) == {"normalization": None, "vocabulary": None, "clip_norm": None}
    file.write_text('validation = "text"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="is no fraction; --validation-file names a text"):
        fastrnn.read_settings(file)


@pytest.mark.parametrize(("unit", "separator"), [("character", "\n\n"), ("byte", b"\n\xff")])
def test_a_model_knows_the_separator_of_its_documents(unit: str, separator: Any, file: Path, tmp_path: Path):
    text = tmp_path / "text"
    between = separator if isinstance(separator, bytes) else separator.encode()
    text.write_bytes(between.join([b"a\nb", b"bc", b"cab"] * 30))
    common: dict[str, Any] = {"rng": 0, "progress": False}
    model = fastrnn.train(text, unit=unit, separator=separator, steps=3, hidden_size=4, **common)
    assert settings_of(model)["separator"] == separator
    assert (
        fastrnn.train(text, **read(file, to_toml(settings_of(model))), **common).to_bytes()
        == model.to_bytes()
    )


def test_a_separator_of_bytes_has_no_other_character(file: Path):
    with pytest.raises(ValueError, match="separator='€' is for bytes; each character must be a byte"):
        read(file, 'unit = "byte"\nseparator = "€"\n')
