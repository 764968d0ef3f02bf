"""The settings of a training as a TOML file, which `fastrnn.train` and the command line take.

A key is the name of an argument of `fastrnn.train`. TOML has no null, so ``"none"`` is ``None``. The settings
of an optimizer or a schedule are a table with its name.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastrnn.core import checks
from fastrnn.core.durations import pace
from fastrnn.data.normalization import NEWLINES, NORMALIZATIONS
from fastrnn.data.sources import FILE_UNITS, separator_of, stored_separator
from fastrnn.data.text_file import checked_encoding
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.model.model import Model
from fastrnn.network.execution import checked_threads
from fastrnn.optimizers import Optimizer
from fastrnn.schedules import Schedule
from fastrnn.training.presets import OWN_TEXT, PRESETS, SETTING_CHECKS, TrainingConfig

#: What ``None`` is called in a file.
NONE = "none"

#: The settings that no argument of `fastrnn.train` sets: they come with a preset.
OF_PRESETS = [name for name in vars(TrainingConfig()) if name not in SETTING_CHECKS]


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}={checks.shown(value)} must be a str")
    return value


def _vocabulary(_: str, value: Any) -> Any:
    if not isinstance(value, str):
        TokenVocabulary.of_tokens(value)
    return value


#: The check of each argument of `fastrnn.train` that a file may have, beside the settings of a configuration.
ARGUMENTS: dict[str, Callable[[str, Any], Any]] = {
    "preset": lambda name, value: checks.one_of(name, value, PRESETS),
    "unit": lambda name, value: checks.one_of(name, value, FILE_UNITS),
    "encoding": lambda _, value: checked_encoding(value),
    "newlines": lambda name, value: checks.one_of(name, value, NEWLINES),
    "normalization": lambda name, value: checks.one_of(name, value, NORMALIZATIONS),
    "lines": checks.flag,
    "separator": _text,
    "vocabulary": _vocabulary,
    "init": _text,
    "rng": lambda name, value: checks.whole_number(name, value, minimum=0),
    "backend": _text,
    "threads": lambda _, value: checked_threads(value),
    "checkpoint": _text,
    "checkpoint_every": pace,
    "resume": checks.flag,
    "progress": checks.flag,
}

ALLOWED = {**{name: _or_none(check) for name, check in ARGUMENTS.items()}, **SETTING_CHECKS}

#: The arguments of which ``None`` is no value.
NEVER_NONE = {"backend", "lines", "checkpoint_every", "resume", "progress"}


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    r"""Read arguments of `fastrnn.train` from a TOML file.

    A key is the name of an argument: any setting, and ``preset``, ``unit``, ``encoding``, ``newlines``,
    ``normalization``, ``lines``, ``separator``, ``vocabulary``, ``init`` (a path), ``rng``, ``backend``,
    ``threads``, ``checkpoint``, ``checkpoint_every``, ``resume`` and ``progress``. ``"none"`` is ``None``. An
    optimizer or a schedule is its name, or a table with its ``name`` and its settings. Each character of a
    ``separator`` of bytes is a byte.

    Raises
    ------
    ValueError, TypeError
        The file is not TOML, a key is unknown, or a value is wrong; the message has the file, the key, the
        value and what is allowed.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "settings.toml")
    >>> _ = path.write_text('cell = "lstm"\n[optimizer]\nname = "adamw"\nweight_decay = 0.1\n')
    >>> read_settings(path)
    {'cell': 'lstm', 'optimizer': AdamW(betas=(0.9, 0.999), eps=1e-08, weight_decay=0.1)}
    """
    name = os.fspath(path)
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is not TOML: {error}") from error
    settings = {}
    for key, value in found.items():
        if key not in ALLOWED:
            raise ValueError(f"{name}: {_unknown(key, value)}")
        is_none = value == NONE and key not in NEVER_NONE
        if (key, value) == ("validation", OWN_TEXT):
            raise ValueError(f"{name}: validation={value!r} is no fraction; --validation-file names a text")
        try:
            settings[key] = ALLOWED[key](key, None if is_none else value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
    if "separator" in settings:
        settings["separator"] = separator_of(settings, settings.get("unit") or "character")
    return settings


def _unknown(key: str, value: Any) -> str:
    """What to say of a key that is no setting."""
    near = difflib.get_close_matches(key, ALLOWED, 1)
    meant = f"did you mean {near[0]}? The" if near else "the"
    return (
        f"{key} = {checks.shown(value)} is not a setting; {meant} settings are {', '.join(sorted(ALLOWED))}"
    )


def settings_of(model: Model) -> dict[str, Any]:
    """The settings with which a model was trained on a file, as `read_settings` returns them.

    With them, the same file and the same ``rng``, `fastrnn.train` makes the same model. Documents that a
    separator does not divide are taken to be the lines of the file. A preset is named only if it has
    settings that no argument has. The encoding of a file, a text of its own to validate on and
    the model that training began with are not among them, and a vocabulary only if the training text does not
    have all its symbols.

    Raises
    ------
    ValueError, TypeError
        The model was not trained by `fastrnn.train`.
    """
    stored, default = model.settings, vars(TrainingConfig())
    if not stored.keys() >= {"cell", "optimizer", "schedule"}:
        raise ValueError("the model does not have the settings of a training")
    settings = _of_text(model)
    hidden = {name: stored.get(name, default[name]) for name in OF_PRESETS}
    if hidden != {name: default[name] for name in OF_PRESETS}:
        having = [name for name, preset in PRESETS.items() if hidden.items() <= vars(preset).items()]
        if not having:
            raise ValueError(f"no preset has {hidden}, and no argument sets them")
        settings["preset"] = having[0]
    left_out = {"init", "init_scale"} | (
        {"validation", "split"} if stored.get("validation") == OWN_TEXT else set()
    )
    known = {name: check for name, check in SETTING_CHECKS.items() if name in stored.keys() - left_out}
    return settings | {name: check(name, stored[name]) for name, check in known.items()}


def _of_text(model: Model) -> dict[str, Any]:
    """The arguments that say how the text was read, if they are not the default."""
    vocabulary = model.vocabulary
    found: dict[str, Any] = {}
    if isinstance(vocabulary, TokenVocabulary):
        return {"vocabulary": list(vocabulary.tokens or ()) or len(vocabulary.symbols)}
    if vocabulary.unit == "byte":
        found["unit"] = "byte"
    elif not vocabulary.unknown and not model.counts[: len(vocabulary.symbols)].all():
        found["vocabulary"] = "".join(map(chr, vocabulary.symbols))
    if vocabulary.unit == "character" and vocabulary.newlines != NEWLINES[0]:
        found["newlines"] = vocabulary.newlines
    if vocabulary.normalization is not None:
        found["normalization"] = vocabulary.normalization
    separator = separator_of(model.settings, vocabulary.unit)
    if vocabulary.boundary:
        found |= {"lines": True} if separator is None else {"separator": separator}
    return found


def to_toml(settings: Mapping[str, Any]) -> str:
    """Settings as a TOML file that `read_settings` reads, in ASCII; the tables are its end."""
    plain = {
        name: value.describe() if isinstance(value, Optimizer | Schedule) else value
        for name, value in settings.items()
    }
    tables = {name: value for name, value in plain.items() if isinstance(value, Mapping)}
    lines = [f"{name} = {_toml(value)}" for name, value in plain.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{_key(key)} = {_toml(value)}" for key, value in table.items())]
    return "\n".join([*lines, ""])


def _toml(value: Any) -> str:
    """A value in TOML; a number is as in Python, which keeps all its digits."""
    if isinstance(value, bytes):
        value = stored_separator(value)
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, str):
        return _quoted(NONE if value is None else value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)


def _key(name: str) -> str:
    """A key of a table; a pattern of names of parameters is in quotes."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    """A str in quotes; all but printable ASCII is escaped."""
    return f'"{"".join(map(_character, text))}"'


def _character(c: str) -> str:
    if " " <= c <= "~" and c not in '"\\':
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 1 << 16 else f"\\U{ord(c):08x}"
