"""Reads the first argument of `fastrnn.train` as a corpus: a text, a file, or an iterable of documents."""

from __future__ import annotations

import array
import io
import numbers
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

import numpy as np

from fastrnn.core import checks
from fastrnn.data.corpus import Corpus, Documents, RunningText, TokenText
from fastrnn.data.lines import lines_of
from fastrnn.data.normalization import BYTE_ORDER_MARK, normalized, universal_newlines
from fastrnn.data.streams import Pieces
from fastrnn.data.text_file import (
    Lines,
    OpenFile,
    Separated,
    TextFile,
    changes_in_words,
    checked_encoding,
    open_text,
)
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Text, code_points, if_missing, unit_of, whole_numbers

#: How many symbols of a file are copied at a time.
COPIED_AT_ONCE = 1 << 18

#: The units in which a file can be read.
FILE_UNITS = ("character", "byte")

#: The first argument of `fastrnn.train`: a text, a file's path, paths of several files, or documents.
Source = Text | os.PathLike[str] | Iterable[Text] | Sequence[os.PathLike[str]]

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
    normalization: str | None = None,
    lines: bool = False,
    separator: str | bytes | None = None,
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
        A file is not in its encoding; an option is unknown, or it is for a file and the source is not one;
        there is a normalization, and the text is not of characters.
    OSError
        A file cannot be read.
    """
    files = files_of(source)
    if files:
        if vocabulary is not None:
            raise _not_tokens(source)
        unit = checks.one_of("unit", unit or "character", FILE_UNITS)
        _require_characters(normalization, unit)
        if separator is not None:
            check_separator(separator, unit, lines=lines)
        reading = (unit, _file_encoding(encoding, unit), newlines, normalization)
        end = separator or ("\n" if unit == "character" else b"\n") * lines
        file = open_text(files[0], *reading) if len(files) == 1 else _joined(files, reading, end)
        return _read_file(file, unit, lines=lines, separator=separator)
    for_files = {"unit": unit, "encoding": encoding, "lines": lines or None, "separator": separator}
    for name, value in for_files.items():
        if value is not None:
            raise ValueError(f"{name}={value!r} is for a file; a str is characters and bytes are bytes")
    corpus = _read_texts(source, vocabulary, Changes(newlines, normalization))
    _require_characters(normalization, corpus.unit)
    return corpus


def files_of(source: Any) -> list[Any]:
    """The files that a source names, or none if it is not a file or a list or tuple of files."""
    files = (
        list(source) if isinstance(source, list | tuple) and not isinstance(source, OpenFile) else [source]
    )
    return files if all(isinstance(file, os.PathLike | OpenFile) for file in files) else []


def _joined(files: list[Any], reading: tuple[Any, ...], end: Any) -> TextFile:
    """Copy several files to one text; each one that does not end with ``end`` gets it.

    ``reading`` are the arguments of `open_text`, of which the first is the unit.
    """
    changes: dict[str, None] = {}

    def pieces() -> Iterator[bytes]:
        for file in files:
            with closing(open_text(file, *reading)) as text:
                changes.update(dict.fromkeys(text.changes))
                for start in range(0, len(text), COPIED_AT_ONCE):
                    yield _as_bytes(text[start : start + COPIED_AT_ONCE])
                if end and len(text) and text[-len(end) :] != end:
                    yield _as_bytes(end)

    copied: Any = io.BufferedReader(Pieces(pieces()))
    joined = open_text(OpenFile(copied, f"the copy of {len(files)} files"), reading[0], newlines="keep")
    joined.changes = list(changes)
    return joined


def _as_bytes(text: Text) -> Any:
    return text.encode() if isinstance(text, str) else text


def _require_characters(normalization: str | None, unit: str) -> None:
    if normalization is not None and unit != "character":
        raise ValueError(f"normalization={normalization!r} is for characters, and the text is {unit}s")


def _read_texts(source: Any, vocabulary: TokenVocabulary | None, changes: Changes) -> Corpus:
    """Read texts that are not in files of their own."""
    if vocabulary is not None:
        return _read_tokens(source, vocabulary)
    if isinstance(source, str | bytes | bytearray | memoryview):
        text = changes.as_read(_plain(source))
        _warn_of_a_file_name(text)
        return replace(_running(text, unit_of(source)), changes=changes.told())
    require_order(source)
    if not isinstance(source, Iterable) or (isinstance(source, np.ndarray) and source.ndim == 0):
        raise TypeError(
            f"text is {type(source).__name__}; it must be a str, bytes, a path or an iterable of texts"
        )
    if hasattr(source, "readline"):
        return _read_open_file(source, changes)
    documents = _read_documents(source, changes)
    _warn_of_shapes(documents)
    for text in documents.texts[:LOOKED_UP]:
        _warn_of_a_file_name(text)
    return documents


def read_validation(
    source: Source,
    training: Corpus,
    vocabulary: TokenVocabulary | None = None,
    *,
    encoding: str | None = None,
    newlines: str = "universal",
    normalization: str | None = None,
    separator: str | bytes | None = None,
) -> Corpus:
    """Read a text to validate on. A file is read as a file to train on is: its unit, documents and encoding.

    Raises
    ------
    TypeError, ValueError, OSError
        As in `read_corpus`; also if the text is not of the same kind as the one to train on.
    """
    is_documents = isinstance(training, Documents)
    options: dict[str, Any] = {}
    if files_of(source):
        encoding = encoding if training.unit == "character" else None
        lines = is_documents and separator is None
        options = {"unit": training.unit, "lines": lines, "separator": separator, "encoding": encoding}
    try:
        corpus = read_corpus(
            source, vocabulary=vocabulary, newlines=newlines, normalization=normalization, **options
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from error
    if (corpus.unit, isinstance(corpus, Documents)) != (training.unit, is_documents):
        corpus.close()
        raise TypeError(
            f"validation is {_kind(corpus)}, and the text to train on is {_kind(training)}: both must be of "
            "one kind; a number is the fraction of the text to hold out"
        )
    return corpus


def _kind(corpus: Corpus) -> str:
    """What a corpus is, for errors."""
    return f"{'documents' if isinstance(corpus, Documents) else 'one running text'} of {corpus.unit}s"


def _file_encoding(encoding: str | None, unit: str) -> str:
    """The encoding of a file."""
    if encoding is not None and unit == "byte":
        raise ValueError(f"encoding={encoding!r} is for unit='character'; bytes are not decoded")
    return checked_encoding(encoding or "utf-8")


def _read_file(file: TextFile, unit: str, *, lines: bool, separator: str | bytes | None) -> Corpus:
    """A file as a running text, or as documents: its lines, or the parts between a separator."""
    changes = tuple(file.changes)
    try:
        if lines:
            return Documents.of(Lines(file), unit, changes)
        if separator is not None:
            return Documents.of(Separated(file, separator), unit, changes)
    except BaseException:
        file.close()
        raise
    return replace(_running(file, unit), changes=changes)


def check_separator(separator: object, unit: str, *, lines: bool = False) -> None:
    """Require a separator of the file's unit, and nothing else that makes documents."""
    kind = str if unit == "character" else bytes
    if not isinstance(separator, kind):
        raise TypeError(
            f"separator is {type(separator).__name__}; for a file of {unit}s it must be {kind.__name__}"
        )
    if not separator:
        raise ValueError(f"separator={separator!r} is empty; it must have at least one {unit}")
    if lines:
        raise ValueError(f"separator={separator!r} and lines=True exclude each other: give one")


def stored_separator(separator: str | bytes) -> str:
    """A separator as the settings of a model have it: each character of one of bytes is a byte."""
    return separator if isinstance(separator, str) else separator.decode("latin-1")


def separator_of(settings: Mapping[str, Any], unit: str) -> str | bytes | None:
    """The separator that settings have, in a unit; ``None`` if they have none.

    Raises
    ------
    ValueError
        The unit is the byte, and a character of the separator is not one.
    """
    stored = settings.get("separator")
    if not isinstance(stored, str):
        return None
    try:
        return stored.encode("latin-1") if unit == "byte" else stored
    except UnicodeEncodeError as error:
        raise ValueError(f"separator={stored!r} is for bytes; each character must be a byte") from error


def _read_open_file(source: Iterable[Any], changes: Changes) -> Documents:
    """The lines of an open file as documents. They take the memory of their bytes and two int64 each."""
    kept, unit = io.BytesIO(), "character"
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


def _read_documents(source: Iterable[Any], changes: Changes) -> Documents:
    """Documents in memory."""
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


def _warn(message: str) -> None:
    """Warn; the warning names the line that called fastrnn."""
    frame, level = sys._getframe(), 1  # noqa: SLF001  (as the standard library's warnings do)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("fastrnn."):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    warnings.warn(message, stacklevel=level)


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
        _warn(
            "each document is a single symbol: to train on one text, pass a str or bytes, and not a list "
            "of its symbols",
        )
    elif all(text[-1:] in LINE_ENDS for text in documents.texts[:-1]):
        _warn(
            "each document ends with its line's end, which the model then learns: pass the open file, or "
            "strip the lines",
        )


def _warn_of_a_file_name(text: Any) -> None:
    """Warn if a text is the name of a file: the user may mean the file."""
    if 0 < len(text) <= LONGEST_NAME and _is_file(text):
        _warn(
            f"the text {text!r} is the name of a file, and its {len(text)} symbols are taken, not the "
            "contents of the file: pass a pathlib.Path for those"
        )


def _is_file(name: Any) -> bool:
    try:
        return os.path.isfile(name)  # noqa: PTH113  (bytes are names too)
    except (OSError, ValueError, TypeError):  # no file can have this name
        return False


def require_order(source: Any, name: str = "text") -> None:
    """Raise a ``TypeError`` if a source gives keys or names instead of texts, or has no order.

    ``name`` is that of the argument.
    """
    kind = type(source).__name__
    is_mapping = isinstance(source, Mapping) or (hasattr(source, "keys") and not hasattr(source, "dtype"))
    # the class is asked first, so that a lazy table is not read
    has_columns = hasattr(type(source), "columns") or hasattr(source, "columns")
    if is_mapping or has_columns or hasattr(source, "__dataframe__"):
        raise TypeError(
            f"{name} is {kind}, which gives its keys or the names of its columns: pass the texts themselves, "
            f"such as one column, {name}['name'], or list({name}.values())"
        )
    if isinstance(source, AbstractSet):
        raise TypeError(f"{name} is {kind}, which has no order: pass a list, such as sorted({name})")


class Changes:
    """Reads texts by the rule of newlines, and notes for the log what it changed; then normalizes them."""

    def __init__(self, newlines: str, normalization: str | None = None) -> None:
        self._universal = newlines == "universal"
        self._normalization = normalization
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
        """Return the text as it is read, and note what the rule changed."""
        if not isinstance(self.noted(text), str):
            return text
        text = universal_newlines(text) if self._universal else text
        return text if self._normalization is None else normalized(text, self._normalization)

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
        f"text is {type(source).__name__}, and vocabulary, or init with a model of tokens, is for whole "
        "numbers: leave it out, or pass a sequence of them, or an iterable of such sequences"
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
