"""Splits a text that comes in pieces into lines, or at a separator; a long line comes in pieces too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

#: A line with more symbols than this is read in pieces.
LONG = 1 << 18


class LineSplitter:
    """Splits a text that comes in pieces into lines without their ends.

    A line of more than `LONG` symbols comes in pieces. The flag of a piece says whether its line ends.

    Parameters
    ----------
    returns
        Whether CR LF and CR end a line too; else only LF does.
    """

    def __init__(self, *, returns: bool = True) -> None:
        self._returns = returns
        self._rest: Any = None
        self._is_within = self._is_after_return = False

    def split(self, piece: Any) -> list[tuple[Any, bool]]:
        """The lines, or pieces of a line, that end with the next piece of the text."""
        feed: Any = "\n" if isinstance(piece, str) else b"\n"
        text = self._with_feeds(piece, feed) if self._returns else piece
        *ended, rest = (self._rest + text if self._rest else text).split(feed)
        found: list[tuple[Any, bool]] = [(line, True) for line in ended]
        self._is_within &= not ended
        if len(rest) > LONG:
            found.append((rest, False))
            rest, self._is_within = rest[:0], True
        self._rest = rest
        return found

    def last(self) -> list[tuple[Any, bool]]:
        """The last line, if the text does not end with a line end."""
        return [(self._rest, True)] if self._rest or self._is_within else []

    def _with_feeds(self, piece: Any, feed: Any) -> Any:
        """A piece in which each line ends with LF."""
        carriage_return: Any = "\r" if isinstance(piece, str) else b"\r"
        text = piece.removeprefix(feed) if self._is_after_return else piece
        self._is_after_return = piece.endswith(carriage_return)
        if carriage_return in text:
            text = text.replace(carriage_return + feed, feed).replace(carriage_return, feed)
        return text


def iter_lines(pieces: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield the lines of a text that comes in pieces, without their ends, as `LineSplitter` splits it."""
    splitter = LineSplitter()
    for piece in pieces:
        yield from splitter.split(piece)
    yield from splitter.last()


def iter_parts(pieces: Iterable[Any], separator: Any) -> Iterator[tuple[Any, bool]]:
    """Yield the parts of a text in pieces between the occurrences of a separator, as `iter_lines` does."""
    rest, is_within = separator[:0], False
    for piece in pieces:
        *parts, rest = (rest + piece if rest else piece).split(separator)
        for part in parts:
            yield part, True
        is_within &= not parts
        if len(rest) > LONG + len(separator):
            kept = len(rest) - len(separator) + 1  # the separator may begin behind it
            yield rest[:kept], False
            rest, is_within = rest[kept:], True
    if rest or is_within:
        yield rest, True


def lines_of(file: Iterable[Any]) -> Iterator[Any]:
    """Yield the lines of an open file without their ends (LF, CR LF or CR), each read when it is needed."""
    begun: list[Any] = []
    for piece, is_end in iter_lines(file):
        begun.append(piece)
        if is_end:
            yield begun[0][:0].join(begun)
            begun = []
