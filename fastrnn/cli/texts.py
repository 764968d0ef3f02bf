"""Texts of the command line, converted to the type of a model's texts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from fastrnn.core.terminal import Sample

if TYPE_CHECKING:
    from fastrnn.model.model import Model


#: The escapes of `unescaped`.
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}


@contextmanager
def opened_file(file: str) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file, decompressed, or stdin for -, for reading bytes; yield it and its name in errors."""
    if file != "-":
        from fastrnn.data.streams import damage_named, open_bytes

        with open_bytes(file) as opened, damage_named(file):
            yield opened, file
    elif sys.stdin is None:
        raise OSError("stdin is closed: there is nothing to read")
    else:
        with suppress(OSError, AttributeError):  # not every stream or system can be told so
            # a pipe that does not block looks as if it had ended while it is empty
            os.set_blocking(sys.stdin.fileno(), True)
        yield sys.stdin.buffer, "stdin"


def require_texts(model: Model, path: str) -> None:
    """Raise a ``ValueError`` if a model, which is in this file, is of tokens."""
    if model.vocabulary.unit == "token":
        raise ValueError(
            f"{path} is a model of tokens, and a file is a text; score tokens in Python, with "
            "fastrnn.load and Model.surprisal"
        )


def expanded(files: Iterable[str]) -> list[str]:
    """The names of files, in which a pattern such as ``*.txt`` is replaced by the files that it matches.

    The files of a pattern are in the order of their names. A pattern that is the name of a file is that file.
    """
    import glob

    found: list[str] = []
    for file in files:
        if not glob.has_magic(file) or os.path.lexists(file):
            found.append(file)
            continue
        matched = [name for name in glob.iglob(file, recursive=True) if os.path.isfile(name)]  # noqa: PTH113, PTH207
        if not matched:
            raise FileNotFoundError(f"no file matches {file}")
        found += sorted(matched)
    return found


def decoded(text: str, name: str) -> str:
    """Decode a text of the command line as UTF-8, in any locale; errors use ``name``."""
    from fastrnn.data.text_file import decode_utf8

    return decode_utf8(os.fsencode(text), name)


def unescaped(text: str, name: str, *, as_bytes: bool) -> str | bytes:
    r"""A text of the command line with its escapes ``\n``, ``\r``, ``\t``, ``\0`` and ``\\`` read."""

    def read(match: re.Match[str]) -> str:
        if match[1] not in ESCAPES:
            raise ValueError(
                f"{name} has the escape {match[0]!r}; it may have "
                + ", ".join(f"'\\{escape}'" for escape in ESCAPES)
            )
        return ESCAPES[match[1]]

    found = re.sub(r"\\(.?)", read, text, flags=re.DOTALL)
    return os.fsencode(found) if as_bytes else decoded(found, name)


def separator_of_file(model: Model, separator: str | None, *, lines: bool = False) -> str | bytes | None:
    """What is between two documents of a file: what ``--separator`` says, or else what the training had.

    It is ``None`` for lines.
    """
    from fastrnn.data.sources import check_separator, separator_of

    unit = "byte" if model.vocabulary.unit == "byte" else "character"
    if separator is None:
        return None if lines else separator_of(model.settings, unit)
    between = unescaped(separator, "--separator", as_bytes=unit == "byte")
    check_separator(between, unit, lines=lines)
    return between


def documents_of_file(
    pieces: Iterator[Any], separator: str | bytes | None, *, is_one: bool
) -> Iterator[tuple[Any, bool]]:
    """Each piece of a file's documents, and whether a document ends with it; ``is_one`` makes none end."""
    from fastrnn.data.lines import iter_lines, iter_parts

    if is_one:
        return ((piece, False) for piece in pieces)
    return iter_lines(pieces) if separator is None else iter_parts(pieces, separator)


def as_unit(model: Model, text: str | None, name: str) -> Any:
    """Convert a text of the command line to the type of the model's texts; errors use ``name``."""
    if text is None or model.vocabulary.unit == "byte":
        return None if text is None else os.fsencode(text)
    characters = decoded(text, name)
    return characters if model.vocabulary.unit == "character" else _tokens_of_words(model, characters.split())


def as_str(model: Model, text: Any) -> str:
    """A text of a model as a str: bytes as UTF-8 with Python's ``surrogateescape``, tokens as their names."""
    if model.vocabulary.unit == "token":
        names = token_names(model)
        return " ".join(names[token] for token in text)
    return text if isinstance(text, str) else bytes(text).decode("utf-8", "surrogateescape")


def token_names(model: Model) -> Sequence[str]:
    """The names of a model's tokens, or their ids if they have no names."""
    from fastrnn.data.tokens import TokenVocabulary

    vocabulary = model.vocabulary
    names = vocabulary.tokens if isinstance(vocabulary, TokenVocabulary) else None
    return names or [str(token) for token in vocabulary.symbols]


def _tokens_of_words(model: Model, words: list[str]) -> list[int]:
    """The ids of the tokens with these names."""
    tokens = {name: token for token, name in enumerate(token_names(model))}
    for word in words:
        if word not in tokens:
            raise ValueError(f"{word!r} is not among the model's {len(tokens)} tokens")
    return [tokens[word] for word in words]


def write_sample(model: Model, pieces: Iterator[Any], end: str = "\n") -> None:
    """Write a sample to stdout while it is drawn, and then its end. Tokens are written by their names."""
    sample = Sample()
    if model.vocabulary.unit == "token":
        words = (as_str(model, piece) for piece in pieces if len(piece))
        pieces = (f"{' ' * (place > 0)}{some}" for place, some in enumerate(words))
    for piece in pieces:
        sample.write(piece)
    sample.write(end, final=True)
