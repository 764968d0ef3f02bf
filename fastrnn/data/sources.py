"""Reads the first argument of `fastrnn.train` as a corpus: a text, a file, or an iterable of documents."""

from __future__ import annotations

import array
import io
import numbers
import os
import warnings
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, cast

import numpy as np

from fastrnn.core import checks
from fastrnn.data.corpus import Corpus, Documents, RunningText, TokenText
from fastrnn.data.text_file import (
    Lines,
    OpenFile,
    TextFile,
    changes_in_words,
    checked_encoding,
    lines_of,
    open_text,
)
from fastrnn.data.vocabulary import (
    BYTE_ORDER_MARK,
    Text,
    TokenVocabulary,
    code_points,
    if_missing,
    unit_of,
    universal_newlines,
    whole_numbers,
)

#: The units in which a file can be read.
FILE_UNITS = ("character", "byte")

#: The first argument of `fastrnn.train`: a text, a file's path, or documents.
Source = Text | os.PathLike[str] | Iterable[Text]

#: The characters and bytes that end a line.
LINE_ENDS = ("\n", "\r", b"\n", b"\r")

#: The most symbols of a text that is looked up as the name of a file, and how many documents are looked up.
LONGEST_NAME, LOOKED_UP = 4096, 100


def read_corpus(
    source: Source,
    unit: str | None = None,
    vocabulary: TokenVocabulary | None = None,
    *,
    encoding: str | None = None,
    newlines: str = "universal",
    lines: bool = False,
) -> Corpus:
    """Read the first argument of `fastrnn.train`. A file is opened and read in parts, when needed.

    A vocabulary is required for tokens, and not allowed for other texts.

    Raises
    ------
    TypeError
        The source is not a str, bytes, a path or an iterable of texts, or it mixes str and bytes. It has
        tokens without a vocabulary, or a vocabulary without tokens.
    ValueError
        A token is outside the vocabulary.
        A file is not in its encoding; an option is unknown, or it is for a file and the source is not one.
    OSError
        A file cannot be read.
    """
    if isinstance(source, os.PathLike | OpenFile):
        if vocabulary is not None:
            raise _not_tokens(source)
        return _read_file(source, unit, encoding, newlines, lines=lines)
    for name, value in (("unit", unit), ("encoding", encoding), ("lines", lines or None)):
        if value is not None:
            raise ValueError(f"{name}={value!r} is for a file; a str is characters and bytes are bytes")
    if vocabulary is not None:
        return _read_tokens(source, vocabulary)
    if isinstance(source, str | bytes | bytearray | memoryview):
        changes = Changes(newlines)
        text = changes.as_read(_plain(source))
        _warn_of_a_file_name(text)
        return replace(_running(text, unit_of(source)), changes=changes.told())
    require_order(source)
    if not isinstance(source, Iterable) or (isinstance(source, np.ndarray) and source.ndim == 0):
        raise TypeError(
            f"text is {type(source).__name__}; it must be a str, bytes, a path or an iterable of texts"
        )
    if hasattr(source, "readline"):
        return _read_open_file(source, newlines)
    documents = _read_documents(source, newlines)
    _warn_of_shapes(documents)
    for text in documents.texts[:LOOKED_UP]:
        _warn_of_a_file_name(text)
    return documents


def _read_file(
    source: os.PathLike[str] | OpenFile,
    unit: str | None,
    encoding: str | None,
    newlines: str,
    *,
    lines: bool,
) -> Corpus:
    """A file as a running text, or its lines as documents."""
    unit = checks.one_of("unit", unit or "character", FILE_UNITS)
    if encoding is not None and unit == "byte":
        raise ValueError(f"encoding={encoding!r} is for unit='character'; bytes are not decoded")
    file = open_text(source, unit, checked_encoding(encoding or "utf-8"), newlines)
    changes = tuple(file.changes)
    try:
        if lines:
            return Documents.of(Lines(file), unit, changes)
    except BaseException:
        file.close()
        raise
    return replace(_running(file, unit), changes=changes)


def _read_open_file(source: Iterable[Any], newlines: str) -> Documents:
    """The lines of an open file as documents. They take the memory of their bytes and two int64 each."""
    changes, kept, unit = Changes(newlines), io.BytesIO(), "character"
    for place, line in enumerate(lines_of(map(changes.noted, source))):
        if place == 0:
            unit = unit_of(line)
        text = changes.as_read(line)
        try:
            kept.write(text.encode() if isinstance(text, str) else text)
        except UnicodeEncodeError:
            code_points(text)  # raises again, with the position
        kept.write(b"\n")
    kept.seek(0)
    name = str(getattr(source, "name", "the file"))
    return Documents.of(Lines(TextFile(kept, name, unit, newlines="keep")), unit, changes.told())


def _read_documents(source: Iterable[Any], newlines: str) -> Documents:
    """Documents in memory."""
    changes = Changes(newlines)
    texts: list[Text] = []
    for place, text in enumerate(values_of(source)):
        try:
            texts.append(changes.as_read(_plain(text)))
        except TypeError as error:
            raise TypeError(f"document {place}: {error}") from error
    units = {unit_of(text) for text in texts} or {"character"}
    if len(units) > 1:
        raise TypeError("the documents must be all str or all bytes, and are mixed")
    return Documents.of(texts, units.pop(), changes.told())


def values_of(source: Any) -> Iterable[Any]:
    """The texts of an iterable; those of a column of pandas, polars or Arrow are converted together."""
    for method in ("to_pylist", "to_list"):
        if hasattr(source, method):
            return cast("list[Any]", getattr(source, method)())
    return cast("Iterable[Any]", source)


def _warn_of_shapes(documents: Documents) -> None:
    """Warn if each document is a single symbol, or if each ends with a line end."""
    if len(documents) < 2:
        return
    if np.all(documents.lengths == 1):
        warnings.warn(
            "each document is a single symbol: to train on one text, pass a str or bytes, and not a list "
            "of its symbols",
            stacklevel=4,
        )
    elif all(text[-1:] in LINE_ENDS for text in documents.texts[:-1]):
        warnings.warn(
            "each document ends with its line's end, which the model then learns: pass the open file, or "
            "strip the lines",
            stacklevel=4,
        )


def _warn_of_a_file_name(text: Any) -> None:
    """Warn if a text is the name of a file: the user may mean the file."""
    if 0 < len(text) <= LONGEST_NAME and _is_file(text):
        warnings.warn(
            f"the text {text!r} is the name of a file, and its {len(text)} symbols are trained on, not the "
            "contents of the file: pass a pathlib.Path to train on the file",
            stacklevel=4,
        )


def _is_file(name: Any) -> bool:
    try:
        return os.path.isfile(name)  # noqa: PTH113  (bytes are names too)
    except (OSError, ValueError, TypeError):  # no file can have this name
        return False


def require_order(source: Any) -> None:
    """Raise a ``TypeError`` if a source gives keys or names instead of texts, or has no order."""
    kind = type(source).__name__
    is_mapping = isinstance(source, Mapping) or (hasattr(source, "keys") and not hasattr(source, "dtype"))
    if is_mapping or hasattr(source, "columns") or hasattr(source, "__dataframe__"):
        raise TypeError(
            f"text is {kind}, which gives its keys or the names of its columns: pass the texts themselves, "
            "such as one column, text['name'], or list(text.values())"
        )
    if isinstance(source, AbstractSet):
        raise TypeError(f"text is {kind}, which has no order: pass a list, such as sorted(text)")


class Changes:
    """Reads texts by the rule of newlines, and notes for the log what the rule changed."""

    def __init__(self, newlines: str) -> None:
        self._universal = newlines == "universal"
        self._mark = False
        self._ends: set[str] = set()

    def noted(self, text: Any) -> Any:
        """Return the text as it is, and note what the rule will change in it."""
        if self._universal and isinstance(text, str):
            self._mark |= text.startswith(BYTE_ORDER_MARK)
            if "\r" in text:
                pairs = text.count("\r\n")
                self._ends |= {"\r\n"} if pairs else set()
                self._ends |= {"\r"} if text.count("\r") > pairs else set()
        return text

    def as_read(self, text: Any) -> Any:
        """Return the text as the rule reads it, and note what the rule changed."""
        is_changed = self._universal and isinstance(self.noted(text), str)
        return universal_newlines(text) if is_changed else text

    def told(self) -> tuple[str, ...]:
        """What the rule changed, as messages for the log."""
        return tuple(changes_in_words(self._mark, self._ends))


def _read_tokens(source: Any, vocabulary: TokenVocabulary) -> Corpus:
    """Read tokens as a running text, which is read in parts, or as documents."""
    if isinstance(source, str | bytes | bytearray | memoryview) or not isinstance(source, Iterable):
        raise _not_tokens(source)
    require_order(source)
    if hasattr(source, "__array__") or isinstance(source, array.array):
        source = _as_array(source)
    elif not isinstance(source, list | tuple):
        source = list(source)
    if _is_running(source):
        return _running(TokenText(whole_numbers(source), vocabulary), "token")
    texts: list[Text] = []
    for place, text in enumerate(source):
        try:
            texts.append(vocabulary.encode(text))
        except (TypeError, ValueError) as error:
            raise type(error)(f"document {place} of {len(source)}: {error}") from error
    return Documents.of(texts, "token")


def _as_array(column: Any) -> Any:
    """A column of tokens as an array; a missing value in it is a ``TypeError``."""
    tokens = np.asarray(column)
    if tokens.dtype.kind in "fO" and tokens.ndim == 1:
        for place, token in enumerate(tokens.tolist()):
            if missing := if_missing(token):
                raise TypeError(f"the token at position {place} is {token!r}{missing}")
    return tokens


def _is_running(tokens: Any) -> bool:
    """Whether an array or a list has numbers instead of documents."""
    if isinstance(tokens, np.ndarray) and tokens.dtype != object:
        return tokens.ndim < 2
    return len(tokens) > 0 and isinstance(tokens[0], numbers.Real)


def _not_tokens(source: object) -> TypeError:
    return TypeError(
        f"text is {type(source).__name__}, and vocabulary is for whole numbers: leave it out, or pass a "
        "sequence of them, or an iterable of such sequences"
    )


def _running(text: Text | TextFile | TokenText, unit: str) -> RunningText:
    return RunningText(text, unit, 0, len(text))


def _plain(text: Any) -> Text:
    """A text as str or bytes; anything else is a ``TypeError``."""
    if hasattr(text, "as_py"):  # a scalar of Arrow's
        text = text.as_py()
    if isinstance(text, numbers.Integral | np.ndarray | list | tuple | array.array):
        raise TypeError(
            f"a text must be str or bytes, and this is {type(text).__name__}; whole numbers need "
            "vocabulary=, the tokens' names or how many there are"
        )
    if isinstance(text, os.PathLike):
        raise TypeError(
            f"a text must be str or bytes, and this is {type(text).__name__}: pass what the file has, "
            "such as path.read_text()"
        )
    return text if unit_of(text) == "character" else bytes(text)
