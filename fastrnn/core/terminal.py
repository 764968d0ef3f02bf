"""What the command line writes: data on stdout and messages on stderr.

A failure to write data is an error; a failure to write a message is ignored. Files, models and samples may
come from anyone, and a terminal obeys control characters in them. So a text is escaped if a terminal shows
it, unless the user asks for it as it is.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any, TextIO, cast

#: Control characters that are not escaped in a sample.
LINE_END_AND_TAB = "\n\t"

#: Characters that end a line for Python or for a terminal.
LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

#: Whether terminals get texts as they are.
_is_raw = ContextVar("is_raw", default=False)


@contextmanager
def raw() -> Iterator[None]:
    """A context in which terminals get texts as they are."""
    token = _is_raw.set(True)
    try:
        yield
    finally:
        _is_raw.reset(token)


def escapes(stream: Any) -> bool:
    """Whether a text for this stream must be escaped: it is a terminal, outside of `raw`."""
    try:
        return stream is not None and not _is_raw.get() and bool(stream.isatty())
    except (AttributeError, OSError, ValueError):  # it is closed, or does not have this method
        return False


def escaped(text: str, keep: str = "") -> str:
    r"""Return a text in which each unprintable character is written as in a str's repr, such as ``\x1b``.

    Control characters, characters that change the direction of writing and lone surrogates are unprintable.
    Spaces of any width, and the characters in ``keep``, are not escaped.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep or unicodedata.category(c) == "Zs" else repr(c)[1:-1] for c in text
    )


# ---- Messages, on stderr -----------------------------------------------------------------------------


class BestEffort:
    """The current ``sys.stderr`` as a file whose writes never fail: text that it does not take is lost."""

    def write(self, text: str) -> int:
        """Write a text; ignore a failure."""
        if sys.stderr is not None:
            with suppress(OSError, ValueError):
                sys.stderr.write(text)
                sys.stderr.flush()
        return len(text)

    def flush(self) -> None:
        """Do nothing: `write` flushes."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return sys.stderr is not None and sys.stderr.isatty()
        except (AttributeError, OSError, ValueError):  # it is closed, or does not have this method
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


#: Where progress bars are written. If they cannot be written, the work continues.
STDERR = BestEffort()


def tell(message: str) -> None:
    """Write a line to stderr, above the progress bars on `STDERR`; ignore a failure.

    The message is escaped for a terminal. Line ends are escaped everywhere: a message is one line.
    """
    tqdm: Any = sys.modules.get("tqdm")  # if it is not imported, there is no bar
    line = escaped(message) if escapes(STDERR) else LINE_ENDS.sub(lambda end: escaped(end[0]), message)
    with tqdm.tqdm.external_write_mode(file=STDERR) if tqdm is not None else nullcontext():
        STDERR.write(line + "\n")


# ---- Data, on stdout ---------------------------------------------------------------------------------


def write(data: str | bytes) -> None:
    """Write to stdout and flush it. A character of a str that stdout's encoding lacks is escaped.

    Raises
    ------
    OSError
        stdout is closed, or cannot be written.
    """
    if sys.stdout is None:
        raise OSError("stdout is closed")
    if isinstance(data, str):
        data = data.encode(sys.stdout.encoding or "ascii", "backslashreplace")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def shown(text: str, keep: str = "") -> str:
    """Return a text for stdout: escaped for a terminal, else unchanged; ``keep`` as in `escaped`."""
    return escaped(text, keep) if escapes(sys.stdout) else text


class Sample:
    """Writes the pieces of a sample to stdout: escaped for a terminal, else unchanged."""

    def __init__(self) -> None:
        self._escapes = escapes(sys.stdout)
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, text: str | bytes, *, final: bool = False) -> None:
        """Write the next piece, bytes or a str as UTF-8; errors are those of the function `write`."""
        data = text.encode(errors="replace") if isinstance(text, str) else text
        if self._escapes:
            write(escaped(self._decoder.decode(data, final), LINE_END_AND_TAB))
        else:
            write(data)


# ---- The streams of a program ------------------------------------------------------------------------


class _Closed(io.TextIOBase):
    """Replaces a closed stdout. Python sets it to ``None``, and other libraries then drop text silently."""

    def write(self, text: str) -> int:
        del text
        raise OSError("stdout is closed")

    @property
    def buffer(self) -> Any:
        return self


def open_streams() -> None:
    """Open the null device for each closed standard stream, so that no other file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = cast("TextIO", _Closed())


def settle_streams() -> None:
    """Flush stdout and stderr, and drop text that they do not take: else Python would fail at its exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream.fileno())
                os.close(nothing)
