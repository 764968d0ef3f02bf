"""What the command line writes: data on stdout, which has to arrive, and words on stderr, which need not.

Files, models and their samples may come from anyone, and a terminal obeys what they hold; so nothing is shown
on one before it was escaped.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from contextlib import nullcontext, suppress
from typing import Any, TextIO, cast

#: What a sample may hold and a terminal shows as it should.
LINE_END_AND_TAB = "\n\t"


def escaped(text: str, keep: str = "") -> str:
    r"""A text in which everything that is not printable is written as in a str's repr, such as ``\x1b``.

    Controls, those that change the direction of writing and lone surrogates are not printable; spaces of any
    width are, and so is what is in ``keep``.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep or unicodedata.category(c) == "Zs" else repr(c)[1:-1] for c in text
    )


# ---- Words for people, on stderr ---------------------------------------------------------------------


class BestEffort:
    """The stderr of the moment as a file that takes anything: what cannot be written there is lost."""

    def write(self, text: str) -> int:
        """Write a text, if that can be done."""
        if sys.stderr is not None:
            with suppress(OSError, ValueError):
                sys.stderr.write(text)
                sys.stderr.flush()
        return len(text)

    def flush(self) -> None:
        """Do nothing: what was written was flushed."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return sys.stderr is not None and sys.stderr.isatty()
        except (AttributeError, OSError, ValueError):  # it was closed, or is no whole file
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


#: Where progress bars go: what is only told does not decide what is done.
STDERR = BestEffort()


def tell(message: str) -> None:
    """Write a line to stderr, escaped, above the progress bars on `STDERR`, if that can be done."""
    tqdm: Any = sys.modules.get("tqdm")  # without it there is no bar
    with tqdm.tqdm.external_write_mode(file=STDERR) if tqdm is not None else nullcontext():
        STDERR.write(escaped(message) + "\n")


# ---- Data, on stdout ---------------------------------------------------------------------------------


def write(data: str | bytes) -> None:
    """Write to stdout, at once. A str is written in stdout's encoding, escaped where that lacks a character.

    Raises
    ------
    OSError
        It is closed, or cannot be written.
    """
    if sys.stdout is None:
        raise OSError("stdout is closed")
    if isinstance(data, str):
        data = data.encode(sys.stdout.encoding or "ascii", "backslashreplace")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class Sample:
    """Writes the pieces of a text that is drawn to stdout: as it is, or escaped where that is a terminal."""

    def __init__(self) -> None:
        self._escapes = sys.stdout is not None and sys.stdout.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, text: str | bytes, *, final: bool = False) -> None:
        """Write the next piece, bytes or a str in UTF-8. Errors as in `write`."""
        data = text.encode(errors="replace") if isinstance(text, str) else text
        if self._escapes:
            write(escaped(self._decoder.decode(data, final), LINE_END_AND_TAB))
        else:
            write(data)


# ---- The streams of a program ------------------------------------------------------------------------


class _Closed(io.TextIOBase):
    """In place of a stdout that is closed, which Python gives as ``None`` and others take as written."""

    def write(self, text: str) -> int:
        del text
        raise OSError("stdout is closed")

    @property
    def buffer(self) -> Any:
        return self


def open_streams() -> None:
    """See to it that no file that the program opens takes the number of a standard stream that is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = cast("TextIO", _Closed())


def settle_streams() -> None:
    """Flush stdout and stderr, and let go of what they do not take: Python does not fail at its own flush."""
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
